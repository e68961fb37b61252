//! What whoever asked should know beside the answer, which is right as it stands: conditions on text that can't find what
//! they seem to look for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::curated::{CuratedTable, CuratedVersion};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

/// For each text that a partition column is compared with and no partition has, although one has the same number: what to
/// write instead. `plan` is the statement as it was written, before it was optimized.
pub(super) fn texts_that_match_nothing(plan: &LogicalPlan) -> BTreeSet<String> {
    let (mut compared, mut tables) = (Vec::new(), Vec::new());
    let walked = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Filter(filter) => {
                filter.predicate.apply(|expr| {
                    compared.extend(texts(expr));
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                tables.extend(provider.downcast_ref::<CuratedTable>().map(|table| Arc::clone(table.version())));
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if walked.is_err() {
        return BTreeSet::new();
    }
    compared.iter().filter_map(|(column, text)| note(column, text, &tables)).collect()
}

/// Column and text of `column = 'text'` and of each text in `column IN ('text', …)`.
fn texts(expr: &Expr) -> Vec<(String, String)> {
    let pair = |column: &Expr, text: &Expr| Some((name_of(column)?, text_of(text)?));
    match expr {
        Expr::BinaryExpr(comparison) if comparison.op == Operator::Eq => {
            let (left, right) = (&comparison.left, &comparison.right);
            pair(left, right).or_else(|| pair(right, left)).into_iter().collect()
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            list.iter().filter_map(|text| pair(expr, text)).collect()
        }
        _ => Vec::new(),
    }
}

fn name_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(column.name.clone()),
        _ => None,
    }
}

fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text.clone()),
        _ => None,
    }
}

fn note(column: &str, text: &str, tables: &[Arc<CuratedVersion>]) -> Option<String> {
    let wanted: f64 = text.trim().parse().ok()?;
    let partitioned = tables.iter().filter(|table| table.partition_columns.iter().any(|name| name == column));
    let files = partitioned.flat_map(|table| &table.files);
    let values: BTreeSet<&str> = files.filter_map(|file| file.partition_values.get(column)?.as_deref()).collect();
    if values.contains(text) {
        return None;
    }
    let same = values.iter().find(|value| value.parse() == Ok(wanted))?;
    Some(format!(
        "no partition has {column} = '{text}', which is compared as text; one has '{same}': write {column} = '{same}', \
         or a number without quotes"
    ))
}
