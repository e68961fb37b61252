//! What tells two definitions apart by the rows and rejects they yield.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::types::type_text;
use super::{CsvOptions, Definition, Format};
use crate::transform::plan::{normalised, normalised_condition};

/// Raised by a release that changes what decode or SQL yield for the same definition and the same bytes.
pub const SEMANTICS: u32 = 1;

/// Hex digits of a version: 64 bits, enough to tell the versions of one dataset apart.
const DIGITS: usize = 16;

/// A digest of all that decides a definition's rows and rejects; its short hexadecimal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DefinitionVersion(String);

impl DefinitionVersion {
    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DefinitionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of a definition: semantics, input schema with aliases, formats, transform, reject rules, key, event
/// time and partitioning. Comments and white space of SQL, views, alerts, gate and description do not count.
#[must_use]
pub fn definition_version(definition: &Definition) -> DefinitionVersion {
    let mut canon = Canon::default();
    canon.add("semantics", SEMANTICS.to_string());
    for column in &definition.columns {
        canon.add("column", &column.name);
        canon.add("type", type_text(&column.data_type));
        canon.add("required", column.required.to_string());
        let mut aliases = column.aliases.clone();
        aliases.sort();
        canon.add_all("alias", &aliases);
    }
    canon.format("files", definition.files.as_ref());
    canon.format("stream", definition.stream.as_ref().map(|stream| &stream.format));
    canon.sql("transform", normalised(&definition.transform_sql), &definition.transform_sql);
    for rule in &definition.reject_rules {
        canon.add("rule", &rule.name);
        canon.sql("when", normalised_condition(&rule.when), &rule.when);
    }
    if let Some(key) = &definition.key {
        canon.add_all("key", &key.columns);
        canon.add_all("version_by", key.version_by.as_slice());
        if let Some(condition) = &key.delete_when {
            canon.sql("delete_when", normalised_condition(condition), condition);
        }
    }
    if let Some(event_time) = &definition.event_time {
        canon.add("event_time", &event_time.column);
        canon.add("zone", event_time.zone.name());
    }
    canon.add_all("partition", &definition.partition_columns);
    canon.version()
}

/// The version of everything else that `apply` registers: views, alerts, gate, description, stream settings.
#[must_use]
pub fn surroundings_version(definition: &Definition) -> DefinitionVersion {
    let mut canon = Canon::default();
    canon.add_all("description", definition.description.as_slice());
    for (what, parts) in [("view", &definition.views), ("alert", &definition.alerts)] {
        for part in parts {
            canon.add(what, &part.name);
            canon.add("sql", &part.sql);
        }
    }
    let gate = &definition.gate;
    canon.add_all(
        "max_reject_ratio",
        &gate.max_reject_ratio.map(|ratio| ratio.to_string()).into_iter().collect::<Vec<_>>(),
    );
    canon.add("min_rows", gate.min_rows.to_string());
    for expectation in &gate.expectations {
        canon.add("expect", &expectation.name);
        canon.add("that", &expectation.that);
    }
    if let Some(stream) = &definition.stream {
        canon.add("topic", &stream.topic);
        canon.add_all("partition_by", stream.partition_by.as_slice());
        canon.add("partitions", stream.partitions.to_string());
    }
    canon.version()
}

/// Fields one after the other, each with its length, so that no two lists of fields look alike.
#[derive(Default)]
struct Canon {
    digest: Sha256,
}

impl Canon {
    fn add(&mut self, name: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        self.digest.update(format!("{name}:{}:{value}\n", value.len()));
    }

    fn add_all(&mut self, name: &str, values: &[String]) {
        self.add(name, values.len().to_string());
        for value in values {
            self.add(name, value);
        }
    }

    fn sql(&mut self, name: &str, normalised: Option<String>, text: &str) {
        self.add(name, normalised.as_deref().unwrap_or(text));
    }

    fn format(&mut self, name: &str, format: Option<&Format>) {
        self.add(name, format.map_or("none", Format::name));
        if let Some(Format::Csv(CsvOptions { delimiter, quote, header, multiline, null_values })) = format {
            self.add("delimiter", delimiter.to_string());
            self.add("quote", quote.map_or_else(String::new, |quote| quote.to_string()));
            self.add("header", header.to_string());
            self.add("multiline", multiline.to_string());
            self.add_all("null", null_values);
        }
    }

    fn version(self) -> DefinitionVersion {
        let mut hex = crate::hex(&self.digest.finalize());
        hex.truncate(DIGITS);
        DefinitionVersion(hex)
    }
}
