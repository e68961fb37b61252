//! Waiting for what nobody announces: looked at again and again, until it is there or the time is over. With the pauses of
//! `shared/src/backoff.rs` the one place that lets time pass (`infra/checks/tidy.py`). `tidemark-e2e` links no part of Tidemark, and
//! takes this file in by its path.

use std::time::{Duration, Instant};

/// How long anything may take that is bound to come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What `observe` finds within `limit`, looking every `pause`. It looks once at least, and a last time when the time is over:
/// `None` if it finds nothing then, either. It blocks its thread.
#[expect(clippy::disallowed_methods, reason = "between two looks there is nothing to wait for")]
pub fn within<T>(limit: Duration, pause: Duration, mut observe: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let found = observe();
        if found.is_some() || left.is_zero() {
            return found;
        }
        std::thread::sleep(pause.min(left));
    }
}

/// Waits until the observation is there; `what` says what did not come.
///
/// # Panics
/// It does not come within [`PATIENCE`].
#[track_caller]
pub fn until<T>(what: &str, observe: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, PAUSE, observe) {
        Some(found) => found,
        None => panic!("{what} did not come within {} seconds", PATIENCE.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_until_it_finds_or_the_time_is_over() {
        const LONG: Duration = Duration::from_secs(3_600);
        for (limit, found_at, found, looks) in [
            (Duration::ZERO, 1, Some(1), 1),
            (Duration::ZERO, 2, None, 1),
            (LONG, 1, Some(1), 1),
            (LONG, 3, Some(3), 3),
        ] {
            let mut looked = 0;
            let seen = within(limit, Duration::ZERO, || {
                looked += 1;
                (looked == found_at).then_some(looked)
            });
            assert_eq!((seen, looked), (found, looks), "{limit:?}, there at look {found_at}");
        }
    }

    #[test]
    fn a_pause_does_not_outlast_the_time() {
        let begun = Instant::now();
        assert_eq!(within(Duration::from_millis(1), Duration::from_secs(3_600), || None::<()>), None);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }
}
