//! The binary as a person meets it: exit codes, words, what it leaves alone, and its documentation.

mod docs;
mod sql;
mod support;
mod usage;
mod work;
