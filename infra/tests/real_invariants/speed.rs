//! Archiver and indexer on Kafka, OpenSearch and S3. Which of their tests can't run here, and why, stands in
//! `speed/tests/layer/embedded.rs`. The view's own promises (H3, H4, H6, H7) are the contract of `real_opensearch`.

use crate::servers as parts;

#[path = "../../../speed/tests/layer/archiver.rs"]
mod archiver;
#[path = "../../../speed/tests/layer/ending.rs"]
mod ending;
#[path = "../../../speed/tests/layer/indexer.rs"]
mod indexer;
#[path = "../../../speed/tests/layer/shares.rs"]
mod shares;
#[path = "../../../speed/tests/layer/support.rs"]
mod support;
