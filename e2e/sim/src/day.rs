//! Days of work in minutes: a steady stream, batch runs with their upkeep, retention, changes of the definition, all at the
//! simulation's clock and without faults. What is counted each hour shows what grows with bytes and what with time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::TryStreamExt as _;
use reqwest::{Method, StatusCode};
use tidemark_batch::report::quiet;
use tidemark_batch::{BatchSettings, Upkeep};
use tidemark_e2e::random::Random;
use tidemark_opensearch::{OpenSearchUrl, OpenSearchView, OpenSearchViewSettings, UrlError};
use tidemark_shared::ambient::Ambient;
use tidemark_shared::dataset::registry;
use tidemark_shared::error::chain;
use tidemark_shared::live::LiveView;
use tidemark_shared::log::{Record, Retention, Routed};
use tidemark_shared::position::Coverage;
use tidemark_shared::segment::Archive;
use tidemark_speed::archiver::{Archiver, ArchiverSettings};

use crate::actors::{Actor, CAST, Keeper, ask, index_all};
use crate::clock::Clock;
use crate::data::{DATASET, PARTITIONS, record, sources};
use crate::oracle;
use crate::world::{Measures, Surroundings, World};

/// The actor as whom everything is done.
const KEEPER: usize = 6;
/// Offsets of a partition that an index of a cluster holds: some hours of them.
const INDEX_OFFSETS: u64 = 1_024;

/// Longest wait for an answer of a cluster.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// What is to be worked.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Simulated hours.
    pub hours: u64,
    /// Seconds between two batch runs.
    pub run_every_s: u64,
    /// Records between two batch runs.
    pub records_per_run: u64,
    /// Hours between two changes of the definition, each with a recompute.
    pub change_every_h: u64,
}

/// What there is after some hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Hours worked.
    pub hour: u64,
    /// Records appended so far.
    pub records: u64,
    /// Records that the log still has.
    pub log_records: u64,
    /// Small segments in the raw zone.
    pub segments: u64,
    /// Packed ones.
    pub packed: u64,
    /// Data files of all generations, also those that wait for a vacuum.
    pub data_files: u64,
    /// Those that the table names which answers.
    pub named_files: u64,
    /// Commits and checkpoints of all generations.
    pub delta_log: u64,
    /// Objects with rejects.
    pub rejects: u64,
    /// Definitions, pointers, and what else there is.
    pub others: u64,
    /// Everything in the store.
    pub objects: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Rows in the real-time views.
    pub live_rows: u64,
    /// Indices of the views, where they are in a cluster.
    pub indices: u64,
}

struct Day {
    world: Arc<World>,
    cluster: Option<Cluster>,
    actor: Actor,
    chance: Random,
    upkeep: Upkeep,
    appended: u64,
}

/// Works through `plan` and tells what there was after each hour. The answer at the end is checked against the oracle. Views
/// are in memory, or in the cluster at `opensearch` (`http://host:9200`), from which they are removed afterwards.
///
/// # Errors
/// What failed, or what is wrong with the answer.
pub async fn work(
    plan: Plan,
    folder: &Path,
    opensearch: Option<&str>,
    told: &(dyn Fn(&Sample) + Sync),
) -> Result<Vec<Sample>, String> {
    let batch = BatchSettings { threads: 1, grace: Duration::from_secs(60), ..BatchSettings::default() };
    let measures = Measures { batch, view_bytes_max: 1 << 30, appends: 0, retention: true };
    // It ends about now: the Delta library forgets removed files by the machine's clock.
    let hours = i64::try_from(plan.hours).unwrap_or(i64::MAX);
    let begin = chrono::TimeDelta::try_hours(hours).and_then(|worked| Utc::now().checked_sub_signed(worked));
    let clock = Arc::new(Clock::starting_at(begin.ok_or("so many hours are no time")?));
    let cluster = opensearch.map(Cluster::at).transpose()?;
    let views = cluster.as_ref().map(|cluster| cluster.views(&clock)).transpose()?;
    let surroundings = Surroundings { measures, clock, views };
    let world = Arc::new(World::with(0, CAST.len(), folder.to_owned(), None, surroundings).await);
    world.gate.open();
    world.disk.age_logs();
    let handle = world.gate.handle(KEEPER);
    let actor = Actor { world: Arc::clone(&world), handle, number: KEEPER, life: 0 };
    let mut day = Day { world, cluster, actor, chance: Random::part(0, 5), upkeep: Upkeep::default(), appended: 0 };
    let worked = day.run(plan, told).await;
    if let Some(cluster) = &day.cluster {
        cluster.clean_up().await?;
    }
    worked
}

