//! End-to-end tests: the real binary, in processes of its own, on files as people have them.

#![expect(clippy::unwrap_used, reason = "a test may: the panic is its failure")]

mod faults;
mod green;
mod nested;
mod oracle;
mod races;
mod support;
mod tools;
mod trips;
mod up;
