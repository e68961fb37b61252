//! The archiver: nothing acknowledged is missing from the archive, whatever fails and whoever races.

use std::sync::Arc;
use std::time::Duration;

use tidemark_shared::log::{Log, LogError, Partitions, Record, Retention, Routed, Share};
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::segment::Segment;
use tidemark_speed::archiver::{Archiver, ArchiverError, ArchiverSettings, ArchiverStep, Seal};
use tidemark_testing::faulty::{Call, Fault, Rule};
use tokio_util::sync::CancellationToken;

use super::indexer::{catch_up, open, parts};
use super::support::{World, name, order, until};

pub(super) fn small() -> ArchiverSettings {
    ArchiverSettings { segment_records_max: 10, ..ArchiverSettings::default() }
}

pub(super) async fn archiver(world: &World, settings: ArchiverSettings) -> Archiver {
    Archiver::open(world.log(), world.archive(), world.topic.clone(), world.ambient(), settings).await.unwrap()
}

/// Checks that the archive of partition 0 holds orders 0 to `end` at their offsets, but for lost ranges.
pub(super) async fn check_archive(world: &World, end: u64, lost: &[std::ops::Range<u64>]) {
    let (archive, partition) = (world.archive(), name(0));
    assert_eq!(archive.end(&partition, 0).await.unwrap(), Some(end));
    let (mut offsets, mut said) = (Vec::new(), Vec::new());
    for segment in archive.segments_from(&partition, 0).await.unwrap() {
        let segment = archive.read(&partition, &segment).await.unwrap();
        said.extend(segment.header.lost);
        for read in segment.records {
            assert_eq!(read.record.value, Some(order(read.offset)), "offset {}", read.offset);
            offsets.push(read.offset);
        }
    }
    let wanted: Vec<u64> = (0..end).filter(|offset| !lost.iter().any(|range| range.contains(offset))).collect();
    assert_eq!(offsets, wanted);
    assert_eq!(said, lost);
}

#[tokio::test]
async fn segments_are_sealed_by_size_by_age_and_on_demand() {
    let world = World::new(2).await;
    let archiver = archiver(&world, small()).await;
    world.produce(0, 0..7).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(7));
    let waits = ArchiverStep::Idle { due_in: Some(Duration::from_secs(10)) };
    assert_eq!(archiver.step(0).await.unwrap(), waits);
    world.produce(0, 7..12).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(0..12, Seal::Size));
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Idle { due_in: None });
    world.produce(0, 12..13).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(1));
    world.clock.pass(Duration::from_secs(10));
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(12..13, Seal::Age));
    world.produce(0, 13..15).await;
    world.produce(1, 0..1).await;
    let archived = archiver.flush().await.unwrap();
    assert_eq!((archived.end(&name(0)), archived.end(&name(1))), (15, 1));
    check_archive(&world, 15, &[]).await;
    assert_eq!(archiver.status()[&name(0)].archived, Some(15));
}

/// H10: a new archiver goes on where the store says, with no other memory.
#[tokio::test]
async fn h10_an_archiver_goes_on_where_the_archive_ends() {
    let world = World::new(1).await;
    world.produce(0, 0..25).await;
    let first = archiver(&world, small()).await;
    assert_eq!(first.flush().await.unwrap().end(&name(0)), 25);
    world.produce(0, 25..30).await;
    assert_eq!(first.step(0).await.unwrap(), ArchiverStep::Gathered(5));
    drop(first);
    let second = archiver(&world, small()).await;
    assert_eq!(second.flush().await.unwrap().end(&name(0)), 30);
    check_archive(&world, 30, &[]).await;
}

