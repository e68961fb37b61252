//! Work of a log that may block.

use super::LogError;

/// Runs what may block on one of Tokio's threads for that.
///
/// # Errors
/// [`LogError::Backend`] if it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LogError> {
    // it is never aborted, so the error is a panic
    tokio::task::spawn_blocking(work).await.map_err(|join| LogError::backend("finish a piece of work", join))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_of_the_call() {
        assert_eq!(blocking(|| 7).await.unwrap(), 7);
        let failed = blocking(|| -> u32 { panic!("in the middle of it") }).await.unwrap_err();
        assert!(matches!(failed, LogError::Backend { .. }), "{failed:?}");
    }
}
