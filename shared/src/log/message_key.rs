//! The message key of a record that is produced without one: the value of the column by which the stream is partitioned,
//! or of the dataset's key. It decides the partition.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::dataset::Definition;
use crate::decode::normalized;

/// Between the values of a key of several columns.
const SEPARATOR: u8 = 0x1f;

/// Finds message keys in JSON records.
#[derive(Debug)]
pub struct MessageKeys {
    /// Per column of the key, the names that it goes by, as [`normalized`] makes them.
    columns: Vec<Vec<String>>,
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
        let spellings = |name: &String| {
            let column = definition.columns.iter().find(|column| column.name == *name)?;
            Some(std::iter::once(&column.name).chain(&column.aliases).map(|name| normalized(name)).collect())
        };
        Self { columns: names.iter().map(spellings).collect::<Option<_>>().unwrap_or_default() }
    }

    /// The message key of a record; none for one that lacks a column of it, or is no JSON object.
    #[must_use]
    pub fn of(&self, value: &[u8]) -> Option<Bytes> {
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

#[cfg(test)]
mod tests {
    use crate::dataset::{Sources, parse};

    use super::*;

    fn keys(stream: &str, more: &str) -> MessageKeys {
        let toml = format!(
            "name = \"d\"\ncolumns = [{{ name = \"id\", type = \"string\", aliases = [\"Order Id\"] }}, \
             {{ name = \"n\", type = \"int64\" }}]\n[stream]\nformat = \"json\"\n{stream}\n{more}"
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
        assert_eq!(keys("", "").of(br#"{"id": "a"}"#), None, "without a declaration there is no key");
    }
}
