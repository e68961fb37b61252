//! Statements as text: where one ends, and which ones only read.

use std::ops::ControlFlow;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, WriteOp};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, JoinOperator, Query, SetExpr, SetOperator, SetQuantifier, TableFactor, TableWithJoins, Visit, Visitor,
    visit_expressions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer, Whitespace};

use super::error::SqlError;
use super::far::reach_far;
use super::weight::check_tables;
use crate::misread::{misread, misread_number};

/// Cuts `text` at its semicolons, those in strings and comments aside. Pieces without a word are dropped. The second
/// value is true if the last piece was ended by a semicolon, too.
///
/// # Errors
/// [`SqlError::Syntax`] where a string or comment is opened and never closed.
pub fn split(text: &str) -> Result<(Vec<String>, bool), SqlError> {
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| SqlError::Syntax { message: error.to_string() })?;
    let mut statements = Vec::new();
    let (mut start, mut words, mut ended) = (0, false, true);
    for token in &tokens {
        match &token.token {
            Token::SemiColon => {
                let end = byte_offset(text, token.span.start);
                if words {
                    statements.push(text[start..end].trim().to_owned());
                }
                (start, words, ended) = (end + 1, false, true);
            }
            Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {}
            Token::Whitespace(_) | Token::EOF => {}
            _ => (words, ended) = (true, false),
        }
    }
    if words {
        statements.push(text[start..].trim().to_owned());
    }
    Ok((statements, ended))
}

/// Lines and columns count from 1, columns in characters.
fn byte_offset(text: &str, location: Location) -> usize {
    let line_start = match location.line.saturating_sub(1) {
        0 => 0,
        lines => {
            let nth = usize::try_from(lines - 1).unwrap_or(usize::MAX);
            text.match_indices('\n').nth(nth).map_or(text.len(), |(newline, _)| newline + 1)
        }
    };
    let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
    text[line_start..].char_indices().nth(column).map_or(text.len(), |(offset, _)| line_start + offset)
}

/// Deepest chain of operators: `a OR b OR c` is as deep as it is long, and what takes a statement apart recurses.
const CHAIN_MAX: usize = 2_000;

/// Refuses a statement whose operators nest too deep for the stack. Brackets are the parser's to bound, and it does.
fn check_depth(text: &str) -> Result<(), SqlError> {
    // What the tokenizer refuses, the parser does, and says so better.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else { return Ok(()) };
    // Operators since the last comma or clause, and queries put together: in this bracket, and in those around it.
    let (mut chain, mut queries) = (0, 0);
    let mut around: Vec<(usize, usize)> = Vec::new();
    for token in tokens {
        match step(&token) {
            Step::Open => {
                around.push((chain, queries));
                (chain, queries) = (0, 0);
            }
            Step::Close => (chain, queries) = around.pop().unwrap_or((0, 0)),
            Step::Apart => chain = 0,
            Step::Operator => chain += 1,
            Step::Queries => queries += 1,
            Step::Nothing => continue,
        }
        let outside: usize = around.iter().map(|(chain, queries)| chain + queries).sum();
        if outside + chain + queries > CHAIN_MAX || around.len() > CHAIN_MAX {
            return Err(SqlError::TooDeep { limit: CHAIN_MAX });
        }
    }
    Ok(())
}

/// Refuses numbers that the parser takes for something else.
fn check_numbers(text: &str) -> Result<(), SqlError> {
    // As above.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() else { return Ok(()) };
    misread_number(text, &tokens).map_or(Ok(()), |message| Err(SqlError::Syntax { message }))
}

/// What a token does to the depth of the statement.
#[derive(Clone, Copy)]
enum Step {
    Open,
    Close,
    /// What follows is no deeper for what came before.
    Apart,
    Operator,
    /// Puts two queries or tables together.
    Queries,
    Nothing,
}

fn step(token: &Token) -> Step {
    match token {
        Token::LParen => Step::Open,
        Token::RParen => Step::Close,
        Token::Comma | Token::SemiColon => Step::Apart,
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => Step::Operator,
        Token::Ampersand | Token::Pipe | Token::Caret | Token::DoubleColon | Token::LBracket => Step::Operator,
        Token::Word(word) => match word.keyword {
            Keyword::AND | Keyword::OR | Keyword::NOT => Step::Operator,
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => Step::Queries,
            Keyword::SELECT | Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::ON => Step::Apart,
            _ => Step::Nothing,
        },
        _ => Step::Nothing,
    }
}

/// What the statement asks for that DataFusion passes over without a word, or refuses in the words of its parser; and what it
/// would do, or is to be written, instead.
fn passed_over(statement: &Statement) -> Option<&'static str> {
    struct PassedOver;

    impl Visitor for PassedOver {
        type Break = &'static str;

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
            match query_counts_rows(query) {
                true => ControlFlow::Break("EXCEPT ALL and INTERSECT ALL: the engine would not count equal rows"),
                false => unread_join(query).map_or(ControlFlow::Continue(()), ControlFlow::Break),
            }
        }

        fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<&'static str> {
            match table {
                TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                    ControlFlow::Break("TABLESAMPLE: the engine would answer from all rows")
                }
                TableFactor::Pivot { .. } => ControlFlow::Break(
                    "PIVOT is not supported: write an aggregate for each column, `sum(x) FILTER (WHERE kind = 'a') AS a`",
                ),
                TableFactor::Unpivot { .. } => ControlFlow::Break(
                    "UNPIVOT is not supported: write a SELECT for each column, and put them together by UNION ALL",
                ),
                TableFactor::NestedJoin { table_with_joins, .. } => {
                    unread_kind(table_with_joins).map_or(ControlFlow::Continue(()), ControlFlow::Break)
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }

    match statement {
        Statement::Statement(inner) => {
            inner.visit(&mut PassedOver).break_value().or_else(|| similar_to(inner.as_ref()))
        }
        Statement::Explain(explain) => passed_over(&explain.statement),
        _ => None,
    }
}

