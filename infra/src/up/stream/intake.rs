//! Records on their way into a stream's log, each to the partition that its key says.

use bytes::Bytes;
use tidemark_serving::http::{IntakeError, Taken};
use tidemark_shared::lock;
use tidemark_shared::log::{IdempotencyKey, MessageKeys, Position, Record, Routed};
use tidemark_shared::telemetry::{TraceParent, name_origin};

use super::{Stream, partition_of};

impl Stream {
    /// Appends values, each to the partition that its key says, with the name of the span that they came from.
    pub(in crate::up) async fn append(
        &self,
        values: Vec<Bytes>,
        key: Option<&IdempotencyKey>,
        origin: Option<TraceParent>,
    ) -> Result<Taken, IntakeError> {
        let records = self.routed(self.records_of(values, origin));
        let appended = self.parts.log.append(&self.topic, records, key).await?;
        if !appended.repeated {
            self.parts.metrics.datasets.appended(&self.dataset, appended.positions.len());
        }
        let position = |at: &Position| (partition_of(&self.source, at.partition), at.offset);
        Ok(Taken { positions: appended.positions.iter().map(position).collect(), repeated: appended.repeated })
    }

    /// Values with their keys, by the newest definition.
    fn records_of(&self, values: Vec<Bytes>, origin: Option<TraceParent>) -> Vec<Record> {
        let keys = MessageKeys::new(&self.definition().definition).of_all(&values);
        let timestamp_ms = self.parts.ambient.now().timestamp_millis();
        let records = values.into_iter().zip(keys).map(|(value, key)| Record {
            key,
            value: Some(value),
            headers: Vec::new(),
            timestamp_ms,
        });
        let mut records: Vec<Record> = records.collect();
        if let Some(origin) = origin {
            name_origin(&mut records, origin);
        }
        records
    }

    fn routed(&self, records: Vec<Record>) -> Vec<Routed> {
        let mut partitioner = lock(&self.partitioner);
        records.into_iter().map(|record| Routed { partition: partitioner.next(&record), record }).collect()
    }
}
