//! Green trips: Parquet files whose schema drifts from month to month.

use std::path::Path;

use tidemark_e2e::platform::{dataset_folder, real_trips};

use crate::support::{Home, python};

fn ingest_and_compare(files: &Path) {
    let home = Home::empty();
    let folder = dataset_folder("green").to_string_lossy().into_owned();
    home.tidemark.run(&["dataset", "apply", &folder]).unwrap().expect_code(0).unwrap();
    let path = files.to_string_lossy();
    let report = home.tidemark.run_json(&["ingest", "green", &path, "--json"]).unwrap();
    let counts = &report["counts"];
    let rejected: u64 = counts["rejected"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    let number = |name: &str| counts[name].as_u64().unwrap();
    assert_eq!(number("records"), number("accepted") + number("filtered") + rejected);
    assert!(number("accepted") > 0);
    let table = home.table_of("green");
    let output = python().args(["e2e/oracle/green.py", "compare"]).arg(files).arg(table).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("all agree: {} rows", number("accepted"))), "{text}");
}

/// Synthetic months; the real ones too where they are at hand.
#[test]
fn months_with_drifting_schemas_agree_with_duckdb() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("green");
    let written = python().args(["e2e/oracle/green.py", "write"]).arg(&files).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    ingest_and_compare(&files);
    match real_trips() {
        Some(folder) => ingest_and_compare(&folder.join("green")),
        None => println!("no real trips at hand (TIDEMARK_TRIPS_DIR)"),
    }
}
