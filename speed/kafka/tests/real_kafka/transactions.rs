//! Producers with transactions: what they abort is never seen, and what they have not decided not yet.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidemark_shared::log::{Log, Position, ReadLimits, Topic};

use super::support::{ALL, append, client, open, read_on, topic, values};

const STEP: Duration = Duration::from_secs(30);

struct Transactions {
    producer: BaseProducer,
    topic: Topic,
}

impl Transactions {
    fn new(topic: &Topic) -> Self {
        let mut config = client();
        let producer: BaseProducer = config.set("transactional.id", topic.name.as_str()).create().expect("a producer");
        producer.init_transactions(STEP).expect("init");
        Self { producer, topic: topic.clone() }
    }

    /// Sends values in a transaction that stays open.
    fn begin(&self, values: &[&str]) {
        self.producer.begin_transaction().expect("begin");
        for value in values {
            let record: BaseRecord<'_, (), str> = BaseRecord::to(self.topic.name.as_str()).payload(*value).partition(0);
            self.producer.send(record).map_err(|(error, _)| error).expect("send");
        }
        self.producer.flush(STEP).expect("flush");
    }

    fn commit(&self) {
        self.producer.commit_transaction(STEP).expect("commit");
    }

    fn abort(&self) {
        self.producer.abort_transaction(STEP).expect("abort");
    }
}

/// Waits until the log ends there: marks come a moment after the transaction.
async fn until_end(log: &std::sync::Arc<dyn Log>, topic: &Topic, end: u64) {
    let beyond = [Position { partition: 0, offset: end - 1 }];
    assert!(log.wait(topic, &beyond, STEP).await.expect("wait"), "the log did not come to {end}");
    assert_eq!(log.bounds(topic).await.expect("bounds")[0].end, end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_aborted_records_are_read_past() {
    let log = open();
    let topic = topic(&log, "aborted", 1).await;
    let others = Transactions::new(&topic);
    others.begin(&["c0", "c1"]);
    others.commit();
    others.begin(&["a0", "a1", "a2"]);
    others.abort();
    others.begin(&["c2"]);
    others.commit();
    // three transactions have a mark each
    until_end(&log, &topic, 9).await;
    let (read, end) = read_on(&log, &topic, 0).await;
    assert_eq!((values(&read), end), (vec!["c0".to_owned(), "c1".to_owned(), "c2".to_owned()], 9));
    assert_eq!(read.iter().map(|read| read.offset).collect::<Vec<_>>(), [0, 1, 7]);
    // one by one, and from every offset, also those that no record has
    for from in 0..9 {
        let expected: Vec<u64> = [0, 1, 7].into_iter().filter(|offset| *offset >= from).collect();
        let (mut at, mut found) = (from, Vec::new());
        while at < 9 {
            let one = ReadLimits { records_max: 1, ..ALL };
            let fetched = log.read(&topic, 0, at, one).await.unwrap();
            assert!(fetched.next > at, "a read at {at} did not get on");
            found.extend(fetched.records.iter().map(|read| read.offset));
            at = fetched.next;
        }
        assert_eq!(found, expected, "from {from}");
    }
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_a_tail_without_records_is_read_past_by_who_stands_there() {
    let log = open();
    let topic = topic(&log, "tail", 1).await;
    append(&log, &topic, &["x"]).await;
    assert_eq!(read_on(&log, &topic, 0).await.1, 1);
    let others = Transactions::new(&topic);
    others.begin(&["a0", "a1"]);
    assert!(!log.wait(&topic, &[Position { partition: 0, offset: 1 }], Duration::from_millis(300)).await.unwrap());
    others.abort();
    until_end(&log, &topic, 4).await;
    let (read, end) = read_on(&log, &topic, 1).await;
    assert_eq!((read.len(), end), (0, 4));
    append(&log, &topic, &["y"]).await;
    assert_eq!(values(&read_on(&log, &topic, 4).await.0), ["y"]);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_nothing_above_an_open_transaction_is_shown() {
    let log = open();
    let topic = topic(&log, "open", 1).await;
    let others = Transactions::new(&topic);
    append(&log, &topic, &["before"]).await;
    others.begin(&["undecided"]);
    assert_eq!(append(&log, &topic, &["after"]).await, [2], "it is acknowledged all the same");
    let bounds = log.bounds(&topic).await.unwrap()[0];
    assert_eq!((bounds.start, bounds.end), (0, 1), "the end is above what is not decided");
    assert_eq!(values(&read_on(&log, &topic, 0).await.0), ["before"]);
    others.commit();
    until_end(&log, &topic, 4).await;
    assert_eq!(values(&read_on(&log, &topic, 1).await.0), ["undecided", "after"]);
    log.close().await.unwrap();
}
