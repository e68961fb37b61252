//! Files in place as tables: those that the catalog knows, and those that a statement names.

use std::sync::Arc;

use crate::curated::JudgedFiles;
use crate::error::Kind;
use crate::secrets::shown_url;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat as DataFusionFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableConfigExt, ListingTableUrl,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use futures::TryStreamExt as _;

use super::error::SqlError;

/// How the files of a table are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// Delimited text.
    Csv {
        /// The first record of each file names the columns.
        header: bool,
        /// Field delimiter.
        delimiter: u8,
    },
    /// One JSON object a line.
    Json,
    /// Parquet.
    Parquet,
}

/// A table over the files at a location.
#[derive(Debug, Clone, PartialEq)]
pub struct FileTable {
    /// URL or path of a file, or of a folder (ends with `/`).
    pub location: String,
    /// The files' format; `None`: by the names of the files.
    pub format: Option<FileFormat>,
    /// Columns in the files; `None`: found out from the files.
    pub schema: Option<SchemaRef>,
    /// Columns that are in the folders' names (`year=2019`), outermost first.
    pub partition_columns: Vec<(String, DataType)>,
}

impl FileTable {
    /// A table over whatever is at `location`.
    #[must_use]
    pub fn at(location: &str) -> Self {
        Self { location: location.to_owned(), format: None, schema: None, partition_columns: Vec::new() }
    }
}

/// True if a name in a `FROM` clause means a file or folder rather than a table.
pub(super) fn is_path(name: &str) -> bool {
    name.contains('/') || name == "." || Ending::of(name).is_some()
}

/// What the end of a file's name says of its content.
#[derive(Debug, PartialEq)]
struct Ending<'a> {
    /// Without the point before it: `tsv.gz`.
    text: &'a str,
    format: FileFormat,
    compression: FileCompressionType,
}

impl<'a> Ending<'a> {
    /// `None` if the name ends in no format that is known here.
    fn of(name: &'a str) -> Option<Self> {
        let (rest, last) = name.rsplit_once('.')?;
        if let Some(format) = format_named(last) {
            return Some(Self { text: last, format, compression: FileCompressionType::UNCOMPRESSED });
        }
        let compression = last.parse::<FileCompressionType>().ok().filter(FileCompressionType::is_compressed)?;
        let (before, inner) = rest.rsplit_once('.')?;
        // Parquet compresses its own pages.
        let format = format_named(inner).filter(|format| *format != FileFormat::Parquet)?;
        Some(Self { text: &name[before.len() + 1..], format, compression })
    }

    fn options(self, state: &SessionState) -> ListingOptions {
        ListingOptions::new(datafusion_format(state, &self.format, self.compression)).with_file_extension(self.text)
    }
}

fn format_named(ending: &str) -> Option<FileFormat> {
    Some(match ending.to_ascii_lowercase().as_str() {
        "csv" => FileFormat::Csv { header: true, delimiter: b',' },
        "tsv" => FileFormat::Csv { header: true, delimiter: b'\t' },
        "json" | "ndjson" | "jsonl" => FileFormat::Json,
        "parquet" => FileFormat::Parquet,
        _ => return None,
    })
}

/// The address of the bucket that `location` is in, if it is in one, and the bucket's name. Hive and Spark write `s3a`
/// and `s3n` for the same.
pub(super) fn bucket(location: &str) -> Option<(String, &str)> {
    let (scheme, rest) = location.split_once("://")?;
    let bucket = rest.split_once('/').map_or(rest, |(bucket, _)| bucket);
    ["s3", "s3a", "s3n"].contains(&scheme).then(|| (format!("{scheme}://{bucket}"), bucket))
}

/// Opens `table`, reading what it takes to know its columns.
pub(super) async fn open(
    state: &SessionState,
    table: &FileTable,
) -> std::result::Result<Arc<dyn TableProvider>, SqlError> {
    if let Some((scheme, _)) = table.location.split_once("://")
        && scheme != "file"
        && bucket(&table.location).is_none()
    {
        let message = format!("`{scheme}:` is neither `file:` nor `s3:`");
        return Err(SqlError::BadFile { location: shown_url(&table.location), message, kind: Kind::Invalid });
    }
    let refuse = |error| SqlError::of_files(&table.location, &error);
    let nothing = || {
        let message = "no such file or folder, or nothing in it that has columns".to_owned();
        SqlError::BadFile { location: table.location.clone(), message, kind: Kind::NotFound }
    };
    let url = ListingTableUrl::parse(location(&table.location)).map_err(refuse)?;
    match open_url(state, table, url).await {
        Ok(provider) if provider.schema().fields().is_empty() => Err(nothing()),
        Ok(provider) => Ok(provider),
        // DataFusion takes a location without files for a defect of its own.
        Err(error) if matches!(error.find_root(), DataFusionError::Internal(_)) => Err(nothing()),
        Err(error) => Err(refuse(error)),
    }
}

/// A local folder needs a slash at its end to be listed.
fn location(text: &str) -> String {
    match !text.ends_with('/') && !text.contains("://") && std::path::Path::new(text).is_dir() {
        true => format!("{text}/"),
        false => text.to_owned(),
    }
}

async fn open_url(state: &SessionState, table: &FileTable, url: ListingTableUrl) -> Result<Arc<dyn TableProvider>> {
    let mut config = ListingTableConfig::new(url.clone());
    config = match &table.format {
        Some(format) => config.with_listing_options(
            ListingOptions::new(datafusion_format(state, format, FileCompressionType::UNCOMPRESSED))
                .with_file_extension("")
                .with_table_partition_cols(table.partition_columns.clone()),
        ),
        None => match first_ending(state, &url).await? {
            Some(options) => config.with_listing_options(options),
            // What else DataFusion reads, and its words for what it does not.
            None => Box::pin(config.infer_options(state)).await?,
        },
    };
    config = match &table.schema {
        Some(schema) => config.with_schema(Arc::clone(schema)),
        None => Box::pin(config.infer_schema(state)).await?,
    };
    if table.format.is_none() {
        config = config.infer_partitions_from_path(state).await?;
    }
    // Where a file's column is of another type than the table's, bounds decide only what they may.
    config = config.with_expr_adapter_factory(Arc::new(JudgedFiles));
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// How the files at `url` are read, by the name of the first; `None` if it says nothing that is known here.
async fn first_ending(state: &SessionState, url: &ListingTableUrl) -> Result<Option<ListingOptions>> {
    let store = state.runtime_env().object_store(url)?;
    let first = url.list_all_files(state, store.as_ref(), "").await?.try_next().await?;
    Ok(first.and_then(|file| Ending::of(file.location.as_ref()).map(|ending| ending.options(state))))
}

fn datafusion_format(
    state: &SessionState,
    format: &FileFormat,
    compression: FileCompressionType,
) -> Arc<dyn DataFusionFormat> {
    match format {
        FileFormat::Csv { header, delimiter } => {
            let csv = CsvFormat::default().with_has_header(*header).with_delimiter(*delimiter);
            Arc::new(csv.with_file_compression_type(compression))
        }
        FileFormat::Json => Arc::new(JsonFormat::default().with_file_compression_type(compression)),
        FileFormat::Parquet => Arc::new(ParquetFormat::default().with_options(state.default_table_options().parquet)),
    }
}
