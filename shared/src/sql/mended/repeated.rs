//! Columns that a statement selects twice (`SELECT a, a`), or that differ by a cast alone (`SELECT a::date, a::time`), which is
//! no part of a column's name.
//!
//! DataFusion refuses them, as every step's columns have names of their own. So the second one has another name while the
//! statement is planned and answered, and gets its own back with the answer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Ident, SelectItem, visit_expressions_mut};
use futures::StreamExt as _;

/// The columns of an answer that are there again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::sql) struct Repeated {
    /// How many columns are selected.
    columns: usize,
    /// Of each that is there again, its place and that of the first.
    places: Vec<(usize, usize)>,
}

impl Repeated {
    /// Gives each column that `statement` selects again, word for word or but for casts, a name of its own.
    pub(in crate::sql) fn set_apart(statement: &mut Statement) -> Self {
        let selected = match statement {
            Statement::Statement(inner) => match inner.as_mut() {
                ast::Statement::Query(query) => query,
                _ => return Self::default(),
            },
            // A plan shows the names that it has.
            Statement::Explain(explain) => {
                let _shown = Self::set_apart(&mut explain.statement);
                return Self::default();
            }
            Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => return Self::default(),
        };
        match selected.body.as_mut() {
            ast::SetExpr::Select(select) => Self::among(&mut select.projection),
            _ => Self::default(),
        }
    }

    fn among(items: &mut [SelectItem]) -> Self {
        let is_column =
            |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
        // A `*` stands for any number of columns, so that no place behind it is known.
        if !items.iter().all(is_column) {
            return Self::default();
        }
        let mut firsts = BTreeMap::new();
        let mut places = Vec::new();
        for (at, item) in items.iter_mut().enumerate() {
            let first = match firsts.entry(shown_by(item)) {
                Entry::Vacant(first) => {
                    first.insert(at);
                    continue;
                }
                Entry::Occupied(first) => *first.get(),
            };
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let alias = Ident::with_quote('"', format!("{expr} ({})", at + 1));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                places.push((at, first));
            }
        }
        Self { columns: items.len(), places }
    }

    /// The rows of an answer, with their columns under the names that they were selected by.
    pub(in crate::sql) fn named(self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let made = rows.schema();
        // A struct that is unnested has a column for each of its fields.
        if self.places.is_empty() || made.fields().len() != self.columns {
            return rows;
        }
        let mut fields: Vec<FieldRef> = made.fields().iter().cloned().collect();
        for (again, first) in self.places {
            let name = fields[first].name().clone();
            fields[again] = Arc::new(fields[again].as_ref().clone().with_name(name));
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, made.metadata().clone()));
        let named = Arc::clone(&schema);
        let rows = rows.map(move |batch| -> Result<RecordBatch> {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&named), batch.columns().to_vec(), &options)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

/// What decides of the name of a column.
fn shown_by(item: &SelectItem) -> String {
    let SelectItem::UnnamedExpr(expr) = item else { return item.to_string() };
    let mut bare = expr.clone();
    let _walked: ControlFlow<()> = visit_expressions_mut(&mut bare, |part| {
        if let Some(inner) = without_cast(part) {
            *part = inner;
        }
        ControlFlow::Continue(())
    });
    while let ast::Expr::Nested(inner) = bare {
        bare = *inner;
    }
    bare.to_string()
}

/// What is cast by `expr`, if it is a cast. That of a constant keeps its own: a minus before it would be part of a number.
fn without_cast(expr: &ast::Expr) -> Option<ast::Expr> {
    use ast::Expr;
    let Expr::Cast { expr, .. } = expr else { return None };
    match expr.as_ref() {
        Expr::Value(_) => None,
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_) | Expr::Nested(_) => {
            Some(expr.as_ref().clone())
        }
        other => Some(Expr::Nested(Box::new(other.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn what_is_selected_again_is_found_by_its_words() {
        for (sql, places) in [
            ("SELECT a, a FROM t", vec![(1, 0)]),
            ("SELECT a, b, a, count(*), b, count(*), a FROM t", vec![(2, 0), (4, 1), (5, 3), (6, 0)]),
            ("WITH t AS (SELECT 1 AS a) SELECT a AS p, 1, a AS p FROM t ORDER BY p LIMIT 1", vec![(2, 0)]),
            ("SELECT a, b FROM t", vec![]),
            // Which `p` another clause would mean is not known.
            ("SELECT a AS p, b AS p FROM t", vec![]),
            ("SELECT *, a, a FROM t", vec![]),
            ("SELECT b FROM (SELECT a, a FROM t) u", vec![]),
            ("SELECT a, a FROM t UNION ALL SELECT a, a FROM t", vec![]),
            ("EXPLAIN SELECT a, a FROM t", vec![]),
            ("SELECT a::date, a::time, a, CAST(a AS INT) FROM t", vec![(1, 0), (2, 0), (3, 0)]),
            ("SELECT sum(x), sum(x::double), sum(TRY_CAST(y AS INT)) FROM t", vec![(1, 0)]),
            ("SELECT CAST(a + b AS INT), a + b, (a + b)::text FROM t", vec![(1, 0), (2, 0)]),
            ("SELECT CAST(a + b AS INT) * c, a + b * c FROM t", vec![]),
            ("SELECT a::date AS a, a FROM t", vec![]),
            ("SELECT -1, -1::int FROM t", vec![]),
        ] {
            let mut statement = DFParser::parse_sql(sql).expect(sql).pop_front().expect("a statement");
            let repeated = Repeated::set_apart(&mut statement);
            assert_eq!(repeated.places, places, "{sql}");
        }
    }
}
