//! How Kafka is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tidemark_shared::log::LogError;

/// Session timeouts that librdkafka takes, and that make sense.
const SESSION_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// How a connection is protected, in Kafka's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS; the broker may ask for a certificate of ours.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl Security {
    /// By Kafka's name of it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl].into_iter().find(|found| found.name() == name)
    }

    /// Kafka's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    pub(crate) fn is_encrypted(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// Who we are to the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanism: String,
    /// The user's name.
    pub username: String,
    /// The password; never shown.
    pub password: String,
}

/// How Kafka is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port`, with commas between several.
    pub brokers: String,
    /// How connections are protected.
    pub security: Security,
    /// Certificates of the authorities that a broker's certificate may come from; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, where the broker asks for one.
    pub certificate_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// Who we are, with SASL.
    pub sasl: Option<Sasl>,
    /// Replicas of topics that are made; `None`: as many as the broker makes by itself.
    pub replication: Option<u16>,
    /// A member of a group that was not heard of for so long loses its partitions to the others.
    pub session_timeout: Duration,
    /// Further properties of librdkafka, which count instead of our defaults; none of those that the log's promises hang on or
    /// that one of the settings above says.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    /// No broker; neither encryption nor users; a group waits 10 seconds for a member.
    fn default() -> Self {
        Self {
            brokers: String::new(),
            security: Security::default(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            sasl: None,
            replication: None,
            session_timeout: Duration::from_secs(10),
            properties: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // values of further properties may be secret
        let names: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("security", &self.security)
            .field("sasl", &self.sasl)
            .field("properties", &names)
            .finish_non_exhaustive()
    }
}

/// The brokers of `kafka://host:port,host2:port`; a port that is not given is 9092.
///
/// # Errors
/// What is wrong with the URL; nothing of it is repeated, for that may be a password.
pub fn brokers_of(url: &str) -> Result<String, String> {
    let Some(rest) = url.strip_prefix("kafka://") else { return Err("it does not begin with `kafka://`".to_owned()) };
    if rest.contains('@') {
        let settings = "`log.kafka.username` and `log.kafka.password`";
        return Err(format!("it holds a user or a password, for which there are {settings}"));
    }
    let mut brokers = Vec::new();
    for (number, broker) in (1..).zip(rest.trim_end_matches('/').split(',')) {
        let (host, port) = match broker.rsplit_once(':') {
            // an IPv6 address without a port ends in a bracket
            Some((host, port)) if !broker.ends_with(']') => (host, port),
            _ => (broker, "9092"),
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(format!("its broker {number} is not `host:port`"));
        }
        if port.parse::<u16>().is_err() {
            return Err(format!("what follows the host of its broker {number} is not a port"));
        }
        brokers.push(format!("{host}:{port}"));
    }
    Ok(brokers.join(","))
}

/// Properties out of a text with one `name=value` a line; `#` begins a comment line.
///
/// # Errors
/// What is wrong with which line; never a value, which may be secret.
pub fn properties_of(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut properties = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {number} is not `name=value`"));
        };
        properties.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(properties)
}

impl KafkaSettings {
    /// # Errors
    /// [`LogError::Invalid`] for settings that contradict each other or the log's promises.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        self.check_properties()?;
        if !SESSION_TIMEOUTS.contains(&self.session_timeout) {
            let what = format!("kafka session timeout of {} ms", self.session_timeout.as_millis());
            return Err(LogError::Invalid { what, reason: "it is not between 1 second and 1 hour".to_owned() });
        }
        let wants_sasl = matches!(self.security, Security::SaslPlaintext | Security::SaslSsl);
        let reason = match (&self.sasl, wants_sasl) {
            (None, true) => "it asks for a user's name and password",
            (Some(_), false) => "a user's name and password are given, which it does not use",
            _ => return Ok(()),
        };
        let what = format!("kafka security protocol `{}`", self.security.name());
        Err(LogError::Invalid { what, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_come_out_of_a_url() {
        for (url, brokers) in [
            ("kafka://a:1", "a:1"),
            ("kafka://a:1,b:2/", "a:1,b:2"),
            ("kafka://a", "a:9092"),
            ("kafka://[::1]:1,[::1]", "[::1]:1,[::1]:9092"),
        ] {
            assert_eq!(brokers_of(url).as_deref(), Ok(brokers));
        }
        for url in ["kafka://", "kafka://a:x", "kafka://a:1,", "kafka://user@a:1", "embedded:x", "kafka://a/b:1"] {
            assert!(brokers_of(url).is_err(), "{url}");
        }
        for url in ["kafka://u:s3cret@a:1", "kafka://u:s3cret,@a:1", "kafka://a?x=s3cret", "kafka://a:s3cret", "s3cret"]
        {
            let refused = brokers_of(url).expect_err(url);
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }

    #[test]
    fn properties_are_lines() {
        let read = properties_of("# a comment\n\n linger.ms = 5\nssl.key.password=a=b\n").unwrap();
        assert_eq!(read.get("linger.ms").map(String::as_str), Some("5"));
        assert_eq!(read.get("ssl.key.password").map(String::as_str), Some("a=b"));
        let refused = properties_of("a=b\nhidden\n").unwrap_err();
        assert!(refused.starts_with("line 2"), "{refused}");
        assert!(!refused.contains("hidden"), "{refused}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let sasl = Sasl { mechanism: "PLAIN".to_owned(), username: "u".to_owned(), password: "hidden".to_owned() };
        let properties = BTreeMap::from([("ssl.key.password".to_owned(), "hidden".to_owned())]);
        let settings = KafkaSettings { sasl: Some(sasl), properties, ..KafkaSettings::default() };
        assert!(!format!("{settings:?}").contains("hidden"));
    }

    #[test]
    fn a_user_goes_with_sasl_and_only_with_it() {
        let sasl = Sasl { mechanism: "PLAIN".to_owned(), username: "u".to_owned(), password: "p".to_owned() };
        let with = |security, sasl| KafkaSettings { security, sasl, ..KafkaSettings::default() }.check();
        assert!(with(Security::Plaintext, None).is_ok());
        assert!(with(Security::SaslSsl, Some(sasl.clone())).is_ok());
        assert!(with(Security::SaslSsl, None).is_err());
        assert!(with(Security::Ssl, Some(sasl)).is_err());
    }
}
