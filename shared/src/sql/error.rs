//! Why a statement has no answer.

use std::error::Error as StdError;

use crate::curated::CuratedError;
use crate::dataset;
use crate::error::{AnyError, ErrorKind, Kind, chain};
use crate::live::LiveError;
use crate::store::{Cause, StoreError};
use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;

use super::datasets::CutError;
use super::messages::{named_alike, of_planner};
use super::watch::Refusal;

/// Why a statement has no answer, or stopped in the middle of one.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// Not SQL.
    #[error("syntax error: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// More or fewer statements than one.
    #[error("expected one statement, found {count}")]
    Statements {
        /// Number of statements.
        count: usize,
    },
    /// Operators nest deeper than can be taken apart.
    #[error("more than {limit} operators in one chain")]
    TooDeep {
        /// The most there may be.
        limit: usize,
    },
    /// Stands for more than is taken apart.
    #[error("more than {limit} {what}")]
    TooComplex {
        /// Which parts.
        what: &'static str,
        /// The most there may be.
        limit: usize,
    },
    /// No such table.
    #[error("table `{name}` not found{}", did_you_mean(suggestion.as_deref()))]
    UnknownTable {
        /// The name as written.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// A dataset of which nothing is curated.
    #[error("dataset `{dataset}` is applied, and has no table yet")]
    NoTableYet {
        /// The dataset.
        dataset: String,
    },
    /// No such column.
    #[error("column `{name}` not found{}", did_you_mean(suggestion.as_deref()))]
    UnknownColumn {
        /// The name as written.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// A schema that only a running server answers.
    #[error("`{schema}.{table}` needs a running server; ask `batch.{table}`, or start one with `tidemark up`")]
    NeedsServer {
        /// `merged` or `live`.
        schema: String,
        /// The table.
        table: String,
    },
    /// A statement that would change something.
    #[error("{statement} is refused: this door only answers queries")]
    ReadOnly {
        /// The kind of statement.
        statement: String,
    },
    /// A file named in a statement, where files in place are not allowed.
    #[error("`{location}` can't be read: files in place are not open to this door")]
    FilesClosed {
        /// The file as named.
        location: String,
    },
    /// A file or folder that is not there, or of no known format.
    #[error("`{location}` can't be read: {message}")]
    BadFile {
        /// The file as named.
        location: String,
        /// What is wrong.
        message: String,
        /// What a caller can do about it.
        kind: Kind,
    },
    /// The bucket of a file can't be opened.
    #[error("`{location}` can't be read")]
    Bucket {
        /// The file as named.
        location: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A parameter is missing, surplus, or not of its type.
    #[error("parameter {name}: {message}")]
    Parameter {
        /// `$1`, or the parameter's name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// SQL that has no meaning here: types that don't fit, unknown functions, …
    #[error("{message}")]
    Plan {
        /// What the planner says.
        message: String,
    },
    /// Took too long.
    #[error("stopped after {limit_ms} ms, the time limit")]
    TimedOut {
        /// The limit.
        limit_ms: u128,
    },
    /// Needs more memory, with all that could be spilled spilled.
    #[error("needs more than {limit_bytes} bytes of memory")]
    OutOfMemory {
        /// The limit.
        limit_bytes: usize,
        /// Which operator wanted how much.
        #[source]
        source: Box<DataFusionError>,
    },
    /// Makes a value, or the values of some rows, that take more memory than they may.
    #[error("{what} of more than {limit_bytes} bytes at once")]
    TooLarge {
        /// What would be as large.
        what: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// Needs more disk space for what memory can't hold.
    #[error("needs more than {limit_bytes} bytes of disk space for what memory can't hold")]
    OutOfSpillSpace {
        /// The limit.
        limit_bytes: u64,
    },
    /// Reads more than it may.
    #[error("stopped at {limit_bytes} bytes read, the limit on reads")]
    TooManyBytes {
        /// The limit.
        limit_bytes: u64,
    },
    /// A curated table can't be read.
    #[error("dataset `{dataset}` can't be read")]
    Curated {
        /// The dataset.
        dataset: String,
        /// Why.
        #[source]
        source: CuratedError,
    },
    /// Generations lie in the store, and none is said to answer.
    #[error("dataset `{dataset}` has curated tables, but nothing under `{pointers}/` says which of them answers")]
    NoGeneration {
        /// The dataset.
        dataset: String,
        /// The folder of its pointers.
        pointers: String,
    },
    /// A dataset has no moment that the statement could be answered at.
    #[error("dataset `{dataset}` has no answer")]
    Cut {
        /// The dataset.
        dataset: String,
        /// Why.
        #[source]
        source: CutError,
    },
    /// The catalog can't be read.
    #[error("the catalog has no answer")]
    Catalog {
        /// Why.
        #[source]
        source: AnyError,
    },
    /// The store can't list the datasets.
    #[error("{store} can't list the datasets")]
    Store {
        /// Which store.
        store: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// The query's own values: an overflow, a cast, a division by zero.
    #[error("the query failed: {message}{}", among(read))]
    Execution {
        /// What failed.
        message: String,
        /// The tables in one of whose files it lies, where it does and the message does not say.
        read: Vec<String>,
        /// All of it.
        #[source]
        source: Box<DataFusionError>,
    },
}

impl ErrorKind for SqlError {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownTable { .. } | Self::NoTableYet { .. } => Kind::NotFound,
            Self::NeedsServer { .. } => Kind::Unsupported,
            Self::TimedOut { .. }
            | Self::OutOfMemory { .. }
            | Self::TooLarge { .. }
            | Self::OutOfSpillSpace { .. }
            | Self::TooManyBytes { .. } => Kind::Exhausted,
            Self::Curated { source, .. } => source.kind(),
            Self::Cut { source, .. } => source.kind(),
            Self::Catalog { source } => source.kind(),
            Self::Bucket { source, .. } => source.kind(),
            Self::Store { .. } => Kind::Retryable,
            Self::NoGeneration { .. } => Kind::Corrupt,
            Self::BadFile { kind, .. } => *kind,
            Self::Execution { source, .. } => match execution_kind(source) {
                // What was there when the statement was planned is gone: that is no wrong request.
                Kind::NotFound => Kind::Retryable,
                kind => kind,
            },
            _ => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::OutOfMemory { .. } => Some("raise `--memory`, or ask for less at once".to_owned()),
            Self::OutOfSpillSpace { .. } => {
                Some("raise `sql.spill_bytes_max` or `--memory`, or ask for less at once".to_owned())
            }
            Self::NoTableYet { dataset } => Some(format!(
                "`tidemark ingest {dataset} PATH` takes files in, `tidemark up` a stream; while that opens it, ask again"
            )),
            Self::TooDeep { .. } => Some("write `x IN (…)`, or join with a table of the values".to_owned()),
            Self::TooComplex { .. } => {
                Some("a name of a `WITH` clause counts wherever it stands, as all that it stands for".to_owned())
            }
            Self::TooLarge { .. } => Some("raise `--memory`, or make shorter values of fewer rows".to_owned()),
            Self::TimedOut { .. } => Some("raise `--timeout`, or read fewer partitions".to_owned()),
            Self::Execution { source, .. } if is_cast(source) => {
                Some("`TRY_CAST(… AS …)` is null where a value can't be converted".to_owned())
            }
            // What is wrong with a view is mended otherwise than a table is.
            Self::Execution { source, .. } if live_error(source).is_some() => live_error(source)?.hint(),
            Self::Execution { source, .. }
                if self.kind() == Kind::Corrupt || store_kind(source) == Some(Kind::NotFound) =>
            {
                Some(
                    "a dataset's table is built anew from the raw zone by `tidemark batch recompute DATASET`"
                        .to_owned(),
                )
            }
            Self::NoGeneration { dataset, .. } => Some(format!(
                "a first ingest was interrupted, or pointers were lost: `tidemark batch run {dataset}` builds the table \
                 from the raw zone and makes it answer"
            )),
            Self::TooManyBytes { .. } => Some("raise `--bytes-read-max`, or filter on partition columns".to_owned()),
            Self::Curated { source, .. } => source.hint(),
            Self::Cut { source, .. } => source.hint(),
            Self::Catalog { source } => source.hint(),
            Self::Bucket { source, .. } => source.hint(),
            _ => None,
        }
    }
}

fn execution_kind(error: &DataFusionError) -> Kind {
    if let Some(kind) = store_kind(error) {
        return kind;
    }
    if let Some(live) = live_error(error) {
        return live.kind();
    }
    match error.find_root() {
        _ if is_damaged(error) => Kind::Corrupt,
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) => Kind::Internal,
        DataFusionError::NotImplemented(_) => Kind::Unsupported,
        _ => Kind::Unprocessable,
    }
}

/// The failure of a real-time view, if it is one.
fn live_error(error: &DataFusionError) -> Option<&LiveError> {
    match error.find_root() {
        DataFusionError::External(source) => source.downcast_ref(),
        _ => None,
    }
}

fn arrow_error(error: &DataFusionError) -> Option<&ArrowError> {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => Some(error),
        _ => None,
    }
}

fn is_cast(error: &DataFusionError) -> bool {
    matches!(arrow_error(error), Some(ArrowError::CastError(_)))
}

/// True if a file is not what it must be.
fn is_damaged(error: &DataFusionError) -> bool {
    let parquet = matches!(error.find_root(), DataFusionError::ParquetError(_));
    parquet || matches!(arrow_error(error), Some(ArrowError::ParquetError(_)))
}

/// How DataFusion says that a record has another width, where it lies in another piece of the file than the first one; it has
/// no error of its own for that.
const OTHER_WIDTH: &str = "unequal lengths between records";

/// True if the failure lies in a data file: damaged, or text that is not what its column takes.
pub(super) fn is_of_a_file(error: &DataFusionError) -> bool {
    let text = matches!(
        arrow_error(error),
        Some(ArrowError::CsvError(_) | ArrowError::JsonError(_) | ArrowError::ParseError(_))
    );
    let width = matches!(error.find_root(), DataFusionError::Execution(told) if told.contains(OTHER_WIDTH));
    text || width || is_damaged(error)
}

/// What `error` says, on as few lines as it can.
pub(super) fn one_line(error: &DataFusionError) -> String {
    if let Some(live) = live_error(error) {
        return chain(live);
    }
    error.strip_backtrace().replace("\ncaused by\n", ": ")
}

/// What a failure of a store, somewhere below `error`, means to the caller; `None` if no store failed.
fn store_kind(error: &(dyn StdError + 'static)) -> Option<Kind> {
    let mut causes = std::iter::successors(Some(error), |error| (**error).source());
    let found = causes.find_map(|cause| {
        // DataFusion boxes the store's error once more.
        let boxed = cause.downcast_ref::<Box<object_store::Error>>().map(AsRef::as_ref);
        match cause.downcast_ref::<object_store::Error>().or(boxed) {
            Some(object_store::Error::NotFound { .. }) => Some(Kind::NotFound),
            Some(_) => Some(Kind::Retryable),
            None => cause.is::<std::io::Error>().then_some(Kind::Retryable),
        }
    });
    found.or_else(|| Cause::said_in(&error.to_string()).map(Cause::kind))
}

impl SqlError {
    /// The error of files that can't be opened as a table.
    pub(super) fn of_files(location: &str, error: &DataFusionError) -> Self {
        let kind = match store_kind(error) {
            Some(kind) => kind,
            None if is_damaged(error) => Kind::Corrupt,
            // The statement is in order; what it reads is not.
            None if is_of_a_file(error) => Kind::Unprocessable,
            None => Kind::Invalid,
        };
        Self::BadFile { location: location.to_owned(), message: one_line(error), kind }
    }

    /// The error of a statement that was not gone on with.
    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Value { function, bytes_max } => {
                Self::TooLarge { what: format!("`{function}` would make values"), limit_bytes: *bytes_max }
            }
            Refusal::Constants { bytes_max } => {
                Self::TooLarge { what: "the statement has constants".to_owned(), limit_bytes: *bytes_max }
            }
            Refusal::Parts { what, limit } => Self::TooComplex { what, limit: *limit },
            Refusal::Stopped { limit_ms } => Self::TimedOut { limit_ms: *limit_ms },
        }
    }

    /// The error of a statement that could not be planned.
    pub(super) fn from_planning(error: DataFusionError) -> Self {
        if let Some(refusal) = Refusal::of(&error) {
            return Self::of_refusal(refusal);
        }
        match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Self::from_planning(*inner),
            DataFusionError::Collection(mut errors) if !errors.is_empty() => Self::from_planning(errors.remove(0)),
            DataFusionError::External(source) => match source.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(other) => {
                    let message = other.to_string();
                    Self::Execution { message, read: Vec::new(), source: Box::new(DataFusionError::External(other)) }
                }
            },
            DataFusionError::SQL(error, _) => Self::Syntax { message: parser_message(&error) },
            DataFusionError::SchemaError(error, backtrace) => match *error {
                SchemaError::FieldNotFound { field, valid_fields } => unknown_column(&field, &valid_fields),
                SchemaError::DuplicateUnqualifiedField { name } => Self::Plan { message: named_alike(&name) },
                other => Self::Plan {
                    message: DataFusionError::SchemaError(Box::new(other), backtrace).message().to_string(),
                },
            },
            DataFusionError::Plan(message) | DataFusionError::NotImplemented(message) => {
                Self::Plan { message: of_planner(&message) }
            }
            // The statement itself is in order; its constants or the partitions' values are not.
            DataFusionError::ArrowError(..)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ParquetError(_) => {
                Self::Execution { message: one_line(&error), read: Vec::new(), source: Box::new(error) }
            }
            other => Self::Plan { message: of_planner(&other.message()) },
        }
    }
}

