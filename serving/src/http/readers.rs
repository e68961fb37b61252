//! Answers that wait for their readers. An answer holds its statement's memory until it is read, so it can't give its place
//! back while it waits. But of the places at most half are left to those that wait for long, once other statements want one:
//! the one that has waited longest is cut off then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Who waits for readers, and who for places.
#[derive(Debug)]
pub(super) struct Readers {
    /// Most places of answers that wait for long, while statements wait for one.
    share: usize,
    /// How long an answer waits for its reader before that is long.
    pub(super) long: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Statements that wait for a place.
    statements: usize,
    /// Answers that wait for long, the longest first.
    slow: VecDeque<(u64, CancellationToken)>,
    /// Answers that were cut off and have not ended yet.
    leaving: usize,
    next: u64,
}

/// How many answers are to be cut off.
fn too_many(statements: usize, slow: usize, leaving: usize, share: usize) -> usize {
    statements.saturating_sub(leaving).min(slow.saturating_sub(share))
}

impl Readers {
    /// Those of `places` places.
    pub(super) fn new(places: usize, long: Duration) -> Self {
        Self { share: places / 2, long, state: Mutex::default() }
    }

    /// A statement waits for a place, until this is dropped.
    pub(super) fn statement(&self) -> Statement<'_> {
        let mut state = self.lock();
        state.statements += 1;
        self.settle(&mut state);
        Statement(self)
    }

    /// An answer has waited for its reader for long, and goes on to until this is dropped.
    pub(super) fn slow(self: &Arc<Self>) -> Slow {
        let mut state = self.lock();
        let (id, cut_off) = (state.next, CancellationToken::new());
        state.next += 1;
        state.slow.push_back((id, cut_off.clone()));
        self.settle(&mut state);
        Slow { readers: Arc::clone(self), id, cut_off }
    }

    fn settle(&self, state: &mut State) {
        let number = too_many(state.statements, state.slow.len(), state.leaving, self.share);
        for (_, cut_off) in state.slow.drain(..number) {
            state.leaving += 1;
            cut_off.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A statement that waits for a place.
pub(super) struct Statement<'a>(&'a Readers);

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        self.0.lock().statements -= 1;
    }
}

/// An answer that has waited for its reader for long.
pub(super) struct Slow {
    readers: Arc<Readers>,
    id: u64,
    cut_off: CancellationToken,
}

impl Slow {
    /// Ends when somebody else is to have the answer's place.
    pub(super) async fn is_cut_off(&self) {
        self.cut_off.cancelled().await;
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let mut state = self.readers.lock();
        match state.slow.iter().position(|(id, _)| *id == self.id) {
            Some(at) => drop(state.slow.remove(at)),
            None => state.leaving -= 1,
        }
        self.readers.settle(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_cut_off_as_are_waited_for_above_their_share() {
        for (statements, slow, leaving, share, wanted) in [
            (0, 8, 0, 4, 0),
            (1, 8, 0, 4, 1),
            (3, 8, 0, 4, 3),
            (9, 8, 0, 4, 4),
            (1, 4, 0, 4, 0),
            (2, 7, 1, 4, 1),
            (1, 7, 1, 4, 0),
            (1, 7, 2, 4, 0),
            (1, 1, 0, 0, 1),
        ] {
            let number = too_many(statements, slow, leaving, share);
            assert_eq!(number, wanted, "{statements} wait, {slow} are slow, {leaving} are leaving, {share} may be");
        }
    }

    #[test]
    fn who_has_waited_longest_makes_room_whoever_comes_first() {
        let readers = Arc::new(Readers::new(2, Duration::ZERO));
        let cut_off = |slow: &Slow| slow.cut_off.is_cancelled();
        let (first, second) = (readers.slow(), readers.slow());
        assert!(!cut_off(&first) && !cut_off(&second), "nobody wants a place");
        let statement = readers.statement();
        assert!(cut_off(&first) && !cut_off(&second));
        let third = readers.slow();
        assert!(!cut_off(&second) && !cut_off(&third), "a place is about to be free");
        drop(first);
        assert!(cut_off(&second) && !cut_off(&third), "somebody else had it");
        drop((second, statement));
        assert!(!cut_off(&third), "half of the places are theirs");
        drop(third);
        let state = readers.lock();
        assert_eq!((state.statements, state.slow.len(), state.leaving), (0, 0, 0));
    }
}
