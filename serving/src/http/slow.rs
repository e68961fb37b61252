//! Slow answers: those that wait for who asked to take more of them. An answer holds its statement's memory until it is read, so
//! it can't give its place back while it waits. But of the places at most half are left to slow answers, once statements want
//! one: for each of these the answer that has waited longest is cut off then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Which answers are slow, and who wants their places.
#[derive(Debug)]
pub(super) struct SlowAnswers {
    /// Most places of slow answers, while statements want one.
    share: usize,
    /// How long an answer waits before it is slow.
    pub(super) after: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Statements that want a place.
    wanted: usize,
    /// Places that were made for them, by cutting an answer off. A statement takes one off, whichever place it gets: one that was
    /// made for it is the next one's then. So an answer is cut off once for each statement, at most, however long it takes to
    /// end, and the statement to hear of it.
    made: usize,
    /// The slow answers, the one that has waited longest first.
    slow: VecDeque<(u64, CancellationToken)>,
    next: u64,
}

/// How many answers are to be cut off.
fn too_many(wanted: usize, made: usize, slow: usize, share: usize) -> usize {
    wanted.saturating_sub(made).min(slow.saturating_sub(share))
}

impl SlowAnswers {
    /// Those of `places` places; one that has waited for longer than `after` is slow.
    pub(super) fn new(places: usize, after: Duration) -> Self {
        Self { share: places / 2, after, state: Mutex::default() }
    }

    /// A statement wants a place, until this is dropped: it has one, or has given up.
    pub(super) fn wanted(&self) -> PlaceWanted<'_> {
        let mut state = self.lock();
        state.wanted += 1;
        self.settle(&mut state);
        PlaceWanted(self)
    }

    /// An answer is slow, until this is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> SlowAnswer {
        let mut state = self.lock();
        let (id, cut_off) = (state.next, CancellationToken::new());
        state.next += 1;
        state.slow.push_back((id, cut_off.clone()));
        self.settle(&mut state);
        SlowAnswer { all: Arc::clone(self), id, cut_off }
    }

    fn settle(&self, state: &mut State) {
        let number = too_many(state.wanted, state.made, state.slow.len(), self.share);
        state.made += number;
        for (_, cut_off) in state.slow.drain(..number) {
            cut_off.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // a panic inside leaves wrong counts at most: somebody waits longer or is cut off sooner, and no answer is wrong
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A statement that wants a place.
pub(super) struct PlaceWanted<'a>(&'a SlowAnswers);

impl Drop for PlaceWanted<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.wanted -= 1;
        state.made = state.made.saturating_sub(1);
    }
}

/// An answer that is slow.
pub(super) struct SlowAnswer {
    all: Arc<SlowAnswers>,
    id: u64,
    cut_off: CancellationToken,
}

impl SlowAnswer {
    /// Ends when somebody else is to have the answer's place.
    pub(super) async fn is_cut_off(&self) {
        self.cut_off.cancelled().await;
    }
}

impl Drop for SlowAnswer {
    fn drop(&mut self) {
        // Nobody else is cut off for one that ends: it holds its place still, and whoever wants that has not got it yet.
        let mut state = self.all.lock();
        if let Some(at) = state.slow.iter().position(|(id, _)| *id == self.id) {
            drop(state.slow.remove(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_cut_off_as_are_wanted_above_their_share() {
        for (wanted, made, slow, share, number) in [
            (0, 0, 8, 4, 0),
            (1, 0, 8, 4, 1),
            (3, 0, 8, 4, 3),
            (9, 0, 8, 4, 4),
            (1, 0, 4, 4, 0),
            (2, 1, 7, 4, 1),
            (1, 1, 7, 4, 0),
            (1, 2, 7, 4, 0),
            (1, 0, 1, 0, 1),
        ] {
            let found = too_many(wanted, made, slow, share);
            assert_eq!(found, number, "{wanted} are wanted, {made} made, {slow} answers are slow, {share} may be");
        }
    }

    fn is_cut_off(slow: &SlowAnswer) -> bool {
        slow.cut_off.is_cancelled()
    }

    /// Numbers of those that are cut off.
    fn cut_off(slow: &[Option<SlowAnswer>]) -> Vec<usize> {
        let is = |(at, slow): (usize, &Option<SlowAnswer>)| slow.as_ref().is_some_and(is_cut_off).then_some(at);
        slow.iter().enumerate().filter_map(is).collect()
    }

    #[test]
    fn one_statement_costs_one_answer_however_long_its_place_takes_to_come() {
        let all = Arc::new(SlowAnswers::new(8, Duration::ZERO));
        let mut slow: Vec<Option<SlowAnswer>> = (0..8).map(|_| Some(all.enter())).collect();
        assert_eq!(cut_off(&slow), [0_usize; 0], "nobody wants a place");
        let first = all.wanted();
        assert_eq!(cut_off(&slow), [0]);
        // It has ended, its place is free, and the statement has not been told yet.
        slow[0] = None;
        assert_eq!(cut_off(&slow), [0_usize; 0]);
        let second = all.wanted();
        assert_eq!(cut_off(&slow), [1], "another statement costs another one");
        drop(first);
        slow.push(Some(all.enter()));
        assert_eq!(cut_off(&slow), [1]);
        slow[1] = None;
        drop(second);
        let third = all.wanted();
        assert_eq!(cut_off(&slow), [2], "and so on");
        drop((third, slow));
        let state = all.lock();
        assert_eq!((state.wanted, state.made, state.slow.len()), (0, 0, 0));
    }

    #[test]
    fn who_has_waited_longest_makes_room_while_more_than_half_are_slow() {
        let all = Arc::new(SlowAnswers::new(2, Duration::ZERO));
        let (first, second) = (all.enter(), all.enter());
        assert!(!is_cut_off(&first) && !is_cut_off(&second), "nobody wants a place");
        let (statement, other) = (all.wanted(), all.wanted());
        assert!(is_cut_off(&first) && !is_cut_off(&second), "half of the places are theirs");
        // The second statement has nothing made for it, until there are too many again.
        drop((first, statement));
        assert!(!is_cut_off(&second));
        let third = all.enter();
        assert!(is_cut_off(&second) && !is_cut_off(&third));
        drop((second, third, other));
        let state = all.lock();
        assert_eq!((state.wanted, state.made, state.slow.len()), (0, 0, 0));
    }

    #[test]
    fn a_place_that_was_made_for_one_who_found_another_is_the_next_ones() {
        let all = Arc::new(SlowAnswers::new(2, Duration::ZERO));
        let slow: Vec<SlowAnswer> = (0..4).map(|_| all.enter()).collect();
        let number = || slow.iter().filter(|slow| is_cut_off(slow)).count();
        let (first, second) = (all.wanted(), all.wanted());
        assert_eq!(number(), 2);
        drop(first);
        let state = || {
            let state = all.lock();
            (state.wanted, state.made)
        };
        assert_eq!(state(), (1, 1), "one place is still to come, for the second");
        let third = all.wanted();
        assert_eq!(number(), 3, "one more is made for the third");
        drop((second, third));
        assert_eq!(state(), (0, 0), "nothing is remembered of those that gave up");
    }
}
