//! The archive of streams on a store: who races, what gets lost on the way, what is made of holes. `real_invariants` runs the
//! same on S3, with a module `parts` of its own.

use std::ops::Range;

use tempfile::TempDir;
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_shared::log::{OffsetRecord, Record, Topic, TopicId, TopicName};
use tidemark_shared::position::{LogPartition, Source};
use tidemark_shared::segment::*;
use tidemark_shared::store::Store;
use tidemark_testing::faulty::{Call, Fault, Faulty, Rule};

use super::parts;

async fn archive() -> (TempDir, Store, Archive) {
    let folder = TempDir::new().expect("a test's own input is right");
    let store = parts::store(folder.path()).await;
    let archive = Archive::new(store.clone(), "trips");
    (folder, store, archive)
}

fn partition() -> LogPartition {
    "trips/3".parse().expect("a test's own input is right")
}

fn segment(range: Range<u64>) -> Segment {
    marked(range, "")
}

fn marked(range: Range<u64>, mark: &str) -> Segment {
    let record = |offset| {
        let value = Some(bytes::Bytes::from(format!("{mark}{offset}")));
        OffsetRecord { offset, record: Record { value, ..Record::default() } }
    };
    Segment::new(range.clone(), range.map(record).collect())
}

async fn put(archive: &Archive, range: Range<u64>) {
    assert_eq!(
        archive.put(&partition(), &segment(range)).await.expect("a test's own input is right"),
        PutSegment::Created
    );
}

async fn ranges_from(archive: &Archive, from: u64) -> Result<Vec<(u64, Option<u64>, bool)>, SegmentError> {
    let found = archive.segments_from(&partition(), from).await?;
    Ok(found.into_iter().map(|segment| (segment.start, segment.end, segment.packed)).collect())
}

/// H1: one of two that race on a start wins; the other learns where the winner ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_of_two_archivers_one_wins_and_the_other_goes_on_at_its_end() {
    let (_folder, _store, archive) = archive().await;
    archive.begin(&partition(), 0).await.unwrap();
    let runs = ["one", "other"].map(|mark| {
        let archive = archive.clone();
        async move {
            let (mut at, mut won) = (0, 0);
            while at < 60 {
                let end = at + if mark == "one" { 3 } else { 4 };
                at = match archive.put(&partition(), &marked(at..end, mark)).await.unwrap() {
                    PutSegment::Created => {
                        won += 1;
                        end
                    }
                    PutSegment::Exists(winner) => winner.range.end,
                    PutSegment::Passed(_) => unreachable!("nothing is packed"),
                };
            }
            (at, won)
        }
    });
    let [one, other] = runs;
    let ((end_of_one, by_one), (end_of_other, by_other)) = tokio::join!(one, other);
    let end = archive.end(&partition(), 0).await.unwrap().unwrap();
    assert_eq!(end, end_of_one.max(end_of_other));
    let segments = archive.segments_from(&partition(), 0).await.unwrap();
    assert_eq!(segments.len(), by_one + by_other, "every segment has one winner");
    let mut at = 0;
    for listed in segments {
        let read = archive.read(&partition(), &listed).await.unwrap();
        assert_eq!(read.header.range.start, at);
        at = read.header.range.end;
        assert_eq!(read.records.len() as u64, read.header.range.end - read.header.range.start);
    }
    assert_eq!(at, end);
}

/// H1: a lost acknowledgement looks like a lost race; equal bytes settle it.
#[tokio::test]
async fn h1_a_lost_acknowledgement_is_settled_by_the_bytes() {
    let (_folder, store, plain) = archive().await;
    plain.begin(&partition(), 0).await.unwrap();
    let rules = vec![
        Rule::new(Call::Put, "partition=3", 0, Fault::AckLost),
        Rule::new(Call::Put, "partition=3", 2, Fault::AckLostThenRetried),
    ];
    let archive = Archive::new(store.decorated(|inner| Faulty::new(inner, rules).store()), "trips");
    archive.put(&partition(), &segment(0..5)).await.unwrap_err();
    put(&archive, 0..5).await;
    put(&archive, 5..9).await;
    let header = SegmentHeader { range: 5..9, lost: Vec::new() };
    let outcome = archive.put(&partition(), &segment(5..7)).await.unwrap();
    assert_eq!(outcome, PutSegment::Exists(header));
    assert_eq!(archive.end(&partition(), 0).await.unwrap(), Some(9));
}

#[tokio::test]
async fn h1_a_partition_begins_once() {
    let (_folder, _store, archive) = archive().await;
    assert_eq!(archive.origin(&partition()).await.unwrap(), None);
    assert_eq!(archive.end(&partition(), 0).await.unwrap(), None);
    let (one, other) = (partition(), partition());
    let (one, other) = tokio::join!(archive.begin(&one, 7), archive.begin(&other, 9));
    let origin = one.unwrap();
    assert!(origin == 7 || origin == 9);
    assert_eq!((other.unwrap(), archive.begin(&partition(), 11).await.unwrap()), (origin, origin));
    assert_eq!(archive.end(&partition(), 0).await.unwrap(), Some(origin));
    assert_eq!(archive.partitions(&Source::topic("trips").unwrap()).await.unwrap(), [partition()]);
}

