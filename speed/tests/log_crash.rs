//! What the embedded log promises across SIGKILL: this program starts itself as a child that appends from several tasks
//! and prints each acknowledgement, kills it at a random moment, opens the log and checks that every record is there that
//! was acknowledged, in order and without gaps, round after round on the same folder. Has a `main` of its own because it
//! is also the child.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use tidemark_shared::ambient::System;
use tidemark_shared::error::ErrorKind;
use tidemark_shared::log::{
    IdempotencyKey, Log, LogError, OffsetRecord, ReadLimits, Record, Retention, Routed, Topic, TopicName,
};
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};
use tokio::task::JoinSet;

const FOLDER: &str = "TIDEMARK_TEST_LOG_FOLDER";
const FIRST: &str = "TIDEMARK_TEST_LOG_FIRST";
const SEED: &str = "TIDEMARK_TEST_SEED";
const ROUNDS: u64 = 12;
const WRITERS: u64 = 4;
const PARTITIONS: u32 = 3;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    match std::env::var_os(FOLDER) {
        Some(folder) => runtime.block_on(child(&PathBuf::from(folder))),
        None => runtime.block_on(parent()),
    }
}

/// Appends until it is killed: call `n` of a writer has records `<writer> <n> <i>`, under the key `<writer>-<n>`.
async fn child(folder: &Path) -> ExitCode {
    // uncompressed, for it would all be compressed away
    let storage = Storage { compression_level: None, ..Storage::default() };
    let log = match EmbeddedLog::open(folder, storage, Arc::new(System)).await {
        Ok(log) => Arc::new(log),
        Err(error) => {
            eprintln!("{error}; {}", error.hint().unwrap_or_default());
            return ExitCode::FAILURE;
        }
    };
    let topic = log.create_topic(&name(), PARTITIONS).await.expect("create");
    let first: u64 = std::env::var(FIRST).expect("the parent says where to go on").parse().expect("a number");
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (log, topic) = (Arc::clone(&log), topic.clone());
        writers.spawn(async move {
            for n in first.. {
                let appended = log.append(&topic, call(writer, n), Some(&key(writer, n))).await.expect("append");
                let mut line = format!("{writer} {n}");
                for position in appended.positions {
                    line += &format!(" {}:{}", position.partition, position.offset);
                }
                // in one piece, or lines of several writers would mix
                std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).expect("the parent listens");
            }
        });
    }
    writers.join_all().await;
    ExitCode::SUCCESS
}

fn name() -> TopicName {
    TopicName::new("crash").expect("a legal name")
}

fn key(writer: u64, n: u64) -> IdempotencyKey {
    IdempotencyKey::new(&format!("{writer}-{n}")).expect("a legal key")
}

fn call(writer: u64, n: u64) -> Vec<Routed> {
    // now and then much: tables are to be written and journals to be changed, too, when the child is killed
    let pad = if n.is_multiple_of(4) { 60_000 } else { (n * 37 % 900) as usize };
    let one = |i: u64| {
        let value = Bytes::from(format!("{writer} {n} {i} {}", "x".repeat(pad)));
        let partition = ((writer + n + i) % u64::from(PARTITIONS)) as u32;
        Routed { partition, record: Record { value: Some(value), timestamp_ms: n as i64, ..Record::default() } }
    };
    (0..1 + n % 5).map(one).collect()
}

/// What the children were told: by call, the positions.
type Acknowledged = BTreeMap<(u64, u64), Vec<(u32, u64)>>;

async fn parent() -> ExitCode {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let mut random = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{SEED}={random}");
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = Acknowledged::new();
    let mut starts = vec![0; PARTITIONS as usize];
    for round in 0..ROUNDS {
        let first = acknowledged.keys().map(|(_, n)| n + 1).max().unwrap_or(0);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lines = 1 + (random >> 33) % 400;
        let before = acknowledged.len();
        kill_after(spawn(folder.path(), first, Stdio::inherit()), lines, &mut acknowledged);
        println!("round {round}: {} calls were acknowledged", acknowledged.len() - before);
        check(folder.path(), &acknowledged, &mut starts, first, random).await;
    }
    ExitCode::SUCCESS
}

fn spawn(folder: &Path, first: u64, errors: Stdio) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.env(FOLDER, folder).env(FIRST, first.to_string()).stdout(Stdio::piped()).stderr(errors);
    command.spawn().expect("this program can be started again")
}

/// Kills the child once it has printed so many lines; what it had printed till then counts, too.
fn kill_after(mut child: Child, lines: u64, acknowledged: &mut Acknowledged) {
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut seen = 0;
    let mut line = String::new();
    while output.read_line(&mut line).expect("the pipe works") > 0 {
        if line.ends_with('\n') {
            let (call, positions) = parse(&line);
            assert_eq!(acknowledged.insert(call, positions), None, "a call was acknowledged twice");
            seen += 1;
        }
        if seen == lines {
            child.kill().expect("the child runs until it is killed");
        }
        line.clear();
    }
    let status = child.wait().expect("the child has ended");
    assert!(!status.success() && seen >= lines, "the child ended by itself after {seen} lines: {status}");
}

