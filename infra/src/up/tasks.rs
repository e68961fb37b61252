//! Background tasks: named, supervised, cancelled together. One that fails is started again after a pause; what it last
//! failed for shows in the status.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tidemark_shared::ambient::{Ambient as _, System};
use tidemark_shared::backoff::{Attempts, Backoff};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pauses before a task that failed is started again, as often as it takes.
const RESTART: Backoff = Backoff {
    first: Duration::from_millis(100),
    pause_max: Duration::from_secs(10),
    attempts_max: u32::MAX,
    time_max: Duration::MAX,
    attempts_min: 1,
};

/// How a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Health {
    /// Times that it failed and was started again.
    pub(super) restarts: u32,
    /// What it last failed for, if it has not run since for as long as a restart may take.
    pub(super) error: Option<String>,
}

/// The tasks of a process.
pub(super) struct Tasks {
    health: Arc<Mutex<BTreeMap<String, Health>>>,
    running: tokio::sync::Mutex<JoinSet<()>>,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { health: Arc::default(), running: tokio::sync::Mutex::default() }
    }

    /// Runs `work` until `stop`. It ends by itself only when all is done; an error, or a panic, starts it again.
    pub(super) async fn spawn<F, W>(&self, name: String, stop: CancellationToken, work: W)
    where
        W: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let health = Arc::clone(&self.health);
        health.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), Health::default());
        let mut running = self.running.lock().await;
        while running.try_join_next().is_some() {}
        let _handle = running.spawn(async move {
            let (mut failed, mut attempts) = (0, Attempts::new(RESTART));
            loop {
                // On a task of its own, so that a panic ends that one; it ends with this one.
                let mut once = JoinSet::new();
                let _handle = once.spawn(work());
                // What works for as long as a restart may take, works.
                let first = tokio::time::timeout(RESTART.pause_max, once.join_next()).await;
                let ended = match first {
                    Ok(ended) => ended,
                    Err(_) => {
                        attempts = Attempts::new(RESTART);
                        note(&health, &name, failed, None);
                        once.join_next().await
                    }
                };
                let ended = match ended {
                    Some(Ok(ended)) => ended,
                    Some(Err(error)) => Err(format!("it panicked: {error}")),
                    None => Ok(()),
                };
                let Err(error) = ended else { break };
                if stop.is_cancelled() {
                    break;
                }
                failed += 1;
                tracing::error!(task = name, error, failed, "a task failed and is started again");
                note(&health, &name, failed, Some(error));
                if stop.run_until_cancelled(attempts.again(System.random())).await != Some(true) {
                    break;
                }
            }
            health.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    /// Tells that a task works again.
    pub(super) fn works(&self, name: &str) {
        let mut all = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(health) = all.get_mut(name) {
            health.error = None;
        }
    }

    /// Tells what a task failed for that goes on by itself.
    pub(super) fn fails(&self, name: &str, error: String) {
        let mut all = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_default().error = Some(error);
    }

    pub(super) fn health(&self) -> BTreeMap<String, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for all tasks to end, at most so long; what has not ended then is cut off.
    pub(super) async fn join(&self, at_most: Duration) -> bool {
        // Whoever spawns meanwhile must not wait for this.
        let mut running = std::mem::take(&mut *self.running.lock().await);
        let all = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(at_most, all).await.is_ok() {
            return true;
        }
        running.shutdown().await;
        false
    }
}

fn note(health: &Mutex<BTreeMap<String, Health>>, name: &str, restarts: u32, error: Option<String>) {
    let mut all = health.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(name.to_owned(), Health { restarts, error });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_or_panics_is_started_again() {
        let (tasks, runs) = (Tasks::new(), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&runs);
        tasks
            .spawn("work".to_owned(), CancellationToken::new(), move || {
                let run = counted.fetch_add(1, Ordering::Relaxed);
                async move {
                    match run {
                        0 => Err("no".to_owned()),
                        1 => panic!("worse"),
                        _ => Ok(()),
                    }
                }
            })
            .await;
        assert!(tasks.join(Duration::from_secs(60)).await);
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert_eq!(tasks.health(), BTreeMap::new());
    }

    #[tokio::test]
    async fn what_does_not_end_is_cut_off() {
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        tasks.spawn("stuck".to_owned(), stop.clone(), std::future::pending).await;
        stop.cancel();
        assert!(!tasks.join(Duration::from_millis(50)).await);
    }
}
