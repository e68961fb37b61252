//! A validated dataset definition, as the layers use it. Built only by [`super::load`] and [`super::parse`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// One column of the input schema: what decode yields and the transform reads as `input.<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumn {
    /// Name in SQL.
    pub name: String,
    /// Arrow type of the decoded column.
    pub data_type: DataType,
    /// A record without a value here is a reject ([`crate::reject::Reason::Missing`]).
    pub required: bool,
    /// Other names the column goes by in headers, JSON keys and columnar schemas. Matching ignores case and
    /// surrounding or inner white space; the name itself always counts.
    pub aliases: Vec<String>,
}

/// How text that is not a value is treated, and how fields are delimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Field delimiter, one byte.
    pub delimiter: u8,
    /// Quote, one byte; `None` means that quotes have no meaning.
    pub quote: Option<u8>,
    /// The first record names the columns; otherwise fields are the input columns in order.
    pub header: bool,
    /// A quoted field may contain line ends; the file is then decoded in one piece.
    pub multiline: bool,
    /// Field texts that mean null, besides the empty unquoted field.
    pub null_values: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), header: true, multiline: false, null_values: Vec::new() }
    }
}

/// The format of a dataset's files or of its stream's record values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Delimited text.
    Csv(CsvOptions),
    /// One JSON object a line (a file), or one JSON object (a stream record).
    Json,
    /// Parquet; files only.
    Parquet,
    /// Avro object container files.
    Avro,
    /// ORC; files only.
    Orc,
}

impl Format {
    /// `csv`, `json`, `parquet`, `avro` or `orc`, as in `dataset.toml` and in ledger entries.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Avro => "avro",
            Self::Orc => "orc",
        }
    }
}

/// Everything decode needs to know of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// The input columns, in order.
    pub columns: Vec<InputColumn>,
    /// The format.
    pub format: Format,
}

impl InputSpec {
    /// The Arrow schema of decoded batches: every column nullable unless it is required.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let field = |c: &InputColumn| Field::new(&c.name, c.data_type.clone(), !c.required);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }
}

/// A dataset's stream: a topic of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Topic name.
    pub topic: String,
    /// Format of record values.
    pub format: Format,
    /// Input column whose value is the message key when a record is produced without one.
    pub partition_by: Option<String>,
    /// Number of partitions when the topic is created.
    pub partitions: u32,
}

/// The output column that carries the event time, and the zone its local times are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// Output column, of a timestamp type.
    pub column: String,
    /// IANA zone in which a zoneless column is local time. An ambiguous local time means the first of the two
    /// instants; one that does not exist is a reject ([`crate::reject::Reason::NonexistentTime`]).
    pub zone: chrono_tz::Tz,
}

/// A named SQL condition; a row for which it is true is a reject ([`crate::reject::Reason::Rule`]). Null counts as false.
///
/// It sees the transform's output columns by name and the input columns as `input.<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectRule {
    /// Name, as it shows in reports: `rule:<name>`.
    pub name: String,
    /// SQL condition.
    pub when: String,
}

/// A named SQL condition over the accepted rows of one file, with aggregates; it must be true. Null counts as false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Name, as it shows in reports.
    pub name: String,
    /// SQL condition over output columns, e.g. `avg(fare_amount) BETWEEN 1 AND 100`.
    pub that: String,
}

/// What a file must satisfy before its rows are published.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Highest accepted share of rejected among all records, 0 to 1. `None`: any share below 1 passes.
    pub max_reject_ratio: Option<f64>,
    /// Fewest accepted rows of a file that holds at least one record. 1 unless set.
    pub min_rows: u64,
    /// Conditions over the accepted rows.
    pub expectations: Vec<Expectation>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { max_reject_ratio: None, min_rows: 1, expectations: Vec::new() }
    }
}

/// One row per key in every answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// Output columns that identify a row.
    pub columns: Vec<String>,
    /// Output column whose highest value wins.
    pub version_by: Option<String>,
    /// SQL condition over output columns: the record deletes its key.
    pub delete_when: Option<String>,
}

/// A view: its name and SQL. Kept with the definition; materialised by a later release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSql {
    /// File name without `.sql`.
    pub name: String,
    /// The statement.
    pub sql: String,
}

/// A dataset, validated as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Name: lower-case letters, digits and `_`, starting with a letter.
    pub name: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Input columns, in order.
    pub columns: Vec<InputColumn>,
    /// Format of files, if the dataset takes files.
    pub files: Option<Format>,
    /// The stream, if the dataset has one.
    pub stream: Option<StreamSpec>,
    /// The transform: one `SELECT … FROM input [WHERE …]`.
    pub transform_sql: String,
    /// Event time, if declared.
    pub event_time: Option<EventTime>,
    /// Output columns by whose values the curated table is partitioned; all of type string. An empty text becomes null.
    pub partition_columns: Vec<String>,
    /// Key, if declared.
    pub key: Option<KeySpec>,
    /// Reject rules, in order; the first that is true names the reject.
    pub reject_rules: Vec<RejectRule>,
    /// The gate on files.
    pub gate: Gate,
    /// Views.
    pub views: Vec<NamedSql>,
    /// Alerts.
    pub alerts: Vec<NamedSql>,
}

impl Definition {
    /// The Arrow schema of decoded batches, whatever the format.
    #[must_use]
    pub fn input_schema(&self) -> SchemaRef {
        InputSpec { columns: self.columns.clone(), format: Format::Json }.schema()
    }

    /// What decode needs for the values of this dataset's stream; `None` where it has none.
    #[must_use]
    pub fn stream_input(&self) -> Option<InputSpec> {
        let format = self.stream.as_ref()?.format.clone();
        Some(InputSpec { columns: self.columns.clone(), format })
    }

    /// What decode needs for this dataset's files; `None` where it takes none.
    #[must_use]
    pub fn file_input(&self) -> Option<InputSpec> {
        let format = self.files.clone()?;
        Some(InputSpec { columns: self.columns.clone(), format })
    }
}

/// The unit of every timestamp column, input and output: microseconds, as Delta Lake has it.
pub const TIMESTAMP_UNIT: TimeUnit = TimeUnit::Microsecond;
