//! Glue's model. The `…Input` types are what callers give; the others add what the catalog itself knows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Free-form properties.
pub type Parameters = BTreeMap<String, String>;

/// What a caller says about a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DatabaseInput {
    /// Name, in any case.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where tables without a location of their own lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location_uri: Option<String>,
    /// Properties.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// What was said about it; the name is lower-cased.
    pub input: DatabaseInput,
    /// When it was created, in milliseconds' precision.
    pub create_time: DateTime<Utc>,
}

/// A column of a table or a partition key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Hive type: `bigint`, `decimal(10,2)`, `array<struct<a:int>>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Properties.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// How rows are read and written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SerdeInfo {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Java class of the serialiser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serialization_library: Option<String>,
    /// Its properties.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// One column of a sort order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Order {
    /// The column.
    pub column: String,
    /// 1 ascending, 0 descending.
    pub sort_order: i32,
}

/// Where and how data is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StorageDescriptor {
    /// Columns, without partition keys.
    pub columns: Vec<Column>,
    /// Address of the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Java class that reads files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_format: Option<String>,
    /// Java class that writes files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_format: Option<String>,
    /// Whether files are compressed.
    pub compressed: bool,
    /// Number of buckets, where the table is bucketed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_buckets: Option<i32>,
    /// How rows are read and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serde_info: Option<SerdeInfo>,
    /// Columns by whose hash rows are put into buckets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bucket_columns: Vec<String>,
    /// Order of rows inside a bucket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sort_columns: Vec<Order>,
    /// Properties.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// Whether a bucket is a folder.
    pub stored_as_sub_directories: bool,
}

/// What a caller says about a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TableInput {
    /// Name, in any case.
    pub name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Days that data is kept; Glue's field, not acted upon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<i32>,
    /// Where and how it is stored; none for some views.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_descriptor: Option<StorageDescriptor>,
    /// Columns that partitions have values of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partition_keys: Vec<Column>,
    /// Text of a view as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_original_text: Option<String>,
    /// Text of a view with all names resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_expanded_text: Option<String>,
    /// `EXTERNAL_TABLE`, `VIRTUAL_VIEW`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_type: Option<String>,
    /// Properties.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// A table at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The database, lower-cased.
    pub database: String,
    /// What was said about it; the name is lower-cased.
    pub input: TableInput,
    /// 0 when created, one more with every update.
    pub version: u64,
    /// When the table was created, in milliseconds' precision.
    pub create_time: DateTime<Utc>,
    /// When this version was made.
    pub update_time: DateTime<Utc>,
}

/// What a caller says about a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PartitionInput {
    /// One value per partition key, in their order.
    pub values: Vec<String>,
    /// Where and how it is stored, if not as the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_descriptor: Option<StorageDescriptor>,
    /// Properties.
    #[serde(skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// A partition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What was said about it.
    pub input: PartitionInput,
    /// When it was created, in milliseconds' precision.
    pub create_time: DateTime<Utc>,
}
