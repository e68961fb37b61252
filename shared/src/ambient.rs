//! Time and identity, injected: the code that decides or writes never asks the machine itself, so that a simulation
//! can replay it.

use chrono::{DateTime, Utc};

/// Source of the time and of unique ids.
pub trait Ambient: Send + Sync {
    /// The time now.
    fn now(&self) -> DateTime<Utc>;
    /// An id that nobody else gets: letters, digits and `-`, sorted roughly by time.
    fn unique_id(&self) -> String;
    /// A number that nobody can foretell: rivals that draw one each go different ways.
    fn random(&self) -> u64;
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

    fn random(&self) -> u64 {
        // The random half of a version 4 UUID; its own two bits of 64 are the highest ones, so it is turned around.
        uuid::Uuid::new_v4().as_u64_pair().1.reverse_bits()
    }
}