/// Views in OpenSearch, of this process alone.
struct Cluster {
    url: String,
    prefix: String,
    /// Who waits for it leaves the only thread to the requests of the views.
    http: reqwest::Client,
}

impl Cluster {
    fn at(url: &str) -> Result<Self, String> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build();
        let http = http.map_err(|error| format!("no client for {url}: {}", chain(&error)))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), prefix: format!("days-{}", std::process::id()), http })
    }

    fn views(&self, clock: &Arc<Clock>) -> Result<Arc<dyn LiveView>, String> {
        let url: OpenSearchUrl =
            format!("opensearch+{}/{}", self.url, self.prefix).parse().map_err(|error: UrlError| error.to_string())?;
        let settings = OpenSearchViewSettings { index_offsets: INDEX_OFFSETS, ..OpenSearchViewSettings::default() };
        let views = OpenSearchView::new(&url, Arc::clone(clock) as Arc<dyn Ambient>, settings);
        Ok(Arc::new(views.map_err(|error| chain(&error))?))
    }

    /// What the cluster answers; `None` if it has nothing there.
    async fn ask(&self, method: Method, path: &str) -> Result<Option<String>, String> {
        let failed = |error: reqwest::Error| format!("the cluster does not answer {path}: {}", chain(&error));
        let answer = self.http.request(method, format!("{}{path}", self.url)).send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(text)),
            status => Err(format!("the cluster refuses {path}: {status}: {text}")),
        }
    }

    /// Names of all indices.
    async fn indices(&self) -> Result<Vec<String>, String> {
        let path = format!("/_cat/indices/{}__*?format=json&h=index", self.prefix);
        let Some(text) = self.ask(Method::GET, &path).await? else { return Ok(Vec::new()) };
        let found: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        let name = |index: &serde_json::Value| index["index"].as_str().map(ToOwned::to_owned);
        Ok(found.as_array().into_iter().flatten().filter_map(name).collect())
    }

    async fn clean_up(&self) -> Result<(), String> {
        for index in self.indices().await? {
            let _gone = self.ask(Method::DELETE, &format!("/{index}")).await?;
        }
        Ok(())
    }
}

impl Day {
    async fn run(&mut self, plan: Plan, told: &(dyn Fn(&Sample) + Sync)) -> Result<Vec<Sample>, String> {
        let actor = self.actor.clone();
        let mut keeper = Keeper::new(&actor);
        let archiver = self.archiver().await?;
        let mut samples = Vec::new();
        for hour in 1..=plan.hours {
            for _ in 0..(3_600 / plan.run_every_s).max(1) {
                self.append(plan.records_per_run).await?;
                keeper.look().await.map_err(|error| chain(&error))?;
                index_all(&actor).await.map_err(|error| chain(&error))?;
                self.world.clock.pass(plan.run_every_s * 1_000);
                self.batch_run(&archiver).await?;
            }
            if hour.is_multiple_of(plan.change_every_h) {
                let changes = hour / plan.change_every_h;
                self.change(usize::from(changes.is_multiple_of(2))).await?;
            }
            let sample = self.sample(hour).await?;
            told(&sample);
            samples.push(sample);
        }
        keeper.look().await.map_err(|error| chain(&error))?;
        index_all(&actor).await.map_err(|error| chain(&error))?;
        let (as_of, rows) = ask(&actor).await.ok_or("the last question has no answer")?;
        oracle::check(&self.world, &as_of, &rows, &Coverage::new()).await?;
        Ok(samples)
    }

