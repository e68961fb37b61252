//! Columns of every kind, nested ones among them: the table opens in Python, and answers are those of a scan.

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
