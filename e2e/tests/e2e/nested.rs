//! Columns of every kind, nested ones among them: the table opens in Python, and answers are those of a scan, whichever
//! reader passes files by.

use crate::support::{Home, python};

const TOML: &str = r#"
name = "kinds"
columns = [
    { name = "id", type = "int64", required = true },
    { name = "yes", type = "bool" },
    { name = "person", type = "struct<name: string, age: int32>" },
    { name = "tags", type = "list<string>" },
    { name = "at", type = "timestamp" },
    { name = "day", type = "date" },
    { name = "price", type = "decimal(10,2)" },
]
[files]
format = "json"
"#;

const RECORDS: &str = r#"{"id":1,"yes":true,"person":{"name":"a","age":3},"tags":["x","y"],"at":"2019-07-01T10:00:00","day":"0000-01-01","price":1.25}
{"id":2,"yes":null,"person":null,"tags":null,"at":null,"day":null,"price":null}
{"id":3,"yes":false,"person":{"name":null,"age":null},"tags":[],"at":"2019-07-01T10:00:00.123456","day":"2019-07-01","price":-7}
"#;

/// Rows, rows without a person, names, tags of the first row.
const READ: &str = "\
import os, sys
from deltalake import DeltaTable
table = DeltaTable(sys.argv[1]).to_pyarrow_table(columns=['id', 'yes', 'person', 'tags', 'at', 'price']).sort_by('id')
print(table.num_rows, table['person'].null_count, table['yes'].to_pylist(), table['tags'].to_pylist()[0], flush=True)
os._exit(0)  # PyArrow's threads can abort the interpreter while it shuts down
";

#[test]
fn nested_columns_are_read_by_python_and_their_nulls_are_found() {
    let home = Home::empty();
    home.file("kinds.jsonl", RECORDS);
    std::fs::create_dir(home.folder.path().join("kinds")).unwrap();
    home.file("kinds/dataset.toml", TOML);
    home.file("kinds/transform.sql", "SELECT id, yes, person, tags, at, day, price FROM input");
    let path = |name: &str| home.folder.path().join(name).to_string_lossy().into_owned();
    home.tidemark.run(&["dataset", "apply", &path("kinds")]).unwrap().expect_code(0).unwrap();
    let report = home.tidemark.run_json(&["ingest", "kinds", &path("kinds.jsonl"), "--json"]).unwrap();
    assert_eq!(report["counts"]["accepted"], 3, "{report}");

    let output = python().args(["-c", READ]).arg(home.table_of("kinds")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.trim(), "3 1 [True, None, False] ['x', 'y']");

    for (condition, rows) in [("person IS NULL", 1), ("tags IS NULL", 1), ("person IS NULL OR id = 1", 2), ("yes", 1)] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM batch.kinds WHERE {condition}")), rows, "{condition}");
    }
    let status = home.tidemark.run_json(&["status", "kinds", "--json"]).unwrap();
    assert_eq!(status["datasets"][0]["rows"], 3);
}

const DOUBLES: &str = r#"
name = "doubles"
columns = [
    { name = "id", type = "int64", required = true },
    { name = "f", type = "float64" },
    { name = "nothing", type = "float64" },
    { name = "seen", type = "timestamp" },
]
[files]
format = "csv"
"#;

/// Rows for each condition: through the statistics of the log (PyArrow's dataset), and of all rows.
const FILTER: &str = "\
import os, sys
import duckdb
from deltalake import DeltaTable
table = DeltaTable(sys.argv[1])
duck = duckdb.connect()
duck.register('pruned', table.to_pyarrow_dataset())
duck.register('whole', table.to_pyarrow_table())
count = lambda name, condition: duck.execute(f'SELECT count(*) FROM {name} WHERE {condition}').fetchall()[0][0]
for condition in sys.argv[2:]:
    print(count('pruned', condition), count('whole', condition), flush=True)
os._exit(0)  # PyArrow's threads can abort the interpreter while it shuts down
";

/// Files with nulls, without a value, with a number that is none and with a time that has no text in the log.
#[test]
fn no_reader_passes_a_file_by_that_has_what_is_asked_for() {
    let home = Home::empty();
    std::fs::create_dir(home.folder.path().join("doubles")).unwrap();
    home.file("doubles/dataset.toml", DOUBLES);
    home.file("doubles/transform.sql", "SELECT id, f, nothing, seen FROM input");
    let path = |name: &str| home.folder.path().join(name).to_string_lossy().into_owned();
    home.tidemark.run(&["dataset", "apply", &path("doubles")]).unwrap().expect_code(0).unwrap();
    for (name, rows) in [
        ("a.csv", "1,1.5,,2019-01-01 00:00:00\n2,,,\n3,-0.0,,2020-01-01 00:00:00\n"),
        ("b.csv", "4,nan,,2019-01-01 00:00:00\n5,7.5,,9999-12-31 23:59:59\n"),
        ("c.csv", "6,inf,,2019-01-01 00:00:00\n7,,,2019-06-01 00:00:00\n"),
    ] {
        let file = home.file(name, format!("id,f,nothing,seen\n{rows}"));
        home.tidemark.run(&["ingest", "doubles", &file]).unwrap().expect_code(0).unwrap();
    }
    let conditions = [
        ("f IS NULL", 2),
        ("f IS NOT NULL", 5),
        ("nothing IS NULL", 7),
        ("nothing IS NOT NULL", 0),
        ("f = 1.5", 1),
        ("f > 1", 4),
        ("f = 0", 1),
        ("f < 100", 3),
        ("isnan(f)", 1),
        ("seen < TIMESTAMP '2019-02-01'", 3),
        ("seen > TIMESTAMP '2030-01-01'", 1),
        ("seen IS NULL", 1),
    ];
    let output = python()
        .args(["-c", FILTER])
        .arg(home.table_of("doubles"))
        .args(conditions.map(|(condition, _)| condition))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), conditions.len(), "{text}");
    for ((condition, rows), line) in conditions.into_iter().zip(lines) {
        assert_eq!(line, format!("{rows} {rows}"), "{condition}");
        assert_eq!(home.number(&format!("SELECT count(*) FROM batch.doubles WHERE {condition}")), rows, "{condition}");
    }
}
