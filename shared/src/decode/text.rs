//! Decodes chunks of text: delimited records or JSON lines. Called from several threads at once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use memchr::memchr;

use super::csv::CsvFormat;
use super::cutter::TextChunk;
use super::frames::{Framing, Scanner, without_cr};
use super::header::Names;
use super::json::JsonParser;
use super::notes::NotesState;
use super::rows::{BatchBuilder, Fault, RawBuilder, Sink};
use super::{BATCH_ROWS_MAX, Decoded, RECORD_BYTES_MAX, too_long};
use crate::dataset::InputColumn;
use crate::reject::Reason;

/// The format of single records.
#[derive(Debug, Clone)]
pub(crate) enum RecordFormat {
    Csv(CsvFormat),
    Json(Arc<Names>),
}

impl RecordFormat {
    /// True for a line that is no record.
    #[inline]
    fn is_blank(&self, line: &[u8]) -> bool {
        match self {
            Self::Csv(csv) => csv.is_blank(line),
            Self::Json(_) => line.iter().all(|byte| matches!(byte, b' ' | b'\t')),
        }
    }
}

/// Decodes runs of text records.
#[derive(Debug)]
pub(crate) struct TextDecoder {
    pub(crate) columns: Vec<InputColumn>,
    pub(crate) schema: SchemaRef,
    pub(crate) format: RecordFormat,
    pub(crate) framing: Framing,
    pub(crate) notes: Arc<NotesState>,
}

/// Parses records one after the other; one a thread.
pub(crate) struct RecordParser<'a> {
    decoder: &'a TextDecoder,
    json: Option<JsonParser>,
    /// The text was checked as a whole, so no record needs to be.
    valid_utf8: bool,
    /// The text may hold quotes.
    quotes: bool,
    surplus: u64,
}

impl<'a> RecordParser<'a> {
    pub(crate) fn new(decoder: &'a TextDecoder, valid_utf8: bool, quotes: bool) -> Self {
        let json = match &decoder.format {
            RecordFormat::Csv(_) => None,
            RecordFormat::Json(names) => {
                Some(JsonParser::new(Arc::clone(names), Arc::clone(&decoder.notes), decoder.columns.len()))
            }
        };
        Self { decoder, json, valid_utf8, quotes, surplus: 0 }
    }

    /// Reads one record, without its line end, into the sink. `cut`: the input ends with it and without a line end.
    #[inline]
    pub(crate) fn parse(&mut self, record: &[u8], cut: bool, sink: &mut Sink) -> Result<(), Fault> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(too_long());
        }
        match (&self.decoder.format, &mut self.json) {
            (RecordFormat::Csv(csv), _) => {
                if !self.valid_utf8 && simdutf8::basic::from_utf8(record).is_err() {
                    return Err(Fault::record(Reason::BadUtf8, "the record is not valid UTF-8"));
                }
                let read = csv.parse(record, self.quotes, cut, sink)?;
                self.surplus += u64::from(read.surplus);
                Ok(())
            }
            // It needs the record as text, so it looks itself.
            (RecordFormat::Json(_), Some(json)) => json.parse(record, cut, sink),
            (RecordFormat::Json(_), None) => unreachable!("new makes a parser for JSON"),
        }
    }
}

impl Drop for RecordParser<'_> {
    fn drop(&mut self) {
        self.decoder.notes.add_surplus(self.surplus);
    }
}

impl TextDecoder {
    pub(crate) fn sink(&self, rows: usize) -> Sink {
        let present = vec![false; self.columns.len()];
        let absent = match &self.format {
            RecordFormat::Csv(csv) => csv.absent(),
            RecordFormat::Json(_) => &present,
        };
        Sink::new(&self.columns, &self.schema, absent, rows)
    }

    /// Rows and rejects of a chunk, in batches of at most [`BATCH_ROWS_MAX`] records.
    pub(crate) fn decode(&self, chunk: TextChunk) -> Result<Vec<Decoded>, ArrowError> {
        match chunk {
            TextChunk::Records { offset, bytes, last } => self.decode_records(offset, &bytes, last),
            TextChunk::Reject(reject) => {
                let raw = RawBuilder::Records(Vec::new());
                let mut decoded = BatchBuilder::new(self.sink(0), raw, 0).finish()?;
                decoded.rejects.push(reject);
                Ok(vec![decoded])
            }
        }
    }

    fn decode_records(&self, offset: u64, bytes: &Bytes, last: bool) -> Result<Vec<Decoded>, ArrowError> {
        let quote = match &self.format {
            RecordFormat::Csv(csv) => csv.quote(),
            RecordFormat::Json(_) => None,
        };
        let quotes = quote.is_some_and(|quote| memchr(quote, bytes).is_some());
        let mut parser = RecordParser::new(self, simdutf8::basic::from_utf8(bytes).is_ok(), quotes);
        let mut scanner = Scanner::new(self.framing);
        let mut done = Vec::new();
        let mut rows = rows_guess(bytes, 0);
        let new_batch = |rows| {
            let raw = RawBuilder::Text { base_offset: offset, bytes: bytes.clone(), lengths: Vec::with_capacity(rows) };
            BatchBuilder::new(self.sink(rows), raw, rows)
        };
        let mut batch = new_batch(rows);
        let mut start = 0;
        while start < bytes.len() {
            let end = scanner.next_end(bytes, start);
            let record = without_cr(&bytes[start..end.unwrap_or(bytes.len())]);
            let range = start..start + record.len();
            if !self.format.is_blank(record) {
                if batch.records() == BATCH_ROWS_MAX {
                    rows = rows_guess(bytes, start);
                    done.push(std::mem::replace(&mut batch, new_batch(rows)).finish()?);
                }
                let parsed = parser.parse(record, last && end.is_none(), &mut batch.sink);
                batch.end_record(offset + start as u64, bytes, range, parsed);
            }
            start = end.unwrap_or(bytes.len()) + 1;
        }
        if batch.records() > 0 {
            done.push(batch.finish()?);
        }
        Ok(done)
    }
}

/// How many records the text from `start` on may hold, by the length of the first.
fn rows_guess(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    let first = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1).max(16);
    (rest.len() / first * 9 / 8 + 16).min(BATCH_ROWS_MAX)
}
