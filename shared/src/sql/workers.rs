//! Threads for statements, apart from those on which the process talks to others, and apart from each other: a statement
//! that computes without a pause takes a share of the machine, and keeps neither a connection nor another statement waiting.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::error::DataFusionError;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::lock;

/// Stack of each thread: a statement as deep as is allowed is taken apart by recursion.
const STACK_BYTES: usize = 16 << 20;
/// Most statements that are planned at once. One that nobody waits for any more counts until it notices.
const PLANNING_MAX: usize = 32;
/// Most statements that have threads. One that nobody waits for any more counts until it notices.
const STATEMENTS_MAX: usize = 256;
/// Sets of threads that are kept for statements to come.
const IDLE_MAX: usize = 16;

static PLANNING: Semaphore = Semaphore::const_new(PLANNING_MAX);
static STATEMENTS: Semaphore = Semaphore::const_new(STATEMENTS_MAX);
static IDLE: Mutex<Vec<Runtime>> = Mutex::new(Vec::new());

/// Where a statement is planned and answered.
///
/// On a runtime of one thread that is the thread itself: whoever chose that has nobody else to wait, and a simulation's
/// order of calls must not depend on which thread is done first.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On the caller's own thread.
    Here,
    /// On threads of its own.
    Workers(Arc<Workers>),
}

/// The threads of one statement, until its last part lets go of them.
#[derive(Debug)]
pub(super) struct Workers {
    runtime: Option<Runtime>,
    permit: Option<SemaphorePermit<'static>>,
    /// True once the statement was answered to its end, so that nothing of it can go on.
    is_done: AtomicBool,
}

impl Workers {
    fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("they go only when it is dropped").handle()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let (Some(runtime), permit) = (self.runtime.take(), self.permit.take()) else { return };
        if self.is_done.load(Ordering::Relaxed) {
            let mut idle = lock(&IDLE);
            match idle.len() < IDLE_MAX {
                true => idle.push(runtime),
                false => runtime.shutdown_background(),
            }
            return;
        }
        // What was told to end may go on for long, in a step that does not give way. It counts until it has ended.
        let end = move || {
            drop(runtime);
            drop(permit);
        };
        if let Err(error) = std::thread::Builder::new().name("sql-ends".to_owned()).spawn(end) {
            tracing::warn!(%error, "no thread to wait for a statement that does not end");
        }
    }
}

impl Place {
    /// # Errors
    /// [`DataFusionError::IoError`] if there can be no threads.
    pub(super) async fn of_caller() -> Result<Self, DataFusionError> {
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(Self::Here);
        }
        let permit = STATEMENTS.acquire().await.expect("it is never closed");
        let idle = lock(&IDLE).pop();
        let runtime = idle.map_or_else(start, Ok).map_err(DataFusionError::IoError)?;
        Ok(Self::Workers(Arc::new(Workers {
            runtime: Some(runtime),
            permit: Some(permit),
            is_done: AtomicBool::new(false),
        })))
    }

    /// The statement is answered to its end: its threads may serve another.
    pub(super) fn done(&self) {
        if let Self::Workers(workers) = self {
            workers.is_done.store(true, Ordering::Relaxed);
        }
    }

    /// The threads, where they are not the caller's.
    pub(super) fn handle(&self) -> Option<&Handle> {
        match self {
            Self::Here => None,
            Self::Workers(workers) => Some(workers.handle()),
        }
    }

    /// What `planning` comes to. It holds a thread of its own while it computes, and goes on after whoever waits for it
    /// has gone.
    pub(super) async fn plan<T: Send + 'static>(
        &self,
        planning: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, DataFusionError> {
        let Self::Workers(workers) = self else { return Ok(planning.await) };
        let permit = PLANNING.acquire().await.expect("it is never closed");
        let on = Arc::clone(workers);
        let planned = workers.handle().spawn_blocking(move || {
            let _permit = permit;
            on.handle().block_on(planning)
        });
        planned.await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))
    }
}

fn start() -> io::Result<Runtime> {
    Builder::new_multi_thread().thread_name("sql").thread_stack_size(STACK_BYTES).enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn planning_that_does_not_give_way_keeps_nobody_waiting() {
        let (end, ended) = mpsc::channel();
        let place = Place::of_caller().await.expect("threads");
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
        let planned =
            Place::of_caller().await.expect("threads").plan(async { panic!("a defect of the planner") }).await;
        let planned: Result<(), _> = planned;
        assert!(matches!(planned, Err(DataFusionError::ExecutionJoin(_))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_statement_that_does_not_give_way_keeps_no_other_waiting() {
        let (sender, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let stuck = Place::of_caller().await.expect("threads");
        let workers = stuck.handle().expect("threads of its own").clone();
        // more than it has threads, and then nobody waits for them any more
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) + 1 {
            let ended = Arc::clone(&ended);
            drop(workers.spawn(async move { ended.lock().map(|ended| ended.recv().is_err()).is_ok() }));
        }
        drop(stuck);
        let other = Place::of_caller().await.expect("threads");
        let answered = other.handle().expect("threads of its own").spawn(async { 7 }).await;
        assert_eq!(answered.expect("no panic"), 7);
        other.done();
        drop(sender);
    }

    #[tokio::test]
    async fn one_thread_plans_by_itself() {
        let here = std::thread::current().id();
        let planned = Place::of_caller().await.expect("threads").plan(async { std::thread::current().id() }).await;
        assert_eq!(planned.expect("no panic"), here);
    }
}
