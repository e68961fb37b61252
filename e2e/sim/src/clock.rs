//! The simulation's time and ids: time moves when the scheduler says so, ids count.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use tidemark_shared::ambient::Ambient;

/// 2026-01-01, in milliseconds.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// See the module's text.
#[derive(Debug)]
pub struct Clock {
    now_ms: AtomicI64,
    ids: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now_ms: AtomicI64::new(BEGIN_MS), ids: AtomicU64::new(0) }
    }
}

impl Clock {
    /// One that begins at `begin`.
    #[must_use]
    pub fn starting_at(begin: DateTime<Utc>) -> Self {
        Self { now_ms: AtomicI64::new(begin.timestamp_millis()), ids: AtomicU64::new(0) }
    }

    /// Lets time pass.
    pub fn pass(&self, ms: u64) {
        self.now_ms.fetch_add(i64::try_from(ms).unwrap_or(0), Ordering::Relaxed);
    }

    /// Sets the time forward or back, as an administrator or a time server does.
    pub fn jump(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Ambient for Clock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now_ms.load(Ordering::Relaxed)).unwrap_or_default()
    }

    fn unique_id(&self) -> String {
        format!("id-{:012}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// Pauses are drawn from this: none takes time, for who waits is the scheduler's choice.
    fn random(&self) -> u64 {
        0
    }
}
