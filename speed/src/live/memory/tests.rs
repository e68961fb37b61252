use std::sync::Arc;

use tidemark_shared::live::LiveView;
use tidemark_testing::contract::live::{batch, coverage, partition, schema, view};
use tidemark_testing::contract::log::SteppedClock;

use super::*;

#[tokio::test]
async fn thousands_of_tiny_batches_become_few_runs_of_no_more_bytes() {
    let tiny = MemoryView::new(Arc::new(SteppedClock::default()), MemoryViewSettings::default());
    let large = MemoryView::new(Arc::new(SteppedClock::default()), MemoryViewSettings::default());
    let (view, count) = (view("tiny"), 20_000);
    for live in [&tiny, &large] {
        live.open(&view, &schema(), &coverage(&[0])).await.unwrap();
    }
    for start in (0..count).step_by(5) {
        tiny.apply(&view, batch(&partition(0), start..start + 5)).await.unwrap();
    }
    large.apply(&view, batch(&partition(0), 0..count)).await.unwrap();
    let (held, _) = tiny.held(&view, &partition(0)).unwrap();
    assert!(held.runs.len() < 20, "{} runs", held.runs.len());
    let follow = held.runs.windows(2).all(|pair| pair[0].range.end == pair[1].range.start);
    assert!(follow, "runs do not follow each other");
    let (tiny, large) = (tiny.usage(), large.usage());
    assert_eq!(tiny.rows, large.rows);
    assert!(tiny.bytes < large.bytes * 5 / 4, "{tiny:?}, and in one batch {large:?}");
}

#[tokio::test]
async fn a_slice_does_not_keep_the_whole_alive() {
    let live = MemoryView::new(Arc::new(SteppedClock::default()), MemoryViewSettings::default());
    let view = view("slice");
    live.open(&view, &schema(), &coverage(&[0, 0])).await.unwrap();
    let mut sliced = batch(&partition(0), 0..10_000);
    sliced.range = 0..30;
    sliced.rows = vec![sliced.rows[0].slice(0, 10)];
    (sliced.rejects, sliced.filtered) = (Vec::new(), Vec::new());
    live.apply(&view, sliced).await.unwrap();
    assert_eq!(live.usage().rows, 10);
    assert!(live.usage().bytes < 4_096, "{:?}", live.usage());
    live.apply(&view, batch(&partition(1), 0..10_000)).await.unwrap();
    live.drop_below(&view, &coverage(&[30, 9_990])).await.unwrap();
    assert!(live.usage().bytes < 8_192, "a few rows keep {:?}", live.usage());
}

#[tokio::test]
async fn texts_take_their_own_length_and_an_offset() {
    let live = MemoryView::new(Arc::new(SteppedClock::default()), MemoryViewSettings::default());
    let view = view("texts");
    live.open(&view, &schema(), &coverage(&[0])).await.unwrap();
    let mut rows = batch(&partition(0), 0..20_000);
    (rows.rejects, rows.filtered) = (Vec::new(), Vec::new());
    live.apply(&view, rows).await.unwrap();
    // Three numbers, a source of 8 bytes and texts of 22 on average, and where they end: 62. As views, 16 more.
    let usage = live.usage();
    assert!(usage.bytes < usage.rows * 66, "{:?}", usage);
}
