//! What keeps partitions from going on: for each the failure of the last attempt, until one succeeds. After a failure that
//! nothing heals there are no more attempts.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;
use tidemark_shared::error::{ErrorKind, chain};
use tidemark_shared::lock;
use tidemark_shared::position::LogPartition;

use crate::retry::may_heal;

/// What keeps a partition from going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What the last attempt failed for.
    pub error: String,
    /// True if it goes on only after a restart.
    pub stopped: bool,
}

/// The troubles of those partitions that have some.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<LogPartition, Known>>);

#[derive(Debug)]
struct Known {
    /// What the last attempt failed for, with what it came from.
    error: String,
    /// Why there are no more attempts, where there are none.
    reason: Option<String>,
}

impl Troubles {
    /// Why a partition is not to be worked on any more, if that is so.
    pub(crate) fn stopped(&self, partition: &LogPartition) -> Option<String> {
        lock(&self.0).get(partition)?.reason.clone()
    }

    /// Ends the attempts on a partition if nothing heals `error`; tells whether.
    pub(crate) fn stop(&self, partition: &LogPartition, error: &impl ErrorKind) -> bool {
        if may_heal(error.kind()) {
            return false;
        }
        let known = Known { error: chain(error), reason: Some(error.to_string()) };
        lock(&self.0).insert(partition.clone(), known);
        true
    }

    /// Takes note of what an attempt came to. Where there are to be no more, nothing changes.
    pub(crate) fn note<T, E: ErrorKind>(&self, partition: &LogPartition, outcome: &Result<T, E>) {
        let mut all = lock(&self.0);
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
        lock(&self.0).remove(partition);
    }

    /// What keeps a partition from going on, if anything does.
    pub(crate) fn of(&self, partition: &LogPartition) -> Option<Trouble> {
        let told = |known: &Known| Trouble { error: known.error.clone(), stopped: known.reason.is_some() };
        lock(&self.0).get(partition).map(told)
    }
}

#[cfg(test)]
mod tests {
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
        let (troubles, partition) = (Troubles::default(), "t/0".parse().unwrap());
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
}
