//! Killing the real binary at random moments, and comparing what is left with an undisturbed run.

mod kill;
mod snapshot;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::platform::{PlatformError, Tidemark, dataset_folder};
use crate::random::Random;
use crate::synthetic::{Plan, generate};

pub use kill::{Ending, Kill, run_and_kill};
pub use snapshot::{Snapshot, orphans, snapshot, vacuum};

/// A failure that the chaos run is looking for, or one that keeps it from looking.
pub type ChaosError = Box<dyn std::error::Error>;

/// Kills before a scenario is run to its end.
const KILLS_A_SCENARIO: u64 = 3;

/// The command that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// `tidemark ingest` into an empty store.
    Ingest,
    /// `tidemark batch recompute` of a curated table.
    Recompute,
}

impl Victim {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Recompute => "recompute",
        }
    }
}

/// Where scenarios put their stores.
#[derive(Debug, Clone)]
pub enum Site {
    /// The store in the scenario's data directory.
    Local,
    /// A prefix of its own below this URL, `s3://bucket/prefix`; endpoint and keys from the usual AWS variables.
    Remote(String),
}

/// What to do.
#[derive(Debug, Clone)]
pub struct ChaosPlan {
    /// Kills to reach.
    pub kills: u64,
    /// Seed of moments and failpoints.
    pub seed: u64,
    /// Where.
    pub site: Site,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Processes that ended by a kill or at a failpoint.
    pub kills: u64,
    /// Processes that were done before their kill came.
    pub escaped: u64,
    /// Scenarios that were run to their end and compared.
    pub compared: u64,
    /// Orphaned objects that vacuum removed.
    pub orphans: u64,
}

/// The trips that every scenario works on: about 5,000 records in six files.
///
/// # Errors
/// Whatever writing reports.
pub fn trips(folder: &Path) -> Result<PathBuf, ChaosError> {
    let csv = folder.join("csv");
    generate(Plan { records: 5_000, months: 6, seed: 5 }, &csv, &mut |_| {})?;
    std::fs::remove_file(csv.join(crate::synthetic::MANIFEST))?;
    Ok(csv)
}

/// One command under fire at one site.
pub struct Range {
    victim: Victim,
    plan: ChaosPlan,
    folder: PathBuf,
    csv: PathBuf,
    failpoints: Vec<String>,
    scenarios: u64,
}

impl Range {
    /// Scenarios keep their data below `folder` and ingest the files of `csv`.
    #[must_use]
    pub fn new(victim: Victim, plan: ChaosPlan, folder: &Path, csv: &Path) -> Self {
        Self { victim, plan, folder: folder.to_owned(), csv: csv.to_owned(), failpoints: Vec::new(), scenarios: 0 }
    }

    /// Kills until the plan's number is reached; each scenario is then run to its end and compared with an undisturbed
    /// one.
    ///
    /// # Errors
    /// A difference, or a command that can't be run.
    pub fn fire(&mut self) -> Result<Tally, ChaosError> {
        let calm = self.scenario()?;
        self.failpoints = failpoints(&calm)?;
        let begun = Instant::now();
        calm.run(&self.args())?.expect_code(0)?;
        let duration = begun.elapsed();
        let wanted = snapshot(&calm)?;
        wanted.check_accounted()?;

        let mut random = Random::new(self.plan.seed);
        let mut tally = Tally::default();
        while tally.kills < self.plan.kills {
            self.one(&mut random, duration, &wanted, &mut tally)?;
            if tally.escaped > 10 * self.plan.kills + 100 {
                return Err(format!("hardly any process is hit: {tally:?}").into());
            }
        }
        Ok(tally)
    }

