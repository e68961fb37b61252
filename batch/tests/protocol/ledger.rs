//! Every entry kind of the ledger, in the table and in a recompute.

use std::sync::{Arc, Mutex};

use tidemark_batch::report::{FileOutcome, Progress, quiet};

use super::support::Home;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_a_recompute_replays_every_decision() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv", "b.csv", "c.csv"]).await.expect("ingests");
    let all = home.published().await;

    let report = batch.withdraw("events", &["b.csv".to_owned()], &quiet()).await.expect("withdraws");
    assert!(report.rows_removed > 0);
    let again = batch.withdraw("events", &["b.csv".to_owned()], &quiet()).await.expect("is done already");
    assert_eq!((again.rows_removed, &again.files[0].outcome), (0, &FileOutcome::AlreadyWithdrawn));
    let without = home.published().await;
    assert_ne!(without, all);
    assert!(without.rejects.iter().all(|(file, _, _)| file != "b.csv"));

    home.file("a.csv", 200..210);
    let mut request = home.request(&["a.csv"]);
    let refused = batch.ingest("events", &request, &quiet()).await.expect("reports");
    assert!(matches!(&refused.files[0].outcome, FileOutcome::Refused { code, .. } if code == "content_changed"));
    assert_eq!(home.published().await.rows, without.rows, "a refused file changes nothing");
    request.replace = true;
    batch.ingest("events", &request, &quiet()).await.expect("replaces");

    // A file whose records are all cut is held; accepted, it counts.
    std::fs::write(home.path("d.csv"), "id,kind,cents\n1\n2,x,3\n4\n").expect("a writable folder");
    let held = batch.ingest("events", &home.request(&["d.csv"]), &quiet()).await.expect("reports");
    assert!(matches!(held.files[0].outcome, FileOutcome::Held { .. }), "{:?}", held.files[0]);
    let before = home.published().await;
    assert!(!before.rows.contains("\n| 2 "), "a held file's row shows");
    let mut accept = home.request(&["d.csv"]);
    accept.accept = true;
    batch.ingest("events", &accept, &quiet()).await.expect("accepts");
    home.ingest(&batch, &["b.csv"]).await.expect("what was withdrawn may come back");

    let now = home.published().await;
    assert_eq!(now.rows.matches("| files ").count(), now.rows.lines().count() - 4, "every row names its source");
    let report = batch.recompute("events", &quiet()).await.expect("recomputes");
    assert!(report.counts.adds_up());
    assert_eq!(home.published().await, now);
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_counts_add_up_and_rejects_keep_their_bytes() {
    let home = Home::new().await;
    let batch = home.batch();
    let report = batch.ingest("events", &home.request(&["a.csv"]), &quiet()).await.expect("ingests");
    let counts = &report.counts;
    // Of 0..40: every 7th is cut (0, 7, …, 35), every 5th of the rest is filtered.
    assert_eq!((counts.records, counts.rejected_total(), counts.filtered), (40, 6, 6));
    assert!(counts.adds_up());
    let text = std::fs::read(home.path("a.csv")).expect("written before");
    for reject in batch.rejects("events", &tidemark_batch::report::RejectQuery::default()).await.expect("reads") {
        let at = usize::try_from(reject.offset).expect("a small file");
        assert_eq!(&text[at..at + reject.bytes.len()], reject.bytes, "{reject:?}");
        assert_eq!(text[at + reject.bytes.len()], b'\n');
    }
}

/// Remembers the phases of a run.
#[derive(Default)]
struct Phases(Mutex<Vec<&'static str>>);

impl Progress for Phases {
    fn phase(&self, name: &'static str, _total_bytes: Option<u64>) {
        self.0.lock().expect("no holder panics").push(name);
    }
    fn advance(&self, _bytes: u64) {}
    fn remark(&self, _line: &str) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_that_is_accepted_at_once_is_decoded_once() {
    let home = Home::new().await;
    let batch = home.batch();
    std::fs::write(home.path("d.csv"), "id,kind,cents\n1\n2,x,3\n4\n").expect("a writable folder");
    let mut request = home.request(&["d.csv", "a.csv"]);
    request.accept = true;
    let phases = Arc::new(Phases::default());
    let progress: Arc<dyn Progress> = phases.clone();
    let report = batch.ingest("events", &request, &progress).await.expect("ingests");
    assert_eq!(report.files[0].outcome, FileOutcome::Accepted);
    // Of 0..40: 6 cut; 6 of the rest filtered.
    assert_eq!((report.counts.records, report.counts.accepted, report.counts.rejected_total()), (43, 29, 8));
    assert_eq!(*phases.0.lock().expect("no holder panics"), ["hash", "ingest"], "a file was read twice");
    let status = batch.status("events").await.expect("reads");
    assert_eq!((status.rows, status.ledger_end, status.behind, status.files_held.len()), (29, 3, 0, 0));
    let at_once = home.published().await;
    batch.recompute("events", &quiet()).await.expect("recomputes");
    assert_eq!(home.published().await, at_once);
    home.vacuum().await;
}
