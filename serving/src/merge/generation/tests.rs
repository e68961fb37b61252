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

fn view(n: u64, view: Option<&Ranges>) -> Candidate<'_> {
    Candidate { n, view: view.map_or(Seen::NotThere, Seen::There) }
}

#[test]
fn h9_the_newest_generation_answers_once_its_view_is_not_behind_and_it_is_noted() {
    use Part::{Curated, Whole};
    let old = ranges(&[("t/0", 9), ("t/1", 4)]);
    let even = ranges(&[("t/0", 9), ("t/1", 4)]);
    let ahead = ranges(&[("t/0", 12), ("t/1", 4)]);
    let behind = ranges(&[("t/0", 12), ("t/1", 3)]);
    let partial = ranges(&[("t/0", 12)]);
    let now = |n| Some(Served::Now(Whole(n)));
    let noted = |n, instead| Some(Served::OnceNoted { new: Whole(n), instead });
    let cases = [
        ("nothing is curated", vec![], None, None),
        ("only one generation", vec![view(0, Some(&old))], None, now(0)),
        ("the new view is not there", vec![view(1, None), view(0, Some(&old))], None, now(0)),
        ("the old view is gone", vec![view(1, Some(&behind)), view(0, None)], None, noted(1, Curated(0))),
        ("as far", vec![view(1, Some(&even)), view(0, Some(&old))], None, noted(1, Whole(0))),
        ("further", vec![view(1, Some(&ahead)), view(0, Some(&old))], None, noted(1, Whole(0))),
        ("behind in one partition", vec![view(1, Some(&behind)), view(0, Some(&old))], None, now(0)),
        ("a partition is missing", vec![view(1, Some(&partial)), view(0, Some(&old))], None, now(0)),
        ("it has answered already", vec![view(1, Some(&behind)), view(0, Some(&old))], Some(1), now(1)),
        ("the one before has", vec![view(1, Some(&behind)), view(0, Some(&old))], Some(0), now(0)),
        ("its successor is there", vec![view(2, Some(&behind)), view(1, None)], Some(1), noted(2, Curated(1))),
        // Two recomputes in a row: nobody came to build the view of the first.
        ("one was skipped", vec![view(2, Some(&behind)), view(1, None), view(0, Some(&old))], Some(0), now(0)),
        ("caught up", vec![view(2, Some(&even)), view(1, None), view(0, Some(&old))], Some(0), noted(2, Whole(0))),
        ("both behind", vec![view(2, Some(&behind)), view(1, Some(&behind)), view(0, Some(&old))], None, now(0)),
        ("one is", vec![view(2, Some(&behind)), view(1, Some(&even)), view(0, Some(&old))], None, noted(1, Whole(0))),
        ("the other is noted", vec![view(2, Some(&behind)), view(1, Some(&even))], Some(1), now(1)),
        ("the noted one is gone", vec![view(9, Some(&even)), view(8, Some(&old))], Some(3), noted(9, Curated(8))),
        ("never noted", vec![view(9, None), view(8, Some(&old))], None, now(8)),
    ];
    for (case, candidates, note, wanted) in cases {
        assert_eq!(served(&candidates, note, None), wanted, "{case}");
    }
}