/// H1: a topic that somebody deletes, or makes again, takes nothing with it that was read.
#[tokio::test]
async fn h1_what_was_gathered_of_a_topic_that_is_gone_is_sealed() {
    for made_again in [false, true] {
        let world = World::new(1).await;
        world.produce(0, 0..7).await;
        let archiver = archiver(&world, small()).await;
        assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(7));
        world.log.delete_topic(&world.topic).await.unwrap();
        let error = match made_again {
            true => {
                let new = world.log.create_topic(&world.topic.name, 1).await.unwrap();
                let record = Record { value: Some(order(0)), ..Record::default() };
                world.log.append(&new, vec![Routed { partition: 0, record }; 9], None).await.unwrap();
                archiver
                    .run(&Share::default(), &CancellationToken::new())
                    .await
                    .expect_err("there is nothing to archive any more")
            }
            false => archiver.flush().await.expect_err("there is nothing to archive any more"),
        };
        let gone = match &error {
            ArchiverError::Log(LogError::Replaced { .. }) => made_again,
            ArchiverError::Log(LogError::Missing { .. }) => !made_again,
            _ => false,
        };
        assert!(gone, "{error:?}");
        check_archive(&world, 7, &[]).await;
    }
}

/// H1: a store that is away while a topic goes takes nothing with it that was read.
#[tokio::test]
async fn h1_what_could_not_be_sealed_of_a_topic_that_is_gone_is_there_for_the_next_attempt() {
    let world = World::new(1).await;
    world.produce(0, 0..7).await;
    let (archive, faults) = world.faulty_archive(vec![Rule::new(Call::Put, ".parquet", 0, Fault::Fails)]);
    let archiver = Archiver::open(world.log(), archive, world.topic.clone(), world.ambient(), small()).await.unwrap();
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(7));
    world.log.delete_topic(&world.topic).await.unwrap();
    let error = archiver.flush().await.unwrap_err();
    assert!(matches!(error, ArchiverError::Archive(_)), "nobody would try again: {error:?}");
    assert_eq!(faults.fired(), 1);
    archiver.seal_gathered().await.unwrap();
    check_archive(&world, 7, &[]).await;
}

/// H1: of two archivers one wins each segment, and the other goes on where the winner ended.
#[tokio::test]
async fn h1_archivers_that_race_make_one_archive() {
    let world = World::new(1).await;
    let (one, other) = (archiver(&world, small()).await, archiver(&world, small()).await);
    let mut followed = 0;
    for round in 0..20_u64 {
        world.produce(0, round * 7..round * 7 + 3).await;
        let _gathered = one.step(0).await.unwrap();
        world.produce(0, round * 7 + 3..(round + 1) * 7).await;
        let archivers = if round % 2 == 0 { [&one, &other] } else { [&other, &one] };
        for archiver in archivers {
            if let ArchiverStep::Followed(_) = archiver.step(0).await.unwrap() {
                followed += 1;
            }
        }
    }
    let (ends, _) = tokio::join!(one.flush(), other.flush());
    assert_eq!(ends.unwrap().end(&name(0)), 140);
    assert!(followed > 3, "they never raced");
    check_archive(&world, 140, &[]).await;
}

/// H1: whatever put is refused, or done without an answer, trying again gives the same archive.
#[tokio::test]
async fn h1_a_lost_acknowledgement_anywhere_changes_nothing() {
    let mut fired = 0;
    for fault in [Fault::Fails, Fault::AckLost, Fault::AckLostThenRetried] {
        for nth in 0..8 {
            let world = World::new(1).await;
            world.produce(0, 0..23).await;
            let (archive, faults) = world.faulty_archive(vec![Rule::new(Call::Put, "", nth, fault)]);
            let mut opened = None;
            for _ in 0..3 {
                let (log, topic) = (world.log(), world.topic.clone());
                let settings = ArchiverSettings {
                    read: tidemark_shared::log::ReadLimits { records_max: 5, bytes_max: 1 << 20 },
                    ..small()
                };
                if opened.is_none() {
                    opened = Archiver::open(log, archive.clone(), topic, world.ambient(), settings).await.ok();
                }
                let Some(archiver) = &opened else { continue };
                if archiver.flush().await.is_ok() {
                    break;
                }
            }
            assert_eq!(opened.unwrap().status()[&name(0)].archived, Some(23));
            check_archive(&world, 23, &[]).await;
            fired += faults.fired();
        }
    }
    assert!(fired >= 9, "only {fired} faults fired");
}

