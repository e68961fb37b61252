//! The port's contract.

use std::sync::Arc;

use tidemark_shared::ambient::Ambient;
use tidemark_testing::contract::log::{self as contract, SteppedClock};

use super::support::{open, open_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_keeps_the_contract() {
    let log = open();
    contract::check_all(&log).await;
    contract::check_close(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_forgets_keys_in_time() {
    let clock = Arc::new(SteppedClock::default());
    let log = open_with(Arc::clone(&clock) as Arc<dyn Ambient>);
    contract::check_key_time(&log, &clock).await;
    log.close().await.unwrap();
}
