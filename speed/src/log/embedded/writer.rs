//! The one thread that writes. It takes what has come in meanwhile as one group, writes it with one sync of the journal,
//! moves the ends and answers; while it syncs, the next group gathers. So many small appends cost few syncs, and a single
//! one waits for nobody.
//!
//! When the disk is full it takes nothing more, and goes on once there is space ([`super::reopen`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidemark_shared::log::{Appended, LogError, Topic, TopicName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::failure::Failure;
use super::group::Group;
use super::keys::{self, Purge};
use super::status::Shared;
use super::store::LogStore;
use super::topics::{PartitionState, TopicEntry, TopicState};

/// Most bytes of values in one group, give or take one append.
const GROUP_BYTES_MAX: usize = 8 << 20;

pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

pub(super) enum Command {
    Append(AppendRequest),
    Trim(TrimRequest),
    Create { name: TopicName, partitions: u32, reply: Reply<Topic> },
    Grow { topic: Arc<TopicState>, total: u32, reply: Reply<Topic> },
    Delete { topic: Arc<TopicState>, reply: Reply<()> },
}

/// Encoded records on their way to the journal.
pub(super) struct AppendRequest {
    pub(super) topic: Arc<TopicState>,
    pub(super) values: Vec<PendingValue>,
    /// The partition of each record, in the caller's order.
    pub(super) order: Vec<u32>,
    pub(super) key: Option<keys::Keyed>,
    pub(super) reply: Reply<Appended>,
    /// The request's share of the memory that all requests may take.
    pub(super) budget: OwnedSemaphorePermit,
}

pub(super) struct PendingValue {
    pub(super) partition: Arc<PartitionState>,
    pub(super) records: u32,
    pub(super) bytes: Vec<u8>,
}

/// Moves a partition's start up.
pub(super) struct TrimRequest {
    pub(super) topic: Arc<TopicState>,
    pub(super) partition: Arc<PartitionState>,
    pub(super) start: u64,
    pub(super) reply: Reply<()>,
}

pub(super) struct Writer {
    pub(super) folder: PathBuf,
    /// `None` only while it is opened anew.
    pub(super) store: Option<LogStore>,
    pub(super) shared: Arc<Shared>,
    /// Who has all of it knows that nobody reads.
    pub(super) reads: Arc<Semaphore>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) next_number: u64,
    pub(super) purge: Purge,
}

impl Writer {
    /// Works until the log is closed and all that came before is done, or until a write fails for good.
    pub(super) fn run(mut self) {
        let _supervised = FailOnPanic(Arc::clone(&self.shared));
        while let Some(command) = self.commands.blocking_recv() {
            if let Err(failure) = self.round(command) {
                let Failure { reason, may_pass } = failure;
                tracing::error!(reason, may_pass, "the log takes no more records");
                // who is still in the channel looks for the reason when it goes
                self.shared.fail(reason);
                if !may_pass || !self.goes_on() {
                    return;
                }
                tracing::warn!("the log takes records again");
            }
        }
    }

    fn store(&self) -> &LogStore {
        self.store.as_ref().expect("it is open between two attempts to open it anew")
    }

    /// Does one command, and with an append all others that fit into its group. Fails if the disk does.
    fn round(&mut self, first: Command) -> Result<(), Failure> {
        let store = self.store.as_ref().expect("it is open between two attempts to open it anew");
        let mut group = Group::new(store, self.shared.now_ms());
        let mut next = Some(first);
        let mut odd = None;
        while let Some(command) = next.take() {
            match command {
                Command::Append(request) => group.append(request),
                Command::Trim(request) => group.trim(request),
                other => odd = Some(other),
            }
            if odd.is_none() && group.bytes() < GROUP_BYTES_MAX {
                next = self.commands.try_recv().ok();
            }
        }
        self.purge.add_to(&mut group)?;
        if !group.is_empty() {
            self.shared.commits.fetch_add(1, Ordering::Relaxed);
        }
        group.commit()?;
        match odd {
            Some(command) => self.change_topics(command),
            None => Ok(()),
        }
    }

    fn change_topics(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Create { name, partitions, reply } => answer(reply, self.create(&name, partitions)),
            Command::Grow { topic, total, reply } => answer(reply, self.grow(&topic, total)),
            Command::Delete { topic, reply } => answer(reply, self.delete(&topic)),
            Command::Append(_) | Command::Trim(_) => unreachable!("those are done in a group"),
        }
    }

    fn create(&mut self, name: &TopicName, partitions: u32) -> Result<Topic, LogError> {
        if let Some(found) = self.shared.topics.read().get(name) {
            let found = found.described();
            if found.partitions == partitions {
                return Ok(found);
            }
            return Err(LogError::Mismatch { topic: name.clone(), expected: partitions, found: found.partitions });
        }
        let entry = TopicEntry {
            number: self.next_number,
            id: self.shared.new_id(),
            partitions,
            created_at: self.shared.ambient.now().to_rfc3339(),
        };
        self.next_number += 1;
        let made = self.store().partitions(name, &entry, 0)?;
        self.store().put_topic(name, &entry, self.next_number)?;
        let topic = Arc::new(TopicState::new(name.clone(), &entry, made));
        let described = topic.described();
        self.shared.topics.write().insert(name.clone(), topic);
        Ok(described)
    }

    fn grow(&mut self, topic: &TopicState, total: u32) -> Result<Topic, LogError> {
        topic.check_there()?;
        let found = topic.count();
        if found > total {
            return Err(LogError::Mismatch { topic: topic.name.clone(), expected: total, found });
        }
        if found < total {
            let entry = TopicEntry {
                number: topic.number,
                id: topic.id.clone(),
                partitions: total,
                created_at: topic.created_at.clone(),
            };
            let made = self.store().partitions(&topic.name, &entry, found)?;
            self.store().put_topic(&topic.name, &entry, self.next_number)?;
            topic.add(made);
        }
        Ok(topic.described())
    }

    fn delete(&mut self, topic: &Arc<TopicState>) -> Result<(), LogError> {
        if topic.check_there().is_err() {
            return Ok(());
        }
        self.shared.topics.write().remove(&topic.name);
        topic.delete();
        self.store().remove_topic(topic)
    }
}

/// Answers; a failure of the disk is also ours.
fn answer<T>(reply: Reply<T>, outcome: Result<T, LogError>) -> Result<(), Failure> {
    let failed = match &outcome {
        Err(error @ LogError::Backend { .. }) => Err(Failure::of(error)),
        _ => Ok(()),
    };
    // who asked may have gone away
    drop(reply.send(outcome));
    failed
}

/// A panic must not leave others waiting for a writer that is no more.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("its writer has panicked".to_owned());
        }
    }
}
