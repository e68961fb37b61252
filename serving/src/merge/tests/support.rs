//! A dataset, its log, a view of it and its curated tables, each moved by hand.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use deltalake::DeltaTable;
use deltalake::kernel::Transaction;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::SaveMode;
use tempfile::TempDir;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::curated::{CurrentGeneration, log_store, publish, transaction_id};
use tidemark_shared::dataset::{DATASET_FILE, TRANSFORM_FILE, registry};
use tidemark_shared::error::AnyError;
use tidemark_shared::live::{LiveBatch, LiveView, ViewId};
use tidemark_shared::log::{OffsetRecord, Record};
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::rows::StreamRows;
use tidemark_shared::sql::{Answer, Limits, NoCatalogTables, Query, SqlConfig, SqlEngine, SqlError, Wants};
use tidemark_shared::store::{IfMissing, Store};
use tokio::sync::watch;

use crate::merge::{ServedTables, SpeedStatus, VersionCache, Versions};
use crate::testing::{TestLive, TestVersions};

pub(crate) const PLAIN: &str = "";
pub(crate) const KEYED: &str = "[key]\ncolumns = [\"id\"]\nversion_by = \"v\"\ndelete_when = \"gone\"\n";

const TOML: &str = r#"name = "orders"
columns = [
    { name = "id", type = "string" },
    { name = "cents", type = "int64" },
    { name = "v", type = "int64" },
    { name = "gone", type = "bool" },
]
[stream]
format = "json"
partitions = 2
"#;
const SQL: &str = "SELECT id, cents, v, gone FROM input";

pub(crate) fn partition(number: u32) -> LogPartition {
    LogPartition { source: Source::topic("orders").expect("a name"), partition: number }
}

/// The ends of both partitions.
pub(crate) fn coverage(ends: [u64; 2]) -> Coverage {
    [(partition(0), ends[0]), (partition(1), ends[1])].into_iter().collect()
}

/// A clock that stands.
#[derive(Debug)]
struct Clock(Mutex<DateTime<Utc>>);

impl Ambient for Clock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("the clock")
    }

    fn unique_id(&self) -> String {
        "id".to_owned()
    }

    fn random(&self) -> u64 {
        0
    }
}

type Appended = (DateTime<Utc>, Bytes);

/// Both partitions' records with the time of each.
#[derive(Debug)]
struct TestLog {
    records: Mutex<[Vec<Appended>; 2]>,
    changes: watch::Sender<u64>,
}

#[async_trait]
impl SpeedStatus for TestLog {
    fn has_stream(&self, dataset: &str) -> bool {
        dataset == "orders"
    }

    async fn log_ends(&self, _: &str) -> Result<Coverage, AnyError> {
        let records = self.records.lock().expect("the log");
        Ok(coverage([records[0].len() as u64, records[1].len() as u64]))
    }

    async fn oldest_beyond(&self, _: &str, positions: &Coverage) -> Result<Option<DateTime<Utc>>, AnyError> {
        let records = self.records.lock().expect("the log");
        let first = |number: u32| Some(records[number as usize].get(positions.end(&partition(number)) as usize)?.0);
        Ok([0, 1].into_iter().filter_map(first).min())
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn lost(&self, _: &str) -> Result<BTreeMap<LogPartition, Vec<Range<u64>>>, AnyError> {
        Ok(BTreeMap::new())
    }
}

pub(crate) struct World {
    _folder: TempDir,
    store: Store,
    clock: Arc<Clock>,
    log: Arc<TestLog>,
    live: Arc<TestLive>,
    versions: Arc<TestVersions>,
    rows: StreamRows,
    definition: String,
    partition_columns: Vec<String>,
    covered: Mutex<BTreeMap<String, Coverage>>,
    served: ServedTables,
    engine: Arc<SqlEngine>,
}

impl World {
    /// The dataset with its first generation, `g1`: an empty table and an empty view.
    pub(crate) async fn new(key: &str) -> Self {
        Self::partitioned(key, &[]).await
    }

