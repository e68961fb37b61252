//! Whether the process's roles do their work: for whoever routes to it, and waits for it before he stops another one.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemark_serving::http::Readiness;
use tidemark_shared::error::{ErrorKind, chain};
use tidemark_shared::log::Assignment;
use tidemark_shared::position::Coverage;
use tidemark_speed::indexer::ViewStatus;

use super::parts::Parts;
use super::stream::Stream;
use super::streams::Streams;
use super::task_name::TaskName;
use super::tasks::Health;
use crate::config::Role;

/// Longest wait for the answers of log and views, which are asked side by side.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(2);
/// For so long after the start, a dataset that is not taken up holds the whole process back.
const TAKING_UP_MAX: Duration = Duration::from_secs(60);

/// For so long after the start, a dataset whose own view is still being made anew holds a process back that was never ready.
const CATCHING_UP_MAX: Duration = Duration::from_secs(300);

/// How the process stands with a dataset, whichever its roles: each of them opens the stream, for its own part of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The dataset has no stream: there is nothing to take up.
    Files,
    /// The stream is open, and the process works on its share.
    Works,
    /// So it does, and a part of that fails and is tried again.
    Fails(String),
    /// The stream is not open (its topic is missing, a broker refuses, its view can't be opened), or its share not there.
    NotTakenUp(String),
}

/// What readiness is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// For how long all has been started that is no dataset's; `None`: the process starts or stops.
    pub(super) up_for: Option<Duration>,
    /// What the process lacks that all datasets need.
    pub(super) lacking: Option<String>,
    pub(super) datasets: BTreeMap<String, Standing>,
    /// Datasets whose views are being made anew, with what they lack of the rows that were in the log when their streams were
    /// opened. A view in memory is gone with its process, and the next one makes it anew, from the coverage on.
    pub(super) made_anew: BTreeMap<String, String>,
    /// True if the process was ready before.
    pub(super) was_ready: bool,
    /// True if it answers questions: then it works for datasets without a stream, too.
    pub(super) serves: bool,
}

/// Whether to route to the process, and to go on with the next one.
///
/// What all datasets need (log, views) decides for all. A single dataset does not: its topic may be gone for good, and a door
/// that is out of the load balancer for it answers for none of the others, in no process. So a dataset that is not taken up is
/// named, and that is all, with two exceptions. In the first minute it is waited for, because most of what goes wrong at a
/// start passes, and who replaces processes one by one stops the next one after it, which has the dataset still. And where
/// nothing else works, the process works for nobody: settings or a release that make it so are not to be rolled out further.
///
/// A view that is made anew is waited for, within a bound: until it is as far as the log was when the stream was opened, answers
/// would go back behind those that the process before gave. A process that was ready is not taken away from all the others for
/// it: a dataset that it takes up later, with a full topic, is named, and that is all.
pub(super) fn decide(observed: &Observed) -> Readiness {
    let not_ready = |reason: String| Readiness::NotReady { reason };
    let Some(up_for) = observed.up_for else { return not_ready("it starts or stops".to_owned()) };
    if let Some(lacking) = &observed.lacking {
        return not_ready(lacking.clone());
    }
    let works = |standing: &Standing| match standing {
        Standing::Works | Standing::Fails(_) => true,
        Standing::Files => observed.serves,
        Standing::NotTakenUp(_) => false,
    };
    let is_waited_for = up_for < TAKING_UP_MAX || !observed.datasets.values().any(works);
    let mut not_taken_up = observed.datasets.iter().filter_map(|(dataset, standing)| match standing {
        Standing::NotTakenUp(reason) => Some((dataset, reason)),
        _ => None,
    });
    // Nobody knows whether one whose work fails comes as far.
    let catches_up = |dataset: &String| observed.datasets.get(dataset) == Some(&Standing::Works);
    let mut made_anew = observed.made_anew.iter().filter(|(dataset, _)| catches_up(dataset));
    let may_catch_up = !observed.was_ready && up_for < CATCHING_UP_MAX;
    let first = not_taken_up.next().filter(|_| is_waited_for);
    match first.or_else(|| made_anew.next().filter(|_| may_catch_up)) {
        Some((dataset, reason)) => not_ready(format!("dataset `{dataset}`: {reason}")),
        None => {
            let mut named = observed.made_anew.clone();
            named.extend(degraded(&observed.datasets));
            Readiness::Ready { degraded: named }
        }
    }
}

