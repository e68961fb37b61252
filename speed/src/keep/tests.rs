use tidemark_shared::dataset::Format;
use tidemark_shared::log::{TopicId, TopicName};

use super::*;

fn coverage(end: u64) -> Coverage {
    [(LogPartition::files(), end)].into_iter().collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn visible(end: u64) -> BTreeMap<LogPartition, LiveRange> {
    BTreeMap::from([("t/0".parse().expect("a partition"), LiveRange { floor: 0, visible: end })])
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_stream_is_opened_once_and_goes_on_whatever_is_applied() {
    let spec = |topic: &str, partitions| StreamSpec {
        topic: topic.to_owned(),
        format: Format::Json,
        partition_by: None,
        partitions,
    };
    let topic = Topic { name: TopicName::new("t").expect("a name"), id: TopicId::new("1"), partitions: 4 };
    for (asked, open, wanted) in [
        (None, false, StreamTask::Nothing),
        (None, true, StreamTask::GoOnWithout),
        (Some(spec("t", 4)), false, StreamTask::Open),
        (Some(spec("t", 4)), true, StreamTask::GoOn),
        (Some(spec("t", 2)), true, StreamTask::GoOn),
        (Some(spec("t", 5)), true, StreamTask::GoOnUntilRestart),
        (Some(spec("u", 4)), true, StreamTask::GoOnUntilRestart),
    ] {
        let open = open.then_some(&topic);
        assert_eq!(stream_task(asked.as_ref(), open), wanted, "{asked:?} where {open:?} is open");
    }
}

/// Names that end with `!` are opened.
#[test]
fn the_newest_generation_is_kept_up_and_those_before_only_while_they_have_an_indexer() {
    type Names = &'static [&'static str];
    let pointer = |n: u64, name: &str| (n, CurrentGeneration::new(name, "d", 1));
    let cases: [(Names, Names, Names, Names); 7] = [
        (&["new", "skipped", "old"], &[], &["new!"], &[]),
        (&["new", "skipped", "old"], &["old"], &["new!", "old"], &["old"]),
        (&["new", "skipped", "old"], &["new", "old"], &["new", "old"], &["old"]),
        (&["new", "skipped", "old"], &["new", "skipped", "old"], &["new", "skipped", "old"], &["old", "skipped"]),
        (&["new"], &["new"], &["new"], &[]),
        // so far back that its pointer is not looked at: it is kept up no more, and goes
        (&["new"], &["forgotten", "new"], &["new"], &["forgotten"]),
        (&["new", "new"], &["new"], &["new"], &[]),
    ];
    for (pointers, indexers, keep, retire) in cases {
        let names = pointers.iter().copied();
        let pointers: Vec<Pointer> = (0..9).rev().zip(names).map(|(n, name)| pointer(n, name)).collect();
        let plan = plan(&pointers, &set(indexers)).expect("there are pointers");
        let name = |kept: &Keep| format!("{}{}", kept.generation.generation, if kept.opens { "!" } else { "" });
        assert_eq!(plan.newest, "new");
        assert_eq!(plan.keep.iter().map(name).collect::<Vec<_>>(), keep, "{pointers:?} with {indexers:?}");
        assert_eq!(plan.retire, retire, "{pointers:?} with {indexers:?}");
    }
    assert_eq!(plan(&[], &set(&["old"])), None, "nothing was curated yet");
}

#[test]
fn views_that_nobody_here_keeps_up_are_left_behind() {
    let view = |dataset: &str, generation: &str| ViewId { dataset: dataset.into(), generation: generation.into() };
    let pointers = [(2, CurrentGeneration::new("new", "d", 1)), (1, CurrentGeneration::new("old", "d", 1))];
    let plan = plan(&pointers, &set(&["new", "old"])).expect("there are pointers");
    let views = vec![view("a", "new"), view("a", "old"), view("a", "left"), view("b", "left")];
    assert_eq!(plan.left_behind("a", views), [view("a", "left")]);
}

#[test]
fn rows_go_when_a_higher_coverage_has_been_known_for_the_grace() {
    let mut kept = Kept::new(Duration::from_secs(2));
    // seconds, end of the coverage, whether it moved, below what rows go
    for (seconds, end, moved, wanted) in [
        (0, 1, true, None),
        (0, 1, false, None),
        (1, 2, true, None),
        (2, 2, false, Some(1)),
        (4, 2, false, Some(2)),
        (5, 3, true, Some(2)),
        (6, 3, false, None),
        (9, 3, false, Some(3)),
        (10, 3, false, Some(3)),
    ] {
        let looked = kept.looked("g", &coverage(end), at(seconds));
        assert_eq!(looked, Looked { moved, drop_below: wanted.map(coverage) }, "{end} after {seconds} s");
    }
    assert!(kept.looked("other", &coverage(3), at(11)).moved);
    kept.gone("g");
    assert!(kept.looked("g", &coverage(3), at(11)).moved, "it is not known any more");
}

#[test]
fn a_view_goes_when_its_generation_has_not_answered_for_the_grace() {
    let mut kept = Kept::new(Duration::from_secs(2));
    // seconds, how far the newest view is, how far the old one, whether that goes
    for (seconds, ahead, old, wanted) in [
        (0, 3, Some(5), false),
        (9, 4, Some(5), false),
        (10, 5, Some(5), false),
        (11, 5, Some(6), false),
        (12, 5, Some(6), false),
        (12, 6, Some(6), true),
        (13, 6, None, true),
    ] {
        let old = old.map(visible);
        assert_eq!(kept.retires("old", &visible(ahead), old.as_ref(), at(seconds)), wanted, "after {seconds} s");
    }
    assert!(!kept.retires("other", &visible(6), None, at(13)), "each has its own grace");
    kept.gone("old");
    assert!(!kept.retires("old", &visible(6), Some(&visible(6)), at(14)));
}

#[test]
fn what_only_views_have_of_a_topic_that_is_gone_is_lost_once_nobody_archives_it_any_more() {
    let (mut kept, wait) = (Kept::new(Duration::ZERO), Duration::from_secs(5));
    let partition: LogPartition = "t/0".parse().expect("a partition");
    // seconds, how far it is archived, how far the newest view and the one before show it, whether the rest is lost, and
    // whether nothing is left to do
    for (seconds, archived, newest, old, is_lost, has_ended) in [
        (0, 7, 3, 12, false, false),
        (4, 7, 7, 12, false, false),
        // somebody archived what he had gathered: the others may have more
        (5, 9, 7, 12, false, false),
        (9, 9, 9, 12, false, false),
        (10, 9, 9, 12, true, false),
        // told as lost, by whomever
        (11, 12, 9, 12, false, false),
        (16, 12, 9, 12, false, false),
        (17, 12, 12, 12, false, true),
        (18, 12, 12, 12, false, true),
    ] {
        let (shown, now) = (Shown { newest, most: newest.max(old) }, at(seconds));
        assert_eq!(kept.is_lost(&partition, archived, shown, wait, now), is_lost, "after {seconds} s");
        assert_eq!(kept.has_ended(&partition, shown, wait, now), has_ended, "after {seconds} s");
    }
    let more = Shown { newest: 12, most: 14 };
    assert!(!kept.has_ended(&partition, more, wait, at(19)), "a view shows more than was known of");
    let other = "t/1".parse().expect("a partition");
    assert!(!kept.has_ended(&other, Shown::default(), wait, at(19)), "nobody has looked at it");
    assert!(kept.is_lost(&other, 0, Shown { newest: 1, most: 1 }, Duration::ZERO, at(19)), "nobody is waited for");
}

/// What happens between two looks at the topic of a partition.
type Between = fn(&mut Kept, &LogPartition);

/// A broker that lags behind tells of other topics, now and then.
#[test]
fn nothing_is_lost_of_a_topic_that_was_there_at_any_look_of_the_wait() {
    let (partition, wait): (LogPartition, _) = ("t/0".parse().expect("a partition"), Duration::from_secs(5));
    let shown = |most| Shown { newest: 3, most };
    let cases: [(&str, Between); 2] = [
        ("it was there", |kept, partition| kept.is_there(partition)),
        ("a look failed", |kept, _| kept.nobody_looked()),
    ];
    for (what, between) in cases {
        let mut kept = Kept::new(Duration::ZERO);
        assert!(!kept.is_lost(&partition, 3, shown(9), wait, at(0)));
        assert_eq!(kept.ended_at(&partition), Some(3));
        between(&mut kept, &partition);
        assert_eq!(kept.ended_at(&partition), None, "{what}: its archive may have gone on");
        assert!(!kept.is_lost(&partition, 3, shown(9), wait, at(5)), "{what} meanwhile");
        assert!(!kept.is_lost(&partition, 3, shown(9), wait, at(9)), "{what} meanwhile");
        assert!(kept.is_lost(&partition, 3, shown(9), wait, at(10)), "{what} before that");
    }
    let mut kept = Kept::new(Duration::ZERO);
    assert!(kept.is_lost(&partition, 3, shown(9), Duration::ZERO, at(0)));
    kept.archived_to(&partition, 9, at(1));
    assert_eq!(kept.ended_at(&partition), Some(9), "what it told itself is not met again");
    let mut kept = Kept::new(Duration::ZERO);
    for (seconds, most, is_lost) in [(0, 9, false), (4, 10, false), (5, 10, false), (9, 10, true)] {
        assert_eq!(kept.is_lost(&partition, 3, shown(most), wait, at(seconds)), is_lost, "after {seconds} s");
    }
}

#[test]
fn a_topic_is_gone_where_another_has_its_name_or_nothing_that_is_not_the_streams() {
    let name = |name: &str| TopicName::new(name).expect("a name");
    let (own, other) = (name("own"), name("other"));
    let topic = |name: &TopicName, id: &str| Topic { name: name.clone(), id: TopicId::new(id), partitions: 1 };
    for (of, found, wanted) in [
        (&own, None, false),
        (&own, Some("1"), false),
        (&own, Some("2"), true),
        (&other, None, true),
        (&other, Some("1"), false),
        (&other, Some("2"), true),
    ] {
        let now = found.map(|id| topic(of, id));
        assert_eq!(is_topic_gone(of, &TopicId::new("1"), &own, now.as_ref()), wanted, "{of}: {found:?}");
    }
}
