//! Reading SQL of a definition: one bounded statement, and what no per-record transform may contain.

use std::ops::ControlFlow;

use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SetExpr, Spanned, Statement, TableFactor, TableWithJoins, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, Tokenizer};

use super::functions::Functions;
use super::zone::zone_problems;
use crate::dataset::nearest;
use crate::misread::{misread, misread_number};
use crate::sql::similar_to;

/// Most tokens of one SQL text. With it the depth of what the parser builds is bounded.
const TOKENS_MAX: usize = 8_000;
/// Deepest nesting of expressions; evaluation is recursive.
const DEPTH_MAX: usize = 150;
/// Longest SQL excerpt in a message, in characters.
const EXCERPT_MAX: usize = 60;

/// The name under which the transform reads its records.
pub(super) const INPUT: &str = "input";

/// One thing that is wrong with an SQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlProblem {
    /// Line in the text, from 1.
    pub(crate) line: Option<u64>,
    /// Column in the line, from 1.
    pub(crate) column: Option<u64>,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl SqlProblem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { line: None, column: None, message: message.into(), suggestion: None }
    }

    pub(super) fn at(mut self, span: Span) -> Self {
        if span.start != Location::empty() {
            self.line = Some(span.start.line);
            self.column = Some(span.start.column);
        }
        self
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// The one statement of `sql`.
pub(crate) fn parse_one(sql: &str) -> Result<Statement, SqlProblem> {
    let mut statements = parser(sql)?.parse_statements().map_err(|error| located(&error.to_string()))?;
    match (statements.pop(), statements.len()) {
        (Some(statement), 0) => unread(&statement).map_or(Ok(statement), Err),
        (None, _) => Err(SqlProblem::new("there is no statement")),
        (Some(_), more) => Err(SqlProblem::new(format!("{} statements instead of one", more + 1))),
    }
}

/// The one expression that `sql` is.
pub(super) fn parse_condition(sql: &str) -> Result<Expr, SqlProblem> {
    let mut parser = parser(sql)?;
    let expr = parser.parse_expr().map_err(|error| located(&error.to_string()))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(SqlProblem::new(format!("unexpected `{}` after the condition", next.token)).at(next.span));
    }
    unread(&expr).map_or(Ok(expr), Err)
}

/// What the parser reads, and means something else.
fn unread(node: &impl Visit) -> Option<SqlProblem> {
    misread(node).or_else(|| similar_to(node).map(str::to_owned)).map(SqlProblem::new)
}

fn parser(sql: &str) -> Result<Parser<'static>, SqlProblem> {
    let dialect = &GenericDialect {};
    let tokens = Tokenizer::new(dialect, sql).tokenize_with_location().map_err(|error| located(&error.to_string()))?;
    if tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count() > TOKENS_MAX {
        return Err(SqlProblem::new(format!("longer than {TOKENS_MAX} words and signs")));
    }
    if let Some(message) = misread_number(sql, &tokens) {
        return Err(SqlProblem::new(message));
    }
    Ok(Parser::new(dialect).with_tokens_with_locations(tokens))
}

/// The parser tells the place at the end of its text: `… at Line: 3, Column: 14`.
fn located(text: &str) -> SqlProblem {
    let text = text.trim_start_matches("sql parser error: ");
    let place = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, line.parse().ok()?, column.trim().parse().ok()?))
    });
    match place {
        Some((message, line, column)) => {
            SqlProblem { line: Some(line), column: Some(column), message: lowercase_first(message), suggestion: None }
        }
        None => SqlProblem::new(lowercase_first(text)),
    }
}

pub(super) fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

