//! Waiting for what nobody announces, in tests that run on Tokio. Apart from [`crate::wait`], which others take in without it.

use crate::wait::PATIENCE;

/// Waits until it holds, and lets others work between two looks; `what` says what did not come.
///
/// # Panics
/// It does not come within [`PATIENCE`].
pub async fn comes(what: &str, holds: impl AsyncFn() -> bool) {
    let look = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, look).await;
    assert!(seen.is_ok(), "{what} did not come within {} seconds", PATIENCE.as_secs());
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn it_looks_until_it_holds() {
        for holds_at in [1, 3] {
            let looked = AtomicUsize::new(0);
            comes("the look", async || looked.fetch_add(1, Ordering::Relaxed) + 1 == holds_at).await;
            assert_eq!(looked.load(Ordering::Relaxed), holds_at);
        }
    }
}
