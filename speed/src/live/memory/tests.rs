use arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{col, lit};
use datafusion::physical_plan::collect;
use tidemark_shared::live::LiveView;
use tidemark_shared::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};
use tidemark_testing::contract::live::{batch, coverage, partition, schema, view};

use super::*;

#[tokio::test]
async fn thousands_of_tiny_batches_become_few_runs_of_no_more_bytes() {
    let tiny = MemoryView::new(MemoryViewSettings::default());
    let large = MemoryView::new(MemoryViewSettings::default());
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
    let live = MemoryView::new(MemoryViewSettings::default());
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
    let live = MemoryView::new(MemoryViewSettings::default());
    let view = view("texts");
    live.open(&view, &schema(), &coverage(&[0])).await.unwrap();
    let mut rows = batch(&partition(0), 0..20_000);
    (rows.rejects, rows.filtered) = (Vec::new(), Vec::new());
    live.apply(&view, rows).await.unwrap();
    // Three numbers, a source of 8 bytes and texts of 22 on average, and where they end: 62. As views, 16 more.
    let usage = live.usage();
    assert!(usage.bytes < usage.rows * 66, "{:?}", usage);
}

#[tokio::test]
async fn rows_that_conditions_on_positions_exclude_are_not_read() {
    let live = MemoryView::new(MemoryViewSettings::default());
    let view = view("positions");
    live.open(&view, &schema(), &coverage(&[0, 0])).await.unwrap();
    for number in [0, 1] {
        live.apply(&view, batch(&partition(number), 0..5_000)).await.unwrap();
    }
    let pin = live.pin(&view).await.unwrap().unwrap();
    let ranges: BTreeMap<_, _> = [0, 1].map(|number| (partition(number), 0..5_000)).into();
    let in_second = || col(PARTITION_COLUMN).eq(lit(1_i64));
    // of the first records, those at 3 and 4 have no row
    for (filter, wanted) in [
        (col(OFFSET_COLUMN).eq(lit(5_i64)), 2),
        (col(OFFSET_COLUMN).between(lit(0_i64), lit(6_i64)), 10),
        (in_second().and(col(OFFSET_COLUMN).in_list(vec![lit(1_i64), lit(3_i64), lit(5_i64)], false)), 2),
        (col(OFFSET_COLUMN).gt_eq(lit(5_000_i64)), 0),
        (col(SOURCE_COLUMN).eq(lit("another")), 0),
    ] {
        let plan = pin.scan(&ranges, None, std::slice::from_ref(&filter), None).unwrap();
        let read = collect(plan, Arc::new(TaskContext::default())).await.unwrap();
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), wanted, "{filter}");
    }
}
