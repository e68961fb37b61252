//! Bytes of the raw zone that are lost, and how a dataset gets over it.

use std::path::PathBuf;
use std::sync::Arc;

use tidemark_batch::report::{FileOutcome, Progress, RejectQuery, quiet};
use tidemark_batch::{BatchError, BatchSettings, IngestRequest};
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_testing::faulty::{Call, Fault, Rule};

use crate::support::{DOUBLED, Home, Published};

/// The object with the bytes of the file `name`.
fn object(home: &Home, name: &str) -> PathBuf {
    let mut folders = vec![home.path("store/raw/events/files/data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the store") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(name) {
                return path;
            }
        }
    }
    panic!("the raw zone has no {name}");
}

/// One entry of the ledger in a commit.
fn small_pieces() -> BatchSettings {
    BatchSettings { threads: 2, commit_bytes: 1, ..BatchSettings::default() }
}

async fn doubled(files: &[&str]) -> Published {
    let home = Home::new().await;
    home.apply(DOUBLED).await;
    home.ingest(&home.batch(), files).await.expect("ingests");
    home.published().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_bytes_are_named_and_put_back_by_the_same_file() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv", "b.csv"]).await.expect("ingests");
    home.apply(DOUBLED).await;
    let (a, bytes) = (object(&home, "a.csv"), std::fs::read(home.path("a.csv")).expect("a file"));
    std::fs::copy(home.path("a.csv"), home.path("z.csv")).expect("a writable folder");
    for (given, damage) in [("a.csv", None), ("z.csv", None), ("a.csv", Some(&bytes[..20]))] {
        match damage {
            None => std::fs::remove_file(&a).expect("the object"),
            Some(rest) => std::fs::write(&a, rest).expect("the object"),
        }
        let error = batch.recompute("events", &quiet()).await.expect_err("the bytes are needed");
        let BatchError::RawLost { number: 0, name, location, .. } = &error else { panic!("{error}") };
        assert!(a.ends_with(location) && name == "a.csv", "{error}");
        assert_eq!(error.kind(), Kind::Corrupt);
        let hint = error.hint().expect("a way on");
        assert!(hint.contains("tidemark ingest events PATH") && hint.contains("--withdraw 'a.csv'"), "{hint}");
        let report = batch.ingest("events", &home.request(&[given]), &quiet()).await.expect("puts them back");
        let file = &report.files[0];
        assert_eq!((&file.outcome, file.number), (&FileOutcome::AlreadyThere { held: false }, Some(0)));
        assert_eq!(file.notes, ["the lost bytes of file 0 were put back"]);
        assert_eq!(std::fs::read(&a).expect("the object"), bytes);
    }
    batch.recompute("events", &quiet()).await.expect("all bytes are there");
    assert_eq!(home.published().await, doubled(&["a.csv", "b.csv"]).await);
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_changed_in_the_raw_zone_are_not_published() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    let before = home.published().await;
    let a = object(&home, "a.csv");
    let mut bytes = std::fs::read(&a).expect("the object");
    *bytes.iter_mut().rfind(|byte| **byte == b'0').expect("a digit") = b'9';
    std::fs::write(&a, bytes).expect("the object");
    let error = batch.recompute("events", &quiet()).await.expect_err("other bytes than were taken in");
    assert!(matches!(&error, BatchError::RawLost { number: 0, what, .. } if what.contains("SHA-256")), "{error}");
    assert_eq!(home.published().await, before);
    let known = batch.ingest("events", &home.request(&["a.csv"]), &quiet()).await.expect("known");
    assert_eq!(known.files[0].notes, [""; 0], "what has the length of the file is not read");
    let verifying = IngestRequest { verify: true, ..home.request(&["a.csv"]) };
    let report = batch.ingest("events", &verifying, &quiet()).await.expect("puts them back");
    assert_eq!(report.files[0].notes, ["the lost bytes of file 0 were put back"]);
    batch.recompute("events", &quiet()).await.expect("the bytes are right");
    assert_eq!(home.published().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_is_not_taken_in_by_bytes_that_changed() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    let a = object(&home, "a.csv");
    let mut bytes = std::fs::read(&a).expect("the object");
    *bytes.iter_mut().rfind(|byte| **byte == b'0').expect("a digit") = b'9';
    std::fs::write(&a, bytes).expect("the object");
    std::fs::copy(home.path("a.csv"), home.path("z.csv")).expect("a writable folder");
    let twice = IngestRequest { allow_duplicate: true, ..home.request(&["z.csv"]) };
    batch.ingest("events", &twice, &quiet()).await.expect("ingests");
    assert_eq!(std::fs::read(&a).expect("the object"), std::fs::read(home.path("z.csv")).expect("a file"));
    batch.recompute("events", &quiet()).await.expect("the bytes are right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_file_above_the_coverage_is_given_up_by_its_withdrawal() {
    let home = Home::new().await;
    let failing = home.faulty(vec![Rule::new(Call::Put, "_delta_log/00000000000000000001", 0, Fault::Fails)]);
    home.ingest(&failing, &["a.csv", "b.csv"]).await.expect_err("its commit fails");
    std::fs::remove_file(object(&home, "a.csv")).expect("the object");
    let batch = home.batch_with(small_pieces());
    let error = batch.run("events", &quiet()).await.expect_err("the bytes are needed");
    assert!(matches!(error, BatchError::RawLost { number: 0, .. }), "{error}");
    batch.withdraw("events", &["a.csv".to_owned()], &quiet()).await.expect("goes without the bytes");
    let status = batch.status("events").await.expect("reads");
    // Of 40..70: 5 cut; 5 of the rest filtered.
    assert_eq!((status.behind, status.files_included, status.rows), (0, 1, 20));
    // A recompute goes over the same stretch of the ledger.
    batch.recompute("events", &quiet()).await.expect("needs no withdrawn file");
    assert_eq!(batch.status("events").await.expect("reads").rows, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recompute_carries_held_files_over_and_needs_none_of_their_bytes() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    std::fs::write(home.path("d.csv"), "id,kind,cents\n1\n2,x,3\n4\n").expect("a writable folder");
    batch.ingest("events", &home.request(&["d.csv"]), &quiet()).await.expect("reports");
    let held = RejectQuery { held: true, file: Some("d.csv".to_owned()), ..RejectQuery::default() };
    let before = batch.rejects("events", &held).await.expect("reads");
    assert_eq!(before.len(), 2);
    home.apply(DOUBLED).await;
    batch.recompute("events", &quiet()).await.expect("recomputes");
    assert_eq!(batch.rejects("events", &held).await.expect("reads"), before);
    let status = batch.status("events").await.expect("reads");
    assert_eq!((status.files_held.len(), status.behind), (1, 0), "the recorded verdict stays");

    std::fs::remove_file(object(&home, "d.csv")).expect("the object");
    batch.recompute("events", &quiet()).await.expect("no row is missing");
    home.vacuum().await;
}

/// Writes to a file when the phase `ingest` begins: after it was hashed, before it is copied.
struct Writes(PathBuf, &'static [u8]);

impl Progress for Writes {
    fn phase(&self, name: &'static str, _total_bytes: Option<u64>) {
        if name == "ingest" {
            std::fs::write(&self.0, self.1).expect("a writable folder");
        }
    }
    fn advance(&self, _bytes: u64) {}
    fn remark(&self, _line: &str) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_under_the_ingest_is_never_entered() {
    for text in ["id,kind,cents\n1,x,2\n", "", "id,kind,cents\n"] {
        let home = Home::new().await;
        let progress: Arc<dyn Progress> = Arc::new(Writes(home.path("a.csv"), text.as_bytes()));
        let error = home.batch().ingest("events", &home.request(&["a.csv"]), &progress).await.expect_err("it changed");
        assert!(matches!(error, BatchError::SourceChanged { .. }), "{error}");
        let status = home.batch().status("events").await.expect("reads");
        assert_eq!((status.ledger_end, status.rows), (0, 0));
        home.ingest(&home.batch(), &["a.csv"]).await.expect("it is at rest now");
        home.vacuum().await;
    }
}
