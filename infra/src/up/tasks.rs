//! Background tasks: named, supervised, cancelled together. One that fails is started again after a pause; what it last
//! failed for shows in the status.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tidemark_shared::ambient::{Ambient as _, System};
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::lock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::task_name::TaskName;

/// Pauses before a task that failed is started again, as often as it takes.
const RESTART: Backoff = Backoff {
    first: Duration::from_millis(100),
    pause_max: Duration::from_secs(10),
    attempts_max: u32::MAX,
    time_max: Duration::MAX,
    attempts_min: 1,
};

/// Time after which a failure that stays the same is logged again: what is tried every second would fill the log.
const SAID_AGAIN: Duration = Duration::from_secs(60);

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
    known: Known,
    /// How many were ever spawned.
    spawned: AtomicU64,
    running: tokio::sync::Mutex<JoinSet<()>>,
}

/// How tasks are that are known of.
type Known = Arc<Mutex<BTreeMap<TaskName, Entry>>>;

#[derive(Default)]
struct Entry {
    health: Health,
    /// The number of the task that was spawned under the name last, if one was: another one before it may not have ended yet.
    owner: Option<u64>,
    /// The failure that was logged last, and when.
    logged: Option<(String, Instant)>,
}

/// A spawned task's hold on its name.
struct Own {
    known: Known,
    name: TaskName,
    number: u64,
}

impl Own {
    /// Takes the name over, from whoever had it.
    fn enter(&self) {
        let entry = Entry { owner: Some(self.number), ..Entry::default() };
        lock(&self.known).insert(self.name.clone(), entry);
    }

    /// Tells how the task is, while the name is its own.
    fn note(&self, restarts: u32, error: Option<String>) {
        let mut known = lock(&self.known);
        if let Some(entry) = known.get_mut(&self.name).filter(|entry| entry.owner == Some(self.number)) {
            entry.health = Health { restarts, error };
        }
    }
}

/// Gives the name back, unless it is another's by now: so it does where the task never began, or was cut off.
impl Drop for Own {
    fn drop(&mut self) {
        let mut known = lock(&self.known);
        if known.get(&self.name).is_some_and(|entry| entry.owner == Some(self.number)) {
            known.remove(&self.name);
        }
    }
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { known: Arc::default(), spawned: AtomicU64::new(0), running: tokio::sync::Mutex::default() }
    }

    /// Runs `work` until `stop`. It ends by itself only when all is done; an error, or a panic, starts it again.
    pub(super) async fn spawn<F, W>(&self, name: TaskName, stop: CancellationToken, work: W)
    where
        W: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let number = self.spawned.fetch_add(1, Ordering::Relaxed);
        let own = Own { known: Arc::clone(&self.known), name, number };
        own.enter();
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
                        own.note(failed, None);
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
                tracing::error!(task = %own.name, error, failed, "a task failed and is started again");
                own.note(failed, Some(error));
                if stop.run_until_cancelled(attempts.again(System.random())).await != Some(true) {
                    break;
                }
            }
            drop(own);
        });
    }

    /// Tells that a task works again.
    pub(super) fn works(&self, name: &TaskName) {
        if let Some(entry) = lock(&self.known).get_mut(name) {
            entry.health.error = None;
        }
    }

    /// Tells what a task failed for that goes on by itself.
    pub(super) fn fails(&self, name: &TaskName, error: String) {
        lock(&self.known).entry(name.clone()).or_default().health.error = Some(error);
    }

    /// True if a failure is to be logged: it is another one than the last time, or that was a while ago.
    pub(super) fn is_news(&self, name: &TaskName, error: &str) -> bool {
        let mut known = lock(&self.known);
        let logged = &mut known.entry(name.clone()).or_default().logged;
        let last = logged.as_ref().map(|(error, at)| (error.as_str(), at.elapsed()));
        let is_news = is_news(last, error);
        if is_news {
            *logged = Some((error.to_owned(), Instant::now()));
        }
        is_news
    }

    /// What a task failed for, if it has not worked since.
    pub(super) fn failure(&self, name: &TaskName) -> Option<String> {
        lock(&self.known).get(name)?.health.error.clone()
    }

    pub(super) fn health(&self) -> BTreeMap<TaskName, Health> {
        lock(&self.known).iter().map(|(name, entry)| (name.clone(), entry.health.clone())).collect()
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

/// Whether `error` is to be logged, where the last one that was is `last`, so long ago.
fn is_news(last: Option<(&str, Duration)>, error: &str) -> bool {
    last.is_none_or(|(last, ago)| last != error || ago >= SAID_AGAIN)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::up::task_name::TaskKind;

    fn name() -> TaskName {
        TaskName::of(TaskKind::Archiver, "orders")
    }

    #[tokio::test]
    async fn a_task_that_fails_or_panics_is_started_again() {
        let (tasks, runs) = (Tasks::new(), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&runs);
        tasks
            .spawn(name(), CancellationToken::new(), move || {
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

    #[test]
    fn a_failure_that_stays_the_same_is_logged_once_a_minute() {
        let ago = Duration::from_secs;
        for (last, error, wanted) in [
            (None, "away", true),
            (Some(("away", ago(0))), "away", false),
            (Some(("away", ago(59))), "away", false),
            (Some(("away", ago(60))), "away", true),
            (Some(("away", ago(1))), "refused", true),
        ] {
            assert_eq!(is_news(last, error), wanted, "{last:?}, {error}");
        }
        let (tasks, other) = (Tasks::new(), TaskName::of(TaskKind::Stream, "orders"));
        let said = [(&name(), "away"), (&name(), "away"), (&other, "away"), (&name(), "refused"), (&name(), "away")];
        let news = said.map(|(name, error)| {
            let is_news = tasks.is_news(name, error);
            tasks.fails(name, error.to_owned());
            tasks.works(name);
            is_news
        });
        assert_eq!(news, [true, false, true, true, true]);
    }

    #[tokio::test]
    async fn what_does_not_end_is_cut_off() {
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        tasks.spawn(name(), stop.clone(), std::future::pending).await;
        stop.cancel();
        assert!(!tasks.join(Duration::from_millis(50)).await);
    }

    /// A stream whose topic was made again has an archiver of the same name, while the one before it ends.
    #[tokio::test]
    async fn the_end_of_a_task_takes_nothing_from_the_next_one_of_its_name() {
        let tasks = Tasks::new();
        let (stop, stop_next) = (CancellationToken::new(), CancellationToken::new());
        for stop in [&stop, &stop_next] {
            let until = stop.clone();
            let work = move || {
                let until = until.clone();
                async move {
                    until.cancelled().await;
                    Ok(())
                }
            };
            tasks.spawn(name(), stop.clone(), work).await;
        }
        tasks.fails(&name(), "the disk is full".to_owned());
        stop.cancel();
        let ended = tasks.running.lock().await.join_next().await;
        assert!(ended.is_some_and(|ended| ended.is_ok()), "the first has ended");
        let health = Health { restarts: 0, error: Some("the disk is full".to_owned()) };
        assert_eq!(tasks.health(), BTreeMap::from([(name(), health)]));
        stop_next.cancel();
        assert!(tasks.join(Duration::from_secs(60)).await);
        assert_eq!(tasks.health(), BTreeMap::new());
    }
}
