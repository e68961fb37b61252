//! How many tables a statement reads once its names are replaced by what they stand for.
//!
//! A table of a `WITH` clause is planned once for each place that names it: twenty of them, each joining the one before
//! with itself, stand for a million tables. And so it is with types: a struct of two columns that are structs of two
//! columns, and so on, twenty times, has a million fields.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, TableFactor, Visit, Visitor};

use super::error::SqlError;

/// Most tables, and selections without a table, of a statement.
pub(super) const TABLES_MAX: u64 = 1_000;

/// Most fields of a struct, with those of the structs in it; as many as there may be by the names that stand in it.
pub(super) const FIELDS_MAX: u64 = 100_000;

/// Refuses a statement that stands for too many tables, or makes structs of too many fields.
pub(super) fn check_tables(statement: &Statement) -> Result<(), SqlError> {
    let weight = weight(statement);
    for (found, limit, what) in [(weight.tables, TABLES_MAX, "tables"), (weight.fields, FIELDS_MAX, "fields")] {
        if found > limit {
            return Err(SqlError::TooComplex { what, limit: usize::try_from(limit).unwrap_or(usize::MAX) });
        }
    }
    Ok(())
}

/// What a query, or a name for it, stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Weight {
    tables: u64,
    /// Fields of its largest column.
    fields: u64,
}

fn weight(statement: &Statement) -> Weight {
    match statement {
        Statement::Statement(inner) => {
            let mut walk = Walk { frames: vec![Frame::default()] };
            let _flow = inner.visit(&mut walk);
            walk.frames.first().map(Frame::weight).unwrap_or_default()
        }
        Statement::Explain(explain) => weight(&explain.statement),
        _ => Weight::default(),
    }
}

/// A query that is being walked through.
#[derive(Default)]
struct Frame {
    /// Tables named in it so far.
    tables: u64,
    /// Fields of the largest column of those.
    fields: u64,
    /// Most names in one struct that it makes.
    names: u64,
    /// What the names of its `WITH` clause stand for, as far as it was walked through.
    named: HashMap<String, Weight>,
    /// The queries of its `WITH` clause, by where they are.
    with: HashMap<*const Query, String>,
}

impl Frame {
    fn weight(&self) -> Weight {
        Weight { tables: self.tables, fields: self.fields.max(1).saturating_mul(self.names.max(1)) }
    }
}

struct Walk {
    /// From the outermost query to the innermost; the first is the statement.
    frames: Vec<Frame>,
}

impl Walk {
    fn add(&mut self, weight: Weight) {
        if let Some(frame) = self.frames.last_mut() {
            frame.tables = frame.tables.saturating_add(weight.tables);
            frame.fields = frame.fields.max(weight.fields);
        }
    }
}

/// True for what makes a struct of its arguments.
fn makes_a_struct(expr: &Expr) -> bool {
    match expr {
        Expr::Struct { .. } | Expr::Dictionary(_) | Expr::Map(_) | Expr::Tuple(_) => true,
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            matches!(name.as_str(), "struct" | "named_struct" | "row" | "map" | "make_map" | "arrays_zip" | "list_zip")
        }
        _ => false,
    }
}

/// Number of names in an expression.
fn names(expr: &Expr) -> u64 {
    struct Names(u64);

    impl Visitor for Names {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            self.0 += u64::from(matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
            ControlFlow::Continue(())
        }
    }

    let mut names = Names(0);
    let _flow = expr.visit(&mut names);
    names.0
}

impl Visitor for Walk {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let with = tables.map(|table| (&raw const *table.query, table.alias.name.value.to_lowercase())).collect();
        self.frames.push(Frame { with, ..Frame::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let weight = self.frames.pop().map(|frame| frame.weight()).unwrap_or_default();
        let place: *const Query = query;
        match self.frames.last_mut() {
            Some(outer) if outer.with.contains_key(&place) => {
                let name = outer.with[&place].clone();
                let _hidden = outer.named.insert(name, weight);
            }
            _ => self.add(weight),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if makes_a_struct(expr)
            && let Some(frame) = self.frames.last_mut()
        {
            frame.names = frame.names.max(names(expr));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if select.from.is_empty() {
            self.add(Weight { tables: 1, fields: 1 });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        let one = Weight { tables: 1, fields: 1 };
        let weight = match table {
            TableFactor::Table { name, .. } => {
                let name = name.to_string().trim_matches('"').to_lowercase();
                self.frames.iter().rev().find_map(|frame| frame.named.get(&name)).copied().unwrap_or(one)
            }
            // What is in brackets is walked through by itself.
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => Weight::default(),
            _ => one,
        };
        self.add(weight);
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn of(sql: &str) -> u64 {
        weight(&DFParser::parse_sql(sql).expect(sql)[0]).tables
    }

    #[test]
    fn names_count_as_what_they_stand_for() {
        let cases = [
            ("SELECT 1", 1),
            ("SELECT * FROM a", 1),
            ("SELECT * FROM a, b JOIN c ON true WHERE x IN (SELECT y FROM d)", 4),
            ("SELECT * FROM (SELECT * FROM a, b) x", 2),
            ("SELECT 1 UNION ALL SELECT 2 UNION SELECT 3 FROM a", 3),
            ("WITH a AS (SELECT * FROM t, t u), b AS (SELECT * FROM a, A x) SELECT * FROM b, \"b\" c", 8),
            ("WITH a AS (SELECT * FROM t, t u) SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a, a b) x, a", 4),
            ("WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT * FROM a) SELECT * FROM a, a b", 4),
            ("EXPLAIN SELECT * FROM a, b", 2),
        ];
        for (sql, wanted) in cases {
            assert_eq!(of(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn tables_that_double_are_refused() {
        let mut sql = "WITH t0 AS (SELECT 1 AS x)".to_owned();
        for level in 1..100 {
            sql += &format!(", t{level} AS (SELECT a.x FROM t{0} a, t{0} b)", level - 1);
        }
        let sql = sql + " SELECT count(*) FROM t99";
        assert_eq!(of(&sql), u64::MAX);
        let statement = &DFParser::parse_sql(&sql).expect("parses")[0];
        assert!(matches!(check_tables(statement), Err(SqlError::TooComplex { .. })));
    }

    #[test]
    fn fields_of_structs_multiply() {
        let fields = |sql: &str| weight(&DFParser::parse_sql(sql).expect(sql)[0]).fields;
        let cases = [
            ("SELECT a + b FROM t", 1),
            ("SELECT struct(a, b), c FROM t", 2),
            ("SELECT {'a': s, 'b': s} FROM (SELECT named_struct('x', a, 'y', b, 'z', c) AS s FROM t)", 6),
            ("WITH t1 AS (SELECT struct(a, b) AS x FROM t) SELECT struct(x, x), x FROM t1", 4),
        ];
        for (sql, wanted) in cases {
            assert_eq!(fields(sql), wanted, "{sql}");
        }
    }
}
