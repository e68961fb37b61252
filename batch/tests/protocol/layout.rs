//! Compaction and packing: other files, other objects, the same rows and records, whoever else is at work.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tidemark_batch::report::quiet;
use tidemark_batch::{Batch, BatchSettings};
use tidemark_shared::log::OffsetRecord;
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::{Archive, PutSegment, Segment};
use tidemark_testing::faulty::{Call, Fault, Rule};

use super::parts;
use super::streams::{Stream, apply, vacuum};
use super::support::{Home, TRANSFORM};

/// A table of many small data files: a commit for every segment and file.
async fn scattered() -> (Home, Stream) {
    let home = Home::new().await;
    apply(&home, TRANSFORM, true).await;
    let stream = Stream::new(&home, 2).await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    for n in 0..6 {
        stream.put(0, n * 10..n * 10 + 10).await;
        stream.put(1, n * 7..n * 7 + 7).await;
        home.batch().run("events", &quiet()).await.expect("runs");
    }
    (home, stream)
}

async fn files(home: &Home) -> u64 {
    home.batch().status("events").await.expect("reads").data_files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_a_compaction_changes_files_and_nothing_else() {
    let (home, _) = scattered().await;
    let (before, many) = (home.published().await, files(&home).await);
    let coverage = home.batch().status("events").await.expect("reads").coverage;
    let report = home.batch().compact("events").await.expect("compacts");
    assert!(report.files_merged > report.files_written && !report.gave_way, "{report:?}");
    assert_eq!(many - files(&home).await, report.files_merged - report.files_written);
    assert_eq!(home.published().await, before);
    assert_eq!(home.batch().status("events").await.expect("reads").coverage, coverage);
    let again = home.batch().compact("events").await.expect("compacts");
    assert_eq!((again.files_merged, again.table_version), (0, report.table_version), "nothing is left to do");
    home.vacuum().await;
    assert_eq!(home.published().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_a_compaction_survives_a_fault_at_any_write() {
    for fault in [Fault::Fails, Fault::AckLost, Fault::AckLostThenRetried] {
        for n in parts::writes(fault) {
            let (home, _) = scattered().await;
            let before = home.published().await;
            let (batch, store) = home.observed(vec![Rule::new(Call::Put, "", n, fault)]);
            let failed = batch.compact("events").await.is_err();
            assert_eq!(home.published().await, before, "write {n}, {fault:?}");
            home.batch().compact("events").await.expect("nothing fails any more");
            assert_eq!(home.published().await, before, "write {n}, {fault:?}");
            home.vacuum().await;
            if store.fired() == 0 {
                assert!(!failed && n > 1, "only {n} writes");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_data_files_of_a_compaction_that_a_vacuum_took_away_are_never_committed() {
    let (home, _) = scattered().await;
    let before = home.published().await;
    let version = home.batch().status("events").await.expect("reads").table_version.expect("a table");
    let other = without_grace(&home);
    let act = async move { assert_ne!(vacuum(&other).await, Vec::<String>::new(), "no data file was old enough") };
    let slow = home.hooked(&format!("_delta_log/{:020}.json", version + 1), act.boxed());
    let report = slow.compact("events").await.expect("merges again");
    assert!(report.files_merged > 0 && !report.gave_way, "{report:?}");
    assert_eq!(home.published().await, before);
    home.vacuum().await;
}

/// One of the jobs that meet on a table.
type Job = fn(Batch, Arc<Home>) -> BoxFuture<'static, ()>;

fn compacts(batch: Batch, _: Arc<Home>) -> BoxFuture<'static, ()> {
    Box::pin(async move { drop(batch.compact("events").await.expect("a race is no failure")) })
}

fn takes_segments_in(batch: Batch, _: Arc<Home>) -> BoxFuture<'static, ()> {
    Box::pin(async move { drop(batch.run("events", &quiet()).await.expect("a race is no failure")) })
}

fn takes_files_in(batch: Batch, home: Arc<Home>) -> BoxFuture<'static, ()> {
    Box::pin(async move { home.ingest(&batch, &["b.csv", "c.csv"]).await.expect("a race is no failure") })
}

fn withdraws(batch: Batch, _: Arc<Home>) -> BoxFuture<'static, ()> {
    let names = ["a.csv".to_owned()];
    Box::pin(async move { drop(batch.withdraw("events", &names, &quiet()).await.expect("a race is no failure")) })
}

fn recomputes_and_packs(batch: Batch, _: Arc<Home>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let report = batch.recompute("events", &quiet()).await.expect("a race is no failure");
        assert!(report.counts.adds_up(), "{:?}", report.counts);
        batch.pack("events").await.expect("a race is no failure");
    })
}

const JOBS: [Job; 5] = [compacts, takes_segments_in, takes_files_in, withdraws, recomputes_and_packs];

/// A scattered table, more segments in the archive, and `jobs` at once; then whatever they left undone.
///
/// Rows without their file's number, which depends on who was first at the ledger.
async fn after(jobs: [Job; 2], at_once: bool) -> (Vec<String>, Vec<(String, u64, String)>) {
    let (home, stream) = scattered().await;
    stream.put(0, 60..75).await;
    stream.put(1, 42..50).await;
    let home = Arc::new(home);
    let [one, other] = jobs.map(|job| job(home.batch(), Arc::clone(&home)));
    if at_once {
        tokio::join!(one, other);
    } else {
        one.await;
        other.await;
    }
    home.batch().run("events", &quiet()).await.expect("runs");
    let now = home.published().await;
    home.vacuum().await;
    let row = |line: &str| {
        let mut columns: Vec<&str> = line.split('|').collect();
        if columns.get(4).is_some_and(|source| source.trim() == "files") {
            columns.remove(5);
        }
        columns.join("|")
    };
    let mut rows: Vec<String> = now.rows.lines().map(row).collect();
    rows.sort();
    let mut rejects = now.rejects;
    rejects.sort();
    (rows, rejects)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h2_every_pair_of_compaction_appends_and_withdrawal_races() {
    let pairs = (0..JOBS.len()).flat_map(|one| (one..JOBS.len()).map(move |other| (one, other)));
    for (one, other) in pairs.step_by(parts::EVERY) {
        let jobs = [JOBS[one], JOBS[other]];
        let wanted = after(jobs, false).await;
        for round in 0..parts::rounds(2) {
            assert_eq!(after(jobs, true).await, wanted, "jobs {one} and {other}, round {round}");
        }
    }
}

/// What a reader sees from every offset on.
async fn seen(archive: &Archive, partition: &LogPartition, end: u64) -> Vec<Vec<OffsetRecord>> {
    let mut views = Vec::new();
    for from in 0..end {
        let mut records = Vec::new();
        for segment in archive.segments_from(partition, from).await.expect("no hole") {
            records.extend(archive.read(partition, &segment).await.expect("reads").records);
        }
        records.retain(|record| record.offset >= from);
        views.push(records);
    }
    views
}

/// Many small segments, all but the last two covered.
async fn many_segments() -> (Home, Stream) {
    let home = Home::new().await;
    apply(&home, TRANSFORM, false).await;
    let stream = Stream::new(&home, 1).await;
    let ends = [1u64, 3, 4, 6, 9, 10, 12, 14, 15, 18];
    let mut start = 0;
    for end in ends {
        stream.put(0, start..end).await;
        start = end;
    }
    home.batch().run("events", &quiet()).await.expect("runs");
    stream.put(0, 18..20).await;
    stream.put(0, 20..21).await;
    (home, stream)
}

fn without_grace(home: &Home) -> Batch {
    home.batch_with(BatchSettings { threads: 2, grace: Duration::ZERO, ..BatchSettings::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packing_leaves_every_reader_the_same_records() {
    let (home, stream) = many_segments().await;
    let partition = stream.partition(0);
    let before = seen(&stream.archive, partition, 21).await;
    let report = home.batch().pack("events").await.expect("packs");
    assert_eq!((report.packed, report.segments, report.removed), (1, 10, 0));
    assert_eq!(ranges(&stream.archive, partition).await, [(0, 18)], "only what is covered");
    assert_eq!(seen(&stream.archive, partition, 21).await, before);
    assert_eq!(home.batch().pack("events").await.expect("packs").packed, 0, "within the grace nothing goes");
    assert_eq!(stream.archive.plain(partition).await.expect("lists").len(), 12);

    let report = without_grace(&home).pack("events").await.expect("packs");
    assert_eq!((report.packed, report.removed), (0, 10));
    assert_eq!(stream.archive.plain(partition).await.expect("lists").len(), 2);
    assert_eq!(seen(&stream.archive, partition, 21).await, before);
    home.batch().recompute("events", &quiet()).await.expect("recomputes");
    home.vacuum().await;
    assert_eq!(seen(&stream.archive, partition, 21).await, before, "vacuum spares the archive");
    assert_eq!(stream.archive.end(partition, 0).await.expect("reads"), Some(21));
}

async fn ranges(archive: &Archive, partition: &LogPartition) -> Vec<(u64, u64)> {
    let packed = archive.packed(partition).await.expect("lists");
    packed.into_iter().map(|segment| (segment.start, segment.end.expect("a packed one tells"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packing_that_breaks_off_anywhere_leaves_no_hole() {
    let (home, stream) = many_segments().await;
    let before = seen(&stream.archive, stream.partition(0), 21).await;
    drop(home);
    for call in [Call::Put, Call::Get, Call::Delete] {
        for n in parts::writes(Fault::Fails) {
            let (home, stream) = many_segments().await;
            let (batch, store) = home.observed_with(
                vec![Rule::new(call, "stream/", n, Fault::Fails)],
                BatchSettings { threads: 2, grace: Duration::ZERO, ..BatchSettings::default() },
            );
            // The first one packs, the second one removes what was packed.
            let failed = batch.pack("events").await.is_err() | batch.pack("events").await.is_err();
            let what = format!("{call:?} {n}");
            assert_eq!(seen(&stream.archive, stream.partition(0), 21).await, before, "{what}");
            for _ in 0..2 {
                without_grace(&home).pack("events").await.expect("nothing fails any more");
            }
            assert_eq!(seen(&stream.archive, stream.partition(0), 21).await, before, "{what}");
            assert_eq!(stream.archive.plain(stream.partition(0)).await.expect("lists").len(), 2, "{what}");
            if store.fired() == 0 {
                assert!(!failed && n > 0, "no {call:?}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_segment_with_other_records_removes_nothing() {
    let (home, stream) = many_segments().await;
    let partition = stream.partition(0);
    let plain = stream.archive.plain(partition).await.expect("lists");
    // Somebody's defect: a packed segment that lacks the records of one of its parts.
    let mut wrong = stream.archive.read(partition, &plain[0]).await.expect("reads");
    wrong.header.range = 0..3;
    stream.archive.put_packed(partition, &wrong).await.expect("puts");
    let refused = without_grace(&home).pack("events").await;
    assert!(refused.is_err(), "{refused:?}");
    let left = stream.archive.plain(partition).await.expect("lists");
    assert_eq!(
        left, plain,
        "the only bytes of offsets 1 and 2 are gone, or those of others before the contradiction was met"
    );
}

/// H1: what an archiver called lost that had not heard of what was packed goes, and no record with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_where_records_are_packed_goes() {
    let (home, stream) = many_segments().await;
    let (archive, partition) = (&stream.archive, stream.partition(0));
    let before = seen(archive, partition, 21).await;
    for _ in 0..2 {
        without_grace(&home).pack("events").await.expect("packs");
    }
    let count = async || archive.plain(partition).await.expect("lists").len();
    assert_eq!((count().await, ranges(archive, partition).await), (2, vec![(0, 18)]));
    let put = archive.put(partition, &Segment::lost(4..9)).await.expect("puts");
    assert_eq!((put, count().await), (PutSegment::Passed(21), 3));
    assert_eq!(seen(archive, partition, 21).await, before);
    assert_eq!(without_grace(&home).pack("events").await.expect("nothing else is wrong").removed, 1);
    assert_eq!((count().await, ranges(archive, partition).await), (2, vec![(0, 18)]));
    assert_eq!(seen(archive, partition, 21).await, before);
}
