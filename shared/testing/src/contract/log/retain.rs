//! Retention: what goes, what stays, and what readers are told.

use std::sync::Arc;
use std::time::Duration;

use super::{ALL, SteppedClock, append, read_on, record, topic, values};
use tidemark_shared::log::{Log, LogError, Retention, Topic};

const EVERYTHING_MAY_GO: Retention = Retention { age_max: None, bytes_max: Some(0) };

/// Appends as many records one by one and returns their offsets.
async fn fill(log: &Arc<dyn Log>, topic: &Topic, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    for n in 0..count {
        offsets.push(append(log, topic, vec![record(0, &format!("{n:03}"))]).await.positions[0].offset);
    }
    offsets
}

pub(super) async fn retention_stays_below_its_limit(log: &Arc<dyn Log>) {
    let topic = topic(log, "retain", 2).await;
    let offsets = fill(log, &topic, 20).await;
    append(log, &topic, vec![record(1, "other")]).await;
    let before = log.bounds(&topic).await.expect("bounds")[0];
    let kept = log.retain(&topic, 0, &Retention::default(), before.end).await.expect("retain");
    assert_eq!(kept, before, "retention that keeps everything took something");
    let kept = log.retain(&topic, 0, &EVERYTHING_MAY_GO, before.start).await.expect("retain");
    assert_eq!(kept, before, "retention passed its limit");

    let limit = offsets[12];
    let bounds = log.retain(&topic, 0, &EVERYTHING_MAY_GO, limit).await.expect("retain");
    assert!(bounds.start > before.start, "nothing went, though all below {limit} may go: {bounds:?}");
    assert!(bounds.start <= limit, "retention passed its limit {limit}: {bounds:?}");
    assert_eq!(bounds.end, before.end);
    assert_eq!(log.bounds(&topic).await.expect("bounds")[0], bounds);
    let again = log.retain(&topic, 0, &EVERYTHING_MAY_GO, offsets[3]).await.expect("retain");
    assert_eq!(again.start, bounds.start, "the start moved back");

    let error = log.read(&topic, 0, before.start, ALL).await.expect_err("that is gone");
    assert!(matches!(error, LogError::Gone { from, start, .. } if from == before.start && start == bounds.start));
    let left = read_on(log, &topic, 0, bounds.start, ALL).await;
    let expected: Vec<u64> = offsets.into_iter().filter(|offset| *offset >= bounds.start).collect();
    assert_eq!(left.iter().map(|read| read.offset).collect::<Vec<_>>(), expected);
    assert_eq!(values(&read_on(log, &topic, 1, 0, ALL).await), ["other"], "another partition was touched");
}

/// A limit in the middle of what was appended at once, and so may be stored and dropped together.
pub(super) async fn a_limit_within_an_append_holds(log: &Arc<dyn Log>) {
    let topic = topic(log, "retain-within", 1).await;
    let texts: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let appended = append(log, &topic, texts.iter().map(|text| record(0, text)).collect()).await;
    append(log, &topic, vec![record(0, "after")]).await;
    for n in [0, 1, 5, 9] {
        let limit = appended.positions[n].offset;
        let bounds = log.retain(&topic, 0, &EVERYTHING_MAY_GO, limit).await.expect("retain");
        assert!(bounds.start <= limit, "retention passed its limit {limit}: {bounds:?}");
        let left = values(&read_on(log, &topic, 0, limit, ALL).await);
        assert_eq!(left[..left.len() - 1], texts[n..], "a record at or above the limit {limit} is gone");
    }
}

pub(super) async fn an_emptied_partition_goes_on_at_its_end(log: &Arc<dyn Log>) {
    let topic = topic(log, "empty", 1).await;
    fill(log, &topic, 5).await;
    let end = log.bounds(&topic).await.expect("bounds")[0].end;
    // a limit above the end is the end's
    let bounds = log.retain(&topic, 0, &EVERYTHING_MAY_GO, end + 1_000).await.expect("retain");
    assert_eq!((bounds.start, bounds.end), (end, end));
    let fetched = log.read(&topic, 0, end, ALL).await.expect("read");
    assert_eq!((fetched.records.len(), fetched.next), (0, end));
    let appended = append(log, &topic, vec![record(0, "next")]).await;
    assert!(appended.positions[0].offset >= end, "an offset came a second time");
    assert_eq!(values(&read_on(log, &topic, 0, end, ALL).await), ["next"]);
}

pub(super) async fn old_records_go(log: &Arc<dyn Log>, clock: &SteppedClock) {
    let topic = topic(log, "age", 1).await;
    let hour = Duration::from_secs(3_600);
    let old = fill(log, &topic, 4).await;
    clock.pass(hour);
    let young = fill(log, &topic, 4).await;
    let end = young[3] + 1;
    let retention = |age_max| Retention { age_max: Some(age_max), bytes_max: None };
    let bounds = log.retain(&topic, 0, &retention(hour * 2), end).await.expect("retain");
    assert_eq!(bounds.start, old[0], "records younger than they may be went");
    let bounds = log.retain(&topic, 0, &retention(hour / 2), end).await.expect("retain");
    assert_eq!(bounds.start, young[0], "not exactly the old records went");
    clock.pass(hour);
    let bounds = log.retain(&topic, 0, &retention(hour / 2), young[2]).await.expect("retain");
    assert_eq!(bounds.start, young[2], "age passed the limit, or did not reach it");
}
