//! The thread that appends with keys to one topic.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::error::chain;
use tidemark_shared::log::{Appended, Fingerprint, KeyedAppend, LogError, Position, Record, Routed, Topic};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::keys::Keys;
use super::{Request, entry};
use crate::error::{client_failed, failed};
use crate::offsets::Ask;
use crate::parts::Parts;
use crate::produce::{Batch, Deliveries, Known, refused, send};

/// Most appends in one transaction.
const GROUP_MAX: usize = 64;
/// Bytes of records after which a transaction takes no more appends.
const GROUP_BYTES: usize = 16 << 20;
/// How often an append is tried while others take the id over.
const ATTEMPTS_MAX: usize = 20;
/// Longest wait of each step of a transaction.
const STEP_MAX: Duration = Duration::from_secs(10);
/// How long it is waited for what the broker says before it is looked whether that was all.
const POLL: Duration = Duration::from_millis(1);
/// How long records that are committed are waited for until readers see them: an open transaction of somebody else's
/// producer may hide them for longer.
const VISIBLE: Backoff = Backoff {
    first: Duration::from_millis(2),
    pause_max: Duration::from_millis(20),
    attempts_max: 10_000,
    time_max: Duration::from_secs(2),
    attempts_min: 2,
};

/// Why a group of appends did not go.
enum Trouble {
    /// The id was taken over, or it is not known whether the transaction was committed: take it over and look.
    TakeOver,
    /// Nothing was appended.
    Refused(LogError),
    /// Nor was anything begun.
    NoRoom(LogError),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        Self::Refused(error)
    }
}

/// Works until nobody can ask any more.
pub(super) fn run(parts: &Arc<Parts>, topic: &Topic, runtime: &Handle, requests: &mut mpsc::Receiver<Request>) {
    let mut work = Work {
        parts: Arc::clone(parts),
        topic: topic.clone(),
        runtime: runtime.clone(),
        owner: None,
        known: Known::default(),
        keys: Keys::new(Arc::clone(parts), topic, runtime.clone()),
    };
    while let Some(first) = requests.blocking_recv() {
        let mut bytes = size(&first);
        let mut group = vec![first];
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES {
            let Ok(next) = requests.try_recv() else { break };
            bytes += size(&next);
            group.push(next);
        }
        work.group(group);
    }
}

fn size(request: &Request) -> usize {
    request.records.iter().map(|routed| routed.record.bytes()).sum()
}

/// Appends under the topic's transactional id.
struct Work {
    parts: Arc<Parts>,
    topic: Topic,
    runtime: Handle,
    /// The producer that has the transactional id, as far as is known.
    owner: Option<Arc<BaseProducer<Deliveries>>>,
    /// What that producer knows.
    known: Known,
    keys: Keys,
}

impl Work {
    /// Answers all of them.
    fn group(&mut self, group: Vec<Request>) {
        let mut waiting = VecDeque::from([group]);
        while let Some(group) = waiting.pop_front() {
            // a key that comes twice at once: the second time it is a repetition
            let mut seen = HashSet::new();
            let (group, again): (Vec<Request>, Vec<Request>) =
                group.into_iter().partition(|request| seen.insert(request.key.clone()));
            if !again.is_empty() {
                waiting.push_back(again);
            }
            match self.attempts(&group) {
                Ok(answers) => {
                    for (request, answer) in group.into_iter().zip(answers) {
                        // who asked may be gone
                        drop(request.answer.send(answer));
                    }
                }
                Err(error) if group.len() > 1 && is_ones_own(&error) => {
                    waiting.extend(group.into_iter().map(|request| vec![request]));
                }
                Err(error) => refuse(group, &error),
            }
        }
    }

