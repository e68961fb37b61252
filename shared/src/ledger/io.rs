//! The ledger in the store: entries are created by conditional put, one after the other, and never change.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::{Entry, LEDGER_FORMAT, LedgerState, StoredEntry};
use crate::ambient::Ambient;
use crate::backoff::{Attempts, Backoff};
use crate::error::{ErrorKind, Kind};
use crate::layout;
use crate::store::{Operation, PutNew, Store, StoreError};

/// Entries read at once.
const READS_MAX: usize = 32;

/// A dataset's file ledger.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    dataset: String,
}

impl Ledger {
    /// The ledger of `dataset` in `store`; nothing is read or written yet.
    #[must_use]
    pub fn new(store: Store, dataset: &str) -> Self {
        Self { store, dataset: dataset.to_owned() }
    }

    /// All entries, in order.
    ///
    /// # Errors
    /// The store's, or [`LedgerError`] where an entry is missing, unreadable or of a newer format.
    pub async fn entries(&self) -> Result<Vec<Entry>, LedgerError> {
        let keys = self.store.list(&layout::ledger(&self.dataset)).await?;
        let mut numbers: Vec<u64> = keys.iter().filter_map(|meta| layout::number_of(&meta.location)).collect();
        numbers.sort_unstable();
        if let Some((expected, _)) = (0u64..).zip(&numbers).find(|(expected, number)| expected != *number) {
            return Err(LedgerError::Missing { dataset: self.dataset.clone(), number: expected });
        }
        stream::iter(numbers)
            .map(|number| async move { Ok(self.entry(number).await?.entry) })
            .buffered(READS_MAX)
            .try_collect()
            .await
    }

    /// The state after all entries, read in one go.
    ///
    /// # Errors
    /// As [`Ledger::entries`].
    pub async fn state(&self) -> Result<LedgerState, LedgerError> {
        Ok(LedgerState::replay(&self.entries().await?))
    }

    async fn entry(&self, number: u64) -> Result<StoredEntry, LedgerError> {
        let key = layout::ledger_entry(&self.dataset, number);
        let missing = || LedgerError::Missing { dataset: self.dataset.clone(), number };
        let bytes = self.store.get(&key).await?.ok_or_else(missing)?;
        parse(&bytes).map_err(|error| error.with_key(key.as_ref()))
    }

    /// Tries to make `entry` the one of number `number`.
    ///
    /// Returns whether it is: false means that another entry has the number.
    ///
    /// # Errors
    /// The store's.
    async fn put(&self, number: u64, entry: &Entry, id: &str, at: DateTime<Utc>) -> Result<bool, LedgerError> {
        let stored = StoredEntry { format: LEDGER_FORMAT, id: id.to_owned(), at, entry: entry.clone() };
        let bytes = serde_json::to_vec_pretty(&stored).expect("a ledger entry is plain data");
        let key = layout::ledger_entry(&self.dataset, number);
        Ok(matches!(self.store.put_new(&key, Bytes::from(bytes)).await?, PutNew::Created))
    }

    /// Appends what `make` decides, on the ledger as it stands when the entry goes in: after a lost race it is asked
    /// again with the new state. `None` from `make` means that there is nothing left to say; it is asked once more if
    /// the state was behind.
    ///
    /// `state` is any earlier state of this ledger; it is brought up to date, the new entry included, but not beyond.
    /// That it may be behind costs nothing: an entry only ever goes in right behind the state that it was decided on.
    /// Returns the number of the entry.
    ///
    /// # Errors
    /// The store's, or [`LedgerError::Contended`].
    pub async fn append(
        &self,
        state: &mut LedgerState,
        ambient: &dyn Ambient,
        mut make: impl FnMut(&LedgerState) -> Option<Entry>,
    ) -> Result<Option<u64>, LedgerError> {
        let id = ambient.unique_id();
        let mut attempts = Attempts::new(Backoff::RACE);
        loop {
            let number = state.end();
            let Some(entry) = make(state) else {
                self.catch_up(state).await?;
                if state.end() == number {
                    return Ok(None);
                }
                continue;
            };
            if self.put(number, &entry, &id, ambient.now()).await? {
                state.apply(&entry);
                return Ok(Some(number));
            }
            if !attempts.again(ambient.random()).await {
                return Err(LedgerError::Contended { dataset: self.dataset.clone(), attempts: attempts.failed() });
            }
            self.catch_up(state).await?;
        }
    }

