//! Objects of ours that are not what they must be, and what is left of unfinished writes.

use std::path::{Path, PathBuf};

use tidemark_batch::report::{RejectQuery, quiet};
use tidemark_batch::{BatchError, BatchSettings, GRACE_MAX, VacuumRequest};
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_testing::faulty::{Call, Fault, Rule};

use crate::support::Home;

/// All files of the store below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the store") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Overwrites the bytes in the middle of every object whose path has `part`.
fn damage(home: &Home, part: &str) {
    let all = files(&home.path("store/curated"));
    let of_part: Vec<_> = all.iter().filter(|path| path.to_string_lossy().contains(part)).collect();
    assert!(!of_part.is_empty(), "nothing with {part}");
    for path in of_part {
        let length = std::fs::metadata(path).expect("an object").len();
        std::fs::write(path, vec![7u8; usize::try_from(length).expect("a small file")]).expect("an object");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_named() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv", "b.csv"]).await.expect("ingests");
    damage(&home, "rejects/files/");
    let error = batch.rejects("events", &RejectQuery::default()).await.expect_err("the rejects are damaged");
    assert!(matches!(&error, BatchError::Object { key, .. } if key.contains("rejects/files/")), "{error}");
    assert_eq!(error.kind(), Kind::Corrupt);
    damage(&home, "kind=");
    let error = batch.withdraw("events", &["a.csv".to_owned()], &quiet()).await.expect_err("the rows are damaged");
    assert!(matches!(&error, BatchError::Object { key, .. } if key.contains("/table/kind=")), "{error}");
    assert_eq!(error.kind(), Kind::Corrupt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_that_are_gone_are_not_shown_as_none() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    let before = home.published().await;
    let objects = files(&home.path("store/curated"));
    let rejects = objects.iter().find(|path| path.to_string_lossy().contains("rejects/files/"));
    std::fs::remove_file(rejects.expect("the file's rejects")).expect("an object");
    let all = RejectQuery::default();
    for lost in [
        batch.rejects("events", &all).await.expect_err("they are gone"),
        batch.reject_reasons("events", &all).await.expect_err("they are gone"),
    ] {
        assert!(matches!(&lost, BatchError::RejectsLost { name, .. } if name.ends_with("a.csv")), "{lost}");
    }
    batch.recompute("events", &quiet()).await.expect("recomputes");
    assert_eq!(home.published().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_comes_back_as_its_hint_says() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv", "b.csv"]).await.expect("ingests");
    let before = home.published().await;
    damage(&home, "_delta_log/");
    let error = home.batch().recompute("events", &quiet()).await.expect_err("what answered can't be read");
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    let hint = error.hint().expect("a way on");
    assert!(hint.contains("`curated/events`") && hint.contains("`tidemark batch run events`"), "{hint}");
    std::fs::rename(home.path("store/curated/events"), home.path("aside")).expect("a writable folder");
    home.batch().run("events", &quiet()).await.expect("makes it anew");
    assert_eq!(home.published().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_log_is_told_as_one() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let batch = home.faulty(vec![Rule::new(Call::Put, "_delta_log/", 0, Fault::NoSpace)]);
    let error = home.ingest(&batch, &["b.csv"]).await.expect_err("the commit fails");
    assert_eq!(error.kind(), Kind::Exhausted, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("free some space")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_writes_are_reported_apart_wherever_they_were_for() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    let wanted = ["curated/events/current/00000009.json", "definitions/events/00000009.json"];
    for key in wanted {
        std::fs::write(home.path("store").join(format!("{key}#1")), "half").expect("the store's folder");
    }
    std::fs::create_dir_all(home.path("store/definitions/others")).expect("the store's folder");
    std::fs::write(home.path("store/definitions/others/00000009.json#1"), "half").expect("the store's folder");
    let request = VacuumRequest { force: true, ..VacuumRequest::default() };
    let mut report = batch.vacuum("events", &request).await.expect("vacuums");
    report.leftovers.sort();
    assert_eq!((report.leftovers.as_slice(), report.leftover_bytes), (&wanted.map(str::to_owned)[..], 8));
    assert_eq!((report.removed, report.removed_bytes), (Vec::new(), 0));
    let left = files(&home.path("store"));
    let left: Vec<_> = left.iter().filter(|path| path.to_string_lossy().ends_with("#1")).collect();
    assert_eq!(left, [&home.path("store/definitions/others/00000009.json#1")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grace_that_no_table_can_keep_is_refused() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let longer = BatchSettings { grace: GRACE_MAX * 2, ..BatchSettings::default() };
    let error = home.batch_with(longer).vacuum("events", &VacuumRequest::default()).await.expect_err("it is too long");
    assert!(matches!(&error, BatchError::BadRequest { .. }), "{error}");
    let generation = home.batch().status("events").await.expect("reads").generation.expect("there is one");
    let log = format!("store/curated/events/{generation}/table/_delta_log/00000000000000000000.json");
    let created = std::fs::read_to_string(home.path(&log)).expect("the first commit");
    assert!(created.contains("\"delta.deletedFileRetentionDuration\":\"interval 1 week\""), "{created}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_lost_its_last_entry_takes_nothing_in() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv", "b.csv"]).await.expect("ingests");
    let before = home.published().await;
    let mut ledger = files(&home.path("store/raw/events/files/ledger"));
    ledger.sort();
    std::fs::remove_file(ledger.last().expect("two entries")).expect("an object");
    // A new entry would take the lost one's number, below the coverage.
    let names = ["a.csv".to_owned()];
    let errors = [
        home.ingest(&batch, &["c.csv"]).await.expect_err("no ingest"),
        batch.withdraw("events", &names, &quiet()).await.map(drop).expect_err("no withdrawal"),
        batch.recompute("events", &quiet()).await.map(drop).expect_err("no recompute"),
        batch.status("events").await.map(drop).expect_err("status tells it"),
    ];
    for error in errors {
        assert!(error.to_string().contains("covers 2 ledger entries, and the ledger has 1"), "{error}");
        assert_eq!(error.kind(), Kind::Corrupt);
    }
    assert_eq!(home.published().await.rows, before.rows);
}