    fn attempts(&mut self, group: &[Request]) -> Result<Vec<Result<Appended, LogError>>, LogError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(group) {
                Ok(answers) => return Ok(answers),
                Err(Trouble::TakeOver) => self.owner = None,
                Err(Trouble::NoRoom(error)) => return Err(error),
                Err(Trouble::Refused(error)) => {
                    self.give_up();
                    return Err(error);
                }
            }
        }
        Err(failed("append records with a key: others do so all the time", RDKafkaErrorCode::Fenced))
    }

    /// Ends what was begun. Where that fails, who takes over next does it: until then, readers get nothing later.
    fn give_up(&mut self) {
        if let Some(owner) = self.owner.take()
            && let Err(error) = owner.abort_transaction(STEP_MAX)
        {
            tracing::debug!(topic = %self.topic.name, error = %chain(&error), "a transaction was not aborted");
        }
    }

    fn attempt(&mut self, group: &[Request]) -> Result<Vec<Result<Appended, LogError>>, Trouble> {
        self.take_over()?;
        let now_ms = self.parts.ambient.now().timestamp_millis();
        self.keys.forget(now_ms);
        let mut answers: Vec<Option<Result<Appended, LogError>>> = Vec::with_capacity(group.len());
        for request in group {
            answers.push(match self.keys.find(request.key.as_str()) {
                Some(offset) => self.repeated(request, offset)?,
                None => None,
            });
        }
        let new: Vec<&Request> =
            group.iter().zip(&answers).filter(|(_, answer)| answer.is_none()).map(|(request, _)| request).collect();
        let mut appended = self.append(&new, now_ms)?.into_iter();
        let answered = |answer: Option<_>| {
            answer.unwrap_or_else(|| {
                let positions = appended.next().expect("each new one was appended");
                Ok(Appended { positions, repeated: false })
            })
        };
        Ok(answers.into_iter().map(answered).collect())
    }

    /// What the first call with the key was told; `None` if the entry is another key's.
    fn repeated(&self, request: &Request, offset: u64) -> Result<Option<Result<Appended, LogError>>, LogError> {
        let read = self.keys.entry(offset)?;
        if read.record.key.as_deref() != Some(request.key.as_str().as_bytes()) {
            return Ok(None);
        }
        let append = entry::decode(read.record.value.as_deref().unwrap_or_default())?;
        Ok(Some(append.repeated(&self.topic.name, &request.key, Fingerprint::of(&request.records))))
    }

    /// Appends records and keys in one transaction. The positions are in the order of `new`.
    fn append(&mut self, new: &[&Request], now_ms: i64) -> Result<Vec<Vec<Position>>, Trouble> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        self.keys.check_room(new.len()).map_err(Trouble::NoRoom)?;
        let Some(owner) = &self.owner else { return Err(Trouble::TakeOver) };
        if new.iter().any(|request| self.known.lacks(&self.topic, &request.records)) {
            self.known.note(&self.topic, Known::learn(owner, &self.topic)?);
        }
        owner.begin_transaction().map_err(|error| trouble(owner, error))?;
        let mut batches = Vec::with_capacity(new.len());
        for request in new {
            batches.push(send(owner, self.topic.name.as_str(), &request.records)?.0);
        }
        wait_for(owner, &batches);
        let mut appended = Vec::with_capacity(new.len());
        for (batch, request) in batches.iter().zip(new) {
            let positions = batch.positions().map_err(|code| not_delivered(code, &request.records))?;
            appended.push(positions);
        }
        let entry = |(request, positions): (&&Request, &Vec<Position>)| {
            let fingerprint = Fingerprint::of(&request.records);
            let value = entry::encode(&KeyedAppend { at_ms: now_ms, fingerprint, positions: positions.clone() });
            let key = Some(Bytes::copy_from_slice(request.key.as_str().as_bytes()));
            let record = Record { key, value: Some(value.into()), headers: Vec::new(), timestamp_ms: wall_ms() };
            Routed { partition: 0, record }
        };
        let entries: Vec<Routed> = new.iter().zip(&appended).map(entry).collect();
        let (batch, _) = send(owner, self.keys.name()?.as_str(), &entries)?;
        wait_for(owner, std::slice::from_ref(&batch));
        let places = batch.positions().map_err(|code| not_delivered(code, &entries))?;
        // By name they may have gone to another incarnation, where the key is not known: nothing counts there, then.
        self.runtime.block_on(self.parts.topics.expect(&self.topic))?;
        owner.commit_transaction(STEP_MAX).map_err(|_| Trouble::TakeOver)?;
        for (request, place) in new.iter().zip(&places) {
            self.keys.note(request.key.as_str(), now_ms, place.offset);
        }
        self.wait_until_visible(&appended);
        Ok(appended)
    }

    /// A transaction is done before its marks are in all partitions: whoever reads at once is to find the records.
    fn wait_until_visible(&self, appended: &[Vec<Position>]) {
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for position in appended.iter().flatten() {
            let end = ends.entry(position.partition).or_default();
            *end = (*end).max(position.offset + 1);
        }
        let partitions: Vec<u32> = ends.keys().copied().collect();
        self.runtime.block_on(async {
            let mut attempts = Attempts::new(VISIBLE);
            loop {
                // where they can't be seen they are appended all the same
                let Ok(found) = self.parts.offsets.of(&self.topic, &partitions, Ask::End).await else { return };
                let all = found.iter().zip(ends.values()).all(|(found, wanted)| found >= wanted);
                if all || !attempts.again(self.parts.ambient.random()).await {
                    return;
                }
            }
        });
    }

    /// Has the transactional id, and knows all keys that were used under it before.
    fn take_over(&mut self) -> Result<(), Trouble> {
        if self.owner.is_some() {
            return Ok(());
        }
        self.keys.open()?;
        let owner = self.parts.clients.transactional(self.keys.name()?.as_str())?;
        owner.init_transactions(STEP_MAX).map_err(|error| trouble(&owner, error))?;
        // nobody adds to them meanwhile: whoever could is fenced
        self.keys.catch_up()?;
        self.known = Known::default();
        self.owner = Some(owner);
        Ok(())
    }
}

