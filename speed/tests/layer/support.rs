//! A log, a store that can fail, a view and a dataset, all small.

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::dataset::{Definition, Sources, parse};
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{Log, Record, Routed, Topic, TopicName};
use tidemark_shared::position::LogPartition;
use tidemark_shared::segment::Archive;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_testing::contract::log::SteppedClock;
use tidemark_testing::faulty::{Faulty, Rule};

pub(crate) struct World {
    pub(crate) clock: Arc<SteppedClock>,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) topic: Topic,
    pub(crate) store: Store,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new(partitions: u32) -> Self {
        let clock = Arc::new(SteppedClock::default());
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock) as Arc<dyn Ambient>));
        let topic = log.create_topic(&TopicName::new("orders").unwrap(), partitions).await.unwrap();
        let folder = TempDir::new().unwrap();
        let store = Store::local(folder.path(), IfMissing::Create).unwrap();
        Self { clock, log, topic, store, folder }
    }

    pub(crate) fn ambient(&self) -> Arc<dyn Ambient> {
        Arc::clone(&self.clock) as Arc<dyn Ambient>
    }

    pub(crate) fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as Arc<dyn Log>
    }

    pub(crate) fn archive(&self) -> Archive {
        Archive::new(self.store.clone(), "orders")
    }

    /// The archive behind a store with these faults.
    pub(crate) fn faulty_archive(&self, rules: Vec<Rule>) -> (Archive, Faulty) {
        let mut faults = None;
        let store = self.store.decorated(|inner| {
            let faulty = Faulty::new(inner, rules);
            faults = Some(faulty.clone());
            faulty.store()
        });
        (Archive::new(store, "orders"), faults.unwrap())
    }

    /// Appends orders number `from` to `to` (exclusive) to a partition.
    pub(crate) async fn produce(&self, partition: u32, numbers: std::ops::Range<u64>) {
        let now = self.clock.now().timestamp_millis();
        let record = |number| Record { value: Some(order(number)), timestamp_ms: now, ..Record::default() };
        let records = numbers.map(|number| Routed { partition, record: record(number) }).collect();
        self.log.append(&self.topic, records, None).await.unwrap();
    }
}

pub(crate) fn name(partition: u32) -> LogPartition {
    format!("orders/{partition}").parse().unwrap()
}

/// Order number 3, 13, … is a reject of the decoder, 4, 14, … of a rule, 5, 15, … filtered.
pub(crate) fn order(number: u64) -> Bytes {
    let cents = match number % 10 {
        3 => "\"many\"".to_owned(),
        4 => "-1".to_owned(),
        5 => "0".to_owned(),
        _ => (number * 100 + 1).to_string(),
    };
    Bytes::from(format!(r#"{{"id": "order-{number}", "cents": {cents}, "customer": "a customer with a long name"}}"#))
}

pub(crate) fn definition() -> Definition {
    let toml = r#"
name = "orders"
columns = [
    { name = "id", type = "string", required = true },
    { name = "cents", type = "int64", required = true },
    { name = "customer", type = "string" },
]

[stream]
format = "json"

[[reject]]
name = "negative"
when = "cents < 0"
"#;
    let sql = "SELECT id, cents, upper(customer) AS customer FROM input WHERE cents <> 0";
    let sources: Sources =
        [("dataset.toml".to_owned(), toml.to_owned()), ("transform.sql".to_owned(), sql.to_owned())].into();
    parse(&sources).unwrap_or_else(|error| panic!("{error}"))
}