#[tokio::test]
async fn reading_begins_inside_a_segment_too() {
    let (_folder, _store, archive) = archive().await;
    archive.begin(&partition(), 10).await.unwrap();
    for range in [10..20, 20..35, 35..36] {
        put(&archive, range).await;
    }
    for (from, first) in [(10, 10), (13, 10), (20, 20), (34, 20), (35, 35)] {
        let found = archive.segments_over(&partition(), from).await.unwrap();
        assert_eq!(found[0].start, first, "from {from}");
        assert_eq!((found[found.len() - 1].start, found[found.len() - 1].end), (35, None), "from {from}");
        assert_eq!(archive.segments_from(&partition(), from).await.unwrap(), found, "from {from}");
    }
    // the cheap list can't tell the inside of the last segment from its end
    assert_eq!(ranges_from(&archive, 36).await.unwrap(), []);
    assert_eq!(archive.segments_over(&partition(), 36).await.unwrap().len(), 1);
    assert_eq!(archive.end(&partition(), 36).await.unwrap(), Some(36));
}

#[tokio::test]
async fn a_hole_is_an_error_that_names_its_offsets() {
    let (_folder, store, archive) = archive().await;
    archive.begin(&partition(), 0).await.unwrap();
    for range in [0..10, 10..20, 20..30] {
        put(&archive, range).await;
    }
    store.delete_many(vec![tidemark_shared::layout::segment("trips", &partition(), 10)]).await.unwrap();
    let listed = archive.segments_from(&partition(), 0).await.unwrap();
    let error = archive.read(&partition(), &listed[0]).await.unwrap_err();
    assert!(matches!(&error, SegmentError::Hole { missing, .. } if *missing == (10..20)), "{error:?}");
    store.delete_many(vec![tidemark_shared::layout::segment("trips", &partition(), 0)]).await.unwrap();
    let error = ranges_from(&archive, 5).await.unwrap_err();
    assert!(matches!(&error, SegmentError::Hole { missing, .. } if *missing == (5..20)), "{error:?}");
    let error = archive.read(&partition(), &listed[0]).await.unwrap_err();
    assert!(matches!(error, SegmentError::Hole { .. }), "{error:?}");
}

#[tokio::test]
async fn a_packed_segment_is_preferred_and_outlives_its_parts() {
    let (_folder, _store, archive) = archive().await;
    archive.begin(&partition(), 0).await.unwrap();
    for range in [0..10, 10..20, 20..30] {
        put(&archive, range).await;
    }
    archive.put_packed(&partition(), &segment(0..20)).await.unwrap();
    archive.put_packed(&partition(), &segment(0..20)).await.unwrap();
    archive.put_packed(&partition(), &marked(0..20, "other")).await.unwrap_err();
    let wanted = vec![(0, Some(20), true), (20, None, false)];
    assert_eq!(ranges_from(&archive, 0).await.unwrap(), wanted);
    assert_eq!(ranges_from(&archive, 13).await.unwrap(), wanted);
    let plain = archive.plain(&partition()).await.unwrap();
    archive.delete(&plain).await.unwrap();
    assert_eq!(ranges_from(&archive, 0).await.unwrap(), [(0, Some(20), true)], "the packed one was deleted, too");
    assert_eq!(archive.end(&partition(), 0).await.unwrap(), Some(20));
}

/// H1: a key is free again once its segment was packed and went. Whoever puts there has not heard of it, and is told where the
/// archive ends; readers see what they saw.
#[tokio::test]
async fn h1_who_comes_late_is_told_of_what_was_packed() {
    let (_folder, _store, archive) = archive().await;
    archive.begin(&partition(), 0).await.unwrap();
    for range in [0..10, 10..20, 20..30, 30..35] {
        put(&archive, range).await;
    }
    archive.put_packed(&partition(), &segment(0..20)).await.unwrap();
    let plain = archive.plain(&partition()).await.unwrap();
    archive.delete(&plain[..2]).await.unwrap();
    let before = ranges_from(&archive, 0).await.unwrap();
    assert_eq!(before, [(0, Some(20), true), (20, Some(30), false), (30, None, false)]);
    for late in [segment(0..4), Segment::lost(10..33)] {
        assert_eq!(archive.put(&partition(), &late).await.unwrap(), PutSegment::Passed(35), "{late:?}");
        // It is told so again, as after an answer that was lost.
        assert_eq!(archive.put(&partition(), &late).await.unwrap(), PutSegment::Passed(35), "{late:?}");
    }
    for from in [0, 4, 10, 20, 30] {
        let found = archive.segments_from(&partition(), from).await.unwrap();
        let mut records = Vec::new();
        for listed in found {
            let read = archive.read(&partition(), &listed).await.unwrap();
            assert!(read.header.lost.is_empty(), "from {from}");
            records.extend(read.records.into_iter().map(|read| read.offset).filter(|offset| *offset >= from));
        }
        assert_eq!(records, (from..35).collect::<Vec<_>>(), "from {from}");
    }
    assert_eq!(archive.end(&partition(), 10).await.unwrap(), Some(35));
    // Who put where nobody was before goes on as ever, though others have gone on since.
    assert_eq!(archive.put(&partition(), &segment(20..30)).await.unwrap(), PutSegment::Created);
    put(&archive, 35..36).await;
}

