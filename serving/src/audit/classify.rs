//! Which statements an audit can check: those whose answer the covered prefix determines.

use datafusion::sql::sqlparser::ast::{Distinct, Expr, Query, SetExpr, Statement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Whether an answer can be audited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auditable {
    /// The prefix determines it.
    Yes,
    /// It does not, or not by what the audit knows.
    No {
        /// Why.
        reason: String,
    },
}

/// Functions whose value no prefix determines.
const UNDETERMINED: [&str; 14] = [
    "now",
    "any_value",
    "arrow_typeof",
    "random",
    "uuid",
    "current_date",
    "current_time",
    "current_timestamp",
    "today",
    "first_value",
    "last_value",
    "nth_value",
    "array_agg",
    "string_agg",
];

/// Classifies a statement by its text alone.
#[must_use]
pub fn classify(sql: &str) -> Auditable {
    let no = |reason: &str| Auditable::No { reason: reason.to_owned() };
    let statements = match Parser::parse_sql(&GenericDialect {}, sql) {
        Ok(statements) => statements,
        Err(_) => return no("it is in a dialect that the audit does not read"),
    };
    match statements.as_slice() {
        [statement @ Statement::Query(_)] => {
            let mut finder = Finder::default();
            let _flow = statement.visit(&mut finder);
            finder.found.map_or(Auditable::Yes, |reason| Auditable::No { reason })
        }
        _ => no("it is not one query"),
    }
}

#[derive(Default)]
struct Finder {
    found: Option<String>,
}

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_ref()
            && matches!(select.distinct, Some(Distinct::On(_)))
        {
            self.found = Some("which rows DISTINCT ON leaves is not determined".to_owned());
            return ControlFlow::Break(());
        }
        if query.limit_clause.is_some() || query.fetch.is_some() {
            self.found = Some("which rows a LIMIT leaves is not determined".to_owned());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        if matches!(table, TableFactor::Table { sample: Some(_), .. }) {
            self.found = Some("which rows a sample has is not determined".to_owned());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        let reason = if UNDETERMINED.contains(&name.as_str()) || name.starts_with("approx_") {
            format!("`{name}` is not determined by what an answer covers")
        } else if function.over.is_some() {
            "the order inside a window need not be total".to_owned()
        } else {
            return ControlFlow::Continue(());
        };
        self.found = Some(reason);
        ControlFlow::Break(())
    }
}
