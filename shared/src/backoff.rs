//! Pauses between attempts that others, or a store, may spoil: they grow, have a ceiling, and are never the same for two
//! rivals. Attempts end by number and by time: a number alone says nothing of how long a caller is kept waiting, and a
//! time alone would let a fast failure spin.

use std::time::{Duration, Instant};

/// Returns when so much time has passed: for what runs every so often and waits for nothing else.
pub async fn passed(time: Duration) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + time, time.max(Duration::from_millis(1)));
    let _now = ticks.tick().await;
}

/// How attempts are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest pause before the second attempt. It doubles with every further one.
    pub first: Duration,
    /// Longest pause of all.
    pub pause_max: Duration,
    /// Attempts, the first one included.
    pub attempts_max: u32,
    /// Time from the first failure on after which none is begun.
    pub time_max: Duration,
    /// Attempts that are made whatever the time: a single one may take long by itself.
    pub attempts_min: u32,
}

impl Backoff {
    /// For races in which every loss is somebody else's progress: patient.
    pub const RACE: Self = Self {
        first: Duration::from_millis(2),
        pause_max: Duration::from_millis(500),
        attempts_max: 10_000,
        time_max: Duration::from_secs(600),
        attempts_min: 20,
    };

    /// For background work whose backend is away: it goes on for ever, and never more often than the backend bears.
    pub const BACKEND: Self = Self {
        first: Duration::from_millis(50),
        pause_max: Duration::from_secs(5),
        attempts_max: u32::MAX,
        time_max: Duration::MAX,
        attempts_min: u32::MAX,
    };

    /// The pause after `failed` attempts (1 or more), `elapsed` after the first of them failed; `None` if there have been enough.
    ///
    /// It is drawn from the whole span below the ceiling: rivals that lost together must not come back together.
    #[must_use]
    pub fn pause(&self, failed: u32, elapsed: Duration, random: u64) -> Option<Duration> {
        let late = elapsed >= self.time_max && failed >= self.attempts_min;
        if failed >= self.attempts_max || late {
            return None;
        }
        let doublings = failed.saturating_sub(1).min(31);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.pause_max);
        let share = (random >> 32) as u32;
        Some(ceiling.mul_f64(f64::from(share) / f64::from(u32::MAX)))
    }
}

/// The attempts of one piece of work.
#[derive(Debug)]
pub struct Attempts {
    backoff: Backoff,
    failed: u32,
    first_failure: Option<Instant>,
}

impl Attempts {
    /// None was made so far.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, failed: 0, first_failure: None }
    }

    /// Attempts that failed.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// An attempt failed: waits for the next one. False if there have been enough. `random` decides the pause.
    pub async fn again(&mut self, random: u64) -> bool {
        self.failed = self.failed.saturating_add(1);
        let since = self.first_failure.get_or_insert_with(Instant::now).elapsed();
        let Some(pause) = self.backoff.pause(self.failed, since, random) else { return false };
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Backoff = Backoff {
        first: Duration::from_millis(10),
        pause_max: Duration::from_millis(50),
        attempts_max: 10,
        time_max: Duration::from_secs(1),
        attempts_min: 2,
    };

    #[test]
    fn pauses_grow_to_a_ceiling_and_end_by_number_and_by_time() {
        let longest = |failed, elapsed_ms| TEN.pause(failed, Duration::from_millis(elapsed_ms), u64::MAX);
        let millis = |ms| Some(Duration::from_millis(ms));
        for (failed, elapsed_ms, wanted) in [
            (1, 0, millis(10)),
            (2, 0, millis(20)),
            (3, 0, millis(40)),
            (4, 0, millis(50)),
            (9, 999, millis(50)),
            (10, 0, None),
            (2, 1_000, None),
            (1, 1_000, millis(10)),
        ] {
            assert_eq!(longest(failed, elapsed_ms), wanted, "{failed} failed in {elapsed_ms} ms");
        }
        assert_eq!(Backoff::RACE.pause(9_999, Duration::ZERO, u64::MAX), Some(Backoff::RACE.pause_max));
    }

    #[test]
    fn the_draw_decides_the_pause() {
        let at = |random| TEN.pause(1, Duration::ZERO, random).expect("it is the first");
        assert_eq!(at(0), Duration::ZERO);
        let half = at(u64::MAX / 2);
        assert!(half > Duration::from_micros(4_900) && half < Duration::from_micros(5_100), "{half:?}");
    }
}
