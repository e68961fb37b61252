//! Who reads partitions. A reader stands at an offset, and the broker sends it what comes next before anybody asks. Archiver
//! and indexers read a partition at places of their own, so that a partition has a few readers; one goes on with whoever asks
//! for the offset at which it stands, and moves only if none does.
//!
//! A client of librdkafka has one reader of a partition: the readers of a partition are spread over so many clients, the
//! *lanes*, and a lane serves all partitions. So the number of connections and threads does not grow with partitions.
//!
//! A topic that was made again is read by clients that have not met its old incarnation: librdkafka holds a leader for outdated
//! whose epoch is below the highest that it has seen under the topic's name, and epochs begin anew with a topic.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;
use tidemark_shared::log::{Bounds, Fetched, LogError, OffsetRecord, ReadLimits, Topic, TopicId, TopicName};
use tokio::sync::Notify;

use crate::clients::{Clients, Events, thread};
use crate::native::{PartitionStream, Taken};
use crate::patience::Patience;

/// Most readers of a partition: an archiver, indexers of two generations, and whoever looks at single records.
const LANES_MAX: usize = 5;
/// Of those, so many may wait for more: one is always left for who reads.
const WAITERS_MAX: usize = LANES_MAX - 1;
/// A reader that nobody used for so long is let go, with what waits for it.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// How often that is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(20);
/// Most that is taken from a client's queue at once.
const TAKE_MAX: usize = 1_000;

/// A partition of a topic, whatever its incarnation.
type Spot = (TopicName, u32);

/// All readers.
pub(crate) struct Readers {
    clients: Arc<Clients>,
    state: Mutex<State>,
    returned: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    lanes: Vec<Arc<BaseConsumer<Events>>>,
    spots: HashMap<Spot, AtSpot>,
    /// The incarnations that the lanes' clients have met.
    met: HashMap<TopicName, TopicId>,
    swept: Option<Instant>,
}

/// What takes a moment to drop: readers, before the clients that they are of.
type Gone = (Vec<Reader>, Vec<Arc<BaseConsumer<Events>>>);

#[derive(Default)]
struct AtSpot {
    /// Lanes whose reader is made, at work or not.
    taken: BTreeSet<usize>,
    idle: Vec<Reader>,
    /// How many of those at work wait for more.
    waiting: usize,
}

impl Readers {
    pub(crate) fn new(clients: Arc<Clients>) -> Self {
        Self { clients, state: Mutex::default(), returned: Notify::new() }
    }

