//! What each client of librdkafka is told: our defaults, over them the properties that the user sets, over these what has a
//! setting of its own, and last what the log's promises hang on, which the user can't set.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use tidemark_shared::log::{GroupName, LogError};

use crate::settings::KafkaSettings;

/// Properties that decide what this log promises: nobody else sets them.
const OURS: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "check.crcs",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "retries",
    "session.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Other names of properties, and those by which they are meant here: one property is not to be set twice.
const ALIASES: &[(&str, &str)] = &[
    ("auto.commit.enable", "enable.auto.commit"),
    ("compression.codec", "compression.type"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

/// Defaults of every client.
const COMMON: &[(&str, &str)] = &[
    ("client.id", "tidemark"),
    ("socket.timeout.ms", "10000"),
    ("socket.keepalive.enable", "true"),
    ("reconnect.backoff.ms", "50"),
    // it is back within moments once the broker is
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("statistics.interval.ms", "15000"),
];

/// How long a transaction may be open; an append with a key must have ended before.
const TRANSACTION_MAX_MS: u64 = 10_000;
/// Longest time of a record in a transaction: some of the transaction's is left for its end.
const TRANSACTION_RECORD_MAX_MS: u64 = 8_000;

impl KafkaSettings {
    /// Of the client that asks for topics and makes them.
    pub(crate) fn admin(&self) -> ClientConfig {
        // nobody takes from it what it counts, and that would pile up
        self.client(&[], &[("statistics.interval.ms", "0")])
    }

    /// Of clients that read: by position, committed records, and told when they come to the end.
    pub(crate) fn reader(&self) -> ClientConfig {
        // what a reader that moves waits for at most: a broker answers a client's requests one after the other
        self.reading("100")
    }

    /// Of the client that reads a record here and there, and waits for none that is not there yet.
    pub(crate) fn looker(&self) -> ClientConfig {
        self.reading("5")
    }

    fn reading(&self, fetch_wait_ms: &str) -> ClientConfig {
        let defaults = [
            // what one partition may have waiting for its reader
            ("queued.max.messages.kbytes", "4096"),
            ("queued.min.messages", "100000"),
            ("fetch.wait.max.ms", fetch_wait_ms),
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.error.backoff.ms", "100"),
        ];
        let promised = [
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            ("check.crcs", "true"),
        ];
        self.client(&defaults, &promised)
    }

    /// Of a member of a group, which reads nothing. It takes part while it is polled, and the others wait for it as long as
    /// for its session.
    pub(crate) fn member(&self, group: &GroupName) -> ClientConfig {
        let session_ms = u64::try_from(self.session_timeout.as_millis()).unwrap_or(u64::MAX);
        let heartbeat = (session_ms / 4).clamp(100, 3_000).to_string();
        let poll = session_ms.max(60_000).to_string();
        let session = session_ms.to_string();
        let defaults = [
            // partitions that the topic gets are shared out so soon
            ("topic.metadata.refresh.interval.ms", "5000"),
            ("queued.max.messages.kbytes", "64"),
        ];
        let promised = [
            ("group.id", group.as_str()),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", session.as_str()),
            ("heartbeat.interval.ms", heartbeat.as_str()),
            ("max.poll.interval.ms", poll.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "latest"),
        ];
        self.client(&defaults, &promised)
    }

    /// Of clients that append.
    pub(crate) fn producer(&self) -> ClientConfig {
        let defaults = [
            ("compression.type", "lz4"),
            ("linger.ms", "1"),
            ("message.max.bytes", "1048576"),
            ("queue.buffering.max.messages", "2000000"),
            ("queue.buffering.max.kbytes", "262144"),
            // then the caller is told; it may come again
            ("message.timeout.ms", "10000"),
        ];
        let promised = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            // an append waits for the report of each of its records
            ("delivery.report.only.error", "false"),
        ];
        self.client(&defaults, &promised)
    }

    /// Of the client that appends with keys, as `id`: who opens another one of that id ends this one's work.
    pub(crate) fn transactional(&self, id: &str) -> ClientConfig {
        let mut config = self.producer();
        config.set("transactional.id", id).set("transaction.timeout.ms", TRANSACTION_MAX_MS.to_string());
        // librdkafka takes no longer ones for a producer with transactions
        shorten(&mut config, "message.timeout.ms", TRANSACTION_RECORD_MAX_MS);
        shorten(&mut config, "socket.timeout.ms", TRANSACTION_MAX_MS);
        config
    }

    /// One over the other, as the module's text has it.
    fn client(&self, defaults: &[(&str, &str)], promised: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        set(&mut config, COMMON);
        set(&mut config, defaults);
        if self.security.is_encrypted() {
            // TLS is linked in, and knows of no folder by itself
            config.set("ssl.ca.location", "probe");
        }
        for (name, value) in &self.properties {
            config.set(one_name(name), value);
        }
        for Own { property, value, .. } in self.own() {
            config.set(property, value);
        }
        // a topic that somebody deletes is not to come back because somebody else asks for it
        config.set("allow.auto.create.topics", "false");
        set(&mut config, promised);
        config
    }

    /// Properties that other settings say.
    fn own(&self) -> Vec<Own> {
        let own = |property, setting, value: &str| Own { property, setting, value: value.to_owned() };
        let mut all = vec![
            own("bootstrap.servers", "log.url", &self.brokers),
            own("security.protocol", "log.kafka.security_protocol", self.security.name()),
        ];
        let files = [
            ("ssl.ca.location", "log.kafka.ca_file", &self.ca_file),
            ("ssl.certificate.location", "log.kafka.certificate_file", &self.certificate_file),
            ("ssl.key.location", "log.kafka.key_file", &self.key_file),
        ];
        for (property, setting, path) in files {
            if let Some(path) = path {
                all.push(own(property, setting, &path.to_string_lossy()));
            }
        }
        if let Some(sasl) = &self.sasl {
            all.push(own("sasl.mechanisms", "log.kafka.sasl_mechanism", &sasl.mechanism));
            all.push(own("sasl.username", "log.kafka.username", &sasl.username));
            all.push(own("sasl.password", "log.kafka.password", &sasl.password));
        }
        all
    }

    /// Checks that no property is set that is not the user's to set, or that another setting sets.
    ///
    /// # Errors
    /// [`LogError::Invalid`] names it; never its value, which may be secret.
    pub(crate) fn check_properties(&self) -> Result<(), LogError> {
        let own = self.own();
        for name in self.properties.keys() {
            let known = one_name(name);
            let reason = if OURS.contains(&known) {
                "it is not open to settings, for the log's promises hang on it".to_owned()
            } else if let Some(own) = own.iter().find(|own| own.property == known) {
                format!("`{}` says it already", own.setting)
            } else {
                continue;
            };
            return Err(LogError::Invalid { what: format!("kafka property `{name}`"), reason });
        }
        Ok(())
    }
}

/// A property that another setting says.
struct Own {
    property: &'static str,
    setting: &'static str,
    value: String,
}

/// The name by which a property is meant here.
fn one_name(name: &str) -> &str {
    // librdkafka takes `topic.acks` for `acks`; only these have it in their own names
    let of_topics = |rest: &&str| !rest.starts_with("metadata.") && *rest != "blacklist";
    let name = name.strip_prefix("topic.").filter(of_topics).unwrap_or(name);
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |&(_, meant)| meant)
}

fn set(config: &mut ClientConfig, properties: &[(&str, &str)]) {
    for (name, value) in properties {
        config.set(*name, *value);
    }
}

/// Has a time in milliseconds, of which 0 means for ever, be no longer than `max_ms`.
fn shorten(config: &mut ClientConfig, name: &str, max_ms: u64) {
    let given = config.get(name).and_then(|given| given.parse::<u64>().ok());
    if given.is_some_and(|given| given == 0 || given > max_ms) {
        config.set(name, max_ms.to_string());
    }
}

#[cfg(test)]
mod tests;