#[tokio::test]
async fn what_is_said_to_be_lost_is_the_rest_and_no_more() {
    let (_folder, _store, archive) = archive().await;
    assert_eq!(archive.lose(&partition(), 9).await.unwrap(), None, "it has not begun");
    assert_eq!(archive.end(&partition(), 0).await.unwrap(), None);
    archive.begin(&partition(), 0).await.unwrap();
    put(&archive, 0..5).await;
    for (to, lost, end) in [(4, None, 5), (5, None, 5), (9, Some(5..9), 9), (9, None, 9), (12, Some(9..12), 12)] {
        assert_eq!(archive.lose(&partition(), to).await.unwrap(), lost, "to {to}");
        assert_eq!(archive.end(&partition(), 0).await.unwrap(), Some(end), "to {to}");
    }
    let mut said = Vec::new();
    for listed in archive.segments_from(&partition(), 0).await.unwrap() {
        said.extend(archive.read(&partition(), &listed).await.unwrap().header.lost);
    }
    assert_eq!(said, [5..9, 9..12]);
    for (from, lost) in [(0, &said[..]), (5, &said[..]), (9, &said[1..]), (12, &said[2..])] {
        assert_eq!(archive.lost_from(&partition(), from).await.unwrap(), lost, "from {from}");
    }
    assert_eq!(archive.lost_from(&partition(), 7).await.unwrap(), [7..9, 9..12]);
    for (start, lost) in [(0, None), (5, Some(5..9)), (7, None), (9, Some(9..12)), (12, None)] {
        assert_eq!(archive.lost_at(&partition(), start).await.unwrap(), lost, "at {start}");
    }
}

fn topic(id: &str) -> Topic {
    Topic { name: TopicName::new("trips").expect("a test's own input is right"), id: TopicId::new(id), partitions: 4 }
}

#[tokio::test]
async fn a_topic_that_was_made_again_is_another_source() {
    let (_folder, _store, archive) = archive().await;
    let name = |source: StreamSource| source.source.to_string();
    assert_eq!(name(archive.source(&topic("a")).await.unwrap()), "trips");
    let (first, second) = (topic("b"), topic("b"));
    let (one, other) = tokio::join!(archive.source(&first), archive.source(&second));
    assert_eq!((name(one.unwrap()), name(other.unwrap())), ("trips~2".to_owned(), "trips~2".to_owned()));
    assert_eq!(name(archive.source(&topic("a")).await.unwrap()), "trips");
    let all: Vec<String> = archive.sources().await.unwrap().into_iter().map(name).collect();
    assert_eq!(all, ["trips", "trips~2"]);
    for (source, wanted) in [("trips", vec![]), ("trips~2", vec!["trips"]), ("trips~3", vec![])] {
        let before = archive.sources_before(&Source::topic(source).unwrap()).await.unwrap();
        assert_eq!(before.into_iter().map(name).collect::<Vec<_>>(), wanted, "before {source}");
    }
    assert_eq!(archive.sources().await.unwrap().len(), 2, "who asks enters nothing");
}

/// H1: the mark is none of the origins, and archives that older builds began have none.
#[tokio::test]
async fn h1_a_source_has_begun_once_that_is_marked() {
    let (_folder, _store, archive) = archive().await;
    archive.begin(&partition(), 0).await.unwrap();
    let (source, other) = (partition().source, Source::topic("trips~2").unwrap());
    assert!(!archive.has_begun(&source).await.unwrap());
    for _ in 0..2 {
        archive.mark_begun(&source).await.unwrap();
        assert!(archive.has_begun(&source).await.unwrap() && !archive.has_begun(&other).await.unwrap());
    }
    assert_eq!(archive.partitions(&source).await.unwrap(), [partition()]);
    // With the mark and without, it is made durable.
    archive.sync(&partition(), 0, 0).await.unwrap();
    let later = LogPartition { source: other, partition: 0 };
    archive.begin(&later, 0).await.unwrap();
    archive.sync(&later, 0, 0).await.unwrap();
}

/// Who took it for damage would stop for good, as an archiver does.
#[tokio::test]
async fn a_store_that_is_away_says_nothing_of_a_segment() {
    let (_folder, store, archive) = archive().await;
    archive.begin(&partition(), 0).await.unwrap();
    put(&archive, 0..10).await;
    let rule = Rule::new(Call::Get, "00000000000000000000.parquet", 0, Fault::Fails);
    let faulty = Archive::new(store.decorated(|inner| Faulty::new(inner, vec![rule]).store()), "trips");
    let error = faulty.end(&partition(), 0).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Retryable, "{error}");
    assert_eq!(faulty.end(&partition(), 0).await.unwrap(), Some(10));
}
