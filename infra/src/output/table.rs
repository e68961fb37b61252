//! Aligned columns, for people. Widths are those of the first rows; memory does not grow with the answer.

use std::io::Write;

use arrow::array::AsArray as _;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tidemark_batch::sql::{AsOf, Stats};
use tidemark_shared::output::texts;

use super::{OutputError, RowWriter};
use crate::units::{counted, format_count};

/// Rows by which the widths of columns are decided.
const SAMPLE_ROWS: usize = 1000;

/// What a table shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableLimits {
    /// Most rows shown; the rest is counted. `None`: all.
    pub rows_max: Option<u64>,
    /// Most characters of one value shown. `None`: all.
    pub cell_chars_max: Option<usize>,
}

pub(super) struct TableWriter<W> {
    out: W,
    limits: TableLimits,
    /// Names first, then rows until the widths are decided.
    sample: Vec<Vec<String>>,
    right_aligned: Vec<bool>,
    widths: Option<Vec<usize>>,
    rows: u64,
}

impl<W: Write> TableWriter<W> {
    pub(super) fn new(out: W, limits: TableLimits) -> Self {
        Self { out, limits, sample: Vec::new(), right_aligned: Vec::new(), widths: None, rows: 0 }
    }

    /// Decides the widths and writes what was held back for that.
    fn settle(&mut self) -> Result<Vec<usize>, OutputError> {
        if let Some(widths) = &self.widths {
            return Ok(widths.clone());
        }
        let mut widths = vec![0; self.right_aligned.len()];
        for row in &self.sample {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut sample = std::mem::take(&mut self.sample).into_iter();
        if let Some(names) = sample.next() {
            self.line(&names, &widths, &vec![false; widths.len()])?;
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width + 2)).collect();
            writeln!(self.out, "{}", rule.join("+"))?;
        }
        let right_aligned = self.right_aligned.clone();
        for row in sample {
            self.line(&row, &widths, &right_aligned)?;
        }
        self.widths = Some(widths.clone());
        Ok(widths)
    }

    fn line(&mut self, cells: &[String], widths: &[usize], right_aligned: &[bool]) -> Result<(), OutputError> {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .zip(right_aligned)
            .map(
                |((cell, width), right)| if *right { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") },
            )
            .collect();
        Ok(writeln!(self.out, "{}", padded.join("|").trim_end())?)
    }
}

impl<W: Write + Send> RowWriter for TableWriter<W> {
    fn begin(&mut self, schema: &SchemaRef, _: &AsOf) -> Result<(), OutputError> {
        let names = schema.fields().iter().map(|field| shown(field.name(), self.limits.cell_chars_max)).collect();
        self.sample = vec![names];
        self.right_aligned = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let options = FormatOptions::default().with_null("").with_display_error(false);
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            if self.limits.rows_max.is_some_and(|max| self.rows > max) {
                continue;
            }
            let cells = columns.iter().zip(batch.columns()).map(|(column, values)| {
                let text = match column.value(row).try_to_string() {
                    Ok(text) => text,
                    // A date that no calendar library holds, perhaps in a list.
                    Err(_) => texts(&values.slice(row, 1))?.as_string_view().value(0).to_owned(),
                };
                Ok(shown(&text, self.limits.cell_chars_max))
            });
            let cells = cells.collect::<Result<Vec<_>, arrow::error::ArrowError>>()?;
            if self.widths.is_none() && self.sample.len() <= SAMPLE_ROWS {
                self.sample.push(cells);
            } else {
                let widths = self.settle()?;
                let right_aligned = self.right_aligned.clone();
                self.line(&cells, &widths, &right_aligned)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, _: &Stats) -> Result<(), OutputError> {
        let _widths = self.settle()?;
        let more = self.limits.rows_max.map_or(0, |max| self.rows.saturating_sub(max));
        let rows = counted(self.rows, "row");
        match more {
            0 => writeln!(self.out, "({rows})")?,
            more => {
                let more = format_count(more);
                writeln!(self.out, "({rows}, {more} not shown; --max-rows all shows them)")?;
            }
        }
        Ok(self.out.flush()?)
    }
}

/// `text` on one line, cut to `max` characters.
fn shown(text: &str, max: Option<usize>) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
    match max {
        Some(max) if line.chars().count() > max => {
            let mut cut: String = line.chars().take(max.saturating_sub(1)).collect();
            cut.push('…');
            cut
        }
        _ => line,
    }
}
