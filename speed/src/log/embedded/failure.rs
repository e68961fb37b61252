//! The database's failures as the port's.

use tidemark_shared::log::LogError;

pub(super) fn backend(operation: &'static str, error: fjall::Error) -> LogError {
    LogError::backend(operation, error)
}

pub(super) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> LogError {
    LogError::Corrupt { what: what.into(), reason: reason.into() }
}
