//! What every real-time view must do, as one suite that each adapter runs in its tests. The checks panic with what was
//! wrong. Each opens views of its own, so that a suite can be run on an index in use.
//!
//! What a record of the suite becomes follows from its offset alone ([`fate`]), so that what an answer must hold can be
//! said without a second bookkeeping; [`check_moment`] compares a pin with it.

mod positions;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::collect;

use tidemark_shared::counts::Counts;
use tidemark_shared::live::{LiveBatch, LiveError, LivePin, LiveRange, LiveView, ViewId};
use tidemark_shared::position::{Coverage, LogPartition, OFFSET_COLUMN};
use tidemark_shared::reject::{Reason, Reject};
use tidemark_shared::rows::table_schema;

/// What a record of the suite becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A row.
    Row,
    /// A reject.
    Reject,
    /// Nothing: the transform's `WHERE` dropped it.
    Filtered,
    /// There is no record at this offset.
    Hole,
}

/// What the record at `offset` becomes.
#[must_use]
pub fn fate(offset: u64) -> Fate {
    match offset {
        _ if offset % 7 == 3 => Fate::Reject,
        _ if offset % 5 == 4 => Fate::Filtered,
        _ if offset % 11 == 10 => Fate::Hole,
        _ => Fate::Row,
    }
}

/// The schema of the suite's tables.
#[must_use]
pub fn schema() -> SchemaRef {
    let columns = [Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
    table_schema(&Schema::new(columns.to_vec()))
}

/// A view that nobody else has.
#[must_use]
pub fn view(check: &str) -> ViewId {
    ViewId { dataset: format!("contract-{check}"), generation: uuid::Uuid::new_v4().simple().to_string() }
}

/// Partition `number` of the suite's topic.
#[must_use]
pub fn partition(number: u32) -> LogPartition {
    format!("contract/{number}").parse().expect("a legal name")
}

/// What the records of `range` became.
#[must_use]
pub fn batch(partition: &LogPartition, range: Range<u64>) -> LiveBatch {
    let of = |wanted| range.clone().filter(move |offset| fate(*offset) == wanted);
    let reject = |offset| Reject {
        offset,
        reason: if offset % 2 == 0 { Reason::BadJson } else { Reason::Missing },
        column: None,
        message: format!("record {offset} is refused"),
        bytes: Bytes::from(format!("bytes of {offset}")),
    };
    let rows: Vec<u64> = of(Fate::Row).collect();
    // in two batches where there are enough: a batch's borders mean nothing
    let rows = rows.chunks(rows.len().div_ceil(2).max(1)).map(|part| rows_at(partition, part)).collect();
    let (rejects, filtered) = (of(Fate::Reject).map(reject).collect(), of(Fate::Filtered).collect());
    LiveBatch { partition: partition.clone(), range, rows, rejects, filtered, lost: Vec::new() }
}

fn text(offset: u64) -> Option<String> {
    match offset % 3 {
        0 => None,
        1 => Some("short".to_owned()),
        _ => Some(format!("a text of offset {offset} that is too long to stand in its view")),
    }
}

fn rows_at(partition: &LogPartition, offsets: &[u64]) -> RecordBatch {
    let number = |offset: &u64| i64::try_from(*offset).expect("small");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(offsets.iter().map(|offset| number(offset) * 10))),
        Arc::new(offsets.iter().map(|offset| text(*offset)).collect::<StringArray>()),
        Arc::new(StringArray::from_iter_values(offsets.iter().map(|_| partition.source.as_str()))),
        Arc::new(Int64Array::from_value(i64::from(partition.partition), offsets.len())),
        Arc::new(Int64Array::from_iter_values(offsets.iter().map(number))),
    ];
    RecordBatch::try_new(schema(), columns).expect("the schema's columns")
}

/// Reads the rows of a pin in `ranges`: partition, offset, `n` and `text`, sorted.
///
/// # Panics
/// If the plan fails.
pub async fn rows(
    pin: &Arc<dyn LivePin>,
    ranges: &BTreeMap<LogPartition, Range<u64>>,
) -> Vec<(i64, u64, i64, Option<String>)> {
    rows_passing(pin, ranges, &[]).await
}

