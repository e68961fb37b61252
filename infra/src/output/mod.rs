//! Rows of an answer, as a command writes them.

mod table;
#[cfg(test)]
mod tests;

use std::io::Write;

use clap::ValueEnum;
use tidemark_shared::output;
pub use tidemark_shared::output::{OutputError, RowWriter};

pub use table::TableLimits;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    Table,
    /// One document: columns, as-of, rows, stats.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

/// A writer of `format` into `out`; `limits` concern tables only.
pub fn writer<'a, W: Write + Send + 'a>(format: Format, out: W, limits: TableLimits) -> Box<dyn RowWriter + 'a> {
    match format {
        Format::Table => Box::new(table::TableWriter::new(out, limits)),
        Format::Json => output::document(out),
        Format::Ndjson => output::ndjson(out),
        Format::Csv => output::csv(out),
        Format::Arrow => output::ipc(out),
    }
}
