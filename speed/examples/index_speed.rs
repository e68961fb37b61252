//! How fast records become visible: a log in memory or on disk → indexer → view in memory, with decode and transform.
//!
//! `cargo run --workspace --example index_speed -- [records] [embedded] [apart]`, with `shared` and `speed` at
//! `opt-level` 3 (`--config 'profile.dev.package.tidemark-shared.opt-level=3'`, the same for `tidemark-speed`).
//!
//! Records are made before the clock starts. They are appended and indexed at the same time, as in a running process;
//! with `apart`, one after the other, to see what each takes by itself.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::dataset::{Sources, parse};
use tidemark_shared::live::{LiveView, ViewId};
use tidemark_shared::lock;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{Log, LogError, Record, Routed, Share, Topic, TopicName};
use tidemark_shared::position::Coverage;
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::Archive;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_shared::telemetry::NoTraces;
use tidemark_speed::indexer::{Indexer, IndexerParts, IndexerSettings};
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tidemark_speed::pressure::Pressure;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 4;
const APPEND: u64 = 10_000;
const PRODUCERS: usize = 4;

const TOML: &str = r#"
name = "orders"
partition_columns = ["month"]
columns = [
    { name = "id", type = "string", required = true },
    { name = "cents", type = "int64", required = true },
    { name = "at", type = "timestamptz", required = true },
    { name = "customer", type = "string" },
    { name = "country", type = "string" },
    { name = "note", type = "string" },
]
[stream]
format = "json"
"#;
const SQL: &str = "SELECT id, cents, at, customer, upper(country) AS country, note, \
                   to_char(at, '%Y-%m') AS month FROM input";

fn order(number: u64) -> Routed {
    let value = format!(
        r#"{{"id": "7f3c9a52-0000-{number:012}", "cents": {}, "at": "2025-{:02}-11T08:15:{:02}.250Z", "customer": "customer-{}", "country": "de", "note": "left at the door of the neighbour"}}"#,
        number % 100_000,
        number % 12 + 1,
        number % 60,
        number % 50_000,
    );
    let partition = u32::try_from(number / 100 % u64::from(PARTITIONS)).unwrap_or(0);
    Routed { partition, record: Record { value: Some(Bytes::from(value)), ..Record::default() } }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let records: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let asked = |word: &str| std::env::args().skip(2).any(|given| given == word);
    let ambient: Arc<dyn Ambient> = Arc::new(System);
    let folder = TempDir::new()?;
    let log: Arc<dyn Log> = match asked("embedded") {
        true => {
            let storage = Storage::default();
            Arc::new(EmbeddedLog::open(&folder.path().join("log"), storage, Arc::clone(&ambient)).await?)
        }
        false => Arc::new(MemoryLog::new(Arc::clone(&ambient))),
    };
    let topic = log.create_topic(&TopicName::new("orders")?, PARTITIONS).await?;
    let live = indexed_view();
    let indexer = indexer(&log, &topic, &live, folder.path(), &ambient).await?;
    let made: Vec<Vec<Routed>> = (0..records)
        .step_by(usize::try_from(APPEND)?)
        .map(|start| (start..(start + APPEND).min(records)).map(order).collect())
        .collect();
    let bytes: usize = made.iter().flatten().map(|routed| routed.record.bytes()).sum();

    let begun = Instant::now();
    if asked("apart") {
        produce(&log, &topic, made, &ambient).await?;
        report("appended", records, bytes, begun);
        let begun = Instant::now();
        index(&indexer, &live, records).await?;
        report("indexed", records, bytes, begun);
    } else {
        let produced = async {
            produce(&log, &topic, made, &ambient).await?;
            report("appended", records, bytes, begun);
            Ok(())
        };
        tokio::try_join!(produced, index(&indexer, &live, records))?;
        report("visible", records, bytes, begun);
    }
    let usage = live.usage();
    println!("in memory: {} bytes a row", usage.bytes / usage.rows.max(1));
    log.close().await?;
    Ok(())
}

fn indexed_view() -> Arc<dyn LiveView> {
    let settings = MemoryViewSettings { bytes_max: 16 << 30, ..MemoryViewSettings::default() };
    Arc::new(MemoryView::new(settings))
}

async fn indexer(
    log: &Arc<dyn Log>,
    topic: &Topic,
    live: &Arc<dyn LiveView>,
    folder: &Path,
    ambient: &Arc<dyn Ambient>,
) -> Result<Arc<Indexer>, Box<dyn Error>> {
    let sources: Sources =
        [("dataset.toml".to_owned(), TOML.to_owned()), ("transform.sql".to_owned(), SQL.to_owned())].into();
    let store = Store::local(&folder.join("store"), IfMissing::Create)?;
    let parts = IndexerParts {
        log: Arc::clone(log),
        topic: topic.clone(),
        archive: Archive::new(store, "orders"),
        live: Arc::clone(live),
        view: ViewId { dataset: "orders".to_owned(), generation: "bench".to_owned() },
        rows: Arc::new(StreamRows::compile(&parse(&sources)?)?),
        ambient: Arc::clone(ambient),
        pressure: Arc::new(Pressure::default()),
        traces: Arc::new(NoTraces),
    };
    Ok(Arc::new(Indexer::open(parts, Coverage::new(), IndexerSettings::default()).await?))
}

/// Appends from several tasks, as several connections would.
async fn produce(
    log: &Arc<dyn Log>,
    topic: &Topic,
    made: Vec<Vec<Routed>>,
    ambient: &Arc<dyn Ambient>,
) -> Result<(), Box<dyn Error>> {
    let left = Arc::new(Mutex::new(made.into_iter()));
    let mut producers = JoinSet::new();
    for _ in 0..PRODUCERS {
        let (log, topic, left, ambient) = (Arc::clone(log), topic.clone(), Arc::clone(&left), Arc::clone(ambient));
        producers.spawn(async move {
            loop {
                let next = lock(&left).next();
                let Some(mut batch) = next else { return Ok(()) };
                let timestamp_ms = ambient.now().timestamp_millis();
                batch.iter_mut().for_each(|routed| routed.record.timestamp_ms = timestamp_ms);
                log.append(&topic, batch, None).await?;
            }
        });
    }
    while let Some(ended) = producers.join_next().await {
        let ended: Result<(), LogError> = ended?;
        ended?;
    }
    Ok(())
}

/// Indexes until so many rows are visible.
async fn index(indexer: &Arc<Indexer>, live: &Arc<dyn LiveView>, records: u64) -> Result<(), Box<dyn Error>> {
    let cancel = CancellationToken::new();
    let all_visible = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while live.usage().rows < records {
            looks.tick().await;
        }
        cancel.cancel();
    };
    let all = Share::default();
    let (run, ()) = tokio::join!(indexer.run(&all, &cancel), all_visible);
    Ok(run?)
}

#[expect(clippy::cast_precision_loss, reason = "printed with few digits")]
fn report(what: &str, records: u64, bytes: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let (rate, size) = (records as f64 / seconds, bytes as f64 / records as f64);
    println!("{what} {records} records of {size:.0} bytes in {seconds:.2} s: {rate:.0} a second");
}
