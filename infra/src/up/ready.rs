//! Whether the process's roles do their work: for whoever routes to it, and waits for it before he stops another one.

use std::time::Duration;

use tidemark_shared::error::{ErrorKind, chain};
use tidemark_shared::log::Assignment;

use super::parts::Parts;
use super::stream::Stream;
use super::streams::Streams;
use crate::config::Role;

/// Longest wait for the views' answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What one of the roles lacks; `None` if nothing.
pub(super) async fn missing(parts: &Parts, streams: &Streams) -> Option<String> {
    let has = |roles: &[Role]| roles.iter().any(|role| parts.roles.has(*role));
    if has(&[Role::Archiver, Role::Indexer, Role::Serving])
        && let Err(error) = parts.log.health().await
    {
        // Whoever routes here is to know, and to know again once it has passed.
        return Some(told(&error));
    }
    if has(&[Role::Indexer, Role::Serving]) && parts.moved_elsewhere {
        match tokio::time::timeout(ANSWER_MAX, parts.live.views()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Some(told(&error)),
            Err(_) => return Some("the real-time views have not answered in time".to_owned()),
        }
    }
    streams.all().iter().find_map(|stream| missing_of(parts, stream))
}

fn told(error: &impl ErrorKind) -> String {
    error.hint().map_or_else(|| chain(error), |hint| format!("{}; {hint}", chain(error)))
}

/// What archiver or indexers of a stream lack.
fn missing_of(parts: &Parts, stream: &Stream) -> Option<String> {
    let dataset = &stream.dataset;
    let waits = |role: Role, share: &Assignment| {
        let why = share.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
        (!share.joined)
            .then(|| format!("the {} of `{dataset}` waits for its share of the partitions{why}", role.name()))
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
        return Some(format!("no view of `{dataset}` is open yet"));
    }
    indexers.iter().find_map(|(_, running)| {
        let share = running.share.assignment();
        let resuming = || {
            let resumed = running.indexer.has_resumed(&share.partitions);
            (!resumed).then(|| format!("the indexer of `{dataset}` has not taken up all of its partitions yet"))
        };
        waits(Role::Indexer, &share).or_else(resuming)
    })
}
