//! Avro object container files: the reader goes from block to block, and runs of blocks are decoded apart. Positions are
//! row numbers.

use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_avro::reader::ReaderBuilder;
use bytes::Bytes;

use super::Decoded;
use super::caught::caught;
use super::columnar::ColumnarPlan;
use super::input::Guarded;
use super::pieces::BATCH_ROWS;

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;
/// Longest header that is read: it holds the schema.
const HEADER_BYTES_MAX: usize = 16 << 20;
/// Largest block that is read; writers' default is 16 to 64 KiB.
const BLOCK_BYTES_MAX: usize = 256 << 20;
/// Two variable-length integers, at most ten bytes each.
const BLOCK_HEAD_BYTES: usize = 20;

/// The header of a file: everything before the first block.
#[derive(Debug, Clone)]
pub(crate) struct AvroFile {
    pub(crate) schema: SchemaRef,
    header: Bytes,
}

/// One block inside a run: where its data is, without head and sync marker, and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    data: Range<usize>,
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

/// Appends an Avro `long`.
fn push_long(bytes: &mut Vec<u8>, value: u64) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
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
        Ok(caught("the header", || {
            let reader = ReaderBuilder::new().build(Cursor::new(header.clone())).map_err(|error| error.to_string())?;
            Ok(Self { schema: reader.schema(), header })
        }))
    }

    /// A reader at the first block.
    pub(crate) fn blocks(&self, source: Guarded, chunk_bytes: usize) -> BlockReader {
        BlockReader::new(self.header.clone(), source, chunk_bytes)
    }

    /// Why not a single row of the file can be read; `None` if one can be, or there is none. Costs one block of a file
    /// that is not damaged.
    pub(crate) fn nothing_readable(&self, source: Guarded, plan: &ColumnarPlan) -> io::Result<Option<String>> {
        let mut blocks = self.blocks(source, 1);
        let mut reason = None;
        while let Some(found) = blocks.next_found()? {
            let message = match found {
                Found::Damage { message, .. } => Some(message),
                Found::Run(run) => {
                    let decoded = self.decode(plan, &run);
                    if decoded.iter().any(Decoded::is_readable) {
                        return Ok(None);
                    }
                    decoded.into_iter().flat_map(|decoded| decoded.rejects).map(|reject| reject.message).next()
                }
            };
            reason = reason.or(message);
        }
        Ok(reason)
    }

    /// Rows of a run; a damaged block is one reject at its first row.
    pub(crate) fn decode(&self, plan: &ColumnarPlan, run: &Run) -> Vec<Decoded> {
        let mut done = Vec::new();
        let mut row = run.first_row;
        for block in &run.blocks {
            match self.decode_block(plan, &run.bytes[block.data.clone()], row, block.rows) {
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

    fn decode_block(
        &self,
        plan: &ColumnarPlan,
        data: &[u8],
        first_row: u64,
        rows: u64,
    ) -> Result<Vec<Decoded>, String> {
        let Some(batch) = block_rows(&self.header, data, rows)? else { return Ok(Vec::new()) };
        caught("the block", || {
            let batch = batch.project(&plan.roots).map_err(|error| error.to_string())?;
            let part = |start: usize| {
                let part = batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start));
                plan.decode(&part, first_row + start as u64).map_err(|error| error.to_string())
            };
            (0..batch.num_rows()).step_by(BATCH_ROWS).map(part).collect()
        })
    }
}

/// The row of an object container of one row that is held in memory whole, such as a stream record's value.
pub(crate) fn one_row(value: &Bytes) -> Result<RecordBatch, String> {
    let header = Some(value).filter(|value| value.starts_with(MAGIC)).and_then(|value| header_length(value));
    let header = value.slice(..header.ok_or("it does not start as an Avro object container")?);
    let mut blocks = BlockReader::new(header.clone(), Guarded::new(Arc::new(value.clone())), value.len());
    let mut row = None;
    while let Some(found) = blocks.next_found().map_err(|error| error.to_string())? {
        let run = match found {
            Found::Run(run) => run,
            Found::Damage { message, .. } => return Err(message),
        };
        for block in run.blocks.iter().filter(|block| block.rows > 0) {
            if block.rows > 1 || row.is_some() {
                return Err("it holds more than one row".to_owned());
            }
            row = block_rows(&header, &run.bytes[block.data.clone()], block.rows)?;
        }
    }
    row.ok_or_else(|| "it holds no row".to_owned())
}

/// All rows of one block, `None` if there are none. It must have as many as it says, and nothing else.
///
/// `arrow-avro` never comes back from a block that has bytes left behind its last row. So it gets the block with room
/// for more rows than there are, in batches of exactly as many as there are: it has to try what is left, and then stops,
/// be it for the end of the bytes, for damage, or because another batch is full.
fn block_rows(header: &Bytes, data: &[u8], rows: u64) -> Result<Option<RecordBatch>, String> {
    let batch_rows = usize::try_from(rows.max(1)).map_err(|error| error.to_string())?;
    let mut head = Vec::with_capacity(BLOCK_HEAD_BYTES);
    push_long(&mut head, rows + batch_rows as u64);
    push_long(&mut head, data.len() as u64);
    let sync = &header[header.len() - SYNC_BYTES..];
    caught("the block", || {
        let input = header.as_ref().chain(head.as_slice()).chain(data).chain(sync);
        let builder = ReaderBuilder::new().with_batch_size(batch_rows);
        let mut batches = builder.build(input).map_err(|error| error.to_string())?;
        let mut next = || batches.next().transpose().map_err(|error| error.to_string());
        let batch = if rows == 0 { None } else { next()? };
        if batch.as_ref().map_or(0, RecordBatch::num_rows) as u64 != rows {
            return Err("it has fewer rows than it says".to_owned());
        }
        match next() {
            Ok(None) => Ok(batch),
            _ => Err("it has more bytes than its rows take".to_owned()),
        }
    })
}

/// Goes from block to block.
pub(crate) struct BlockReader {
    source: Guarded,
    header: Bytes,
    position: u64,
    row: u64,
    chunk_bytes: usize,
    done: bool,
    /// Damage that was found behind a run that is handed out first.
    pending: Option<String>,
}

impl BlockReader {
    fn new(header: Bytes, source: Guarded, chunk_bytes: usize) -> Self {
        let position = header.len() as u64;
        Self { source, header, position, row: 0, chunk_bytes, done: false, pending: None }
    }

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
            let Some(end) = blocks.last().map(|block| block.data.end + SYNC_BYTES) else {
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
            // Compressed or of nulls alone, records may take less than a byte each, but not as much less as one likes.
            let plausible = |(rows, size): &(u64, usize)| {
                let most = (*size as u64 + 1).saturating_mul(BATCH_ROWS as u64).min(u64::from(u32::MAX));
                *size <= BLOCK_BYTES_MAX && *rows <= most
            };
            let Some((rows, size)) = sizes.filter(plausible) else {
                return (blocks, Stop::Damage("a block's head is damaged".to_owned()));
            };
            let end = position + size + SYNC_BYTES;
            if end > bytes.len() {
                return (blocks, Stop::Needs(end));
            }
            let data = position..position + size;
            if !self.header.ends_with(&bytes[data.end..end]) {
                return (blocks, Stop::Damage("a block does not end with the file's sync marker".to_owned()));
            }
            if rows == 0 && block_rows(&self.header, &bytes[data.clone()], 0).is_err() {
                return (blocks, Stop::Damage("a block says that it has no row, and has some".to_owned()));
            }
            blocks.push(Block { data, rows });
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