    /// Applies the entries that came since `state` was read.
    ///
    /// # Errors
    /// As [`Ledger::entries`].
    pub async fn catch_up(&self, state: &mut LedgerState) -> Result<(), LedgerError> {
        loop {
            let key = layout::ledger_entry(&self.dataset, state.end());
            let Some(bytes) = self.store.get(&key).await? else { return Ok(()) };
            let stored = parse(&bytes).map_err(|error| error.with_key(key.as_ref()))?;
            state.apply(&stored.entry);
        }
    }
}

/// Entries from `covered` on, for whoever only reads: how many there are that a run has to take in. A vacuum's fences are
/// none; they are told apart only where entries are few.
///
/// # Errors
/// The store's, or [`LedgerError`] for an entry that can't be read.
pub async fn entries_above(objects: &dyn ObjectStore, dataset: &str, covered: u64) -> Result<u64, LedgerError> {
    let folder = layout::ledger(dataset);
    let listed = match covered.checked_sub(1) {
        Some(last) => objects.list_with_offset(Some(&folder), &layout::ledger_entry(dataset, last)),
        None => objects.list(Some(&folder)),
    };
    let failed = |operation, key: &Path| {
        let key = key.clone();
        move |source| StoreError::of(operation, key, source)
    };
    let listed: Vec<_> = listed.try_collect().await.map_err(failed(Operation::List, &folder))?;
    let numbers: Vec<u64> = listed.iter().filter_map(|meta| layout::number_of(&meta.location)).collect();
    let (few, more) = numbers.split_at(numbers.len().min(READS_MAX));
    let mut entries = more.len() as u64;
    for number in few {
        let key = layout::ledger_entry(dataset, *number);
        let read = async { objects.get(&key).await?.bytes().await };
        let bytes = read.await.map_err(failed(Operation::Read, &key))?;
        let stored = parse(&bytes).map_err(|error| error.with_key(key.as_ref()))?;
        entries += u64::from(!stored.entry.is_fence(*number));
    }
    Ok(entries)
}

fn parse(bytes: &[u8]) -> Result<StoredEntry, ParseError> {
    // The format is looked at first: a newer entry may have fields that this build would call unknown.
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(ParseError::Json)?;
    if format > LEDGER_FORMAT {
        return Err(ParseError::Newer(format));
    }
    serde_json::from_slice(bytes).map_err(ParseError::Json)
}

enum ParseError {
    Json(serde_json::Error),
    Newer(u32),
}

impl ParseError {
    fn with_key(self, key: &str) -> LedgerError {
        match self {
            Self::Json(source) => LedgerError::Unreadable { key: key.to_owned(), source },
            Self::Newer(format) => LedgerError::Newer { key: key.to_owned(), format },
        }
    }
}

/// What can go wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are entries above a number that has none.
    #[error("the file ledger of `{dataset}` has no entry {number}, but later ones")]
    Missing {
        /// Dataset.
        dataset: String,
        /// The number without an entry.
        number: u64,
    },
    /// Not a ledger entry.
    #[error("ledger entry `{key}` is unreadable")]
    Unreadable {
        /// Key in the store.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer release.
    #[error("ledger entry `{key}` has format {format}; this build reads up to {LEDGER_FORMAT}")]
    Newer {
        /// Key in the store.
        key: String,
        /// Its format.
        format: u32,
    },
    /// Others kept winning.
    #[error("the file ledger of `{dataset}` was changed by others {attempts} times in a row")]
    Contended {
        /// Dataset.
        dataset: String,
        /// Attempts made.
        attempts: u32,
    },
}

impl ErrorKind for LedgerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Missing { .. } | Self::Unreadable { .. } => Kind::Corrupt,
            Self::Newer { .. } => Kind::Unsupported,
            Self::Contended { .. } => Kind::Retryable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Missing { .. } | Self::Unreadable { .. } => {
                Some("restore the object of the raw zone from a backup".to_owned())
            }
            Self::Newer { .. } => Some("use a release at least as new as the one that wrote it".to_owned()),
            Self::Contended { .. } => Some("run the same command again".to_owned()),
        }
    }
}
