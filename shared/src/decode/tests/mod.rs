//! Tests of decode: one module a format, and properties over all of them.

mod columnar;
mod compressed;
mod convert;
mod csv;
mod damage;
mod fixtures;
mod json;
mod properties;
mod stream;
mod values;

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;

use super::{Decoded, FileDecoder, Notes, OpenError, RawRecords, row_json};
use crate::dataset::{CsvOptions, Format, InputColumn, InputSpec};
use crate::reject::{Reason, Reject};

pub(super) fn naive() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

pub(super) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Optional columns; a name that ends in `!` is required.
pub(super) fn columns(columns: &[(&str, DataType)]) -> Vec<InputColumn> {
    let column = |(name, data_type): &(&str, DataType)| InputColumn {
        name: name.trim_end_matches('!').to_owned(),
        data_type: data_type.clone(),
        required: name.ends_with('!'),
        aliases: Vec::new(),
    };
    columns.iter().map(column).collect()
}

pub(super) fn csv_spec(types: &[(&str, DataType)]) -> InputSpec {
    InputSpec { columns: columns(types), format: Format::Csv(CsvOptions::default()) }
}

pub(super) fn json_spec(types: &[(&str, DataType)]) -> InputSpec {
    InputSpec { columns: columns(types), format: Format::Json }
}

/// Everything a file decodes to, with rows as JSON.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) rows: Vec<(u64, String)>,
    /// Original bytes behind the rows of text formats.
    pub(super) raw: Vec<String>,
    pub(super) rejects: Vec<Reject>,
    pub(super) notes: Notes,
}

impl Outcome {
    pub(super) fn add(&mut self, decoded: &Decoded) {
        for (row, offset) in decoded.offsets.iter().enumerate() {
            let json = String::from_utf8(row_json(&decoded.batch, row).to_vec()).unwrap();
            self.rows.push((*offset, json));
            let raw = match &decoded.raw {
                RawRecords::Text { base_offset, bytes, lengths } => {
                    let start = usize::try_from(offset - base_offset).unwrap();
                    bytes.slice(start..start + lengths[row] as usize)
                }
                RawRecords::Records(records) => records[row].clone(),
                RawRecords::Columnar => continue,
            };
            self.raw.push(String::from_utf8_lossy(&raw).into_owned());
        }
        self.rejects.extend(decoded.rejects.iter().cloned());
    }

    pub(super) fn json(&self) -> Vec<&str> {
        self.rows.iter().map(|(_, json)| json.as_str()).collect()
    }

    /// Offset, reason and column of each reject.
    pub(super) fn refused(&self) -> Vec<(u64, Reason, Option<&str>)> {
        self.rejects.iter().map(|r| (r.offset, r.reason.clone(), r.column.as_deref())).collect()
    }
}

pub(super) fn try_decode(spec: &InputSpec, bytes: &[u8], chunk_bytes: usize) -> Result<Outcome, OpenError> {
    let source = Arc::new(Bytes::copy_from_slice(bytes));
    let file = FileDecoder::open_with(spec, source, chunk_bytes)?;
    let decoder = file.chunk_decoder();
    let mut outcome = Outcome::default();
    let mut chunks = file.chunks().unwrap();
    while let Some(chunk) = chunks.next_chunk().unwrap() {
        for decoded in decoder.decode(chunk).unwrap() {
            assert_eq!(decoded.batch.schema(), spec.schema());
            outcome.add(&decoded);
        }
    }
    outcome.notes = file.notes();
    Ok(outcome)
}

pub(super) fn decode(spec: &InputSpec, text: impl AsRef<[u8]>) -> Outcome {
    try_decode(spec, text.as_ref(), super::CHUNK_BYTES).unwrap()
}

/// The reject that a file as a whole is.
pub(super) fn refused_file(spec: &InputSpec, bytes: &[u8]) -> Reject {
    match try_decode(spec, bytes, super::CHUNK_BYTES) {
        Err(OpenError::Reject(reject)) => reject,
        other => panic!("not refused as a whole: {other:?}"),
    }
}
