use std::collections::HashMap;

use rdkafka::statistics::{Broker, Partition, Topic, Window};

use super::*;

/// A broker that was asked twice, 3 ms in all.
fn broker(nodename: &str, state: &str) -> Broker {
    Broker {
        nodename: nodename.to_owned(),
        state: state.to_owned(),
        txerrs: 1,
        rxerrs: 2,
        txretries: 3,
        rtt: Some(Window { cnt: 2, sum: 3_000, ..Window::default() }),
        ..Broker::default()
    }
}

fn told(brokers: &[Broker]) -> Statistics {
    let named = |(at, broker): (usize, &Broker)| (at.to_string(), broker.clone());
    let partition = |fetchq_size| Partition { fetchq_size, ..Partition::default() };
    let topic = |partitions| Topic { partitions, ..Topic::default() };
    let topics = [
        ("a".to_owned(), topic(HashMap::from([(0, partition(10)), (1, partition(20))]))),
        ("b".to_owned(), topic(HashMap::from([(0, partition(300))]))),
    ];
    Statistics {
        msg_cnt: 5,
        msg_size: 700,
        brokers: brokers.iter().enumerate().map(named).collect(),
        topics: topics.into(),
        ..Statistics::default()
    }
}

/// Keeps what it was told last.
#[derive(Debug, Default)]
struct Last(Mutex<BTreeMap<ClientKind, ClientStats>>);

impl Last {
    fn of(&self, kind: ClientKind) -> Option<ClientStats> {
        lock(&self.0).get(&kind).copied()
    }
}

impl Stats for Last {
    fn heard(&self, clients: ClientKind, together: ClientStats) {
        lock(&self.0).insert(clients, together);
    }
}

fn tally() -> (Arc<Last>, Arc<Tally>) {
    let last = Arc::new(Last::default());
    let stats = Arc::clone(&last);
    (last, Arc::new(Tally::new(stats)))
}

#[test]
fn what_a_client_tells_becomes_figures() {
    // the second is met twice, as itself and as a coordinator; the last coordinator is not known yet
    let brokers =
        [broker("a:1", "UP"), broker("b:1", "REAUTH"), broker("b:1", "UP"), broker("c:1", "DOWN"), broker("", "UP")];
    let (last, tally) = tally();
    let client = tally.client(ClientKind::Reader);
    assert_eq!(last.of(ClientKind::Reader), None);
    client.tell(&told(&brokers));
    let wanted = ClientStats {
        brokers_up: 2,
        queued_records: 5,
        queued_bytes: 700,
        fetched_bytes: 330,
        round_trip: Some(Duration::from_micros(1_500)),
        send_errors: 5,
        receive_errors: 10,
        retries: 15,
    };
    assert_eq!(last.of(ClientKind::Reader), Some(wanted));
    assert_eq!(last.of(ClientKind::Producer), None);
    client.tell(&Statistics::default());
    let counts = ClientStats { send_errors: 5, receive_errors: 10, retries: 15, ..ClientStats::default() };
    assert_eq!(last.of(ClientKind::Reader), Some(counts), "no broker, no request, and counts that do not go back");
}

#[test]
fn clients_of_a_kind_are_told_of_together() {
    let (last, tally) = tally();
    let (first, second) = (tally.client(ClientKind::Producer), tally.client(ClientKind::Producer));
    first.tell(&told(&[broker("a:1", "UP")]));
    second.tell(&told(&[broker("a:1", "UP"), broker("b:1", "UP")]));
    first.tell(&told(&[broker("a:1", "UP"), broker("c:1", "DOWN")]));
    let both = last.of(ClientKind::Producer).expect("it was told");
    assert_eq!((both.brokers_up, both.queued_records, both.queued_bytes, both.fetched_bytes), (2, 10, 1_400, 660));
    assert_eq!((both.send_errors, both.receive_errors, both.retries), (4, 8, 12));
    drop(second);
    let one = last.of(ClientKind::Producer).expect("it was told");
    assert_eq!((one.brokers_up, one.queued_records), (1, 5));
    assert_eq!((one.send_errors, one.receive_errors, one.retries), (4, 8, 12), "what was counted stays");
    drop(first);
    let none = last.of(ClientKind::Producer).expect("it was told");
    assert_eq!((none.brokers_up, none.queued_bytes, none.round_trip, none.retries), (0, 0, None, 12));
}

#[test]
fn names_are_each_ones_own() {
    let names: BTreeSet<&str> =
        [ClientKind::Reader, ClientKind::Member, ClientKind::Producer].map(ClientKind::name).into();
    assert_eq!(names.len(), 3);
}
