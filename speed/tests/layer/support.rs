//! A log, a store that can fail, views and a dataset, all small, made of what `parts` has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::dataset::{Definition, Sources, parse};
use tidemark_shared::live::{LiveBatch, LiveError, LiveLayer, LiveView, ViewId};
use tidemark_shared::log::{Log, Record, Routed, Topic, TopicName};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::segment::Archive;
use tidemark_shared::store::Store;
use tidemark_testing::contract::log::SteppedClock;
use tidemark_testing::faulty::{Faulty, Rule};

use super::parts;

pub(crate) struct World {
    pub(crate) clock: Arc<SteppedClock>,
    pub(crate) log: Arc<parts::TestLog>,
    pub(crate) topic: Topic,
    pub(crate) store: Store,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn new(partitions: u32) -> Self {
        let clock = Arc::new(parts::clock());
        let log = Arc::new(parts::log(Arc::clone(&clock) as Arc<dyn Ambient>));
        let topic = log.create_topic(&TopicName::new("orders").unwrap(), partitions).await.unwrap();
        let folder = TempDir::new().unwrap();
        let store = parts::store(folder.path()).await;
        Self { clock, log, topic, store, _folder: folder }
    }

    pub(crate) fn ambient(&self) -> Arc<dyn Ambient> {
        Arc::clone(&self.clock) as Arc<dyn Ambient>
    }

    pub(crate) fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log) as Arc<dyn Log>
    }

    /// Views, of which there are none yet.
    pub(crate) fn live(&self) -> Arc<dyn LiveView> {
        parts::live()
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
        self.append(partition, numbers).await;
    }

    /// Appends orders with these numbers to a partition.
    pub(crate) async fn append(&self, partition: u32, numbers: impl Iterator<Item = u64>) {
        let now = self.clock.now().timestamp_millis();
        let record = |number| Record { value: Some(order(number)), timestamp_ms: now, ..Record::default() };
        let records = numbers.map(|number| Routed { partition, record: record(number) }).collect();
        self.log.append(&self.topic, records, None).await.unwrap();
    }

    /// Where the log ends.
    pub(crate) async fn ends(&self) -> Coverage {
        let bounds = self.log.bounds(&self.topic).await.unwrap();
        (0..).zip(bounds).map(|(partition, bounds)| (name(partition), bounds.end)).collect()
    }

    /// Moves a partition's end on by `count` offsets that no record has.
    pub(crate) async fn skip(&self, partition: u32, count: u64) {
        parts::skip(&self.log, &self.topic, partition, count).await;
    }
}

/// Views that take note of how many partitions each opening names, and may take the first batch in no form.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn LiveView>,
    opened: Mutex<Vec<usize>>,
    refuses: AtomicBool,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn LiveView>) -> Self {
        Self { inner, opened: Mutex::default(), refuses: AtomicBool::new(false) }
    }

    /// Takes the first batch in no form, and every one after it.
    pub(crate) fn refusing_once(inner: Arc<dyn LiveView>) -> Self {
        Self { refuses: AtomicBool::new(true), ..Self::new(inner) }
    }

    /// How many partitions each opening named.
    pub(crate) fn opened(&self) -> Vec<usize> {
        self.opened.lock().unwrap().clone()
    }
}

#[async_trait]
impl LiveLayer for Watched {
    fn inner(&self) -> &Arc<dyn LiveView> {
        &self.inner
    }

    async fn open(&self, view: &ViewId, schema: &SchemaRef, floors: &Coverage) -> Result<(), LiveError> {
        self.opened.lock().unwrap().push(floors.iter().count());
        self.inner.open(view, schema, floors).await
    }

    async fn apply(&self, view: &ViewId, batch: LiveBatch) -> Result<(), LiveError> {
        if self.refuses.swap(false, Ordering::Relaxed) {
            let (view, partition, reason) = (view.clone(), batch.partition, "it is the first".to_owned());
            return Err(LiveError::Refused { view, partition, offset: batch.range.start, reason });
        }
        self.inner.apply(view, batch).await
    }
}

/// Waits for what is bound to come.
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    let look = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.expect("it did not come");
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