#[tokio::test]
async fn h1_what_left_the_log_unarchived_is_marked_as_lost() {
    let world = World::new(1).await;
    let archiver = archiver(&world, small()).await;
    world.produce(0, 0..4).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(4));
    world.produce(0, 4..20).await;
    let everything = Retention { age_max: None, bytes_max: Some(0) };
    world.log.retain(&world.topic, 0, &everything, 15).await.unwrap();
    // what was read before it went is kept
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(0..4, Seal::CutOff));
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Lost(4..15));
    archiver.flush().await.unwrap();
    check_archive(&world, 20, std::slice::from_ref(&(4..15))).await;
    assert_eq!(archiver.status()[&name(0)].lost, std::slice::from_ref(&(4..15)));
}

/// H1: what was gathered of a topic that is gone is no other's to read again, whoever is to archive it.
#[tokio::test]
async fn h1_what_was_gathered_of_a_topic_that_is_gone_is_not_let_go() {
    for fails in [false, true] {
        let world = World::new(2).await;
        let (archive, faults) = world.faulty_archive(vec![]);
        let (log, topic) = (world.log(), world.topic.clone());
        let archiver = Archiver::open(log, archive, topic, world.ambient(), small()).await.unwrap();
        world.produce(0, 0..7).await;
        assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(7));
        world.log.delete_topic(&world.topic).await.unwrap();
        if fails {
            // The store is away when it ends, and the group takes the partition away before it is back.
            faults.add(Rule::new(Call::Put, ".parquet", 0, Fault::Fails));
            archiver.flush().await.unwrap_err();
            assert_eq!(faults.fired(), 1);
        }
        archiver.own(Partitions::none()).await;
        archiver.seal_gathered().await.unwrap();
        check_archive(&world, 7, &[]).await;
    }
}

/// What is another's is let go where the topic is there, and what was gathered of it is read again by whoever has it.
#[tokio::test]
async fn what_was_gathered_of_anothers_partition_is_let_go() {
    let world = World::new(1).await;
    world.produce(0, 0..7).await;
    let archiver = archiver(&world, small()).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(7));
    archiver.own(Partitions::none()).await;
    archiver.seal_gathered().await.unwrap();
    check_archive(&world, 0, &[]).await;
}

/// H1: a loss that was put, though the store gave no answer, is told by whoever put it.
#[tokio::test]
async fn h1_a_loss_whose_put_had_no_answer_is_told() {
    let world = World::new(1).await;
    let everything = Retention { age_max: None, bytes_max: Some(0) };
    let (archive, faults) = world.faulty_archive(vec![]);
    let (log, topic) = (world.log(), world.topic.clone());
    let archiver = Archiver::open(log, archive, topic, world.ambient(), small()).await.unwrap();
    archiver.flush().await.unwrap();
    world.produce(0, 0..20).await;
    world.log.retain(&world.topic, 0, &everything, 15).await.unwrap();
    faults.add(Rule::new(Call::Put, ".parquet", 0, Fault::AckLost));
    archiver.step(0).await.unwrap_err();
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Lost(0..15));
    assert_eq!(archiver.status()[&name(0)].lost, std::slice::from_ref(&(0..15)));
    archiver.flush().await.unwrap();
    check_archive(&world, 20, std::slice::from_ref(&(0..15))).await;
}

/// H1: builds before this one began each partition where its log did when it was met, and marked nothing. What had left a log
/// before that is none of the dataset's.
#[tokio::test]
async fn h1_where_an_older_build_began_a_partition_begins_where_its_log_does() {
    let world = World::new(3).await;
    let (archive, everything) = (world.archive(), Retention { age_max: None, bytes_max: Some(0) });
    for (partition, start) in [(1, 7), (2, 0)] {
        world.produce(partition, 0..8).await;
        world.log.retain(&world.topic, partition, &everything, start).await.unwrap();
    }
    archive.begin(&name(0), 0).await.unwrap();
    let archiver = archiver(&world, small()).await;
    // Whichever is looked at first, what had let go of records has begun from then on, and that is marked.
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Idle { due_in: None });
    assert!(archive.has_begun(archiver.source()).await.unwrap());
    world.log.retain(&world.topic, 2, &everything, 3).await.unwrap();
    assert_eq!(archiver.step(2).await.unwrap(), ArchiverStep::Lost(0..3));
    assert_eq!(archiver.step(1).await.unwrap(), ArchiverStep::Gathered(1));
    assert_eq!(archive.origin(&name(1)).await.unwrap(), Some(7));
}