#[test]
fn h9_what_is_curated_is_of_no_generation_before_one_that_answered_nor_of_one_without_a_note() {
    use Part::{Curated, Whole};
    let some = ranges(&[("t/0", 9)]);
    let untold = |n| Candidate { n, view: Seen::Untold };
    let now = |n| Some(Served::Now(Curated(n)));
    let noted = |n, instead| Some(Served::OnceNoted { new: Curated(n), instead: Curated(instead) });
    let cases = [
        ("no view of the only one", vec![view(0, None)], (None, None), now(0)),
        ("it has, and lost its view", vec![view(1, None), view(0, Some(&some))], (Some(1), None), now(1)),
        ("none was ever there", vec![view(1, None), view(0, None)], (None, None), noted(1, 0)),
        ("this process answered", vec![view(2, None), view(1, None), view(0, None)], (None, Some(1)), noted(2, 1)),
        ("a successor came", vec![view(2, None), view(1, None)], (Some(1), Some(1)), noted(2, 1)),
        ("nobody can tell of the only one", vec![untold(0)], (None, None), now(0)),
        ("a new process can't tell", vec![untold(2), untold(1), untold(0)], (None, None), now(0)),
        ("nor of one", vec![view(1, Some(&some)), untold(0)], (None, None), now(0)),
        ("one was noted", vec![untold(2), untold(1), untold(0)], (Some(1), None), now(1)),
        ("this one answered", vec![untold(2), untold(1), untold(0)], (None, Some(0)), now(0)),
        ("from one that is gone", vec![untold(2), untold(1)], (None, Some(0)), now(1)),
        ("another is further", vec![untold(2), untold(1)], (Some(2), Some(1)), now(2)),
        ("the one that is noted is gone", vec![untold(9), untold(8)], (Some(3), Some(3)), now(8)),
    ];
    for (case, candidates, (note, own), wanted) in cases {
        assert_eq!(served(&candidates, note, own), wanted, "{case}");
    }
    let with = [view(1, Some(&some)), view(0, None)];
    let wanted = Served::OnceNoted { new: Whole(1), instead: Curated(0) };
    assert_eq!(served(&with, None, Some(0)), Some(wanted), "a view of the newer one alone");
}

#[test]
fn h9_a_newer_generation_waits_for_what_was_answered_from_an_older_one() {
    let at = |n, end| Some(LastAnswer { n, positions: coverage(&[("t/0", end), ("t/1", 4)]) });
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

/// What becomes of a note that is put.
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
    Indexed {
        back: u64,
        partition: usize,
        by: u64,
    },
    Gone {
        back: u64,
    },
    /// The oldest table goes, if it is not the only one.
    Vacuumed,
    Step {
        process: usize,
        put: Put,
        views: bool,
    },
    Restarted {
        process: usize,
    },
}

/// Where a process is in its statement; `since` is the highest generation that anybody had answered from when it began.
#[derive(Debug, Clone, Copy, Default)]
enum At {
    #[default]
    Idle,
    Looked {
        newest: u64,
        noted: Option<u64>,
        oldest: u64,
        since: u64,
    },
    Notes {
        new: Part,
        instead: Part,
        since: u64,
    },
    Answers {
        part: Part,
        since: u64,
    },
}

#[derive(Debug, Default)]
struct Process {
    at: At,
    last: Option<LastAnswer>,
    /// The highest generation that it answered from, with a view or without.
    curated: u64,
    told: Option<(u64, Coverage)>,
}

/// Store and views that two processes share.
#[derive(Debug, Default)]
struct Shared {
    newest: u64,
    noted: Option<u64>,
    /// The first generation that has its table.
    oldest: u64,
    views: BTreeMap<u64, [u64; 2]>,
    /// Generations whose views were lost.
    lost: Vec<u64>,
    answered: u64,
}

impl Shared {
    fn view(&self, n: u64) -> Option<Ranges> {
        self.views.get(&n).map(|ends| ranges(&[("t/0", ends[0]), ("t/1", ends[1])]))
    }

    fn put(&mut self, n: u64, put: Put, notes: bool) -> bool {
        if notes && !matches!(put, Put::Failed) {
            self.noted = self.noted.max(Some(n));
        }
        matches!(put, Put::Done)
    }
}

impl Process {
    /// One call of the store or the views.
    fn step(&mut self, shared: &mut Shared, put: Put, views: bool, notes: bool) -> Result<(), String> {
        self.at = match self.at {
            At::Idle => {
                let Shared { newest, noted, oldest, .. } = *shared;
                At::Looked { newest, noted, oldest, since: shared.answered }
            }
            At::Looked { newest, noted, oldest, since } => {
                let views: Vec<_> = (oldest..=newest).rev().map(|n| (n, views.then(|| shared.view(n)))).collect();
                let candidates = views.iter().map(|(n, found)| {
                    let view = match found {
                        Some(Some(ranges)) => Seen::There(ranges),
                        Some(None) => Seen::NotThere,
                        None => Seen::Untold,
                    };
                    Candidate { n: *n, view }
                });
                let candidates: Vec<_> = candidates.collect();
                match served(&candidates, noted, self.last.as_ref().map(LastAnswer::number)) {
                    Some(Served::Now(part)) => At::Answers { part, since },
                    Some(Served::OnceNoted { new, instead }) => At::Notes { new, instead, since },
                    None => At::Idle,
                }
            }
            At::Notes { new, instead, since } => match shared.put(new.number(), put, notes) {
                true => At::Answers { part: new, since },
                false => At::Answers { part: instead, since },
            },
            At::Answers { part, since } => {
                self.answer(shared, part, since)?;
                At::Idle
            }
        };
        Ok(())
    }

