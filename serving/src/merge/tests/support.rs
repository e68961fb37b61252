//! A dataset, its log, a view of it and its curated tables, each moved by hand, made of what `parts` has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches;
use chrono::{DateTime, TimeDelta, Utc};
use deltalake::DeltaTable;
use deltalake::kernel::Transaction;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::SaveMode;
use tempfile::TempDir;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::curated::{CurrentGeneration, log_store, publish, transaction_id};
use tidemark_shared::dataset::{DATASET_FILE, TRANSFORM_FILE, registry};
use tidemark_shared::live::{LiveBatch, LiveView, ViewId};
use tidemark_shared::position::{Coverage, LogPartition, Source};
use tidemark_shared::rows::StreamRows;
use tidemark_shared::sql::{Answer, Limits, NoCatalogTables, Query, SqlConfig, SqlEngine, SqlError, Wants};
use tidemark_shared::store::Store;
use tidemark_testing::faulty::{Faulty, Rule};

use super::moments::{TestVersions, TestViews};
use super::parts;
use super::parts::merge::{ServedTables, SpeedStatus, VersionCache, Versions};
use super::stream::Stream;

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

pub(crate) struct World {
    _folder: TempDir,
    store: Store,
    clock: Arc<Clock>,
    stream: Arc<Stream>,
    live: Arc<TestViews>,
    versions: Arc<TestVersions>,
    rows: StreamRows,
    definition: String,
    partition_columns: Vec<String>,
    covered: Mutex<BTreeMap<String, Coverage>>,
    served: ServedTables,
    engine: Arc<SqlEngine>,
}

/// A process beside that of the world.
pub(crate) struct Process {
    engine: Arc<SqlEngine>,
    /// What it asks of the store.
    pub(crate) calls: Faulty,
}

impl Process {
    /// All rows as lines of text, and the answer.
    pub(crate) async fn ask(&self, sql: &str, wants: &Wants) -> Result<(String, Answer), SqlError> {
        ask(&self.engine, sql, wants).await
    }
}

/// What a process answers by.
fn serving(
    store: &Store,
    versions: Arc<dyn Versions>,
    live: &Arc<TestViews>,
    stream: &Arc<Stream>,
    clock: &Arc<Clock>,
) -> (ServedTables, Arc<SqlEngine>) {
    let served = ServedTables::new(
        store.clone(),
        versions,
        Arc::clone(live) as Arc<dyn LiveView>,
        Arc::clone(stream) as Arc<dyn SpeedStatus>,
        Arc::clone(clock) as Arc<dyn Ambient>,
    );
    let served = served.with_wait_max(parts::WAIT_MAX);
    let config = SqlConfig { threads: Some(2), memory_bytes_max: 64 << 20, spill_bytes_max: 0, ..SqlConfig::default() };
    let engine = SqlEngine::new(store.objects(), Arc::new(NoCatalogTables), config).expect("an engine");
    (served.clone(), Arc::new(engine.with_datasets(Arc::new(served))))
}

async fn ask(engine: &SqlEngine, sql: &str, wants: &Wants) -> Result<(String, Answer), SqlError> {
    let query = Query { sql: sql.to_owned(), wants: wants.clone(), limits: Limits::default(), ..Query::default() };
    let mut answer = engine.query(&query).await?;
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

impl World {
    /// The dataset with its first generation, `g1`: an empty table and an empty view.
    pub(crate) async fn new(key: &str) -> Self {
        Self::partitioned(key, &[]).await
    }

    /// The same with a table that is partitioned by `columns`.
    pub(crate) async fn partitioned(key: &str, columns: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = parts::store(&folder.path().join("store")).await;
        let toml = format!("partition_columns = {columns:?}\n{TOML}{key}");
        let sources = [(DATASET_FILE, toml), (TRANSFORM_FILE, SQL.to_owned())];
        let sources = sources.map(|(name, text)| (name.to_owned(), text)).into();
        let applied = registry::apply(&store, &sources).await.expect("a valid definition");
        let definition = registry::latest(&store, "orders").await.expect("reads").expect("it is there").definition;
        let clock = Arc::new(Clock(Mutex::new(parts::begun())));
        let stream = Arc::new(Stream::new(Arc::clone(&clock) as Arc<dyn Ambient>).await);
        let live = Arc::new(TestViews::new(parts::live()));
        let versions = Arc::new(TestVersions::new(VersionCache::new(store.objects())));
        let (served, engine) = serving(&store, Arc::clone(&versions) as _, &live, &stream, &clock);
        let world = Self {
            _folder: folder,
            store,
            clock,
            stream,
            live,
            versions,
            rows: StreamRows::compile(&definition).expect("it compiles"),
            definition: applied.version.as_str().to_owned(),
            partition_columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            covered: Mutex::default(),
            engine,
            served,
        };
        world.commit("g1", vec![RecordBatch::new_empty(Arc::clone(world.rows.schema()))], &Coverage::new()).await;
        world.publish("g1", 0).await;
        world.open_view("g1", [0, 0]).await;
        world
    }

    /// Another process on the same store and views, with faults of the store.
    pub(crate) fn process(&self, rules: Vec<Rule>) -> Process {
        let calls = Faulty::new(self.store.objects(), rules);
        let store = self.store.decorated(|_| calls.store());
        let versions = Arc::new(VersionCache::new(store.objects()));
        let (_, engine) = serving(&store, versions, &self.live, &self.stream, &self.clock);
        Process { engine, calls }
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
    pub(crate) async fn produce(&self, number: u32, record: &str) -> u64 {
        self.stream.append(number, record, self.clock.now()).await
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        *self.clock.0.lock().expect("the clock") += TimeDelta::from_std(time).expect("a short time");
    }

    async fn made(&self, number: u32, range: Range<u64>) -> Vec<RecordBatch> {
        let records = self.stream.read(number, range).await;
        let made = self.rows.make(&partition(number), &records).expect("rows");
        assert_eq!(made.rejects.len(), 0, "{:?}", made.rejects);
        made.batches
    }

    /// Brings a view up to the end of the log.
    pub(crate) async fn index(&self, generation: &str) {
        let view = ViewId { dataset: "orders".to_owned(), generation: generation.to_owned() };
        let ends = self.stream.log_ends("orders").await.expect("ends");
        for number in [0, 1] {
            let pin = self.live.pin(&view).await.expect("a view").expect("it is open");
            let range = pin.ranges()[&partition(number)].visible..ends.end(&partition(number));
            let rows = self.made(number, range.clone()).await;
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
        self.stream.moved();
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

    /// Looks at the dataset never end, once `looks` more did.
    pub(crate) fn stop_after(&self, looks: usize) {
        self.stream.silent_after(looks);
    }

    /// How often a view was to count what became of its records.
    pub(crate) fn counted(&self) -> usize {
        self.live.counted()
    }

    /// Lets no process reach the views, or lets them again.
    pub(crate) fn take_views_away(&self, away: bool) {
        self.live.go_away(away);
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
        let mut batches = Vec::new();
        for (number, end) in (0..).zip(ends) {
            batches.extend(self.made(number, covered.end(&partition(number))..end).await);
        }
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
        ask(&self.engine, sql, wants).await
    }

    /// The physical plan.
    pub(crate) async fn explain(&self, sql: &str) -> String {
        self.ask(&format!("EXPLAIN FORMAT INDENT {sql}")).await.expect("explains").0
    }
}
