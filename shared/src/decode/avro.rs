//! Avro object container files: the reader goes from block to block, and runs of blocks are decoded apart. Positions are
//! row numbers.

use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_avro::reader::ReaderBuilder;
use bytes::Bytes;

use super::Decoded;
use super::columnar::ColumnarPlan;
use super::input::Guarded;

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;
/// Longest header that is read: it holds the schema.
const HEADER_BYTES_MAX: usize = 16 << 20;
/// Largest block that is read; writers' default is 16 to 64 KiB.
const BLOCK_BYTES_MAX: usize = 256 << 20;
/// Two variable-length integers, at most ten bytes each.
const BLOCK_HEAD_BYTES: usize = 20;
const BATCH_ROWS: usize = 65_536;

/// The header of a file: everything before the first block.
#[derive(Debug, Clone)]
pub(crate) struct AvroFile {
    pub(crate) schema: SchemaRef,
    header: Bytes,
}

/// One block inside a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    range: Range<usize>,
    rows: u64,
}

/// Whole blocks that follow each other.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    first_row: u64,
    pub(crate) bytes: Bytes,
    blocks: Vec<Block>,
}

/// What the reader finds next.
#[derive(Debug)]
pub(crate) enum Found {
    Run(Run),
    /// The file is damaged from this row on.
    Damage {
        row: u64,
        message: String,
    },
}

/// Reads an Avro `long`: zigzag, least significant group first. `None` if `bytes` end inside it or it is too long.
fn long(bytes: &[u8], position: &mut usize) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Moves over `long` bytes of data that their length stands before.
fn skip_bytes(bytes: &[u8], position: &mut usize) -> Option<()> {
    let length = usize::try_from(long(bytes, position)?).ok()?;
    *position = position.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(())
}

/// Length of the header at the start of `bytes`, if it ends within them.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let mut position = MAGIC.len();
    loop {
        let count = long(bytes, &mut position)?;
        if count == 0 {
            break;
        }
        if count < 0 {
            long(bytes, &mut position)?;
        }
        for _ in 0..count.unsigned_abs() {
            skip_bytes(bytes, &mut position)?;
            skip_bytes(bytes, &mut position)?;
        }
    }
    position.checked_add(SYNC_BYTES).filter(|end| *end <= bytes.len())
}

impl AvroFile {
    /// Reads the header. The message says why the file is no Avro file.
    pub(crate) fn open(source: &Guarded) -> io::Result<Result<Self, String>> {
        let size = usize::try_from(source.len()).unwrap_or(usize::MAX).min(HEADER_BYTES_MAX);
        let mut length = size.min(64 << 10);
        let header = loop {
            let bytes = source.read(0, length);
            source.check()?;
            let bytes = bytes?;
            if !bytes.starts_with(MAGIC) {
                return Ok(Err("it does not start as an Avro object container file".to_owned()));
            }
            if let Some(end) = header_length(&bytes) {
                break bytes.slice(..end);
            }
            if length == size {
                return Ok(Err("the header is cut off or damaged".to_owned()));
            }
            length = size.min(length * 4);
        };
        let opened = catch_unwind(|| ReaderBuilder::new().build(Cursor::new(header.clone())).map(|r| r.schema()));
        Ok(match opened {
            Ok(Ok(schema)) => Ok(Self { schema, header }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the header is damaged".to_owned()),
        })
    }

    /// A reader at the first block.
    pub(crate) fn blocks(&self, source: Guarded, chunk_bytes: usize) -> BlockReader {
        let sync = self.header.slice(self.header.len() - SYNC_BYTES..);
        BlockReader {
            source,
            sync,
            position: self.header.len() as u64,
            row: 0,
            chunk_bytes,
            done: false,
            pending: None,
        }
    }

    /// Rows of a run; a damaged block is one reject at its first row.
    pub(crate) fn decode(&self, plan: &ColumnarPlan, run: &Run) -> Vec<Decoded> {
        let rows: u64 = run.blocks.iter().map(|block| block.rows).sum();
        if let Ok(done) = self.decode_bytes(plan, &run.bytes, run.first_row, rows) {
            return done;
        }
        let mut done = Vec::new();
        let mut row = run.first_row;
        for block in &run.blocks {
            match self.decode_bytes(plan, &run.bytes[block.range.clone()], row, block.rows) {
                Ok(decoded) => done.extend(decoded),
                Err(error) => {
                    let message = format!("a block of {} rows can't be read: {error}", block.rows);
                    done.push(plan.unreadable(row, message));
                }
            }
            row += block.rows;
        }
        done
    }

    fn decode_bytes(
        &self,
        plan: &ColumnarPlan,
        bytes: &[u8],
        first_row: u64,
        rows: u64,
    ) -> Result<Vec<Decoded>, String> {
        let read = || -> Result<Vec<Decoded>, String> {
            let mut done = Vec::new();
            let mut row = first_row;
            for batch in self.batches(bytes)? {
                let batch = batch.map_err(|error| error.to_string())?;
                let batch = batch.project(&plan.roots).map_err(|error| error.to_string())?;
                done.push(plan.decode(&batch, row).map_err(|error| error.to_string())?);
                row += batch.num_rows() as u64;
            }
            if row - first_row == rows { Ok(done) } else { Err("the block's number of rows is wrong".to_owned()) }
        };
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the block is damaged".to_owned()))
    }

    fn batches<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> Result<impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>> + 'a, String> {
        let input = self.header.as_ref().chain(bytes);
        ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(input).map_err(|error| error.to_string())
    }

