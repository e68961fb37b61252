//! A log for the door's tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tidemark_shared::dataset::{CsvOptions, Format};
use tidemark_shared::error::AnyError;
use tidemark_shared::log::IdempotencyKey;
use tidemark_shared::position::Coverage;
use tidemark_shared::telemetry::TraceParent;

use super::{Backend, IntakeError, Readiness, Taken};
use crate::merge::tests::support::{World, partition};

/// A log that is the world's, and takes or refuses records at will.
pub(super) struct TestBackend {
    pub(super) world: Arc<World>,
    pub(super) busy: AtomicBool,
    pub(super) stopping: AtomicBool,
}

impl fmt::Debug for TestBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestBackend")
    }
}

#[async_trait]
impl Backend for TestBackend {
    async fn stream_format(&self, dataset: &str) -> Result<Format, IntakeError> {
        match dataset {
            "orders" => Ok(Format::Json),
            "lines" => Ok(Format::Csv(CsvOptions { delimiter: b';', header: false, ..CsvOptions::default() })),
            "rows" => Ok(Format::Avro),
            _ => Err(IntakeError::UnknownDataset { dataset: dataset.to_owned() }),
        }
    }

    async fn append(
        &self,
        dataset: &str,
        values: Vec<Bytes>,
        _: Option<&IdempotencyKey>,
        _: Option<TraceParent>,
    ) -> Result<Taken, IntakeError> {
        let dataset = dataset.to_owned();
        if dataset == "lines" {
            return Ok(Taken {
                positions: (0..).map(|n| (partition(0), n)).take(values.len()).collect(),
                repeated: false,
            });
        }
        if dataset != "orders" {
            return Err(IntakeError::UnknownDataset { dataset });
        }
        if self.busy.load(Ordering::Relaxed) {
            let (reason, retry_after) = ("its real-time view is full".to_owned(), Duration::from_secs(3));
            return Err(IntakeError::Busy { dataset, reason, retry_after });
        }
        let mut positions = Vec::with_capacity(values.len());
        for value in &values {
            let offset = self.world.produce(0, std::str::from_utf8(value).expect("text")).await;
            positions.push((partition(0), offset));
        }
        self.world.index("g1").await;
        Ok(Taken { positions, repeated: false })
    }

    async fn seal(&self, dataset: &str) -> Result<Coverage, IntakeError> {
        match dataset {
            "orders" => Ok([(partition(0), 7)].into_iter().collect()),
            _ => Err(IntakeError::UnknownDataset { dataset: dataset.to_owned() }),
        }
    }

    async fn status(&self) -> Result<Value, AnyError> {
        Ok(json!({"roles": {"serving": "ok"}}))
    }

    async fn readiness(&self) -> Readiness {
        if self.stopping.load(Ordering::Relaxed) {
            return Readiness::NotReady { reason: "it stops".to_owned() };
        }
        Readiness::Ready { degraded: [("lines".to_owned(), "the broker refuses:\n no".to_owned())].into() }
    }
}
