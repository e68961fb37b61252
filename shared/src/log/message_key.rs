//! The message key of a record that is produced without one: the value of the column by which the stream is partitioned,
//! or of the dataset's key. It decides the partition.

use std::borrow::Cow;
use std::collections::BTreeMap;

use arrow::array::{Array as _, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::dataset::{Definition, Format};
use crate::decode::{RecordDecoder, normalized};

/// Between the values of a key of several columns.
const SEPARATOR: u8 = 0x1f;

/// Finds message keys in records.
#[derive(Debug)]
pub struct MessageKeys {
    /// Per column of the key, the names that it goes by in a JSON record, as [`normalized`] makes them.
    columns: Vec<Vec<String>>,
    /// For records of other formats: what makes values of them, and which of its columns are the key.
    decoder: Option<(RecordDecoder, Vec<usize>)>,
}

impl MessageKeys {
    /// By the stream's `partition_by`, else by the input columns that the dataset's key names.
    #[must_use]
    pub fn new(definition: &Definition) -> Self {
        let by = definition.stream.as_ref().and_then(|stream| stream.partition_by.clone());
        let names = match (by, &definition.key) {
            (Some(column), _) => vec![column],
            (None, Some(key)) => key.columns.clone(),
            (None, None) => Vec::new(),
        };
        let found = |name: &String| definition.columns.iter().position(|column| column.name == *name);
        let found: Vec<usize> = names.iter().map(found).collect::<Option<_>>().unwrap_or_default();
        let spellings = |index: &usize| {
            let column = &definition.columns[*index];
            std::iter::once(&column.name).chain(&column.aliases).map(|name| normalized(name)).collect()
        };
        let columns = found.iter().map(spellings).collect();
        let spec = definition.stream_input().filter(|spec| spec.format != Format::Json && !found.is_empty());
        // What can't be decoded has no indexer either, which says why.
        let decoder = spec.and_then(|spec| RecordDecoder::new(&spec).ok()).map(|decoder| (decoder, found));
        Self { columns, decoder }
    }

    /// The message keys of records, in their order; none for one that lacks a column of it, or is not of the format.
    #[must_use]
    pub fn of_all(&self, values: &[Bytes]) -> Vec<Option<Bytes>> {
        match &self.decoder {
            Some((decoder, columns)) => decoded(decoder, columns, values).unwrap_or_else(|error| {
                tracing::warn!(%error, "no message keys were found");
                vec![None; values.len()]
            }),
            None => values.iter().map(|value| self.of(value)).collect(),
        }
    }

    /// The message key of a JSON record.
    fn of(&self, value: &[u8]) -> Option<Bytes> {
        if self.columns.is_empty() {
            return None;
        }
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(value).ok()?;
        let mut key = Vec::new();
        for (index, spellings) in self.columns.iter().enumerate() {
            let found = fields.iter().find(|(name, _)| spellings.iter().any(|spelling| *spelling == normalized(name)));
            let raw = found?.1.get();
            if raw == "null" {
                return None;
            }
            if index > 0 {
                key.push(SEPARATOR);
            }
            match serde_json::from_str::<Cow<'_, str>>(raw) {
                Ok(text) => key.extend_from_slice(text.as_bytes()),
                Err(_) => key.extend_from_slice(raw.as_bytes()),
            }
        }
        Some(key.into())
    }
}

/// The keys of records by their decoded values: `7` and `07` in a column of numbers are one key.
fn decoded(decoder: &RecordDecoder, columns: &[usize], values: &[Bytes]) -> Result<Vec<Option<Bytes>>, ArrowError> {
    let mut keys = vec![None; values.len()];
    let records: Vec<(u64, Bytes)> = (0..).zip(values.iter().cloned()).collect();
    for part in decoder.decode(&records)? {
        let texts = columns.iter().map(|column| cast(part.batch.column(*column), &DataType::Utf8));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        for (row, offset) in part.offsets.iter().enumerate() {
            if texts.iter().any(|text| text.is_null(row)) {
                continue;
            }
            let parts: Vec<&[u8]> = texts.iter().map(|text| text.as_string::<i32>().value(row).as_bytes()).collect();
            let at = usize::try_from(*offset).expect("it is an index");
            keys[at] = Some(parts.join(&SEPARATOR).into());
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use crate::dataset::{Sources, parse};

    use super::*;

    fn keys(stream: &str, more: &str) -> MessageKeys {
        keys_of("json", stream, more)
    }

    fn keys_of(format: &str, stream: &str, more: &str) -> MessageKeys {
        let toml = format!(
            "name = \"d\"\ncolumns = [{{ name = \"id\", type = \"string\", aliases = [\"Order Id\"] }}, \
             {{ name = \"n\", type = \"int64\" }}]\n[stream]\nformat = \"{format}\"\n{stream}\n{more}"
        );
        let sources: Sources = [("dataset.toml", toml), ("transform.sql", "SELECT id, n FROM input".to_owned())]
            .map(|(name, text)| (name.to_owned(), text))
            .into();
        MessageKeys::new(&parse(&sources).expect("valid"))
    }

    #[test]
    fn the_value_of_the_named_column_is_the_key() {
        let by_id = keys("partition_by = \"id\"", "");
        for (record, key) in [
            (r#"{"id": "a", "n": 1}"#, Some("a")),
            (r#"{"order id": "caf\u00e9"}"#, Some("caf\u{e9}")),
            (r#"{"id": 7}"#, Some("7")),
            (r#"{"id": null}"#, None),
            (r#"{"n": 1}"#, None),
            ("no JSON", None),
        ] {
            assert_eq!(by_id.of(record.as_bytes()), key.map(|key| Bytes::from(key.to_owned())), "{record}");
        }
        let values = ["a,1", "\"b\",2", ",3", "c,x"].map(Bytes::from);
        let texts = keys_of("csv", "partition_by = \"id\"", "").of_all(&values);
        assert_eq!(texts, [Some(Bytes::from("a")), Some(Bytes::from("b")), None, None]);
        let numbers = keys_of("csv", "partition_by = \"n\"", "").of_all(&["a,7", "b,07"].map(Bytes::from));
        assert_eq!(numbers, [Some(Bytes::from("7")), Some(Bytes::from("7"))]);
        assert_eq!(keys_of("csv", "", "").of_all(&values), [None, None, None, None]);
        assert_eq!(keys("", "").of(br#"{"id": "a"}"#), None, "without a declaration there is no key");
    }
}
