//! The nine header layouts of raw TLC files.

use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;

use super::*;

fn trips() -> InputSpec {
    let mut columns = columns(&[
        ("vendor!", DataType::Utf8),
        ("pickup_datetime!", naive()),
        ("dropoff_datetime", naive()),
        ("passenger_count", DataType::Int32),
        ("trip_distance", DataType::Float64),
        ("rate_code", DataType::Utf8),
        ("store_and_fwd_flag", DataType::Utf8),
        ("payment_type", DataType::Utf8),
        ("fare_amount", DataType::Float64),
        ("extra", DataType::Float64),
        ("total_amount", DataType::Float64),
        ("congestion_surcharge", DataType::Decimal128(10, 2)),
    ]);
    let aliases: [&[&str]; 12] = [
        &["vendor_name", "vendor_id", "VendorID"],
        &["Trip_Pickup_DateTime", "tpep_pickup_datetime"],
        &["Trip_Dropoff_DateTime", "tpep_dropoff_datetime"],
        &[],
        &[],
        &["RatecodeID"],
        &["store_and_forward"],
        &[],
        &["Fare_Amt"],
        &["surcharge"],
        &["Total_Amt"],
        &[],
    ];
    for (column, aliases) in columns.iter_mut().zip(aliases) {
        column.aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    }
    InputSpec { columns, format: Format::Csv(CsvOptions::default()) }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_header_layout_decodes_and_the_cut_row_is_a_reject() {
    let files: Vec<_> =
        files("tests/fixtures/messy").into_iter().filter(|f| f.extension().is_some_and(|e| e == "csv")).collect();
    assert_eq!(files.len(), 9);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let outcome = decode(&trips(), &bytes);
        assert_eq!(outcome.rows.len(), 5, "{file:?}: {:?}", outcome.rejects);
        let last = bytes.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(outcome.refused(), [(last as u64, Reason::Truncated, None)], "{file:?}");
        let wide = file.to_str().unwrap().ends_with("2016-07.csv");
        assert_eq!(outcome.notes.surplus_empty_records, if wide { 5 } else { 0 }, "{file:?}");
        assert!(outcome.json().iter().all(|json| json.contains("\"total_amount\":")), "{file:?}");
    }
}
