//! Records of a stream: each value is one record by itself.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;

use super::avro::one_row;
use super::columnar::ColumnarPlan;
use super::csv::CsvFormat;
use super::file::{framing, supported_types};
use super::frames::{Framing, Scanner, without_cr};
use super::header::{Matching, Names};
use super::notes::{Notes, NotesState};
use super::rows::{BatchBuilder, Fault, RawBuilder, Sink, kept_bytes};
use super::text::{RecordFormat, RecordParser, TextDecoder};
use super::{BATCH_ROWS_MAX, Decoded, OpenError, RawRecords};
use crate::dataset::{CsvOptions, Format, InputColumn, InputSpec};
use crate::reject::{Reason, Reject};

/// Bytes of records in one batch, so that no column of it grows beyond what Arrow's offsets can hold.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// Decodes the values of stream records: a line of delimited text without a header, a JSON object, or an Avro object
/// container that holds one row. Every value is one record, an empty one too.
#[derive(Debug)]
pub struct RecordDecoder {
    kind: Kind,
    notes: Arc<NotesState>,
}

#[derive(Debug)]
enum Kind {
    Text(TextDecoder),
    Avro { columns: Vec<InputColumn>, schema: SchemaRef },
}

impl RecordDecoder {
    /// A decoder of values of the spec's format; delimited text is taken without a header, its fields in order.
    ///
    /// # Errors
    /// [`OpenError::Unsupported`] for Parquet and ORC, which are formats of files, and for columns that the format can't
    /// fill.
    pub fn new(spec: &InputSpec) -> Result<Self, OpenError> {
        let notes = Arc::new(NotesState::default());
        let (framing, format) = match &spec.format {
            Format::Csv(options) => {
                let matching = Matching::in_order(spec.columns.len());
                (framing(options), RecordFormat::Csv(CsvFormat::new(options, matching)))
            }
            Format::Json => (Framing::Lines, RecordFormat::Json(Arc::new(Names::new(&spec.columns)))),
            Format::Avro => {
                let kind = Kind::Avro { columns: spec.columns.clone(), schema: spec.schema() };
                return Ok(Self { kind, notes });
            }
            Format::Parquet | Format::Orc => return Err(OpenError::FilesOnly { format: spec.format.name() }),
        };
        supported_types(spec, matches!(format, RecordFormat::Csv(_)))?;
        let (columns, schema) = (spec.columns.clone(), spec.schema());
        let decoder = TextDecoder { columns, schema, format, framing, notes: Arc::clone(&notes) };
        Ok(Self { kind: Kind::Text(decoder), notes })
    }

    /// Rows and rejects of `records`, given as offset and value in order, in batches of at most
    /// [`super::BATCH_ROWS_MAX`] records. Records = rows + rejects (H8).
    ///
    /// # Errors
    /// Defects of ours; never anything about a record.
    pub fn decode(&self, records: &[(u64, Bytes)]) -> Result<Vec<Decoded>, ArrowError> {
        let mut done = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, value): &&(u64, Bytes)| {
                bytes += value.len();
                bytes <= BATCH_BYTES_MAX
            };
            let count = rest.iter().take(BATCH_ROWS_MAX).take_while(fits).count().max(1);
            let (batch, later) = rest.split_at(count);
            done.push(match &self.kind {
                Kind::Text(decoder) => decode_text(decoder, batch)?,
                Kind::Avro { columns, schema } => decode_avro(columns, schema, batch)?,
            });
            rest = later;
        }
        Ok(done)
    }

    /// What was noticed about the records so far.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.notes.snapshot()
    }
}

/// The records in delimited text, each as it stands there, without its line end. Blank lines are no records.
#[must_use]
pub fn text_records(options: &CsvOptions, text: &Bytes) -> Vec<Bytes> {
    let mut scanner = Scanner::new(framing(options));
    let (mut records, mut start) = (Vec::new(), 0);
    while start < text.len() {
        let end = scanner.next_end(text, start).unwrap_or(text.len());
        let record = without_cr(&text[start..end]);
        if !record.is_empty() {
            records.push(text.slice_ref(record));
        }
        start = end + 1;
    }
    records
}

/// Whether a value is an Avro object container of one row, which is what a record of an Avro stream is.
///
/// # Errors
/// What it is instead.
pub fn check_avro_record(value: &Bytes) -> Result<(), String> {
    one_row(value).map(drop)
}