    async fn archiver(&self) -> Result<Archiver, String> {
        let (world, handle) = (&self.world, &self.actor.handle);
        let archive = Archive::new(world.disk.store(Some(handle)), DATASET);
        let ambient = Arc::clone(&world.clock) as Arc<dyn Ambient>;
        let retention = Retention { bytes_max: None, age_max: Some(Duration::from_secs(6 * 3_600)) };
        let settings = ArchiverSettings { retention, ..ArchiverSettings::default() };
        let archiver = Archiver::open(world.gated_log(handle), archive, world.topic.clone(), ambient, settings).await;
        archiver.map_err(|error| chain(&error))
    }

    async fn append(&mut self, count: u64) -> Result<(), String> {
        let timestamp_ms = self.world.clock.now().timestamp_millis();
        let (appended, chance) = (self.appended, &mut self.chance);
        let records = (appended..appended + count).map(|number| {
            let value = Some(record(&number.to_string(), chance));
            let partition = u32::try_from(number).unwrap_or(0) % PARTITIONS;
            Routed { partition, record: Record { value, timestamp_ms, ..Record::default() } }
        });
        let records: Vec<Routed> = records.collect();
        let log = self.world.gated_log(&self.actor.handle);
        log.append(&self.world.topic, records, None).await.map_err(|error| chain(&error))?;
        self.appended += count;
        Ok(())
    }

    /// As `tidemark up` does it: seal, take in, keep up.
    async fn batch_run(&mut self, archiver: &Archiver) -> Result<(), String> {
        archiver.flush().await.map_err(|error| chain(&error))?;
        let batch = self.world.batch(Some(&self.actor.handle));
        let report = batch.run(DATASET, &quiet()).await.map_err(|error| chain(&error))?;
        if report.committed {
            let day = Some(Duration::from_secs(24 * 3_600));
            for task in self.upkeep.after_commit(self.world.clock.now(), day) {
                batch.keep_up(DATASET, task).await.map_err(|error| chain(&error))?;
            }
        }
        Ok(())
    }

    async fn change(&self, variant: usize) -> Result<(), String> {
        let store = self.world.disk.store(Some(&self.actor.handle));
        registry::apply(&store, &sources(variant)).await.map_err(|error| chain(&error))?;
        let batch = self.world.batch(Some(&self.actor.handle));
        batch.recompute(DATASET, &quiet()).await.map(drop).map_err(|error| chain(&error))
    }

    async fn sample(&self, hour: u64) -> Result<Sample, String> {
        let world = &self.world;
        let mut sample = Sample { hour, records: self.appended, ..Sample::default() };
        let objects = world.disk.store(None).objects();
        let mut listed = objects.list(None);
        while let Some(object) = listed.try_next().await.map_err(|error| error.to_string())? {
            sample.objects += 1;
            sample.bytes += object.size;
            *sample.kind(object.location.as_ref()) += 1;
        }
        let bounds = world.gated_log(&self.actor.handle).bounds(&world.topic).await.map_err(|error| chain(&error))?;
        sample.log_records = bounds.iter().map(|at| at.end - at.start).sum();
        let status = world.batch(None).status(DATASET).await.map_err(|error| chain(&error))?;
        sample.named_files = status.data_files;
        sample.live_rows = world.serving().view.usage().rows;
        if let Some(cluster) = &self.cluster {
            sample.indices = cluster.indices().await?.len() as u64;
        }
        Ok(sample)
    }
}

impl Sample {
    /// The count of objects of this kind.
    fn kind(&mut self, key: &str) -> &mut u64 {
        if key.contains("/_delta_log/") {
            &mut self.delta_log
        } else if key.contains("/rejects/") {
            &mut self.rejects
        } else if key.contains("/table/") {
            &mut self.data_files
        } else if key.contains("/packed/") {
            &mut self.packed
        } else if key.contains("/partition=") {
            &mut self.segments
        } else {
            &mut self.others
        }
    }
}
