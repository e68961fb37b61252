//! What readiness is decided by, as far as the process can see it, or asks log and views for it.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemark_shared::error::{ErrorKind, chain};
use tidemark_shared::log::Assignment;

use super::Standing;
use crate::config::Role;
use crate::up::parts::Parts;
use crate::up::stream::Stream;
use crate::up::streams::Streams;
use crate::up::task_name::TaskName;
use crate::up::tasks::Health;

/// What the process lacks that all datasets need; `None` if nothing. Whoever routes here is to know, and to know again once it
/// has passed.
pub(in crate::up) async fn lacking(parts: &Parts, at_most: Duration) -> Option<String> {
    let has = |roles: &[Role]| roles.iter().any(|role| parts.roles.has(*role));
    let log = async {
        let needed = has(&[Role::Archiver, Role::Indexer, Role::Serving]);
        if needed { lacks("the log has", at_most, parts.log.health()).await } else { None }
    };
    let views = async {
        let needed = has(&[Role::Indexer, Role::Serving]) && !parts.own_views;
        if needed { lacks("the real-time views have", at_most, parts.live.views()).await } else { None }
    };
    let (log, views) = tokio::join!(log, views);
    log.or(views)
}

/// What is wrong with an answer that the process needs; `None` if nothing.
async fn lacks<T, E: ErrorKind>(
    who_has: &str,
    at_most: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Option<String> {
    match tokio::time::timeout(at_most, answer).await {
        Ok(answer) => answer.err().map(|error| told(&error)),
        Err(_) => Some(format!("{who_has} not answered in time")),
    }
}

fn told(error: &impl ErrorKind) -> String {
    error.hint().map_or_else(|| chain(error), |hint| format!("{}; {hint}", chain(error)))
}

/// How the process stands with each dataset. Asks nobody.
pub(in crate::up) fn standings(parts: &Parts, streams: &Streams) -> BTreeMap<String, Standing> {
    let health = parts.tasks.health();
    let standing = |dataset: &str| {
        let failing = failing(&health, dataset);
        let Some(stream) = streams.get(dataset) else {
            if !streams.declares(dataset) {
                return Standing::Files;
            }
            return Standing::NotTakenUp(failing.unwrap_or_else(|| "its stream is being opened".to_owned()));
        };
        match (missing_of(parts, &stream), failing) {
            (None, None) => Standing::Works,
            (None, Some(failing)) => Standing::Fails(failing),
            (Some(missing), None) => Standing::NotTakenUp(missing),
            (Some(missing), Some(failing)) => Standing::NotTakenUp(format!("{missing}; {failing}")),
        }
    };
    let names = streams.known().into_iter();
    names.map(|dataset| (dataset.clone(), standing(&dataset))).collect()
}

/// What work on a dataset's stream and views failed for the last time, where it was the last that was heard of it.
fn failing(health: &BTreeMap<TaskName, Health>, dataset: &str) -> Option<String> {
    let of_task = |(name, health): (&TaskName, &Health)| {
        let is_its = name.kind.is_of_stream() && name.dataset.as_deref() == Some(dataset);
        let error = health.error.as_ref().filter(|_| is_its)?;
        Some(format!("{}: {error}", name.kind.name()))
    };
    let all: Vec<String> = health.iter().filter_map(of_task).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What archiver or indexers of an open stream lack.
fn missing_of(parts: &Parts, stream: &Stream) -> Option<String> {
    let waits = |role: Role, share: &Assignment| {
        let why = share.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
        (!share.joined).then(|| format!("the {} waits for its share of the partitions{why}", role.name()))
    };
    if let Some(share) = stream.archivers.get()
        && let Some(waits) = waits(Role::Archiver, &share.assignment())
    {
        return Some(waits);
    }
    if !parts.roles.has(Role::Indexer) {
        return None;
    }
    let indexers = stream.all_indexers();
    if indexers.is_empty() {
        return Some("no view is open yet".to_owned());
    }
    indexers.iter().find_map(|(_, running)| {
        let share = running.share.assignment();
        let resuming = || {
            let resumed = running.indexer.has_resumed(&share.partitions);
            (!resumed).then(|| "the indexer has not taken up all of its partitions yet".to_owned())
        };
        waits(Role::Indexer, &share).or_else(resuming)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::task_name::TaskKind;

    #[test]
    fn a_dataset_has_its_own_tasks() {
        let failed = |error: &str| Health { restarts: 1, error: Some(error.to_owned()) };
        let of = TaskName::of;
        let health = BTreeMap::from([
            (of(TaskKind::Archiver, "a"), failed("x")),
            (of(TaskKind::Batch, "a"), failed("no run")),
            (TaskName::of_indexer("a", "g1"), failed("y")),
            (TaskName::of_indexer("ab", "g1"), failed("z")),
            (TaskName::of_process(TaskKind::Keeper), failed("no keeper")),
            (of(TaskKind::Keeper, "b"), Health::default()),
            (of(TaskKind::Stream, "of"), failed("no topic")),
        ]);
        let of = |dataset| failing(&health, dataset);
        assert_eq!(of("a").as_deref(), Some("archiver: x; indexer: y"));
        assert_eq!((of("ab").as_deref(), of("b"), of("g1")), (Some("indexer: z"), None, None));
        assert_eq!(of("of").as_deref(), Some("stream: no topic"), "a dataset may be called so");
    }
}
