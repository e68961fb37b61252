//! The switch to another generation, as one process makes it: it looks who may answer, and writes the note that a
//! generation answers before it does (H9). Every other process finds the note where it finds the pointers.

use std::sync::Arc;

use chrono::TimeDelta;
use tidemark_shared::curated::{CurrentGeneration, NoteError, Pointer, has_table, note_answered};
use tidemark_shared::error::chain;
use tidemark_shared::live::LivePin;
use tidemark_shared::lock;
use tidemark_shared::position::Coverage;
use tidemark_shared::sql::CutError;

use super::generation::{Admitted, Candidate, LastAnswer, Part, Seen, Served, admit, may_answer, served};
use super::sources::{Sources, Switch, failed, view_failed, view_id};
use super::versions::Generations;

/// How long nobody waits for a note after one could not be written, while a generation before answers.
const NOTE_AGAIN: TimeDelta = TimeDelta::seconds(1);

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

/// A generation that may answer, and with what.
#[derive(Debug, Clone, Copy)]
struct Way<'a> {
    n: u64,
    generation: &'a CurrentGeneration,
    /// With its view, not for what is curated of it alone.
    is_whole: bool,
}

impl<'a> Way<'a> {
    /// The one of `pointers` that `part` names.
    fn of(part: Part, pointers: &'a [Pointer]) -> Option<Self> {
        let (n, generation) = pointers.iter().find(|(n, _)| *n == part.number())?;
        Some(Self { n: *n, generation, is_whole: part.is_whole() })
    }

    fn chosen(self, view: Result<bool, CutError>) -> Chosen {
        Chosen { n: self.n, generation: self.generation.clone(), view }
    }
}

impl Sources {
    /// The generation that answers; `None` if nothing was curated yet.
    pub(super) async fn generation(&self, dataset: &str) -> Result<Option<Chosen>, CutError> {
        let Generations { pointers, noted } = self.versions.generations(dataset).await.map_err(failed)?;
        let pointers = Box::pin(self.readable(dataset, pointers, noted)).await?;
        let own = self.switch(dataset, |switch| switch.last.as_ref().map(LastAnswer::number));
        let (mut pins, mut untold) = (Vec::<Option<Arc<dyn LivePin>>>::new(), None);
        for (_, generation) in &pointers {
            match self.live.pin(&view_id(dataset, generation)).await {
                Ok(pin) => pins.push(pin),
                Err(error) => {
                    untold = Some(view_failed(error));
                    break;
                }
            }
        }
        let seen = |at: usize| match pins.get(at) {
            Some(Some(pin)) => Seen::There(pin.ranges()),
            Some(None) => Seen::NotThere,
            None => Seen::Untold,
        };
        let candidates = pointers.iter().enumerate().map(|(at, (n, _))| Candidate { n: *n, view: seen(at) });
        let served = served(&candidates.collect::<Vec<_>>(), noted, own);
        drop(pins);
        match served {
            None => Ok(None),
            Some(Served::Now(part)) => {
                let view = untold.map_or(Ok(part.is_whole()), Err);
                Ok(Way::of(part, &pointers).map(|way| way.chosen(view)))
            }
            Some(Served::OnceNoted { new, instead }) => {
                let (Some(new), Some(instead)) = (Way::of(new, &pointers), Way::of(instead, &pointers)) else {
                    return Ok(None);
                };
                Box::pin(self.noted(dataset, new, instead)).await.map(Some)
            }
        }
    }

    /// Of `pointers`, those that may answer: not below the note, and without the oldest ones whose tables a vacuum took
    /// away, or is about to. The newest has its table. What is found is not kept for the next statement: a table that is there
    /// may be banned by then, or be gone with its ban.
    async fn readable(
        &self,
        dataset: &str,
        mut pointers: Vec<Pointer>,
        noted: Option<u64>,
    ) -> Result<Vec<Pointer>, CutError> {
        pointers.retain(|(n, _)| may_answer(*n, noted));
        while let [_, .., (_, oldest)] = pointers.as_slice() {
            let objects = self.store.objects();
            if has_table(objects.as_ref(), dataset, &oldest.generation).await.map_err(failed)? {
                break;
            }
            pointers.pop();
        }
        Ok(pointers)
    }

    /// The generation `new`, noted as one that answers. While the note can't be written, `instead` answers: with its view, or
    /// for what is curated of it, and then with the reason.
    async fn noted(&self, dataset: &str, new: Way<'_>, instead: Way<'_>) -> Result<Chosen, CutError> {
        let now = self.ambient.now();
        let unnoted = self.switch(dataset, |switch| switch.unnoted);
        if instead.is_whole && unnoted.is_some_and(|at| (now - at).abs() < NOTE_AGAIN) {
            return Ok(instead.chosen(Ok(true)));
        }
        match note_answered(&self.store, dataset, new.n, new.generation).await {
            Ok(()) => {
                tracing::info!(dataset, generation = new.generation.generation, "another generation answers");
                Ok(new.chosen(Ok(new.is_whole)))
            }
            Err(NoteError::Store(error)) if instead.is_whole => {
                let (newer, error) = (&new.generation.generation, chain(&error));
                tracing::warn!(
                    dataset,
                    newer,
                    error,
                    "no note can be written that a newer generation answers, so the one before does"
                );
                self.switch(dataset, |switch| switch.unnoted = Some(now));
                Ok(instead.chosen(Ok(true)))
            }
            Err(NoteError::Store(error)) => Ok(instead.chosen(Err(failed(error)))),
            Err(error) => Err(failed(error)),
        }
    }

    /// Takes note of an answer, if it may be given after those that this process gave.
    pub(super) fn admit(&self, dataset: &str, n: u64, positions: &Coverage) -> Admitted {
        self.switch(dataset, |switch| admit(&mut switch.last, n, positions))
    }

    fn switch<T>(&self, dataset: &str, look: impl FnOnce(&mut Switch) -> T) -> T {
        let mut switches = lock(&self.switches);
        look(switches.entry(dataset.to_owned()).or_default())
    }
}
