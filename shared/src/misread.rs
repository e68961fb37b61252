//! Expressions that the SQL parser reads otherwise than they are meant.
//!
//! It takes all that follows `IS [NOT] DISTINCT FROM` for the right side, where SQL ends that before the next `AND`, `OR` or
//! `IS`: `a IS DISTINCT FROM b AND c` would be `a IS DISTINCT FROM (b AND c)`. What is written with parentheses is read as
//! it is meant, so that they are asked for.
//!
//! And it ends a number before `_`: `1_000` would be `1`, named `_000`. `0x1F` it takes for bytes.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// What to write instead of an expression in `node` that is read otherwise than it is meant, if there is one.
pub(crate) fn misread(node: &impl Visit) -> Option<String> {
    match node.visit(&mut Walk) {
        ControlFlow::Break(message) => Some(message),
        ControlFlow::Continue(()) => None,
    }
}

/// What to write instead of a number among the tokens of `text` that is read otherwise than it is meant, if there is one.
pub(crate) fn misread_number(text: &str, tokens: &[TokenWithSpan]) -> Option<String> {
    let cut = tokens.windows(2).find_map(|pair| match (&pair[0].token, &pair[1].token) {
        (Token::Number(number, _), Token::Word(word)) if word.quote_style.is_none() && word.value.starts_with('_') => {
            let whole = format!("{number}{}", word.value);
            Some(format!("`{whole}` is no number: write it without `_`, `{}`", whole.replace('_', "")))
        }
        _ => None,
    });
    cut.or_else(|| {
        tokens.iter().find_map(|token| match &token.token {
            Token::HexStringLiteral(digits) if is_number(text, token) => {
                let written = i64::from_str_radix(digits, 16).map_or_else(|_| String::new(), |n| format!(", `{n}`"));
                Some(format!(
                    "`0x{digits}` is read as bytes: write a number in decimal{written}, and bytes as `X'{digits}'`"
                ))
            }
            _ => None,
        })
    })
}

/// True for `0x1F`, false for `X'1F'`, which is the same token.
fn is_number(text: &str, token: &TokenWithSpan) -> bool {
    let place = |count: u64| usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
    let start = token.span.start;
    let line = text.split('\n').nth(place(start.line)).unwrap_or_default();
    line.chars().nth(place(start.column)) == Some('0')
}

struct Walk;

impl Visitor for Walk {
    type Break = String;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        let (words, right) = match expr {
            Expr::IsDistinctFrom(_, right) => ("IS DISTINCT FROM", right),
            Expr::IsNotDistinctFrom(_, right) => ("IS NOT DISTINCT FROM", right),
            _ => return ControlFlow::Continue(()),
        };
        if binds_looser(right) {
            return ControlFlow::Break(format!(
                "`… {words} {right}` is ambiguous: write `(… {words} …)` with parentheses around what is compared"
            ));
        }
        ControlFlow::Continue(())
    }
}

/// True for what, without parentheses, is no operand of `IS`.
fn binds_looser(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
    )
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::{misread, misread_number};

    #[test]
    fn a_number_is_written_in_digits_alone() {
        let found = |sql: &str| {
            let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().expect("tokens");
            misread_number(sql, &tokens)
        };
        for (refused, instead) in [
            ("SELECT cents * 1_000 FROM t", "`1000`"),
            ("SELECT 1.5_0", "`1.50`"),
            ("SELECT\n  'é', 0x1F", "`31`"),
            ("SELECT 0xFFFFFFFFFFFFFFFFFF", "in decimal, and"),
        ] {
            assert!(found(refused).is_some_and(|message| message.contains(instead)), "{refused}: {:?}", found(refused));
        }
        for meant in [
            "SELECT 1 _a, 1 AS _b, t1_000, '1_000', a_1 FROM t_1",
            "SELECT X'1F', x'0a'",
            "SELECT 1\"_a\"",
            "SELECT $1",
        ] {
            assert_eq!(found(meant), None, "{meant}");
        }
    }

    #[test]
    fn what_follows_is_distinct_from_needs_parentheses() {
        let found = |sql: &str| misread(&Parser::parse_sql(&GenericDialect {}, sql).expect("SQL"));
        for refused in [
            "SELECT a IS DISTINCT FROM b AND c FROM t",
            "SELECT 1 FROM t WHERE d OR a IS NOT DISTINCT FROM b OR c",
            "SELECT (SELECT a IS DISTINCT FROM b IS NULL) FROM t",
            "SELECT a IS DISTINCT FROM b IS DISTINCT FROM c FROM t",
        ] {
            assert!(found(refused).is_some_and(|message| message.contains("parentheses")), "{refused}");
        }
        for meant in [
            "SELECT (a IS DISTINCT FROM b) AND c FROM t",
            "SELECT a IS DISTINCT FROM (b AND c) FROM t",
            "SELECT c AND a IS DISTINCT FROM b FROM t",
            "SELECT a IS DISTINCT FROM b + 1, (a IS DISTINCT FROM b) IS NULL FROM t",
        ] {
            assert_eq!(found(meant), None, "{meant}");
        }
    }
}
