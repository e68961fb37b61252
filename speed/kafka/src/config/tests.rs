use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::settings::{Sasl, Security};

type Client = (&'static str, fn(&KafkaSettings) -> ClientConfig);

const CLIENTS: [Client; 6] = [
    ("admin", KafkaSettings::admin),
    ("reader", KafkaSettings::reader),
    ("looker", KafkaSettings::looker),
    ("member", |settings| settings.member(&GroupName::new("g").expect("a legal name"))),
    ("producer", KafkaSettings::producer),
    ("transactional", |settings| settings.transactional("id")),
];

fn with(properties: &[(&str, &str)]) -> KafkaSettings {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let properties: BTreeMap<String, String> = properties.iter().map(owned).collect();
    KafkaSettings { brokers: "a:1".to_owned(), properties, ..KafkaSettings::default() }
}

fn client(name: &str) -> fn(&KafkaSettings) -> ClientConfig {
    CLIENTS.iter().find(|(known, _)| *known == name).expect("a client").1
}

#[test]
fn what_the_user_sets_counts_instead_of_a_default() {
    let all: Vec<&str> = CLIENTS.iter().map(|(name, _)| *name).collect();
    let readers = ["reader", "looker"];
    let producers = ["producer", "transactional"];
    let cases: [(&[&str], &str); 14] = [
        (&all, "client.id"),
        (&all, "socket.timeout.ms"),
        (&all, "reconnect.backoff.max.ms"),
        (&all, "topic.metadata.refresh.interval.ms"),
        (&["reader", "looker", "member"], "queued.max.messages.kbytes"),
        (&readers, "queued.min.messages"),
        (&readers, "fetch.wait.max.ms"),
        (&readers, "fetch.queue.backoff.ms"),
        (&producers, "compression.type"),
        (&producers, "linger.ms"),
        (&producers, "message.max.bytes"),
        (&producers, "queue.buffering.max.messages"),
        (&producers, "queue.buffering.max.kbytes"),
        (&producers, "message.timeout.ms"),
    ];
    for (names, property) in cases {
        let settings = with(&[(property, "77")]);
        settings.check().unwrap();
        for name in names {
            assert!(client(name)(&with(&[])).get(property).is_some_and(|ours| ours != "77"), "{name}: {property}");
            assert_eq!(client(name)(&settings).get(property), Some("77"), "{name}: {property}");
        }
    }
}

/// Set under both, one of them would count, and nobody could tell which.
#[test]
fn a_property_is_set_by_one_name() {
    for (given, meant) in [
        ("queue.buffering.max.ms", "linger.ms"),
        ("compression.codec", "compression.type"),
        ("delivery.timeout.ms", "message.timeout.ms"),
        ("topic.message.timeout.ms", "message.timeout.ms"),
    ] {
        let made = with(&[(given, "77")]).producer();
        assert_eq!((made.get(meant), made.get(given)), (Some("77"), None), "{given}");
    }
    for global in ["topic.metadata.refresh.interval.ms", "topic.blacklist"] {
        assert_eq!(with(&[(global, "77")]).reader().get(global), Some("77"));
    }
}

#[test]
fn what_promises_hang_on_is_refused_and_would_not_count() {
    let others = ["topic.acks", "request.required.acks", "message.send.max.retries", "auto.commit.enable"];
    for &name in OURS.iter().chain(&others) {
        let settings = with(&[("linger.ms", "5"), (name, "hidden")]);
        let refused = settings.check().unwrap_err().to_string();
        assert!(refused.contains(&format!("`{name}`")) && refused.contains("promises"), "{refused}");
        assert!(!refused.contains("hidden"), "{refused}");
    }
    let user = "of the user";
    for (name, make) in CLIENTS {
        let ours = make(&with(&[]));
        for property in OURS.iter().copied().filter(|property| ours.get(property).is_some()) {
            let made = make(&with(&[(property, user)]));
            assert_eq!(made.get(property), ours.get(property), "{name}: {property}");
        }
    }
}

#[test]
fn what_has_a_setting_of_its_own_is_not_set_twice() {
    let sasl = Sasl { mechanism: "PLAIN".to_owned(), username: "u".to_owned(), password: "p".to_owned() };
    let secure = |name: &str| KafkaSettings {
        security: Security::SaslSsl,
        sasl: Some(sasl.clone()),
        ca_file: Some("ca.pem".into()),
        ..with(&[(name, "hidden")])
    };
    for (name, setting) in [
        ("bootstrap.servers", "log.url"),
        ("metadata.broker.list", "log.url"),
        ("security.protocol", "log.kafka.security_protocol"),
        ("ssl.ca.location", "log.kafka.ca_file"),
        ("sasl.mechanism", "log.kafka.sasl_mechanism"),
        ("sasl.username", "log.kafka.username"),
        ("sasl.password", "log.kafka.password"),
    ] {
        let refused = secure(name).check().unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains(setting) && !refused.contains("hidden"), "{refused}");
    }
    // a setting that is not made says nothing
    let own_folder = KafkaSettings { security: Security::Ssl, ..with(&[("ssl.ca.location", "/certificates")]) };
    own_folder.check().unwrap();
    assert_eq!(own_folder.reader().get("ssl.ca.location"), Some("/certificates"));
    assert_eq!(KafkaSettings { security: Security::Ssl, ..with(&[]) }.reader().get("ssl.ca.location"), Some("probe"));
    let made = secure("ssl.key.password").producer();
    assert_eq!((made.get("ssl.ca.location"), made.get("sasl.password")), (Some("ca.pem"), Some("p")));
    assert_eq!((made.get("bootstrap.servers"), made.get("security.protocol")), (Some("a:1"), Some("sasl_ssl")));
}

/// librdkafka makes no producer otherwise.
#[test]
fn nothing_of_a_transaction_takes_longer_than_it() {
    for (property, given, wanted) in [
        ("message.timeout.ms", "10000", "8000"),
        ("message.timeout.ms", "0", "8000"),
        ("message.timeout.ms", "500", "500"),
        ("socket.timeout.ms", "60000", "10000"),
        ("socket.timeout.ms", "5000", "5000"),
    ] {
        let settings = with(&[(property, given)]);
        assert_eq!(settings.transactional("id").get(property), Some(wanted), "{property} = {given}");
        assert_eq!(settings.producer().get(property), Some(given));
    }
    let made = with(&[]).transactional("id");
    assert_eq!((made.get("transactional.id"), made.get("message.timeout.ms")), (Some("id"), Some("8000")));
}

#[test]
fn clients_count_unless_nobody_takes_from_them_what_they_count() {
    for (name, make) in CLIENTS {
        let counts = |settings: &KafkaSettings| make(settings).get("statistics.interval.ms").map(str::to_owned);
        let (default, users) = if name == "admin" { ("0", "0") } else { ("15000", "1000") };
        assert_eq!(counts(&with(&[])).as_deref(), Some(default), "{name}");
        assert_eq!(counts(&with(&[("statistics.interval.ms", "1000")])).as_deref(), Some(users), "{name}");
    }
}

#[test]
fn members_are_waited_for_as_long_as_the_setting_says() {
    let group = GroupName::new("g").unwrap();
    let made = KafkaSettings { session_timeout: Duration::from_secs(100), ..with(&[]) }.member(&group);
    let told = ["group.id", "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms"];
    assert_eq!(told.map(|name| made.get(name)), [Some("g"), Some("100000"), Some("3000"), Some("100000")]);
}

/// What is told to a client is known to librdkafka.
#[test]
fn librdkafka_takes_what_clients_are_told() {
    for (name, make) in CLIENTS {
        make(&with(&[])).create_native_config().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