/// H1: once a dataset follows a topic, all that its partitions ever have is the dataset's: also what leaves the log before they are
/// first looked at, those that are added and those of a topic that is made again.
#[tokio::test]
async fn h1_what_left_the_log_before_a_partition_was_met_is_marked_as_lost() {
    let mut world = World::new(1).await;
    let first = archiver(&world, small()).await;
    world.produce(0, 0..3).await;
    first.flush().await.unwrap();
    let everything = Retention { age_max: None, bytes_max: Some(0) };

    world.log.add_partitions(&world.topic, 2).await.unwrap();
    world.produce(1, 0..8).await;
    world.log.retain(&world.topic, 1, &everything, 5).await.unwrap();
    assert_eq!(first.step(1).await.unwrap(), ArchiverStep::Lost(0..5));
    assert_eq!(first.flush().await.unwrap().end(&name(1)), 8);
    let live = world.live();
    let indexer = open(parts(&world, &live), Coverage::new()).await;
    catch_up(&indexer, 1).await;
    let pin = live.pin(indexer.view()).await.unwrap().unwrap();
    assert_eq!(pin.ranges()[&name(1)].visible, 8);
    assert_eq!(pin.lost()[&name(1)], std::slice::from_ref(&(0..5)), "whoever answers names it");

    world.log.delete_topic(&world.topic).await.unwrap();
    world.topic = world.log.create_topic(&world.topic.name, 1).await.unwrap();
    world.produce(0, 0..8).await;
    world.log.retain(&world.topic, 0, &everything, 4).await.unwrap();
    let second = archiver(&world, small()).await;
    assert_eq!(second.step(0).await.unwrap(), ArchiverStep::Lost(0..4));
    let partition = LogPartition { source: second.source().clone(), partition: 0 };
    assert_eq!(second.flush().await.unwrap().end(&partition), 8);
}

/// H1: what was in a topic before the dataset came to it is none of the dataset's, whichever partition is looked at first, and
/// whatever happens before the others are.
#[tokio::test]
async fn h1_a_topic_that_is_met_for_the_first_time_begins_where_its_log_does() {
    let world = World::new(3).await;
    let everything = Retention { age_max: None, bytes_max: Some(0) };
    for (partition, start) in [(0, 5), (1, 7), (2, 0)] {
        world.produce(partition, 0..8).await;
        world.log.retain(&world.topic, partition, &everything, start).await.unwrap();
    }
    let archiver = archiver(&world, small()).await;
    assert_eq!(archiver.step(1).await.unwrap(), ArchiverStep::Gathered(1));
    // The dataset follows them all now.
    for (partition, start) in [(0, 6), (2, 3)] {
        world.log.retain(&world.topic, partition, &everything, start).await.unwrap();
    }
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Lost(5..6));
    assert_eq!(archiver.step(2).await.unwrap(), ArchiverStep::Lost(0..3));
    let archived = archiver.flush().await.unwrap();
    for (partition, origin) in [(0, 5), (1, 7), (2, 0)] {
        assert_eq!(archived.end(&name(partition)), 8);
        assert_eq!(world.archive().origin(&name(partition)).await.unwrap(), Some(origin));
    }
}

