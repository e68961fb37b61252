//! What librdkafka says went wrong, in the words of the port.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemark_shared::backoff::Backoff;
use tidemark_shared::log::LogError;

/// Of what passes by itself within moments: how often, and for how long, it is looked for whether it has.
pub(crate) const SETTLING: Backoff = Backoff {
    first: Duration::from_millis(4),
    pause_max: Duration::from_millis(100),
    attempts_max: 10_000,
    time_max: Duration::from_secs(10),
    attempts_min: 2,
};

/// A failure of the broker or on the way to it, by its code.
#[derive(Debug, thiserror::Error)]
#[error("kafka: {0}")]
pub(crate) struct Broker(pub(crate) RDKafkaErrorCode);

/// As a failure of the log: it may pass by itself.
pub(crate) fn failed(operation: &'static str, code: RDKafkaErrorCode) -> LogError {
    LogError::backend(operation, Broker(code))
}

/// As a failure of the log.
pub(crate) fn client_failed(operation: &'static str, error: KafkaError) -> LogError {
    match error {
        // librdkafka repeats the value in its message, and the value may be a password
        KafkaError::ClientConfig(_, description, key, value) => LogError::Invalid {
            what: format!("kafka property `{key}`"),
            reason: if value.is_empty() { description } else { description.replace(&value, "***") },
        },
        error => match error.rdkafka_error_code() {
            Some(code) => failed(operation, code),
            None => LogError::backend(operation, error),
        },
    }
}

/// True if the broker does not know the topic or partition: it is gone, or another broker has not heard of it yet.
pub(crate) fn is_unknown(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId)
}

/// True for what passes by itself within moments while a cluster changes.
pub(crate) fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    is_unknown(code)
        || matches!(
            code,
            Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
                | Code::ReplicaNotAvailable
        )
}
