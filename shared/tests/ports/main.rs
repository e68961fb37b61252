//! What needs the machinery of `shared/testing`, which is built on this crate: the ports' contracts, stores that fail, and
//! the fuzzers' corpora.

mod archive;
mod fuzzing;
mod log;
mod parts;
mod registry;
mod segment;
mod store;
