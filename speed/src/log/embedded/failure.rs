//! The database's failures as the port's.

use tidemark_shared::log::LogError;

pub(super) fn backend(operation: &'static str, error: fjall::Error) -> LogError {
    LogError::backend(operation, error)
}

pub(super) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> LogError {
    LogError::Corrupt { what: what.into(), reason: reason.into() }
}

/// An error with its causes, for where only a text can be kept.
pub(super) fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
