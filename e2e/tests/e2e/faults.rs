//! What goes wrong, and what then: the exit codes and reports of the table in the README's faults.

use serde_json::Value;

use crate::support::{HEADER, Home, small_csv, trip_line};

fn outcome(report: &Value, at: usize) -> &Value {
    &report["files"][at]["outcome"]
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_one_reject_and_the_others_go_on() {
    let home = Home::with_trips();
    // a Parquet file's magic, and nothing that CSV could be
    let bad = home.file("bad.csv", b"PAR1\x00\x01\x02\xff\xfe\x00PAR1");
    let empty = home.file("empty.csv", b"");
    let good = home.file("good.csv", small_csv(10));
    let done = home.tidemark.run(&["ingest", "trips", &bad, &empty, &good, "--json"]).unwrap().expect_code(3).unwrap();
    let report = done.json().unwrap();
    assert_eq!(outcome(&report, 0)["bad_file"], true, "{report:#}");
    assert_eq!(outcome(&report, 1)["bad_file"], true, "{report:#}");
    assert_eq!(outcome(&report, 2)["bad_file"], false, "{report:#}");
    assert_eq!(report["counts"]["rejected"]["bad_file"], 2);
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 10);
}

#[test]
fn a_file_with_a_header_only_is_entered_with_no_record() {
    let home = Home::with_trips();
    let file = home.file("header.csv", format!("{HEADER}\n"));
    let report = home.tidemark.run_json(&["ingest", "trips", &file, "--json"]).unwrap();
    assert_eq!(outcome(&report, 0)["kind"], "added");
    assert_eq!(report["files"][0]["counts"]["records"], 0);
    assert_eq!(home.status()["ledger_end"], 1);
}

#[test]
fn an_unknown_dataset_and_a_missing_file_touch_nothing_and_say_what_to_do() {
    let home = Home::with_trips();
    let good = home.file("good.csv", small_csv(3));
    let unknown = home.tidemark.run(&["ingest", "tripz", &good]).unwrap().expect_code(2).unwrap();
    assert!(
        unknown.stderr.contains("tripz") && unknown.stderr.contains("hint: did you mean `trips`"),
        "{}",
        unknown.stderr
    );
    let missing = format!("{}/missing.csv", home.folder.path().display());
    let missing = home.tidemark.run(&["ingest", "trips", &good, &missing]).unwrap().expect_code(2).unwrap();
    assert!(
        missing.stderr.contains("missing.csv") && missing.stderr.contains("hint: give a file"),
        "{}",
        missing.stderr
    );
    assert_eq!(home.status()["ledger_end"], 0, "the good file beside the missing one was not entered");
}

#[test]
fn an_invalid_definition_is_refused_with_all_its_problems() {
    let home = Home::empty();
    let folder = home.folder.path().join("broken");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("dataset.toml"), "name = \"broken\"\ncolums = []\npartition_columns = [\"nowhere\"]\n")
        .unwrap();
    std::fs::write(folder.join("transform.sql"), "SELECT now() AS t FROM input").unwrap();
    let path = folder.to_string_lossy();
    for verb in ["check", "apply"] {
        let refused = home.tidemark.run(&["dataset", verb, &path]).unwrap().expect_code(2).unwrap();
        assert!(refused.stderr.contains("colums") && refused.stderr.contains("columns"), "{}", refused.stderr);
        assert!(refused.stderr.contains("dataset.toml:2"), "{}", refused.stderr);
    }
    home.tidemark.run(&["ingest", "broken", "x.csv"]).unwrap().expect_code(2).unwrap();
}

#[test]
fn strict_makes_any_reject_a_failure_of_part() {
    let home = Home::with_trips();
    let text = small_csv(200) + "1,2019-07-04 10:00:00\n" + &trip_line("11:00:00") + "\n";
    let file = home.file("one_bad.csv", text);
    let strict = home.tidemark.run(&["ingest", "trips", &file, "--strict", "--json"]).unwrap();
    let report = strict.expect_code(3).unwrap().json().unwrap();
    assert_eq!(report["counts"]["accepted"], 201);
    assert_eq!(report["counts"]["rejected"]["width"], 1);
}

#[test]
fn changed_content_is_refused_until_it_is_to_replace_the_file() {
    let home = Home::with_trips();
    let file = home.file("july.csv", small_csv(5));
    home.tidemark.run(&["ingest", "trips", &file]).unwrap().expect_code(0).unwrap();
    home.file("july.csv", small_csv(7));
    let refused = home.tidemark.run(&["ingest", "trips", &file, "--json"]).unwrap().expect_code(1).unwrap();
    assert_eq!(outcome(&refused.json().unwrap(), 0)["code"], "content_changed");
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 5);
    home.tidemark.run(&["ingest", "trips", &file, "--replace"]).unwrap().expect_code(0).unwrap();
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 7);
    home.tidemark.run(&["ingest", "trips", "--withdraw", "july.csv"]).unwrap().expect_code(0).unwrap();
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 0);
}

#[test]
fn known_content_under_a_new_name_needs_a_word() {
    let home = Home::with_trips();
    let one = home.file("one.csv", small_csv(4));
    let two = home.file("two.csv", small_csv(4));
    home.tidemark.run(&["ingest", "trips", &one]).unwrap().expect_code(0).unwrap();
    let refused = home.tidemark.run(&["ingest", "trips", &two, "--json"]).unwrap().expect_code(1).unwrap();
    assert_eq!(outcome(&refused.json().unwrap(), 0)["code"], "duplicate_content");
    home.tidemark.run(&["ingest", "trips", &two, "--allow-duplicate"]).unwrap().expect_code(0).unwrap();
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 8);
}

#[test]
fn a_held_file_holds_back_nothing_else_and_counts_once_it_is_accepted() {
    let home = Home::with_trips();
    let broken = "1,2019-07-04 10:00:00\n".repeat(5);
    let held = home.file("held.csv", small_csv(5) + &broken);
    let good = home.file("good.csv", small_csv(6));
    let first = home.tidemark.run(&["ingest", "trips", &held, &good, "--json"]).unwrap().expect_code(1).unwrap();
    let report = first.json().unwrap();
    assert_eq!(outcome(&report, 0)["kind"], "held", "{report:#}");
    assert_eq!(outcome(&report, 0)["breaches"][0]["rule"], "max_reject_ratio");
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 6);
    assert_eq!(home.status()["files_held"][0]["name"], "held.csv");
    home.tidemark.run(&["ingest", "trips", "held.csv", "--accept"]).unwrap().expect_code(0).unwrap();
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 11);
    home.tidemark.run(&["batch", "recompute", "trips"]).unwrap().expect_code(0).unwrap();
    assert_eq!(home.number("SELECT count(*) FROM batch.trips"), 11, "a recompute decides alike");
}
