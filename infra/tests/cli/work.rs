//! Commands that do something: drafts, definitions, files in and out.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use crate::support::{Home, SQL, TOML};

#[test]
fn a_drafted_definition_is_valid_and_is_never_overwritten() {
    let home = Home::new();
    home.write("day.csv", "Ride ID,fare\n1,2.5\n2,3.5\n");
    let ended = home.run(&["dataset", "init", "taxi", "day.csv"]).expect(0);
    assert!(ended.out.contains("tidemark dataset apply datasets/taxi"), "{ended:?}");
    home.run(&["dataset", "check", "datasets/taxi"]).expect(0);
    let before = fs::read_to_string(home.path("datasets/taxi/dataset.toml")).unwrap();
    let ended = home.run(&["dataset", "init", "taxi", "day.csv"]).expect(2);
    assert!(ended.err.contains("exists already"), "{ended:?}");
    assert_eq!(fs::read_to_string(home.path("datasets/taxi/dataset.toml")).unwrap(), before);
    for (name, file) in [("../taxi", "day.csv"), ("Taxi", "day.csv"), ("other", "missing.csv"), ("other", ".")] {
        home.run(&["dataset", "init", name, file]).expect(2);
    }
    assert_eq!(home.names(), ["datasets", "day.csv"]);
}

#[test]
fn a_definition_is_applied_once_listed_and_shown() {
    let home = Home::with_rides();
    let again = home.run(&["dataset", "apply", "rides", "--json"]).expect(0).json();
    assert_eq!((&again["number"], &again["changed"]), (&1.into(), &false.into()));
    let version = again["version"].as_str().unwrap().to_owned();
    home.define(TOML, &SQL.replace("fare >= 0", "fare > 0"));
    let ended = home.run(&["dataset", "apply", "rides"]).expect(0);
    assert!(ended.out.contains("definition 2") && ended.out.contains("nothing to recompute"), "{ended:?}");
    let listed = home.run(&["dataset", "list", "--json"]).expect(0).json();
    assert_eq!(listed["datasets"][0]["dataset"], "rides");
    assert_ne!(listed["datasets"][0]["version"], version);
    let shown = home.run(&["dataset", "show", "rides", "--version", &version]).expect(0).out;
    assert!(shown.contains("fare >= 0") && shown.contains("-- dataset.toml --"), "{shown}");
    let ended = home.run(&["dataset", "show", "rides", "--version", "beef"]).expect(2);
    assert!(ended.err.contains("has no definition `beef`") && ended.err.contains(&version), "{ended:?}");
}

#[test]
fn every_record_of_an_ingest_is_accounted_for() {
    let home = Home::with_rides();
    home.write("mon.csv", "id,fare,day\n1,2,mon\n2,-1,mon\n,3,mon\n4,4,tue\n");
    let ended = home.run(&["ingest", "rides", "mon.csv"]).expect(0);
    assert!(ended.out.contains("4 records = 2 accepted + 1 filtered + 1 rejected: adds up\n"), "{ended:?}");
    let again = home.run(&["ingest", "rides", "mon.csv", "--json"]).expect(0).json();
    assert_eq!(again["files"][0]["outcome"]["kind"], "already_there");
    assert_eq!(again["counts"]["records"], 0);
    let rejects = home.run(&["rejects", "rides", "--json"]).expect(0).json();
    assert_eq!(rejects["rejects"].as_array().unwrap().len(), 1);
    assert_eq!(rejects["rejects"][0]["bytes"], ",3,mon");
    let ended = home.run(&["rejects", "rides", "--reason", "mising"]).expect(0);
    let told = "no reject for `mising`; there are: missing (1); did you mean `missing`?\n";
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", told));
    let none = home.run(&["rejects", "rides", "--reason", "width", "--json"]).expect(0).json();
    assert_eq!((&none["rejects"], &none["reasons"]["missing"]), (&serde_json::json!([]), &1.into()));
    let status = home.run(&["status", "rides", "--json"]).expect(0).json();
    assert_eq!(status["datasets"][0]["rows"], 2);
    let rows = home.run(&["sql", "SELECT id FROM rides ORDER BY id", "--format", "csv"]).expect(0).out;
    assert_eq!(rows, "id\n1\n4\n");
}

