//! How records are stored: the records that one append has for one partition lie together in one or a few *values*.
//!
//! A value stands under the offset of its *last* record, big endian, so that the first key at or above an offset is the
//! value that holds it. It begins with a header of fixed length, which the writer fills in when it knows the offsets:
//!
//! ```text
//! version 1 · flags 1 (1: zstd) · records 4 · first offset 8 · appended at, ms 8 · bytes stored before 8 · raw length 4
//! ```
//!
//! All little endian. Then the records, compressed or not, each: timestamp (zigzag varint, the first as it is, then the
//! difference) · key · value · number of headers · headers (name, value). A byte string is its length + 1 as a varint and
//! the bytes; 0 is none.

use std::cell::RefCell;

use bytes::Bytes;
use tidemark_shared::log::{Header, Record, VarintError, put_varint, take_varint};

pub(super) const HEADER_BYTES: usize = 34;
const VERSION: u8 = 1;
const FLAG_ZSTD: u8 = 1;
/// A raw length above this is not ours: values are cut at a fraction of it.
const RAW_BYTES_MAX: usize = 64 << 20;
/// What is smaller is not worth compressing.
const COMPRESS_BYTES_MIN: usize = 512;

/// A stored value that is not what it must be, with what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl From<VarintError> for Malformed {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Cut => CUT,
            VarintError::TooLong => Self("a number is too long"),
        }
    }
}

/// What is known of a value without looking at its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueHeader {
    pub(super) zstd: bool,
    pub(super) records: u32,
    pub(super) first: u64,
    pub(super) appended_at_ms: i64,
    /// Bytes of all values that the partition had been given before this one.
    pub(super) bytes_before: u64,
    raw_bytes: u32,
}

impl ValueHeader {
    /// The exclusive end of the value's offsets.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.records)
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let mut header = value.get(..HEADER_BYTES).ok_or(Malformed("a value is shorter than its header"))?;
        let [version] = take(&mut header);
        if version != VERSION {
            return Err(Malformed("a value has an unknown version"));
        }
        let [flags] = take(&mut header);
        let header = Self {
            zstd: flags & FLAG_ZSTD != 0,
            records: u32::from_le_bytes(take(&mut header)),
            first: u64::from_le_bytes(take(&mut header)),
            appended_at_ms: i64::from_le_bytes(take(&mut header)),
            bytes_before: u64::from_le_bytes(take(&mut header)),
            raw_bytes: u32::from_le_bytes(take(&mut header)),
        };
        if header.records == 0 || header.first.checked_add(header.records.into()).is_none() {
            return Err(Malformed("a value has an impossible header"));
        }
        Ok(header)
    }
}

/// The key of a value by the offset of its last record.
pub(super) fn key_of(last: u64) -> [u8; 8] {
    last.to_be_bytes()
}

/// The offset that a key stands for.
pub(super) fn offset_of(key: &[u8]) -> Result<u64, Malformed> {
    Ok(u64::from_be_bytes(key.try_into().map_err(|_| Malformed("a key has another length than an offset"))?))
}

/// A value in the making.
#[derive(Debug, Default)]
pub(super) struct ValueBuilder {
    bytes: Vec<u8>,
    records: u32,
    last_timestamp_ms: i64,
}

impl ValueBuilder {
    pub(super) fn push(&mut self, record: &Record) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_BYTES, 0);
        }
        let out = &mut self.bytes;
        put_varint(out, zigzag(record.timestamp_ms.wrapping_sub(self.last_timestamp_ms)));
        put_bytes(out, record.key.as_deref());
        put_bytes(out, record.value.as_deref());
        put_varint(out, record.headers.len() as u64);
        for header in &record.headers {
            put_bytes(out, Some(header.name.as_bytes()));
            put_bytes(out, header.value.as_deref());
        }
        self.last_timestamp_ms = record.timestamp_ms;
        self.records += 1;
    }

    pub(super) fn records(&self) -> u32 {
        self.records
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The value, all but for what [`fill_in`] knows.
    pub(super) fn finish(self, compression_level: Option<i32>) -> Vec<u8> {
        let Self { mut bytes, records, .. } = self;
        let raw = bytes.len() - HEADER_BYTES;
        let mut flags = 0;
        if let Some(level) = compression_level.filter(|_| raw >= COMPRESS_BYTES_MIN)
            && let Some(smaller) = compress(&bytes, level)
        {
            bytes = smaller;
            flags |= FLAG_ZSTD;
        }
        bytes[0] = VERSION;
        bytes[1] = flags;
        bytes[2..6].copy_from_slice(&records.to_le_bytes());
        let raw = u32::try_from(raw).expect("a value is cut long before 4 GiB");
        bytes[30..34].copy_from_slice(&raw.to_le_bytes());
        bytes
    }
}