fn unknown_column(field: &Column, valid: &[Column]) -> SqlError {
    // The right name behind the wrong table: the table is the mistake.
    if let Some(same) = valid.iter().find(|known| known.name == field.name) {
        return SqlError::UnknownColumn { suggestion: Some(same.flat_name()), name: field.flat_name() };
    }
    // Names without quotes are lower case: one that differs by case alone is reached by quotes only.
    let same = |known: &&Column| known.name.eq_ignore_ascii_case(&field.name);
    let suggestion = match valid.iter().find(same) {
        Some(known) => Some(format!("\"{}\"", known.name)),
        None => nearest(&field.name, valid.iter().map(|known| known.name.as_str())),
    };
    // A table that is none of those there are is told, for it may be the mistake.
    let table = |column: &Column| column.relation.as_ref().map(|relation| relation.table().to_owned());
    let table_is_there = valid.iter().any(|known| table(known) == table(field));
    let name = if table_is_there { field.name.clone() } else { field.flat_name() };
    SqlError::UnknownColumn { suggestion, name }
}

fn parser_message(error: &datafusion::sql::sqlparser::parser::ParserError) -> String {
    let text = error.to_string();
    text.strip_prefix("sql parser error: ").unwrap_or(&text).to_owned()
}

fn among(read: &[String]) -> String {
    let names: Vec<String> = read.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!(" (in a file of {})", names.join(" or ")) }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The one of `names` that `wanted` was most likely meant to be.
pub(super) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    dataset::nearest(wanted, names).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use datafusion::parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn a_store_that_is_away_is_no_damaged_file() {
        let away = "Failed to fetch metadata for file a.parquet: Object Store error: Generic S3 error: 503";
        for (said, kind) in [(away, Kind::Retryable), ("Invalid Parquet file. Corrupt footer", Kind::Corrupt)] {
            let error = DataFusionError::ParquetError(Box::new(ParquetError::General(said.to_owned())));
            assert_eq!(execution_kind(&error), kind, "{said}");
        }
    }

    #[test]
    fn what_fails_in_a_view_says_itself_what_to_do_about_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("a document can't be read")]
        struct Damaged;

        impl ErrorKind for Damaged {
            fn kind(&self) -> Kind {
                Kind::Corrupt
            }

            fn hint(&self) -> Option<String> {
                Some("remove the index".to_owned())
            }
        }

        let live = LiveError::of("read rows", Damaged);
        let source = Box::new(DataFusionError::External(Box::new(live)));
        let error = SqlError::Execution { message: "no".to_owned(), read: Vec::new(), source };
        assert_eq!((error.kind(), error.hint().as_deref()), (Kind::Corrupt, Some("remove the index")));
    }
}