#[test]
fn rejects_say_where_those_of_the_stream_are_before_a_batch_run() {
    let home = Home::with_rides();
    let ended = home.run(&["rejects", "rides"]).expect(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", "no reject\n"));
    home.define(&format!("{TOML}\n[stream]\nformat = \"csv\"\n"), SQL);
    home.run(&["dataset", "apply", "rides"]).expect(0);
    let ended = home.run(&["rejects", "rides"]).expect(0);
    let (none, hint) = ended.err.split_once('\n').unwrap();
    assert_eq!((ended.out.as_str(), none), ("", "no reject"));
    assert!(hint.contains("since the last batch run") && hint.contains("`tidemark status`"), "{ended:?}");
    home.write("mon.csv", "id,fare,day\n1,2,mon\n,3,mon\n");
    home.run(&["ingest", "rides", "mon.csv"]).expect(0);
    let ended = home.run(&["rejects", "rides", "--file", "mon.csv"]).expect(0);
    assert_eq!(ended.err, "", "a file's rejects are all there");
}

#[test]
fn exit_codes_tell_a_held_a_bad_and_a_refused_file() {
    let home = Home::with_rides();
    home.write("good.csv", "id,fare,day\n1,2,mon\n2,x,mon\n");
    home.write("held.csv", "id,fare,day\n1,2,mon\n,3,mon\n,4,mon\n");
    home.write("bad.csv.gz", "this is no gzip");
    home.run(&["ingest", "rides", "good.csv", "--strict"]).expect(3);
    let ended = home.run(&["ingest", "rides", "held.csv"]).expect(1);
    assert!(ended.out.contains("held.csv is held, its rows do not count:\n  max_reject_ratio: "), "{ended:?}");
    assert!(ended.out.contains("tidemark ingest rides --accept held.csv\n"), "{ended:?}");
    assert!(ended.out.contains("\n3 records = 0 accepted + 0 filtered + 0 rejected + 3 held: adds up\n"), "{ended:?}");
    home.run(&["ingest", "rides", "--accept", "held.csv"]).expect(0);
    let ended = home.run(&["ingest", "rides", "--withdraw", "held.csv"]).expect(0);
    assert!(ended.out.contains("  withdrawn\n") && ended.out.contains("1 row taken out\n"), "{ended:?}");
    // typed again, as after a crash: it is done already; a name that never was is wrong usage
    let ended = home.run(&["ingest", "rides", "--withdraw", "held.csv"]).expect(0);
    assert!(ended.out.contains("  already withdrawn\n"), "{ended:?}");
    home.run(&["ingest", "rides", "--withdraw", "never.csv"]).expect(2);
    home.write("good.csv", "id,fare,day\n1,3,mon\n");
    let ended = home.run(&["ingest", "rides", "good.csv"]).expect(1);
    assert!(ended.out.contains("good.csv is refused: ") && ended.out.contains("--replace"), "{ended:?}");
    home.run(&["ingest", "rides", "good.csv", "--replace"]).expect(0);
    home.run(&["ingest", "rides", "missing.csv"]).expect(2);
    home.run(&["ingest", "rides", "bad.csv.gz"]).expect(3);
    home.run(&["batch", "recompute", "rides"]).expect(0);
    home.run(&["batch", "run", "rides"]).expect(0);
    let ended = home.run(&["batch", "vacuum", "rides", "--dry-run", "--grace", "48h"]).expect(0);
    let age = "old enough is 1d (--older-than), and 2d for what queries may still read (--grace)\n";
    assert!(ended.out.contains(age) && ended.out.contains(" spared as too young"), "{ended:?}");
    let report = home.run(&["batch", "vacuum", "rides", "--dry-run", "--json"]).expect(0).json();
    let spared = report["spared"].as_array().unwrap();
    assert_eq!(spared.len() as u64, report["too_young"].as_u64().unwrap());
    assert!(spared.iter().all(|key| key.as_str().unwrap().starts_with("curated/rides/")), "{report}");
    assert_eq!((&report["older_than_ms"], &report["kept_ms"]), (&86_400_000.into(), &86_400_000.into()));
}

#[test]
fn files_are_listed_with_how_they_stand_and_what_became_of_their_records() {
    let home = Home::with_rides();
    let none = home.run(&["files", "rides"]).expect(0);
    assert_eq!((none.out.as_str(), none.err.as_str()), ("", "no file\n"));
    home.write("good.csv", "id,fare,day\n1,2,mon\n2,x,mon\n");
    home.write("held.csv", "id,fare,day\n1,2,mon\n,3,mon\n,4,mon\n");
    home.run(&["ingest", "rides", "good.csv"]).expect(0);
    home.run(&["ingest", "rides", "held.csv"]).expect(1);
    home.write("good.csv", "id,fare,day\n1,3,mon\n");
    home.run(&["ingest", "rides", "good.csv", "--replace"]).expect(0);
    let listed = home.run(&["files", "rides"]).expect(0).out;
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["number", "standing", "bytes", "records", "accepted", "filtered", "rejected", "name"]);
    assert_eq!(lines[1], ["0", "replaced", "28", "B", "-", "-", "-", "-", "good.csv"]);
    assert_eq!(lines[2], ["1", "held", "34", "B", "3", "1", "0", "2", "held.csv"]);
    assert_eq!(lines[3], ["2", "included", "20", "B", "1", "1", "0", "0", "good.csv"]);
    let held = home.run(&["files", "rides", "--standing", "held", "--json"]).expect(0).json();
    let files = held["files"].as_array().unwrap();
    assert_eq!(
        (files.len(), &files[0]["name"], &files[0]["counts"]["rejected"]["missing"]),
        (1, &"held.csv".into(), &2.into())
    );
    home.run(&["files", "tides"]).expect(2);
}

