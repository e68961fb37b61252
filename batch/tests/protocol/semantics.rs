//! Generations of a release with other semantics: read, and made anew, but never extended (DESIGN section 9).

use std::path::PathBuf;

use tidemark_batch::BatchError;
use tidemark_batch::report::{RejectQuery, quiet};
use tidemark_shared::dataset::{SEMANTICS, registry};
use tidemark_shared::error::{ErrorKind as _, Kind};

use crate::support::{Home, TRANSFORM};

/// Rewrites an object of the store as another release would have written it.
fn rewrite(home: &Home, key: &str, change: impl Fn(&str) -> String) {
    let path: PathBuf = home.path("store").join(key);
    let text = std::fs::read_to_string(&path).expect("an object of the store");
    let changed = change(&text);
    assert_ne!(text, changed, "{key} is of another form");
    std::fs::write(&path, changed).expect("an object of the store");
}

fn refused(error: &BatchError, semantics: u32) {
    assert!(matches!(error, BatchError::OtherSemantics { found, .. } if *found == semantics), "{error}");
    assert_eq!(error.kind(), Kind::Unsupported);
    let hint = error.hint().expect("a way on");
    assert!(hint.contains("`tidemark batch recompute events`"), "{hint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_of_other_semantics_is_read_and_made_anew_but_not_extended() {
    let ours = format!("\"semantics\":{SEMANTICS}");
    for other in [SEMANTICS - 1, SEMANTICS + 1] {
        let home = Home::new().await;
        let batch = home.batch();
        home.ingest(&batch, &["a.csv"]).await.expect("ingests");
        let before = home.published().await;
        let theirs = format!("\"semantics\":{other}");
        rewrite(&home, "curated/events/current/00000000.json", |text| text.replace(&ours, &theirs));

        refused(&home.ingest(&batch, &["b.csv"]).await.expect_err("it is theirs"), other);
        refused(&batch.run("events", &quiet()).await.expect_err("it is theirs"), other);
        let gone = ["a.csv".to_owned()];
        refused(&batch.withdraw("events", &gone, &quiet()).await.expect_err("it is theirs"), other);
        let status = batch.status("events").await.expect("reads");
        assert_eq!((status.ledger_end, status.behind), (1, 0), "something was entered");
        assert_eq!(home.published().await, before);
        assert!(!batch.rejects("events", &RejectQuery::default()).await.expect("reads").is_empty());

        batch.recompute("events", &quiet()).await.expect("makes one of ours");
        assert_eq!(home.published().await, before);
        home.ingest(&batch, &["b.csv"]).await.expect("it is ours");
        home.vacuum().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_other_semantics_is_not_extended_whatever_the_pointer_says() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let generation = home.batch().status("events").await.expect("reads").generation.expect("there is one");
    let log = format!("curated/events/{generation}/table/_delta_log/00000000000000000000.json");
    let ours = format!("\"tidemark.semantics\":\"{SEMANTICS}\"");
    rewrite(&home, &log, |text| text.replace(&ours, "\"tidemark.semantics\":\"99\""));
    refused(&home.ingest(&home.batch(), &["b.csv"]).await.expect_err("it is theirs"), 99);
    assert_eq!(home.batch().status("events").await.expect("reads").rows, 28);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recompute_applies_an_older_releases_definition_again() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    let before = home.published().await;
    let version = batch.status("events").await.expect("reads").active_definition.expect("there is one");
    rewrite(&home, "definitions/events/00000001.json", |text| {
        let old = text.replace(&format!("\"semantics\": {SEMANTICS}"), "\"semantics\": 0");
        old.replace(&version, "0ld")
    });
    rewrite(&home, "curated/events/current/00000000.json", |text| {
        text.replace(&format!("\"semantics\":{SEMANTICS}"), "\"semantics\":0").replace(&version, "0ld")
    });
    refused(&home.ingest(&batch, &["b.csv"]).await.expect_err("it is theirs"), 0);
    batch.recompute("events", &quiet()).await.expect("makes one of ours");
    assert_eq!(home.published().await, before);
    let latest = registry::latest(home.store(), "events").await.expect("reads").expect("there is one");
    assert_eq!((latest.n, latest.semantics, latest.version.to_string()), (2, SEMANTICS, version.clone()));
    let status = batch.status("events").await.expect("reads");
    assert_eq!((status.active_definition, status.pending_definition), (Some(version), None));
    home.ingest(&batch, &["b.csv"]).await.expect("it is ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_definition_made_that_is_no_longer_valid_is_made_anew_by_a_good_one() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    let before = home.published().await;
    rewrite(&home, "definitions/events/00000001.json", |text| {
        text.replace("SELECT id,", "SELECT event_instant(TIMESTAMP '2019-01-01', 'Nowhere') AS at, id,")
    });
    let error = home.ingest(&batch, &["b.csv"]).await.expect_err("it names no zone");
    assert_eq!(error.kind(), Kind::Invalid);
    let hint = error.hint().expect("a way on");
    assert!(hint.contains("tidemark dataset apply") && hint.contains("tidemark batch recompute events"), "{hint}");
    // Another text, for the version of the first would be the one that is there.
    home.apply(&TRANSFORM.replace("'skip'", "'ski' || 'p'")).await;
    batch.recompute("events", &quiet()).await.expect("makes one by the good one");
    assert_eq!(home.published().await, before);
    home.ingest(&batch, &["b.csv"]).await.expect("goes on");
}
