//! Reading a TOML file value by value, so that every mistake in it is found in one go and has a line.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use crate::dataset::{Problem, nearest};

/// Problems found in one file.
pub struct Document<'t> {
    file: &'t str,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

/// A string of the document and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The string.
    pub value: String,
    /// Its first byte in the document, the quote.
    pub at: usize,
}

impl<'t> Document<'t> {
    /// The document that is in `file`, as problems are to name it.
    #[must_use]
    pub fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, problems: RefCell::new(Vec::new()) }
    }

    /// The text as TOML; where it is not, the first place becomes a problem. What follows such a place is guesswork.
    #[must_use]
    pub fn tree(&self) -> DeTable<'t> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        if let Some(error) = errors.iter().min_by_key(|error| place(error)) {
            let message = error.message().lines().next().unwrap_or_default().to_owned();
            self.problem(place(error), message, None);
        }
        tree.into_inner()
    }

    /// Notes that something is wrong at byte `at`.
    pub fn problem(&self, at: usize, message: impl Into<String>, suggestion: Option<String>) {
        self.problem_on(self.line(at), message, suggestion);
    }

    /// Notes that something is wrong on a line.
    pub fn problem_on(&self, line: u64, message: impl Into<String>, suggestion: Option<String>) {
        let (file, message, line) = (self.file.to_owned(), message.into(), Some(line));
        self.problems.borrow_mut().push(Problem { file, line, column: None, message, suggestion });
    }

    /// Line of a byte of the text, from 1.
    #[must_use]
    pub fn line(&self, at: usize) -> u64 {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Line in the document of line `line` of a string, which may be a multi-line one.
    #[must_use]
    pub fn line_within(&self, text: &Text, line: u64) -> u64 {
        let opening = self.text.get(text.at..).unwrap_or_default();
        let body = opening.strip_prefix("\"\"\"").or_else(|| opening.strip_prefix("'''"));
        let skipped = body.is_some_and(|body| body.starts_with('\n') || body.starts_with("\r\n"));
        self.line(text.at) + u64::from(skipped) + line.saturating_sub(1)
    }

    /// All that was found to be wrong.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// True if something was found to be wrong.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }
}

/// One table of the document.
pub struct Section<'d> {
    document: &'d Document<'d>,
    /// As it is written: `[gate]`, or empty for the top.
    name: String,
    table: &'d DeTable<'d>,
    /// Where it starts, in bytes.
    pub at: usize,
}

impl<'d> Section<'d> {
    /// A table with the keys `known`; others are problems.
    pub fn new(document: &'d Document<'d>, name: &str, table: &'d DeTable<'d>, at: usize, known: &[&str]) -> Self {
        for (key, _) in table {
            let key_name = key.get_ref().as_ref();
            if known.contains(&key_name) {
                continue;
            }
            let near = nearest(key_name, known.iter().copied());
            let suggestion = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let place = if name.is_empty() { String::new() } else { format!(" in {name}") };
            document.problem(key.span().start, format!("unknown key `{key_name}`{place}"), Some(suggestion));
        }
        Self { document, name: name.to_owned(), table, at }
    }

    fn find(&self, key: &str) -> Option<(usize, &'d Spanned<DeValue<'d>>)> {
        let found = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
        found.map(|(name, value)| (name.span().start, value))
    }

    /// A value as people write it in a configuration: a string, or a decimal number as text; and its line.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<(String, u64)> {
        let (at, value) = self.find(key)?;
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            _ => {
                self.document.problem(at, format!("`{}` must be a text or a number", self.path(key)), None);
                return None;
            }
        };
        Some((text, self.document.line(at)))
    }

    /// True if it has the key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Where `key` stands, else where the section starts.
    #[must_use]
    pub fn place(&self, key: &str) -> usize {
        self.find(key).map_or(self.at, |(at, _)| at)
    }

    /// Notes that something is wrong with a key.
    pub fn problem(&self, key: &str, message: impl Into<String>, suggestion: Option<&str>) {
        self.document.problem(self.place(key), message, suggestion.map(str::to_owned));
    }

    fn missing(&self, key: &str) {
        let place = if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) };
        self.document.problem(self.at, format!("`{key}` is missing{place}"), None);
    }

    fn wrong_type(&self, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str) {
        let found = value.get_ref().type_str();
        let message = format!("`{key}` must be {wanted}, not a TOML {found}");
        self.document.problem(value.span().start, message, None);
    }

    /// A string, if the key is there and has one.
    #[must_use]
    pub fn string(&self, key: &str) -> Option<Text> {
        let (_, value) = self.find(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Text { value: text.to_string(), at: value.span().start }),
            _ => {
                self.wrong_type(value, key, "a string");
                None
            }
        }
    }

    /// The same; that it is missing is a problem.
    #[must_use]
    pub fn required_string(&self, key: &str) -> Option<Text> {
        if !self.has(key) {
            self.missing(key);
        }
        self.string(key)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        let (_, value) = self.find(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(value, key, "true or false");
        }
        flag
    }

    /// A whole number within a range.
    #[must_use]
    pub fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (_, value) = self.find(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(value, key, "a whole number");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| range.contains(n));
        if number.is_none() {
            let message = format!("`{key}` must be from {} to {}", range.start(), range.end());
            self.document.problem(value.span().start, message, None);
        }
        number
    }

    /// A share between 0 and 1.
    #[must_use]
    pub fn ratio(&self, key: &str) -> Option<f64> {
        let (_, value) = self.find(key)?;
        let text = match value.get_ref() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) => number.as_str(),
            _ => {
                self.wrong_type(value, key, "a number from 0 to 1");
                return None;
            }
        };
        let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.document.problem(value.span().start, format!("`{key}` must be from 0 to 1"), None);
        }
        ratio
    }

    /// A list of strings; empty where it is missing.
    #[must_use]
    pub fn strings(&self, key: &str) -> Vec<Text> {
        let Some((_, value)) = self.find(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, key, "a list of strings");
            return Vec::new();
        };
        let text = |item: &'d Spanned<DeValue<'d>>| match item.get_ref() {
            DeValue::String(text) => Some(Text { value: text.to_string(), at: item.span().start }),
            _ => {
                self.wrong_type(item, key, "a list of strings");
                None
            }
        };
        items.iter().filter_map(text).collect()
    }

    /// A table with the keys `known`.
    #[must_use]
    pub fn section(&self, key: &str, known: &[&str]) -> Option<Section<'d>> {
        let (at, value) = self.find(key)?;
        match value.get_ref() {
            DeValue::Table(table) => {
                Some(Section::new(self.document, &format!("[{}]", self.path(key)), table, at, known))
            }
            _ => {
                self.wrong_type(value, key, "a table");
                None
            }
        }
    }

    /// A list of tables, each with the keys `known`.
    #[must_use]
    pub fn sections(&self, key: &str, known: &[&str]) -> Vec<Section<'d>> {
        let Some((_, value)) = self.find(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(value, key, "a list of tables");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    let name = format!("[[{}]]", self.path(key));
                    sections.push(Section::new(self.document, &name, table, item.span().start, known));
                }
                _ => self.wrong_type(item, key, "a list of tables"),
            }
        }
        sections
    }

    fn path(&self, key: &str) -> String {
        let own = self.name.trim_matches(['[', ']']);
        if own.is_empty() { key.to_owned() } else { format!("{own}.{key}") }
    }
}
