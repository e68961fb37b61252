//! The curated table against DuckDB's own computation from the same CSV files, read by DuckDB, Polars and PyArrow.

use tidemark_e2e::chaos::ingest_args;

use crate::support::{Home, Trips, python, synthetic, trips};

fn compare(trips: &Trips) {
    let home = Home::with_trips();
    home.tidemark.run(&ingest_args(&trips.csv)).unwrap().expect_code(0).unwrap();
    let mut command = python();
    command.args(["e2e/oracle/compare.py", "--csv"]).arg(&trips.csv).arg("--table").arg(home.table());
    if let Some(manifest) = trips.manifest_file() {
        command.arg("--manifest").arg(manifest);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("all agree"));
}

#[test]
fn duckdb_polars_and_pyarrow_agree_on_trips() {
    compare(&trips());
}

#[test]
fn duckdb_polars_and_pyarrow_agree_on_synthetic_trips_with_broken_records() {
    compare(&synthetic(60_000));
}
