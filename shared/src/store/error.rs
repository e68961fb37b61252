//! Why a store failed, with the object and what was tried.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::error::{ErrorKind, Kind};

/// What was being done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Opening or creating the store itself.
    Open,
    /// Writing a small object.
    Put,
    /// Writing a big object in parts.
    Upload,
    /// Bringing what was written to the disk.
    Sync,
    /// Reading.
    Read,
    /// Listing keys.
    List,
    /// Deleting.
    Delete,
    /// Finding or removing what interrupted writes left.
    Upkeep,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Put => "write",
            Self::Upload => "upload",
            Self::Sync => "bring to the disk",
            Self::Read => "read",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Upkeep => "clean up",
        })
    }
}

/// Why it failed, as far as callers tell causes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no such object, bucket or directory.
    NotFound,
    /// The disk or the store is full.
    NoSpace,
    /// Credentials or permissions.
    Denied,
    /// The object is not the one that was opened: it was replaced meanwhile.
    Changed,
    /// The name can't be a key of this store.
    BadName,
    /// The store lacks the feature.
    Unsupported,
    /// Anything else: network, server or disk.
    Failed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "it does not exist",
            Self::NoSpace => "no space left",
            Self::Denied => "access denied",
            Self::Changed => "it was changed while it was read",
            Self::BadName => "the store can't have an object of this name",
            Self::Unsupported => "the store can't do that",
            Self::Failed => "the store failed",
        })
    }
}

/// A failure of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not the address of a store.
    #[error("`{text}` is not the address of a store: {reason}")]
    BadUrl {
        /// The refused text, without what may be secret in it.
        text: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// An operation failed.
    #[error("can't {operation} `{object}`: {cause}")]
    Failed {
        /// What was tried.
        operation: Operation,
        /// The object's key, or the address of the store.
        object: String,
        /// Why, coarsely.
        cause: Cause,
        /// Why, in the words of the adapter.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl StoreError {
    /// An error of `operation` on `object`; the cause is told from `source`.
    pub fn of(operation: Operation, object: impl fmt::Display, source: object_store::Error) -> Self {
        let cause = cause_of(&source);
        Self::Failed { operation, object: object.to_string(), cause, source: Box::new(source) }
    }

    /// An error of the file system.
    pub fn of_io(operation: Operation, object: impl fmt::Display, source: io::Error) -> Self {
        let cause = cause_of_io(&source).unwrap_or(Cause::Failed);
        Self::Failed { operation, object: object.to_string(), cause, source: Box::new(source) }
    }

    /// An error whose cause the caller knows.
    pub fn because(
        operation: Operation,
        object: impl fmt::Display,
        cause: Cause,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Failed { operation, object: object.to_string(), cause, source: source.into() }
    }

    /// The coarse cause, where an operation failed.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::BadUrl { .. } => None,
            Self::Failed { cause, .. } => Some(*cause),
        }
    }
}

impl Cause {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::BadName => Kind::Invalid,
            Self::NotFound => Kind::NotFound,
            Self::NoSpace => Kind::Exhausted,
            Self::Changed => Kind::Conflict,
            Self::Unsupported => Kind::Unsupported,
            Self::Denied | Self::Failed => Kind::Retryable,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(self) -> Option<String> {
        match self {
            Self::NoSpace => Some("free some space in the store and run the command again".to_owned()),
            Self::Denied => Some("check the permissions, or the keys in the AWS_* variables".to_owned()),
            _ => None,
        }
    }

    /// Why the store failed, where a library reports a failure of the store in words of its own: read off `error` and the
    /// chain below it. `None` if no store is to blame.
    #[must_use]
    pub fn behind(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<object_store::Error>() {
                return Some(cause_of(error));
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Some(cause_of_io(error).unwrap_or(Self::Failed));
            }
            next = error.source();
        }
        Self::said_in(&error.to_string())
    }

    /// Why the store failed, where all that a library passes on is its words. `None` if no store is to blame.
    #[must_use]
    pub fn said_in(text: &str) -> Option<Self> {
        // That an object is missing is no failure of the store: whoever named it must say what that means.
        let failed = STORE_SAID.iter().any(|said| text.contains(said)) && !text.contains("not found");
        failed.then_some(Self::Failed)
    }
}

/// How the Delta library's kernel, and the Parquet reader, begin what a store said.
const STORE_SAID: [&str; 2] = ["Error interacting with object store: ", "Object Store error: "];

impl ErrorKind for StoreError {
    fn kind(&self) -> Kind {
        self.cause().map_or(Kind::Invalid, Cause::kind)
    }

    fn hint(&self) -> Option<String> {
        self.cause()?.hint()
    }
}

/// Reads the cause off an adapter's error and the chain below it.
fn cause_of(error: &object_store::Error) -> Cause {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => Cause::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Cause::Denied,
        Error::Precondition { .. } => Cause::Changed,
        Error::InvalidPath { .. } => Cause::BadName,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => Cause::Unsupported,
        _ => cause_in_chain(error),
    }
}

fn cause_in_chain(error: &(dyn StdError + 'static)) -> Cause {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(cause) = error.downcast_ref::<io::Error>().and_then(cause_of_io) {
            return cause;
        }
        // A full S3 server has no error class of its own: 507, or MinIO's code. The body is only in the text.
        let text = error.to_string();
        if text.contains("StorageFull") || text.contains("507 Insufficient Storage") {
            return Cause::NoSpace;
        }
        next = error.source();
    }
    Cause::Failed
}

fn cause_of_io(error: &io::Error) -> Option<Cause> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Some(Cause::NoSpace),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(Cause::Denied),
        io::ErrorKind::NotFound => Some(Cause::NotFound),
        io::ErrorKind::InvalidFilename => Some(Cause::BadName),
        _ => None,
    }
}
