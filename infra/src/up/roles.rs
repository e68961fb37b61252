//! What the process's roles set going, and how they end.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use tidemark_shared::error::chain;
use tokio::time::MissedTickBehavior;

use super::UpError;
use super::parts::Parts;
use super::runs::{Intervals, Runs};
use super::stream::Stream;
use super::streams::{Found, Streams};
use super::task_name::{TaskKind, TaskName};
use crate::config::{Role, ServerConfig};

/// How long each part of stopping may take.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at positions, by those who wait for them: what other processes move, nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Opens streams and views, and sets everything going that is not a door.
pub(super) async fn start(parts: &Parts, streams: &Arc<Streams>, config: &ServerConfig) -> Result<(), UpError> {
    let intervals = Intervals { runs: config.batch_interval, vacuums: config.vacuum_interval };
    let definitions_interval = config.definitions_interval;
    let found: Found = {
        let (parts, streams) = (parts.clone(), Arc::clone(streams));
        Arc::new(move |stream: Arc<Stream>| -> BoxFuture<'static, ()> {
            let (parts, streams) = (parts.clone(), Arc::clone(&streams));
            Box::pin(async move { start_stream(&parts, &streams, intervals, stream).await })
        })
    };
    streams.discover(&found).await?;
    let streams = Arc::clone(streams);
    let keeper = move || {
        let (streams, found) = (Arc::clone(&streams), Arc::clone(&found));
        async move { streams.run(definitions_interval, &found).await.map_err(|error| chain(&error)) }
    };
    let name = TaskName::of_process(TaskKind::Keeper);
    parts.tasks.spawn(name, parts.stop_speed.clone(), keeper).await;
    if parts.roles.has(Role::Serving) && !parts.own_views {
        let looking = parts.clone();
        let look = move || {
            let parts = looking.clone();
            async move {
                look_again(&parts).await;
                Ok(())
            }
        };
        let name = TaskName::of_process(TaskKind::Positions);
        parts.tasks.spawn(name, parts.stop_speed.clone(), look).await;
    }
    Ok(())
}

/// Sets archiver and batch runs of a stream going, those of them that are the process's.
async fn start_stream(parts: &Parts, streams: &Arc<Streams>, intervals: Intervals, stream: Arc<Stream>) {
    if let Some(share) = stream.archivers.get().cloned() {
        let (archiver, stop) = (Arc::clone(&stream.archiver), stream.stop.clone());
        let archive = move || {
            let (archiver, share, stop) = (Arc::clone(&archiver), share.clone(), stop.clone());
            async move { archiver.run(&share, &stop).await.map_err(|error| chain(&error)) }
        };
        let name = TaskName::of(TaskKind::Archiver, &stream.dataset);
        parts.tasks.spawn(name, stream.stop.clone(), archive).await;
    }
    if stream.runners.get().is_some() {
        let (name, stop_batch) = (TaskName::of(TaskKind::Batch, &stream.dataset), stream.stop_batch.clone());
        let runs = Arc::new(Runs { parts: parts.clone(), stream, streams: Arc::clone(streams), intervals });
        let run = move || {
            let runs = Arc::clone(&runs);
            async move { runs.run().await.map_err(|error| chain(&error)) }
        };
        parts.tasks.spawn(name, stop_batch, run).await;
    }
}

/// Lets those who wait for positions look every so often, until the process stops. While nobody waits, it costs nothing.
async fn look_again(parts: &Parts) {
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while parts.stop_speed.run_until_cancelled(ticks.tick()).await.is_some() {
        if parts.moves.are_waited_for() {
            parts.moves.tell();
        }
    }
}

/// In the order that `ARCHITECTURE.md` gives ("Start and stop").
pub(super) async fn shut_down(parts: &Parts, streams: &Streams) {
    parts.stop_batch.cancel();
    parts.stop_speed.cancel();
    if !parts.tasks.join(STOP_MAX).await {
        tracing::warn!("tasks were cut off");
    }
    let all = streams.all();
    let flushes = all.iter().filter(|stream| stream.archivers.get().is_some()).map(|stream| async {
        if let Err(error) = stream.archiver.flush_own().await {
            tracing::warn!(dataset = stream.dataset, error = %chain(&error), "not all is archived");
        }
    });
    if tokio::time::timeout(STOP_MAX, join_all(flushes)).await.is_err() {
        tracing::warn!("not all is archived in time; the log still has it");
    }
    // Others take over at once what nobody here works on any more.
    let _left: Vec<()> = join_all(all.iter().map(|stream| stream.leave())).await;
    match tokio::time::timeout(STOP_MAX, parts.log.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %chain(&error), "the log was not closed"),
        Err(_) => tracing::warn!("the log did not close in time"),
    }
}