#[test]
fn what_is_copied_counts_once_in_the_progress() {
    let home = Home::with_rides();
    let text = "id,fare,day\n1,2,mon\n";
    home.write("mon.csv", text);
    let ended = home.run(&["ingest", "rides", "mon.csv"]).expect(0);
    let told = format!("hash: {0} B\ningest: {0} B\n", text.len());
    assert!(ended.err.starts_with(&told), "{ended:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = Home::with_rides();
    let mut child =
        home.command(&["dataset", "show", "rides"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Closed before the first byte: whatever the command prints finds no reader.
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn the_failpoints_are_listed_one_a_line() {
    let listed = Home::new().run(&["debug", "failpoints"]).expect(0).out;
    assert!(listed.lines().any(|line| line == "ledger.after_put"), "{listed}");
}

#[test]
fn a_broken_dataset_hides_no_other_in_status() {
    let home = Home::with_rides();
    home.write("mon.csv", "id,fare,day\n1,2,mon\n");
    home.run(&["ingest", "rides", "mon.csv"]).expect(0);
    home.write("zones/dataset.toml", &TOML.replace("\"rides\"", "\"zones\""));
    home.write("zones/transform.sql", SQL);
    home.run(&["dataset", "apply", "zones"]).expect(0);
    fs::remove_dir_all(home.path("tidemark-data/store/raw/rides/files/ledger")).unwrap();
    let ended = home.run(&["status"]).expect(1);
    assert!(ended.out.contains("zones\n") && ended.out.contains("the ledger has 0"), "{ended:?}");
    let document = home.run(&["status", "--json"]).expect(1).json();
    assert_eq!(document["datasets"][0]["dataset"], "zones");
    assert_eq!(
        (&document["failed"][0]["dataset"], &document["failed"][0]["error"]["code"]),
        (&"rides".into(), &"corrupt".into())
    );
    home.run(&["status", "zones"]).expect(0);
}

#[test]
fn what_is_applied_and_empty_is_not_unknown() {
    let home = Home::with_rides();
    for name in ["rides", "batch.rides"] {
        let ended = home.run(&["sql", &format!("SELECT * FROM {name}")]).expect(2);
        assert!(ended.err.contains("dataset `rides` is applied, and has no table yet"), "{ended:?}");
        assert!(ended.err.contains("hint: `tidemark ingest rides PATH`"), "{ended:?}");
    }
}

#[test]
fn what_other_tools_leave_in_a_folder_is_no_file_of_the_dataset() {
    let home = Home::with_rides();
    home.write("week/mon.csv", "id,fare,day\n1,2,mon\n");
    for name in ["week/_SUCCESS", "week/.mon.csv.crc", "week/_delta_log/0.json"] {
        home.write(name, "");
    }
    let report = home.run(&["ingest", "rides", "week", "--json"]).expect(0).json();
    let names: Vec<&str> =
        report["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mon.csv"]);
}

#[test]
fn a_withdrawn_file_that_comes_again_is_said_to_be_one() {
    let home = Home::with_rides();
    home.write("mon.csv", "id,fare,day\n1,2,mon\n");
    home.run(&["ingest", "rides", "mon.csv"]).expect(0);
    home.run(&["ingest", "rides", "--withdraw", "mon.csv"]).expect(0);
    let ended = home.run(&["ingest", "rides", "mon.csv"]).expect(0);
    assert!(ended.out.contains("mon.csv: it was withdrawn before, as file 0; now it counts again"), "{ended:?}");
}

#[test]
fn a_definition_that_is_active_already_needs_no_recompute() {
    let home = Home::with_rides();
    home.write("mon.csv", "id,fare,day\n1,2,mon\n");
    home.run(&["ingest", "rides", "mon.csv"]).expect(0);
    home.define(TOML, "SELECT id, fare * 2 AS fare, day FROM input\n");
    let ended = home.run(&["dataset", "apply", "rides"]).expect(0);
    assert!(ended.out.contains("until: tidemark batch recompute rides"), "{ended:?}");
    home.define(&TOML.replace("Rides of a day", "Rides"), "SELECT id, fare * 2 AS fare, day FROM input\n");
    let ended = home.run(&["dataset", "apply", "rides"]).expect(0);
    assert!(ended.out.contains("until: tidemark batch recompute rides"), "other rows wait still: {ended:?}");
    home.define(TOML, SQL);
    let ended = home.run(&["dataset", "apply", "rides"]).expect(0);
    assert!(ended.out.contains("nothing to recompute"), "{ended:?}");
    let status = home.run(&["status", "rides", "--json"]).expect(0).json();
    let location = status["datasets"][0]["table_location"].as_str().unwrap().strip_prefix("file:").unwrap().to_owned();
    assert!(std::path::Path::new(&location).join("_delta_log").is_dir(), "{location}");
}
