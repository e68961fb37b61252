//! What a statement is answered from, with records in Kafka, views in OpenSearch and tables on S3.

use crate::servers as parts;

#[path = "../../../serving/src/merge/tests/cuts.rs"]
mod cuts;
#[path = "../../../serving/src/merge/tests/moments.rs"]
mod moments;
#[path = "../../../serving/src/merge/tests/stream.rs"]
mod stream;
#[path = "../../../serving/src/merge/tests/support.rs"]
#[expect(dead_code, reason = "some of it is for tests that need no server")]
mod support;
#[path = "../../../serving/src/merge/tests/switch.rs"]
mod switch;