    fn one(
        &mut self,
        random: &mut Random,
        duration: Duration,
        wanted: &Snapshot,
        tally: &mut Tally,
    ) -> Result<(), ChaosError> {
        let tidemark = self.scenario()?;
        let before = self.tally_before(&tidemark)?;
        for attempt in 0..KILLS_A_SCENARIO {
            let kill = Kill::random(random, duration, &self.failpoints);
            match run_and_kill(&tidemark, &self.args(), &kill)? {
                Ending::Killed => tally.kills += 1,
                Ending::Done => {
                    tally.escaped += 1;
                    if attempt == 0 {
                        self.forget_unreached(&kill);
                    }
                    break;
                }
                Ending::Failed(text) => return Err(format!("{kill:?}: {text}").into()),
            }
            self.check_between(&tidemark, before.as_ref(), wanted)
                .map_err(|error| format!("after {kill:?}: {error}"))?;
        }
        tidemark.run(&self.args())?.expect_code(0)?;
        let found = snapshot(&tidemark)?;
        wanted.compare(&found).map_err(|difference| format!("after the last run: {difference}"))?;
        tally.orphans += vacuum(&tidemark)?;
        wanted.compare(&snapshot(&tidemark)?).map_err(|difference| format!("after vacuum: {difference}"))?;
        let left = orphans(&tidemark, matches!(self.plan.site, Site::Local))?;
        if !left.is_empty() {
            return Err(format!("vacuum left orphans: {}", left.join(", ")).into());
        }
        tally.compared += 1;
        // only a scenario that failed is of further use
        std::fs::remove_dir_all(tidemark.data_dir())?;
        Ok(())
    }

    /// A failpoint that a whole run does not pass belongs to another command.
    fn forget_unreached(&mut self, kill: &Kill) {
        if let Kill::At { failpoint, nth: 1 } = kill {
            self.failpoints.retain(|known| known != failpoint);
        }
    }

    /// A recompute must leave the old generation answering as it did, until the new one answers the same.
    fn tally_before(&self, tidemark: &Tidemark) -> Result<Option<Snapshot>, ChaosError> {
        match self.victim {
            Victim::Ingest => Ok(None),
            Victim::Recompute => Ok(Some(snapshot(tidemark)?)),
        }
    }

    fn check_between(
        &self,
        tidemark: &Tidemark,
        before: Option<&Snapshot>,
        wanted: &Snapshot,
    ) -> Result<(), ChaosError> {
        match before {
            Some(before) => Ok(before.compare(&snapshot(tidemark)?)?),
            None => wanted.check_whole_files(tidemark),
        }
    }

    /// A fresh store, with the dataset applied, and with its table where a recompute is to be killed.
    fn scenario(&mut self) -> Result<Tidemark, ChaosError> {
        self.scenarios += 1;
        let name = format!("{}-{}", self.victim.name(), self.scenarios);
        let mut tidemark = Tidemark::new(&self.folder.join(&name))?;
        if let Site::Remote(url) = &self.plan.site {
            tidemark = tidemark.with_env("TIDEMARK_STORE_URL", format!("{}/{name}", url.trim_end_matches('/')));
        }
        apply_trips(&tidemark)?;
        if self.victim == Victim::Recompute {
            tidemark.run(&ingest_args(&self.csv))?.expect_code(0)?;
        }
        Ok(tidemark)
    }

    fn args(&self) -> Vec<String> {
        match self.victim {
            Victim::Ingest => ingest_args(&self.csv),
            Victim::Recompute => ["batch", "recompute", "trips"].map(str::to_owned).to_vec(),
        }
    }
}

/// Applies the repository's trips definition.
///
/// # Errors
/// Another exit code than 0.
pub fn apply_trips(tidemark: &Tidemark) -> Result<(), PlatformError> {
    let folder = dataset_folder("trips").to_string_lossy().into_owned();
    tidemark.run(&["dataset", "apply", &folder])?.expect_code(0).map(|_| ())
}

/// `ingest trips FOLDER`.
#[must_use]
pub fn ingest_args(csv: &Path) -> Vec<String> {
    vec!["ingest".to_owned(), "trips".to_owned(), csv.to_string_lossy().into_owned()]
}

/// The failpoints that the binary knows; none where it was built without any.
fn failpoints(tidemark: &Tidemark) -> Result<Vec<String>, ChaosError> {
    let outcome = tidemark.run(&["debug", "failpoints"])?.expect_code(0)?;
    Ok(outcome.stdout.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
