//! Which generation answers: pure decisions over what was observed. Nobody goes back behind what has answered, in this
//! process or in another (H9).

use tidemark_shared::live::is_behind;
use tidemark_shared::position::Coverage;

use super::decide::Ranges;

/// A generation that could answer: the number of its pointer, and its view, if that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) n: u64,
    pub(super) view: Option<&'a Ranges>,
}

/// Which generation answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// This one.
    Now(u64),
    /// Generation `n`, as soon as it is marked; while it can't be, `instead` goes on answering.
    OnceMarked { n: u64, instead: Option<u64> },
    /// None that may answer has a view.
    Nobody,
}

/// Which of a dataset's newest generations (`candidates`, the newest first) answers, where `answered` is the highest that is
/// marked: the newest whose view is there and not behind that of any one before that may answer, too. Until then one before
/// answers, whose view is kept up; it need not be the last but one, for recomputes may follow each other faster than views are
/// built. None below the mark ever does, whatever became of the one that is marked. Where nothing is marked, the oldest of
/// `candidates` needs no mark: nobody sees one before it.
pub(super) fn served(candidates: &[Candidate<'_>], answered: Option<u64>) -> Served {
    let Some(least) = answered.or(candidates.last().map(|oldest| oldest.n)) else { return Served::Nobody };
    let may = candidates.iter().filter(|candidate| candidate.n >= least);
    let views: Vec<(u64, &Ranges)> = may.filter_map(|candidate| Some((candidate.n, candidate.view?))).collect();
    let is_ahead = |at: usize| views[at + 1..].iter().all(|(_, before)| !is_behind(views[at].1, before));
    let Some(at) = (0..views.len()).find(|at| is_ahead(*at)) else { return Served::Nobody };
    match views[at].0 {
        n if n == least => Served::Now(n),
        n => Served::OnceMarked { n, instead: views.iter().any(|(n, _)| *n == least).then_some(least) },
    }
}

/// What this process answered last: of which generation, by its pointer's number, and up to where at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    n: u64,
    positions: Coverage,
}

impl Answered {
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
pub(super) fn admit(last: &mut Option<Answered>, n: u64, positions: &Coverage) -> Admitted {
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
    *last = Some(Answered { n, positions: positions.clone() });
    Admitted::Yes
}

#[cfg(test)]
mod tests;
