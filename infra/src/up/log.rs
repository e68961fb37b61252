//! The log that `log.url` names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark_kafka::{KafkaLog, KafkaSettings, Sasl, Stats, brokers_of, properties_of};
use tidemark_shared::ambient::System;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::log::{Log, LogError};
use tidemark_shared::secrets::shown_url;
use tidemark_speed::log::embedded::{EmbeddedLog, Storage};

use crate::config::{EMBEDDED, KAFKA, KafkaConfig, ServerConfig};

/// Largest file of a password or of properties, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why the log can't be opened by its settings.
#[derive(Debug, thiserror::Error)]
pub enum LogSettingsError {
    /// Its URL names no adapter of this build.
    #[error("`log.url` is {url}: {reason}")]
    Url {
        /// The URL, without what may be secret in it.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that a setting names can't be used.
    #[error("`{setting}` is {}: {reason}", path.display())]
    File {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is a password without a user, or a user without one.
    #[error("`log.kafka.username` and a password go together: `{missing}` is missing")]
    Incomplete {
        /// What is missing.
        missing: &'static str,
    },
    /// The log refuses, or fails.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ErrorKind for LogSettingsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Url { .. } | Self::File { .. } | Self::Incomplete { .. } => Kind::Invalid,
            Self::Log(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Log(error) => error.hint(),
            Self::Url { .. } | Self::File { .. } | Self::Incomplete { .. } => {
                Some("docs/config.md lists every setting; `tidemark config` shows those that count".to_owned())
            }
        }
    }
}

/// Opens the log. One on Kafka is opened whether or not its brokers answer; what its clients count, `stats` is told.
pub(super) async fn open(config: &ServerConfig, stats: Arc<dyn Stats>) -> Result<Arc<dyn Log>, LogSettingsError> {
    if let Some(folder) = config.log_url.strip_prefix(EMBEDDED) {
        return Ok(Arc::new(EmbeddedLog::open(folder.as_ref(), Storage::default(), Arc::new(System)).await?));
    }
    let wrong = |reason| LogSettingsError::Url { url: shown_url(&config.log_url), reason };
    if !config.log_url.starts_with(KAFKA) {
        return Err(wrong(format!("this build has `{EMBEDDED}` and `{KAFKA}`")));
    }
    let brokers = brokers_of(&config.log_url).map_err(wrong)?;
    Ok(Arc::new(KafkaLog::with_stats(settings(brokers, &config.kafka)?, Arc::new(System), stats)?))
}

fn settings(brokers: String, config: &KafkaConfig) -> Result<KafkaSettings, LogSettingsError> {
    let properties = match &config.properties_file {
        None => Default::default(),
        Some(path) => {
            let setting = "log.kafka.properties_file";
            let text = read(setting, path)?;
            let unusable = |reason| LogSettingsError::File { setting, path: path.clone(), reason };
            properties_of(&text).map_err(unusable)?
        }
    };
    Ok(KafkaSettings {
        brokers,
        security: config.security_protocol,
        ca_file: config.ca_file.clone(),
        certificate_file: config.certificate_file.clone(),
        key_file: config.key_file.clone(),
        sasl: sasl(config)?,
        replication: config.replication_factor,
        session_timeout: config.session_timeout,
        properties,
    })
}

fn sasl(config: &KafkaConfig) -> Result<Option<Sasl>, LogSettingsError> {
    let password = match (&config.password, &config.password_file) {
        (Some(password), _) => Some(password.reveal().to_owned()),
        (None, Some(path)) => {
            Some(read("log.kafka.password_file", path)?.lines().next().unwrap_or_default().to_owned())
        }
        (None, None) => None,
    };
    match (config.username.clone(), password) {
        (Some(username), Some(password)) => {
            Ok(Some(Sasl { mechanism: config.sasl_mechanism.name().to_owned(), username, password }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(LogSettingsError::Incomplete { missing: "log.kafka.password" }),
        (None, Some(_)) => Err(LogSettingsError::Incomplete { missing: "log.kafka.username" }),
    }
}

fn read(setting: &'static str, path: &Path) -> Result<String, LogSettingsError> {
    let unusable = |reason: String| LogSettingsError::File { setting, path: path.to_owned(), reason };
    let meta = std::fs::metadata(path).map_err(|error| unusable(format!("it can't be read: {error}")))?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(unusable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| unusable(format!("it can't be read: {error}")))
}

#[cfg(test)]
mod tests {
    use tidemark_kafka::Security;

    use super::*;
    use crate::config::{SaslMechanism, Secret};

    fn config() -> KafkaConfig {
        KafkaConfig {
            security_protocol: Security::SaslSsl,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            sasl_mechanism: SaslMechanism::ScramSha256,
            username: Some("u".to_owned()),
            password: None,
            password_file: None,
            replication_factor: Some(3),
            session_timeout: std::time::Duration::from_secs(45),
            properties_file: None,
        }
    }

    #[test]
    fn a_password_comes_from_a_file_unless_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "of file\nmore\n").unwrap();
        let of_file = KafkaConfig { password_file: Some(path.clone()), ..config() };
        let given = KafkaConfig { password: Some(Secret::new("given")), ..of_file.clone() };
        for (config, expected) in [(of_file, "of file"), (given, "given")] {
            let made = settings("a:1".to_owned(), &config).unwrap();
            let sasl = made.sasl.map(|sasl| (sasl.mechanism, sasl.password));
            assert_eq!(sasl, Some(("SCRAM-SHA-256".to_owned(), expected.to_owned())));
            assert_eq!((made.security, made.replication), (Security::SaslSsl, Some(3)));
        }
        assert!(matches!(settings("a:1".to_owned(), &config()), Err(LogSettingsError::Incomplete { .. })));
        let missing = KafkaConfig { password_file: Some(folder.path().join("none")), ..config() };
        assert!(matches!(settings("a:1".to_owned(), &missing), Err(LogSettingsError::File { .. })));
    }

    #[test]
    fn further_properties_are_passed_on_unless_they_break_promises() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("properties");
        std::fs::write(&path, "socket.timeout.ms=5000\n").unwrap();
        let config = KafkaConfig { properties_file: Some(path.clone()), username: None, ..config() };
        let made = settings("a:1".to_owned(), &config).unwrap();
        assert_eq!(made.properties.get("socket.timeout.ms").map(String::as_str), Some("5000"));
        std::fs::write(&path, "acks=0\n").unwrap();
        let made = settings("a:1".to_owned(), &config).unwrap();
        let refused = KafkaLog::open(made, Arc::new(System)).unwrap_err();
        assert!(refused.to_string().contains("`acks` is refused"), "{refused}");
    }
}
