//! Streams: segments, put straight into the archive, become rows, counts and rejects, together with files or alone.

use std::ops::Range;
use std::time::Duration;

use futures::FutureExt as _;
use tidemark_batch::report::{RejectQuery, quiet};
use tidemark_batch::{Batch, BatchError, BatchSettings, VacuumRequest};
use tidemark_shared::counts::Totals;
use tidemark_shared::curated::{Transactions, current, log_store};
use tidemark_shared::layout;
use tidemark_shared::log::{OffsetRecord, Record, Topic, TopicId, TopicName};
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::{Archive, PutSegment, Segment};
use tidemark_testing::faulty::{Call, Fault, Rule};

use super::parts;
use super::support::{DOUBLED, Home, Published, TRANSFORM};

const BOTH: &str = r#"
name = "events"
columns = [
    { name = "id", type = "int64", required = true },
    { name = "kind", type = "string" },
    { name = "cents", type = "int64" },
]
partition_columns = ["kind"]

[files]
format = "csv"

[stream]
topic = "events"
format = "json"

[gate]
max_reject_ratio = 0.5
"#;

/// The dataset with files and a stream, or with the stream alone.
pub(crate) async fn apply(home: &Home, transform: &str, files: bool) {
    let definition = if files { BOTH.to_owned() } else { BOTH.replace("[files]\nformat = \"csv\"\n", "") };
    home.apply_definition(&definition, transform).await;
}

fn record(offset: u64) -> OffsetRecord {
    let kind = ["skip", "x", "y", "x"][offset as usize % 4];
    let value = match offset % 7 {
        0 => format!("{{\"id\": broken {offset}"),
        _ => format!("{{\"id\": {offset}, \"kind\": \"{kind}\", \"cents\": {}}}", offset * 10),
    };
    let key = Some(format!("k{offset}").into());
    OffsetRecord { offset, record: Record { key, value: Some(value.into()), timestamp_ms: 1, ..Record::default() } }
}

/// What the records of a range become: every 7th is broken, every 4th of the others filtered.
fn expected(range: Range<u64>) -> Totals {
    let mut totals = Totals::default();
    for offset in range {
        totals.records += 1;
        match (offset % 7, offset % 4) {
            (0, _) => totals.rejected += 1,
            (_, 0) => totals.filtered += 1,
            _ => totals.accepted += 1,
        }
    }
    totals
}

/// The archive of the dataset's topic.
pub(crate) struct Stream {
    pub(crate) archive: Archive,
    partitions: Vec<LogPartition>,
}

impl Stream {
    pub(crate) async fn new(home: &Home, partitions: u32) -> Self {
        let archive = Archive::new(home.store().clone(), "events");
        let name = TopicName::new("events").expect("a name");
        let source = archive.source(&Topic { name, id: TopicId::new("1"), partitions }).await.expect("enters");
        let partitions = (0..partitions).map(|partition| LogPartition { source: source.source.clone(), partition });
        let stream = Self { archive, partitions: partitions.collect() };
        for partition in &stream.partitions {
            stream.archive.begin(partition, 0).await.expect("begins");
        }
        stream
    }

    pub(crate) fn partition(&self, number: usize) -> &LogPartition {
        &self.partitions[number]
    }

    /// Archives the records of `range` as one segment.
    pub(crate) async fn put(&self, number: usize, range: Range<u64>) {
        let records = range.clone().map(record).collect();
        self.put_segment(number, Segment::new(range, records)).await;
    }

    async fn put_segment(&self, number: usize, segment: Segment) {
        let put = self.archive.put(&self.partitions[number], &segment).await.expect("puts");
        assert_eq!(put, PutSegment::Created);
    }
}

/// What the newest version of the answering table says of itself.
async fn transactions(home: &Home) -> Transactions {
    let (_, pointer) = current(home.store().objects().as_ref(), "events").await.expect("reads").expect("a generation");
    let log = log_store(home.store().objects(), "events", &pointer.generation).expect("a log");
    let version = log.get_latest_version(0).await.expect("a version");
    Transactions::read(&log, "events", &pointer.generation, version).await.expect("reads")
}

async fn run(batch: &Batch) -> tidemark_batch::report::IngestReport {
    let report = batch.run("events", &quiet()).await.expect("runs");
    assert!(report.counts.adds_up(), "{:?}", report.counts);
    report
}

