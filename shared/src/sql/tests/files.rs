//! Files in place: what their names say, and that opening them is counted.

use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::TimeUnit;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;

use super::super::error::is_of_a_file;
use super::*;

/// `zone<TAB>name`, `1<TAB>Newark`, compressed by gzip.
const TSV_GZ: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\xca\xcf\x4b\xe5\xcc\x4b\xcc\x4d\xe5\x32\xe4\xf4\x4b\x2d\x4f\x2c\xca\xe6\x02\x00\xd6\xfd\x7a\x4e\x13\x00\x00\x00";
/// `{"zone":1,"name":"Newark"}`, compressed by Zstandard.
const JSONL_ZST: &[u8] = b"\x28\xb5\x2f\xfd\x00\x68\xd9\x00\x00\x7b\x22\x7a\x6f\x6e\x65\x22\x3a\x31\x2c\x22\x6e\x61\x6d\x65\x22\x3a\x22\x4e\x65\x77\x61\x72\x6b\x22\x7d\x0a";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_name_that_means_a_file_can_be_read() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { files_in_place: true, ..SqlConfig::default() });
    let json = "{\"zone\":1,\"name\":\"Newark\"}\n{\"zone\":2,\"name\":\"Queens, N.Y.\"}\n";
    let (csv, tsv) = ("zone,name\n1,Newark\n2,\"Queens, N.Y.\"\n", "zone\tname\n1\tNewark\n2\tQueens, N.Y.\n");
    let mut files: Vec<String> =
        [("z.csv", csv), ("Z.CSV", csv), ("z.tsv", tsv), ("z.json", json), ("z.ndjson", json), ("z.jsonl", json)]
            .map(|(name, text)| fixture.file(name, text))
            .into();
    for (name, bytes) in [("z.tsv.gz", TSV_GZ), ("z.jsonl.zst", JSONL_ZST)] {
        let path = fixture.folder.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        files.push(path.to_str().expect("a UTF-8 path").to_owned());
    }
    std::fs::create_dir(fixture.folder.path().join("many")).expect("a folder");
    fixture.file("many/a.tsv", tsv);
    fixture.file("many/b.tsv", "zone\tname\n1\tBronx\n");
    files.push(format!("{}/many", fixture.folder.path().display()));
    for file in &files {
        let sql = format!("SELECT name FROM '{file}' WHERE zone = 1 ORDER BY name DESC LIMIT 1");
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(file).0, "Newark", "{file}");
    }
    for name in ["trips", "zones.txt", "csv", "x.gz", "x.parquet.gz", "x.csv.", "x.csv.exe"] {
        let refused = error(&engine, &format!("SELECT * FROM \"{name}\" WHERE zone = 1")).await;
        assert!(
            matches!(refused, SqlError::UnknownTable { .. } | SqlError::UnknownColumn { .. }),
            "{name}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_files_counts_and_is_limited() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { files_in_place: true, ..SqlConfig::default() });
    let lines = |line: &str| line.repeat(20_000);
    let csv = fixture.file("big.csv", &format!("zone,name\n{}", lines("1,Newark\n")));
    let json = fixture.file("big.json", &lines("{\"zone\":1,\"name\":\"Newark\"}\n"));
    let parquet = std::fs::read_dir(fixture.folder.path().join("store/curated/trips/g1/table/pickup_month=07"));
    let parquet = parquet.expect("lists").flatten().next().expect("a data file").path();
    let parquet = parquet.to_str().expect("a UTF-8 path").to_owned();
    for (file, create) in [(&csv, "CSV OPTIONS ('format.has_header' 'true')"), (&json, "JSON"), (&parquet, "PARQUET")] {
        let size = std::fs::metadata(file).expect("is there").len();
        let named = format!("EXPLAIN SELECT * FROM '{file}'");
        let (stored, options) = create.split_once(' ').unwrap_or((create, ""));
        let created = format!("CREATE EXTERNAL TABLE made STORED AS {stored} LOCATION '{file}' {options}");
        for sql in [named, created] {
            // A footer once read is the engine's: a second engine reads it again.
            let engine = fixture.engine(SqlConfig { files_in_place: true, ..SqlConfig::default() });
            let limits = Limits { bytes_read_max: Some(16), ..Limits::default() };
            let stopped = rows(&engine, &Query { limits, ..ask(&sql) }).await.expect_err(&sql);
            assert!(matches!(stopped, SqlError::TooManyBytes { limit_bytes: 16 }), "{sql}: {stopped:?}");
            let (_, answer) = rows(&engine, &ask(&sql)).await.expect(&sql);
            let read = answer.stats().bytes_read;
            assert!(0 < read && (read < size || file == &parquet), "{sql}: {read} of {size}");
        }
    }
    // The columns of a file are found out from its beginning, and no more than that counts.
    let limits = Limits { bytes_read_max: Some(180_000 + 65_536), ..Limits::default() };
    let counted = Query { limits, ..ask(&format!("SELECT count(*) FROM '{csv}'")) };
    assert_eq!(rows(&engine, &counted).await.expect("within the limit").0, "20000");
}

#[tokio::test]
async fn a_record_of_another_width_lies_in_the_file_wherever_it_stands() {
    let state = SessionContext::new().state();
    for pieces in [&["a,b\n1,2\n1,2,3\n"] as &[&str], &["a,b\n1,2\n", "1,2,3\n"]] {
        let read = pieces.iter().map(|piece| Ok(bytes::Bytes::copy_from_slice(piece.as_bytes())));
        let format = CsvFormat::default();
        let error = format.infer_schema_from_stream(&state, 1000, futures::stream::iter(read)).await;
        let error = error.expect_err("another width");
        assert!(is_of_a_file(&error), "{pieces:?}: {error:?}");
    }
    // Other failures of the same kind do not.
    assert!(!is_of_a_file(&DataFusionError::Execution("Division by zero".to_owned())));
}

const HOUR: i64 = 3_600_000_000;
/// The end of summer time in Berlin, 2024-10-27T01:00Z.
const AUTUMN: i64 = 1_729_990_800_000_000;

/// Three rows for each of three row groups; bounds of the first lie apart from what some casts make of its rows.
fn row_groups() -> [RecordBatch; 3] {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("place", DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())), false),
        Field::new("n", DataType::Int64, false),
    ]));
    let group = |first: i64, at: [i64; 3], place: [i64; 3], n: [i64; 3]| {
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(first..first + 3)),
            Arc::new(TimestampMicrosecondArray::from_iter_values(at)),
            Arc::new(TimestampMicrosecondArray::from_iter_values(place).with_timezone("Europe/Berlin")),
            Arc::new(Int64Array::from_iter_values(n)),
        ];
        RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns of one length")
    };
    let halves = [AUTUMN - HOUR / 2, AUTUMN - 1, AUTUMN + HOUR / 12];
    [
        group(0, [23 * HOUR, 36 * HOUR + HOUR / 2, 49 * HOUR], halves, [-5, 0, 7]),
        group(3, [100 * HOUR, 101 * HOUR, 102 * HOUR], [0, 1, 2], [-9, -4, -3]),
        group(6, [200 * HOUR, 201 * HOUR, 202 * HOUR], [3, 4, 5], [1, 1 << 32, (1 << 32) + 9]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_groups_are_left_out_only_by_what_keeps_their_order() {
    let groups = row_groups();
    let fixture = Fixture::new().await;
    let path = fixture.folder.path().join("groups.parquet");
    let file = std::fs::File::create(&path).expect("creates");
    let mut writer = ArrowWriter::try_new(file, groups[0].schema(), None).expect("a writer");
    for group in &groups {
        writer.write(group).expect("writes");
        writer.flush().expect("ends the row group");
    }
    assert_eq!(writer.close().expect("ends the file").num_row_groups(), groups.len());
    let engine = fixture.engine(SqlConfig { files_in_place: true, ..SqlConfig::default() });
    let ids = async |from: &str, condition: &str| {
        let sql = format!("SELECT id FROM {from} WHERE {condition} ORDER BY id");
        rows(&engine, &ask(&sql)).await.expect(condition).0
    };
    let whole = format!("'{}'", path.display());
    // No filter goes below a limit.
    let unpruned = format!("(SELECT * FROM {whole} LIMIT 1000)");
    let conditions = [
        ("at::time = TIME '12:30:00'", Some("1")),
        ("TRY_CAST(at AS TIME) BETWEEN TIME '12:00:00' AND TIME '13:00:00'", Some("1")),
        ("arrow_cast(at, 'Time64(Nanosecond)') IN (TIME '12:30:00', TIME '12:31:00')", Some("1")),
        ("n::boolean IS FALSE", Some("1")),
        ("-n < 0", Some("2\n6\n7\n8")),
        ("place::timestamp > TIMESTAMP '2024-10-27T02:40:00'", None),
        ("arrow_cast(place, 'Timestamp(Microsecond, None)') = TIMESTAMP '2024-10-27T02:59:59.999999'", None),
        ("TRY_CAST(n AS INT) IS NOT DISTINCT FROM NULL", None),
        ("at::date = DATE '1970-01-02'", Some("1")),
        ("n::double > 5", Some("2\n7\n8")),
        ("at::time = TIME '12:30:00' AND n < 5", Some("1")),
    ];
    for (condition, known) in conditions {
        let found = ids(&whole, condition).await;
        assert_eq!(found, ids(&unpruned, condition).await, "{condition}");
        assert!(known.is_none_or(|known| known == found), "{condition}: {found}");
    }
    // What a sort or a join learns as it runs prunes, too.
    let first = format!("SELECT id FROM {whole} ORDER BY at::time DESC, id LIMIT 2");
    assert_eq!(rows(&engine, &ask(&first)).await.expect("sorts").0, "0\n1");
}
