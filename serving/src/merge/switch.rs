//! The switch to another generation, as one process makes it: it looks who may answer, and marks in the store that a
//! generation does before it answers from it (H9). Every other process finds the mark where it finds the pointers.

use std::sync::{Arc, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tidemark_shared::curated::{CurrentGeneration, MarkError, mark_answered};
use tidemark_shared::error::chain;
use tidemark_shared::live::LivePin;
use tidemark_shared::position::Coverage;
use tidemark_shared::sql::CutError;

use super::cut::{Sources, failed, view_id};
use super::generation::{Admitted, Answered, Candidate, Served, admit, served};
use super::versions::{Generations, Pointer};

/// How long nobody waits for a mark after one could not be made, while a generation before answers.
const MARK_AGAIN: TimeDelta = TimeDelta::seconds(1);

/// What this process knows of a dataset's switch.
#[derive(Debug, Default)]
pub(super) struct Switch {
    last: Option<Answered>,
    /// When a mark could not be made.
    unmarked: Option<DateTime<Utc>>,
}

/// The generation that a cut is of.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The number of its pointer.
    pub(super) n: u64,
    /// The generation.
    pub(super) generation: CurrentGeneration,
    /// Whether it has a view, if that can be told and it may answer.
    pub(super) view: Result<bool, CutError>,
}

impl Chosen {
    fn new((n, generation): &Pointer, view: Result<bool, CutError>) -> Self {
        Self { n: *n, generation: generation.clone(), view }
    }
}

impl Sources {
    /// The generation that answers; `None` if nothing was curated yet. Where none has a view, the newest answers for what is
    /// curated; where nobody can tell, the one that last did.
    pub(super) async fn generation(&self, dataset: &str) -> Result<Option<Chosen>, CutError> {
        let Generations { pointers, answered } = self.versions.generations(dataset).await.map_err(failed)?;
        let Some(newest) = pointers.first() else { return Ok(None) };
        let own = self.switch(dataset, |switch| switch.last.as_ref().map(Answered::number));
        let last = pointers.iter().find(|(n, _)| Some(*n) == answered.max(own)).unwrap_or(newest);
        let mut pins: Vec<(u64, Option<Arc<dyn LivePin>>)> = Vec::new();
        for (n, generation) in pointers.iter().filter(|(n, _)| Some(*n) >= answered) {
            match self.live.pin(&view_id(dataset, generation)).await {
                Ok(pin) => pins.push((*n, pin)),
                // What is curated answers without the real-time view.
                Err(error) => return Ok(Some(Chosen::new(last, Err(failed(error))))),
            }
        }
        let views = pins.iter().map(|(n, pin)| Candidate { n: *n, view: pin.as_ref().map(|pin| pin.ranges()) });
        let served = served(&views.collect::<Vec<_>>(), answered);
        drop(pins);
        let numbered = |n: u64| pointers.iter().find(|(number, _)| *number == n);
        match served {
            Served::Nobody => Ok(Some(Chosen::new(newest, Ok(false)))),
            Served::Now(n) => Ok(Some(Chosen::new(numbered(n).unwrap_or(newest), Ok(true)))),
            Served::OnceMarked { n, instead } => {
                let (new, instead) = (numbered(n).unwrap_or(newest), instead.and_then(numbered));
                Box::pin(self.marked(dataset, new, instead, last)).await.map(Some)
            }
        }
    }

    /// The generation `new`, marked as one that answers. If it can't be marked, `instead` answers; without that, `last` for
    /// what is curated of it.
    async fn marked(
        &self,
        dataset: &str,
        new: &Pointer,
        instead: Option<&Pointer>,
        last: &Pointer,
    ) -> Result<Chosen, CutError> {
        let now = self.ambient.now();
        let unmarked = self.switch(dataset, |switch| switch.unmarked);
        if let Some(instead) = instead.filter(|_| unmarked.is_some_and(|at| (now - at).abs() < MARK_AGAIN)) {
            return Ok(Chosen::new(instead, Ok(true)));
        }
        match (mark_answered(&self.store, dataset, new.0, &new.1).await, instead) {
            (Ok(()), _) => {
                tracing::info!(dataset, generation = new.1.generation, "another generation answers");
                Ok(Chosen::new(new, Ok(true)))
            }
            (Err(MarkError::Store(error)), Some(instead)) => {
                let (newer, error) = (&new.1.generation, chain(&error));
                tracing::warn!(dataset, newer, error, "a newer generation can't be marked, so the one before answers");
                self.switch(dataset, |switch| switch.unmarked = Some(now));
                Ok(Chosen::new(instead, Ok(true)))
            }
            (Err(MarkError::Store(error)), None) => Ok(Chosen::new(last, Err(failed(error)))),
            (Err(error), _) => Err(failed(error)),
        }
    }

    /// Takes note of an answer, if it may be given after those that this process gave.
    pub(super) fn admit(&self, dataset: &str, n: u64, positions: &Coverage) -> Admitted {
        self.switch(dataset, |switch| admit(&mut switch.last, n, positions))
    }

    fn switch<T>(&self, dataset: &str, look: impl FnOnce(&mut Switch) -> T) -> T {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        look(switches.entry(dataset.to_owned()).or_default())
    }
}