/// A stream of two partitions in several segments, and files.
async fn filled() -> (Home, Stream) {
    let home = Home::new().await;
    apply(&home, TRANSFORM, true).await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let stream = Stream::new(&home, 2).await;
    for (number, range) in [(0, 0..10), (0, 10..11), (0, 11..50), (1, 0..30)] {
        stream.put(number, range).await;
    }
    (home, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_h8_files_and_segments_end_up_in_one_table_and_everything_is_counted() {
    let (home, stream) = filled().await;
    let report = run(&home.batch()).await;
    let taken: Vec<_> = report.streams.iter().map(|s| (s.partition.as_str(), s.start, s.end)).collect();
    assert_eq!(taken, [("events/0", 0, 50), ("events/1", 0, 30)]);
    let now = transactions(&home).await;
    assert_eq!(now.counts[stream.partition(0)], expected(0..50));
    assert_eq!(now.counts[stream.partition(1)], expected(0..30));
    assert_eq!(now.coverage.end(stream.partition(0)), 50);

    // What comes later is added to the counts, and a run that finds nothing changes nothing.
    stream.put(1, 30..40).await;
    run(&home.batch()).await;
    assert_eq!(transactions(&home).await.counts[stream.partition(1)], expected(0..40));
    let before = home.published().await;
    let report = run(&home.batch()).await;
    assert_eq!((report.streams, home.published().await), (Vec::new(), before));

    let rejects = home.batch().rejects("events", &RejectQuery::default()).await.expect("reads");
    let of_streams = rejects.iter().filter(|reject| reject.source == "events");
    let positions: Vec<_> = of_streams.map(|reject| (reject.partition, reject.offset)).collect();
    let wanted = [(0u64, 50u64), (1, 40)];
    let wanted = wanted.iter().flat_map(|(p, end)| (0..*end).filter(|o| o % 7 == 0).map(move |offset| (*p, offset)));
    assert_eq!(positions, wanted.collect::<Vec<_>>());
    let status = home.batch().status("events").await.expect("reads");
    let partitions: Vec<_> =
        status.streams.iter().map(|s| (s.partition.as_str(), s.archived, s.covered, s.counts)).collect();
    assert_eq!(partitions, [("events/0", 50, 50, expected(0..50)), ("events/1", 40, 40, expected(0..40))]);
    home.vacuum().await;
}

/// Objects with rejects grow with their bytes, not with runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_of_many_runs_are_packed_and_stay_the_same() {
    let home = Home::new().await;
    apply(&home, TRANSFORM, false).await;
    let stream = Stream::new(&home, 1).await;
    for run in 0..12 {
        stream.put(0, run * 10..run * 10 + 10).await;
        home.batch().run("events", &quiet()).await.expect("runs");
    }
    let generation =
        current(&*home.store().objects(), "events").await.expect("reads").expect("there is one").1.generation;
    let folder = layout::stream_rejects("events", &generation, stream.partition(0));
    let objects = async || home.store().list(&folder).await.expect("lists").len();
    let rejects = async || home.batch().rejects("events", &RejectQuery::default()).await.expect("reads");
    let (before, reasons) = (rejects().await, home.batch().reject_reasons("events", &RejectQuery::default()).await);
    assert_eq!((objects().await, before.len()), (12, 18));
    let without_grace =
        home.batch_with(BatchSettings { threads: 2, grace: Duration::ZERO, ..BatchSettings::default() });
    assert_eq!(home.batch().pack("events").await.expect("packs").packed_rejects, 1);
    assert_eq!((objects().await, rejects().await), (13, before.clone()), "within the grace nothing goes");
    assert_eq!(home.batch().pack("events").await.expect("packs").packed_rejects, 0);
    let report = without_grace.pack("events").await.expect("packs");
    assert_eq!((report.removed_rejects, objects().await, rejects().await), (12, 1, before));
    let now = home.batch().reject_reasons("events", &RejectQuery::default()).await;
    assert_eq!(now.expect("counts"), reasons.expect("counts"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_without_files_takes_segments_and_refuses_files() {
    let home = Home::new().await;
    apply(&home, TRANSFORM, false).await;
    let stream = Stream::new(&home, 1).await;
    stream.put(0, 0..20).await;
    assert_eq!(run(&home.batch()).await.counts.records, 20);
    let refused = home.batch().ingest("events", &home.request(&["a.csv"]), &quiet()).await;
    assert!(matches!(refused, Err(BatchError::NoFiles { .. })), "{refused:?}");
    let before = home.published().await;
    home.batch().recompute("events", &quiet()).await.expect("recomputes");
    assert_eq!(home.published().await, before);
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_lost_is_remembered_and_holds_nothing_up() {
    let home = Home::new().await;
    apply(&home, TRANSFORM, true).await;
    let stream = Stream::new(&home, 1).await;
    stream.put(0, 0..10).await;
    stream.put_segment(0, Segment::lost(10..25)).await;
    stream.put(0, 25..30).await;
    let lost: Vec<_> = std::iter::once(10..25).collect();
    let report = run(&home.batch()).await;
    assert_eq!((report.streams[0].lost, report.streams[0].end, report.counts.records), (15, 30, 15));
    assert_eq!(transactions(&home).await.lost[stream.partition(0)], lost);
    home.batch().recompute("events", &quiet()).await.expect("recomputes");
    assert_eq!(transactions(&home).await.lost[stream.partition(0)], lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_may_begin_anywhere_and_hold_nothing_yet() {
    let home = Home::new().await;
    apply(&home, TRANSFORM, false).await;
    let stream = Stream::new(&home, 1).await;
    let later = LogPartition { partition: 7, ..stream.partition(0).clone() };
    stream.archive.begin(&later, 50).await.expect("begins");
    assert_eq!(run(&home.batch()).await.streams, Vec::new());
    let segment = Segment::new(50..60, (50..60).map(record).collect());
    stream.archive.put(&later, &segment).await.expect("puts");
    let report = run(&home.batch()).await;
    assert_eq!((report.streams[0].start, report.streams[0].end, report.counts.records), (50, 60, 10));
    assert_eq!(transactions(&home).await.counts[&later], expected(50..60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_no_definition_without_a_stream_takes_over_from_one_that_covers_it() {
    let (home, _) = filled().await;
    run(&home.batch()).await;
    let before = home.published().await;
    home.apply(DOUBLED).await;
    let refused = home.batch().recompute("events", &quiet()).await;
    assert!(matches!(refused, Err(BatchError::NoStream { .. })), "{refused:?}");
    assert_eq!(home.published().await, before);
    // The first segments may also come while such a generation is made.
    let home = Home::new().await;
    apply(&home, TRANSFORM, true).await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let stream = Stream::new(&home, 1).await;
    stream.put(0, 0..10).await;
    home.apply(DOUBLED).await;
    let other = home.batch();
    let act = async move { drop(run(&other).await) };
    let slow = home.hooked("_delta_log/00000000000000000002.json", act.boxed());
    let refused = slow.recompute("events", &quiet()).await;
    assert!(matches!(refused, Err(BatchError::NoStream { .. })), "{refused:?}");
    assert_eq!(transactions(&home).await.coverage.end(stream.partition(0)), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_segment_is_an_error_and_nothing_is_committed() {
    let (home, stream) = filled().await;
    let chain = stream.archive.segments_from(stream.partition(0), 0).await.expect("lists");
    stream.archive.delete(&chain[1..2]).await.expect("deletes");
    let failed = home.batch().run("events", &quiet()).await;
    assert!(matches!(failed, Err(BatchError::Segment(_))), "{failed:?}");
    assert_eq!(transactions(&home).await.coverage.end(stream.partition(0)), 0);
}

async fn undisturbed() -> Published {
    let (home, _) = filled().await;
    run(&home.batch()).await;
    home.published().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h2_runs_that_race_take_every_record_once() {
    let wanted = undisturbed().await;
    for round in 0..parts::rounds(5) {
        let (home, _) = filled().await;
        let one_by_one = BatchSettings { threads: 2, commit_bytes: 1, ..BatchSettings::default() };
        let (a, b, c) = (home.batch(), home.batch_with(one_by_one.clone()), home.batch_with(one_by_one));
        tokio::join!(run(&a), run(&b), run(&c));
        assert_eq!(home.published().await, wanted, "round {round}");
        assert!(transactions(&home).await.counts.values().all(Totals::adds_up));
        home.vacuum().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_a_run_survives_a_fault_at_any_write() {
    let wanted = undisturbed().await;
    for fault in [Fault::Fails, Fault::AckLost, Fault::AckLostThenRetried] {
        for n in parts::writes(fault) {
            let (home, _) = filled().await;
            let (batch, store) = home.observed(vec![Rule::new(Call::Put, "", n, fault)]);
            let failed = batch.run("events", &quiet()).await.is_err();
            run(&home.batch()).await;
            assert_eq!(home.published().await, wanted, "write {n}, {fault:?}");
            home.vacuum().await;
            if store.fired() == 0 {
                assert!(!failed && n > 3, "only {n} writes");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h9_a_recompute_includes_files_and_streams_while_they_come_in() {
    for round in 0..parts::rounds(4) {
        let (home, stream) = filled().await;
        run(&home.batch()).await;
        apply(&home, DOUBLED, true).await;
        let (recomputing, running, ingesting) = (home.batch(), home.batch(), home.batch());
        let coming = async {
            for n in 0..6 {
                stream.put(0, 50 + n * 5..55 + n * 5).await;
                stream.put(1, 30 + n..31 + n).await;
                run(&running).await;
            }
        };
        let progress = quiet();
        let (recomputed, (), ingested) = tokio::join!(
            recomputing.recompute("events", &progress),
            coming,
            home.ingest(&ingesting, &["b.csv", "c.csv"])
        );
        let report = recomputed.expect("a race is no failure");
        assert!(report.counts.adds_up(), "{:?}", report.counts);
        ingested.expect("a race is no failure");
        run(&home.batch()).await;
        let wanted = {
            let calm = Home::new().await;
            apply(&calm, DOUBLED, true).await;
            let again = Stream::new(&calm, 2).await;
            again.put(0, 0..80).await;
            again.put(1, 0..36).await;
            calm.ingest(&calm.batch(), &["a.csv", "b.csv", "c.csv"]).await.expect("ingests");
            run(&calm.batch()).await;
            calm.published().await
        };
        assert_eq!(home.published().await, wanted, "round {round}");
        assert_eq!(transactions(&home).await.counts[stream.partition(0)], expected(0..80));
        home.vacuum().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_a_freeze_meets_a_run_that_brings_a_partition_it_does_not_know() {
    let home = Home::new().await;
    apply(&home, TRANSFORM, false).await;
    let stream = Stream::new(&home, 2).await;
    stream.put(0, 0..10).await;
    run(&home.batch()).await;
    apply(&home, DOUBLED, false).await;
    let (other, archive, partition) = (home.batch(), stream.archive.clone(), stream.partition(1).clone());
    let act = async move {
        let segment = Segment::new(0..20, (0..20).map(record).collect());
        archive.put(&partition, &segment).await.expect("puts");
        run(&other).await;
    };
    // Version 1 of the old table has the first segment; the freeze would be the next one.
    let slow = home.hooked("_delta_log/00000000000000000002.json", act.boxed());
    slow.recompute("events", &quiet()).await.expect("catches up");
    let now = transactions(&home).await;
    assert_eq!((now.coverage.end(stream.partition(0)), now.coverage.end(stream.partition(1))), (10, 20));
    assert_eq!(now.counts[stream.partition(1)], expected(0..20));
}

/// Takes everything for old that was written before the call.
pub(crate) async fn vacuum(batch: &Batch) -> Vec<String> {
    batch.vacuum("events", &VacuumRequest::default()).await.expect("vacuums").removed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_data_files_of_segments_that_a_vacuum_took_away_are_never_committed() {
    let (home, _) = filled().await;
    let other = home.batch_with(BatchSettings { threads: 2, grace: Duration::ZERO, ..BatchSettings::default() });
    let act = async move { assert_ne!(vacuum(&other).await, Vec::<String>::new(), "no data file was old enough") };
    let slow = home.hooked("_delta_log/00000000000000000002.json", act.boxed());
    run(&slow).await;
    assert_eq!(home.published().await, undisturbed().await);
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_a_recompute_that_fails_anywhere_keeps_files_and_streams() {
    let (before, after) = {
        let (home, _) = filled().await;
        run(&home.batch()).await;
        let before = home.published().await;
        apply(&home, DOUBLED, true).await;
        home.batch().recompute("events", &quiet()).await.expect("recomputes");
        (before, home.published().await)
    };
    for n in parts::writes(Fault::Fails) {
        let (home, _) = filled().await;
        run(&home.batch()).await;
        apply(&home, DOUBLED, true).await;
        let (batch, store) = home.observed(vec![Rule::new(Call::Put, "", n, Fault::Fails)]);
        let failed = batch.recompute("events", &quiet()).await.is_err();
        let between = home.published().await;
        assert!(between == before || between == after, "write {n}: a mixture answers");
        home.batch().recompute("events", &quiet()).await.expect("nothing fails any more");
        assert_eq!(home.published().await, after, "write {n}");
        if store.fired() == 0 {
            assert!(!failed && n > 3, "only {n} writes");
            break;
        }
    }
}
