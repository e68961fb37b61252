//! What the log told of a topic's ends. An answer waits for no log that is away: it goes by what that told last.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::error::{AnyError, ErrorKind as _, Kind};
use tidemark_shared::lock;
use tidemark_shared::log::{Bounds, Log, LogError, Topic};
use tidemark_shared::position::{Coverage, Source};

use super::partition_of;

/// How long the log is asked for its ends before those are taken that it told last.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(1);
/// For so long it is not asked again then.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// See the module's text.
pub(in crate::up) struct Heard {
    log: Arc<dyn Log>,
    ambient: Arc<dyn Ambient>,
    topic: Topic,
    source: Source,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// The last that it told, and when.
    ends: Option<(Coverage, DateTime<Utc>)>,
    /// How many partitions it had then.
    partitions: u32,
    /// When it did not answer, if it has not since.
    failed: Option<Instant>,
}

impl Told {
    fn remembered(&self) -> Option<(Coverage, Option<DateTime<Utc>>)> {
        self.ends.clone().map(|(ends, at)| (ends, Some(at)))
    }
}

impl Heard {
    /// Nothing yet, of a topic whose records have this source.
    pub(super) fn new(log: Arc<dyn Log>, ambient: Arc<dyn Ambient>, topic: Topic, source: Source) -> Self {
        Self { log, ambient, topic, source, told: Mutex::default() }
    }

    /// The exclusive end of each partition of the log, and while it is away, when it told them.
    pub(in crate::up) async fn ends(&self) -> Result<(Coverage, Option<DateTime<Utc>>), AnyError> {
        {
            let told = lock(&self.told);
            if told.failed.is_some_and(|at| at.elapsed() < ASK_AGAIN)
                && let Some(known) = told.remembered()
            {
                return Ok(known);
            }
        }
        let at = self.ambient.now();
        let asked = tokio::time::timeout(ANSWER_MAX, self.log.bounds(&self.topic)).await;
        let asked = asked.unwrap_or_else(|waited| Err(LogError::backend("tell its ends in time", waited)));
        let mut told = lock(&self.told);
        match asked {
            Ok(bounds) => {
                let partitions = u32::try_from(bounds.len()).unwrap_or(u32::MAX);
                let ends = ends_of(&self.source, &bounds);
                *told = Told { ends: Some((ends.clone(), at)), partitions, failed: None };
                Ok((ends, None))
            }
            // Away, deleted, or made again and not taken up yet: what was heard of it last is what is known.
            Err(error) if matches!(error.kind(), Kind::Retryable | Kind::NotFound | Kind::Conflict) => {
                told.failed = Some(Instant::now());
                told.remembered().ok_or_else(|| AnyError::new(error))
            }
            Err(error) => Err(AnyError::new(error)),
        }
    }

    /// The partitions of the log, as far as it was heard of.
    pub(in crate::up) fn partitions(&self) -> BTreeSet<u32> {
        (0..lock(&self.told).partitions).collect()
    }
}

/// The exclusive ends of a topic's partitions, whose bounds are in order of partition.
pub(super) fn ends_of(source: &Source, bounds: &[Bounds]) -> Coverage {
    (0..).zip(bounds).map(|(number, bounds)| (partition_of(source, number), bounds.end)).collect()
}

#[cfg(test)]
mod tests {
    use tidemark_shared::ambient::System;
    use tidemark_shared::log::memory::MemoryLog;
    use tidemark_shared::log::{Record, Routed, TopicName};

    use super::*;

    #[tokio::test]
    async fn while_the_log_tells_no_ends_those_count_that_it_told_last() {
        let log = Arc::new(MemoryLog::new(Arc::new(System)));
        let topic = log.create_topic(&TopicName::new("t").expect("a name"), 2).await.expect("a topic");
        let source = Source::topic("t").expect("a source");
        let heard = || Heard::new(Arc::clone(&log) as _, Arc::new(System), topic.clone(), source.clone());
        let (asked, unasked) = (heard(), heard());
        let record = Record { key: None, value: Some("x".into()), headers: Vec::new(), timestamp_ms: 1 };
        log.append(&topic, vec![Routed { partition: 1, record }], None).await.expect("appended");

        assert_eq!(asked.partitions(), BTreeSet::new());
        let (ends, since) = asked.ends().await.expect("it tells");
        assert_eq!((ends.end(&partition_of(&source, 0)), ends.end(&partition_of(&source, 1))), (0, 1));
        assert_eq!((since, asked.partitions()), (None, BTreeSet::from([0, 1])));

        log.delete_topic(&topic).await.expect("deleted");
        let (remembered, since) = asked.ends().await.expect("it told before");
        assert!(since.is_some());
        assert_eq!((remembered, asked.partitions()), (ends, BTreeSet::from([0, 1])));
        assert!(unasked.ends().await.is_err(), "it never told");
    }
}
