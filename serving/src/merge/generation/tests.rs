use std::collections::BTreeMap;

use proptest::prelude::*;
use tidemark_shared::live::LiveRange;

use super::*;

fn ranges(entries: &[(&str, u64)]) -> Ranges {
    let range =
        |(name, visible): &(&str, u64)| (name.parse().expect("a partition"), LiveRange { floor: 0, visible: *visible });
    entries.iter().map(range).collect()
}

fn coverage(entries: &[(&str, u64)]) -> Coverage {
    entries.iter().map(|(name, end)| (name.parse().expect("a partition"), *end)).collect()
}

#[test]
fn h9_the_newest_generation_answers_once_its_view_is_not_behind_and_it_is_marked() {
    use Served::{Nobody, Now, OnceMarked};
    let old = ranges(&[("t/0", 9), ("t/1", 4)]);
    let even = ranges(&[("t/0", 9), ("t/1", 4)]);
    let ahead = ranges(&[("t/0", 12), ("t/1", 4)]);
    let behind = ranges(&[("t/0", 12), ("t/1", 3)]);
    let partial = ranges(&[("t/0", 12)]);
    let view = |n, view| Candidate { n, view };
    let marked = |n, instead| OnceMarked { n, instead };
    let cases = [
        ("nothing is curated", vec![], None, Nobody),
        ("only one generation", vec![view(0, Some(&old))], None, Now(0)),
        ("only one, without a view", vec![view(0, None)], None, Nobody),
        ("the new view is not there", vec![view(1, None), view(0, Some(&old))], None, Now(0)),
        ("neither is there", vec![view(1, None), view(0, None)], None, Nobody),
        ("the old view is gone", vec![view(1, Some(&behind)), view(0, None)], None, marked(1, None)),
        ("as far", vec![view(1, Some(&even)), view(0, Some(&old))], None, marked(1, Some(0))),
        ("further", vec![view(1, Some(&ahead)), view(0, Some(&old))], None, marked(1, Some(0))),
        ("behind in one partition", vec![view(1, Some(&behind)), view(0, Some(&old))], None, Now(0)),
        ("a partition is missing", vec![view(1, Some(&partial)), view(0, Some(&old))], None, Now(0)),
        ("it has answered already", vec![view(1, Some(&behind)), view(0, Some(&old))], Some(1), Now(1)),
        ("the one before has", vec![view(1, Some(&behind)), view(0, Some(&old))], Some(0), Now(0)),
        ("it has, and lost its view", vec![view(1, None), view(0, Some(&old))], Some(1), Nobody),
        ("its successor is there", vec![view(2, Some(&behind)), view(1, None)], Some(1), marked(2, None)),
        // Two recomputes in a row: nobody came to build the view of the first.
        ("one was skipped", vec![view(2, Some(&behind)), view(1, None), view(0, Some(&old))], Some(0), Now(0)),
        ("caught up", vec![view(2, Some(&even)), view(1, None), view(0, Some(&old))], Some(0), marked(2, Some(0))),
        ("both behind", vec![view(2, Some(&behind)), view(1, Some(&behind)), view(0, Some(&old))], None, Now(0)),
        ("one is", vec![view(2, Some(&behind)), view(1, Some(&even)), view(0, Some(&old))], None, marked(1, Some(0))),
        ("the other is marked", vec![view(2, Some(&behind)), view(1, Some(&even))], Some(1), Now(1)),
        ("marked once all were older", vec![view(9, Some(&even)), view(8, Some(&old))], Some(3), marked(9, None)),
        ("never marked", vec![view(9, None), view(8, Some(&old))], None, Now(8)),
    ];
    for (case, candidates, answered, wanted) in cases {
        assert_eq!(served(&candidates, answered), wanted, "{case}");
    }
}

#[test]
fn h9_a_newer_generation_waits_for_what_was_answered_from_an_older_one() {
    let at = |n, end| Some(Answered { n, positions: coverage(&[("t/0", end), ("t/1", 4)]) });
    let cases = [
        ("the first answer", None, 3, 5, Admitted::Yes, at(3, 5)),
        ("the same generation goes on", at(3, 5), 3, 7, Admitted::Yes, at(3, 7)),
        ("its view was lost", at(3, 5), 3, 2, Admitted::Yes, at(3, 5)),
        ("a newer one is as far", at(3, 5), 4, 5, Admitted::Yes, at(4, 5)),
        ("a newer one is not", at(3, 5), 4, 4, Admitted::NotYet, at(3, 5)),
        ("an older one is too late", at(3, 5), 2, 9, Admitted::Overtaken, at(3, 5)),
    ];
    for (case, mut last, n, end, wanted, after) in cases {
        assert_eq!(admit(&mut last, n, &coverage(&[("t/0", end), ("t/1", 4)])), wanted, "{case}");
        assert_eq!(last, after, "{case}");
    }
}

/// What becomes of a mark that is put.
#[derive(Debug, Clone, Copy)]
enum Put {
    Done,
    AnswerLost,
    Failed,
}

/// What happens next. Generations are counted back from the newest.
#[derive(Debug, Clone, Copy)]
enum Event {
    Published,
    Indexed { back: u64, partition: usize, by: u64 },
    Gone { back: u64 },
    Step { process: usize, put: Put },
    Restarted { process: usize },
}