async fn rows_passing(
    pin: &Arc<dyn LivePin>,
    ranges: &BTreeMap<LogPartition, Range<u64>>,
    filters: &[Expr],
) -> Vec<(i64, u64, i64, Option<String>)> {
    let plan = pin.scan(ranges, None, filters, None).expect("scan");
    assert_eq!(plan.schema(), pin.schema(), "a plan has another schema than its pin");
    let mut found = Vec::new();
    for batch in collect(plan, Arc::new(TaskContext::default())).await.expect("collect") {
        let number = |name: &str| batch.column_by_name(name).expect(name).as_primitive::<Int64Type>().clone();
        let (n, partitions, offsets) = (number("n"), number("_partition"), number(OFFSET_COLUMN));
        let texts = batch.column_by_name("text").expect("text").as_string_view().clone();
        for (row, text) in texts.iter().enumerate() {
            let offset = u64::try_from(offsets.value(row)).expect("offsets are not negative");
            found.push((partitions.value(row), offset, n.value(row), text.map(str::to_owned)));
        }
    }
    found.sort();
    found
}

/// Checks that a pin holds exactly what became of the records of `expected`, a floor and visible position for each
/// partition: rows, how many they are where it knows, rejects and counts, from any offset on.
///
/// # Panics
/// If it does not.
pub async fn check_moment(pin: &Arc<dyn LivePin>, expected: &BTreeMap<LogPartition, LiveRange>) {
    assert_eq!(pin.ranges(), expected, "floors or visible positions");
    let full: BTreeMap<_, _> = expected.iter().map(|(p, live)| (p.clone(), live.floor..live.visible)).collect();
    let third =
        |range: &Range<u64>| range.start + (range.end - range.start) / 3..range.end - (range.end - range.start) / 4;
    let inner: BTreeMap<_, _> = full.iter().map(|(p, range)| (p.clone(), third(range))).collect();
    for ranges in [&full, &inner] {
        let wanted = |(p, range): (&LogPartition, &Range<u64>)| {
            let row = |offset: u64, number| {
                (i64::from(number), offset, 10 * i64::try_from(offset).expect("small"), text(offset))
            };
            let number = p.partition;
            let offsets = range.clone().filter(|offset| fate(*offset) == Fate::Row);
            offsets.map(move |offset| row(offset, number)).collect::<Vec<_>>()
        };
        let mut wanted: Vec<_> = ranges.iter().flat_map(wanted).collect();
        wanted.sort();
        assert_eq!(rows(pin, ranges).await, wanted, "rows of {ranges:?}");
        if let Some(known) = pin.rows(ranges) {
            assert_eq!(known, wanted.len() as u64, "the number of rows of {ranges:?}");
        }
    }
    for ranges in [&full, &inner] {
        let from: Coverage = ranges.iter().map(|(p, range)| (p.clone(), range.start)).collect();
        let above = |p: &LogPartition| ranges[p].start..expected[p].visible;
        let mut counts = Counts::default();
        let mut rejects = Vec::new();
        for p in ranges.keys() {
            let became = batch(p, above(p));
            counts.accepted += became.rows.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
            counts.filtered += became.filtered.len() as u64;
            for reject in became.rejects {
                *counts.rejected.entry(reject.reason.code()).or_default() += 1;
                rejects.push((p.clone(), reject));
            }
        }
        counts.records = counts.accepted + counts.filtered + counts.rejected_total();
        assert_eq!(pin.counts(&from).await.expect("counts"), counts, "counts from {from:?}");
        assert_eq!(pin.rejects(&from, usize::MAX).await.expect("rejects"), rejects, "rejects from {from:?}");
        rejects.truncate(2);
        assert_eq!(pin.rejects(&from, 2).await.expect("rejects"), rejects, "the first rejects from {from:?}");
    }
}

/// Runs every check but [`check_full`].
///
/// # Panics
/// If the view breaks the contract.
pub async fn check_all(live: &Arc<dyn LiveView>) {
    what_is_not_open_is_an_error(live).await;
    opening_twice_keeps_the_rows(live).await;
    a_batch_twice_is_a_batch_once(live).await;
    a_gap_is_refused(live).await;
    a_pin_is_a_moment(live).await;
    a_pin_knows_how_many_rows_it_has(live).await;
    rows_go_below_the_coverage_only(live).await;
    a_view_that_lags_begins_anew_at_the_coverage(live).await;
    lost_offsets_go_with_the_rows_around_them(live).await;
    a_scan_takes_projection_and_limit(live).await;
    positions::conditions_on_positions_lose_no_row(live).await;
    a_closed_view_is_gone_and_the_next_begins_anew(live).await;
    many_small_batches_are_whole(live).await;
}

async fn opened(live: &Arc<dyn LiveView>, check: &str, floors: &[u64]) -> ViewId {
    let view = view(check);
    live.open(&view, &schema(), &coverage(floors)).await.expect("open");
    view
}

