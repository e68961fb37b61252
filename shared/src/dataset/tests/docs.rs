//! `docs/dataset.md` names every key, type and reason that there is, and no other; its example is valid.

use std::collections::BTreeSet;

use super::super::parse::KEYS;
use super::super::types::parse_type;
use super::*;
use crate::reject::Reason;

fn documented() -> String {
    std::fs::read_to_string(repository().join("docs/dataset.md")).expect("docs/dataset.md is there")
}

/// The words in backticks in the first cells of the tables right under `heading`, to the next heading.
fn first_cells(text: &str, heading: &str) -> BTreeSet<String> {
    let after = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`")).1;
    let rows = after.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_key_is_documented_and_no_other() {
    let text = documented();
    for (heading, keys) in KEYS {
        let known: BTreeSet<String> = keys.iter().flat_map(|keys| keys.iter()).map(|key| (*key).to_owned()).collect();
        assert_eq!(first_cells(&text, heading), known, "{heading}");
    }
    let sections = text.lines().filter(|line| line.starts_with("## `[")).count();
    assert_eq!(sections, KEYS.iter().filter(|(heading, _)| heading.starts_with("## `[")).count());
}

#[test]
fn every_type_is_documented() {
    let found: BTreeSet<String> = first_cells(&documented(), "### Types")
        .iter()
        .map(|name| name.split(['<', '(']).next().unwrap_or_default().to_owned())
        .collect();
    let known: BTreeSet<String> = super::super::types::NAMES.into_iter().chain(["struct"]).map(str::to_owned).collect();
    assert_eq!(found, known);
    parse_type("struct<a: int64, b: list<string>>").expect("written as documented");
}

#[test]
fn every_reason_is_documented_and_no_other() {
    let reasons = [
        Reason::Width,
        Reason::Truncated,
        Reason::BadValue,
        Reason::Missing,
        Reason::BadUtf8,
        Reason::BadQuote,
        Reason::BadJson,
        Reason::TooLong,
        Reason::BrokenStream,
        Reason::BadFile,
        Reason::NonexistentTime,
        Reason::Transform,
        Reason::Rule("<name>".to_owned()),
    ];
    let known: BTreeSet<String> = reasons.iter().map(Reason::code).collect();
    assert_eq!(first_cells(&documented(), "## Rejects"), known);
}

#[test]
fn the_documented_example_is_valid() {
    let text = documented();
    let block = |language: &str| {
        let body = text.split_once(&format!("```{language}\n")).expect("there is one").1;
        body.split_once("```").expect("it ends").0.to_owned()
    };
    assert_eq!(problems(&block("toml"), &block("sql")), Vec::<String>::new());
}