/// Where a process is in its statement; `since` is the highest generation that anybody had answered from when it began.
#[derive(Debug, Clone, Copy, Default)]
enum At {
    #[default]
    Idle,
    Looked {
        newest: u64,
        mark: Option<u64>,
        since: u64,
    },
    Marks {
        n: u64,
        instead: Option<u64>,
        since: u64,
    },
    Pins {
        n: u64,
        since: u64,
    },
}

#[derive(Debug, Default)]
struct Process {
    at: At,
    last: Option<Answered>,
    told: Option<(u64, Coverage)>,
}

/// Store and views that two processes share.
#[derive(Debug, Default)]
struct Shared {
    newest: u64,
    mark: Option<u64>,
    views: BTreeMap<u64, [u64; 2]>,
    /// Generations whose views were lost.
    lost: Vec<u64>,
    answered: u64,
}

impl Shared {
    fn view(&self, n: u64) -> Option<Ranges> {
        self.views.get(&n).map(|ends| ranges(&[("t/0", ends[0]), ("t/1", ends[1])]))
    }

    fn put(&mut self, n: u64, put: Put, marks: bool) -> bool {
        if marks && !matches!(put, Put::Failed) {
            self.mark = self.mark.max(Some(n));
        }
        matches!(put, Put::Done)
    }
}

impl Process {
    /// One call of the store or the views.
    fn step(&mut self, shared: &mut Shared, put: Put, marks: bool) -> Result<(), String> {
        self.at = match self.at {
            At::Idle => At::Looked { newest: shared.newest, mark: shared.mark, since: shared.answered },
            At::Looked { newest, mark, since } => {
                let views: Vec<_> = (0..=newest).rev().map(|n| (n, shared.view(n))).collect();
                let candidates: Vec<_> =
                    views.iter().map(|(n, view)| Candidate { n: *n, view: view.as_ref() }).collect();
                match served(&candidates, mark) {
                    Served::Now(n) => At::Pins { n, since },
                    Served::OnceMarked { n, instead } => At::Marks { n, instead, since },
                    Served::Nobody => At::Idle,
                }
            }
            At::Marks { n, instead, since } => match (shared.put(n, put, marks), instead) {
                (true, _) => At::Pins { n, since },
                (false, Some(n)) => At::Pins { n, since },
                (false, None) => At::Idle,
            },
            At::Pins { n, since } => {
                self.answer(shared, n, since)?;
                At::Idle
            }
        };
        Ok(())
    }

    fn answer(&mut self, shared: &mut Shared, n: u64, since: u64) -> Result<(), String> {
        let Some(ends) = shared.views.get(&n) else { return Ok(()) };
        let positions = coverage(&[("t/0", ends[0]), ("t/1", ends[1])]);
        if admit(&mut self.last, n, &positions) != Admitted::Yes {
            return Ok(());
        }
        if n < since {
            return Err(format!("generation {n} answers what was asked after an answer of {since}"));
        }
        if let Some((before, told)) = &self.told {
            let went_back = n < *before || !positions.includes(told);
            let view_was_lost = n == *before && shared.lost.contains(&n);
            if went_back && !view_was_lost {
                return Err(format!("generation {n} at {positions:?} after {before} at {told:?}"));
            }
        }
        shared.answered = shared.answered.max(n);
        self.told = Some((n, positions));
        Ok(())
    }
}

/// Lets all of it happen; an error says which answer went back.
fn happens(events: &[Event], marks: bool) -> Result<(), String> {
    let (mut shared, mut processes) = (Shared::default(), [Process::default(), Process::default()]);
    for event in events {
        match *event {
            Event::Published => shared.newest += 1,
            Event::Indexed { back, partition, by } => {
                let n = shared.newest.saturating_sub(back);
                shared.views.entry(n).or_default()[partition] += by;
            }
            Event::Gone { back } => {
                let n = shared.newest.saturating_sub(back);
                shared.lost.extend(shared.views.remove(&n).map(|_| n));
            }
            Event::Step { process, put } => processes[process].step(&mut shared, put, marks)?,
            Event::Restarted { process } => processes[process] = Process::default(),
        }
    }
    Ok(())
}

fn event() -> impl Strategy<Value = Event> {
    let put = prop_oneof![6 => Just(Put::Done), 1 => Just(Put::AnswerLost), 1 => Just(Put::Failed)];
    prop_oneof![
        1 => Just(Event::Published),
        8 => (0..3_u64, 0..2_usize, 1..4_u64).prop_map(|(back, partition, by)| Event::Indexed { back, partition, by }),
        1 => (0..3_u64).prop_map(|back| Event::Gone { back }),
        16 => (0..2_usize, put).prop_map(|(process, put)| Event::Step { process, put }),
        1 => (0..2_usize).prop_map(|process| Event::Restarted { process }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn h9_answers_of_two_processes_never_go_back(events in prop::collection::vec(event(), 0..160)) {
        prop_assert_eq!(happens(&events, true), Ok(()));
    }
}

#[test]
fn h9_without_marks_answers_go_back() {
    let indexed = |back, partition, by| Event::Indexed { back, partition, by };
    let asks = |process| [Event::Step { process, put: Put::Done }; 4];
    let mut events = vec![Event::Published, indexed(1, 0, 5), indexed(0, 0, 5)];
    events.extend(asks(0));
    events.push(indexed(1, 0, 1));
    events.extend(asks(1));
    assert_eq!(happens(&events, true), Ok(()));
    let found = happens(&events, false).expect_err("the second process sees the older view ahead");
    assert_eq!(found, "generation 0 answers what was asked after an answer of 1");
}
