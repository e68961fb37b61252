//! End-to-end tests: the real binary, in processes of its own, on files as people have them.

mod faults;
mod oracle;
mod races;
mod support;
mod trips;
