//! Conditions on positions are hints: what they exclude may come all the same, and nothing else is kept back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};
use tidemark_shared::live::{LivePin, LiveView};
use tidemark_shared::position::{LogPartition, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

use super::{Fate, apply, coverage, fate, opened, partition, pin, rows, rows_passing, text};

/// Whether a row of a partition at an offset passes.
type Passes = fn(i64, u64) -> bool;

fn offset() -> Expr {
    col(OFFSET_COLUMN)
}

fn number() -> Expr {
    col(PARTITION_COLUMN)
}

fn source() -> Expr {
    col(SOURCE_COLUMN)
}

/// Offsets of an earlier answer, as a statement at its positions asks for them.
fn below(partition: i64, end: i64) -> Expr {
    source().eq(lit("contract")).and(number().eq(lit(partition))).and(offset().lt(lit(end)))
}

fn conditions() -> [(Expr, Passes); 28] {
    let offsets = |of: &[i64]| of.iter().map(|offset| lit(*offset)).collect::<Vec<_>>();
    [
        (offset().eq(lit(77_i64)), |_, at| at == 77),
        (lit(77_i64).eq(offset()), |_, at| at == 77),
        (offset().not_eq(lit(77_i64)), |_, at| at != 77),
        (offset().gt(lit(100_i64)), |_, at| at > 100),
        (offset().gt_eq(lit(100_i64)), |_, at| at >= 100),
        (lit(100_i64).gt(offset()), |_, at| at < 100),
        (offset().lt_eq(lit(100_i64)), |_, at| at <= 100),
        (offset().lt(lit(0_i64)), |_, _| false),
        (offset().gt_eq(lit(-5_i64)), |_, _| true),
        (offset().gt(lit(i64::MAX)), |_, _| false),
        (offset().eq(lit(77_i32)), |_, at| at == 77),
        (offset().eq(lit(ScalarValue::Int64(None))), |_, _| false),
        (offset().between(lit(40_i64), lit(60_i64)), |_, at| (40..=60).contains(&at)),
        (offset().not_between(lit(40_i64), lit(60_i64)), |_, at| !(40..=60).contains(&at)),
        (offset().in_list(offsets(&[1, 2, 63, 64, 65, 150, 900, -1]), false), |_, at| {
            [1, 2, 63, 64, 65, 150].contains(&at)
        }),
        (offset().in_list(offsets(&[1, 2, 63, 64, 65, 150]), true), |_, at| ![1, 2, 63, 64, 65, 150].contains(&at)),
        (number().eq(lit(1_i64)), |partition, _| partition == 1),
        (number().not_eq(lit(1_i64)), |partition, _| partition != 1),
        (number().in_list(offsets(&[1, 9]), false), |partition, _| partition == 1),
        (source().eq(lit("contract")), |_, _| true),
        (source().not_eq(lit("contract")), |_, _| false),
        (source().gt(lit("a")), |_, _| true),
        (below(0, 70).or(below(1, 20)).or(below(9, 5)), |partition, at| at < [70, 20][usize::from(partition == 1)]),
        // beside conditions that are none on positions
        (offset().lt(lit(50_i64)).and(col("n").gt_eq(lit(300_i64))), |_, at| (30..50).contains(&at)),
        (offset().lt(lit(50_i64)).or(col("n").gt_eq(lit(1_500_i64))), |_, at| !(50..150).contains(&at)),
        (number().eq(lit(1_i64)).and(offset().lt(lit(9_i64)).or(col("text").is_null())), |partition, at| {
            partition == 1 && (at < 9 || at.is_multiple_of(3))
        }),
        (Expr::Not(Box::new(offset().lt(lit(50_i64)))), |_, at| at >= 50),
        (Expr::Not(Box::new(number().eq(lit(1_i64)))), |partition, _| partition != 1),
    ]
}

/// A row as [`rows`] gives it.
type Row = (i64, u64, i64, Option<String>);

fn rows_of(ranges: &BTreeMap<LogPartition, Range<u64>>) -> BTreeSet<Row> {
    let of = |(partition, range): (&LogPartition, &Range<u64>)| {
        let number = i64::from(partition.partition);
        let offsets = range.clone().filter(|offset| fate(*offset) == Fate::Row);
        let row = move |at: u64| (number, at, 10 * i64::try_from(at).expect("small"), text(at));
        offsets.map(row).collect::<Vec<_>>()
    };
    ranges.iter().flat_map(of).collect()
}

async fn check(
    pin: &Arc<dyn LivePin>,
    ranges: &BTreeMap<LogPartition, Range<u64>>,
    filters: &[Expr],
    passes: impl Fn(i64, u64) -> bool,
) {
    let shown = filters.iter().map(Expr::to_string).collect::<Vec<_>>().join(", ");
    let all = rows_of(ranges);
    let found = rows_passing(pin, ranges, filters).await;
    let distinct: BTreeSet<&Row> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "a row came twice for {shown} in {ranges:?}");
    let foreign = found.iter().filter(|row| !all.contains(*row)).count();
    assert_eq!(foreign, 0, "rows of other positions came for {shown} in {ranges:?}");
    let missing: Vec<&Row> = all.iter().filter(|row| passes(row.0, row.1) && !distinct.contains(row)).collect();
    assert!(missing.is_empty(), "{missing:?} did not come for {shown} in {ranges:?}");
}

pub(super) async fn conditions_on_positions_lose_no_row(live: &Arc<dyn LiveView>) {
    let view = opened(live, "positions", &[0, 7]).await;
    apply(live, &view, 0, 0..200).await;
    apply(live, &view, 1, 7..170).await;
    live.drop_below(&view, &coverage(&[3, 7])).await.expect("drop");
    let pin = pin(live, &view).await;
    let moments = [[(0, 20..21), (1, 60..140)], [(0, 3..200), (1, 7..170)]];
    let moments = moments.map(|ranges| BTreeMap::from(ranges.map(|(number, range)| (partition(number), range))));
    // The second time, all rows have been read before: an adapter may have kept them.
    for _ in 0..2 {
        for ranges in &moments {
            for (condition, passes) in conditions() {
                check(&pin, ranges, std::slice::from_ref(&condition), passes).await;
            }
            let both = [offset().lt(lit(165_i64)), offset().not_eq(lit(77_i64))];
            check(&pin, ranges, &both, |_, at| at < 165 && at != 77).await;
        }
        let whole = rows(&pin, &moments[1]).await;
        assert_eq!(whole.into_iter().collect::<BTreeSet<_>>(), rows_of(&moments[1]), "rows without a condition");
    }
    live.close(&view).await.expect("close");
}