/// Puts into a finished value what only the writer knows.
pub(super) fn fill_in(value: &mut [u8], first: u64, appended_at_ms: i64, bytes_before: u64) {
    value[6..14].copy_from_slice(&first.to_le_bytes());
    value[14..22].copy_from_slice(&appended_at_ms.to_le_bytes());
    value[22..30].copy_from_slice(&bytes_before.to_le_bytes());
}

thread_local! {
    /// A context takes longer to make than a value to compress.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
}

/// Header space and compressed records, if that is smaller.
fn compress(bytes: &[u8], level: i32) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|cached| {
        if cached.as_ref().is_none_or(|(of, _)| *of != level) {
            *cached = Some((level, zstd::bulk::Compressor::new(level).ok()?));
        }
        let (_, compressor) = cached.as_mut()?;
        // room for a smaller result only: what does not fit is stored as it is
        let mut out = vec![0; bytes.len() - 1];
        let written = compressor.compress_to_buffer(&bytes[HEADER_BYTES..], &mut out[HEADER_BYTES..]).ok()?;
        out.truncate(HEADER_BYTES + written);
        Some(out)
    })
}

/// The records of a value, in order.
pub(super) struct Records {
    body: Bytes,
    at: usize,
    left: u32,
    timestamp_ms: i64,
}

impl Records {
    pub(super) fn of(value: &Bytes) -> Result<(ValueHeader, Self), Malformed> {
        let header = ValueHeader::parse(value)?;
        let raw_bytes = header.raw_bytes as usize;
        let stored = value.slice(HEADER_BYTES..);
        let body = if header.zstd {
            if raw_bytes > RAW_BYTES_MAX {
                return Err(Malformed("a value has an impossible header"));
            }
            let raw = zstd::bulk::decompress(&stored, raw_bytes);
            Bytes::from(raw.map_err(|_| Malformed("a value can't be decompressed"))?)
        } else {
            stored
        };
        if body.len() != raw_bytes {
            return Err(Malformed("a value has another length than its header says"));
        }
        Ok((header, Self { body, at: 0, left: header.records, timestamp_ms: 0 }))
    }

    /// The next record, or `None` after the last. The bytes are not copied: they share the value's memory.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Malformed> {
        if self.left == 0 {
            let rest = self.body.len() - self.at;
            return if rest == 0 { Ok(None) } else { Err(Malformed("a value goes on after its last record")) };
        }
        self.left -= 1;
        self.timestamp_ms = self.timestamp_ms.wrapping_add(unzigzag(self.varint()?));
        let (key, value) = (self.byte_string()?, self.byte_string()?);
        let headers = (0..self.varint()?).map(|_| self.header()).collect::<Result<_, _>>()?;
        Ok(Some(Record { key, value, headers, timestamp_ms: self.timestamp_ms }))
    }

    fn header(&mut self) -> Result<Header, Malformed> {
        let name = self.byte_string()?.ok_or(Malformed("a header has no name"))?;
        let name = String::from_utf8(name.into()).map_err(|_| Malformed("a header's name is not UTF-8"))?;
        Ok(Header { name, value: self.byte_string()? })
    }

    fn byte_string(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.varint()?.checked_sub(1) else { return Ok(None) };
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let end = end.filter(|end| *end <= self.body.len()).ok_or(CUT)?;
        let bytes = self.body.slice(self.at..end);
        self.at = end;
        Ok(Some(bytes))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut rest = &self.body[self.at..];
        let value = take_varint(&mut rest)?;
        self.at = self.body.len() - rest.len();
        Ok(value)
    }
}

const CUT: Malformed = Malformed("a value ends within a record");

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            put_varint(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let (head, rest) = from.split_first_chunk().expect("the header's length was checked");
    *from = rest;
    *head
}