/// What to write instead of a `SIMILAR TO` in `node`, if there is one: the engine takes its pattern for a regular expression that
/// may be found anywhere.
pub(crate) fn similar_to(node: &impl Visit) -> Option<&'static str> {
    let found = visit_expressions(node, |expr| match expr {
        Expr::SimilarTo { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found
        .is_break()
        .then_some("SIMILAR TO is not supported: write LIKE, or a regular expression, `regexp_like(x, '^(a|b)$')`")
}

/// A kind of join in the `FROM` of a query, those in brackets aside, that has another name here.
fn unread_join(query: &Query) -> Option<&'static str> {
    let mut sides = vec![query.body.as_ref()];
    while let Some(side) = sides.pop() {
        match side {
            SetExpr::Select(select) => {
                if let Some(unread) = select.from.iter().find_map(unread_kind) {
                    return Some(unread);
                }
            }
            SetExpr::SetOperation { left, right, .. } => sides.extend([left.as_ref(), right.as_ref()]),
            _ => {}
        }
    }
    None
}

fn unread_kind(tables: &TableWithJoins) -> Option<&'static str> {
    tables.joins.iter().find_map(|join| match join.join_operator {
        JoinOperator::Semi(_) => Some("SEMI JOIN is not supported: write LEFT SEMI JOIN"),
        JoinOperator::Anti(_) => Some("ANTI JOIN is not supported: write LEFT ANTI JOIN"),
        _ => None,
    })
}

/// True if it matters to a query, those in brackets aside, how often a row is in what it puts together.
fn query_counts_rows(query: &Query) -> bool {
    let mut sides = vec![query.body.as_ref()];
    while let Some(side) = sides.pop() {
        let SetExpr::SetOperation { left, op, set_quantifier, right } = side else { continue };
        let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
        if all && !matches!(op, SetOperator::Union) {
            return true;
        }
        sides.extend([left.as_ref(), right.as_ref()]);
    }
    false
}

/// The one statement that `text` is.
pub(super) fn parse(text: &str) -> Result<Statement, SqlError> {
    check_depth(text)?;
    check_numbers(text)?;
    let mut statements = DFParser::parse_sql(text).map_err(SqlError::from_planning)?;
    match (statements.pop_front(), statements.len()) {
        (Some(mut statement), 0) => {
            if let Some(statement) = change(&statement) {
                return Err(SqlError::ReadOnly { statement });
            }
            if let Statement::Statement(inner) = &statement
                && let Some(message) = misread(inner.as_ref())
            {
                return Err(SqlError::Plan { message });
            }
            if let Some(what) = passed_over(&statement) {
                return Err(SqlError::from_planning(DataFusionError::NotImplemented(what.to_owned())));
            }
            check_tables(&statement)?;
            reach_far(&mut statement);
            Ok(statement)
        }
        (first, others) => Err(SqlError::Statements { count: others + usize::from(first.is_some()) }),
    }
}

/// The first word of a statement that does not only read; seen before its tables are, which may not exist yet.
fn change(statement: &Statement) -> Option<String> {
    use datafusion::sql::sqlparser::ast::Statement as Sql;
    let reads = match statement {
        Statement::CreateExternalTable(_) => true,
        Statement::Explain(explain) => return change(&explain.statement),
        Statement::CopyTo(_) | Statement::Reset(_) => false,
        Statement::Statement(statement) => matches!(
            statement.as_ref(),
            Sql::Query(_)
                | Sql::Explain { .. }
                | Sql::ExplainTable { .. }
                | Sql::ShowTables { .. }
                | Sql::ShowColumns { .. }
                | Sql::ShowCreate { .. }
                | Sql::ShowFunctions { .. }
                | Sql::ShowVariable { .. }
        ),
    };
    if reads {
        return None;
    }
    let text = statement.to_string();
    Some(text.split_whitespace().next().unwrap_or("the statement").to_uppercase())
}

/// Refuses a plan that would change anything but the session's own list of tables.
pub(super) fn check_reads_only(plan: &LogicalPlan) -> Result<(), SqlError> {
    if matches!(plan, LogicalPlan::Ddl(DdlStatement::CreateExternalTable(_))) {
        return Ok(());
    }
    let mut refused = None;
    plan.apply_with_subqueries(|plan| {
        refused = match plan {
            LogicalPlan::Ddl(ddl) => Some(spaced(ddl.name())),
            LogicalPlan::Dml(dml) => Some(match dml.op {
                WriteOp::Insert(_) => "INSERT".to_owned(),
                WriteOp::Delete => "DELETE".to_owned(),
                WriteOp::Update => "UPDATE".to_owned(),
                ref other => other.name().to_uppercase(),
            }),
            LogicalPlan::Copy(_) => Some("COPY".to_owned()),
            LogicalPlan::Statement(statement) => Some(spaced(statement.name())),
            _ => None,
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(SqlError::from_planning)?;
    refused.map_or(Ok(()), |statement| Err(SqlError::ReadOnly { statement }))
}

/// `CreateMemoryTable` → `CREATE MEMORY TABLE`.
fn spaced(name: &str) -> String {
    let mut spaced = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !spaced.is_empty() {
            spaced.push(' ');
        }
        spaced.extend(letter.to_uppercase());
    }
    spaced
}
