//! Producers and archivers.

use std::sync::Arc;
use std::time::Duration;

use tidemark_e2e::random::Random;
use tidemark_shared::ambient::Ambient;
use tidemark_shared::error::ErrorKind;
use tidemark_shared::log::{IdempotencyKey, ReadLimits, Record, Retention, Routed};
use tidemark_shared::segment::Archive;
use tidemark_speed::archiver::{Archiver, ArchiverError, ArchiverSettings};

use super::Actor;
use crate::data::{DATASET, PARTITIONS, record};

/// How often an append is repeated whose answer did not come.
const REPEATS_MAX: u32 = 5;

/// Appends, with an idempotency key two times in three; then what gets no answer is repeated.
pub(super) async fn produce(actor: Actor) {
    let world = &actor.world;
    let log = world.gated_log(&actor.handle);
    let mut chance = actor.chance();
    for number in 0..world.measures().appends {
        let name = format!("{}.{}.{number}", actor.number, actor.life);
        let (records, key) = batch(&actor, &name, &mut chance);
        for attempt in 0..REPEATS_MAX {
            if !actor.handle.idle().await {
                return;
            }
            match log.append(&world.topic, records.clone(), key.as_ref()).await {
                Ok(appended) => {
                    world.count("append");
                    let values = records.iter().filter_map(|routed| routed.record.value.clone());
                    world.history.past().acknowledged.extend(values.zip(appended.positions));
                    break;
                }
                Err(error) if attempt + 1 == REPEATS_MAX || key.is_none() => {
                    world.judge("append", &error, true);
                    break;
                }
                Err(error) => world.judge("append", &error, actor.handle.faults() > 0),
            }
        }
    }
}

fn batch(actor: &Actor, name: &str, chance: &mut Random) -> (Vec<Routed>, Option<IdempotencyKey>) {
    let timestamp_ms = actor.world.clock.now().timestamp_millis();
    let count = 1 + chance.below(8);
    let records = (0..count).map(|n| {
        let value = Some(record(&format!("{name}.{n}"), chance));
        let partition = if chance.per_mille(500) { 0 } else { PARTITIONS - 1 };
        Routed { partition, record: Record { value, timestamp_ms, ..Record::default() } }
    });
    let records = records.collect();
    let key = chance.per_mille(660).then(|| IdempotencyKey::new(name).expect("a short name"));
    (records, key)
}

/// Archives step by step, now and then everything at once.
pub(super) async fn archive(actor: Actor) {
    let world = &actor.world;
    let mut chance = actor.chance();
    let retention = match world.measures().retention {
        true => Retention { bytes_max: Some(300), age_max: None },
        false => Retention::default(),
    };
    let settings = ArchiverSettings {
        segment_bytes_max: chance.pick(&[150, 600, 5_000]),
        segment_age_max: Duration::from_millis(chance.pick(&[50, 500, 2_000])),
        read: ReadLimits { records_max: chance.pick(&[2, 7, 1_000]), bytes_max: 1 << 20 },
        retention,
        ..ArchiverSettings::default()
    };
    while actor.handle.idle().await {
        let faults = actor.handle.faults();
        let archive = Archive::new(world.disk.store(Some(&actor.handle)), DATASET);
        let ambient = Arc::clone(&world.clock) as Arc<dyn Ambient>;
        let opened =
            Archiver::open(world.gated_log(&actor.handle), archive, world.topic.clone(), ambient, settings).await;
        match opened {
            Ok(archiver) => return archive_on(&actor, &archiver, &mut chance).await,
            Err(error) => world.judge("archiver start", &error, actor.handle.faults() > faults),
        }
    }
}

async fn archive_on(actor: &Actor, archiver: &Archiver, chance: &mut Random) {
    let world = &actor.world;
    while actor.handle.idle().await {
        let faults = actor.handle.faults();
        let partition = u32::from(chance.per_mille(500));
        let done = match chance.per_mille(100) {
            true => archiver.flush().await.map(|_| "flush"),
            false => archiver.step(partition).await.map(|_| "archive"),
        };
        match done {
            Ok(done) => world.count(done),
            Err(error) => judge(actor, &error, faults),
        }
    }
}

fn judge(actor: &Actor, error: &ArchiverError, faults: u64) {
    actor.world.judge("archive", error as &dyn ErrorKind, actor.handle.faults() > faults);
}
