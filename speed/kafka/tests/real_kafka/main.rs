//! The log on a real Kafka: the contract, and what only a broker does. `infra/servers/test-real.sh` starts one and runs
//! this; a plain `cargo test` leaves it out, and without a broker it fails.

mod contract;
mod groups;
mod incarnations;
mod keys;
mod others;
mod policy;
mod secure;
mod stats;
mod support;
mod transactions;
