//! Groups whose members share partitions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::log::{Assignment, GroupName, Log, LogError, Partitions, Share, Topic, TopicId};

use super::{PATIENCE, name, topic};

/// How long nothing may come, where nothing must.
const A_WHILE: Duration = Duration::from_secs(2);

pub(super) async fn a_member_alone_has_every_partition(log: &Arc<dyn Log>) {
    let topic = topic(log, "alone", 3).await;
    let group = group("alone");
    let mut member = join(log, &topic, &group).await;
    has_all(&mut member, 3).await;
    member.leave().await;
    member.leave().await;
    let mut next = join(log, &topic, &group).await;
    has_all(&mut next, 3).await;
    next.leave().await;
}

pub(super) async fn each_group_has_every_partition(log: &Arc<dyn Log>) {
    let topic = topic(log, "groups", 2).await;
    let (mut one, mut other) = (join(log, &topic, &group("one")).await, join(log, &topic, &group("other")).await);
    has_all(&mut one, 2).await;
    has_all(&mut other, 2).await;
    one.leave().await;
    other.leave().await;
}

pub(super) async fn names_and_topics_are_checked(log: &Arc<dyn Log>) {
    let refused = GroupName::new("a group").expect_err("a space");
    assert!(matches!(refused, LogError::Invalid { .. }), "{refused:?}");
    // A topic that is not there is no reason to join and wait for it, nor to fail: it may come. Its offsets are what is guarded.
    let nowhere = Topic { name: name("nowhere"), id: TopicId::new("none"), partitions: 1 };
    if let Ok(membership) = log.join(&nowhere, &group("nowhere")).await {
        membership.leave().await;
    }
}

pub(super) async fn members_share_the_partitions(log: &Arc<dyn Log>) {
    let topic = topic(log, "shared", 4).await;
    let group = group("shared");
    let mut one = join(log, &topic, &group).await;
    has_all(&mut one, 4).await;
    let mut two = join(log, &topic, &group).await;
    let (first, second) = both(&mut one, &mut two, |first, second| first.len() == 2 && second.len() == 2).await;
    assert!(first.is_disjoint(&second), "{first:?} and {second:?}");
    // a third one: somebody lets go of one partition
    let mut three = join(log, &topic, &group).await;
    let (kept, third) = tokio::join!(
        async { both(&mut one, &mut two, |first, second| first.len() + second.len() < 4).await },
        until(&mut three, "a share", |assignment| !numbers(assignment).is_empty()),
    );
    let third = numbers(&third);
    assert!(kept.0.is_subset(&first) && kept.1.is_subset(&second), "what stays is not moved: {kept:?}, {third:?}");
    assert!(third.is_disjoint(&kept.0) && third.is_disjoint(&kept.1), "{kept:?}, {third:?}");
    three.leave().await;
    two.leave().await;
    has_all(&mut one, 4).await;
    one.leave().await;
}

pub(super) async fn a_partition_waits_for_whoever_works_on_it(log: &Arc<dyn Log>) {
    let topic = topic(log, "settled", 2).await;
    let group = group("settled");
    let mut one = join(log, &topic, &group).await;
    has_all(&mut one, 2).await;
    let mut two = join(log, &topic, &group).await;
    // it is told, and works on for a while
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            one.changed().await;
            let told = one.take();
            if numbers(&told).len() == 1 {
                return told;
            }
        }
    });
    let told = told.await.expect("nobody takes a partition away");
    let early = tokio::time::timeout(A_WHILE, until(&mut two, "a share", |now| !numbers(now).is_empty())).await;
    assert!(early.is_err(), "a partition has two members: {told:?}, {early:?}");
    one.settle(&told);
    until(&mut two, "the other partition", |now| numbers(now).is_disjoint(&numbers(&told)) && !numbers(now).is_empty())
        .await;
    two.leave().await;
    one.leave().await;
}

pub(super) async fn partitions_that_are_added_are_shared_out(log: &Arc<dyn Log>) {
    let topic = topic(log, "grown", 1).await;
    let mut member = join(log, &topic, &group("grown")).await;
    has_all(&mut member, 1).await;
    log.add_partitions(&topic, 3).await.expect("grown");
    has_all(&mut member, 3).await;
    member.leave().await;
}

fn group(check: &str) -> GroupName {
    GroupName::new(name(check).as_str()).expect("a legal name")
}

async fn join(log: &Arc<dyn Log>, topic: &Topic, group: &GroupName) -> Share {
    Share::of(log.join(topic, group).await.expect("join"))
}

/// Partitions below 16: no topic here has more.
fn numbers(assignment: &Assignment) -> BTreeSet<u32> {
    (0..16).filter(|number| assignment.partitions.has(*number)).collect()
}

/// Works by every assignment, until one is as it is to be.
async fn until(share: &mut Share, what: &str, holds: impl Fn(&Assignment) -> bool) -> Assignment {
    let work = async {
        loop {
            let now = share.take();
            share.settle(&now);
            if holds(&now) {
                return now;
            }
            share.changed().await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("{what} did not come"))
}

async fn has_all(share: &mut Share, count: u32) {
    let all = |now: &Assignment| {
        now.joined && (now.partitions == Partitions::All || numbers(now) == (0..count).collect::<BTreeSet<u32>>())
    };
    until(share, "all partitions", all).await;
}

/// Two members work by every assignment, until both are as they are to be.
async fn both(
    one: &mut Share,
    two: &mut Share,
    holds: impl Fn(&BTreeSet<u32>, &BTreeSet<u32>) -> bool,
) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let work = async {
        loop {
            let (first, second) = (one.take(), two.take());
            one.settle(&first);
            two.settle(&second);
            let (first, second) = (numbers(&first), numbers(&second));
            if holds(&first, &second) {
                return (first, second);
            }
            tokio::select! {
                () = one.changed() => {}
                () = two.changed() => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("the members do not come to share the partitions")
}
