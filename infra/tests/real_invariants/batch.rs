//! The batch layer's part of the protocol on S3, and with a catalog in PostgreSQL where a test has one.

use crate::servers as parts;

#[path = "../../../batch/tests/protocol/faults.rs"]
mod faults;
#[path = "../../../batch/tests/protocol/hooked.rs"]
mod hooked;
#[path = "../../../batch/tests/protocol/layout.rs"]
mod layout;
#[path = "../../../batch/tests/protocol/ledger.rs"]
mod ledger;
#[path = "../../../batch/tests/protocol/races.rs"]
mod races;
#[path = "../../../batch/tests/protocol/streams.rs"]
mod streams;
#[path = "../../../batch/tests/protocol/support.rs"]
mod support;
