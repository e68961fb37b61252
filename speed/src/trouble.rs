//! What keeps partitions from going on: for each the failure of the last attempt, until one succeeds. After a failure that
//! nothing heals there are no more attempts: the partition has stopped.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tidemark_shared::error::{ErrorKind, chain};
use tidemark_shared::lock;
use tidemark_shared::position::LogPartition;

use crate::retry::may_heal;

/// Time after which what stays as it is, is said again.
const SAID_AGAIN: Duration = Duration::from_secs(600);

/// What keeps a partition from going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What the last attempt failed for.
    pub error: String,
    /// True if it goes on only after a restart.
    pub stopped: bool,
}

/// The troubles of those partitions that have some.
#[derive(Debug)]
pub(crate) struct Troubles {
    /// What is done on the partitions.
    work: String,
    known: Mutex<BTreeMap<LogPartition, Known>>,
}

#[derive(Debug)]
struct Known {
    /// What the last attempt failed for, with what it came from.
    error: String,
    /// Why there are no more attempts, where there are none.
    reason: Option<String>,
}

impl Troubles {
    /// There are none yet. `work` is what is done on the partitions: "archiving".
    pub(crate) fn new(work: String) -> Self {
        Self { work, known: Mutex::default() }
    }

    /// Makes an attempt on a partition, unless that has stopped: then it fails by what `stopped` makes of the reason. After a
    /// failure that nothing heals it stops. Whoever calls has the partition locked, so that nobody else makes an attempt between
    /// such a failure and the stop.
    pub(crate) async fn attempt<T, E: ErrorKind>(
        &self,
        partition: &LogPartition,
        attempt: impl Future<Output = Result<T, E>>,
        stopped: impl FnOnce(String) -> E,
    ) -> Result<T, E> {
        if let Some(reason) = self.stopped(partition) {
            return Err(stopped(reason));
        }
        // Boxed, for a future that is handed over takes its room twice.
        let outcome = Box::pin(attempt).await;
        if let Err(error) = &outcome
            && self.stop(partition, error)
        {
            tracing::error!(%partition, error = %chain(error), "{} has stopped", self.work);
        }
        outcome
    }

    /// Why a partition is not to be worked on any more, if that is so.
    fn stopped(&self, partition: &LogPartition) -> Option<String> {
        lock(&self.known).get(partition)?.reason.clone()
    }

    /// Ends the attempts on a partition if nothing heals `error`; tells whether.
    fn stop(&self, partition: &LogPartition, error: &impl ErrorKind) -> bool {
        if may_heal(error.kind()) {
            return false;
        }
        let known = Known { error: chain(error), reason: Some(error.to_string()) };
        lock(&self.known).insert(partition.clone(), known);
        true
    }

    /// Takes note of what an attempt came to. Where there are to be no more, nothing changes.
    pub(crate) fn note<T, E: ErrorKind>(&self, partition: &LogPartition, outcome: &Result<T, E>) {
        let mut all = lock(&self.known);
        if all.get(partition).is_some_and(|known| known.reason.is_some()) {
            return;
        }
        match outcome {
            Ok(_) => drop(all.remove(partition)),
            Err(error) => drop(all.insert(partition.clone(), Known { error: chain(error), reason: None })),
        }
    }

    /// Knows nothing of a partition any more: it is another's, or to be tried anew.
    pub(crate) fn forget(&self, partition: &LogPartition) {
        lock(&self.known).remove(partition);
    }

    /// What keeps a partition from going on, if anything does.
    pub(crate) fn of(&self, partition: &LogPartition) -> Option<Trouble> {
        let told = |known: &Known| Trouble { error: known.error.clone(), stopped: known.reason.is_some() };
        lock(&self.known).get(partition).map(told)
    }
}

/// What was said lately of failures that come again and again, for whichever partition.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<BTreeMap<String, DateTime<Utc>>>);