/// Waits until the broker has said of all records what became of them.
fn wait_for(owner: &BaseProducer<Deliveries>, batches: &[Arc<Batch>]) {
    let begun = Instant::now();
    while !batches.iter().all(|batch| batch.is_decided()) && begun.elapsed() < STEP_MAX {
        owner.poll(POLL);
    }
}

/// What a failure of a transaction's step means.
fn trouble(owner: &BaseProducer<Deliveries>, error: KafkaError) -> Trouble {
    let code = error.rdkafka_error_code();
    let fenced = matches!(
        code,
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::UnknownProducerId
                | RDKafkaErrorCode::InvalidProducerIdMapping
                | RDKafkaErrorCode::InvalidTransactionalState
        )
    );
    if fenced || owner.client().fatal_error().is_some() {
        return Trouble::TakeOver;
    }
    Trouble::Refused(client_failed("append records with a key", error))
}

/// What it means that records of a transaction were not delivered.
fn not_delivered(code: RDKafkaErrorCode, records: &[Routed]) -> Trouble {
    use RDKafkaErrorCode as Code;
    match code {
        // the transaction has failed, or its owner has changed
        Code::Fenced
        | Code::Fatal
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::UnknownProducerId
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::InvalidTransactionalState => Trouble::TakeOver,
        code => Trouble::Refused(refused(code, records)),
    }
}

/// True for what is wrong with one append of a group, or with one that is too many: that is not the others' fault, and each of
/// them is tried by itself.
fn is_ones_own(error: &LogError) -> bool {
    matches!(error, LogError::Invalid { .. } | LogError::TooManyKeys { .. })
}

/// Answers all of them with the same failure.
fn refuse(group: Vec<Request>, error: &LogError) {
    for request in group {
        // who asked may be gone
        drop(request.answer.send(Err(error.again())));
    }
}

/// Entries leave the topic of keys by the broker's clock, whatever clock decides how long keys count.
fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use tidemark_shared::error::{ErrorKind as _, Kind};
    use tidemark_shared::log::{IdempotencyKey, TopicId, TopicName};
    use tokio::sync::oneshot;

    use super::*;

    fn topic() -> TopicName {
        TopicName::new("trips").expect("a legal name")
    }

    #[test]
    fn all_of_a_group_are_told_the_same() {
        let failures = [
            failed("append records with a key", RDKafkaErrorCode::OperationTimedOut),
            LogError::Missing { topic: topic() },
            LogError::Replaced { topic: topic(), expected: TopicId::new("a"), found: TopicId::new("b") },
            LogError::Corrupt { what: "entry".to_owned(), reason: "it is cut short".to_owned() },
            LogError::TooManyKeys { topic: topic(), max: 1 },
        ];
        for failure in failures {
            let asked = |number: u32| {
                let (answer, answered) = oneshot::channel();
                let key = IdempotencyKey::new(&number.to_string()).expect("a legal key");
                (Request { records: Vec::new(), key, answer }, answered)
            };
            let (group, answers): (Vec<Request>, Vec<_>) = (0..3).map(asked).unzip();
            refuse(group, &failure);
            for mut answer in answers {
                let told = answer.try_recv().expect("an answer").expect_err("a failure");
                assert_eq!((chain(&told), told.kind(), told.hint()), (chain(&failure), failure.kind(), failure.hint()));
            }
        }
    }

    #[test]
    fn what_is_one_appends_own_holds_up_no_other_one() {
        let invalid = LogError::Invalid { what: "an append".to_owned(), reason: "it is too large".to_owned() };
        let full = LogError::TooManyKeys { topic: topic(), max: 1 };
        assert_eq!(full.kind(), Kind::Exhausted);
        for (error, alone) in [
            (invalid, true),
            (full, true),
            (failed("append records with a key", RDKafkaErrorCode::Fenced), false),
            (LogError::Missing { topic: topic() }, false),
        ] {
            assert_eq!(is_ones_own(&error), alone, "{error:?}");
        }
    }
}
