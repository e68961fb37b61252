//! What of a condition, and of which columns, a cluster decides exactly. Elsewhere a query may let rows through that a
//! condition excludes, for the engine looks at each of them again; what is added up is looked at by nobody.
//!
//! Documents in which a column that is asked about is `unindexed` are let through here, too: whoever asks counts them, and
//! one of them is enough for rows to be read instead.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use serde_json::{Value, json};

use crate::filter::{DEPTH_MAX, LIST_MAX, any, compared, field, is, is_not_null, is_null, or_unindexed, same_type};
use crate::mapping::{Mapping, Searched, SearchedColumn, TEXT_MAX};
use crate::whole;

/// A column's values in the cluster, if they are there as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// 64-bit numbers, the values themselves or [`whole`] ones.
    Whole,
    /// Finite floats.
    Float,
    /// Texts.
    Text,
    /// Booleans.
    Boolean,
}

/// How a column's values are kept as they are; `None` if they are not.
pub(crate) fn kept(column: &SearchedColumn) -> Option<Kept> {
    match column.searched {
        Searched::Long if column.data_type.is_signed_integer() => Some(Kept::Whole),
        _ if column.whole => Some(Kept::Whole),
        Searched::Double if column.data_type.is_floating() => Some(Kept::Float),
        Searched::Keyword => Some(Kept::Text),
        Searched::Boolean => Some(Kept::Boolean),
        Searched::Long | Searched::Double | Searched::Date => None,
    }
}

/// The field of a column's values as they are.
pub(crate) fn kept_field(column: &SearchedColumn) -> String {
    if column.whole { format!("whole.{}", column.name) } else { field(column) }
}

/// Queries that together only rows pass which meet all of `filters`, and documents that one of `columns` is unindexed in;
/// the columns that are asked about are added to these. `None` if rows have to be looked at.
pub(crate) fn conditions<'a>(
    filters: &[Expr],
    mapping: &'a Mapping,
    columns: &mut BTreeSet<&'a str>,
) -> Option<Vec<Value>> {
    let mut asking = Asking { mapping, columns };
    filters.iter().map(|filter| asking.query(filter, 0)).collect()
}

struct Asking<'a, 'b> {
    mapping: &'a Mapping,
    columns: &'b mut BTreeSet<&'a str>,
}

impl<'a> Asking<'a, '_> {
    fn column(&mut self, expr: &Expr) -> Option<&'a SearchedColumn> {
        let Expr::Column(column) = expr else { return None };
        let column = self.mapping.column(&column.name)?;
        self.columns.insert(&column.name);
        Some(column)
    }

    /// Null counts as false: conditions are only ever joined by AND and OR here.
    fn query(&mut self, expr: &Expr, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                let both = [self.query(left, depth + 1)?, self.query(right, depth + 1)?];
                Some(json!({"bool": {"filter": both}}))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Some(any(&[self.query(left, depth + 1)?, self.query(right, depth + 1)?]))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
                (Expr::Column(_), Expr::Literal(value, _)) => comparison(self.column(left)?, *op, value),
                (Expr::Literal(value, _), Expr::Column(_)) => comparison(self.column(right)?, op.swap()?, value),
                _ => None,
            },
            Expr::InList(InList { expr, list, negated }) if list.len() <= LIST_MAX => {
                let column = self.column(expr)?;
                let op = if *negated { Operator::NotEq } else { Operator::Eq };
                let one = |value: &Expr| match value {
                    Expr::Literal(value, _) => comparison(column, op, value),
                    _ => None,
                };
                let each = list.iter().map(one).collect::<Option<Vec<_>>>()?;
                Some(if *negated { json!({"bool": {"filter": each}}) } else { any(&each) })
            }
            Expr::IsNotNull(expr) => {
                let column = self.column(expr)?;
                Some(is_not_null(column))
            }
            Expr::IsNull(expr) => {
                let column = self.column(expr)?;
                Some(is_null(column))
            }
            Expr::Column(_) => is(self.column(expr)?, true),
            Expr::Not(expr) => is(self.column(expr)?, false),
            _ => None,
        }
    }
}

/// Rows whose column compares so with the value.
fn comparison(column: &SearchedColumn, op: Operator, value: &ScalarValue) -> Option<Value> {
    if value.is_null() || !same_type(&value.data_type(), &column.data_type) {
        return None;
    }
    if op == Operator::NotEq {
        let equal = equal_or_less(column, Operator::Eq, value)?;
        let there = json!({"exists": {"field": field(column)}});
        return Some(or_unindexed(column, json!({"bool": {"filter": [there], "must_not": [equal]}})));
    }
    let query = or_unindexed(column, equal_or_less(column, op, value)?);
    if !column.whole {
        return Some(query);
    }
    // Whole numbers are not indexed: what is leaves few of them to be looked at.
    let near = compared(column, op, value)?;
    Some(json!({"bool": {"filter": [near, query]}}))
}

/// The comparison with a value that is there, on the field of the values as they are.
fn equal_or_less(column: &SearchedColumn, op: Operator, value: &ScalarValue) -> Option<Value> {
    let bound = bound(column, value)?;
    let range = match op {
        Operator::Eq => json!({"gte": bound, "lte": bound}),
        Operator::Gt => json!({"gt": bound}),
        Operator::GtEq => json!({"gte": bound}),
        Operator::Lt => json!({"lt": bound}),
        Operator::LtEq => json!({"lte": bound}),
        _ => return None,
    };
    let by_term = matches!(kept(column)?, Kept::Text | Kept::Boolean);
    match op {
        Operator::Eq if by_term => Some(json!({"term": {(kept_field(column)): bound}})),
        _ if column.searched == Searched::Boolean => None,
        _ => Some(json!({"range": {(kept_field(column)): range}})),
    }
}

/// A value as its column's [`kept_field`] has it.
fn bound(column: &SearchedColumn, value: &ScalarValue) -> Option<Value> {
    let value = value.to_array().ok()?;
    match kept(column)? {
        Kept::Whole => {
            let numbers = whole::values(&value).ok()?;
            numbers.is_valid(0).then(|| json!(numbers.value(0)))
        }
        Kept::Float => {
            let values = column.searched.values(&value).ok()?;
            let value = values.as_primitive::<Float64Type>().value(0);
            // Engines differ on whether the two zeros are one.
            (value.is_finite() && value != 0.0).then(|| json!(value))
        }
        Kept::Text => {
            let values = arrow::compute::cast(&value, &DataType::Utf8).ok()?;
            let text = values.as_string::<i32>().value(0).to_owned();
            (text.len() <= TEXT_MAX).then(|| json!(text))
        }
        Kept::Boolean => Some(json!(value.as_boolean().value(0))),
    }
}
