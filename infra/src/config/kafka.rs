//! `[log.kafka]`: how brokers are reached.

use std::path::PathBuf;
use std::time::Duration;

use tidemark_kafka::Security;

use super::Secret;

/// Protections of a connection that can be set.
const PROTOCOLS: [Security; 4] = [Security::Plaintext, Security::Ssl, Security::SaslPlaintext, Security::SaslSsl];

/// `[log.kafka]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// How connections are protected.
    pub security_protocol: Security,
    /// Authorities of brokers' certificates.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// How the user proves who he is.
    pub sasl_mechanism: SaslMechanism,
    /// The user.
    pub username: Option<String>,
    /// His password.
    pub password: Option<Secret>,
    /// Where his password stands, if not above.
    pub password_file: Option<PathBuf>,
    /// Replicas of topics that are made; `None`: the brokers decide.
    pub replication_factor: Option<u16>,
    /// Further properties.
    pub properties_file: Option<PathBuf>,
    /// When a member of a group counts as gone.
    pub session_timeout: Duration,
}

/// How a user proves who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// By his password as it is.
    Plain,
    /// By what only who has the password can compute, with SHA-256.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// Kafka's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Reads `log.kafka.security_protocol`.
///
/// # Errors
/// Says which words there are.
pub(super) fn protocol(text: &str) -> Result<Security, String> {
    one_of(&PROTOCOLS, Security::name, text)
}

/// Reads `log.kafka.sasl_mechanism`.
///
/// # Errors
/// Says which words there are.
pub(super) fn mechanism(text: &str) -> Result<SaslMechanism, String> {
    one_of(&SaslMechanism::ALL, SaslMechanism::name, text)
}

fn one_of<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| name(*one) == text);
    let names = || all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("`{text}` is none of {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody knows is never taken for the least protection.
    #[test]
    fn a_word_is_a_protection_or_a_mechanism_or_refused() {
        for (text, wanted) in [
            ("plaintext", Ok(Security::Plaintext)),
            ("ssl", Ok(Security::Ssl)),
            ("sasl_plaintext", Ok(Security::SaslPlaintext)),
            ("sasl_ssl", Ok(Security::SaslSsl)),
            ("SASL_SSL", Err("`SASL_SSL` is none of plaintext, ssl, sasl_plaintext, sasl_ssl".to_owned())),
            ("", Err("`` is none of plaintext, ssl, sasl_plaintext, sasl_ssl".to_owned())),
        ] {
            assert_eq!(protocol(text), wanted);
        }
        for (text, wanted) in [
            ("PLAIN", Ok(SaslMechanism::Plain)),
            ("SCRAM-SHA-256", Ok(SaslMechanism::ScramSha256)),
            ("SCRAM-SHA-512", Ok(SaslMechanism::ScramSha512)),
            ("GSSAPI", Err("`GSSAPI` is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512".to_owned())),
        ] {
            assert_eq!(mechanism(text), wanted);
        }
    }
}
