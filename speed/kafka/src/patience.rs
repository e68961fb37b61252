//! How often a read may wait in vain before its reader begins anew: a pure decision.
//!
//! Below the end there is something on its way: a long transaction that was aborted, of which nothing is shown before all of it
//! was fetched, or records over a slow link. A reader that began anew at each vain wait would never come to its end. One that
//! never did would wait for ever where a client has stopped to fetch. So it begins anew now and then, each time after twice as
//! many vain waits, up to a bound: what takes long has its time in the end, and what never comes is looked for again.

/// Vain waits before a reader begins anew for the first time.
const FIRST: u32 = 6;
/// Most vain waits before it does again: a quarter of an hour, by what a read waits.
const MOST: u32 = 90;

/// Of one reader, since something came last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Vain waits until it is over; above 0.
    left: u32,
    /// How many there were to be.
    of: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: FIRST, of: FIRST }
    }
}

impl Patience {
    /// Takes note of a vain wait; true if the reader is to begin anew.
    pub(crate) fn is_over(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return false;
        }
        self.of = self.of.saturating_mul(2).min(MOST);
        self.left = self.of;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_has_twice_the_time_at_each_new_beginning_up_to_a_bound() {
        let mut patience = Patience::default();
        let over: Vec<u32> = (1..=400).filter(|_| patience.is_over()).collect();
        assert_eq!(over, [6, 18, 42, 90, 180, 270, 360]);
    }
}
