//! Which of a dataset's tables answer where no server does, and keys.

use crate::dataset::{DATASET_FILE, TRANSFORM_FILE, registry};
use crate::layout;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_curated_is_all_of_a_dataset_that_no_stream_ever_fed() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for table in ["trips", "merged.trips", "batch.trips"] {
        let (text, _) = rows(&engine, &ask(&format!("SELECT count(*) FROM {table}"))).await.expect(table);
        assert_eq!(text, "12000", "{table}");
    }
    let store = Store::local(&fixture.folder.path().join("store"), IfMissing::Fail).expect("the store");
    store.put_new(&layout::stream_source("trips", 0), "{}".into()).await.expect("a source");
    let needs = "`merged.trips` needs a running server; ask `batch.trips`, or start one with `tidemark up`";
    for table in ["trips", "merged.trips"] {
        assert_eq!(error(&engine, &format!("SELECT count(*) FROM {table}")).await.to_string(), needs, "{table}");
    }
    let (text, _) = rows(&engine, &ask("SELECT count(*) FROM batch.trips")).await.expect("what is curated");
    assert_eq!(text, "12000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_definition_leaves_one_row_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::local(folder.path(), IfMissing::Fail).expect("a store in it");
    let toml = r#"name = "prices"
columns = [{ name = "id", type = "string" }, { name = "price", type = "int64" }]
[files]
format = "csv"
[key]
columns = ["id"]
delete_when = "price IS NULL"
"#;
    let sources = [(DATASET_FILE, toml), (TRANSFORM_FILE, "SELECT id, price FROM input")];
    let sources = sources.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let applied = registry::apply(&store, &sources).await.expect("a valid definition");
    // Later incarnations of a topic come after earlier ones, whatever their names sort like.
    let said = [
        ("a", Some(1), "files", 0, 9),
        ("a", Some(2), "files", 1, 0),
        ("b", Some(3), "prices", 0, 7),
        ("b", Some(4), "files", 8, 8),
        ("c", Some(5), "prices~2", 0, 0),
        ("c", Some(6), "prices~10", 0, 0),
        ("d", Some(7), "files", 0, 1),
        ("d", None, "files", 0, 2),
    ];
    let schema = Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("price", DataType::Int64, true),
        Field::new("_source", DataType::Utf8, true),
        Field::new("_partition", DataType::Int64, true),
        Field::new("_offset", DataType::Int64, true),
    ]);
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(said.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter(said.iter().map(|row| row.1))),
        Arc::new(StringArray::from_iter_values(said.iter().map(|row| row.2))),
        Arc::new(Int64Array::from_iter_values(said.iter().map(|row| row.3))),
        Arc::new(Int64Array::from_iter_values(said.iter().map(|row| row.4))),
    ];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("columns of one length");
    let log = log_store(store.objects(), "prices", "g1").expect("a log store");
    let write = DeltaTable::new(log).write([batch]).with_save_mode(SaveMode::Append);
    let _table = write.await.expect("the table takes the rows");
    let pointer = CurrentGeneration::new("g1", applied.version.as_str(), 1);
    publish(&store, "prices", 0, &pointer).await.expect("publishes");
    let engine = SqlEngine::new(store.objects(), Arc::new(NoCatalogTables), SqlConfig::default()).expect("an engine");
    let engine = engine.with_definitions(store);
    let (text, _) = rows(&engine, &ask("SELECT id, price FROM prices ORDER BY id")).await.expect("an answer");
    assert_eq!(text, "a|2\nb|3\nc|6");
    let (text, _) =
        rows(&engine, &ask("SELECT count(*) FROM prices WHERE price IS NULL OR id = 'd'")).await.expect("an answer");
    assert_eq!(text, "0");
}
