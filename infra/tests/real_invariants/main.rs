//! The tests of the hand-off's invariants (H1 to H10, in `ARCHITECTURE.md`) on Kafka, OpenSearch, S3 and PostgreSQL: the very
//! files that the crates run in memory and on folders, which take what their worlds are made of from a module `parts`. Here that
//! is [`servers`]. `infra/servers/test-real.sh` starts the servers and runs this; a plain `cargo test` leaves it out, and
//! without servers it fails.

#![expect(clippy::unwrap_used, reason = "a test may: the panic is its failure")]

mod batch;
mod kafka;
mod servers;
mod serving;
mod shared;
mod speed;
