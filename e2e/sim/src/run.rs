//! One simulation: chaos, then quiet, then the last word.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tidemark_batch::report::quiet;
use tidemark_e2e::random::Random;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::error::chain;
use tidemark_shared::position::Coverage;
use tidemark_shared::segment::Archive;
use tidemark_speed::archiver::{Archiver, ArchiverSettings};

use crate::actors::{Actor, CAST, Keeper, ask, index_all};
use crate::data::{DATASET, Fate, PARTITIONS, fate};
use crate::oracle;
use crate::schedule::{Schedule, Trace};
use crate::view::Plant;
use crate::world::World;

/// The actor as whom the simulation itself acts at the end.
const KEEPER: usize = 6;

/// How a simulation ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The order of calls and faults.
    pub trace: Trace,
    /// What was wrong; nothing, if all is well.
    pub findings: Vec<String>,
    /// What was done, by name.
    pub tally: BTreeMap<String, u64>,
}

/// What is asked of a simulation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Keep the lines of the trace.
    pub verbose: bool,
    /// A defect on purpose.
    pub plant: Option<Plant>,
}

/// Runs the simulation of a seed. Must be called on a runtime of one thread.
pub async fn simulate(seed: u64, folder: &Path, wanted: Wanted) -> Outcome {
    let world = Arc::new(World::new(seed, CAST.len(), folder.to_owned(), wanted.plant).await);
    let steps = steps(seed);
    let trace = Box::pin(Schedule::new(Arc::clone(&world), wanted.verbose).run(steps)).await;
    let has_found = world.findings.lock().map_or(true, |findings| !findings.is_empty());
    if !has_found {
        world.gate.open();
        world.restart_serving();
        if let Err(wrong) = Box::pin(settle(&world)).await {
            world.found(format!("at the end: {wrong}"));
        }
    }
    let findings = world.findings.lock().map(|findings| findings.clone()).unwrap_or_default();
    let tally = world.tally.lock().map(|tally| tally.clone()).unwrap_or_default();
    Outcome { seed, trace, findings, tally }
}

/// Calls of a simulation. Most are short, for another beginning tells more than a longer end; some are long, for what takes
/// several generations, packings and checkpoints to come about.
fn steps(seed: u64) -> u64 {
    let mut chance = Random::part(seed, 3);
    match chance.per_mille(250) {
        true => 400 + chance.below(800),
        false => 100 + chance.below(300),
    }
}

/// Without faults everything comes to rest, and the answer has every record once.
async fn settle(world: &Arc<World>) -> Result<(), String> {
    let handle = world.gate.handle(KEEPER);
    let actor = Actor { world: Arc::clone(world), handle, number: KEEPER, life: u32::MAX };
    // First as it is: most rows come from the view. Then with everything curated.
    for curated in [false, true] {
        if curated {
            curate(world, &actor).await?;
        }
        let mut keeper = Keeper::new(&actor);
        for _ in 0..4 {
            keeper.look().await.map_err(|error| chain(&error))?;
            index_all(&actor).await.map_err(|error| chain(&error))?;
            world.clock.pass(1_000);
        }
        let Some((as_of, rows)) = ask(&actor).await else { return Ok(()) };
        oracle::check(world, &as_of, &rows, &Coverage::new()).await?;
        let is_full = world.measures().view_bytes_max < 1 << 20;
        for number in 0..PARTITIONS {
            let (position, end) = (as_of.positions.end(&world.partition(number)), world.history.end(number));
            if position != end && (curated || !is_full) {
                return Err(format!("the answer covers partition {number} to {position}, not to {end}"));
            }
        }
    }
    acknowledged(world)?;
    counts(world).await
}

/// Archives and curates all there is.
async fn curate(world: &Arc<World>, actor: &Actor) -> Result<(), String> {
    let archive = Archive::new(world.disk.store(Some(&actor.handle)), DATASET);
    let ambient = Arc::clone(&world.clock) as Arc<dyn Ambient>;
    let log = world.gated_log(&actor.handle);
    let archiver = Archiver::open(log, archive, world.topic.clone(), ambient, ArchiverSettings::default());
    let archiver = archiver.await.map_err(|error| chain(&error))?;
    archiver.flush().await.map_err(|error| chain(&error))?;
    world.batch(Some(&actor.handle)).run(DATASET, &quiet()).await.map_err(|error| chain(&error))?;
    Ok(())
}

/// What producers were told is true, and what had an idempotency key is there once.
fn acknowledged(world: &World) -> Result<(), String> {
    let past = world.history.past();
    for (value, at) in &past.acknowledged {
        if past.records.get(&(at.partition, at.offset)) != Some(value) {
            return Err(format!("the record acknowledged at {at:?} is not there"));
        }
    }
    let mut times: BTreeMap<&[u8], u64> = BTreeMap::new();
    for value in past.records.values().filter(|value| past.once.contains(*value)) {
        *times.entry(value.as_ref()).or_default() += 1;
    }
    match times.into_iter().find(|(_, times)| *times > 1) {
        Some((value, times)) => Err(format!("{} is there {times} times", String::from_utf8_lossy(value))),
        None => Ok(()),
    }
}

/// H8: what the newest table says of its records is what they became.
async fn counts(world: &World) -> Result<(), String> {
    let status = world.batch(None).status(DATASET).await.map_err(|error| chain(&error))?;
    let variant = status.active_definition.as_deref().and_then(|version| world.variant(version));
    let variant = variant.ok_or("the table's definition was never applied")?;
    for number in 0..PARTITIONS {
        let name = world.partition(number).to_string();
        let found = status.streams.iter().find(|stream| stream.partition == name).map(|stream| stream.counts);
        let (mut accepted, mut filtered, mut rejected) = (0, 0, 0);
        let past = world.history.past();
        for (_, record) in past.records.range((number, 0)..(number + 1, 0)) {
            match fate(record, variant) {
                Fate::Row(..) => accepted += 1,
                Fate::Filtered => filtered += 1,
                Fate::Rejected => rejected += 1,
            }
        }
        let found = found.unwrap_or_default();
        let told = (found.records, found.accepted, found.filtered, found.rejected);
        let wanted = (accepted + filtered + rejected, accepted, filtered, rejected);
        if told != wanted {
            return Err(format!("{name} counts {told:?} (records, accepted, filtered, rejected), not {wanted:?}"));
        }
    }
    Ok(())
}
