//! Versions that are kept between statements.

use super::*;
use tidemark_testing::faulty::{Call, Faulty};

/// A reader of the fixture's store, and what it asks of it.
fn reader(fixture: &Fixture) -> (CuratedReader, Faulty) {
    let store = Faulty::new(Arc::clone(&fixture.objects), Vec::new());
    (CuratedReader::new(store.store()), store)
}

async fn open(reader: &CuratedReader) -> Arc<CuratedVersion> {
    reader.open("trips").await.expect("opens").expect("a generation is published")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_did_not_move_is_not_read_again() {
    let fixture = Fixture::with_trips().await;
    let (reader, store) = reader(&fixture);
    let first = open(&reader).await;
    let before = store.made().len();
    assert!(Arc::ptr_eq(&first, &open(&reader).await));
    let asked: Vec<Call> = store.made()[before..].iter().map(|(call, _)| *call).collect();
    assert_eq!(asked, [Call::List, Call::List], "the pointers and the log, and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_and_every_generation_is_seen_by_the_next_opening() {
    let fixture = Fixture::new();
    let (reader, _) = reader(&fixture);
    assert!(reader.open("trips").await.expect("opens").is_none());
    let (table, pointer) = (GENERATION, |generation| CurrentGeneration::new(generation, "d1", 1));
    fixture.append(vec![trips(0, Some("2019"), Some("01"))], &[("files", 1)]).await;
    publish(&fixture.store, "trips", 0, &pointer(table)).await.expect("publishes");
    let seen =
        |version: &Arc<CuratedVersion>| (version.generation.generation.clone(), version.table_version, version.rows());
    let first = open(&reader).await;
    assert_eq!(seen(&first), (table.to_owned(), 0, Some(4)));

    let committed = fixture.append(vec![trips(4, Some("2019"), Some("02"))], &[("files", 2)]).await;
    let second = open(&reader).await;
    assert_eq!(seen(&second), (table.to_owned(), 1, Some(8)));
    assert_ne!(first.coverage, second.coverage);

    // The commit right after the one that is kept can be gone by the time somebody looks.
    fixture.append(vec![trips(8, Some("2019"), Some("03"))], &[("files", 3)]).await;
    let newest = fixture.append(vec![trips(12, Some("2019"), Some("04"))], &[("files", 4)]).await;
    deltalake::checkpoints::create_checkpoint(&newest, None).await.expect("checkpoints");
    let log = layout::table("trips", table).join("_delta_log");
    assert_eq!(committed.version(), Some(1));
    for cleaned in 0..=2 {
        let commit = log.clone().join(format!("{cleaned:020}.json"));
        fixture.objects.delete(&commit).await.expect("the log is cleaned up");
    }
    assert_eq!(seen(&open(&reader).await), (table.to_owned(), 3, Some(16)));

    // A table version that is lower than the one kept, of a later generation.
    fixture.append_to("g2", vec![trips(0, Some("2019"), Some("01"))], &[("files", 4)]).await;
    assert_eq!(seen(&open(&reader).await).0, table, "nothing names it yet");
    publish(&fixture.store, "trips", 1, &pointer("g2")).await.expect("publishes");
    assert_eq!(seen(&open(&reader).await), ("g2".to_owned(), 0, Some(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_opening_does_not_displace_a_later_one() {
    let fixture = Fixture::with_trips().await;
    let (reader, _) = reader(&fixture);
    let slow = open(&reader).await;
    fixture.append(vec![trips(100, Some("2020"), Some("01"))], &[("files", 4)]).await;
    let later = open(&reader).await;
    reader.keep(0, &slow);
    assert!(Arc::ptr_eq(&later, &open(&reader).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_commit_that_lost_its_bytes_is_an_error() {
    let fixture = Fixture::with_trips().await;
    let (reader, _) = reader(&fixture);
    open(&reader).await;
    let log = layout::table("trips", GENERATION).join("_delta_log");
    fixture.objects.put(&log.join(format!("{:020}.json", 1)), "".into()).await.expect("puts");
    let error = reader.open("trips").await.expect_err("a hole in every answer");
    assert!(matches!(error, CuratedError::Table { .. }), "{error:?}");
}
