//! Entry points of the fuzz targets, and of the test that replays their corpora: any bytes are decoded without a panic,
//! the same whatever the chunks, and every record is a row or a reject.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use bytes::Bytes;

use tidemark_shared::dataset::{CsvOptions, Format, InputColumn, InputSpec};
use tidemark_shared::decode::{Decoded, FileDecoder, OpenError, row_json};
use tidemark_shared::reject::Reject;

mod definition;

pub use definition::definition;

/// Chunk sizes that are compared: one byte, a few records, all at once.
const CHUNK_BYTES: [usize; 3] = [1, 64, 1 << 20];

fn columns(nested: bool) -> Vec<InputColumn> {
    let item = |data_type| Arc::new(Field::new_list_field(data_type, true));
    let fields = Fields::from(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, false)]);
    let mut types = vec![
        ("text", DataType::Utf8),
        ("int", DataType::Int32),
        ("big", DataType::Int64),
        ("float", DataType::Float64),
        ("flag", DataType::Boolean),
        ("day", DataType::Date32),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("instant", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("money", DataType::Decimal128(10, 2)),
        ("bytes", DataType::Binary),
    ];
    if nested {
        types.push(("list", DataType::List(item(DataType::Int64))));
        types.push(("struct", DataType::Struct(fields.clone())));
        types.push(("deep", DataType::List(item(DataType::Struct(fields)))));
    }
    let column = |(name, data_type): (&str, DataType)| InputColumn {
        name: name.to_owned(),
        data_type,
        required: name == "int",
        aliases: Vec::new(),
    };
    types.into_iter().map(column).collect()
}

/// Decodes `data` as delimited text. Its first byte chooses the options.
///
/// # Panics
/// If decode breaks one of its promises.
pub fn csv(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let options = CsvOptions {
        delimiter: if choice & 1 == 0 { b',' } else { b'\t' },
        quote: (choice & 2 == 0).then_some(b'"'),
        header: choice & 4 != 0,
        multiline: choice & 8 != 0,
        null_values: if choice & 16 == 0 { Vec::new() } else { vec!["NA".to_owned()] },
    };
    check(&InputSpec { columns: columns(false), format: Format::Csv(options) }, text);
}

/// Decodes `data` as JSON lines.
///
/// # Panics
/// If decode breaks one of its promises.
pub fn json(data: &[u8]) {
    check(&InputSpec { columns: columns(true), format: Format::Json }, data);
}

/// Decodes `data` as a columnar file, whose first byte chooses the format: 0 Parquet, 1 ORC, 2 Avro. Of the chunk sizes
/// only the smallest is tried, as a file's groups do not depend on it.
///
/// # Panics
/// If decode breaks one of its promises.
pub fn columnar(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let format = match choice {
        0 => Format::Parquet,
        1 => Format::Orc,
        _ => Format::Avro,
    };
    let spec = InputSpec { columns: columns(true), format };
    let summary = summarize(&spec, bytes, CHUNK_BYTES[0]);
    let mut positions: Vec<u64> = summary.rows.iter().map(|(offset, _)| *offset).collect();
    positions.extend(summary.rejects.iter().map(|reject| reject.offset));
    positions.sort_unstable();
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "no position twice");
}

fn check(spec: &InputSpec, text: &[u8]) {
    let mut seen: Option<Summary> = None;
    for chunk_bytes in CHUNK_BYTES {
        let summary = summarize(spec, text, chunk_bytes);
        match &seen {
            None => seen = Some(summary),
            Some(first) => assert_eq!(*first, summary, "chunks of {chunk_bytes} bytes decode to something else"),
        }
    }
}

/// Rows as text with their positions, and rejects.
#[derive(Debug, PartialEq)]
struct Summary {
    rows: Vec<(u64, String)>,
    rejects: Vec<Reject>,
}

fn summarize(spec: &InputSpec, text: &[u8], chunk_bytes: usize) -> Summary {
    let mut summary = Summary { rows: Vec::new(), rejects: Vec::new() };
    let source = Arc::new(Bytes::copy_from_slice(text));
    let file = match FileDecoder::open_with(spec, source, chunk_bytes) {
        Ok(file) => file,
        Err(OpenError::Reject(reject)) => {
            summary.rejects.push(reject);
            return summary;
        }
        Err(error) => panic!("memory and a valid spec have no other error: {error}"),
    };
    let decoder = file.chunk_decoder();
    let mut chunks = file.chunks().expect("memory does not fail");
    while let Some(chunk) = chunks.next_chunk().expect("memory does not fail") {
        for decoded in decoder.decode(chunk).expect("decode has no defect") {
            summary.add(&decoded);
        }
    }
    summary
}

impl Summary {
    fn add(&mut self, decoded: &Decoded) {
        assert_eq!(decoded.batch.num_rows(), decoded.offsets.len(), "every row has a position");
        assert_eq!(decoded.records(), (decoded.offsets.len() + decoded.rejects.len()) as u64, "H8");
        for (row, offset) in decoded.offsets.iter().enumerate() {
            let text = String::from_utf8_lossy(&row_json(&decoded.batch, row)).into_owned();
            self.rows.push((*offset, text));
        }
        self.rejects.extend(decoded.rejects.iter().cloned());
    }
}
