//! Which questions an audit asks: each that is about every value of some columns once, a few for rows as they are, and for
//! the rest those that cost little, in an order that nobody can foretell.

use arrow::datatypes::Schema;
use serde_json::Value;
use tidemark_shared::position::{OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

use super::Answered;
use super::fingerprint::quoted;
use super::template::templates;

/// Offsets of a slice: so many rows at most, as they are.
const SLICE_OFFSETS: u64 = 2_000;
/// Slices of an audit: each is looked up in all derived rows, and held in memory until it is compared.
const SLICES_MAX: usize = 8;
/// Of so many questions one is a slice.
const SLICE_EVERY: usize = 10;

/// What is asked about.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The table, as `merged.trips`.
    pub table: &'a str,
    /// Its columns.
    pub schema: &'a Schema,
    /// Those that it is partitioned by.
    pub partition_columns: &'a [String],
    /// Where it has rows.
    pub extents: &'a [Extent],
}

/// A partition that has rows, and between which offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    source: String,
    partition: u64,
    rows: u64,
    least: u64,
    greatest: u64,
}

impl Extent {
    /// The partitions that the answer to [`super::Template::by_position`] names.
    #[must_use]
    pub fn of(answer: &Answered) -> Vec<Self> {
        let number = |cell: Option<&Value>| match cell {
            Some(Value::String(text)) => text.parse::<u64>().ok(),
            other => other?.as_u64(),
        };
        let extent = |row: &Vec<Value>| {
            Some(Self {
                source: row.first()?.as_str()?.to_owned(),
                partition: number(row.get(1))?,
                rows: number(row.get(2))?,
                least: number(row.get(3))?,
                greatest: number(row.get(4))?,
            })
        };
        answer.rows.iter().filter_map(extent).collect()
    }
}

/// `count` questions, in order; `random` yields numbers that nobody can foretell.
#[must_use]
pub fn questions(asked: &Asked<'_>, count: usize, random: &mut dyn FnMut() -> u64) -> Vec<String> {
    let templates = templates(asked.schema, asked.partition_columns);
    let (mut thorough, mut light): (Vec<_>, Vec<_>) = templates.iter().partition(|template| template.is_thorough());
    shuffle(&mut thorough, random);
    shuffle(&mut light, random);
    let mut all: Vec<String> = thorough.iter().map(|template| template.sql(asked.table)).collect();
    all.truncate(count);
    let slices = (count / SLICE_EVERY).min(SLICES_MAX).min(count - all.len());
    all.extend((0..slices).filter_map(|_| slice(asked, random)));
    // In rotation, so that no column is left out.
    let rest = count - all.len();
    all.extend(light.iter().cycle().take(rest).map(|template| template.sql(asked.table)));
    shuffle(&mut all, random);
    all
}

/// The question for all rows of some successive offsets, wherever there are rows; `None` where there are none.
fn slice(asked: &Asked<'_>, random: &mut dyn FnMut() -> u64) -> Option<String> {
    let rows = asked.extents.iter().map(|extent| extent.rows).fold(0, u64::saturating_add);
    let mut row = below(rows, random)?;
    let extent = asked.extents.iter().find(|extent| {
        let is_here = row < extent.rows;
        row = row.saturating_sub(extent.rows);
        is_here
    })?;
    let offsets = extent.greatest.saturating_sub(extent.least).saturating_add(1);
    let start = extent.least.saturating_add(below(offsets.saturating_sub(SLICE_OFFSETS) + 1, random)?);
    let end = start.saturating_add(SLICE_OFFSETS);
    // What lists and structs look like is the format's.
    let columns = asked.schema.fields().iter().filter(|field| !field.data_type().is_nested());
    let columns: Vec<String> = columns.map(|field| quoted(field.name())).collect();
    let (columns, table, source) = (columns.join(", "), asked.table, extent.source.replace('\'', "''"));
    Some(format!(
        "SELECT {columns} FROM {table} WHERE \"{SOURCE_COLUMN}\" = '{source}' AND \"{PARTITION_COLUMN}\" = {} AND \
         \"{OFFSET_COLUMN}\" >= {start} AND \"{OFFSET_COLUMN}\" < {end}",
        extent.partition
    ))
}

/// A number below `end`; `None` if there is none.
fn below(end: u64, random: &mut dyn FnMut() -> u64) -> Option<u64> {
    random().checked_rem(end)
}

fn shuffle<T>(all: &mut [T], random: &mut dyn FnMut() -> u64) {
    for last in (1..all.len()).rev() {
        let other = below(last as u64 + 1, random).and_then(|other| usize::try_from(other).ok());
        all.swap(last, other.unwrap_or(last));
    }
}