/// A coverage of the suite's partitions 0, 1, ….
#[must_use]
pub fn coverage(ends: &[u64]) -> Coverage {
    (0..).zip(ends).map(|(number, end)| (partition(number), *end)).collect()
}

/// Floors and visible positions of the suite's partitions 0, 1, ….
#[must_use]
pub fn ranges(of: &[(u64, u64)]) -> BTreeMap<LogPartition, LiveRange> {
    let live = |(number, (floor, visible)): (u32, &(u64, u64))| {
        (partition(number), LiveRange { floor: *floor, visible: *visible })
    };
    (0..).zip(of).map(live).collect()
}

async fn apply(live: &Arc<dyn LiveView>, view: &ViewId, number: u32, range: Range<u64>) {
    live.apply(view, batch(&partition(number), range)).await.expect("apply");
}

async fn pin(live: &Arc<dyn LiveView>, view: &ViewId) -> Arc<dyn LivePin> {
    live.pin(view).await.expect("pin").expect("the view is open")
}

async fn what_is_not_open_is_an_error(live: &Arc<dyn LiveView>) {
    let nowhere = view("missing");
    assert!(live.pin(&nowhere).await.expect("pin").is_none(), "a view was there before it was opened");
    let error = live.apply(&nowhere, batch(&partition(0), 0..5)).await.expect_err("apply to no view");
    assert!(matches!(error, LiveError::Missing { partition: None, .. }), "{error:?}");
    let error = live.drop_below(&nowhere, &coverage(&[5])).await.expect_err("drop from no view");
    assert!(matches!(error, LiveError::Missing { .. }), "{error:?}");
    live.close(&nowhere).await.expect("closing what is not there");
    let view = opened(live, "missing", &[0]).await;
    let error = live.apply(&view, batch(&partition(1), 0..5)).await.expect_err("apply to no partition");
    assert!(matches!(error, LiveError::Missing { partition: Some(_), .. }), "{error:?}");
    live.close(&view).await.expect("close");
}

async fn opening_twice_keeps_the_rows(live: &Arc<dyn LiveView>) {
    let view = opened(live, "open", &[5]).await;
    apply(live, &view, 0, 5..20).await;
    let mut floors = coverage(&[9, 7]);
    floors.set(LogPartition::files(), 3);
    live.open(&view, &schema(), &floors).await.expect("open again");
    let again = pin(live, &view).await;
    check_moment(&again, &ranges(&[(5, 20), (7, 7)])).await;
    let other = table_schema(&Schema::new(vec![Field::new("n", DataType::Utf8, false)]));
    let error = live.open(&view, &other, &floors).await.expect_err("open with other columns");
    assert!(matches!(error, LiveError::Schema { .. }), "{error:?}");
    assert!(live.views().await.expect("views").contains(&view), "an open view is not listed");
    live.close(&view).await.expect("close");
}

/// H3: whatever part of a batch came before counts for nothing.
async fn a_batch_twice_is_a_batch_once(live: &Arc<dyn LiveView>) {
    let view = opened(live, "twice", &[0]).await;
    for range in [0..30, 0..30, 10..20, 20..50, 0..60, 60..60] {
        apply(live, &view, 0, range).await;
    }
    check_moment(&pin(live, &view).await, &ranges(&[(0, 60)])).await;
    live.close(&view).await.expect("close");
}

async fn a_gap_is_refused(live: &Arc<dyn LiveView>) {
    let view = opened(live, "gap", &[0]).await;
    apply(live, &view, 0, 0..10).await;
    let error = live.apply(&view, batch(&partition(0), 11..20)).await.expect_err("a gap");
    assert!(matches!(error, LiveError::Gap { visible: 10, start: 11, .. }), "{error:?}");
    check_moment(&pin(live, &view).await, &ranges(&[(0, 10)])).await;
    live.close(&view).await.expect("close");
}

/// H6: floors, visible positions and rows of a pin belong together, whatever happens meanwhile.
async fn a_pin_is_a_moment(live: &Arc<dyn LiveView>) {
    let view = opened(live, "pin", &[0, 0]).await;
    apply(live, &view, 0, 0..40).await;
    apply(live, &view, 1, 0..10).await;
    let before = pin(live, &view).await;
    apply(live, &view, 0, 40..80).await;
    apply(live, &view, 1, 10..90).await;
    live.drop_below(&view, &coverage(&[60, 10])).await.expect("drop");
    let after = pin(live, &view).await;
    live.close(&view).await.expect("close");
    check_moment(&before, &ranges(&[(0, 40), (0, 10)])).await;
    check_moment(&after, &ranges(&[(60, 80), (10, 90)])).await;
}

