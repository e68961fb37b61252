//! Reading by position.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tidemark_shared::log::{Bounds, Fetched, LogError, ReadLimits, Topic, check_within};

use super::KafkaLog;
use crate::error::failed;
use crate::readers::Reader;

/// How long records that are known to be there are waited for.
const FETCH_MAX: Duration = Duration::from_secs(10);

impl KafkaLog {
    pub(super) async fn read_from(
        &self,
        topic: &Topic,
        partition: u32,
        from: u64,
        limits: ReadLimits,
    ) -> Result<Fetched, LogError> {
        self.parts.topics.known_with(topic, partition).await?;
        let mut reader = self.readers.checkout(topic, partition, from).await?;
        let fetched = self.fetch(&mut reader, topic, partition, from, limits).await;
        match fetched {
            Ok(mut fetched) => {
                // records of another incarnation would stand under this one's name
                if let Err(error) = self.parts.topics.expect(topic).await {
                    reader.reset();
                    return Err(error);
                }
                fetched.bounds.end = fetched.bounds.end.max(fetched.next);
                Ok(fetched)
            }
            Err(error) => {
                // one whose records were taken out of it stands behind them
                let is_there = reader.stands_at(&topic.id, from);
                if !stands(&error, is_there) {
                    reader.reset();
                }
                let error = self.explained(topic, error).await;
                // what comes of an incarnation that is gone is nobody's
                if !stands(&error, is_there) {
                    reader.reset();
                }
                Err(error)
            }
        }
    }

    async fn fetch(
        &self,
        reader: &mut Reader,
        topic: &Topic,
        partition: u32,
        from: u64,
        limits: ReadLimits,
    ) -> Result<Fetched, LogError> {
        if !reader.stands_at(&topic.id, from) {
            self.stand_at(reader, topic, partition, from).await?;
        }
        let begun = Instant::now();
        loop {
            match reader.fill(limits) {
                Ok(true) => break,
                Ok(false) => {}
                Err(code) => return Err(self.unreadable(topic, partition, from, code).await),
            }
            let end = self.parts.offsets.end(topic, partition).await?;
            reader.heard_of_end(end);
            if from == end {
                return Ok(Fetched { records: Vec::new(), next: from, bounds: Bounds { end, ..reader.bounds() } });
            }
            if from > end {
                return Err(LogError::BeyondEnd { topic: topic.name.clone(), partition, from, end });
            }
            // what is there is on its way
            let Some(came) = reader.came() else { return Err(failed("read records", RDKafkaErrorCode::State)) };
            let left = FETCH_MAX.saturating_sub(begun.elapsed());
            if tokio::time::timeout(left, came.notified()).await.is_err() {
                if reader.is_out_of_patience() {
                    self.begin_anew(reader, topic, partition, from).await?;
                }
                return Err(failed("read records", RDKafkaErrorCode::OperationTimedOut));
            }
        }
        let mut fetched = reader.cut(limits);
        if reader.is_at_known_end() {
            let end = self.parts.offsets.end(topic, partition).await?;
            reader.heard_of_end(end);
            fetched.bounds.end = reader.bounds().end;
        }
        Ok(fetched)
    }

    /// Has a reader begin anew at `from`; where that fails, the next read from there does.
    async fn begin_anew(&self, reader: &mut Reader, topic: &Topic, partition: u32, from: u64) -> Result<(), LogError> {
        reader.reset();
        self.stand_at(reader, topic, partition, from).await
    }

    /// Moves a reader to `from`.
    ///
    /// # Errors
    /// [`LogError::Gone`], [`LogError::BeyondEnd`].
    pub(super) async fn stand_at(
        &self,
        reader: &mut Reader,
        topic: &Topic,
        partition: u32,
        from: u64,
    ) -> Result<(), LogError> {
        let bounds = self.parts.offsets.bounds_of(topic, partition).await?;
        check_within(&topic.name, partition, from, bounds)?;
        reader.seek(topic, partition, from, bounds).map_err(|code| failed("read records", code))
    }

    /// Why records can't be read from `from` on.
    async fn unreadable(&self, topic: &Topic, partition: u32, from: u64, code: RDKafkaErrorCode) -> LogError {
        if matches!(code, RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) {
            let bounds = match self.parts.offsets.bounds_of(topic, partition).await {
                Ok(bounds) => bounds,
                Err(error) => return error,
            };
            if let Err(error) = check_within(&topic.name, partition, from, bounds) {
                return error;
            }
        }
        failed("read records", code)
    }
}

/// True if a reader whose read failed so still stands where it did, and what is on its way to it is for the next read from
/// there: a long transaction that was aborted gives nothing before all of it was fetched, which may take longer than a read
/// waits. A reader that the broker refuses to send records has been reset for that already. `is_there` says whether it would give
/// what was asked for.
fn stands(error: &LogError, is_there: bool) -> bool {
    is_there && matches!(error, LogError::Backend { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidemark_shared::ambient::System;
    use tidemark_shared::log::{TopicId, TopicName};

    use super::*;
    use crate::settings::KafkaSettings;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_that_can_not_begin_anew_now_does_so_at_the_next_read() {
        // nobody listens there
        let settings = KafkaSettings { brokers: "127.0.0.1:1".to_owned(), ..KafkaSettings::default() };
        let log = KafkaLog::open(settings, Arc::new(System)).expect("settings that go together");
        let topic = Topic { name: TopicName::new("t").expect("a name"), id: TopicId::new("1"), partitions: 1 };
        let mut reader = log.readers.checkout(&topic, 0, 7).await.expect("it is open");
        reader.seek(&topic, 0, 7, Bounds { start: 0, end: 9 }).expect("nobody is asked");
        assert!(reader.stands_at(&topic.id, 7));
        log.parts.offsets.close();
        log.begin_anew(&mut reader, &topic, 0, 7).await.expect_err("nobody tells where the partition ends");
        assert!(!reader.stands_at(&topic.id, 7), "it waits on where nothing came");
    }

    #[test]
    fn a_reader_stands_after_what_passes_and_not_where_its_topic_is_another() {
        let topic = || TopicName::new("t").expect("a legal name");
        for (error, stays) in [
            (failed("read records", RDKafkaErrorCode::OperationTimedOut), true),
            (failed("ask for the bounds of partitions", RDKafkaErrorCode::AllBrokersDown), true),
            (LogError::Gone { topic: topic(), partition: 0, from: 1, start: 2 }, false),
            (LogError::BeyondEnd { topic: topic(), partition: 0, from: 2, end: 1 }, false),
            (LogError::Missing { topic: topic() }, false),
            (LogError::Replaced { topic: topic(), expected: TopicId::new("a"), found: TopicId::new("b") }, false),
            (LogError::Closed, false),
        ] {
            assert_eq!(stands(&error, true), stays, "{error:?}");
            assert!(!stands(&error, false), "it would give what comes later: {error:?}");
        }
    }
}
