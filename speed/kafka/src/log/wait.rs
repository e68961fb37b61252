//! Waiting for more. Readers are parked where there is to be more: the broker keeps their requests until there is, and what
//! comes is read from there next.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tidemark_shared::log::{LogError, Position, ReadLimits, Topic};
use tokio::time::Instant;

use super::KafkaLog;
use crate::offsets::Ask;
use crate::readers::Held;

/// A broker tells nobody that a topic was deleted, and not every waiter may have a reader: so often they look for themselves.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Whether there is anything is all that is asked.
const ANY: ReadLimits = ReadLimits { records_max: 1, bytes_max: 1 };

impl KafkaLog {
    pub(super) async fn wait_beyond(
        &self,
        topic: &Topic,
        beyond: &[Position],
        at_most: Duration,
    ) -> Result<bool, LogError> {
        // who waits for one partition twice waits for the nearer end
        let mut nearest: BTreeMap<u32, u64> = BTreeMap::new();
        for position in beyond {
            self.parts.topics.known_with(topic, position.partition).await?;
            let offset = nearest.entry(position.partition).or_insert(position.offset);
            *offset = position.offset.min(*offset);
        }
        if self.has_more(topic, &nearest).await? {
            return Ok(true);
        }
        match tokio::time::timeout(at_most, self.more(topic, &nearest)).await {
            Ok(outcome) => outcome.map(|()| true),
            Err(_) => {
                self.check_open()?;
                Ok(false)
            }
        }
    }

    /// Asks the broker.
    async fn has_more(&self, topic: &Topic, beyond: &BTreeMap<u32, u64>) -> Result<bool, LogError> {
        self.check_open()?;
        let partitions: Vec<u32> = beyond.keys().copied().collect();
        let ends = self.parts.offsets.of(topic, &partitions, Ask::End).await?;
        self.parts.topics.expect(topic).await?;
        Ok(ends.iter().zip(beyond.values()).any(|(end, offset)| end > offset))
    }

    /// Returns when there is more.
    async fn more(&self, topic: &Topic, beyond: &BTreeMap<u32, u64>) -> Result<(), LogError> {
        let mut changes = self.parts.topics.changes();
        loop {
            // seen before the look, so that a change after it wakes us
            changes.borrow_and_update();
            if self.has_more(topic, beyond).await? {
                return Ok(());
            }
            let mut parked = self.park(topic, beyond).await?;
            let look_again = Instant::now() + LOOK_AGAIN;
            loop {
                let came: Vec<_> = parked.iter().filter_map(|reader| reader.came()).collect();
                let mut failed = false;
                for reader in &mut parked {
                    match reader.fill(ANY) {
                        Ok(true) => return self.parts.topics.expect(topic).await.map(drop),
                        Ok(false) => {}
                        // what it is, the broker is asked
                        Err(_) => failed = true,
                    }
                }
                if failed {
                    break;
                }
                let mut woken: FuturesUnordered<_> = came.iter().map(|came| came.notified()).collect();
                let woken = async {
                    tokio::select! {
                        Some(()) = woken.next() => true,
                        _ = changes.changed() => false,
                    }
                };
                if !tokio::time::timeout_at(look_again, woken).await.unwrap_or(false) {
                    break;
                }
            }
        }
    }

    /// Readers that stand where there is to be more, of as many partitions as have one to spare.
    async fn park(&self, topic: &Topic, beyond: &BTreeMap<u32, u64>) -> Result<Vec<Held<'_>>, LogError> {
        let mut parked = Vec::with_capacity(beyond.len());
        for (partition, offset) in beyond {
            let Some(mut reader) = self.readers.spare(topic, *partition, *offset)? else { continue };
            if !reader.stands_at(&topic.id, *offset) {
                match self.stand_at(&mut reader, topic, *partition, *offset).await {
                    Ok(()) => {}
                    // nobody can stand there yet, or any more
                    Err(LogError::BeyondEnd { .. } | LogError::Gone { .. }) => continue,
                    Err(error) => return Err(error),
                }
            }
            parked.push(reader);
        }
        Ok(parked)
    }
}