/// H7, and the floor tells what went.
async fn rows_go_below_the_coverage_only(live: &Arc<dyn LiveView>) {
    let view = opened(live, "drop", &[0, 0]).await;
    apply(live, &view, 0, 0..100).await;
    apply(live, &view, 1, 0..100).await;
    for (end, floor) in [(33, 33), (20, 33), (34, 34), (99, 99), (100, 100)] {
        let mut covered = coverage(&[end]);
        covered.set(LogPartition::files(), 7);
        covered.set(partition(9), 7);
        live.drop_below(&view, &covered).await.expect("drop");
        check_moment(&pin(live, &view).await, &ranges(&[(floor, 100), (0, 100)])).await;
    }
    apply(live, &view, 0, 90..120).await;
    check_moment(&pin(live, &view).await, &ranges(&[(100, 120), (0, 100)])).await;
    live.close(&view).await.expect("close");
}

/// Of few offsets without a row, each is known, and so is the number of rows.
async fn a_pin_knows_how_many_rows_it_has(live: &Arc<dyn LiveView>) {
    let view = opened(live, "known", &[5, 0]).await;
    apply(live, &view, 0, 5..60).await;
    apply(live, &view, 0, 40..90).await;
    apply(live, &view, 1, 0..30).await;
    let before = pin(live, &view).await;
    let within = |one: Range<u64>, other: Range<u64>| BTreeMap::from([(partition(0), one), (partition(1), other)]);
    let rows = |range: Range<u64>| Some(range.filter(|offset| fate(*offset) == Fate::Row).count() as u64);
    assert_eq!(before.rows(&within(12..77, 0..0)), rows(12..77));
    assert_eq!(before.rows(&within(20..20, 7..25)), rows(7..25));
    assert_eq!(before.rows(&BTreeMap::new()), Some(0));
    live.drop_below(&view, &coverage(&[33])).await.expect("drop");
    apply(live, &view, 0, 90..100).await;
    assert_eq!(pin(live, &view).await.rows(&within(33..100, 30..30)), rows(33..100));
    assert_eq!(before.rows(&within(5..90, 0..0)), rows(5..90), "a pin is a moment");
    live.close(&view).await.expect("close");
}

async fn a_view_that_lags_begins_anew_at_the_coverage(live: &Arc<dyn LiveView>) {
    let view = opened(live, "lags", &[0]).await;
    apply(live, &view, 0, 0..10).await;
    live.drop_below(&view, &coverage(&[50])).await.expect("drop");
    check_moment(&pin(live, &view).await, &ranges(&[(50, 50)])).await;
    apply(live, &view, 0, 5..60).await;
    check_moment(&pin(live, &view).await, &ranges(&[(50, 60)])).await;
    live.close(&view).await.expect("close");
}

/// H1: what was lost before it was archived is named for as long as a view claims to cover it.
async fn lost_offsets_go_with_the_rows_around_them(live: &Arc<dyn LiveView>) {
    let view = opened(live, "lost", &[0]).await;
    apply(live, &view, 0, 0..10).await;
    let nothing = |range: Range<u64>| LiveBatch {
        partition: partition(0),
        lost: vec![range.clone()],
        range,
        rows: Vec::new(),
        rejects: Vec::new(),
        filtered: Vec::new(),
    };
    live.apply(&view, nothing(10..15)).await.expect("apply");
    live.apply(&view, nothing(15..20)).await.expect("apply");
    apply(live, &view, 0, 20..30).await;
    let lost = |at: &Arc<dyn LivePin>| at.lost().into_iter().collect::<Vec<_>>();
    let before = pin(live, &view).await;
    assert_eq!(lost(&before), [(partition(0), vec![Range { start: 10, end: 20 }])]);
    live.drop_below(&view, &coverage(&[15])).await.expect("drop");
    assert_eq!(lost(&pin(live, &view).await), [(partition(0), vec![Range { start: 10, end: 20 }])]);
    live.drop_below(&view, &coverage(&[20])).await.expect("drop");
    assert_eq!(lost(&pin(live, &view).await), []);
    assert_eq!(lost(&before).len(), 1, "a pin is a moment");
    live.close(&view).await.expect("close");
}

