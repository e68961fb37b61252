//! Rows of an answer as text or bytes: streamed, in bounded memory, whatever their number. Tables for people are the
//! command line's own.

mod csv;
mod document;
mod ipc;
mod json;
mod ndjson;
mod text;

use std::io::{self, Write};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::sql::{AsOf, Stats};

pub use text::texts;

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The other side is closed or full.
    #[error("the output can't be written")]
    Io(#[source] io::Error),
    /// A column that the format can't hold.
    #[error("the rows can't be written in this format")]
    Format(#[source] ArrowError),
    /// Two columns of one name, where a row is an object.
    #[error("two columns have the name `{name}`, and an object holds one of them")]
    SameName {
        /// The name.
        name: String,
    },
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ArrowError> for OutputError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => Self::Io(error),
            other => Self::Format(other),
        }
    }
}

impl OutputError {
    /// True if the reader has gone, which is no failure of ours: `tidemark sql … | head`.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes one answer: [`Self::begin`], [`Self::rows`] as often as there are batches, [`Self::end`]. What was written
/// without its end is recognisably incomplete where the format allows that (JSON document, Arrow).
pub trait RowWriter: Send {
    /// Columns, and what the answer covers.
    ///
    /// # Errors
    /// [`OutputError`].
    fn begin(&mut self, schema: &SchemaRef, as_of: &AsOf) -> Result<(), OutputError>;

    /// Some rows.
    ///
    /// # Errors
    /// [`OutputError`].
    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError>;

    /// No more rows.
    ///
    /// # Errors
    /// [`OutputError`].
    fn end(&mut self, stats: &Stats) -> Result<(), OutputError>;
}

/// One JSON document: columns, as-of, rows, stats.
pub fn document<'a, W: Write + Send + 'a>(out: W) -> Box<dyn RowWriter + 'a> {
    Box::new(document::DocumentWriter::new(out))
}

/// One JSON object a line.
pub fn ndjson<'a, W: Write + Send + 'a>(out: W) -> Box<dyn RowWriter + 'a> {
    Box::new(ndjson::NdjsonWriter::new(out))
}

/// Comma-separated values with a header; null is the empty field.
pub fn csv<'a, W: Write + Send + 'a>(out: W) -> Box<dyn RowWriter + 'a> {
    Box::new(csv::CsvWriter::new(out))
}

/// An Arrow IPC stream.
pub fn ipc<'a, W: Write + Send + 'a>(out: W) -> Box<dyn RowWriter + 'a> {
    Box::new(ipc::IpcWriter::new(out))
}

/// The name of a type as programs see it: how a string is held in memory is no concern of theirs.
#[must_use]
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8.to_string(),
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary.to_string(),
        DataType::Dictionary(_, value) => type_name(value),
        other => other.to_string(),
    }
}
