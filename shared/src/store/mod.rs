//! The object store port: a local directory or an S3 bucket, seen as keys with bytes, conditional creation, ordered
//! listing and range reads.
//!
//! What holds for every adapter, and what the contract suite in `shared/testing` checks: an object appears whole or not at
//! all; a key that was created by [`Store::put_new`] has exactly one winner; a list is ordered by key and shows every
//! object whose write was acknowledged before it began.
//!
//! Durability: the local directory does not call `fsync`. What it acknowledged survives a killed process, not a power
//! cut; before a log drops records, whoever archived them must sync them. S3 is durable on acknowledgement.

mod error;
mod local;
mod objects;
mod read;
mod rooted;
mod upload;
mod url;

#[cfg(test)]
mod tests;

pub use error::{Cause, Operation, StoreError};
pub use objects::{PutNew, Store};
pub use read::{open_file, opened_file};
pub use rooted::Rooted;
pub use upload::{Progress, Uploaded};
pub use url::StoreUrl;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// What to do about a directory or bucket that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Make it.
    Create,
    /// Fail with [`Cause::NotFound`]: commands that only read never create anything.
    Fail,
}

/// Opens stores by address.
#[async_trait]
pub trait Stores: Send + Sync {
    /// Opens the store at `url`. A cheap call to the other side proves that it can be reached.
    ///
    /// # Errors
    /// [`StoreError`] if it does not exist (and may not be created), can't be reached, or refuses us.
    async fn open(&self, url: &StoreUrl, if_missing: IfMissing) -> Result<Store, StoreError>;
}

/// What an interrupted write left behind: not an object, never listed, only space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The key that the write was for, relative to the store's prefix.
    pub key: String,
    /// How the adapter finds it again: a path in the directory, or an upload id.
    pub handle: String,
    /// When the write began or last touched it.
    pub since: DateTime<Utc>,
    /// Bytes it takes, where the store tells.
    pub bytes: Option<u64>,
}

/// What is beside objects and differs between stores: remains of interrupted writes, and versioning.
#[async_trait]
pub trait Upkeep: fmt::Debug + Send + Sync {
    /// Remains of writes under the store's prefix that were last touched more than `older_than` ago. A younger one may
    /// belong to a write that is still going on.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be asked.
    async fn leftovers(&self, older_than: Duration) -> Result<Vec<Leftover>, StoreError>;

    /// Removes one of them. One that is already gone counts as removed.
    ///
    /// # Errors
    /// [`StoreError`] if the store refuses.
    async fn remove_leftover(&self, leftover: &Leftover) -> Result<(), StoreError>;

    /// Makes an object that was acknowledged survive a power cut, too. Nothing to do where an acknowledgement says so
    /// already.
    ///
    /// # Errors
    /// [`StoreError`] if there is no such object or it can't be synced: nothing is promised then.
    async fn sync(&self, key: &object_store::path::Path) -> Result<(), StoreError> {
        let _durable = key;
        Ok(())
    }

    /// True if the store keeps every version of an object, so that a reader can name the one it means.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be asked.
    async fn is_versioned(&self) -> Result<bool, StoreError>;
}