async fn a_scan_takes_projection_and_limit(live: &Arc<dyn LiveView>) {
    let view = opened(live, "scan", &[0]).await;
    apply(live, &view, 0, 0..500).await;
    let pin = pin(live, &view).await;
    let all: BTreeMap<_, _> = [(partition(0), 0..500)].into();
    let offset = pin.schema().index_of(OFFSET_COLUMN).expect("the column");
    let plan = pin.scan(&all, Some(&vec![offset, 0]), &[], None).expect("scan");
    let names: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, [OFFSET_COLUMN, "n"], "projected columns");
    let count = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    let context = || Arc::new(TaskContext::default());
    let rows = (0..500).filter(|offset| fate(*offset) == Fate::Row).count();
    assert_eq!(count(collect(plan, context()).await.expect("collect")), rows);
    let no_columns = pin.scan(&all, Some(&Vec::new()), &[], None).expect("scan");
    assert_eq!(count(collect(no_columns, context()).await.expect("collect")), rows, "a count needs no column");
    let limited = pin.scan(&all, None, &[], Some(7)).expect("scan");
    assert!(count(collect(limited, context()).await.expect("collect")) >= 7, "a limit took too much away");
    let nothing = pin.scan(&BTreeMap::new(), None, &[], None).expect("scan");
    assert_eq!(count(collect(nothing, context()).await.expect("collect")), 0);
    live.close(&view).await.expect("close");
}

/// H4: a view that was let go has none of the rows that it had, and claims none; H6: a pin of it goes on having its own,
/// whatever the next one of its name takes in.
async fn a_closed_view_is_gone_and_the_next_begins_anew(live: &Arc<dyn LiveView>) {
    let view = opened(live, "close", &[0]).await;
    apply(live, &view, 0, 0..20).await;
    let before = pin(live, &view).await;
    live.close(&view).await.expect("close");
    live.close(&view).await.expect("closing twice is no error");
    assert!(live.pin(&view).await.expect("pin").is_none(), "a closed view is there");
    assert!(!live.views().await.expect("views").contains(&view), "a closed view is listed");
    live.open(&view, &schema(), &coverage(&[15])).await.expect("open");
    let after = pin(live, &view).await;
    check_moment(&after, &ranges(&[(15, 15)])).await;
    apply(live, &view, 0, 15..40).await;
    check_moment(&before, &ranges(&[(0, 20)])).await;
    check_moment(&after, &ranges(&[(15, 15)])).await;
    check_moment(&pin(live, &view).await, &ranges(&[(15, 40)])).await;
    live.close(&view).await.expect("close");
}

async fn many_small_batches_are_whole(live: &Arc<dyn LiveView>) {
    let view = opened(live, "small", &[0]).await;
    let mut end = 0;
    for step in 0..150 {
        let next = end + step % 4;
        apply(live, &view, 0, end..next).await;
        end = next;
    }
    check_moment(&pin(live, &view).await, &ranges(&[(0, end)])).await;
    live.close(&view).await.expect("close");
}

/// Fills a view with a limit of at most a few MiB and checks that it refuses what it has no room for, loses nothing, and
/// takes more when rows have gone (H7).
///
/// # Panics
/// If the view breaks the contract.
pub async fn check_full(live: &Arc<dyn LiveView>) {
    const STEP: u64 = 1_000;
    let limit = live.limit().expect("this check is for views with a limit");
    let view = opened(live, "full", &[0]).await;
    let mut end = 0;
    let (used, max) = loop {
        match live.apply(&view, batch(&partition(0), end..end + STEP)).await {
            Ok(()) => end += STEP,
            Err(LiveError::Full { used, max }) => break (used, max),
            Err(error) => panic!("{error:?}"),
        }
        assert!(end < 1_000_000, "a view without end");
    };
    assert_eq!(max, limit.bytes);
    assert!(used <= max && live.usage().bytes <= max, "{used} of {max} bytes");
    check_moment(&pin(live, &view).await, &ranges(&[(0, end)])).await;
    let half = end / 2;
    live.drop_below(&view, &coverage(&[half])).await.expect("drop");
    assert!(
        live.usage().bytes < used * 3 / 4,
        "half of the rows went, but {} of {used} bytes stayed",
        live.usage().bytes
    );
    apply(live, &view, 0, end..end + STEP).await;
    check_moment(&pin(live, &view).await, &ranges(&[(half, end + STEP)])).await;
    live.close(&view).await.expect("close");
    assert_eq!((live.usage().rows, live.usage().rejects), (0, 0), "a closed view takes rows or rejects");
    assert_eq!(live.usage().bytes, 0, "a closed view takes bytes");
}
