//! The dataset of the simulation: its definitions, its records, and what becomes of them, told in plain Rust.

use bytes::Bytes;
use tidemark_e2e::random::Random;
use tidemark_shared::dataset::{DATASET_FILE, Sources, TRANSFORM_FILE};

/// Name of the dataset and of its topic.
pub const DATASET: &str = "orders";
/// Partitions of the topic.
pub const PARTITIONS: u32 = 2;

const TOML: &str = r#"
name = "orders"
columns = [
    { name = "id", type = "string", required = true },
    { name = "cents", type = "int64", required = true },
    { name = "kind", type = "string", required = true },
]
partition_columns = ["kind"]

[stream]
topic = "orders"
format = "json"
partitions = 2

[files]
format = "json"

[[reject]]
name = "negative"
when = "cents < 0"
"#;

/// One of the two definitions; they differ in what they add to `cents`.
#[must_use]
pub fn sources(variant: usize) -> Sources {
    let cents = if variant == 0 { "cents" } else { "cents + 1 AS cents" };
    let sql = format!("SELECT id, {cents}, kind FROM input WHERE cents <> 0");
    [(DATASET_FILE.to_owned(), TOML.to_owned()), (TRANSFORM_FILE.to_owned(), sql)].into()
}

/// What a record becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A row with this id and these cents.
    Row(String, i64),
    /// Nothing.
    Filtered,
    /// A reject.
    Rejected,
}

/// A record of the given id.
#[must_use]
pub fn record(id: &str, chance: &mut Random) -> Bytes {
    let kind = if chance.per_mille(700) { "a" } else { "b" };
    let cents = match chance.below(12) {
        0 => "\"many\"".to_owned(),
        1 => "-5".to_owned(),
        2 => "0".to_owned(),
        _ => (1 + chance.below(10_000)).to_string(),
    };
    format!(r#"{{"id":"{id}","cents":{cents},"kind":"{kind}"}}"#).into()
}

/// What `record` becomes by a definition. It is read by its own form, not by a JSON parser.
#[must_use]
pub fn fate(record: &[u8], variant: usize) -> Fate {
    let text = String::from_utf8_lossy(record);
    let field = |from: &str, to: &str| -> Option<String> {
        let rest = text.split_once(from)?.1;
        Some(rest.split_once(to)?.0.to_owned())
    };
    let (Some(id), Some(cents)) = (field("\"id\":\"", "\""), field("\"cents\":", ",")) else { return Fate::Rejected };
    match cents.parse::<i64>() {
        Ok(0) => Fate::Filtered,
        Ok(cents) if cents > 0 => Fate::Row(id, cents + i64::from(variant == 1)),
        _ => Fate::Rejected,
    }
}

/// Records of a file with their offsets in it.
#[must_use]
pub fn lines(file: &[u8]) -> Vec<(u64, Bytes)> {
    let (mut lines, mut offset) = (Vec::new(), 0);
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        lines.push((offset, Bytes::copy_from_slice(line)));
        offset += line.len() as u64;
    }
    lines
}

/// The content of a file.
#[must_use]
pub fn file(name: &str, chance: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..3 + chance.below(8) {
        bytes.extend_from_slice(&record(&format!("{name}-{number}"), chance));
        bytes.push(b'\n');
    }
    bytes
}
