//! A member of a consumer group: it takes part in sharing partitions out, and reads none of them (what is read goes by
//! position, through [`crate::readers`]). A thread of its own polls the consumer, or the group would think it gone.
//!
//! Partitions are handed over one rebalance after the other (cooperative-sticky): what a member keeps, it works on all the
//! while. One that is to go to another member stays until whoever works on it has settled that, or [`SETTLE_MAX`] has passed. A
//! member that was not heard of has lost its partitions already, and is only told so.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics};
use tidemark_shared::error::chain;
use tidemark_shared::lock;
use tidemark_shared::log::{Assignment, GroupName, LogError, Membership, Partitions, TopicName, blocking};
use tokio::sync::watch;

use crate::clients::{Clients, Events, caught, thread};
use crate::error::client_failed;
use crate::stats::ClientKind;

/// How long the group waits until nothing is done any more on a partition that it takes away.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// How long a poll waits: so often it is seen whether the member is to leave.
const POLL: Duration = Duration::from_millis(100);
/// Pause before a consumer that failed for good is made anew.
const ANEW: Duration = Duration::from_secs(1);
/// Its thread.
const THREAD: &str = "kafka-member";
/// How long leaving may take; the group comes to know of it by itself then.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// See the module's text.
pub(crate) struct Member {
    group: GroupName,
    place: Arc<Place>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and those who work share.
struct Place {
    topic: TopicName,
    assignment: watch::Sender<Assignment>,
    settled: Mutex<Settled>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct Settled {
    /// The number of the newest assignment that is worked by.
    number: u64,
    /// True if the member is to leave.
    leaving: bool,
}

impl Member {
    /// Joins. Does not wait for a broker.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if librdkafka does not take the settings, [`LogError::Backend`] if there is no thread to be had.
    pub(crate) fn start(clients: &Arc<Clients>, topic: &TopicName, group: &GroupName) -> Result<Self, LogError> {
        let none = Assignment { number: 0, joined: false, partitions: Partitions::none(), trouble: None };
        let place = Arc::new(Place {
            topic: topic.clone(),
            assignment: watch::Sender::new(none),
            settled: Mutex::default(),
            told: Condvar::new(),
        });
        let config = clients.settings().member(group);
        let open = {
            let (place, clients) = (Arc::clone(&place), Arc::clone(clients));
            move || -> KafkaResult<BaseConsumer<Context>> {
                let context = Context { place: Arc::clone(&place), events: clients.events(ClientKind::Member) };
                let consumer = BaseConsumer::from_config_and_context(&config, context)?;
                consumer.subscribe(&[place.topic.as_str()])?;
                Ok(consumer)
            }
        };
        let mut first = Some(open().map_err(|error| client_failed("join a group", error))?);
        let polled = Arc::clone(&place);
        let thread = thread(THREAD, move || polled.take_part(first.take(), &open))?;
        Ok(Self { group: group.clone(), place, thread: Mutex::new(Some(thread)) })
    }
}

#[async_trait]
impl Membership for Member {
    fn assignments(&self) -> watch::Receiver<Assignment> {
        self.place.assignment.subscribe()
    }

    fn settle(&self, number: u64) {
        let mut settled = self.place.settled();
        settled.number = settled.number.max(number);
        self.place.told.notify_all();
    }

    async fn leave(&self) {
        self.place.go();
        let thread = lock(&self.thread).take();
        let Some(thread) = thread else { return };
        let ended = tokio::time::timeout(LEAVE_MAX, blocking(move || thread.join().is_ok())).await;
        if !matches!(ended, Ok(Ok(true))) {
            tracing::warn!(group = %self.group, "the group is left without its knowing; it takes the partitions back in time");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The thread ends by itself.
        self.place.go();
    }
}

impl Place {
    fn settled(&self) -> MutexGuard<'_, Settled> {
        lock(&self.settled)
    }

    fn go(&self) {
        self.settled().leaving = true;
        self.told.notify_all();
    }

    fn is_leaving(&self) -> bool {
        self.settled().leaving
    }