    /// A reader of the partition, best one that stands at `from`; waits while all are at work.
    ///
    /// # Errors
    /// [`LogError::Closed`], [`LogError::Invalid`] if librdkafka does not take the settings.
    pub(crate) async fn checkout(&self, topic: &Topic, partition: u32, from: u64) -> Result<Held<'_>, LogError> {
        let spot = (topic.name.clone(), partition);
        loop {
            let returned = self.returned.notified();
            let (found, gone) = {
                let mut state = self.open()?;
                let gone = renew(&mut state, topic);
                (self.try_checkout(&mut state, &spot, &topic.id, from)?, gone)
            };
            let_go(gone);
            if let Some(reader) = found {
                return Ok(Held { readers: self, spot, reader: Some(reader), waits: false });
            }
            returned.await;
        }
    }

    /// A reader for one who waits for more beyond `from`, if there is one to spare.
    ///
    /// # Errors
    /// As of [`Self::checkout`].
    pub(crate) fn spare(&self, topic: &Topic, partition: u32, from: u64) -> Result<Option<Held<'_>>, LogError> {
        let spot = (topic.name.clone(), partition);
        let (reader, gone) = {
            let mut state = self.open()?;
            let gone = renew(&mut state, topic);
            if state.spots.entry(spot.clone()).or_default().waiting >= WAITERS_MAX {
                (None, gone)
            } else {
                let found = self.try_checkout(&mut state, &spot, &topic.id, from)?;
                state.spots.entry(spot.clone()).or_default().waiting += usize::from(found.is_some());
                (found, gone)
            }
        };
        let_go(gone);
        let Some(reader) = reader else { return Ok(None) };
        Ok(Some(Held { readers: self, spot, reader: Some(reader), waits: true }))
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, LogError> {
        let state = self.state();
        if state.closed { Err(LogError::Closed) } else { Ok(state) }
    }

    fn try_checkout(
        &self,
        state: &mut State,
        spot: &Spot,
        id: &TopicId,
        from: u64,
    ) -> Result<Option<Reader>, LogError> {
        let at = state.spots.entry(spot.clone()).or_default();
        if let Some(found) = at.idle.iter().position(|reader| reader.stands_at(id, from)) {
            return Ok(Some(at.idle.swap_remove(found)));
        }
        if at.taken.len() >= LANES_MAX {
            // the one that was not used for longest
            let found = (0..at.idle.len()).min_by_key(|found| at.idle[*found].used);
            return Ok(found.map(|found| at.idle.swap_remove(found)));
        }
        let lane = (0..LANES_MAX).find(|lane| !at.taken.contains(lane)).expect("fewer than all are taken");
        at.taken.insert(lane);
        match self.lane(state, lane) {
            Ok(consumer) => Ok(Some(Reader::new(lane, consumer, id.clone()))),
            Err(error) => {
                state.spots.entry(spot.clone()).or_default().taken.remove(&lane);
                Err(error)
            }
        }
    }

    fn lane(&self, state: &mut State, lane: usize) -> Result<Arc<BaseConsumer<Events>>, LogError> {
        while state.lanes.len() <= lane {
            state.lanes.push(self.clients.reader()?);
        }
        Ok(Arc::clone(&state.lanes[lane]))
    }

    fn give_back(&self, spot: &Spot, mut reader: Reader, waits: bool) {
        reader.used = Instant::now();
        let (mut gone, mut outdated, mut idle) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut state = self.state();
            let is_outdated = state.met.get(&spot.0).is_some_and(|met| *met != reader.id);
            if state.closed {
                gone.push(reader);
            } else {
                let at = state.spots.entry(spot.clone()).or_default();
                at.waiting -= usize::from(waits);
                if is_outdated {
                    at.taken.remove(&reader.lane);
                    outdated.push(reader);
                } else {
                    at.idle.push(reader);
                }
                if state.swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
                    state.swept = Some(Instant::now());
                    idle = sweep(&mut state, IDLE_MAX);
                }
            }
        }
        // to stop a reader takes a moment
        drop(gone);
        self.stop(idle);
        let_go((outdated, Vec::new()));
        self.returned.notify_waiters();
    }

    /// Stops readers, and then frees their lanes: a stop ends what the client fetches of the partition, and would end it for a
    /// reader that came to the lane meanwhile.
    fn stop(&self, idle: Vec<(Spot, Reader)>) {
        if idle.is_empty() {
            return;
        }
        let lanes: Vec<(Spot, usize)> = idle.iter().map(|(spot, reader)| (spot.clone(), reader.lane)).collect();
        drop(idle);
        let mut state = self.state();
        for (spot, lane) in lanes {
            let Some(at) = state.spots.get_mut(&spot) else { continue };
            at.taken.remove(&lane);
            if at.taken.is_empty() {
                state.spots.remove(&spot);
            }
        }
    }

    /// Records below `start` have gone: idle readers that stand there are of no use.
    pub(crate) fn retained(&self, topic: &Topic, partition: u32, start: u64) {
        if let Some(at) = self.state().spots.get_mut(&(topic.name.clone(), partition)) {
            for reader in at.idle.iter_mut().filter(|reader| reader.next < start) {
                reader.reset();
            }
        }
    }

    /// Lets no more readers out, and hands over what there is, which takes a moment to drop. Those at work follow when they are
    /// given back.
    pub(crate) fn take_all(&self) -> impl Send + 'static {
        let all = {
            let mut state = self.state();
            state.closed = true;
            // readers before the clients that they are of
            (std::mem::take(&mut state.spots), std::mem::take(&mut state.lanes))
        };
        self.returned.notify_waiters();
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // a panic inside leaves at most a reader too few
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees that a topic's readers are of clients that know this incarnation and none before it. Readers at work on an earlier one
/// keep their clients, and go when they are given back.
fn renew(state: &mut State, topic: &Topic) -> Gone {
    let before = state.met.insert(topic.name.clone(), topic.id.clone());
    if before.is_none_or(|before| before == topic.id) {
        return Gone::default();
    }
    let mut readers = Vec::new();
    for (_, at) in state.spots.iter_mut().filter(|((name, _), _)| *name == topic.name) {
        for reader in at.idle.drain(..) {
            at.taken.remove(&reader.lane);
            readers.push(reader);
        }
    }
    (readers, std::mem::take(&mut state.lanes))
}