fn decode_text(decoder: &TextDecoder, records: &[(u64, Bytes)]) -> Result<Decoded, ArrowError> {
    let mut parser = RecordParser::new(decoder, false, true);
    let raw = RawBuilder::Records(Vec::with_capacity(records.len()));
    let mut batch = BatchBuilder::new(decoder.sink(records.len()), raw, records.len());
    for (offset, value) in records {
        let line = without_cr(value.strip_suffix(b"\n").unwrap_or(value));
        let parsed = parse_value(decoder, &mut parser, line, &mut batch.sink);
        batch.end_record(*offset, value, 0..line.len(), parsed);
    }
    batch.finish()
}

fn parse_value(
    decoder: &TextDecoder,
    parser: &mut RecordParser<'_>,
    line: &[u8],
    sink: &mut Sink,
) -> Result<(), Fault> {
    let csv = matches!(decoder.format, RecordFormat::Csv(_));
    if csv && Scanner::new(decoder.framing).next_end(line, 0).is_some() {
        return Err(Fault::record(Reason::Width, "the value holds more than one record"));
    }
    parser.parse(line, false, sink)
}

fn decode_avro(columns: &[InputColumn], schema: &SchemaRef, records: &[(u64, Bytes)]) -> Result<Decoded, ArrowError> {
    let mut decoded = Decoded {
        batch: RecordBatch::new_empty(Arc::clone(schema)),
        offsets: Vec::new(),
        raw: RawRecords::Records(Vec::new()),
        rejects: Vec::new(),
    };
    let mut rows = Vec::new();
    let mut raw = Vec::new();
    // Producers keep to one schema for long, so the last one's plan nearly always fits.
    let mut last: Option<(Arc<Schema>, ColumnarPlan)> = None;
    for (offset, value) in records {
        match avro_row(columns, schema, *offset, value, &mut last)? {
            Ok(row) => {
                rows.push(row);
                raw.push(value.clone());
                decoded.offsets.push(*offset);
            }
            Err(fault) => decoded.rejects.push(Reject {
                offset: *offset,
                reason: fault.reason,
                column: fault.column.map(|index| columns[index].name.clone()),
                message: fault.message,
                bytes: kept_bytes(value),
            }),
        }
    }
    decoded.batch = arrow::compute::concat_batches(schema, &rows)?;
    decoded.raw = RawRecords::Records(raw);
    Ok(decoded)
}

fn avro_row(
    columns: &[InputColumn],
    schema: &SchemaRef,
    offset: u64,
    value: &Bytes,
    last: &mut Option<(Arc<Schema>, ColumnarPlan)>,
) -> Result<Result<RecordBatch, Fault>, ArrowError> {
    let read = match one_row(value) {
        Ok(read) => read,
        Err(message) => {
            let message = format!("the value is no Avro object container of one row: {message}");
            return Ok(Err(Fault::record(Reason::BadFile, message)));
        }
    };
    if last.as_ref().is_none_or(|(known, _)| *known != read.schema()) {
        match ColumnarPlan::new(&read.schema(), columns, schema, &mut Notes::default()) {
            Ok(plan) => *last = Some((read.schema(), plan)),
            Err(fault) => return Ok(Err(fault)),
        }
    }
    let (_, plan) = last.as_ref().expect("set just above");
    let mut decoded = plan.decode(&read.project(&plan.roots)?, offset)?;
    Ok(match decoded.rejects.pop() {
        None => Ok(decoded.batch),
        Some(reject) => {
            let column = columns.iter().position(|column| Some(&column.name) == reject.column.as_ref());
            Err(Fault { reason: reject.reason, column, message: reject.message })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_where_records_end() {
        let lines = CsvOptions { header: false, ..CsvOptions::default() };
        let quoted = CsvOptions { multiline: true, ..lines.clone() };
        let cases: [(&CsvOptions, &str, &[&str]); 6] = [
            (&lines, "", &[]),
            (&lines, "a,1\nb,2", &["a,1", "b,2"]),
            (&lines, "a,1\r\n\r\n\nb,2\r\n", &["a,1", "b,2"]),
            (&lines, "\"a\nb\",1\n", &["\"a", "b\",1"]),
            (&quoted, "\"a\nb\",1\nc,2\n", &["\"a\nb\",1", "c,2"]),
            (&quoted, "\"a\nb", &["\"a\nb"]),
        ];
        for (options, text, wanted) in cases {
            let found = text_records(options, &Bytes::copy_from_slice(text.as_bytes()));
            let found: Vec<&str> = found.iter().map(|r| std::str::from_utf8(r).expect("text")).collect();
            assert_eq!(found, wanted, "{text:?}");
        }
    }
}