    /// What is curated answers whatever the view is; real-time rows only if they may.
    fn answer(&mut self, shared: &mut Shared, part: Part, since: u64) -> Result<(), String> {
        let n = part.number();
        if n < shared.oldest {
            return Ok(());
        }
        if n < since {
            return Err(format!("generation {n} answers what was asked after an answer of {since}"));
        }
        if n < self.curated {
            return Err(format!("generation {n} answers for what is curated, after {}", self.curated));
        }
        self.curated = n;
        shared.answered = shared.answered.max(n);
        let Some(ends) = shared.views.get(&n).filter(|_| part.is_whole()) else { return Ok(()) };
        let positions = coverage(&[("t/0", ends[0]), ("t/1", ends[1])]);
        if admit(&mut self.last, n, &positions) != Admitted::Yes {
            return Ok(());
        }
        if let Some((before, told)) = &self.told {
            let went_back = n < *before || !positions.includes(told);
            let view_was_lost = n == *before && shared.lost.contains(&n);
            if went_back && !view_was_lost {
                return Err(format!("generation {n} at {positions:?} after {before} at {told:?}"));
            }
        }
        self.told = Some((n, positions));
        Ok(())
    }
}

/// Lets all of it happen; an error says which answer went back.
fn happens(events: &[Event], notes: bool) -> Result<(), String> {
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
            Event::Vacuumed => shared.oldest = shared.newest.min(shared.oldest + 1),
            Event::Step { process, put, views } => processes[process].step(&mut shared, put, views, notes)?,
            Event::Restarted { process } => processes[process] = Process::default(),
        }
    }
    Ok(())
}

fn event() -> impl Strategy<Value = Event> {
    let put = prop_oneof![6 => Just(Put::Done), 1 => Just(Put::AnswerLost), 1 => Just(Put::Failed)];
    let step = (0..2_usize, put, prop::bool::weighted(0.8));
    prop_oneof![
        1 => Just(Event::Published),
        8 => (0..3_u64, 0..2_usize, 1..4_u64).prop_map(|(back, partition, by)| Event::Indexed { back, partition, by }),
        1 => (0..3_u64).prop_map(|back| Event::Gone { back }),
        1 => Just(Event::Vacuumed),
        16 => step.prop_map(|(process, put, views)| Event::Step { process, put, views }),
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

fn asks(process: usize, views: bool) -> [Event; 4] {
    [Event::Step { process, put: Put::Done, views }; 4]
}

#[test]
fn h9_without_notes_answers_go_back() {
    let indexed = |back, partition, by| Event::Indexed { back, partition, by };
    let mut events = vec![Event::Published, indexed(1, 0, 5), indexed(0, 0, 5)];
    events.extend(asks(0, true));
    events.push(indexed(1, 0, 1));
    events.extend(asks(1, true));
    assert_eq!(happens(&events, true), Ok(()));
    let found = happens(&events, false).expect_err("the second process sees the older view ahead");
    assert_eq!(found, "generation 0 answers what was asked after an answer of 1");
}

#[test]
fn h9_a_process_that_sees_no_view_moves_nobody_on() {
    let indexed = |back, partition, by| Event::Indexed { back, partition, by };
    let mut events = vec![Event::Published, indexed(1, 0, 5)];
    for (process, views) in [(0, true), (1, false), (0, true)] {
        events.push(Event::Restarted { process });
        events.extend(&asks(process, views)[..3]);
    }
    assert_eq!(happens(&events, true), Ok(()));
    // The view goes for a while, and what is curated is asked for meanwhile.
    events.push(Event::Gone { back: 1 });
    for process in [0, 1] {
        events.push(Event::Restarted { process });
        events.extend(asks(process, true));
        events.push(indexed(1, 0, 5));
    }
    assert_eq!(happens(&events, true), Ok(()));
    let found = happens(&events, false).expect_err("nobody knows that the newer one answered for what is curated");
    assert_eq!(found, "generation 0 answers what was asked after an answer of 1");
}
