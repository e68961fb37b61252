//! Memory pressure: what the fill of the real-time views asks of others. A view at its limit refuses rows and never drops
//! any (H7), so a batch run must make room, and intake must slow down before there is none.

use serde::Serialize;
use tidemark_shared::live::{LiveUsage, LiveView};
use tokio::sync::watch;

/// Percent of the limit from which a batch run is wanted.
const WANTED_PERCENT: u64 = 50;
/// Percent of the limit from which intake is to slow down.
const SLOW_PERCENT: u64 = 90;

/// What is asked of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing.
    #[default]
    Ok,
    /// A batch run, to make room.
    BatchWanted,
    /// Intake is to slow down, too.
    SlowDown,
}

/// What views that take `usage` of `limit` ask for.
#[must_use]
pub fn level(usage: LiveUsage, limit: Option<LiveUsage>) -> Level {
    let Some(limit) = limit else { return Level::Ok };
    let reached = |percent: u64| {
        let of = |used: u64, max: u64| u128::from(used) * 100 >= u128::from(max) * u128::from(percent);
        of(usage.bytes, limit.bytes) || of(usage.rows, limit.rows) || of(usage.rejects, limit.rejects)
    };
    match () {
        () if reached(SLOW_PERCENT) => Level::SlowDown,
        () if reached(WANTED_PERCENT) => Level::BatchWanted,
        () => Level::Ok,
    }
}

/// Shared by those who fill the views, those who make room, and the doors that let records in.
#[derive(Debug)]
pub struct Pressure {
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    level: Level,
    /// Counts the times that rows went.
    drops: u64,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::default()) }
    }
}

impl Pressure {
    /// The level as it is.
    #[must_use]
    pub fn level(&self) -> Level {
        self.state.borrow().level
    }

    /// Waits until at least `level` is asked for. For the scheduler of batch runs.
    pub async fn reaches(&self, level: Level) {
        let mut states = self.state.subscribe();
        // the sender lives as long as this borrow
        let _reached = states.wait_for(|state| state.level >= level).await;
    }

    /// Looks at the views after rows came in.
    pub fn observe(&self, live: &dyn LiveView) {
        self.set(level(live.usage(), live.limit()), 0);
    }

    /// Must be called after rows went ([`LiveView::drop_below`] or [`LiveView::close`]): who waits for room tries again.
    pub fn dropped(&self, live: &dyn LiveView) {
        self.set(level(live.usage(), live.limit()), 1);
    }

    /// A view refused rows, whatever its fill.
    pub(crate) fn refused(&self) {
        self.set(Level::SlowDown, 0);
    }

    /// How often rows went so far.
    pub(crate) fn drops(&self) -> u64 {
        self.state.borrow().drops
    }

    /// Waits until rows have gone more often than `seen`.
    pub(crate) async fn room(&self, seen: u64) {
        let mut states = self.state.subscribe();
        let _gone = states.wait_for(|state| state.drops > seen).await;
    }

    fn set(&self, level: Level, drops: u64) {
        self.state.send_if_modified(|state| {
            let changed = state.level != level || drops > 0;
            (state.level, state.drops) = (level, state.drops + drops);
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fill_decides() {
        let usage = |bytes, rows| LiveUsage { rows, rejects: 0, bytes };
        let rejects = |rejects| LiveUsage { rejects, ..usage(0, 0) };
        let limit = Some(LiveUsage { rejects: 100, ..usage(1_000, 100) });
        let all = LiveUsage { rejects: u64::MAX, ..usage(u64::MAX, u64::MAX) };
        for (used, limit, wanted) in [
            (usage(0, 0), limit, Level::Ok),
            (usage(499, 49), limit, Level::Ok),
            (usage(500, 0), limit, Level::BatchWanted),
            (usage(0, 50), limit, Level::BatchWanted),
            (usage(899, 89), limit, Level::BatchWanted),
            (usage(900, 0), limit, Level::SlowDown),
            (usage(0, 90), limit, Level::SlowDown),
            (rejects(49), limit, Level::Ok),
            (rejects(50), limit, Level::BatchWanted),
            (rejects(90), limit, Level::SlowDown),
            (usage(u64::MAX, 0), Some(all), Level::SlowDown),
            (all, None, Level::Ok),
        ] {
            assert_eq!(level(used, limit), wanted, "{used:?}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_woken_by_a_drop_that_came_before() {
        let pressure = Pressure::default();
        let seen = pressure.drops();
        pressure.refused();
        assert_eq!(pressure.level(), Level::SlowDown);
        pressure.reaches(Level::BatchWanted).await;
        pressure.set(Level::Ok, 1);
        pressure.room(seen).await;
        assert_eq!(pressure.level(), Level::Ok);
    }
}
