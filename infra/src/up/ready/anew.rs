//! Views that only this process has: they were lost with the one before, and are made anew from the coverage on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemark_shared::error::chain;
use tidemark_shared::position::Coverage;
use tidemark_speed::indexer::ViewStatus;

use crate::up::stream::Stream;
use crate::up::streams::Streams;

/// What readiness knows of a stream's own views.
#[derive(Debug)]
pub(in crate::up) struct MadeAnew {
    /// Where the log ended when the stream was opened; nothing where others have the views, too.
    ends: Coverage,
    /// True once its views are known to have been as far as that.
    done: AtomicBool,
}

impl MadeAnew {
    /// Views that are to come as far as that.
    pub(in crate::up) fn up_to(ends: Coverage) -> Self {
        Self { ends, done: AtomicBool::new(false) }
    }

    /// True once they are known to have been there.
    pub(in crate::up) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// What the views of `stream`, whose this is, lack of that; `None` if nothing that could be waited for.
    async fn lack(&self, stream: &Stream, at_most: Duration) -> Option<String> {
        if self.is_done() {
            return None;
        }
        let asked = tokio::time::timeout(at_most, self.view_statuses(stream)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", at_most.as_secs_f64())));
        let lack = Lack::of(&self.ends, &asked);
        if lack == Lack::Nothing {
            self.done.store(true, Ordering::Relaxed);
        }
        lack.told()
    }

    /// How far each of the views is; an error if that can't be told of all of them.
    async fn view_statuses(&self, stream: &Stream) -> Result<Vec<ViewStatus>, String> {
        let mut statuses = Vec::new();
        for (_, running) in stream.all_indexers() {
            // What they lack is of what the log had then: nobody needs its ends of now.
            statuses.push(running.indexer.status(&self.ends).await.map_err(|error| chain(&error))?);
        }
        Ok(statuses)
    }
}

/// The datasets whose own views are not known to have been where the log ended when their streams were opened, with what they
/// lack.
pub(in crate::up) async fn made_anew(streams: &Streams, at_most: Duration) -> BTreeMap<String, String> {
    let looked_at = streams.all().into_iter().map(|stream| async move {
        let lack = stream.anew.lack(&stream, at_most).await?;
        Some((stream.dataset.clone(), lack))
    });
    futures::future::join_all(looked_at).await.into_iter().flatten().collect()
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

#[cfg(test)]
mod tests {
    use tidemark_shared::counts::Totals;
    use tidemark_speed::freshness::Freshness;
    use tidemark_speed::indexer::IndexerStatus;
    use tidemark_speed::trouble::Trouble;

    use super::*;

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
}
