//! What a simulation consists of beside its actors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidemark_batch::{Batch, BatchSettings};
use tidemark_e2e::random::Random;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::dataset::registry;
use tidemark_shared::error::{ErrorKind, Kind, chain};
use tidemark_shared::live::LiveView;
use tidemark_shared::lock;
use tidemark_shared::log::memory::MemoryLog;
use tidemark_shared::log::{Log, Topic, TopicName};
use tidemark_shared::position::{LogPartition, Source};
use tidemark_shared::store::{IfMissing, Store, StoreError, StoreUrl, Stores};
use tidemark_speed::indexer::Indexer;
use tidemark_speed::live::memory::{MemoryView, MemoryViewSettings};
use tidemark_speed::pressure::Pressure;

use crate::clock::Clock;
use crate::data::{self, DATASET, PARTITIONS};
use crate::gate::{Gate, Handle};
use crate::log::{GatedLog, History};
use crate::store::Disk;
use crate::view::{GatedView, Plant};

/// The process that answers: all of this is lost when it dies.
pub struct Serving {
    /// How often it died before.
    pub life: u32,
    /// The views.
    pub view: Arc<dyn LiveView>,
    /// How full they are.
    pub pressure: Arc<Pressure>,
    /// The generations that are kept up.
    pub indexers: Mutex<BTreeMap<String, Arc<Indexer>>>,
    /// Generations of which a step is being made.
    pub busy: Mutex<BTreeSet<String>>,
}

/// How much of everything there is in a simulation; a function of its seed.
#[derive(Debug, Clone)]
pub struct Measures {
    /// Batch layer.
    pub batch: BatchSettings,
    /// Bytes of all views together.
    pub view_bytes_max: u64,
    /// Appends of one producer.
    pub appends: u64,
    /// True if the log lets go of what is archived.
    pub retention: bool,
}

impl Measures {
    fn of(seed: u64) -> Self {
        let mut chance = Random::part(seed, 1);
        let batch = BatchSettings {
            threads: 1,
            commit_bytes: chance.pick(&[600, 4_000, 1 << 20]),
            file_bytes_target: chance.pick(&[3_000, 20_000, 1 << 20]),
            grace: Duration::from_millis(chance.pick(&[500, 3_000])),
            ..BatchSettings::default()
        };
        Self {
            batch,
            view_bytes_max: chance.pick(&[1 << 30, 1 << 30, 9_000]),
            appends: 6 + chance.below(12),
            retention: chance.per_mille(500),
        }
    }
}

/// What a world is made in.
pub struct Surroundings {
    /// How much of everything there is.
    pub measures: Measures,
    /// Time and ids.
    pub clock: Arc<Clock>,
    /// Views that no death of a process takes away; without them each process has its own, in memory.
    pub views: Option<Arc<dyn LiveView>>,
}

impl Surroundings {
    /// Those of a seed.
    fn of(seed: u64) -> Self {
        Self { measures: Measures::of(seed), clock: Arc::default(), views: None }
    }

    /// A process that answers, after so many that died.
    fn serving(&self, life: u32) -> Serving {
        let in_memory = || -> Arc<dyn LiveView> {
            let settings = MemoryViewSettings { bytes_max: self.measures.view_bytes_max, scan_parts: 1 };
            Arc::new(MemoryView::new(settings))
        };
        Serving {
            life,
            view: self.views.as_ref().map_or_else(in_memory, Arc::clone),
            pressure: Arc::default(),
            indexers: Mutex::default(),
            busy: Mutex::default(),
        }
    }
}

/// See the module's text.
pub struct World {
    /// The seed.
    pub seed: u64,
    /// The gate.
    pub gate: Arc<Gate>,
    /// Time and ids.
    pub clock: Arc<Clock>,
    /// Objects.
    pub disk: Arc<Disk>,
    /// The log.
    pub log: Arc<MemoryLog>,
    /// Everything that was appended.
    pub history: Arc<History>,
    /// The topic.
    pub topic: Topic,
    /// Its source.
    pub source: Source,
    /// Versions of the two definitions.
    pub versions: [String; 2],
    surroundings: Surroundings,
    /// Defect on purpose.
    pub plant: Option<Plant>,
    /// Folder with files to ingest.
    pub folder: PathBuf,
    /// Content of every file that there ever was, by name.
    pub files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The highest pointer whose generation has answered anybody.
    pub answered: AtomicU64,
    /// What went wrong.
    pub findings: Mutex<Vec<String>>,
    /// What was done, by name.
    pub tally: Mutex<BTreeMap<String, u64>>,
    serving: Mutex<Arc<Serving>>,
}

struct NoStores;

