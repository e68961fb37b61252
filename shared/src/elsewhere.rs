//! Work that takes its time, away from the threads that others wait for.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, spawn_blocking};

/// Does `work` on a thread for such work. On a runtime of one thread it is done at once: whoever chose that has nobody else
/// to wait, and a simulation's order of calls must not depend on which thread is done first.
///
/// # Errors
/// If `work` panicked on its thread.
pub async fn elsewhere<T, F>(work: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => spawn_blocking(work).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_here() -> bool {
        let here = std::thread::current().id();
        elsewhere(move || std::thread::current().id() == here).await.expect("no panic")
    }

    #[tokio::test]
    async fn one_thread_does_all_by_itself() {
        assert!(is_here().await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn several_leave_it_to_another() {
        assert!(!is_here().await);
    }
}
