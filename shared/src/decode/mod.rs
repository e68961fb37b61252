//! Bytes with positions → Arrow record batches of the input schema, plus rejects. Knows nothing of files' names, topics
//! or stores: [`ReadAt`] is all it sees of a file, and a stream record is just its bytes and offset.

mod avro;
mod caught;
mod columnar;
mod columns;
mod convert;
mod csv;
mod cutter;
mod file;
mod flat;
mod frames;
mod header;
mod input;
mod json;
mod notes;
mod orc;
mod orc_footer;
mod parquet;
mod pieces;
mod rows;
mod sniff;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod thrift;
mod thrift_fields;
pub(crate) mod values;

use std::io;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use crate::dataset::Format;
use crate::error::{ErrorKind, Kind};
use crate::reject::{Reason, Reject};

pub use columnar::row_json;
pub use file::{Chunk, ChunkDecoder, ChunkReader, FileDecoder};
pub use header::normalized;
pub use notes::Notes;
pub use stream::{RecordDecoder, check_avro_record, text_records};

/// Longest text record that is decoded, in bytes without its line end.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Most records in one [`Decoded`].
pub const BATCH_ROWS_MAX: usize = 65_536;
/// Size of a chunk of text, in bytes, unless asked otherwise.
pub const CHUNK_BYTES: usize = 4 << 20;

/// The Arrow schema of a columnar file that is held in memory whole; the message says why it has none.
pub(crate) fn file_schema(format: &Format, bytes: Bytes) -> Result<SchemaRef, String> {
    let source = input::Guarded::new(Arc::new(bytes));
    let opened = match format {
        Format::Parquet => {
            parquet::ParquetFile::open(&source).map(|file| file.map(|f| Arc::clone(f.metadata.schema())))
        }
        Format::Orc => orc::OrcFile::open(&source).map(|file| file.map(|f| f.schema)),
        _ => avro::AvroFile::open(&source).map(|file| file.map(|f| f.schema)),
    };
    opened.map_err(|error| error.to_string())?
}

fn too_long() -> rows::Fault {
    rows::Fault::record(Reason::TooLong, format!("the record is longer than {RECORD_BYTES_MAX} bytes"))
}

/// Why a file or stream can't be decoded at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file as a whole is a reject: it is none of its format, or lacks a required column.
    #[error("{}", .0.message)]
    Reject(Reject),
    /// The store failed.
    #[error("reading the file failed")]
    Io(#[from] io::Error),
    /// The definition wants a type that the format can't give.
    #[error("column {column}: {format} can't be decoded to {data_type}")]
    Unsupported {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
        /// The format.
        format: &'static str,
    },
    /// The format is one of files, and the input is a stream.
    #[error("{format} is a format of files, not of stream records")]
    FilesOnly {
        /// The format.
        format: &'static str,
    },
}

impl ErrorKind for OpenError {
    fn kind(&self) -> Kind {
        match self {
            Self::Reject(_) => Kind::Corrupt,
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::Io(_) => Kind::Retryable,
            Self::Unsupported { .. } | Self::FilesOnly { .. } => Kind::Invalid,
        }
    }
}

/// Rows and rejects decoded from a run of records. `records = batch.num_rows() + rejects.len()` (H8).
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The rows, in order of position, with the input schema.
    pub batch: RecordBatch,
    /// Position of each row of `batch`: byte offset (text), row number (columnar), log offset (stream).
    pub offsets: Vec<u64>,
    /// The original bytes behind the rows, so that a later refusal (transform, `reject` rule) can keep them.
    pub raw: RawRecords,
    /// Refused records, in order of position.
    pub rejects: Vec<Reject>,
}

/// Where the original bytes of decoded rows are.
#[derive(Debug, Clone)]
pub enum RawRecords {
    /// Row `i` is `lengths[i]` bytes at `offsets[i] - base_offset` of `bytes`.
    Text {
        /// Offset of the first byte of `bytes`.
        base_offset: u64,
        /// The decoded run of text.
        bytes: Bytes,
        /// Length of each row's record in bytes, without its separator.
        lengths: Vec<u32>,
    },
    /// Row `i` is `records[i]`.
    Records(Vec<Bytes>),
    /// A columnar format: a row's bytes are its JSON rendering, made on demand.
    Columnar,
}

impl Decoded {
    /// Records read: rows and rejects.
    #[must_use]
    pub fn records(&self) -> u64 {
        (self.batch.num_rows() + self.rejects.len()) as u64
    }

    /// Holds a record that could be read, whatever became of it.
    fn is_readable(&self) -> bool {
        self.batch.num_rows() > 0 || self.rejects.iter().any(|reject| reject.reason != Reason::BrokenStream)
    }
}

/// Random access to the bytes of one immutable input. Blocking: call it off the async runtime.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// True if there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exactly `length` bytes from `offset` on; the caller stays within `len()`.
    ///
    /// # Errors
    /// Whatever the store reports; never a short read.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes>;
}

impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(length).filter(|end| *end <= Bytes::len(self));
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(self.slice(start..end))
    }
}