    /// The rows of an object container that is held in memory whole, such as a stream record's value.
    pub(crate) fn rows_of(value: &Bytes) -> Result<RecordBatch, String> {
        let read = || -> Result<RecordBatch, String> {
            let reader = ReaderBuilder::new().build(Cursor::new(value.clone())).map_err(|error| error.to_string())?;
            let schema = reader.schema();
            // One batch more than the one row that is expected would be an error anyway.
            let batches = reader.take(2).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            arrow::compute::concat_batches(&schema, &batches).map_err(|error| error.to_string())
        };
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the value is damaged".to_owned()))
    }
}

/// Goes from block to block.
pub(crate) struct BlockReader {
    source: Guarded,
    sync: Bytes,
    position: u64,
    row: u64,
    chunk_bytes: usize,
    done: bool,
    /// Damage that was found behind a run that is handed out first.
    pending: Option<String>,
}

impl BlockReader {
    /// The next run of about the chunk size, or the damage that ends the file.
    pub(crate) fn next_found(&mut self) -> io::Result<Option<Found>> {
        if let Some(message) = self.pending.take() {
            return Ok(Some(Found::Damage { row: self.row, message }));
        }
        if self.done {
            return Ok(None);
        }
        let left = self.source.len().saturating_sub(self.position);
        if left == 0 {
            self.done = true;
            return Ok(None);
        }
        let mut length = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk_bytes.max(BLOCK_HEAD_BYTES));
        loop {
            let bytes = self.source.read(self.position, length);
            self.source.check()?;
            let bytes = bytes?;
            let (blocks, stop) = self.scan(&bytes);
            let Some(end) = blocks.last().map(|block| block.range.end) else {
                match stop {
                    Stop::Needs(needed) if needed as u64 <= left && needed > length => length = needed,
                    stop => {
                        self.done = true;
                        let message = stop.message();
                        return Ok(Some(Found::Damage { row: self.row, message }));
                    }
                }
                continue;
            };
            let run = Run { first_row: self.row, bytes: bytes.slice(..end), blocks };
            self.row += run.blocks.iter().map(|block| block.rows).sum::<u64>();
            self.position += end as u64;
            if let Stop::Damage(message) = stop {
                self.done = true;
                self.pending = Some(message);
            }
            return Ok(Some(Found::Run(run)));
        }
    }

    /// The whole blocks of `bytes`, and why there are no more.
    fn scan(&self, bytes: &[u8]) -> (Vec<Block>, Stop) {
        let mut blocks = Vec::new();
        let mut start = 0;
        loop {
            let mut position = start;
            let head = long(bytes, &mut position).zip(long(bytes, &mut position));
            let Some((rows, size)) = head else {
                let stop = if bytes.len() - start >= BLOCK_HEAD_BYTES {
                    Stop::Damage("a block's head is damaged".to_owned())
                } else {
                    Stop::Needs(start + BLOCK_HEAD_BYTES)
                };
                return (blocks, stop);
            };
            let sizes = u64::try_from(rows).ok().zip(usize::try_from(size).ok());
            let Some((rows, size)) =
                sizes.filter(|(rows, size)| *size <= BLOCK_BYTES_MAX && *rows <= u64::from(u32::MAX))
            else {
                return (blocks, Stop::Damage("a block's head is damaged".to_owned()));
            };
            let end = position + size + SYNC_BYTES;
            if end > bytes.len() {
                return (blocks, Stop::Needs(end));
            }
            if bytes[end - SYNC_BYTES..end] != self.sync[..] {
                return (blocks, Stop::Damage("a block does not end with the file's sync marker".to_owned()));
            }
            blocks.push(Block { range: start..end, rows });
            start = end;
        }
    }
}

/// Why a scan over blocks stopped.
#[derive(Debug)]
enum Stop {
    /// The next block needs this many bytes.
    Needs(usize),
    Damage(String),
}

impl Stop {
    fn message(self) -> String {
        match self {
            Self::Needs(_) => "the file ends inside a block".to_owned(),
            Self::Damage(message) => message,
        }
    }
}