/// The datasets that the process does not do all its work for, with the reasons.
pub(super) fn degraded(datasets: &BTreeMap<String, Standing>) -> BTreeMap<String, String> {
    let reason = |standing: &Standing| match standing {
        Standing::Fails(reason) | Standing::NotTakenUp(reason) => Some(reason.clone()),
        Standing::Files | Standing::Works => None,
    };
    datasets.iter().filter_map(|(dataset, standing)| Some((dataset.clone(), reason(standing)?))).collect()
}

/// The datasets whose own views are not known to have been where the log ended when their streams were opened, with what they
/// lack.
pub(super) async fn made_anew(streams: &Streams, at_most: Duration) -> BTreeMap<String, String> {
    let looked_at = streams.all().into_iter().map(|stream| async move {
        if stream.has_caught_up.load(Ordering::Relaxed) {
            return None;
        }
        let asked = tokio::time::timeout(at_most, view_statuses(&stream)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", at_most.as_secs_f64())));
        let lack = Lack::of(&stream.ends_at_open, &asked);
        if lack == Lack::Nothing {
            stream.has_caught_up.store(true, Ordering::Relaxed);
        }
        Some((stream.dataset.clone(), lack.told()?))
    });
    futures::future::join_all(looked_at).await.into_iter().flatten().collect()
}

/// How far each of a stream's views is; an error if that can't be told of all of them.
async fn view_statuses(stream: &Stream) -> Result<Vec<ViewStatus>, String> {
    let mut statuses = Vec::new();
    for (_, running) in stream.all_indexers() {
        // What they lack is of what the log had then: nobody needs its ends of now.
        statuses.push(running.indexer.status(&stream.ends_at_open).await.map_err(|error| chain(&error))?);
    }
    Ok(statuses)
}

/// What a stream's own views lack of what the log had when the stream was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lack {
    /// Nothing: so it stays, whatever comes.
    Nothing,
    /// Offsets of partitions that do not get on: nobody knows whether they come.
    Stuck,
    /// So many offsets that come; of several views, those of the one that lacks most.
    Offsets(u64),
    /// That can't be told now: there is a view, and it may lack anything.
    Untold(String),
}

impl Lack {
    /// What views lack that stand so, where the log had these ends.
    fn of(ends: &Coverage, views: &Result<Vec<ViewStatus>, String>) -> Self {
        if ends.iter().all(|(_, end)| end == 0) {
            return Self::Nothing;
        }
        let views = match views {
            Ok(views) if views.is_empty() => return Self::Untold("none is open yet".to_owned()),
            Ok(views) => views,
            Err(reason) => return Self::Untold(reason.clone()),
        };
        let lacking = || views.iter().map(|view| lacking_of(ends, view));
        let that_come = lacking().map(|(that_come, _)| that_come).max().unwrap_or(0);
        match lacking().all(|(_, offsets)| offsets == 0) {
            true => Self::Nothing,
            false if that_come == 0 => Self::Stuck,
            false => Self::Offsets(that_come),
        }
    }

    /// For people; `None` if there is nothing that could be waited for.
    fn told(&self) -> Option<String> {
        match self {
            Self::Nothing | Self::Stuck => None,
            Self::Offsets(offsets) => Some(format!(
                "its real-time view lacks {offsets} offsets still that the log had when the stream was opened"
            )),
            Self::Untold(reason) => {
                Some(format!("whether its real-time view has caught up can't be told yet: {reason}"))
            }
        }
    }
}

