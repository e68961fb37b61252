//! Which offsets of a view conditions on positions leave over, so that the rest need not be read: a pure decision, the same for
//! every adapter. What is left may hold rows that the conditions exclude, and never lacks one that they do not.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use crate::position::{LogPartition, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN, united};

/// Most ranges of one partition. Where there would be more, what lies between them is read as well.
const RANGES_MAX: usize = 512;
/// Deepest nesting that is looked at. A chain of `AND` or `OR` is one level, however long it is.
const DEPTH_MAX: usize = 32;

/// In order, none empty, apart from one another.
type Offsets = Vec<Range<u64>>;

/// The part of `ranges` in which rows may pass all of `filters`: for each partition that has some, ranges in order, none
/// empty, apart from one another. `ranges` are of a view, so none is of the file ledger.
#[must_use]
pub fn narrowed(
    ranges: &BTreeMap<LogPartition, Range<u64>>,
    filters: &[Expr],
) -> BTreeMap<LogPartition, Vec<Range<u64>>> {
    let left = |(partition, range): (&LogPartition, &Range<u64>)| {
        let passing = filters.iter().filter_map(|filter| passing(filter, partition, 0));
        let left = passing.fold(united([range.clone()]), |left, passing| common(&left, &passing));
        (!left.is_empty()).then(|| (partition.clone(), bounded(left)))
    };
    ranges.iter().filter_map(left).collect()
}

fn bounded(offsets: Offsets) -> Offsets {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) if offsets.len() > RANGES_MAX => offsets_of(first.start, last.end),
        _ => offsets,
    }
}

/// The offsets of a partition at which a condition may hold; `None` if it may at any.
fn passing(expr: &Expr, partition: &LogPartition, depth: usize) -> Option<Offsets> {
    if depth > DEPTH_MAX {
        return None;
    }
    let inner = |expr: &Expr| passing(expr, partition, depth + 1);
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => {
            let known = operands(expr, Operator::And).into_iter().filter_map(inner);
            known.reduce(|one, other| common(&one, &other))
        }
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            let all: Vec<Offsets> = operands(expr, Operator::Or).into_iter().map(inner).collect::<Option<_>>()?;
            Some(united(all.into_iter().flatten()))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => compared(&column.name, *op, value, partition),
            (Expr::Literal(value, _), Expr::Column(column)) => compared(&column.name, op.swap()?, value, partition),
            _ => None,
        },
        Expr::Between(Between { expr, negated, low, high }) => {
            let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                (expr.as_ref(), low.as_ref(), high.as_ref())
            else {
                return None;
            };
            let low = compared(&column.name, Operator::GtEq, low, partition)?;
            let within = common(&low, &compared(&column.name, Operator::LtEq, high, partition)?);
            Some(if *negated { others(&within) } else { within })
        }
        Expr::InList(InList { expr, list, negated }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let one = |value: &Expr| match value {
                Expr::Literal(value, _) => compared(&column.name, Operator::Eq, value, partition),
                _ => None,
            };
            let each: Vec<Offsets> = list.iter().map(one).collect::<Option<_>>()?;
            let any = united(each.into_iter().flatten());
            Some(if *negated { others(&any) } else { any })
        }
        _ => None,
    }
}

/// What a chain of one operator consists of.
fn operands(expr: &Expr, operator: Operator) -> Vec<&Expr> {
    let (mut todo, mut operands) = (vec![expr], Vec::new());
    while let Some(expr) = todo.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == operator => todo.extend([&**right, &**left]),
            _ => operands.push(expr),
        }
    }
    operands
}

/// The offsets of a partition at which a column of positions compares so. None of these columns is ever null, so that this is
/// exact, and so is what is left without it.
fn compared(column: &str, op: Operator, value: &ScalarValue, partition: &LogPartition) -> Option<Offsets> {
    match column {
        OFFSET_COLUMN => offsets_that(op, integer(value)?),
        PARTITION_COLUMN => everywhere_if(op, i64::from(partition.partition).cmp(&integer(value)?)),
        SOURCE_COLUMN => everywhere_if(op, partition.source.as_str().cmp(value.try_as_str()??)),
        _ => None,
    }
}

fn integer(value: &ScalarValue) -> Option<i64> {
    if !value.data_type().is_integer() {
        return None;
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(value)) => value,
        _ => None,
    }
}

fn everywhere_if(op: Operator, ordering: Ordering) -> Option<Offsets> {
    let holds = match op {
        Operator::Eq => ordering.is_eq(),
        Operator::NotEq => ordering.is_ne(),
        Operator::Lt => ordering.is_lt(),
        Operator::LtEq => ordering.is_le(),
        Operator::Gt => ordering.is_gt(),
        Operator::GtEq => ordering.is_ge(),
        _ => return None,
    };
    Some(if holds { offsets_of(0, u64::MAX) } else { Offsets::new() })
}

fn offsets_that(op: Operator, value: i64) -> Option<Offsets> {
    // What is negative lies before all offsets.
    let (at, after) = u64::try_from(value).map_or((0, 0), |value| (value, value + 1));
    Some(match op {
        Operator::Eq => offsets_of(at, after),
        Operator::NotEq => others(&offsets_of(at, after)),
        Operator::Lt => offsets_of(0, at),
        Operator::LtEq => offsets_of(0, after),
        Operator::Gt => offsets_of(after, u64::MAX),
        Operator::GtEq => offsets_of(at, u64::MAX),
        _ => return None,
    })
}

fn offsets_of(start: u64, end: u64) -> Offsets {
    united(std::iter::once(start..end))
}

fn others(offsets: &[Range<u64>]) -> Offsets {
    let starts = std::iter::once(0).chain(offsets.iter().map(|range| range.end));
    let ends = offsets.iter().map(|range| range.start).chain(std::iter::once(u64::MAX));
    united(starts.zip(ends).map(|(start, end)| start..end))
}

fn common(one: &[Range<u64>], other: &[Range<u64>]) -> Offsets {
    let (mut common, mut n, mut m) = (Offsets::new(), 0, 0);
    while let (Some(left), Some(right)) = (one.get(n), other.get(m)) {
        let both = left.start.max(right.start)..left.end.min(right.end);
        if !both.is_empty() {
            common.push(both);
        }
        if left.end < right.end {
            n += 1;
        } else {
            m += 1;
        }
    }
    common
}

#[cfg(test)]
mod tests;
