//! The batch layer's part of the hand-off protocol, on a local directory with injected faults: whatever fails, and
//! wherever, the rows that count in the end are those of an undisturbed run.

mod costs;
mod damage;
mod faults;
mod hooked;
mod layout;
mod ledger;
mod parts;
mod races;
mod raw;
mod remote;
mod semantics;
mod streams;
mod support;
mod vacuum;
