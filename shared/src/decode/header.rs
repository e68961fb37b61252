//! Matching the columns of an input to the input columns of a definition, by name and aliases.

use std::collections::HashMap;

use super::Notes;
use super::notes::UNKNOWN_MAX;
use crate::dataset::InputColumn;
use crate::reject::Reason;

use super::rows::Fault;

/// A name as it is compared: without white space, in lower case. Underscores count.
#[must_use]
pub fn normalized(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

/// Input columns by every name they go by.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    by_name: HashMap<String, usize>,
}

impl Names {
    /// A column's own name goes before the aliases of others; among aliases the earlier column wins.
    pub(crate) fn new(columns: &[InputColumn]) -> Self {
        let mut by_name = HashMap::new();
        for (index, column) in columns.iter().enumerate() {
            by_name.entry(normalized(&column.name)).or_insert(index);
        }
        for (index, column) in columns.iter().enumerate() {
            for alias in &column.aliases {
                by_name.entry(normalized(alias)).or_insert(index);
            }
        }
        Self { by_name }
    }

    /// The input column that goes by `name`.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&normalized(name)).copied()
    }
}

/// Which field of the input feeds which input column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matching {
    /// For each field of the input, the input column it feeds.
    pub(crate) targets: Vec<Option<usize>>,
    /// For each input column, whether no field feeds it.
    pub(crate) absent: Vec<bool>,
}

impl Matching {
    /// Fields are the input columns in order.
    pub(crate) fn in_order(columns: usize) -> Self {
        Self { targets: (0..columns).map(Some).collect(), absent: vec![false; columns] }
    }

    /// Matches by name. Fails with [`Reason::BadFile`] when a required column has no field, no field is known at all, or
    /// two fields go by one column: which of them counts nobody can know, and a column that is silently the wrong one is
    /// worse than a file that waits for a better definition.
    pub(crate) fn by_name(fields: &[String], columns: &[InputColumn], notes: &mut Notes) -> Result<Self, Fault> {
        let names = Names::new(columns);
        let mut fed_by: Vec<Option<usize>> = vec![None; columns.len()];
        let mut targets = Vec::with_capacity(fields.len());
        let mut unknown = Vec::new();
        for (position, field) in fields.iter().enumerate() {
            let target = names.find(field);
            match target {
                None => unknown.push(field.trim()),
                Some(index) => {
                    if let Some(earlier) = fed_by[index].replace(position) {
                        return Err(duplicate(fields, earlier, position, index, columns));
                    }
                }
            }
            targets.push(target);
        }
        notes.unknown_columns = unknown.iter().take(UNKNOWN_MAX).map(|name| (*name).to_owned()).collect();
        if unknown.len() > UNKNOWN_MAX {
            notes.unknown_columns.push(format!("and {} more", unknown.len() - UNKNOWN_MAX));
        }
        let absent: Vec<bool> = fed_by.iter().map(Option::is_none).collect();
        let missing = || columns.iter().enumerate().filter(|(index, _)| absent[*index]);
        if let Some((index, column)) = missing().find(|(_, column)| column.required) {
            let message = format!("required column {} is not in the file, which has: {}", column.name, list(fields));
            return Err(Fault { reason: Reason::BadFile, column: Some(index), message });
        }
        if !columns.is_empty() && absent.iter().all(|absent| *absent) {
            let message = format!("no column of the file is known: {}", list(fields));
            return Err(Fault::record(Reason::BadFile, message));
        }
        notes.missing_columns = missing().map(|(_, column)| column.name.clone()).collect();
        Ok(Self { targets, absent })
    }
}

fn duplicate(fields: &[String], first: usize, second: usize, index: usize, columns: &[InputColumn]) -> Fault {
    let name = &columns[index].name;
    let (one, other) = (fields[first].trim(), fields[second].trim());
    let (first, second) = (first + 1, second + 1);
    let way_out = if normalized(one) == normalized(other) {
        "rename one of them in the file, or leave the column out of the definition"
    } else {
        "take the alias of one of them out of the definition, or rename it in the file"
    };
    let message =
        format!("columns {first} and {second} of the file, `{one}` and `{other}`, are both column {name}: {way_out}");
    Fault { reason: Reason::BadFile, column: Some(index), message }
}

/// Field names for a message; a file may have thousands.
fn list(fields: &[String]) -> String {
    const SHOWN: usize = 40;
    let shown: Vec<&str> = fields.iter().take(SHOWN).map(|field| field.trim()).collect();
    let more = if fields.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