pub(super) fn excerpt(sql: impl std::fmt::Display) -> String {
    let text = sql.to_string();
    match text.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The `SELECT` of a transform, or everything about the statement that is not per record or not deterministic.
pub(super) fn per_record_select(statement: &Statement) -> Result<&Select, Vec<SqlProblem>> {
    let Statement::Query(query) = statement else {
        let problem = SqlProblem::new(format!("`{}` is not a SELECT", excerpt(statement)));
        return Err(vec![problem.at(statement.span())]);
    };
    let SetExpr::Select(select) = query.body.as_ref() else {
        let problem = match query.body.as_ref() {
            SetExpr::SetOperation { op, .. } => SqlProblem::new(format!("{op} is not per record")),
            body => SqlProblem::new(format!("`{}` is not a SELECT … FROM input", excerpt(body))),
        };
        return Err(vec![problem.suggest("write one SELECT … FROM input").at(query.body.span())]);
    };
    let mut problems = query_clauses(query);
    problems.extend(select_clauses(select));
    problems.extend(relation(select));
    for item in &select.projection {
        problems.extend(expression_problems(item));
    }
    if let Some(condition) = &select.selection {
        problems.extend(expression_problems(condition));
    }
    if problems.is_empty() { Ok(select) } else { Err(problems) }
}

fn refused(clause: &str, why: &str) -> SqlProblem {
    SqlProblem::new(format!("{clause} is refused: {why}"))
}

fn query_clauses(query: &Query) -> Vec<SqlProblem> {
    let mut problems = Vec::new();
    if let Some(with) = &query.with {
        problems.push(refused("WITH", "a transform is one SELECT … FROM input").at(with.span()));
    }
    if let Some(order) = &query.order_by {
        problems
            .push(refused(&format!("`{}`", excerpt(order)), "records keep the order they came in").at(order.span()));
    }
    let limit = query.limit_clause.as_ref().map(|limit| excerpt(limit).trim().to_owned());
    if let Some(limit) = limit.or_else(|| query.fetch.as_ref().map(excerpt)) {
        problems.push(refused(&format!("`{limit}`"), "it depends on other records than the one at hand"));
    }
    let other = !query.locks.is_empty()
        || query.for_clause.is_some()
        || query.settings.is_some()
        || query.format_clause.is_some()
        || !query.pipe_operators.is_empty();
    if other {
        problems.push(refused("a clause after the WHERE", "a transform ends with its WHERE").at(query.span()));
    }
    problems
}

fn select_clauses(select: &Select) -> Vec<SqlProblem> {
    let grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
    };
    let others = "it depends on other records than the one at hand";
    let clauses: [(bool, &str); 13] = [
        (select.distinct.is_some(), "DISTINCT"),
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "INTO"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (grouped, "GROUP BY"),
        (!select.cluster_by.is_empty(), "CLUSTER BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (select.having.is_some(), "HAVING"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
    ];
    let found = clauses.into_iter().filter(|(present, _)| *present);
    found.map(|(_, clause)| refused(clause, others).at(select.span())).collect()
}

fn relation(select: &Select) -> Vec<SqlProblem> {
    let hint = "write FROM input; lookups are CASE expressions";
    let [TableWithJoins { relation, joins }] = select.from.as_slice() else {
        let message = match select.from.len() {
            0 => "there is no FROM input".to_owned(),
            _ => "a join of several tables is refused: a transform reads only input".to_owned(),
        };
        return vec![SqlProblem::new(message).suggest(hint).at(select.span())];
    };
    let mut problems = Vec::new();
    if let Some(join) = joins.first() {
        let text = excerpt(join.to_string().trim());
        problems.push(refused(&format!("`{text}`"), "a transform reads only input").suggest(hint).at(join.span()));
    }
    let plain = match relation {
        TableFactor::Table { name, alias, .. } => {
            let alias = alias.as_ref().map_or_else(String::new, |alias| format!(" {alias}"));
            name.to_string().eq_ignore_ascii_case(INPUT) && relation.to_string() == format!("{name}{alias}")
        }
        _ => false,
    };
    if !plain {
        let message = format!("FROM `{}` is refused: a transform reads only input", excerpt(relation));
        problems.push(SqlProblem::new(message).suggest(hint).at(relation.span()));
    }
    problems
}

/// Everything inside expressions that is not per record, not deterministic, or nested too deep.
pub(super) fn expression_problems(node: &impl Visit) -> Vec<SqlProblem> {
    let mut walk = Walk::default();
    if node.visit(&mut walk).is_break() {
        walk.problems.push(SqlProblem::new(format!("expressions are nested deeper than {DEPTH_MAX}")));
        return walk.problems;
    }
    walk.problems.extend(zone_problems(node));
    walk.problems
}

#[derive(Default)]
struct Walk {
    depth: usize,
    problems: Vec<SqlProblem>,
}

impl Visitor for Walk {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let clause = format!("the subquery `{}`", excerpt(query));
        self.problems.push(refused(&clause, "a transform sees one record at a time").at(query.span()));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return ControlFlow::Break(());
        }
        if let Expr::Function(function) = expr {
            let name = function.name.to_string().to_lowercase();
            let window = function.over.is_some();
            self.problems.extend(function_problem(&name, window, expr).map(|problem| problem.at(expr.span())));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

fn function_problem(name: &str, window: bool, expr: &Expr) -> Option<SqlProblem> {
    let functions = Functions::get();
    let call = format!("`{}`", excerpt(expr));
    if window || functions.is_window(name) && functions.scalar(name).is_none() {
        return Some(refused(&call, "a window function sees other records than the one at hand"));
    }
    if let Some(function) = functions.scalar(name) {
        let why = match function.signature().volatility {
            Volatility::Immutable => return None,
            Volatility::Stable => "it gives another value when the records are recomputed later",
            Volatility::Volatile => "it gives another value each time",
        };
        return Some(refused(&call, why).suggest("take the value from the record"));
    }
    if functions.is_aggregate(name) {
        let problem = refused(&call, "an aggregate sees other records than the one at hand");
        return Some(problem.suggest("aggregates belong into views/*.sql"));
    }
    if name == "unnest" {
        return Some(refused(&call, "a record yields at most one row"));
    }
    let problem = SqlProblem::new(format!("unknown function `{name}`"));
    Some(match nearest(name, functions.scalar_names()) {
        Some(near) => problem.suggest(format!("did you mean `{near}`?")),
        None => problem,
    })
}

/// Column names in `node` that are none of `known`, with the nearest that is. `tables` may stand before a name.
pub(super) fn unknown_columns(node: &impl Visit, tables: &[(&str, &[String])]) -> Vec<SqlProblem> {
    let mut walk = Columns { tables, problems: Vec::new() };
    let done = node.visit(&mut walk);
    debug_assert!(done.is_continue(), "the walk never breaks off");
    walk.problems
}

struct Columns<'a> {
    /// The first table's columns may stand alone.
    tables: &'a [(&'a str, &'a [String])],
    problems: Vec<SqlProblem>,
}

fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

impl Columns<'_> {
    fn look(&mut self, ident: &Ident, columns: &[String]) {
        let name = normal(ident);
        if columns.contains(&name) {
            return;
        }
        let problem = SqlProblem::new(format!("unknown column `{name}`")).at(ident.span);
        let near = nearest(&name, columns.iter().map(String::as_str));
        self.problems.push(match near {
            Some(near) => problem.suggest(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
}

impl Visitor for Columns<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let Some((_, own)) = self.tables.first().copied() else { return ControlFlow::Continue(()) };
        match expr {
            Expr::Identifier(ident) => self.look(ident, own),
            Expr::CompoundIdentifier(parts) => {
                let table = parts.first().map(normal).unwrap_or_default();
                let found = self.tables.iter().find(|(name, _)| *name == table).map(|(_, columns)| *columns);
                match (found, parts.as_slice()) {
                    (Some(columns), [_, column, ..]) => self.look(column, columns),
                    (_, [first, ..]) => self.look(first, own),
                    _ => {}
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
