//! Groups whose members share partitions, and a member that is stopped.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tidemark_kafka::{KafkaLog, KafkaSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::log::{Assignment, GroupName, Log, Share, TopicName};
use tidemark_testing::contract::log as contract;

use super::support::{brokers, name, topic};

/// Long enough for a busy machine, short enough to wait for.
const SESSION: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
/// What a member in a process of its own works on: topic and group.
const MEMBER: &str = "TIDEMARK_TEST_KAFKA_MEMBER";

fn open() -> Arc<dyn Log> {
    let settings = KafkaSettings { brokers: brokers(), session_timeout: SESSION, ..KafkaSettings::default() };
    Arc::new(KafkaLog::open(settings, Arc::new(System)).expect("settings that go together"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_members_share_partitions() {
    let log = open();
    contract::check_groups(&log).await;
    log.close().await.unwrap();
}

fn numbers(assignment: &Assignment) -> BTreeSet<u32> {
    (0..4).filter(|number| assignment.partitions.has(*number)).collect()
}

/// Works by every assignment, until it has so many partitions.
async fn has(share: &mut Share, count: usize) -> BTreeSet<u32> {
    let work = async {
        loop {
            let now = share.take();
            share.settle(&now);
            if now.joined && numbers(&now).len() == count {
                return numbers(&now);
            }
            share.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.expect("its share did not come")
}

/// A process that is a member and prints each of its shares.
struct Other {
    child: Child,
    shares: Receiver<String>,
}

impl Other {
    fn start(topic: &TopicName, group: &GroupName) -> Self {
        let test = std::env::current_exe().expect("this test");
        let mut child = Command::new(test)
            .args(["groups::a_member_in_a_process_of_its_own", "--exact", "--nocapture"])
            .env(MEMBER, format!("{topic} {group}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (sender, shares) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let _reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some((_, share)) = line.split_once("share ") else { continue };
                if sender.send(share.to_owned()).is_err() {
                    break;
                }
            }
        });
        Self { child, shares }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for a share of so many partitions.
    async fn has(&mut self, count: usize) {
        let begun = Instant::now();
        loop {
            let next =
                tokio::task::block_in_place(|| self.shares.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())));
            let share = next.unwrap_or_else(|_| panic!("it came to no share of {count}"));
            if share.split(',').filter(|number| !number.is_empty()).count() == count {
                return;
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // gone already is as good
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Started by the test below; by itself it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_a_process_of_its_own() {
    let Ok(member) = std::env::var(MEMBER) else { return };
    let (topic, group) = member.split_once(' ').expect("topic and group");
    let log = open();
    let topic = log.topic(&TopicName::new(topic).unwrap()).await.unwrap().expect("it is there");
    let mut share = Share::of(log.join(&topic, &GroupName::new(group).unwrap()).await.unwrap());
    loop {
        let now = share.take();
        let numbers: Vec<String> = numbers(&now).iter().map(ToString::to_string).collect();
        println!("\nshare {}", numbers.join(","));
        share.settle(&now);
        share.changed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_a_member_that_is_killed_or_stopped_loses_its_partitions() {
    let log = open();
    let topic = topic(&log, "stopped", 4).await;
    let group = GroupName::new(name("stopped").as_str()).unwrap();
    let mut share = Share::of(log.join(&topic, &group).await.unwrap());
    has(&mut share, 4).await;
    let mut other = Other::start(&topic.name, &group);
    let kept = has(&mut share, 2).await;
    other.has(2).await;
    other.signal("STOP");
    let begun = Instant::now();
    assert!(has(&mut share, 4).await.is_superset(&kept));
    println!("a stopped member's partitions were taken over after {:.1?}", begun.elapsed());
    other.signal("CONT");
    // it is told that it has lost them, and gets a share anew
    other.has(0).await;
    has(&mut share, 2).await;
    other.has(2).await;
    let begun = Instant::now();
    drop(other);
    has(&mut share, 4).await;
    println!("a killed member's partitions were taken over after {:.1?}", begun.elapsed());
    share.leave().await;
    log.close().await.unwrap();
}
