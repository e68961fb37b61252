//! Time and identity, injected: the code that decides or writes never asks the machine itself, so that a simulation
//! can replay it.

use chrono::{DateTime, Utc};

/// Source of the time and of unique ids.
pub trait Ambient: Send + Sync {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
    /// An id that nobody else gets: letters, digits and `-`, sorted roughly by time.
    fn unique_id(&self) -> String;
}

/// The machine's clock, and random UUIDs (version 7).
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Ambient for System {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn unique_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }
}
