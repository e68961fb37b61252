//! Threads for statements, apart from those on which the process talks to others: a statement that computes without a
//! pause takes a share of the machine, and keeps no connection waiting.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use datafusion::error::DataFusionError;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Stack of each thread: a statement as deep as is allowed is taken apart by recursion.
const STACK_BYTES: usize = 16 << 20;
/// Most statements that are planned at once. One that nobody waits for any more counts until it notices.
const PLANNING_MAX: usize = 32;

static PLANNING: Semaphore = Semaphore::const_new(PLANNING_MAX);
/// The threads of this process, once there was a statement.
static WORKERS: Mutex<Option<Runtime>> = Mutex::new(None);

/// Where a statement is planned and answered.
///
/// On a runtime of one thread that is the thread itself: whoever chose that has nobody else to wait, and a simulation's
/// order of calls must not depend on which thread is done first.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On the caller's own thread.
    Here,
    /// On the threads for statements.
    Workers(Handle),
}

impl Place {
    pub(super) fn of_caller() -> Self {
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Self::Here;
        }
        let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.is_none() {
            match start() {
                Ok(runtime) => *workers = Some(runtime),
                Err(error) => tracing::warn!(%error, "no threads for statements; they share those of the doors"),
            }
        }
        Self::Workers(workers.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone()))
    }

    /// What `planning` comes to. It holds a thread of its own while it computes, and goes on after whoever waits for it
    /// has gone.
    pub(super) async fn plan<T: Send + 'static>(
        &self,
        planning: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, DataFusionError> {
        let Self::Workers(handle) = self else { return Ok(planning.await) };
        let place = PLANNING.acquire().await.expect("it is never closed");
        let on = handle.clone();
        let planned = handle.spawn_blocking(move || {
            let _place = place;
            on.block_on(planning)
        });
        planned.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))
    }
}

fn start() -> io::Result<Runtime> {
    Builder::new_multi_thread().thread_name("sql").thread_stack_size(STACK_BYTES).enable_all().build()
}

/// Ends what statements still do and waits for that, so long at most: what they spilled goes with them. Not to be called on
/// a thread of a runtime.
pub fn shut_down(within: Duration) {
    let workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(workers) = workers {
        workers.shutdown_timeout(within);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn planning_that_does_not_give_way_keeps_nobody_waiting() {
        let (end, ended) = mpsc::channel();
        let place = Place::of_caller();
        let planning = place.plan(async move { ended.recv().is_ok() });
        let other = async {
            tokio::task::yield_now().await;
            end.send(()).expect("it waits for that");
        };
        let (planned, ()) = tokio::join!(planning, other);
        assert!(planned.expect("no panic"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_panic_while_planning_is_an_error() {
        let planned = Place::of_caller().plan(async { panic!("a defect of the planner") }).await;
        let planned: Result<(), _> = planned;
        assert!(matches!(planned, Err(DataFusionError::ExecutionJoin(_))));
    }

    #[tokio::test]
    async fn one_thread_plans_by_itself() {
        let here = std::thread::current().id();
        let planned = Place::of_caller().plan(async { std::thread::current().id() }).await;
        assert_eq!(planned.expect("no panic"), here);
    }
}