/// H1: an archiver that was away says nothing of what others archived and packed since, though nothing is under its key.
#[tokio::test]
async fn h1_an_archiver_that_was_away_goes_on_where_the_packed_archive_does() {
    for (read_before, lets_go, plain) in [(false, true, 1), (true, true, 2), (true, false, 2)] {
        let world = World::new(1).await;
        let (away, other) = (archiver(&world, small()).await, archiver(&world, small()).await);
        world.produce(0, 0..4).await;
        away.flush().await.unwrap();
        world.produce(0, 4..6).await;
        if read_before {
            assert_eq!(away.step(0).await.unwrap(), ArchiverStep::Gathered(2));
        }
        for end in [9, 12, 15] {
            other.flush().await.unwrap();
            world.produce(0, end - 3..end).await;
        }
        other.flush().await.unwrap();
        // As packing does: an object that has the records, then those go that it stands for, but never the last.
        let archive = world.archive();
        let listed = archive.plain(&name(0)).await.unwrap();
        let packed = &listed[..listed.len() - 1];
        let mut records = Vec::new();
        for segment in packed {
            records.extend(archive.read(&name(0), segment).await.unwrap().records);
        }
        archive.put_packed(&name(0), &Segment::new(0..12, records)).await.unwrap();
        archive.delete(packed).await.unwrap();
        if lets_go {
            let everything = Retention { age_max: None, bytes_max: Some(0) };
            world.log.retain(&world.topic, 0, &everything, 14).await.unwrap();
        }
        let what = format!("read before: {read_before}, gone from the log: {lets_go}");
        match read_before {
            false => assert_eq!(away.step(0).await.unwrap(), ArchiverStep::Followed(15), "{what}"),
            true => assert_eq!(away.flush().await.unwrap().end(&name(0)), 15, "{what}"),
        }
        assert!(away.status()[&name(0)].lost.is_empty(), "{what}");
        assert_eq!(archive.plain(&name(0)).await.unwrap().len(), plain, "{what}");
        check_archive(&world, 15, &[]).await;
        world.produce(0, 15..16).await;
        assert_eq!(away.flush().await.unwrap().end(&name(0)), 16, "{what}");
        check_archive(&world, 16, &[]).await;
    }
}

#[tokio::test]
async fn the_log_lets_go_of_what_is_archived_and_of_no_more() {
    let world = World::new(1).await;
    let retention = Retention { age_max: None, bytes_max: Some(0) };
    let archiver = archiver(&world, ArchiverSettings { retention, ..small() }).await;
    world.produce(0, 0..12).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Sealed(0..12, Seal::Size));
    world.produce(0, 12..15).await;
    assert_eq!(archiver.step(0).await.unwrap(), ArchiverStep::Gathered(3));
    assert_eq!(world.log.bounds(&world.topic).await.unwrap()[0].start, 12);
    archiver.flush().await.unwrap();
    assert_eq!(world.log.bounds(&world.topic).await.unwrap()[0].start, 15);
    check_archive(&world, 15, &[]).await;
}

#[tokio::test]
async fn running_archives_and_stops_when_it_is_told_to() {
    let world = World::new(2).await;
    let archiver = Arc::new(archiver(&world, small()).await);
    let cancel = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    let (running, token) = (Arc::clone(&archiver), cancel.clone());
    tasks.spawn(async move { running.run(&Share::default(), &token).await });
    world.produce(0, 0..30).await;
    // sealed by a run that is woken by the log; fewer than ten, which came late, may wait for more
    until(async || world.archive().end(&name(0), 0).await.unwrap() >= Some(21)).await;
    world.produce(0, 30..33).await;
    cancel.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(archiver.flush().await.unwrap().end(&name(0)), 33);
    check_archive(&world, 33, &[]).await;
    world.log.delete_topic(&world.topic).await.unwrap();
    archiver.run(&Share::default(), &CancellationToken::new()).await.unwrap_err();
}

#[tokio::test]
async fn offsets_without_records_are_archived_too() {
    let world = World::new(1).await;
    let archiver = archiver(&world, small()).await;
    world.skip(0, 50).await;
    let marker = Routed { partition: 0, record: Record::default() };
    world.log.append(&world.topic, vec![marker], None).await.unwrap();
    world.skip(0, 3).await;
    assert_eq!(archiver.flush().await.unwrap().end(&name(0)), 54);
    assert_eq!(world.archive().end(&name(0), 0).await.unwrap(), Some(54));
}
