//! A runtime of its own for reading Delta logs.
//!
//! The Delta library reads on a blocking thread that waits for a task of the caller's runtime, and panics if that task
//! is gone first. So it must not be a runtime that ends while a read is under way, as that of a command does at its time
//! limit or at Ctrl-C. This one ends with the process: a read that nobody waits for any more goes on, to no effect.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

/// Reading a log mostly waits for the store.
const THREADS: usize = 2;

static RUNTIME: LazyLock<io::Result<Runtime>> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(THREADS).thread_name("delta-log").enable_all().build());

/// Runs `work` to its end, whether or not anybody waits for it.
///
/// # Errors
/// If the runtime's threads can't be started.
pub(super) async fn run<F>(work: F) -> io::Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let runtime = RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    match runtime.spawn(work).await {
        Ok(output) => Ok(output),
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}
