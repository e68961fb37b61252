use std::collections::BTreeMap;
use std::sync::mpsc;

use super::*;
use crate::stats::{ClientStats, NoStats};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_thread_goes_on_after_a_panic_with_what_it_has() {
    let (questions, asked) = mpsc::channel::<(u32, mpsc::Sender<u32>)>();
    let mut count = 0;
    let answers = move || {
        while let Ok((number, answer)) = asked.recv() {
            assert_ne!(number, 13, "that is no number to ask for");
            count += 1;
            answer.send(number + 100 * count).expect("somebody waits");
        }
    };
    let thread = thread("kafka-test", answers).expect("a thread");
    let ask = |number| {
        let (answer, answered) = mpsc::channel();
        questions.send((number, answer)).expect("the thread takes questions");
        answered.recv_timeout(PATIENCE).map_err(|error| error.to_string())
    };
    assert_eq!(ask(1), Ok(101));
    ask(13).expect_err("a panic answers nobody");
    ask(13).expect_err("nor does the next one");
    assert_eq!(ask(2), Ok(202));
    drop(questions);
    thread.join().expect("it ends without a panic");
}

#[test]
fn what_a_panic_says_is_told() {
    let name = String::from("parts");
    assert_eq!(caught("kafka-test", || 7), Ok(7));
    assert_eq!(caught::<()>("kafka-test", || panic!("as it is")), Err("as it is".to_owned()));
    assert_eq!(caught::<()>("kafka-test", || panic!("of {name}")), Err("of parts".to_owned()));
    assert_eq!(caught::<()>("kafka-test", || std::panic::panic_any(7)), Err("nothing".to_owned()));
}

/// Hands on who told, so that it can be waited for.
#[derive(Debug)]
struct HandOn(mpsc::Sender<(ClientKind, ClientStats)>);

impl Stats for HandOn {
    fn heard(&self, clients: ClientKind, together: ClientStats) {
        // who waited may have heard enough
        let _told = self.0.send((clients, together));
    }
}

fn settings() -> KafkaSettings {
    let properties = BTreeMap::from([("statistics.interval.ms".to_owned(), "1000".to_owned())]);
    // nobody listens there
    KafkaSettings { brokers: "127.0.0.1:1".to_owned(), properties, ..KafkaSettings::default() }
}

/// What they count would pile up for as long as they are idle, and nobody would be told.
#[test]
fn clients_that_nobody_uses_are_heard() {
    let (sender, told) = mpsc::channel();
    let clients = Clients::start(settings(), Arc::new(HandOn(sender))).expect("settings that go together");
    let idle = (clients.reader().expect("a reader"), clients.transactional("id").expect("a producer"));
    let mut waited_for = vec![ClientKind::Reader, ClientKind::Reader, ClientKind::Producer, ClientKind::Producer];
    while !waited_for.is_empty() {
        let (kind, stats) = told.recv_timeout(PATIENCE).expect("a client tells what it counts");
        assert_eq!((stats.brokers_up, stats.round_trip), (0, None), "{kind:?}");
        if let Some(found) = waited_for.iter().position(|wanted| *wanted == kind) {
            waited_for.swap_remove(found);
        }
    }
    drop(idle);
}

#[test]
fn what_is_refused_makes_no_clients() {
    let refused = |name: &str| {
        let properties = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        let settings = KafkaSettings { properties, ..settings() };
        Clients::start(settings, Arc::new(NoStats)).and_then(|clients| clients.admin()).err()
    };
    assert!(refused("linger.ms").is_none());
    for name in ["acks", "no.such.property"] {
        let error = refused(name).expect("it is refused");
        assert!(matches!(&error, LogError::Invalid { what, .. } if what.contains(name)), "{error:?}");
    }
}
