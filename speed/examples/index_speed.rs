//! How fast records become visible: a log in memory or on disk → indexer → view in memory, with decode and transform.
//!
//! `cargo run --workspace --example index_speed -- [records] [embedded]`, with `shared` and `speed` at `opt-level` 3
//! (`--config 'profile.dev.package.tidemark-shared.opt-level=3'`, the same for `tidemark-speed`).

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::dataset::{Sources, parse};
use tidemark_shared::live::{LiveView, ViewId};
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{Log, Record, Routed, TopicName};
use tidemark_shared::position::Coverage;
use tidemark_shared::rows::StreamRows;
use tidemark_shared::segment::Archive;
use tidemark_shared::store::{IfMissing, Store};
use tidemark_speed::indexer::{Indexer, IndexerParts, IndexerSettings};
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tidemark_speed::pressure::Pressure;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 4;
const APPEND: u64 = 10_000;

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

fn order(number: u64, ambient: &dyn Ambient) -> Routed {
    let value = format!(
        r#"{{"id": "7f3c9a52-0000-{number:012}", "cents": {}, "at": "2025-{:02}-11T08:15:{:02}.250Z", "customer": "customer-{}", "country": "de", "note": "left at the door of the neighbour"}}"#,
        number % 100_000,
        number % 12 + 1,
        number % 60,
        number % 50_000,
    );
    let partition = u32::try_from(number / 100 % u64::from(PARTITIONS)).unwrap_or(0);
    let timestamp_ms = ambient.now().timestamp_millis();
    Routed { partition, record: Record { value: Some(Bytes::from(value)), timestamp_ms, ..Record::default() } }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let records: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let ambient: Arc<dyn Ambient> = Arc::new(System);
    let folder = TempDir::new()?;
    let log: Arc<dyn Log> = match std::env::args().nth(2).as_deref() {
        Some("embedded") => {
            let storage = Storage::default();
            Arc::new(EmbeddedLog::open(&folder.path().join("log"), storage, Arc::clone(&ambient)).await?)
        }
        _ => Arc::new(MemoryLog::new(Arc::clone(&ambient))),
    };
    let topic = log.create_topic(&TopicName::new("orders")?, PARTITIONS).await?;
    let begun = Instant::now();
    let mut bytes = 0;
    for start in (0..records).step_by(usize::try_from(APPEND)?) {
        let batch: Vec<Routed> = (start..(start + APPEND).min(records)).map(|n| order(n, ambient.as_ref())).collect();
        bytes += batch.iter().map(|routed| routed.record.bytes()).sum::<usize>();
        log.append(&topic, batch, None).await?;
    }
    report("appended", records, bytes, begun);

    let sources: Sources =
        [("dataset.toml".to_owned(), TOML.to_owned()), ("transform.sql".to_owned(), SQL.to_owned())].into();
    let store = Store::local(&folder.path().join("store"), IfMissing::Create)?;
    let settings = MemoryViewSettings { bytes_max: 16 << 30, ..MemoryViewSettings::default() };
    let live: Arc<dyn LiveView> = Arc::new(MemoryView::new(Arc::clone(&ambient), settings));
    let parts = IndexerParts {
        log: Arc::clone(&log),
        topic,
        archive: Archive::new(store, "orders"),
        live: Arc::clone(&live),
        view: ViewId { dataset: "orders".to_owned(), generation: "bench".to_owned() },
        rows: Arc::new(StreamRows::compile(&parse(&sources)?)?),
        ambient,
        pressure: Arc::new(Pressure::default()),
    };
    let indexer = Arc::new(Indexer::open(parts, Coverage::new(), IndexerSettings::default()).await?);
    let cancel = CancellationToken::new();
    let begun = Instant::now();
    let all_visible = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while live.usage().rows < records {
            looks.tick().await;
        }
        cancel.cancel();
    };
    let (run, ()) = tokio::join!(indexer.run(&cancel), all_visible);
    run?;
    report("indexed", records, bytes, begun);
    let usage = live.usage();
    println!("in memory: {} bytes a row", usage.bytes / usage.rows.max(1));
    log.close().await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "printed with few digits")]
fn report(what: &str, records: u64, bytes: usize, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let (rate, size) = (records as f64 / seconds, bytes as f64 / records as f64);
    println!("{what} {records} records of {size:.0} bytes in {seconds:.2} s: {rate:.0} a second");
}
