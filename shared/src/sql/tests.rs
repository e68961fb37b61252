//! The engine against curated tables that `deltalake` writes into a local directory, and against files in place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::curated::{CurrentGeneration, log_store, publish, transaction_id};
use crate::error::{AnyError, ErrorKind, Kind};
use crate::position::LogPartition;
use crate::store::{IfMissing, Store, StoreError, StoreUrl, Stores};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use deltalake::DeltaTable;
use deltalake::kernel::Transaction;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::SaveMode;
use object_store::ObjectStore;
use tempfile::TempDir;

use super::*;

const ROWS_PER_MONTH: i64 = 1000;

mod answers;
mod bounds;
mod casts;
mod files;
mod fresh;
mod intervals;
mod layers;
mod notes;
mod stopping;
mod subqueries;
mod valid;

struct Fixture {
    folder: TempDir,
    objects: Arc<dyn ObjectStore>,
}

impl Fixture {
    /// A store with the dataset `trips`: twelve months of 2019, [`ROWS_PER_MONTH`] rows each, coverage `files` 12.
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(folder.path().join("store")).expect("a folder in it");
        let store = Store::local(&folder.path().join("store"), IfMissing::Fail).expect("a store in it");
        let objects = store.objects();
        let log = log_store(Arc::clone(&objects), "trips", "g1").expect("a log store");
        let transaction = Transaction::new(transaction_id(&LogPartition::files()), 12);
        DeltaTable::new(log)
            .write((1..=12).map(month))
            .with_save_mode(SaveMode::Append)
            .with_partition_columns(["pickup_month"])
            .with_commit_properties(CommitProperties::default().with_application_transaction(transaction))
            .await
            .expect("the table takes the rows");
        let pointer = CurrentGeneration::new("g1", "d1", 1);
        publish(&store, "trips", 0, &pointer).await.expect("publishes");
        Self { folder, objects }
    }

    fn engine(&self, config: SqlConfig) -> SqlEngine {
        SqlEngine::new(Arc::clone(&self.objects), Arc::new(NoCatalogTables), config).expect("an engine")
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.to_str().expect("a UTF-8 path").to_owned()
    }
}

fn month(month: i64) -> RecordBatch {
    let ids: Vec<i64> = (0..ROWS_PER_MONTH).map(|row| month * 1_000_000 + row).collect();
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("fare_amount", DataType::Int64, true),
        Field::new("pickup_month", DataType::Utf8, true),
        Field::new("note", DataType::Utf8, true),
    ]);
    let fares = Int64Array::from_iter_values(ids.iter().map(|id| id % 100));
    let notes = StringArray::from_iter_values(ids.iter().map(|id| format!("a note on trip number {id}")));
    let months = StringArray::from(vec![format!("{month:02}"); ids.len()]);
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from(ids)), Arc::new(fares), Arc::new(months), Arc::new(notes)];
    RecordBatch::try_new(Arc::new(schema), columns).expect("columns of one length")
}

fn ask(sql: &str) -> Query {
    Query { sql: sql.to_owned(), ..Query::default() }
}

/// All rows as a table of text, and what it took.
async fn rows(engine: &SqlEngine, query: &Query) -> Result<(String, Answer), SqlError> {
    let mut answer = engine.query(query).await?;
    let mut batches = Vec::new();
    while let Some(batch) = answer.next().await? {
        batches.push(batch);
    }
    let lines: Vec<String> = pretty_format_batches(&batches)
        .expect("formats")
        .to_string()
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|").trim_matches('|').to_owned())
        .collect();
    Ok((lines.iter().skip(1).cloned().collect::<Vec<_>>().join("\n"), answer))
}