fn parse(line: &str) -> ((u64, u64), Vec<(u32, u64)>) {
    let mut words = line.split_whitespace();
    let mut number = || words.next().expect("two numbers").parse().expect("a number");
    let call = (number(), number());
    let position = |word: &str| {
        let (partition, offset) = word.split_once(':').expect("a position");
        (partition.parse().expect("a partition"), offset.parse().expect("an offset"))
    };
    (call, words.map(position).collect())
}

async fn check(folder: &Path, acknowledged: &Acknowledged, starts: &mut [u64], first: u64, random: u64) {
    let log = EmbeddedLog::open(folder, Storage::default(), Arc::new(System)).await.expect("the log opens again");
    let refused = spawn(folder, 0, Stdio::piped()).wait_with_output().expect("a second process ends");
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "a second process opened the log");
    assert!(message.contains("is open in another process"), "{message}");

    let topic = log.topic(&name()).await.expect("describe").expect("the topic is there");
    let mut found: HashMap<(u32, u64), String> = HashMap::new();
    for partition in 0..PARTITIONS {
        let at = partition as usize;
        assert_eq!(log.bounds(&topic).await.expect("bounds")[at].start, starts[at], "the start moved");
        let records = read_all(&log, &topic, partition, starts[at]).await;
        let expected = starts[at]..starts[at] + records.len() as u64;
        assert!(records.iter().map(|read| read.offset).eq(expected), "partition {partition} has gaps");
        check_order(&records);
        found.extend(records.into_iter().map(|read| ((partition, read.offset), text(&read.record))));
    }
    for ((writer, n), positions) in acknowledged {
        for (position, routed) in positions.iter().zip(call(*writer, *n)) {
            let there = found.get(position);
            let gone = position.1 < starts[position.0 as usize];
            assert!(gone || there == Some(&text(&routed.record)), "{writer} {n} is not at {position:?}: {there:?}");
        }
    }
    check_keys(&log, &topic, acknowledged, &found, first).await;
    let partition = (random >> 20) as u32 % PARTITIONS;
    let end = log.bounds(&topic).await.expect("bounds")[partition as usize].end;
    // only what is far from the end, where the calls lie that the next check asks for
    if end > 400 {
        let retention = Retention { age_max: None, bytes_max: Some(0) };
        let limit = (random >> 40) % (end / 2);
        let bounds = log.retain(&topic, partition, &retention, limit).await.expect("retain");
        starts[partition as usize] = bounds.start;
    }
    log.close().await.expect("close");
}

/// A call is acknowledged before the writer's next one begins, so its records come in order of call, each once.
fn check_order(records: &[OffsetRecord]) {
    let mut last: HashMap<u64, (u64, u64)> = HashMap::new();
    for read in records {
        let text = text(&read.record);
        let mut words = text.split(' ').map(str::parse::<u64>);
        let mut number = || words.next().expect("three numbers").expect("a number");
        let (writer, at) = (number(), (number(), number()));
        let before = last.insert(writer, at);
        assert!(before.is_none_or(|before| before < at), "writer {writer}: {at:?} comes after {before:?}");
    }
}

/// What a producer does after a crash: it repeats its last calls. Nothing may come twice, nothing may be missing.
async fn check_keys(
    log: &EmbeddedLog,
    topic: &Topic,
    acknowledged: &Acknowledged,
    found: &HashMap<(u32, u64), String>,
    first: u64,
) {
    for writer in 0..WRITERS {
        let last = acknowledged.range((writer, first)..=(writer, u64::MAX)).next_back();
        if let Some(((_, n), positions)) = last {
            let again = log.append(topic, call(writer, *n), Some(&key(writer, *n))).await.expect("append again");
            let told: Vec<_> = again.positions.iter().map(|position| (position.partition, position.offset)).collect();
            assert!(again.repeated && told == *positions, "{writer} {n} was appended again");
            let other = log.append(topic, call(writer, *n + 1), Some(&key(writer, *n))).await;
            assert!(matches!(other, Err(LogError::KeyReused { .. })), "{other:?}");
        }
        // the one in flight: all of it is there, or nothing
        let n = last.map_or(first, |((_, n), _)| n + 1);
        let begins = format!("{writer} {n} ");
        let there = found.values().filter(|text| text.starts_with(&begins)).count();
        let records = call(writer, n);
        assert!([0, records.len()].contains(&there), "{there} of {} records of {writer} {n} are there", records.len());
    }
}

async fn read_all(log: &EmbeddedLog, topic: &Topic, partition: u32, from: u64) -> Vec<OffsetRecord> {
    let limits = ReadLimits { records_max: 1_000, bytes_max: 1 << 20 };
    let (mut at, mut records) = (from, Vec::new());
    loop {
        let fetched = log.read(topic, partition, at, limits).await.expect("read");
        records.extend(fetched.records);
        at = fetched.next;
        if at == fetched.bounds.end {
            return records;
        }
    }
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}
