//! Curated tables, read side: which generation answers, what a version of it covers, and its rows as a DataFusion table.
//!
//! A dataset's current generation is named by a pointer object ([`CurrentGeneration`]), beside which lies a note once the
//! generation has answered ([`note_answered`]). The generation is a Delta table whose commits carry, per partition of the log
//! that moved, an application transaction: its id is [`transaction_id`]`(partition)`, its version the exclusive end of what
//! the table covers of that partition. These are read in one replay of the Delta log, from checkpoints as from commits, so
//! coverage and rows are of one version (H2).

mod background;
mod counts;
mod coverage;
mod doubles;
mod instants;
mod judged;
mod monotone;
mod note;
mod numbers;
mod ordered;
mod pointer;
mod pruning;
mod reader;
mod sides;
mod statistics;
mod table;
#[cfg(test)]
mod tests;
mod version;

use std::sync::Arc;

use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use deltalake::DeltaTableError;
use deltalake::logstore::{LogStoreRef, StorageConfig, logstore_with};
use object_store::ObjectStore;
use url::Url;

pub use counts::CountsFromLog;
pub use coverage::{
    LAYOUT_TRANSACTION, STREAMS_TRANSACTION, Transactions, VACUUM_TRANSACTION, counts_transactions, lost_transaction,
    transaction_id,
};
pub(crate) use judged::{JudgedFiles, JudgedScans};
pub use note::{Heads, NoteError, check_note, heads, note_answered};
pub use pointer::{CurrentGeneration, Pointer, Published, current, has_table, pointer, publish};
pub use reader::CuratedReader;
pub use statistics::LogStatistics;
pub use table::{CuratedTable, STORE_URL, with_string_views};
pub use version::{CuratedVersion, DataFile};

use crate::error::{ErrorKind, Kind};
use crate::layout;
use crate::store::Cause;
use doubles::DecimalAsDouble;
use instants::TextAsInstant;
use numbers::TextAsNumber;
use ordered::Ordered;

/// What a condition means, which is no layer's own: texts beside numbers, doubles beside decimals, texts beside instants.
/// Whatever runs statements adds these to its session's function rewrites; they then come before type coercion.
#[must_use]
pub fn comparisons() -> [Arc<dyn FunctionRewrite + Send + Sync>; 3] {
    [Arc::new(TextAsNumber), Arc::new(DecimalAsDouble), Arc::new(TextAsInstant)]
}

/// Names of the datasets that have something curated.
///
/// # Errors
/// If they can't be listed.
pub async fn datasets(objects: &dyn ObjectStore) -> Result<Vec<String>, object_store::Error> {
    let listed = objects.list_with_delimiter(Some(&layout::all_curated())).await?;
    Ok(listed.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect())
}

/// Why a curated table can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CuratedError {
    /// The store refused or failed.
    #[error("can't read `{key}` in the store")]
    Store {
        /// The object or folder.
        key: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// A pointer is not what it must be.
    #[error("`{key}` does not name a generation")]
    BadPointer {
        /// The pointer object.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A pointer or table of a newer release, or one with a feature this release does not read.
    #[error("`{key}` needs {what}, which this release does not read")]
    Unsupported {
        /// The object or table.
        key: String,
        /// What it needs.
        what: String,
    },
    /// A pointer names a generation whose table is not there, or whose log is damaged.
    #[error("the Delta table at `{root}` can't be read")]
    Table {
        /// Root of the table in the store.
        root: String,
        /// What the Delta library said.
        #[source]
        source: DeltaTableError,
    },
    /// The Delta log's application transactions can't be read.
    #[error("the coverage of the Delta table at `{root}` can't be read: {message}")]
    Coverage {
        /// Root of the table in the store.
        root: String,
        /// What is wrong.
        message: String,
    },
}

impl ErrorKind for CuratedError {
    fn kind(&self) -> Kind {
        match self {
            Self::Store { .. } => self.cause().map_or(Kind::Retryable, Cause::kind),
            Self::BadPointer { .. } => Kind::Corrupt,
            Self::Unsupported { .. } => Kind::Unsupported,
            // What a pointer or a log names must be there.
            Self::Table { .. } | Self::Coverage { .. } => match self.cause() {
                None | Some(Cause::NotFound) => Kind::Corrupt,
                Some(cause) => cause.kind(),
            },
        }
    }

    fn hint(&self) -> Option<String> {
        self.cause()?.hint()
    }
}

impl CuratedError {
    /// Why the store failed, where it did.
    fn cause(&self) -> Option<Cause> {
        match self {
            Self::Store { source, .. } => Cause::behind(source),
            Self::Table { source, .. } => Cause::behind(source),
            Self::Coverage { message, .. } => Cause::said_in(message),
            _ => None,
        }
    }
}

/// The address under which the Delta library knows a generation's table in `objects`. Writers must use it, too.
///
/// The scheme says nothing of where the store is; with `file`, the library would look for the folder itself.
#[must_use]
pub fn table_url(dataset: &str, generation: &str) -> Url {
    Url::parse(&format!("memory:///{}/", layout::table(dataset, generation))).expect("a layout key makes a URL path")
}

/// The Delta log of a generation's table in `objects`, for [`CuratedVersion`] and for writers.
///
/// # Errors
/// [`CuratedError::Table`] if the Delta library refuses the address.
pub fn log_store(objects: Arc<dyn ObjectStore>, dataset: &str, generation: &str) -> Result<LogStoreRef, CuratedError> {
    logstore_with(Arc::new(Ordered(objects)), &table_url(dataset, generation), StorageConfig::default())
        .map_err(|source| CuratedError::Table { root: layout::table(dataset, generation).to_string(), source })
}