/// Drops readers that may be the last of their client, whose end takes longer, on a thread of its own; here, if there is none.
fn let_go(gone: Gone) {
    if !gone.0.is_empty() || !gone.1.is_empty() {
        let mut gone = Some(gone);
        drop(thread("kafka-gone", move || drop(gone.take())));
    }
}

/// Takes out those that nobody used for so long. Their lanes are theirs until they have stopped.
fn sweep(state: &mut State, idle_max: Duration) -> Vec<(Spot, Reader)> {
    let mut idle = Vec::new();
    for (spot, at) in &mut state.spots {
        let (old, young) = at.idle.drain(..).partition(|reader| reader.used.elapsed() >= idle_max);
        at.idle = young;
        let old: Vec<Reader> = old;
        idle.extend(old.into_iter().map(|reader| (spot.clone(), reader)));
    }
    state.spots.retain(|_, at| !at.taken.is_empty());
    idle
}

/// A reader that somebody has; it goes back when it is dropped.
pub(crate) struct Held<'r> {
    readers: &'r Readers,
    spot: Spot,
    reader: Option<Reader>,
    waits: bool,
}

impl std::ops::Deref for Held<'_> {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self.reader.as_ref().expect("only dropping takes it")
    }
}

impl std::ops::DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("only dropping takes it")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.readers.give_back(&self.spot, reader, self.waits);
        }
    }
}

/// Reads one partition.
pub(crate) struct Reader {
    lane: usize,
    consumer: Arc<BaseConsumer<Events>>,
    id: TopicId,
    stream: Option<PartitionStream>,
    /// The offset from which it gives records.
    next: u64,
    /// What has come, of `[next, passed)`.
    records: VecDeque<OffsetRecord>,
    bytes: usize,
    /// The exclusive end of what was read past.
    passed: u64,
    /// As far as is known. Bounds move only up, so that each is a bound of what they are.
    bounds: Bounds,
    /// How long it is waited for more.
    patience: Patience,
    used: Instant,
}

impl Reader {
    fn new(lane: usize, consumer: Arc<BaseConsumer<Events>>, id: TopicId) -> Self {
        let (records, bounds, patience) = (VecDeque::new(), Bounds::default(), Patience::default());
        let (stream, used) = (None, Instant::now());
        Self { lane, consumer, id, stream, next: 0, records, bytes: 0, passed: 0, bounds, patience, used }
    }

    /// True if the next record that it gives is the first one from `from` on.
    pub(crate) fn stands_at(&self, id: &TopicId, from: u64) -> bool {
        self.stream.is_some() && self.id == *id && self.next == from
    }

