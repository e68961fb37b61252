//! Faults of the store at every write, and lost acknowledgements.

use std::sync::Arc;

use tidemark_batch::report::quiet;
use tidemark_testing::faulty::{Call, Fault, Rule};

use super::parts;
use super::support::{DOUBLED, Home, Published};

/// More writes than an ingest or a recompute of these files makes.
const WRITES_MAX: u64 = 200;
/// Fewer writes than an ingest makes of three files: of each its bytes, entry and rejects; data, commits and pointer.
const LEAST_WRITES: u64 = 10;

async fn undisturbed() -> Published {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv", "b.csv", "c.csv"]).await.expect("nothing fails");
    home.published().await
}

/// Lets the `n`-th write of an ingest fail, for every n, and finishes it by a second run. Returns how many runs failed, or may
/// have where not every write was tried.
async fn ingest_survives(fault: Fault) -> u64 {
    let wanted = undisturbed().await;
    let mut failures = 0;
    for n in parts::writes(fault) {
        assert!(n < WRITES_MAX, "more than {WRITES_MAX} writes");
        let home = Home::new().await;
        let (batch, store) = home.observed(vec![Rule::new(Call::Put, "", n, fault)]);
        let failed = home.ingest(&batch, &["a.csv", "b.csv", "c.csv"]).await.is_err();
        home.ingest(&home.batch(), &["a.csv", "b.csv", "c.csv"]).await.expect("nothing fails any more");
        assert_eq!(home.published().await, wanted, "write {n}, {fault:?}");
        home.vacuum().await;
        failures += u64::from(failed);
        if store.fired() == 0 {
            assert!(!failed, "it failed by itself");
            assert!(n > LEAST_WRITES, "only {n} writes");
            break;
        }
    }
    (failures + 1) * parts::EVERY as u64 - 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_an_ingest_survives_a_refused_write_anywhere() {
    assert!(ingest_survives(Fault::Fails).await > LEAST_WRITES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_an_ingest_survives_a_full_disk_anywhere() {
    assert!(ingest_survives(Fault::NoSpace).await > LEAST_WRITES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_h2_an_ingest_survives_a_lost_acknowledgement_anywhere() {
    ingest_survives(Fault::AckLost).await;
    ingest_survives(Fault::AckLostThenRetried).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_a_recompute_that_fails_anywhere_leaves_the_old_answer_or_the_new_one() {
    let files = ["a.csv", "b.csv", "c.csv"];
    let old = undisturbed().await;
    let wanted = {
        let home = Home::new().await;
        home.apply(DOUBLED).await;
        home.ingest(&home.batch(), &files).await.expect("nothing fails");
        home.published().await
    };
    assert_ne!(old.rows, wanted.rows);
    let mut failures = 0;
    for n in parts::writes(Fault::Fails) {
        assert!(n < WRITES_MAX, "more than {WRITES_MAX} writes");
        let home = Home::new().await;
        home.ingest(&home.batch(), &files).await.expect("nothing fails");
        home.apply(DOUBLED).await;
        let (batch, store) = home.observed(vec![Rule::new(Call::Put, "", n, Fault::Fails)]);
        let failed = batch.recompute("events", &quiet()).await.is_err();
        let between = home.published().await;
        assert!(between == old || between == wanted, "write {n}: a mixture answers");
        let report = home.batch().recompute("events", &quiet()).await.expect("nothing fails any more");
        assert!(report.counts.adds_up());
        assert_eq!(home.published().await, wanted, "write {n}");
        home.vacuum().await;
        if store.fired() == 0 {
            assert!(!failed, "it failed by itself");
            break;
        }
        failures += parts::EVERY * usize::from(failed);
    }
    assert!(failures > 3, "only {failures} writes failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_is_away_keeps_no_row_out_and_is_told_of() {
    let home = Home::new().await;
    let catalog = parts::catalog(&home.path("")).await;
    let batch = home.batch_with_catalog(Arc::new(catalog.clone()));
    let report = batch.ingest("events", &home.request(&["a.csv"]), &quiet()).await.expect("ingests");
    assert_eq!((report.catalog_error, report.committed), (None, true));
    catalog.close().await;
    let report = batch.ingest("events", &home.request(&["b.csv"]), &quiet()).await.expect("the rows are in");
    assert!(report.catalog_error.is_some_and(|error| error.contains("catalog")));
    // Of 40..70: 5 cut; 5 of the rest filtered.
    assert_eq!((report.counts.records, report.counts.accepted, report.committed), (30, 20, true));
    let report = batch.recompute("events", &quiet()).await.expect("switches");
    assert!(report.catalog_error.is_some());
    let report = batch.withdraw("events", &["b.csv".to_owned()], &quiet()).await.expect("the rows are out");
    assert!(report.catalog_error.is_some() && report.rows_removed == 20);
    let report = home.batch().run("events", &quiet()).await.expect("runs");
    assert!(!report.committed, "nothing was left to do");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_counts_what_it_took_in_beside() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let failing = home.faulty(vec![Rule::new(Call::Put, "_delta_log/00000000000000000002", 0, Fault::Fails)]);
    home.ingest(&failing, &["b.csv"]).await.expect_err("its commit fails");
    let report = home.batch().withdraw("events", &["a.csv".to_owned()], &quiet()).await.expect("takes it out");
    assert_eq!((report.other_counts.records, report.counts.records), (30, 30));
}