impl Said {
    /// True if `text` is to be said at `now`: it is new, or was said a while ago.
    pub(crate) fn is_news(&self, text: &str, now: DateTime<Utc>) -> bool {
        let mut said = lock(&self.0);
        // A clock that was set back says nothing of how long ago that was.
        said.retain(|_, at| now.signed_duration_since(*at).to_std().is_ok_and(|ago| ago < SAID_AGAIN));
        if said.contains_key(text) {
            return false;
        }
        said.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tidemark_shared::error::Kind;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it is {0:?}")]
    struct Failure(Kind, #[source] std::fmt::Error);

    impl ErrorKind for Failure {
        fn kind(&self) -> Kind {
            self.0
        }

        fn hint(&self) -> Option<String> {
            None
        }
    }

    fn failed(kind: Kind) -> Result<(), Failure> {
        Err(Failure(kind, std::fmt::Error))
    }

    #[test]
    fn a_failure_stands_until_an_attempt_succeeds_and_one_that_nothing_heals_stays() {
        let (troubles, partition) = (Troubles::new("testing".to_owned()), "t/0".parse().unwrap());
        let trouble = |kind, stopped| Some(Trouble { error: chain(&Failure(kind, std::fmt::Error)), stopped });
        troubles.note(&partition, &failed(Kind::Retryable));
        assert_eq!((troubles.of(&partition), troubles.stopped(&partition)), (trouble(Kind::Retryable, false), None));
        assert!(!troubles.stop(&partition, &Failure(Kind::NotFound, std::fmt::Error)), "time may heal it");
        troubles.note(&partition, &Ok::<(), Failure>(()));
        assert_eq!(troubles.of(&partition), None);
        // What nobody stopped for is tried again, and so told as that, whatever it is.
        troubles.note(&partition, &failed(Kind::Corrupt));
        assert_eq!((troubles.of(&partition), troubles.stopped(&partition)), (trouble(Kind::Corrupt, false), None));

        assert!(troubles.stop(&partition, &Failure(Kind::Corrupt, std::fmt::Error)));
        for outcome in [failed(Kind::Retryable), Ok(())] {
            troubles.note(&partition, &outcome);
            assert_eq!(troubles.of(&partition), trouble(Kind::Corrupt, true));
            assert_eq!(troubles.stopped(&partition).as_deref(), Some("it is Corrupt"));
        }
        assert_eq!(troubles.of(&"t/1".parse().unwrap()), None);
        troubles.forget(&partition);
        assert_eq!((troubles.of(&partition), troubles.stopped(&partition)), (None, None));
    }

    #[test]
    fn what_stays_as_it_is_is_said_now_and_then_and_what_is_new_at_once() {
        let (said, begun) = (Said::default(), DateTime::<Utc>::UNIX_EPOCH);
        for (after, text, is_news) in [
            (0, "away", true),
            (1, "away", false),
            (2, "refused", true),
            (3, "away", false),
            (599, "away", false),
            (600, "away", true),
            (601, "refused", false),
            (602, "refused", true),
            (0, "refused", true),
        ] {
            let now = begun + Duration::from_secs(after);
            assert_eq!(said.is_news(text, now), is_news, "{text}, after {after} s");
        }
        assert_eq!(lock(&said.0).len(), 1, "what was said a while ago is forgotten");
    }

    #[tokio::test]
    async fn there_is_no_attempt_after_a_failure_that_nothing_heals() {
        let (troubles, attempts) = (Troubles::new("testing".to_owned()), AtomicUsize::new(0));
        let (partition, other): (LogPartition, LogPartition) = ("t/0".parse().unwrap(), "t/1".parse().unwrap());
        let attempt = async |partition: &LogPartition, outcome: Result<(), Failure>| {
            let attempt = async {
                attempts.fetch_add(1, Ordering::Relaxed);
                outcome
            };
            let stopped = |reason: String| {
                assert_eq!(reason, "it is Corrupt");
                Failure(Kind::Conflict, std::fmt::Error)
            };
            let made = troubles.attempt(partition, attempt, stopped).await.map_err(|error| error.kind());
            (made, attempts.load(Ordering::Relaxed))
        };
        for (outcome, made) in [
            (failed(Kind::Retryable), (Err(Kind::Retryable), 1)),
            (Ok(()), (Ok(()), 2)),
            (failed(Kind::Corrupt), (Err(Kind::Corrupt), 3)),
            (Ok(()), (Err(Kind::Conflict), 3)),
        ] {
            assert_eq!(attempt(&partition, outcome).await, made);
        }
        assert_eq!(attempt(&other, Ok(())).await, (Ok(()), 4), "the other one has not stopped");
        troubles.forget(&partition);
        assert_eq!(attempt(&partition, Ok(())).await, (Ok(()), 5));
    }
}