    /// The same with a table that is partitioned by `columns`.
    pub(crate) async fn partitioned(key: &str, columns: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("store")).expect("a folder in it");
        let store = Store::local(&folder.path().join("store"), IfMissing::Fail).expect("a store in it");
        let toml = format!("partition_columns = {columns:?}\n{TOML}{key}");
        let sources = [(DATASET_FILE, toml), (TRANSFORM_FILE, SQL.to_owned())];
        let sources = sources.map(|(name, text)| (name.to_owned(), text)).into();
        let applied = registry::apply(&store, &sources).await.expect("a valid definition");
        let definition = registry::latest(&store, "orders").await.expect("reads").expect("it is there").definition;
        let clock = Arc::new(Clock(Mutex::new(DateTime::UNIX_EPOCH)));
        let log = Arc::new(TestLog { records: Mutex::default(), changes: watch::Sender::new(0) });
        let live = Arc::new(TestLive::default());
        let versions = Arc::new(TestVersions::new(VersionCache::new(store.objects())));
        let served = ServedTables::new(
            store.clone(),
            Arc::clone(&versions) as Arc<dyn Versions>,
            Arc::clone(&live) as Arc<dyn LiveView>,
            Arc::clone(&log) as Arc<dyn SpeedStatus>,
            Arc::clone(&clock) as Arc<dyn Ambient>,
        );
        let served = served.with_wait_max(Duration::from_millis(500));
        let config =
            SqlConfig { threads: Some(2), memory_bytes_max: 64 << 20, spill_bytes_max: 0, ..SqlConfig::default() };
        let engine = SqlEngine::new(store.objects(), Arc::new(NoCatalogTables), config).expect("an engine");
        let world = Self {
            _folder: folder,
            store,
            clock,
            log,
            live,
            versions,
            rows: StreamRows::compile(&definition).expect("it compiles"),
            definition: applied.version.as_str().to_owned(),
            partition_columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            covered: Mutex::default(),
            engine: Arc::new(engine.with_datasets(Arc::new(served.clone()))),
            served,
        };
        world.commit("g1", vec![RecordBatch::new_empty(Arc::clone(world.rows.schema()))], &Coverage::new()).await;
        world.publish("g1", 0).await;
        world.open_view("g1", [0, 0]).await;
        world
    }

    pub(crate) fn engine(&self) -> Arc<SqlEngine> {
        Arc::clone(&self.engine)
    }

    pub(crate) fn served(&self) -> ServedTables {
        self.served.clone()
    }

    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    pub(crate) fn covered(&self, generation: &str) -> Coverage {
        self.covered.lock().expect("coverage").get(generation).cloned().unwrap_or_default()
    }

    /// Appends a record; returns its offset.
    pub(crate) fn produce(&self, number: u32, record: &str) -> u64 {
        let mut records = self.log.records.lock().expect("the log");
        let records = &mut records[number as usize];
        records.push((self.clock.now(), Bytes::copy_from_slice(record.as_bytes())));
        records.len() as u64 - 1
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        *self.clock.0.lock().expect("the clock") += TimeDelta::from_std(time).expect("a short time");
    }

    fn made(&self, number: u32, range: Range<u64>) -> Vec<RecordBatch> {
        let records = self.log.records.lock().expect("the log");
        let record = |offset: u64| {
            let value = Some(records[number as usize][offset as usize].1.clone());
            OffsetRecord { offset, record: Record { value, ..Record::default() } }
        };
        let records: Vec<_> = range.map(record).collect();
        let made = self.rows.make(&partition(number), &records).expect("rows");
        assert_eq!(made.rejects.len(), 0, "{:?}", made.rejects);
        made.batches
    }

    /// Brings a view up to the end of the log.
    pub(crate) async fn index(&self, generation: &str) {
        let view = ViewId { dataset: "orders".to_owned(), generation: generation.to_owned() };
        let ends = self.log.log_ends("orders").await.expect("ends");
        for number in [0, 1] {
            let pin = self.live.pin(&view).await.expect("a view").expect("it is open");
            let range = pin.ranges()[&partition(number)].visible..ends.end(&partition(number));
            let rows = self.made(number, range.clone());
            let batch = LiveBatch {
                partition: partition(number),
                range,
                rows,
                rejects: vec![],
                filtered: vec![],
                lost: vec![],
            };
            self.live.apply(&view, batch).await.expect("it is taken");
        }
        self.log.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) async fn open_view(&self, generation: &str, floors: [u64; 2]) {
        let view = ViewId { dataset: "orders".to_owned(), generation: generation.to_owned() };
        self.live.open(&view, self.schema(), &coverage(floors)).await.expect("opens");
    }

