//! Prints how fast CSV files decode on one thread: `decode_speed FILE [TIMES]`. Columns are those of the header, with
//! types guessed from the first record.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType, TimeUnit};
use bytes::Bytes;
use tidemark_shared::dataset::{CsvOptions, Format, InputColumn, InputSpec};
use tidemark_shared::decode::FileDecoder;

fn guess(name: &str, value: &str) -> DataType {
    if name.ends_with("datetime") {
        DataType::Timestamp(TimeUnit::Microsecond, None)
    } else if value.is_empty()
        || value.contains('.')
        || ["amount", "surcharge", "extra", "tax", "distance"].iter().any(|part| name.contains(part))
    {
        DataType::Float64
    } else if value.parse::<i64>().is_ok() {
        DataType::Int64
    } else {
        DataType::Utf8
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: decode_speed FILE [TIMES]")?;
    let times: u32 = std::env::args().nth(2).map_or(Ok(5), |times| times.parse())?;
    let bytes = Bytes::from(std::fs::read(&path)?);
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).into_owned();
    let mut lines = text.lines();
    let (header, first) = (lines.next().ok_or("no header")?, lines.next().ok_or("no record")?);
    let column = |(name, value): (&str, &str)| InputColumn {
        name: name.to_owned(),
        data_type: guess(name, value),
        required: false,
        aliases: Vec::new(),
    };
    let columns = header.split(',').zip(first.split(',')).map(column).collect();
    let spec = InputSpec { columns, format: Format::Csv(CsvOptions::default()) };
    for _ in 0..times {
        let start = Instant::now();
        let file = FileDecoder::open(&spec, Arc::new(bytes.clone()))?;
        let decoder = file.chunk_decoder();
        let mut chunks = file.chunks()?;
        let (mut rows, mut rejects) = (0, 0);
        while let Some(chunk) = chunks.next_chunk()? {
            for decoded in decoder.decode(chunk)? {
                rows += decoded.batch.num_rows();
                rejects += decoded.rejects.len();
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let (megabytes, nanos) = (bytes.len() as f64 / 1e6, seconds * 1e9 / (rows + rejects).max(1) as f64);
        println!("{:.0} MB/s, {nanos:.0} ns a record, {rows} rows, {rejects} rejects", megabytes / seconds);
    }
    Ok(())
}
