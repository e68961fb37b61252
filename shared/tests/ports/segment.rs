//! Segments as bytes, and what a local directory makes durable.

use proptest::prelude::*;
use tempfile::TempDir;

use tidemark_shared::log::{Header, OffsetRecord, Record, Topic, TopicId, TopicName};
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::*;

use super::parts;

fn blob() -> impl Strategy<Value = Option<bytes::Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(bytes::Bytes::from))
}

fn any_record() -> impl Strategy<Value = Record> {
    let header = ("\\PC{0,5}", blob()).prop_map(|(name, value)| Header { name, value });
    let headers = proptest::collection::vec(header, 0..3);
    (blob(), blob(), headers, any::<i64>()).prop_map(|(key, value, headers, timestamp_ms)| Record {
        key,
        value,
        headers,
        timestamp_ms,
    })
}

proptest! {
    /// Null and empty keys, values and headers, holes between offsets, no record at all.
    #[test]
    fn any_record_comes_back_as_it_was(
        start in prop_oneof![Just(0), 0..1_u64 << 62],
        records in proptest::collection::vec((any_record(), 1..4_u64), 0..40),
        tail in 0..3_u64,
        lost in any::<bool>(),
    ) {
        let mut next = start;
        let placed = records.into_iter().map(|(record, step)| {
            next += step;
            OffsetRecord { offset: next - 1, record }
        });
        let records: Vec<_> = placed.collect();
        let mut segment = Segment::new(start..next + tail, records);
        if lost {
            segment.header.lost = vec![start..start + 1, next..next + tail];
        }
        let bytes = write_segment(&segment).unwrap();
        prop_assert_eq!(&write_segment(&segment).unwrap(), &bytes, "the bytes follow from the segment");
        prop_assert_eq!(read_segment("key", bytes.clone()).unwrap(), segment);
        let half = bytes.slice(..bytes.len() / 2);
        let refused = matches!(read_segment("key", half), Err(SegmentError::Corrupt { .. }));
        prop_assert!(refused, "half a segment was read");
    }
}

#[test]
fn offsets_outside_the_range_are_no_segment() {
    for (range, offsets) in [(0..5, vec![5]), (3..5, vec![2]), (0..5, vec![2, 1]), (0..5, vec![1, 1])] {
        let record = |offset| OffsetRecord { offset, record: Record::default() };
        let wrong = Segment::new(range, offsets.into_iter().map(record).collect());
        let bytes = write_segment(&wrong).unwrap();
        assert!(matches!(read_segment("key", bytes), Err(SegmentError::Corrupt { .. })), "{wrong:?}");
    }
}

#[tokio::test]
async fn what_is_synced_is_there_or_an_error() {
    let folder = TempDir::new().unwrap();
    let store = parts::store(folder.path()).await;
    let archive = Archive::new(store.clone(), "trips");
    let partition: LogPartition = "trips/3".parse().unwrap();
    let topic = Topic { name: TopicName::new("trips").unwrap(), id: TopicId::new("a"), partitions: 4 };
    archive.source(&topic).await.unwrap();
    archive.begin(&partition, 0).await.unwrap();
    let segment = |range: std::ops::Range<u64>| {
        let record = |offset| OffsetRecord { offset, record: Record::default() };
        Segment::new(range.clone(), range.map(record).collect())
    };
    for range in [0..10, 10..20, 20..30] {
        assert_eq!(archive.put(&partition, &segment(range)).await.unwrap(), PutSegment::Created);
    }
    archive.put_packed(&partition, &segment(0..20)).await.unwrap();
    archive.sync(&partition, 0, 30).await.unwrap();
    archive.sync(&partition, 5, 20).await.unwrap();
    let error = archive.sync(&partition, 30, 40).await;
    assert!(error.is_ok() || matches!(error, Err(SegmentError::Hole { .. })), "{error:?}");
    store.delete_many(vec![tidemark_shared::layout::stream_origin("trips", &partition)]).await.unwrap();
    archive.sync(&partition, 0, 30).await.unwrap_err();
}