    /// Waits until it is to leave, or for so long.
    fn pause(&self, at_most: Duration) {
        let settled = self.settled();
        let waited = self.told.wait_timeout_while(settled, at_most, |settled| !settled.leaving);
        // as `lock` does: who waits takes the lock again
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Polls until the member is to leave. A consumer that fails for good is made anew.
    fn take_part(
        &self,
        mut first: Option<BaseConsumer<Context>>,
        open: &impl Fn() -> KafkaResult<BaseConsumer<Context>>,
    ) {
        while !self.is_leaving() {
            let polled = caught(THREAD, || {
                let consumer = first.take().map_or_else(open, Ok)?;
                // dropped at the end, whatever it is: then the group knows that it is gone
                self.poll(&consumer)
            });
            let reason = match polled {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error.to_string(),
                Err(said) => format!("it panicked: {said}"),
            };
            tracing::warn!(topic = %self.topic, reason, "the place in the group is lost, and asked for again");
            self.change(|now| {
                (now.joined, now.partitions, now.trouble) = (false, Partitions::none(), Some(reason));
            });
            self.pause(ANEW);
        }
        let left = Some("it has left its group".to_owned());
        self.change(|now| (now.joined, now.partitions, now.trouble) = (false, Partitions::none(), left));
    }

    /// # Errors
    /// What the consumer does not go on from by itself.
    fn poll(&self, consumer: &BaseConsumer<Context>) -> KafkaResult<()> {
        while !self.is_leaving() {
            match consumer.poll(POLL) {
                // all partitions are paused: what came before that is nobody's
                None | Some(Ok(_)) => {}
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                Some(Err(error)) => self.note(&error.to_string()),
            }
        }
        Ok(())
    }

    /// Takes note of what went wrong, for whoever looks: it goes on by itself.
    fn note(&self, trouble: &str) {
        tracing::debug!(topic = %self.topic, trouble, "a member of a group");
        self.assignment.send_if_modified(|now| {
            now.trouble = Some(trouble.to_owned());
            // nobody has to do anything else now
            false
        });
    }

    /// Makes a new assignment of the last one; its number.
    fn change(&self, change: impl FnOnce(&mut Assignment)) -> u64 {
        self.assignment.send_modify(|now| {
            change(now);
            now.number += 1;
        });
        self.assignment.borrow().number
    }

    /// Waits until nothing is done any more on what the assignment `number` took away.
    fn wait_settled(&self, number: u64) {
        let begun = Instant::now();
        let settled = self.settled();
        let unsettled = |settled: &mut Settled| settled.number < number && !settled.leaving;
        let waited = self.told.wait_timeout_while(settled, SETTLE_MAX, unsettled);
        // as `lock` does: who waits takes the lock again
        let (settled, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(settled);
        if waited.timed_out() {
            // whoever goes on with it does no harm: see the port
            tracing::warn!(topic = %self.topic, "work on partitions that were taken away has not ended in {:?}", begun.elapsed());
        }
    }

    /// The partitions of the topic in a list.
    fn numbers(&self, list: &TopicPartitionList) -> BTreeSet<u32> {
        let all = list.elements();
        let ours = all.iter().filter(|found| found.topic() == self.topic.as_str());
        ours.filter_map(|found| u32::try_from(found.partition()).ok()).collect()
    }

    fn assigned(&self, consumer: &BaseConsumer<Context>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        // nothing is read: so no position is asked for
        list.set_all_offsets(Offset::End)?;
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Eager => consumer.assign(list)?,
            RebalanceProtocol::None | RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
        }
        consumer.pause(list)?;
        let new = self.numbers(list);
        let number = self.change(|now| {
            let mut all = new;
            if let Partitions::Only(these) = &now.partitions {
                all.extend(these);
            }
            (now.joined, now.partitions, now.trouble) = (true, Partitions::Only(all), None);
        });
        tracing::info!(topic = %self.topic, number, partitions = ?self.assignment.borrow().partitions, "partitions were assigned");
        Ok(())
    }

    fn revoked(&self, consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
        let (gone, lost) = (self.numbers(list), consumer.assignment_lost());
        let number = self.change(|now| {
            if let Partitions::Only(these) = &mut now.partitions {
                these.retain(|partition| !gone.contains(partition));
            }
            now.joined = !lost;
        });
        tracing::info!(topic = %self.topic, number, ?gone, lost, "partitions were taken away");
        if !lost {
            self.wait_settled(number);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Eager => consumer.unassign(),
            RebalanceProtocol::None | RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("group", &self.group).field("topic", &self.place.topic).finish_non_exhaustive()
    }
}

/// What the consumer tells on the way.
struct Context {
    place: Arc<Place>,
    events: Events,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.events.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.error(error, reason);
        self.place.note(reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.place.assigned(consumer, list),
            _ => self.place.revoked(consumer, list),
        };
        if let Err(error) = done {
            let (topic, shown) = (&self.place.topic, chain(&error));
            tracing::warn!(%topic, error = %shown, "partitions could not be handed over as they should");
            self.place.note(&shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Arc<Place> {
        let none = Assignment { number: 0, joined: false, partitions: Partitions::none(), trouble: None };
        Arc::new(Place {
            topic: TopicName::new("t").expect("a legal name"),
            assignment: watch::Sender::new(none),
            settled: Mutex::default(),
            told: Condvar::new(),
        })
    }

    #[test]
    fn what_is_taken_away_waits_for_whoever_works_on_it() {
        let place = place();
        let number = place.change(|now| now.joined = true);
        let (waiting, (told, done)) = (Arc::clone(&place), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            waiting.wait_settled(number);
            told.send(()).expect("somebody waits");
        });
        assert!(done.recv_timeout(Duration::from_millis(50)).is_err(), "nobody has settled it");
        place.settled().number = number;
        place.told.notify_all();
        done.recv_timeout(SETTLE_MAX).expect("it is settled");
        thread.join().expect("no panic");
        place.go();
        place.wait_settled(number + 1);
        assert!(place.is_leaving());
    }

    #[test]
    fn trouble_is_told_and_wakes_nobody() {
        let place = place();
        let mut seen = place.assignment.subscribe();
        place.note("no broker");
        assert!(!seen.has_changed().expect("it is there"));
        assert_eq!(seen.borrow_and_update().trouble.as_deref(), Some("no broker"));
    }
}
