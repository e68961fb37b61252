//! Trips from CSV to the curated table: every record accounted for, small files, few bytes for a month's question.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tidemark_e2e::chaos::ingest_args;
use tidemark_e2e::platform::{real_trips, repository};

use crate::support::{Home, bytes_below, synthetic, trips};

fn counts(report: &Value) -> (u64, u64, u64, BTreeMap<String, u64>) {
    let counts = &report["counts"];
    let rejected = counts["rejected"].as_object().unwrap();
    let rejected = rejected.iter().map(|(reason, n)| (reason.clone(), n.as_u64().unwrap())).collect();
    let number = |name: &str| counts[name].as_u64().unwrap();
    (number("records"), number("accepted"), number("filtered"), rejected)
}

fn ingest(home: &Home, csv: &Path) -> Value {
    let mut args = ingest_args(csv);
    args.push("--json".to_owned());
    home.tidemark.run_json(&args).unwrap()
}

#[test]
fn the_report_of_synthetic_trips_is_what_the_generator_made() {
    let trips = synthetic(48_000);
    let manifest = trips.manifest.as_ref().unwrap();
    let home = Home::with_trips();
    let (records, accepted, filtered, rejected) = counts(&ingest(&home, &trips.csv));
    assert_eq!((records, accepted, filtered), (manifest.records, manifest.accepted, 0));
    assert_eq!(rejected, manifest.rejected);
    assert_eq!(records, accepted + filtered + rejected.values().sum::<u64>());
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), manifest.accepted);

    let shown = home.tidemark.run_json(&["rejects", "trips", "--reason", "width", "--limit", "100000", "--json"]);
    let shown = shown.unwrap();
    let shown = shown["rejects"].as_array().unwrap();
    assert_eq!(shown.len() as u64, manifest.rejected["width"]);
    assert!(shown.iter().all(|reject| reject["reason"] == "width" && reject["bytes"].as_str().is_some()));
}

#[test]
fn ingesting_the_same_files_again_adds_nothing() {
    let trips = trips();
    let home = Home::with_trips();
    let first = ingest(&home, &trips.csv);
    let (records, accepted, filtered, rejected) = counts(&first);
    assert_eq!(records, accepted + filtered + rejected.values().sum::<u64>());
    let wanted = trips.manifest.as_ref().map_or(300_000, |manifest| manifest.records);
    assert_eq!(records, wanted);
    let rows = home.number("SELECT count(*) FROM batch.trips");
    assert_eq!(rows, accepted);

    let second = ingest(&home, &trips.csv);
    assert_eq!(counts(&second), (0, 0, 0, BTreeMap::new()));
    let files = second["files"].as_array().unwrap();
    assert_eq!(files.len(), first["files"].as_array().unwrap().len());
    assert!(files.iter().all(|file| file["outcome"]["kind"] == "already_there"), "{second:#}");
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), rows);
    assert_eq!(second["table_version"], first["table_version"]);
}

#[test]
fn parquet_is_small_and_a_month_is_a_small_part_of_it() {
    let trips = trips();
    let home = Home::with_trips();
    let report = ingest(&home, &trips.csv);
    let table = home.table();
    let parquet = bytes_below(&table) - bytes_below(&table.join("_delta_log"));
    assert_eq!(report["curated_bytes"].as_u64(), Some(parquet), "the report tells the bytes on disk");
    let share = parquet * 1_000 / trips.csv_bytes;
    println!("Parquet {parquet} bytes of {} bytes of CSV: {share} per mille", trips.csv_bytes);
    assert!(share <= 300, "Parquet is {share} per mille of the CSV");

    for month in ["'07'", "7"] {
        let sql = format!(
            "SELECT payment_type, count(*), sum(total_amount) FROM batch.trips \
             WHERE pickup_year = '2019' AND pickup_month = {month} GROUP BY payment_type"
        );
        let stats = home.tidemark.sql(&sql, &[]).unwrap()["stats"].clone();
        let (read, total) = (stats["bytes_read"].as_u64().unwrap(), stats["bytes_total"].as_u64().unwrap());
        println!("one month ({month}): {read} bytes read of {total}");
        assert!(read > 0 && total >= parquet, "{stats}");
        assert!(read * 100 <= total * 5, "{read} bytes of {total} for one month of 24 or more");
    }
}

/// The nine files of `folder`, each ending in a record that is cut off.
fn all_layouts_are_explained(folder: &Path) {
    let home = Home::with_trips();
    let mut args = vec!["ingest".to_owned(), "trips".to_owned()];
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    args.extend(
        files.filter(|path| path.extension().is_some_and(|end| end == "csv")).map(|path| path.display().to_string()),
    );
    args.extend(["--accept".to_owned(), "--json".to_owned()]);
    let report = home.tidemark.run_json(&args).unwrap();
    let files = report["files"].as_array().unwrap();
    assert_eq!(files.len(), 9);
    let mut accepted_in_all = 0;
    for file in files {
        let (records, accepted, filtered, rejected) = counts(file);
        let name = &file["name"];
        assert_eq!(records, accepted + filtered + rejected.values().sum::<u64>(), "{name}");
        assert_eq!(rejected.values().sum::<u64>(), 1, "{name} ends in one cut record: {file}");
        assert!(accepted > 0, "{name}");
        accepted_in_all += accepted;
    }
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), accepted_in_all);
}

/// Our own files have the headers of the real ones; those are read too where they are at hand.
#[test]
fn all_old_layouts_are_ingested_and_every_record_is_explained() {
    all_layouts_are_explained(&repository().join("shared/tests/fixtures/messy"));
    match real_trips() {
        Some(folder) => all_layouts_are_explained(&folder.join("messy")),
        None => println!("no real trips at hand (TIDEMARK_TRIPS_DIR)"),
    }
}
