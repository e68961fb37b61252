//! How fast the embedded log is on this machine: appends records of about 200 bytes from several tasks, then reads them.
//!
//! ```text
//! cargo run --workspace --example log_speed -- [records=2000000] [batch=1000] [tasks=4] [partitions=4]
//!     [level=1|none] [value-records=4096] [folder=…] [retain=<MiB a partition>]
//! ```
//!
//! Prints records and MB a second, syncs, and what lies on the disk afterwards.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tidemark_shared::ambient::System;
use tidemark_shared::log::{Log, Partitioner, ReadLimits, Record, Retention, Routed, Topic, TopicName};
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

struct Settings {
    records: u64,
    batch: u64,
    tasks: u64,
    partitions: u32,
    storage: Storage,
    retain_bytes: Option<u64>,
    folder: Option<PathBuf>,
}

impl Settings {
    fn parse() -> Outcome<Self> {
        let given: HashMap<String, String> = std::env::args()
            .skip(1)
            .map(|arg| arg.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or(arg))
            .collect::<Result<_, _>>()?;
        let number = |name: &str, default| given.get(name).map_or(Ok(default), |text| text.parse::<u64>());
        let level = match given.get("level").map(String::as_str) {
            Some("none") => None,
            Some(level) => Some(level.parse()?),
            None => Storage::default().compression_level,
        };
        let value_records_max = u32::try_from(number("value-records", 4_096)?)?;
        Ok(Self {
            records: number("records", 2_000_000)?,
            batch: number("batch", 1_000)?,
            tasks: number("tasks", 4)?,
            partitions: u32::try_from(number("partitions", 4)?)?,
            storage: Storage { compression_level: level, value_records_max, ..Storage::default() },
            retain_bytes: given.get("retain").map(|text| text.parse::<u64>()).transpose()?.map(|mib| mib << 20),
            folder: given.get("folder").map(PathBuf::from),
        })
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let settings = Settings::parse()?;
    let temporary = std::env::temp_dir().join(format!("tidemark-log-speed-{}", std::process::id()));
    let folder = settings.folder.clone().unwrap_or_else(|| temporary.clone());
    let log = Arc::new(EmbeddedLog::open(&folder, settings.storage, Arc::new(System)).await?);
    let topic = log.create_topic(&TopicName::new("speed")?, settings.partitions).await?;
    println!("{:?}, batches of {} from {} tasks", settings.storage, settings.batch, settings.tasks);

    let before = Instant::now();
    let bytes = append_all(&log, &topic, &settings).await?;
    let seconds = before.elapsed().as_secs_f64();
    report("append", settings.records, bytes, seconds);
    let commits = log.commits();
    println!("        {commits} syncs, {:.0} records each", settings.records as f64 / commits as f64);
    println!("        {:.1} MB on disk of {:.1} MB", megabytes(disk(&folder)?), megabytes(bytes));

    let before = Instant::now();
    let (records, bytes) = read_all(&log, &topic, settings.partitions).await?;
    report("read", records, bytes, before.elapsed().as_secs_f64());
    println!("        at most {} MiB of memory", memory_mib());

    log.close().await?;
    let before = Instant::now();
    let log = EmbeddedLog::open(&folder, settings.storage, Arc::new(System)).await?;
    println!("open    {:.2} s", before.elapsed().as_secs_f64());
    log.close().await?;
    if settings.folder.is_none() {
        std::fs::remove_dir_all(&temporary)?;
    }
    Ok(())
}

/// Appends all records; returns their bytes.
async fn append_all(log: &Arc<EmbeddedLog>, topic: &Topic, settings: &Settings) -> Outcome<u64> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..settings.tasks {
        let (log, topic, next) = (Arc::clone(log), topic.clone(), Arc::clone(&next));
        let (records, batch, retain_bytes) = (settings.records, settings.batch, settings.retain_bytes);
        tasks.spawn(async move {
            let mut partitioner = Partitioner::new(topic.partitions, u32::try_from(task)?);
            let mut bytes = 0;
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= records {
                    return Outcome::Ok(bytes);
                }
                let routed: Vec<Routed> = (first..records.min(first + batch))
                    .map(|n| {
                        let record = trip(n);
                        bytes += record.bytes() as u64;
                        Routed { partition: partitioner.next(&record), record }
                    })
                    .collect();
                log.append(&topic, routed, None).await?;
                if let Some(bytes_max) = retain_bytes.filter(|_| (first / batch) % 256 == 0) {
                    let retention = Retention { age_max: None, bytes_max: Some(bytes_max) };
                    for partition in 0..topic.partitions {
                        log.retain(&topic, partition, &retention, u64::MAX).await?;
                    }
                }
            }
        });
    }
    let mut bytes = 0;
    while let Some(done) = tasks.join_next().await {
        bytes += done??;
    }
    Ok(bytes)
}