    pub(crate) async fn close_view(&self, generation: &str) {
        let view = ViewId { dataset: "orders".to_owned(), generation: generation.to_owned() };
        self.live.close(&view).await.expect("closes");
    }

    pub(crate) async fn drop_below(&self, generation: &str, floors: [u64; 2]) {
        let view = ViewId { dataset: "orders".to_owned(), generation: generation.to_owned() };
        self.live.drop_below(&view, &coverage(floors)).await.expect("drops");
    }

    /// The next question looks for a version before what is committed from here on.
    pub(crate) async fn look_before_commits(&self, generation: &str) {
        self.versions.hold("orders", &CurrentGeneration::new(generation, &self.definition, 1)).await;
    }

    /// Lets rows of the view that is pinned go, once `pins` more were taken.
    pub(crate) fn drop_after(&self, pins: usize, floors: [u64; 2]) {
        self.live.drop_after(pins, coverage(floors));
    }

    pub(crate) async fn publish(&self, generation: &str, n: u64) {
        let pointer = CurrentGeneration::new(generation, &self.definition, 1);
        if n > 0 {
            self.commit(generation, vec![RecordBatch::new_empty(Arc::clone(self.schema()))], &Coverage::new()).await;
        }
        publish(&self.store, "orders", n, &pointer).await.expect("publishes");
    }

    /// Curates up to `ends`.
    pub(crate) async fn curate(&self, generation: &str, ends: [u64; 2]) {
        let covered = self.covered(generation);
        let rows = |number: u32| self.made(number, covered.end(&partition(number))..ends[number as usize]);
        let batches: Vec<_> = [0, 1].into_iter().flat_map(rows).collect();
        self.commit(generation, batches, &coverage(ends)).await;
        self.covered.lock().expect("coverage").insert(generation.to_owned(), coverage(ends));
    }

    async fn commit(&self, generation: &str, mut batches: Vec<RecordBatch>, to: &Coverage) {
        let log = log_store(self.store.objects(), "orders", generation).expect("a log store");
        let mut table = DeltaTable::new(log);
        // The first commit makes the table.
        let _is_there = table.load().await.is_ok();
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(Arc::clone(self.schema())));
        }
        let mut properties = CommitProperties::default();
        for (partition, end) in to.iter() {
            let end = i64::try_from(end).expect("a small number");
            properties = properties.with_application_transaction(Transaction::new(transaction_id(partition), end));
        }
        let write = table.write(batches).with_save_mode(SaveMode::Append).with_commit_properties(properties);
        let write = write.with_partition_columns(&self.partition_columns);
        let _table = write.await.expect("the table takes the rows");
    }

    /// All rows as lines of text, and the answer.
    pub(crate) async fn ask(&self, sql: &str) -> Result<(String, Answer), SqlError> {
        self.ask_wanting(sql, &Wants::default()).await
    }

    pub(crate) async fn ask_wanting(&self, sql: &str, wants: &Wants) -> Result<(String, Answer), SqlError> {
        let query = Query { sql: sql.to_owned(), wants: wants.clone(), limits: Limits::default(), ..Query::default() };
        let mut answer = self.engine.query(&query).await?;
        let mut batches = Vec::new();
        while let Some(batch) = answer.next().await? {
            batches.push(batch);
        }
        let text = pretty_format_batches(&batches).expect("formats").to_string();
        let lines = text.lines().filter(|line| line.starts_with('|')).map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            cells.join("|")
        });
        Ok((lines.skip(1).collect::<Vec<_>>().join("\n"), answer))
    }

    /// The physical plan.
    pub(crate) async fn explain(&self, sql: &str) -> String {
        self.ask(&format!("EXPLAIN FORMAT INDENT {sql}")).await.expect("explains").0
    }
}
