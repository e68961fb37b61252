//! The speed layer's parts on a log and a view in memory and a store in a folder: what each promises, with faults.

#![expect(clippy::unwrap_used, reason = "a test may: the panic is its failure")]

mod archiver;
mod embedded;
mod ending;
mod indexer;
mod live;
mod parts;
mod retaining;
mod shares;
mod support;