/// Reads all partitions beside each other; returns records and bytes.
async fn read_all(log: &Arc<EmbeddedLog>, topic: &Topic, partitions: u32) -> Outcome<(u64, u64)> {
    let limits = ReadLimits { records_max: 20_000, bytes_max: 4 << 20 };
    let mut tasks = JoinSet::new();
    for partition in 0..partitions {
        let (log, topic) = (Arc::clone(log), topic.clone());
        tasks.spawn(async move {
            let (mut records, mut bytes) = (0, 0);
            let mut at = log.bounds(&topic).await?[partition as usize].start;
            loop {
                let fetched = log.read(&topic, partition, at, limits).await?;
                records += fetched.records.len() as u64;
                bytes += fetched.records.iter().map(|read| read.record.bytes() as u64).sum::<u64>();
                at = fetched.next;
                if at == fetched.bounds.end {
                    return Outcome::Ok((records, bytes));
                }
            }
        });
    }
    let (mut records, mut bytes) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let (more, more_bytes) = done??;
        (records, bytes) = (records + more, bytes + more_bytes);
    }
    Ok((records, bytes))
}

/// A trip as JSON, of about 200 bytes, with the numbers that trips have.
fn trip(n: u64) -> Record {
    let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pick = |shift: u32, of: u64| (noise >> shift) % of;
    let value = format!(
        "{{\"id\":\"{n:08x}\",\"pickup\":\"2019-03-{:02}T{:02}:{:02}:{:02}\",\"passengers\":{},\"distance\":{}.{:02},\
         \"from_zone\":{},\"to_zone\":{},\"payment\":{},\"vendor\":\"Creative Mobile Tech\",\"fare\":{}.{:02},\"tip\":{}.{:02},\"total\":{}.{:02}}}",
        1 + pick(3, 28),
        pick(5, 24),
        pick(7, 60),
        pick(11, 60),
        1 + pick(13, 5),
        pick(17, 30),
        pick(19, 100),
        1 + pick(23, 263),
        1 + pick(27, 263),
        1 + pick(29, 4),
        3 + pick(31, 70),
        pick(33, 100),
        pick(37, 15),
        pick(39, 100),
        4 + pick(41, 90),
        pick(43, 100),
    );
    let key = Some(Bytes::copy_from_slice(&noise.to_be_bytes()));
    Record { key, value: Some(value.into()), headers: Vec::new(), timestamp_ms: 1_700_000_000_000 + (n / 50) as i64 }
}

fn report(what: &str, records: u64, bytes: u64, seconds: f64) {
    let (rate, megabytes) = (records as f64 / seconds, megabytes(bytes) / seconds);
    println!("{what:7} {records} records in {seconds:.2} s: {rate:.0} records/s, {megabytes:.0} MB/s");
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Bytes that the folder takes; the journal's file is made longer than what is in it.
fn disk(folder: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { disk(&entry.path())? } else { blocks(&meta) };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn blocks(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta) * 512
}

#[cfg(not(unix))]
fn blocks(meta: &std::fs::Metadata) -> u64 {
    meta.len()
}

/// The most memory that this process has had, where the system tells.
fn memory_mib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|rest| rest.trim_end_matches("kB").trim());
    peak.and_then(|kib| kib.parse::<u64>().ok()).map_or_else(|| "?".to_owned(), |kib| (kib >> 10).to_string())
}