    /// Moves to `from`, of a partition that has `bounds`. Where it stood there, it begins anew.
    pub(crate) fn seek(
        &mut self,
        topic: &Topic,
        partition: u32,
        from: u64,
        bounds: Bounds,
    ) -> Result<(), RDKafkaErrorCode> {
        self.reset();
        if self.id != topic.id || self.next != from {
            self.patience = Patience::default();
        }
        self.id = topic.id.clone();
        (self.next, self.passed, self.bounds) = (from, from, bounds);
        let stream = PartitionStream::start(Arc::clone(&self.consumer), topic.name.as_str(), partition, from)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Stands nowhere: what it had is of no use.
    pub(crate) fn reset(&mut self) {
        self.stream = None;
        self.records.clear();
        self.bytes = 0;
    }

    /// Takes in what has come, until that is enough for `limits`; true if there is anything to give.
    ///
    /// # Errors
    /// What the broker refuses.
    pub(crate) fn fill(&mut self, limits: ReadLimits) -> Result<bool, RDKafkaErrorCode> {
        while self.records.len() <= limits.records_max && self.bytes <= limits.bytes_max {
            let Some(stream) = &mut self.stream else { break };
            let taken = stream.take(TAKE_MAX.min(limits.records_max.max(1).saturating_sub(self.records.len()) + 1));
            if taken.is_empty() {
                break;
            }
            for taken in taken {
                match taken {
                    Taken::Record(read) if read.offset >= self.passed => {
                        self.passed = read.offset + 1;
                        self.bytes += read.record.bytes();
                        self.records.push_back(read);
                    }
                    // a batch begins below where it is read from
                    Taken::Record(_) => {}
                    Taken::End(end) => self.passed = self.passed.max(end),
                    Taken::Failed(code) => {
                        self.reset();
                        return Err(code);
                    }
                }
            }
        }
        self.bounds.end = self.bounds.end.max(self.passed);
        let has_some = self.passed > self.next;
        if has_some {
            self.patience = Patience::default();
        }
        Ok(has_some)
    }

    /// Nothing came for as long as a read waits: true if it is to begin anew where it stands.
    pub(crate) fn is_out_of_patience(&mut self) -> bool {
        self.patience.is_over()
    }

    /// Gives what it has, within `limits`.
    pub(crate) fn cut(&mut self, limits: ReadLimits) -> Fetched {
        let (mut count, mut bytes) = (0, 0);
        for read in self.records.iter().take(limits.records_max.max(1)) {
            let with_this = bytes + read.record.bytes();
            if count > 0 && with_this > limits.bytes_max {
                break;
            }
            (count, bytes) = (count + 1, with_this);
        }
        let records: Vec<OffsetRecord> = self.records.drain(..count).collect();
        self.bytes -= bytes;
        self.next = self.records.front().map_or(self.passed, |read| read.offset);
        Fetched { records, next: self.next, bounds: self.bounds }
    }

    /// True if more than it has may be there already.
    pub(crate) fn is_at_known_end(&self) -> bool {
        self.next >= self.bounds.end
    }

    /// The broker says that the partition reaches so far.
    pub(crate) fn heard_of_end(&mut self, end: u64) {
        self.bounds.end = self.bounds.end.max(end);
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Told when something comes while it has nothing.
    pub(crate) fn came(&self) -> Option<Arc<Notify>> {
        self.stream.as_ref().map(|stream| Arc::clone(stream.came()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::KafkaSettings;
    use crate::stats::NoStats;

    fn readers() -> Readers {
        // nobody listens there
        let settings = KafkaSettings { brokers: "127.0.0.1:1".to_owned(), ..KafkaSettings::default() };
        let clients = Clients::start(settings, Arc::new(NoStats)).expect("settings that go together");
        Readers::new(Arc::new(clients))
    }

    fn topic() -> Topic {
        Topic { name: TopicName::new("t").expect("a name"), id: TopicId::new("1"), partitions: 1 }
    }

    #[tokio::test]
    async fn who_reads_on_after_a_vain_wait_has_the_reader_that_waited() {
        let (readers, topic) = (readers(), topic());
        let mut first = readers.checkout(&topic, 0, 7).await.expect("it is open");
        first.seek(&topic, 0, 7, Bounds { start: 0, end: 9 }).expect("nobody is asked");
        assert!(!first.is_out_of_patience());
        let (lane, patience, came) = (first.lane, first.patience, first.came().expect("it stands there"));
        // whoever comes meanwhile has another one
        assert_ne!(readers.checkout(&topic, 0, 7).await.expect("it is open").lane, lane);
        drop(first);
        let again = readers.checkout(&topic, 0, 7).await.expect("it is open");
        assert!(again.stands_at(&topic.id, 7));
        assert_eq!((again.lane, again.patience), (lane, patience));
        assert!(Arc::ptr_eq(&again.came().expect("it stands there"), &came), "it has begun anew");
    }

    #[test]
    fn a_reader_that_begins_anew_where_it_stood_has_more_patience_and_elsewhere_it_has_not() {
        let (readers, topic) = (readers(), topic());
        let mut reader = readers.spare(&topic, 0, 7).expect("it is open").expect("all lanes are free");
        let mut seek = |from| {
            reader.seek(&topic, 0, from, Bounds { start: 0, end: 9 }).expect("nobody is asked");
            let vain = (1..=100).find(|_| reader.is_out_of_patience());
            vain.expect("it begins anew at last")
        };
        let first = seek(7);
        assert_eq!([seek(7), seek(7), seek(8)], [2 * first, 4 * first, first]);
    }

    #[test]
    fn a_lane_is_free_once_its_reader_has_stopped() {
        let (readers, topic) = (readers(), topic());
        drop(readers.spare(&topic, 0, 0).expect("it is open").expect("all lanes are free"));
        let spot: Spot = (topic.name.clone(), 0);
        let taken = || readers.state().spots.get(&spot).map(|at| at.taken.len());
        assert_eq!(sweep(&mut readers.state(), IDLE_MAX).len(), 0, "it was used just now");
        let idle = sweep(&mut readers.state(), Duration::ZERO);
        assert_eq!((idle.len(), taken()), (1, Some(1)), "another one could have what it is about to stop");
        readers.stop(idle);
        assert_eq!(taken(), None);
    }
}
