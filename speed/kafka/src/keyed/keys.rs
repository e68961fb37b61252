//! The keys of one topic: which were used, and what for. They are read from the topic of keys, by the thread that appends with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tidemark_shared::log::{IDEMPOTENCY_LIFETIME_MS, LogError, OffsetRecord, Topic, TopicName};
use tokio::runtime::Handle;

use super::index::Index;
use super::{entry, keys_topic};
use crate::error::failed;
use crate::native::{PartitionStream, Taken};
use crate::parts::Parts;
use crate::policy::DELETE;

/// How long an entry that must be there is waited for.
const ENTRY_MAX: Duration = Duration::from_secs(10);
/// Most entries that are taken at once.
const TAKE_MAX: usize = 64;

/// See the module's text.
pub(super) struct Keys {
    parts: Arc<Parts>,
    /// Whose keys they are.
    of: Topic,
    runtime: Handle,
    /// The topic of keys, once it was opened.
    topic: Option<Topic>,
    index: Index,
    /// How far it was read.
    next: u64,
}

impl Keys {
    /// Knows none yet.
    pub(super) fn new(parts: Arc<Parts>, of: &Topic, runtime: Handle) -> Self {
        Self { parts, of: of.clone(), runtime, topic: None, index: Index::default(), next: 0 }
    }

    /// Finds the topic of keys, or makes it if there is none. What is known of another one is forgotten.
    pub(super) fn open(&mut self) -> Result<(), LogError> {
        let name = keys_topic(&self.of.id)?;
        // twice as long as keys count
        let retention_ms = (2 * IDEMPOTENCY_LIFETIME_MS).to_string();
        let config = [DELETE, ("retention.ms", retention_ms.as_str())];
        let found = self.runtime.block_on(async {
            match self.parts.topics.current(&name).await? {
                Some(found) => Ok(found),
                None => self.parts.make(&name, 1, &config).await,
            }
        })?;
        if self.topic.as_ref().is_none_or(|topic| topic.id != found.id) {
            (self.index, self.next) = (Index::default(), 0);
        }
        self.topic = Some(found);
        Ok(())
    }

    /// What the topic of keys is called.
    ///
    /// # Errors
    /// [`LogError::Closed`] before [`Self::open`].
    pub(super) fn name(&self) -> Result<&TopicName, LogError> {
        Ok(&self.topic()?.name)
    }

    fn topic(&self) -> Result<&Topic, LogError> {
        self.topic.as_ref().ok_or(LogError::Closed)
    }

    /// Reads on to the end. What was read before a failure stays known.
    pub(super) fn catch_up(&mut self) -> Result<(), LogError> {
        let bounds = self.runtime.block_on(self.parts.offsets.bounds_of(self.topic()?, 0))?;
        self.next = self.next.max(bounds.start);
        if self.next >= bounds.end {
            return Ok(());
        }
        let mut stream = self.stream(self.next)?;
        let mut last = Instant::now();
        while self.next < bounds.end {
            let taken = self.come(&mut stream, last)?;
            last = Instant::now();
            for taken in taken {
                match taken {
                    Taken::Record(OffsetRecord { offset, record }) => {
                        let at_ms = entry::time_of(record.value.as_deref().unwrap_or_default())?;
                        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
                        self.note(&key, at_ms, offset);
                    }
                    Taken::End(end) => self.next = self.next.max(end),
                    Taken::Failed(code) => return Err(failed("read idempotency keys", code)),
                }
            }
        }
        Ok(())
    }

    /// Where the key's entry is, if it was used; or that of another key, which looks the same.
    pub(super) fn find(&self, key: &str) -> Option<u64> {
        self.index.find(key)
    }

    /// The entry at an offset.
    pub(super) fn entry(&self, offset: u64) -> Result<OffsetRecord, LogError> {
        let mut stream = self.stream(offset)?;
        let begun = Instant::now();
        loop {
            for taken in self.come(&mut stream, begun)? {
                match taken {
                    Taken::Record(read) if read.offset >= offset => return Ok(read),
                    Taken::Record(_) | Taken::End(_) => {}
                    Taken::Failed(code) => return Err(failed("read an idempotency key", code)),
                }
            }
        }
    }

    /// A key was used: its entry is the one at `offset`, and all before it are known.
    pub(super) fn note(&mut self, key: &str, at_ms: i64, offset: u64) {
        self.index.insert(key, at_ms, offset);
        self.next = self.next.max(offset + 1);
    }

    /// Forgets keys that were used too long ago.
    pub(super) fn forget(&mut self, now_ms: i64) {
        self.index.forget(now_ms);
    }

    /// # Errors
    /// [`LogError::TooManyKeys`] if `more` keys would be too many.
    pub(super) fn check_room(&self, more: usize) -> Result<(), LogError> {
        self.index.check_room(&self.of.name, more)
    }

    fn stream(&self, from: u64) -> Result<PartitionStream, LogError> {
        let name = self.name()?.as_str();
        let stream = PartitionStream::start(Arc::clone(&self.parts.looker), name, 0, from);
        stream.map_err(|code| failed("read idempotency keys", code))
    }

    /// What comes next; fails if nothing does for too long.
    fn come(&self, stream: &mut PartitionStream, since: Instant) -> Result<Vec<Taken>, LogError> {
        loop {
            let taken = stream.take(TAKE_MAX);
            if !taken.is_empty() {
                return Ok(taken);
            }
            let left = ENTRY_MAX.saturating_sub(since.elapsed());
            let came = Arc::clone(stream.came());
            let waited = self.runtime.block_on(async { tokio::time::timeout(left, came.notified()).await });
            if waited.is_err() {
                return Err(failed("read idempotency keys", RDKafkaErrorCode::OperationTimedOut));
            }
        }
    }
}
