//! Tables of the catalog port as tables of the engine: Glue's model → where the files are and how to read them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::catalog::{Catalog, CatalogError, PageRequest, StorageDescriptor, Table};
use crate::error::{AnyError, ErrorKind, Kind};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use async_trait::async_trait;

use super::catalog::{CatalogTable, CatalogTables};
use super::files::{FileFormat, FileTable};

/// The catalog port behind [`CatalogTables`].
///
/// Tables that are not plain files are left out: views, and Delta tables, whose folders hold files that are no part of
/// them (any more). Datasets are read through their Delta log, under `batch`.
pub struct PortTables(Arc<dyn Catalog>);

impl PortTables {
    /// The tables of `catalog`.
    #[must_use]
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self(catalog)
    }

    async fn databases(&self) -> Result<Vec<String>, CatalogError> {
        let mut names = Vec::new();
        let mut page = PageRequest::default();
        loop {
            let found = self.0.list_databases(page.clone()).await?;
            names.extend(found.items.into_iter().map(|database| database.input.name));
            match found.next {
                Some(token) => page.token = Some(token),
                None => return Ok(names),
            }
        }
    }

    async fn readable(&self, database: &str) -> Result<Vec<String>, CatalogError> {
        let mut names = Vec::new();
        let mut page = PageRequest::default();
        loop {
            let found = self.0.list_tables(database, page.clone()).await?;
            names.extend(
                found.items.iter().filter(|table| files(table).is_some()).map(|table| table.input.name.clone()),
            );
            match found.next {
                Some(token) => page.token = Some(token),
                None => return Ok(names),
            }
        }
    }
}

/// A table that the catalog knows and the engine can't read in place.
#[derive(Debug, thiserror::Error)]
#[error("table `{schema}.{table}` does not consist of plain CSV, JSON or Parquet files")]
struct NotFiles {
    schema: String,
    table: String,
}

impl ErrorKind for NotFiles {
    fn kind(&self) -> Kind {
        Kind::Unsupported
    }

    fn hint(&self) -> Option<String> {
        Some("views and Delta tables of the catalog are not read here; datasets are, as `batch.<dataset>`".to_owned())
    }
}

impl fmt::Debug for PortTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortTables").finish_non_exhaustive()
    }
}

#[async_trait]
impl CatalogTables for PortTables {
    async fn names(&self) -> Result<BTreeMap<String, Vec<String>>, AnyError> {
        let mut names = BTreeMap::new();
        for database in self.databases().await.map_err(AnyError::new)? {
            match self.readable(&database).await {
                Ok(tables) => {
                    let _new = names.insert(database, tables);
                }
                // Deleted since it was listed.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(AnyError::new(error)),
            }
        }
        Ok(names)
    }

    async fn table(&self, schema: &str, table: &str) -> Result<Option<CatalogTable>, AnyError> {
        match self.0.get_table(schema, table).await {
            Ok(found) => match files(&found) {
                Some(files) => Ok(Some(CatalogTable { files, version: found.version.to_string() })),
                None => Err(AnyError::new(NotFiles { schema: schema.to_owned(), table: table.to_owned() })),
            },
            // What can be no name names nothing.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => Ok(None),
            Err(error) => Err(AnyError::new(error)),
        }
    }
}

/// The files of `table`; `None` if it is no table of plain files in a format that the engine reads.
pub(super) fn files(table: &Table) -> Option<FileTable> {
    let input = &table.input;
    let says = |key: &str, value: &str| input.parameters.get(key).is_some_and(|v| v.eq_ignore_ascii_case(value));
    if says("table_type", "delta") || says("spark.sql.sources.provider", "delta") || says("classification", "delta") {
        return None;
    }
    let storage = input.storage_descriptor.as_ref()?;
    let location = storage.location.clone().filter(|location| !location.is_empty())?;
    let column = |column: &crate::catalog::Column| {
        let data_type = column.r#type.as_deref().and_then(arrow_type)?;
        Some(Field::new(&column.name, data_type, true))
    };
    // A column of a type with no counterpart here: the files know better.
    let columns: Option<Vec<Field>> = storage.columns.iter().map(column).collect();
    let partitions: Option<Vec<Field>> = input.partition_keys.iter().map(column).collect();
    Some(FileTable {
        location: if location.ends_with('/') || has_extension(&location) { location } else { format!("{location}/") },
        format: Some(format(storage)?),
        schema: columns.filter(|columns| !columns.is_empty()).map(|columns| Arc::new(Schema::new(columns))),
        partition_columns: partitions?.iter().map(|f| (f.name().clone(), f.data_type().clone())).collect(),
    })
}

fn has_extension(location: &str) -> bool {
    location.rsplit('/').next().is_some_and(|name| name.contains('.'))
}

/// The format by the class that reads it, as Hive and Glue name them.
fn format(storage: &StorageDescriptor) -> Option<FileFormat> {
    let serde = storage.serde_info.as_ref();
    let class = serde.and_then(|serde| serde.serialization_library.as_deref()).unwrap_or_default().to_lowercase();
    let class = if class.is_empty() { storage.input_format.clone().unwrap_or_default().to_lowercase() } else { class };
    if class.contains("parquet") {
        return Some(FileFormat::Parquet);
    }
    if class.contains("json") {
        return Some(FileFormat::Json);
    }
    if class.contains("csv") || class.contains("lazysimple") {
        let property = |key: &str| {
            let of_serde = serde.and_then(|serde| serde.parameters.get(key));
            of_serde.or_else(|| storage.parameters.get(key)).map(String::as_str)
        };
        let delimiter = property("separatorChar").or_else(|| property("field.delim")).unwrap_or(",");
        let header = property("skip.header.line.count").is_some_and(|count| count != "0");
        return Some(FileFormat::Csv { header, delimiter: *delimiter.as_bytes().first().unwrap_or(&b',') });
    }
    None
}

/// The Arrow type of a Hive type of one value; `None` for nested and unknown ones.
fn arrow_type(hive: &str) -> Option<DataType> {
    let hive = hive.trim().to_ascii_lowercase();
    let (name, arguments) = match hive.split_once('(') {
        Some((name, rest)) => (name.trim(), rest.strip_suffix(')')?),
        None => (hive.as_str(), ""),
    };
    Some(match name {
        "boolean" => DataType::Boolean,
        "tinyint" => DataType::Int8,
        "smallint" => DataType::Int16,
        "int" | "integer" => DataType::Int32,
        "bigint" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "string" | "varchar" | "char" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "decimal" => {
            let (precision, scale) = match arguments.split_once(',') {
                Some((precision, scale)) => (precision.trim().parse().ok()?, scale.trim().parse().ok()?),
                None if arguments.is_empty() => (10, 0),
                None => (arguments.trim().parse().ok()?, 0),
            };
            DataType::Decimal128(precision, scale)
        }
        _ => return None,
    })
}