/// Offsets that a view lacks: of partitions that nothing keeps from going on, and of all.
fn lacking_of(ends: &Coverage, status: &ViewStatus) -> (u64, u64) {
    let (mut that_come, mut all) = (0, 0);
    for (partition, end) in ends.iter() {
        let known = status.partitions.get(&partition.to_string());
        let offsets = end.saturating_sub(known.map_or(0, |known| known.visible));
        all += offsets;
        that_come += if known.is_none_or(|known| known.trouble.is_none()) { offsets } else { 0 };
    }
    (that_come, all)
}

/// What the process lacks that all datasets need; `None` if nothing. Whoever routes here is to know, and to know again once it
/// has passed.
pub(super) async fn lacking(parts: &Parts, at_most: Duration) -> Option<String> {
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
pub(super) fn standings(parts: &Parts, streams: &Streams) -> BTreeMap<String, Standing> {
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
    use tidemark_shared::counts::Totals;
    use tidemark_speed::freshness::Freshness;
    use tidemark_speed::indexer::IndexerStatus;
    use tidemark_speed::trouble::Trouble;

    use super::*;
    use crate::up::task_name::TaskKind;

    fn observed(seconds: u64, serves: bool, datasets: &[(&str, Standing)]) -> Observed {
        let datasets = datasets.iter().map(|(name, standing)| ((*name).to_owned(), standing.clone())).collect();
        Observed {
            up_for: Some(Duration::from_secs(seconds)),
            lacking: None,
            datasets,
            made_anew: BTreeMap::new(),
            was_ready: false,
            serves,
        }
    }

    fn text(readiness: &Readiness) -> String {
        match readiness {
            Readiness::NotReady { reason } => format!("no: {reason}"),
            Readiness::Ready { degraded } => {
                let all: Vec<String> =
                    degraded.iter().map(|(dataset, reason)| format!("{dataset}: {reason}")).collect();
                format!("yes {}", all.join(", ")).trim_end().to_owned()
            }
        }
    }

    #[test]
    fn one_dataset_keeps_nobody_from_the_others_for_long() {
        let (works, files) = (("a", Standing::Works), ("f", Standing::Files));
        let gone = ("b", Standing::NotTakenUp("stream: the topic is missing".to_owned()));
        let fails = ("c", Standing::Fails("archiver: the disk is full".to_owned()));
        let (waited_for, named) =
            ("no: dataset `b`: stream: the topic is missing", "yes b: stream: the topic is missing");
        let both = "yes b: stream: the topic is missing, c: archiver: the disk is full";
        for (case, seconds, serves, datasets, wanted) in [
            ("no dataset yet", 0, false, vec![], "yes"),
            ("all work", 0, false, vec![works.clone(), files.clone()], "yes"),
            ("files alone are nothing for an archiver to do", 90, false, vec![files.clone()], "yes"),
            ("a part of one fails", 0, false, vec![works.clone(), fails.clone()], "yes c: archiver: the disk is full"),
            ("it is waited for at first", 59, true, vec![works.clone(), gone.clone()], waited_for),
            ("and then named", 60, true, vec![works.clone(), gone.clone()], named),
            ("in processes without a door, too", 60, false, vec![works, gone.clone()], named),
            ("what fails in part works", 60, false, vec![fails, gone.clone()], both),
            ("nothing else works", 3_600, true, vec![gone.clone()], waited_for),
            ("a door answers for files", 60, true, vec![files.clone(), gone.clone()], named),
            ("an archiver has none to do with them", 60, false, vec![files, gone], waited_for),
        ] {
            assert_eq!(text(&decide(&observed(seconds, serves, &datasets))), wanted, "{case}");
        }
    }

    #[test]
    fn a_view_that_is_made_anew_is_waited_for_within_a_bound() {
        let (works, fails) = (Standing::Works, Standing::Fails("indexer: no memory".to_owned()));
        let gone = Standing::NotTakenUp("stream: the topic is missing".to_owned());
        let (waited_for, named) = ("no: dataset `a`: it lacks 7", "yes a: it lacks 7");
        for (case, seconds, was_ready, standing, wanted) in [
            ("it comes", 0, false, works.clone(), waited_for),
            ("for long", 299, false, works.clone(), waited_for),
            ("for too long", 300, false, works.clone(), named),
            ("it was taken up when the process was ready", 70, true, works.clone(), named),
            ("even in the first minute", 0, true, works, named),
            ("it may not come", 0, false, fails, "yes a: indexer: no memory"),
            ("its stream is not even open", 0, false, gone, "no: dataset `a`: stream: the topic is missing"),
        ] {
            let made_anew = BTreeMap::from([("a".to_owned(), "it lacks 7".to_owned())]);
            let observed = observed(seconds, true, &[("a", standing), ("f", Standing::Files)]);
            let observed = Observed { made_anew, was_ready, ..observed };
            assert_eq!(text(&decide(&observed)), wanted, "{case}");
        }
    }

    fn ends(ends: [u64; 3]) -> Coverage {
        let of = |(number, end): (usize, u64)| (format!("t/{number}").parse().expect("a partition"), end);
        ends.into_iter().enumerate().map(of).collect()
    }

    /// A view's visible positions; partition 0 may be in trouble.
    fn view(visible: &[u64], trouble: bool) -> ViewStatus {
        let status = |(number, visible): (usize, &u64)| {
            let trouble = (trouble && number == 0).then(|| Trouble { error: "no memory".to_owned(), stopped: true });
            (format!("t/{number}"), IndexerStatus { visible: *visible, trouble, ..IndexerStatus::default() })
        };
        let partitions = visible.iter().enumerate().map(status).collect();
        ViewStatus { partitions, freshness: Freshness::default(), totals: Totals::default() }
    }

    #[test]
    fn a_view_lacks_what_was_in_the_log_and_is_not_visible() {
        let ends = ends([9, 0, 5]);
        for (views, wanted) in [
            (vec![view(&[9, 0, 5], false)], Lack::Nothing),
            (vec![view(&[12, 3, 5], true)], Lack::Nothing),
            (vec![view(&[2, 0, 4], false)], Lack::Offsets(8)),
            (vec![view(&[2, 0, 4], true)], Lack::Offsets(1)),
            (vec![view(&[2, 0, 5], true)], Lack::Stuck),
            (vec![view(&[9, 0], false)], Lack::Offsets(5)),
            (vec![view(&[9, 0, 5], false), view(&[9, 0, 2], false)], Lack::Offsets(3)),
        ] {
            assert_eq!(Lack::of(&ends, &Ok(views.clone())), wanted, "{views:?}");
        }
    }

    #[test]
    fn who_cant_tell_what_a_view_lacks_has_not_seen_it_catch_up() {
        let late = || Err("no answer within 2 s".to_owned());
        let lack = Lack::of(&ends([9, 0, 5]), &late());
        assert_eq!(lack, Lack::Untold("no answer within 2 s".to_owned()));
        assert!(lack.told().is_some_and(|told| told.ends_with(": no answer within 2 s")), "{lack:?}");
        assert!(matches!(Lack::of(&ends([9, 0, 5]), &Ok(Vec::new())), Lack::Untold(_)), "no view is open");
        // Of a log that had no records, and in a process that keeps no views of its own, there is nothing to ask.
        for none in [ends([0; 3]), Coverage::new()] {
            assert_eq!(Lack::of(&none, &late()), Lack::Nothing);
        }
        assert_eq!((Lack::Nothing.told(), Lack::Stuck.told()), (None, None));
    }

    #[test]
    fn what_all_datasets_need_decides_for_all() {
        let works = observed(90, true, &[("a", Standing::Works)]);
        let starts = Observed { up_for: None, lacking: Some("the broker is away".to_owned()), ..works.clone() };
        assert_eq!(text(&decide(&starts)), "no: it starts or stops");
        let lacks = Observed { lacking: Some("the broker is away".to_owned()), ..works };
        assert_eq!(text(&decide(&lacks)), "no: the broker is away");
    }

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
