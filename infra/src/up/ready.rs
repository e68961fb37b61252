//! Whether the process's roles do their work: for whoever routes to it, and waits for it before he stops another one. Here it is
//! decided, of what `look` sees of the process and asks log and views, and `anew` of views that are made anew.

mod anew;
mod look;

use std::collections::BTreeMap;
use std::time::Duration;

use tidemark_serving::http::Readiness;

pub(super) use anew::{MadeAnew, made_anew};
pub(super) use look::{lacking, standings};

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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_all_datasets_need_decides_for_all() {
        let works = observed(90, true, &[("a", Standing::Works)]);
        let starts = Observed { up_for: None, lacking: Some("the broker is away".to_owned()), ..works.clone() };
        assert_eq!(text(&decide(&starts)), "no: it starts or stops");
        let lacks = Observed { lacking: Some("the broker is away".to_owned()), ..works };
        assert_eq!(text(&decide(&lacks)), "no: the broker is away");
    }
}
