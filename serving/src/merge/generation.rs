//! Which generation answers: pure decisions over what was observed. Nobody goes back behind what has answered, in this
//! process or in another (H9), whether with real-time rows or without.

use tidemark_shared::live::is_behind;
use tidemark_shared::position::Coverage;

use super::decide::Ranges;

/// What is known of a generation's view.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    /// Its floors and visible positions.
    There(&'a Ranges),
    /// There is none.
    NotThere,
    /// That can't be told.
    Untold,
}

/// A generation that could answer: the number of its pointer, and its view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) n: u64,
    pub(super) view: Seen<'a>,
}

/// A generation that answers, by the number of its pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// With its view.
    Whole(u64),
    /// For what is curated of it alone.
    Curated(u64),
}

impl Part {
    /// The number of its pointer.
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Whole(n) | Self::Curated(n) => n,
        }
    }

    /// True if its view answers, too.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

/// Which generation answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// This one.
    Now(Part),
    /// `new`, as soon as its note is there; while that can't be written, `instead` answers.
    OnceNoted { new: Part, instead: Part },
}

/// True for a generation that may answer where `noted` is the highest that has a note: none before that one, whatever became
/// of it.
pub(super) fn may_answer(n: u64, noted: Option<u64>) -> bool {
    Some(n) >= noted
}

/// Which of a dataset's newest generations answers; `None` without any. `candidates` are those whose tables are there, the
/// newest first, `noted` is the highest that has a note, `own` the one that this process answered from last.
///
/// The newest whose view is there and not behind that of any one before that may answer, too. Until then one before answers,
/// whose view is kept up; it need not be the last but one, for recomputes may follow each other faster than views are built.
/// None below the note ever does ([`may_answer`]). Where there is no note, the oldest of `candidates` needs none: nobody sees
/// one before it.
///
/// Where none has a view, there is nothing that the newest could be behind: it answers for what is curated, and takes a
/// note as any other, or a view that comes back would lead to an older one. Where views can't be told, nobody moves on.
pub(super) fn served(candidates: &[Candidate<'_>], noted: Option<u64>, own: Option<u64>) -> Option<Served> {
    let may: Vec<_> = candidates.iter().filter(|candidate| may_answer(candidate.n, noted)).collect();
    let (newest, oldest) = (may.first()?.n, may.last()?.n);
    let last = noted.max(own).filter(|n| may.iter().any(|candidate| candidate.n == *n));
    let stays = Part::Curated(last.unwrap_or(oldest));
    if may.iter().any(|candidate| matches!(candidate.view, Seen::Untold)) {
        return Some(Served::Now(stays));
    }
    let with_view = may.iter().filter_map(|candidate| match candidate.view {
        Seen::There(ranges) => Some((candidate.n, ranges)),
        Seen::NotThere | Seen::Untold => None,
    });
    let (least, views) = (noted.unwrap_or(oldest), with_view.collect::<Vec<_>>());
    let is_ahead = |at: usize| views[at + 1..].iter().all(|(_, before)| !is_behind(views[at].1, before));
    let new = (0..views.len()).find(|at| is_ahead(*at)).map_or(Part::Curated(newest), |at| Part::Whole(views[at].0));
    let instead = if views.iter().any(|(n, _)| *n == least) { Part::Whole(least) } else { stays };
    Some(match new.number() {
        n if n == least => Served::Now(new),
        _ => Served::OnceNoted { new, instead },
    })
}

/// What this process answered last: of which generation, by its pointer's number, and up to where at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastAnswer {
    n: u64,
    positions: Coverage,
}

impl LastAnswer {
    /// The number of its pointer.
    pub(super) fn number(&self) -> u64 {
        self.n
    }
}

/// Whether an answer may be given after the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It may.
    Yes,
    /// Its generation is a newer one and has not come as far as the last answer yet: others saw that it was ready, and may
    /// have answered from it since.
    NotYet,
    /// Its generation is an older one: a statement beside this one has moved on.
    Overtaken,
}

/// Takes note of an answer of generation `n` at `positions`, if it may be given. Within a generation positions go back only
/// with a view that was lost.
pub(super) fn admit(last: &mut Option<LastAnswer>, n: u64, positions: &Coverage) -> Admitted {
    if let Some(before) = last {
        if before.n > n {
            return Admitted::Overtaken;
        }
        if before.n < n && !positions.includes(&before.positions) {
            return Admitted::NotYet;
        }
        if before.n == n {
            for (partition, end) in positions.iter() {
                if before.positions.end(partition) < end {
                    before.positions.set(partition.clone(), end);
                }
            }
            return Admitted::Yes;
        }
    }
    *last = Some(LastAnswer { n, positions: positions.clone() });
    Admitted::Yes
}

#[cfg(test)]
mod tests;
