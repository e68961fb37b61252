//! The database's failures as the port's, and which of them pass.

use std::error::Error as StdError;
use std::io;

use tidemark_shared::error::chain;
use tidemark_shared::log::LogError;

pub(super) fn backend(operation: &'static str, error: fjall::Error) -> LogError {
    LogError::backend(operation, error)
}

pub(super) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> LogError {
    LogError::Corrupt { what: what.into(), reason: reason.into() }
}

/// Why nothing more can be written for now, or for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// True if the same folder may take writes again, once there is space: then it is opened anew.
    pub(super) may_pass: bool,
}

impl Failure {
    pub(super) fn of(error: &LogError) -> Self {
        Self { reason: chain(error), may_pass: is_full(error) }
    }
}

/// True if the disk, a quota or the limit on a file's size is all that is in the way. Once a thread of the database's own
/// has met such a failure, the next write says only that there was one.
fn is_full(error: &LogError) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge))
            || matches!(error.downcast_ref(), Some(fjall::Error::Poisoned))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_passes_and_a_broken_one_does_not() {
        let of = |kind: io::ErrorKind| Failure::of(&backend("write", fjall::Error::Io(kind.into())));
        let cases = [
            (of(io::ErrorKind::StorageFull), true),
            (of(io::ErrorKind::QuotaExceeded), true),
            (of(io::ErrorKind::FileTooLarge), true),
            (of(io::ErrorKind::PermissionDenied), false),
            (of(io::ErrorKind::Other), false),
            (Failure::of(&backend("write", fjall::Error::Poisoned)), true),
            (Failure::of(&corrupt("format", "it is not a number")), false),
        ];
        for (failure, may_pass) in cases {
            assert_eq!(failure.may_pass, may_pass, "{failure:?}");
        }
    }
}