#[async_trait]
impl Stores for NoStores {
    async fn open(&self, url: &StoreUrl, _: IfMissing) -> Result<Store, StoreError> {
        Err(StoreError::because(
            tidemark_shared::store::Operation::Open,
            url,
            tidemark_shared::store::Cause::NotFound,
            "there is no other store",
        ))
    }
}

impl World {
    /// A dataset with its first definition and an empty generation, in the measures of the seed.
    pub async fn new(seed: u64, actors: usize, folder: PathBuf, plant: Option<Plant>) -> Self {
        Self::with(seed, actors, folder, plant, Surroundings::of(seed)).await
    }

    /// The same in other surroundings.
    pub async fn with(
        seed: u64,
        actors: usize,
        folder: PathBuf,
        plant: Option<Plant>,
        surroundings: Surroundings,
    ) -> Self {
        let clock = Arc::clone(&surroundings.clock);
        let disk = Arc::new(Disk::new(Arc::clone(&clock)));
        let log = Arc::new(MemoryLog::new(Arc::clone(&clock) as Arc<dyn Ambient>));
        let name = TopicName::new(DATASET).expect("a valid name");
        let topic = log.create_topic(&name, PARTITIONS).await.expect("a log in memory takes a topic");
        let store = disk.store(None);
        let mut versions = [String::new(), String::new()];
        for variant in [1, 0] {
            let applied = registry::apply(&store, &data::sources(variant)).await.expect("a valid definition");
            versions[variant] = applied.version.to_string();
        }
        let serving = Mutex::new(Arc::new(surroundings.serving(0)));
        let world = Self {
            seed,
            gate: Arc::new(Gate::new(actors)),
            clock,
            disk,
            log,
            history: Arc::default(),
            topic,
            source: Source::topic(DATASET).expect("a valid name"),
            versions,
            surroundings,
            plant,
            folder,
            files: Mutex::default(),
            answered: AtomicU64::default(),
            findings: Mutex::default(),
            tally: Mutex::default(),
            serving,
        };
        world.batch(None).ensure_generation(DATASET).await.expect("a first generation");
        world
    }

    /// How much of everything there is.
    #[must_use]
    pub fn measures(&self) -> &Measures {
        &self.surroundings.measures
    }

    /// The batch layer as an actor has it.
    #[must_use]
    pub fn batch(&self, handle: Option<&Handle>) -> Batch {
        let store = self.disk.store(handle);
        let batch = Batch::new(store, Arc::new(NoStores), None, self.measures().batch.clone());
        batch.with_ambient(Arc::clone(&self.clock) as Arc<dyn Ambient>)
    }

    /// The log as an actor has it.
    #[must_use]
    pub fn gated_log(&self, handle: &Handle) -> Arc<dyn Log> {
        Arc::new(GatedLog::new(Arc::clone(&self.log), Arc::clone(&self.history), handle.clone()))
    }

    /// The views of the process that answers now, as an actor has them.
    #[must_use]
    pub fn gated_view(&self, handle: &Handle) -> Arc<GatedView> {
        Arc::new(GatedView::new(Arc::clone(&self.serving().view), handle.clone(), self.plant))
    }

    /// The process that answers.
    #[must_use]
    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(&lock(&self.serving))
    }

    /// Puts an empty process in its place.
    pub fn restart_serving(&self) {
        let mut slot = lock(&self.serving);
        let life = slot.life + 1;
        *slot = Arc::new(self.surroundings.serving(life));
    }

    /// A partition of the topic.
    #[must_use]
    pub fn partition(&self, number: u32) -> LogPartition {
        LogPartition { source: self.source.clone(), partition: number }
    }

    /// Which definition a version is of.
    #[must_use]
    pub fn variant(&self, version: &str) -> Option<usize> {
        self.versions.iter().position(|known| known == version)
    }

    /// Something is wrong.
    pub fn found(&self, what: String) {
        lock(&self.findings).push(what);
    }

    /// Something was done.
    pub fn count(&self, what: &str) {
        *lock(&self.tally).entry(what.to_owned()).or_default() += 1;
    }

    /// Looks at a failure: one without an injected fault, or of a kind that faults do not explain, is a finding.
    pub fn judge(&self, what: &str, error: &dyn ErrorKind, injected: bool) {
        self.count(&format!("{what} failed"));
        let explained = match error.kind() {
            Kind::Corrupt | Kind::Internal | Kind::Unsupported | Kind::Unprocessable | Kind::Invalid => false,
            Kind::Retryable | Kind::NotFound | Kind::Conflict | Kind::Exhausted => injected,
        };
        if !explained {
            let kind = error.kind();
            let after = if injected { "after an injected fault" } else { "without an injected fault" };
            self.found(format!("{what} failed {after} ({kind:?}): {}", chain(error)));
        }
    }
}
