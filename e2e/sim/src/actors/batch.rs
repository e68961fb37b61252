//! The batch layer: runs, files, withdrawals, compaction, packing, recomputes.

use tidemark_batch::report::quiet;
use tidemark_batch::{Batch, BatchError, IngestRequest};
use tidemark_e2e::random::Random;
use tidemark_shared::dataset::registry;
use tidemark_shared::error::ErrorKind as _;

use super::Actor;
use crate::data::{DATASET, file, sources};

/// What there is to do.
const KINDS: [&str; 6] = ["run", "compact", "pack", "ingest", "withdraw", "recompute"];
/// How likely each is, in simulations of several kinds.
const MIXES: [[u64; 6]; 4] =
    [[56, 11, 11, 7, 5, 10], [50, 5, 5, 5, 5, 30], [45, 25, 25, 2, 1, 2], [40, 10, 5, 20, 20, 5]];

/// Does one thing after the other, as its chance has it.
pub(super) async fn work(actor: Actor) {
    let mut chance = actor.chance();
    let batch = actor.world.batch(Some(&actor.handle));
    let (mut files, mut given) = (0, Vec::new());
    let mix = Random::part(actor.world.seed, 4).pick(&MIXES);
    while actor.handle.idle().await {
        let faults = actor.handle.faults();
        let (what, done) = match KINDS[chance.weighted(mix.iter().copied())] {
            "run" => ("run", batch.run(DATASET, &quiet()).await.map(drop)),
            "compact" => ("compact", batch.compact(DATASET).await.map(drop)),
            "pack" => ("pack", batch.pack(DATASET).await.map(drop)),
            "ingest" => {
                files += 1;
                let name = format!("{}.{}.{files}", actor.number, actor.life);
                given.push(name.clone());
                ("ingest", ingest(&actor, &batch, name, &mut chance).await)
            }
            "withdraw" => match given.pop() {
                Some(name) => ("withdraw", withdraw(&batch, name).await),
                None => continue,
            },
            _ => ("recompute", recompute(&actor, &batch, &mut chance).await),
        };
        match done {
            Ok(()) => actor.world.count(what),
            Err(error) => judge(&actor, what, &error, faults),
        }
    }
}

fn judge(actor: &Actor, what: &str, error: &BatchError, faults: u64) {
    let injected = actor.handle.faults() > faults;
    // A race that is lost too often is no defect; neither is a recompute that another one outran.
    let raced = matches!(error, BatchError::Contended { .. } | BatchError::Abandoned { .. });
    actor.world.judge(what, error, injected || (raced && error.kind() != tidemark_shared::error::Kind::Internal));
}

async fn ingest(actor: &Actor, batch: &Batch, name: String, chance: &mut Random) -> Result<(), BatchError> {
    let bytes = file(&name, chance);
    let path = actor.world.folder.join(&name);
    std::fs::write(&path, &bytes).map_err(|source| BatchError::Read { path: name.clone(), source })?;
    if let Ok(mut files) = actor.world.files.lock() {
        files.insert(name.clone(), bytes);
    }
    let paths = vec![path.to_string_lossy().into_owned()];
    let request = IngestRequest { paths, name: Some(name), ..IngestRequest::default() };
    batch.ingest(DATASET, &request, &quiet()).await.map(drop)
}

/// Takes out a file that was given before, or was to be: a run that failed may not have come to enter it.
async fn withdraw(batch: &Batch, name: String) -> Result<(), BatchError> {
    match batch.withdraw(DATASET, &[name], &quiet()).await {
        Ok(_) | Err(BatchError::UnknownFile { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn recompute(actor: &Actor, batch: &Batch, chance: &mut Random) -> Result<(), BatchError> {
    let store = actor.world.disk.store(Some(&actor.handle));
    registry::apply(&store, &sources(usize::from(chance.per_mille(500)))).await?;
    batch.recompute(DATASET, &quiet()).await.map(drop)
}
