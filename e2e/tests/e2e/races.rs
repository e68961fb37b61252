//! Commands at once: four ingests and a recompute, and two ingests of the same files.

use std::process::Stdio;

use tidemark_e2e::chaos::{ingest_args, orphans, snapshot, trips, vacuum};

use crate::support::Home;

/// The CSV files of a folder, sorted.
fn files(csv: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(csv).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn four_ingests_and_a_recompute_at_once_lose_and_double_nothing() {
    let input = tempfile::tempdir().unwrap();
    let csv = trips(input.path()).unwrap();
    let calm = Home::with_trips();
    calm.tidemark.run(&ingest_args(&csv)).unwrap().expect_code(0).unwrap();
    let wanted = snapshot(&calm.tidemark).unwrap();

    let home = Home::with_trips();
    let files = files(&csv);
    let (first, rest) = files.split_at(2);
    for file in first {
        home.tidemark.run(&ingest_args(file)).unwrap().expect_code(0).unwrap();
    }
    let mut commands: Vec<Vec<String>> = rest.iter().map(|file| ingest_args(file)).collect();
    assert_eq!(commands.len(), 4);
    commands.push(["batch", "recompute", "trips"].map(str::to_owned).to_vec());
    let children: Vec<_> = commands
        .iter()
        .map(|args| home.tidemark.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for (child, args) in children.into_iter().zip(&commands) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let found = snapshot(&home.tidemark).unwrap();
    assert_eq!(found.row_count(), wanted.row_count());
    assert_eq!(wanted.compare_any_order(&found), Ok(()));
    vacuum(&home.tidemark).unwrap();
    assert_eq!(orphans(&home.tidemark, true).unwrap(), Vec::<String>::new());
    assert_eq!(found.compare(&snapshot(&home.tidemark).unwrap()), Ok(()), "vacuum takes no row");
}

#[test]
fn two_ingests_of_the_same_files_enter_each_once() {
    let input = tempfile::tempdir().unwrap();
    let csv = trips(input.path()).unwrap();
    let home = Home::with_trips();
    let start = || {
        let mut command = home.tidemark.command(&ingest_args(&csv));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = [start(), start()];
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(home.status()["files_included"], 6);
    let doubles = "SELECT count(*) FROM (SELECT 1 FROM batch.trips GROUP BY _source, _partition, _offset \
                   HAVING count(*) > 1)";
    assert_eq!(home.number(doubles), 0);
}
