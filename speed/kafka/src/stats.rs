//! What librdkafka counts of its clients, added up by what the clients are for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::Statistics;
use tidemark_shared::lock;

/// What clients are for. The one that asks for topics is of no kind, and told of by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKind {
    /// They read records, or ask where partitions begin and end.
    Reader,
    /// They take part in groups, and read nothing.
    Member,
    /// They append.
    Producer,
}

impl ClientKind {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Producer => "producer",
        }
    }
}

/// What all clients of a kind have together, as each of them told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientStats {
    /// Brokers, by their addresses, that some client is connected to.
    pub brokers_up: u64,
    /// Records that wait to be sent, or for the broker's word on them.
    pub queued_records: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Bytes of records that have come and wait for their reader.
    pub fetched_bytes: u64,
    /// Time from a request to its answer, on average since each client told before; `None` if nothing was answered. A request
    /// for records is answered when there are some, or after `fetch.wait.max.ms`.
    pub round_trip: Option<Duration>,
    /// Requests that could not be sent, since the log was opened.
    pub send_errors: u64,
    /// Answers that could not be received, since the log was opened.
    pub receive_errors: u64,
    /// Requests that were sent once more, since the log was opened.
    pub retries: u64,
}

/// Is told what librdkafka counts: `statistics.interval.ms` says how often, 15 seconds if nobody sets it.
pub trait Stats: fmt::Debug + Send + Sync {
    /// A client of the kind has told what it counts, or is gone. Called by the threads that serve clients: it must be quick.
    fn heard(&self, clients: ClientKind, together: ClientStats);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStats;

impl Stats for NoStats {
    fn heard(&self, _: ClientKind, _: ClientStats) {}
}

/// Adds up what clients tell.
pub(crate) struct Tally {
    stats: Arc<dyn Stats>,
    kinds: Mutex<BTreeMap<ClientKind, OfKind>>,
    numbers: AtomicU64,
}

impl Tally {
    pub(crate) fn new(stats: Arc<dyn Stats>) -> Self {
        Self { stats, kinds: Mutex::default(), numbers: AtomicU64::new(0) }
    }

    /// For one more client.
    pub(crate) fn client(self: &Arc<Self>, kind: ClientKind) -> Told {
        Told { tally: Arc::clone(self), kind, number: self.numbers.fetch_add(1, Ordering::Relaxed) }
    }

    fn change(&self, kind: ClientKind, change: impl FnOnce(&mut OfKind) -> bool) {
        let mut kinds = lock(&self.kinds);
        let of_kind = kinds.entry(kind).or_default();
        if change(of_kind) {
            // under the lock, so that nobody is told an older state last
            self.stats.heard(kind, of_kind.together());
        }
    }
}

/// Takes what one client tells; when it is dropped, the client is gone.
pub(crate) struct Told {
    tally: Arc<Tally>,
    kind: ClientKind,
    number: u64,
}

impl Told {
    pub(crate) fn tell(&self, statistics: &Statistics) {
        let figures = Figures::of(statistics);
        self.tally.change(self.kind, |of_kind| {
            of_kind.take(self.number, figures);
            true
        });
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tally.change(self.kind, |of_kind| of_kind.clients.remove(&self.number).is_some());
    }
}

/// What only grows as long as a client knows a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    send_errors: u64,
    receive_errors: u64,
    retries: u64,
}

/// What one client told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Figures {
    brokers: BTreeSet<String>,
    queued_records: u64,
    queued_bytes: u64,
    fetched_bytes: u64,
    round_trips: u64,
    round_trips_us: u64,
    counts: Counts,
}

impl Figures {
    fn of(told: &Statistics) -> Self {
        let mut figures = Self { queued_records: told.msg_cnt, queued_bytes: told.msg_size, ..Self::default() };
        for broker in told.brokers.values() {
            // a coordinator is a broker of its own here until its address is known
            if matches!(broker.state.as_str(), "UP" | "REAUTH") && !broker.nodename.is_empty() {
                figures.brokers.insert(broker.nodename.clone());
            }
            if let Some(round_trips) = &broker.rtt {
                figures.round_trips += u64::try_from(round_trips.cnt).unwrap_or(0);
                figures.round_trips_us += u64::try_from(round_trips.sum).unwrap_or(0);
            }
            figures.counts.send_errors += broker.txerrs;
            figures.counts.receive_errors += broker.rxerrs;
            figures.counts.retries += broker.txretries;
        }
        let partitions = told.topics.values().flat_map(|topic| topic.partitions.values());
        figures.fetched_bytes = partitions.map(|partition| partition.fetchq_size).sum();
        figures
    }
}

/// The clients of a kind.
#[derive(Debug, Default)]
struct OfKind {
    clients: BTreeMap<u64, Figures>,
    /// Of all that there ever were.
    counts: Counts,
}

impl OfKind {
    fn take(&mut self, number: u64, figures: Figures) {
        let before = self.clients.get(&number).map_or(Counts::default(), |before| before.counts);
        // a client that forgets a broker forgets what it counted of it
        let now = figures.counts;
        self.counts.send_errors += now.send_errors.saturating_sub(before.send_errors);
        self.counts.receive_errors += now.receive_errors.saturating_sub(before.receive_errors);
        self.counts.retries += now.retries.saturating_sub(before.retries);
        self.clients.insert(number, figures);
    }

    fn together(&self) -> ClientStats {
        let sum = |of: fn(&Figures) -> u64| self.clients.values().map(of).sum::<u64>();
        let brokers: BTreeSet<&String> = self.clients.values().flat_map(|client| &client.brokers).collect();
        let round_trip_us = sum(|client| client.round_trips_us).checked_div(sum(|client| client.round_trips));
        ClientStats {
            brokers_up: brokers.len() as u64,
            queued_records: sum(|client| client.queued_records),
            queued_bytes: sum(|client| client.queued_bytes),
            fetched_bytes: sum(|client| client.fetched_bytes),
            round_trip: round_trip_us.map(Duration::from_micros),
            send_errors: self.counts.send_errors,
            receive_errors: self.counts.receive_errors,
            retries: self.counts.retries,
        }
    }
}

#[cfg(test)]
mod tests;