async fn error(engine: &SqlEngine, sql: &str) -> SqlError {
    match rows(engine, &ask(sql)).await {
        Ok((rows, _)) => panic!("`{sql}` was answered: {rows}"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_says_what_it_covers_and_what_it_read() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for condition in ["pickup_month = 7", "pickup_month = '07'"] {
        let sql = format!("SELECT count(id), sum(fare_amount) FROM trips WHERE {condition} AND fare_amount > 9");
        let (text, answer) = rows(&engine, &ask(&sql)).await.expect(condition);
        assert_eq!(text, "900|49050", "{condition}");
        let stats = answer.stats();
        assert_eq!((stats.rows, stats.files_read, stats.files_pruned, stats.files_total), (1, 1, 11, 12));
        assert!(stats.bytes_read > 0 && stats.bytes_read * 5 < stats.bytes_total, "{stats:?}");
        let as_of = serde_json::to_string(&answer.as_of).expect("serialises");
        assert_eq!(
            as_of,
            r#"{"trips":{"definition":"d1","generation":"g1","table_version":0,"positions":{"files":12},"coverage":{"files":12}}}"#
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typo_gets_the_nearest_name() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let cases = [
        ("SELECT fair_amount FROM trips", "column `fair_amount` not found; did you mean `fare_amount`?"),
        ("SELECT t.fare_amout FROM trips t", "column `fare_amout` not found; did you mean `fare_amount`?"),
        ("SELECT id FROM trisp", "table `trisp` not found; did you mean `trips`?"),
        ("SELECT id FROM batch.trip", "table `batch.trip` not found; did you mean `trips`?"),
        ("SELECT id FROM bach.trips", "table `bach.trips` not found; did you mean `trips`?"),
        ("SELECT zzz FROM trips", "column `zzz` not found"),
        ("SELECT id FROM something_else", "table `something_else` not found"),
        (
            "SELECT id FROM live.trips",
            "`live.trips` needs a running server; ask `batch.trips`, or start one with `tidemark up`",
        ),
    ];
    for (sql, message) in cases {
        assert_eq!(error(&engine, sql).await.to_string(), message, "{sql}");
    }
    assert!(matches!(error(&engine, "SELEC 1").await, SqlError::Syntax { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_statement_is_told_from_values_that_allow_no_answer() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { files_in_place: true, ..SqlConfig::default() });
    let cases = [
        ("SELEC 1", Kind::Invalid),
        ("SELECT nothing FROM trips", Kind::Invalid),
        ("SELECT id FROM nothing", Kind::NotFound),
        ("SELECT id + note FROM (SELECT id, [note] AS note FROM trips)", Kind::Invalid),
        ("SELECT no_function(id) FROM trips", Kind::Invalid),
        ("SELECT sum(id) FROM trips WHERE sum(id) > 1", Kind::Invalid),
        ("SELECT * FROM '/no/such/file.csv'", Kind::NotFound),
        ("SELECT id / (id - id) FROM trips", Kind::Unprocessable),
        ("SELECT 1 / 0", Kind::Unprocessable),
        ("SELECT CAST(note AS INT) FROM trips", Kind::Unprocessable),
        ("SELECT CAST('seven' AS INT)", Kind::Unprocessable),
        ("SELECT CAST(id * 1000000 AS INT) FROM trips", Kind::Unprocessable),
        ("SELECT id FROM trips WHERE CAST(pickup_month || 'th' AS INT) = 7", Kind::Unprocessable),
        ("SELECT arrow_cast(id, 'Int8') FROM trips", Kind::Unprocessable),
    ];
    for (sql, kind) in cases {
        let error = error(&engine, sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_reading_statements_are_answered() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for sql in [
        "DROP TABLE trips",
        "CREATE TABLE t AS SELECT * FROM trips",
        "CREATE VIEW v AS SELECT 1",
        "INSERT INTO trips SELECT * FROM trips",
        "DELETE FROM trips",
        "UPDATE trips SET id = 1",
        "COPY trips TO 'out.csv'",
        "SET datafusion.execution.batch_size = 1",
        "EXPLAIN INSERT INTO trips SELECT * FROM trips",
    ] {
        let error = error(&engine, sql).await;
        assert!(matches!(error, SqlError::ReadOnly { .. }), "{sql}: {error}");
        assert_eq!(error.kind(), Kind::Invalid);
    }
    for sql in ["EXPLAIN SELECT * FROM trips", "SHOW TABLES", "DESCRIBE trips", "SHOW COLUMNS FROM trips"] {
        let (text, _) = rows(&engine, &ask(sql)).await.expect(sql);
        assert!(text.contains("trips") || text.contains("fare_amount"), "{sql}: {text}");
    }
    assert!(matches!(error(&engine, "SELECT 1; SELECT 2").await, SqlError::Statements { count: 2 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_are_values_of_the_type_that_is_wanted() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let text = |value: &str| Param::Text(value.to_owned());
    let run =
        async |sql: &str, params: Vec<Param>| rows(&engine, &Query { params, ..ask(sql) }).await.map(|(text, _)| text);
    let injected = run("SELECT count(*) FROM trips WHERE note = $1", vec![text("x' OR '1'='1")]).await;
    assert_eq!(injected.expect("a string"), "0");
    let month =
        run("SELECT count(*) FROM trips WHERE pickup_month = $1 AND id < $2", vec![text("07"), text("7000010")]);
    assert_eq!(month.await.expect("a string and a number"), "10");
    assert_eq!(run("SELECT $1, $2", vec![text("07"), text("7")]).await.expect("guessed"), "07|7");

    let wrong = run("SELECT id FROM trips WHERE id = $1", vec![text("seven")]).await.expect_err("no number");
    assert_eq!(wrong.to_string(), "parameter $1: `seven` is not a value of type Int64");
    let missing = run("SELECT id FROM trips WHERE id = $2", vec![text("7")]).await.expect_err("one too few");
    assert_eq!(missing.to_string(), "parameter $2: has no value; 1 given");
    let surplus = run("SELECT id FROM trips WHERE id = $1", vec![text("7"), text("8")]).await.expect_err("surplus");
    assert_eq!(surplus.to_string(), "parameter $2: does not occur in the statement");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_end_a_statement_with_their_own_error() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let bytes = Limits { bytes_read_max: Some(4096), ..Limits::default() };
    let query = Query { limits: bytes, ..ask("SELECT max(note) FROM trips") };
    let stopped = rows(&engine, &query).await.expect_err("reads more");
    assert!(matches!(stopped, SqlError::TooManyBytes { limit_bytes: 4096 }), "{stopped:?}");
    assert_eq!(stopped.kind(), Kind::Exhausted);

    let time = Limits { timeout: Some(Duration::from_millis(300)), ..Limits::default() };
    let forever = "SELECT sum(a.id * b.id + c.id) FROM trips a, trips b, trips c";
    let stopped = rows(&engine, &Query { limits: time, ..ask(forever) }).await.expect_err("takes longer");
    assert!(matches!(stopped, SqlError::TimedOut { limit_ms: 300 }), "{stopped:?}");
    assert_eq!(stopped.kind(), Kind::Exhausted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_by_spilling_or_an_error() {
    let fixture = Fixture::new().await;
    let spill = fixture.folder.path().join("spill");
    std::fs::create_dir(&spill).expect("a folder to spill to");
    let small = SqlConfig {
        memory_bytes_max: 40 * 1024 * 1024,
        spill_folder: Some(spill.clone()),
        threads: Some(1),
        ..SqlConfig::default()
    };
    let big = "SELECT a.id, a.note, b.note AS other FROM trips a JOIN trips b ON a.fare_amount = b.fare_amount \
               WHERE b.pickup_month <= 6";
    let sorted = format!(
        "SELECT count(*), max(n) FROM (SELECT id, note, row_number() OVER (ORDER BY other, note) AS n FROM ({big}))"
    );
    let (text, _) = rows(&fixture.engine(small.clone()), &ask(&sorted)).await.expect("spills");
    assert_eq!(text, "720000|720000");

    let full = SqlConfig { spill_bytes_max: 1024 * 1024, ..small.clone() };
    let stopped = rows(&fixture.engine(full), &ask(&sorted)).await.expect_err("little to spill to");
    assert!(matches!(stopped, SqlError::OutOfSpillSpace { limit_bytes: 1_048_576 }), "{stopped:?}");
    let diskless = SqlConfig { spill_bytes_max: 0, ..small };
    let stopped = rows(&fixture.engine(diskless), &ask(&sorted)).await.expect_err("nothing to spill to");
    assert!(matches!(stopped, SqlError::OutOfMemory { limit_bytes: 41_943_040, .. }), "{stopped:?}");
    assert_eq!(stopped.kind(), Kind::Exhausted);
    assert_eq!(std::fs::read_dir(&spill).expect("lists").count(), 0, "folders go with their engines");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_place_are_tables() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { files_in_place: true, ..SqlConfig::default() });
    let csv = fixture.file("zones.csv", "zone,name\n1,Newark\n2,Queens\n");
    let json = fixture.file("zones.json", "{\"zone\":1,\"name\":\"Newark\"}\n{\"zone\":3,\"name\":\"Bronx\"}\n");
    for file in [&csv, &json] {
        let sql = format!("SELECT name FROM '{file}' WHERE zone = 1");
        let (text, answer) = rows(&engine, &ask(&sql)).await.expect(file);
        assert_eq!(text, "Newark");
        let size = std::fs::metadata(file).expect("is there").len();
        let stats = answer.stats();
        // Read once for its columns and once for its rows.
        assert_eq!((stats.files_total, stats.bytes_total, stats.bytes_read), (1, size, 2 * size), "{file}");
        assert_eq!(answer.as_of.tables[file.as_str()], TableAsOf { location: file.clone(), version: None });
    }
    engine.add_table("zones", &FileTable::at(&csv)).await.expect("is named");
    let create = format!("CREATE EXTERNAL TABLE more (zone BIGINT, name VARCHAR) STORED AS JSON LOCATION '{json}'");
    let (_, created) = rows(&engine, &ask(&create)).await.expect("is created");
    assert!(!created.is_query);
    let join = "SELECT m.name FROM zones z RIGHT JOIN more m ON z.zone = m.zone WHERE z.zone IS NULL";
    assert_eq!(rows(&engine, &ask(join)).await.expect("joins").0, "Bronx");
    let error = error(&engine, "SELECT * FROM '/no/such/file.csv'").await;
    assert!(matches!(error, SqlError::BadFile { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_is_closed_to_files_opens_none() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let csv = fixture.file("zones.csv", "zone,name\n1,Newark\n");
    for sql in [
        format!("SELECT * FROM '{csv}'"),
        format!("CREATE EXTERNAL TABLE z STORED AS CSV LOCATION '{csv}'"),
        format!("EXPLAIN SELECT * FROM \"{csv}\""),
    ] {
        let error = error(&engine, &sql).await;
        assert!(matches!(error, SqlError::FilesClosed { .. }), "{sql}: {error:?}");
    }
}

/// A catalog with one CSV table, `lookup.zones`.
#[derive(Debug)]
struct Lookup(String);

#[async_trait]
impl CatalogTables for Lookup {
    async fn names(&self) -> Result<BTreeMap<String, Vec<String>>, AnyError> {
        Ok([("lookup".to_owned(), vec!["zones".to_owned()])].into())
    }

    async fn table(&self, schema: &str, table: &str) -> Result<Option<CatalogTable>, AnyError> {
        let schema_of =
            Schema::new(vec![Field::new("zone", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
        let files = FileTable {
            location: self.0.clone(),
            format: Some(FileFormat::Csv { header: false, delimiter: b';' }),
            schema: Some(Arc::new(schema_of)),
            partition_columns: Vec::new(),
        };
        Ok((schema == "lookup" && table == "zones").then(|| CatalogTable { files, version: "3".to_owned() }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalog_tables_are_read_in_place_with_their_version() {
    let fixture = Fixture::new().await;
    let file = fixture.file("zones.txt", "1;Newark\n2;Queens\n");
    let catalog = Arc::new(Lookup(file.clone()));
    let engine = SqlEngine::new(Arc::clone(&fixture.objects), catalog, SqlConfig::default()).expect("an engine");
    let sql =
        "SELECT z.name, count(*) FROM trips t JOIN lookup.zones z ON t.fare_amount = z.zone GROUP BY 1 ORDER BY 1";
    let (text, answer) = rows(&engine, &ask(sql)).await.expect("joins");
    assert_eq!(text, "Newark|120\nQueens|120");
    let read = TableAsOf { location: file, version: Some("3".to_owned()) };
    assert_eq!(answer.as_of.tables.get("lookup.zones"), Some(&read));
    assert_eq!(answer.as_of.datasets["trips"].table_version, 0);
    assert_eq!(
        error(&engine, "SELECT * FROM zones").await.to_string(),
        "table `zones` not found; did you mean `lookup.zones`?"
    );
    assert!(rows(&engine, &ask("SHOW TABLES")).await.expect("lists").0.contains("zones"));
}

/// Folders of a directory as buckets.
struct Buckets(std::path::PathBuf);

#[async_trait]
impl Stores for Buckets {
    async fn open(&self, url: &StoreUrl, if_missing: IfMissing) -> Result<Store, StoreError> {
        let StoreUrl::S3 { bucket, prefix } = url else { panic!("{url} is no bucket") };
        assert_eq!((prefix.as_str(), if_missing), ("", IfMissing::Fail));
        Store::local(&self.0.join(bucket), if_missing)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_are_opened_when_something_in_them_is_named() {
    let fixture = Fixture::new().await;
    std::fs::create_dir_all(fixture.folder.path().join("lake/in")).expect("a bucket");
    fixture.file("lake/in/zones.csv", "1;Newark\n2;Queens\n");
    fixture.file("lake/in/zones.json", "{\"zone\":3,\"name\":\"Bronx\"}\n");
    let catalog = Arc::new(Lookup("s3a://lake/in/zones.csv".to_owned()));
    let config = SqlConfig { files_in_place: true, ..SqlConfig::default() };
    let engine = SqlEngine::new(Arc::clone(&fixture.objects), catalog, config).expect("an engine");
    let engine = engine.with_stores(Arc::new(Buckets(fixture.folder.path().to_owned())));
    let create = "CREATE EXTERNAL TABLE more STORED AS JSON LOCATION 's3://lake/in/zones.json'";
    rows(&engine, &ask(create)).await.expect("is created");
    for (sql, expected) in [
        ("SELECT name FROM lookup.zones WHERE zone = 2", "Queens"),
        ("SELECT name FROM 's3://lake/in/zones.json'", "Bronx"),
        ("SELECT name FROM more", "Bronx"),
    ] {
        assert_eq!(rows(&engine, &ask(sql)).await.expect(sql).0, expected, "{sql}");
    }
    let missing = error(&engine, "SELECT * FROM 's3://swamp/zones.csv'").await;
    assert!(matches!(missing, SqlError::Bucket { .. }), "{missing:?}");
    assert_eq!(missing.kind(), Kind::NotFound);
    let closed = fixture.engine(SqlConfig { files_in_place: true, ..SqlConfig::default() });
    let refused = error(&closed, "SELECT * FROM 's3://lake/in/zones.json'").await;
    assert!(refused.to_string().ends_with("this door opens no buckets"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_chains_of_operators_are_answered_up_to_a_bound() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { threads: Some(1), ..SqlConfig::default() });
    let chain =
        |join: &str, count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(join);
    let answered = [
        format!("SELECT max({}) FROM trips WHERE id < 1000002", chain(" + ", 900, &|_| "id % 2".to_owned())),
        format!("SELECT count(*) FROM trips WHERE {}", chain(" OR ", 900, &|i| format!("id + fare_amount = {i}"))),
        format!("SELECT count(*) FROM trips WHERE id IN ({})", chain(", ", 20_000, &|i| (1_000_000 + i).to_string())),
        format!("SELECT count(*) FROM ({})", chain(" UNION ALL ", 500, &|i| format!("SELECT {i}"))),
    ];
    for (sql, expected) in answered.iter().zip(["900", "0", "1000", "500"]) {
        assert_eq!(rows(&engine, &ask(sql)).await.expect("is answered").0, expected);
    }
    for sql in [
        format!("SELECT {}", chain(" + ", 100_000, &|_| "1".to_owned())),
        format!("SELECT id FROM trips WHERE {}", chain(" OR ", 100_000, &|i| format!("id = {i}"))),
        chain(" UNION ALL ", 100_000, &|_| "SELECT 1".to_owned()),
        format!("SELECT {}1", "(1 + ".repeat(10_000)),
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
    ] {
        let refused = error(&engine, &sql).await;
        assert!(matches!(refused, SqlError::TooDeep { .. } | SqlError::Syntax { .. }), "{refused:?}");
    }
}

#[test]
fn statements_are_cut_at_their_semicolons_only() {
    let (statements, ended) =
        split("SELECT ';' AS a; -- not; here\n\n /* nor; here */ SELECT 'é;\n' ;\n;").expect("splits");
    assert_eq!(statements, ["SELECT ';' AS a", "-- not; here\n\n /* nor; here */ SELECT 'é;\n'"]);
    assert!(ended);
    assert_eq!(
        split("SELECT 1;\n SELECT 2").expect("splits"),
        (vec!["SELECT 1".to_owned(), "SELECT 2".to_owned()], false)
    );
    assert_eq!(split(" -- nothing\n ;").expect("splits"), (Vec::new(), true));
    assert!(split("SELECT 'open").is_err());
}

#[test]
fn a_glue_table_says_how_its_files_are_read() {
    use crate::catalog::{Column, SerdeInfo, StorageDescriptor, Table, TableInput};
    let column =
        |name: &str, hive: &str| Column { name: name.to_owned(), r#type: Some(hive.to_owned()), ..Column::default() };
    let serde = |class: &str| SerdeInfo {
        serialization_library: Some(class.to_owned()),
        parameters: [("separatorChar".to_owned(), ";".to_owned())].into(),
        ..SerdeInfo::default()
    };
    let table = |class: &str| Table {
        database: "lookup".to_owned(),
        input: TableInput {
            name: "zones".to_owned(),
            storage_descriptor: Some(StorageDescriptor {
                columns: vec![column("zone", "bigint"), column("share", "decimal(5, 2)")],
                location: Some("s3://bucket/zones".to_owned()),
                serde_info: Some(serde(class)),
                ..StorageDescriptor::default()
            }),
            partition_keys: vec![column("year", "string")],
            ..TableInput::default()
        },
        version: 3,
        create_time: chrono::DateTime::UNIX_EPOCH,
        update_time: chrono::DateTime::UNIX_EPOCH,
    };
    let csv = glue::files(&table("org.apache.hadoop.hive.serde2.OpenCSVSerde")).expect("plain files");
    assert_eq!(csv.location, "s3://bucket/zones/");
    assert_eq!(csv.format, Some(FileFormat::Csv { header: false, delimiter: b';' }));
    assert_eq!(csv.partition_columns, [("year".to_owned(), DataType::Utf8)]);
    assert_eq!(csv.schema.expect("typed").field(1).data_type(), &DataType::Decimal128(5, 2));
    let parquet = glue::files(&table("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"));
    assert_eq!(parquet.expect("plain files").format, Some(FileFormat::Parquet));
    assert_eq!(glue::files(&table("org.example.Unknown")), None);
    let mut delta = table("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe");
    delta.input.parameters.insert("spark.sql.sources.provider".to_owned(), "delta".to_owned());
    assert_eq!(glue::files(&delta), None, "its folder holds files that are no part of it");
}
