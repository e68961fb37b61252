//! What librdkafka counts of the log's clients, for `/metrics`: docs/metrics.md. Nothing of it is shown where the log is
//! another one.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tidemark_kafka::{ClientKind, ClientStats, Stats};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClients {
    clients: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDirection {
    clients: &'static str,
    direction: &'static str,
}

type Amounts = Family<OfClients, Gauge<u64, AtomicU64>>;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct KafkaMetrics {
    brokers: Amounts,
    queued: Amounts,
    queued_bytes: Amounts,
    fetched_bytes: Amounts,
    round_trip: Family<OfClients, Gauge<f64, AtomicU64>>,
    errors: Family<OfDirection, Counter<u64, AtomicU64>>,
    retries: Family<OfClients, Counter<u64, AtomicU64>>,
}

impl KafkaMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let of = registry.sub_registry_with_prefix("tidemark_kafka");
        of.register("brokers_up", "Brokers that clients of a kind are connected to", metrics.brokers.clone());
        let help = "Records that wait to be sent, or for the broker's word on them";
        of.register("queued_records", help, metrics.queued.clone());
        let help = "Bytes of records that wait to be sent, or for the broker's word on them";
        of.register_with_unit("queued", help, Unit::Bytes, metrics.queued_bytes.clone());
        let help = "Bytes of records that have come and wait for their reader";
        of.register_with_unit("fetched", help, Unit::Bytes, metrics.fetched_bytes.clone());
        let help = "Time from a request to its answer, on average; absent while nothing is asked";
        of.register_with_unit("round_trip", help, Unit::Seconds, metrics.round_trip.clone());
        let help = "Requests that could not be sent, and answers that could not be received";
        of.register("errors", help, metrics.errors.clone());
        of.register("retries", "Requests that were sent once more", metrics.retries.clone());
        metrics
    }
}

impl Stats for KafkaMetrics {
    fn heard(&self, clients: ClientKind, together: ClientStats) {
        let clients = clients.name();
        let of = OfClients { clients };
        for (gauge, amount) in [
            (&self.brokers, together.brokers_up),
            (&self.queued, together.queued_records),
            (&self.queued_bytes, together.queued_bytes),
            (&self.fetched_bytes, together.fetched_bytes),
        ] {
            let _before = gauge.get_or_create(&of).set(amount);
        }
        if let Some(round_trip) = together.round_trip {
            let _before = self.round_trip.get_or_create(&of).set(round_trip.as_secs_f64());
        } else {
            let _was = self.round_trip.remove(&of);
        }
        for (direction, count) in [("sent", together.send_errors), ("received", together.receive_errors)] {
            let of = OfDirection { clients, direction };
            self.errors.get_or_create(&of).inner().store(count, Ordering::Relaxed);
        }
        self.retries.get_or_create(&of).inner().store(together.retries, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::up::testing::samples;

    #[test]
    fn what_clients_count_is_shown_by_their_kind() {
        let mut registry = Registry::default();
        let metrics = KafkaMetrics::new(&mut registry);
        let stats = ClientStats {
            brokers_up: 3,
            queued_records: 4,
            queued_bytes: 5,
            fetched_bytes: 6,
            round_trip: Some(Duration::from_millis(250)),
            send_errors: 7,
            receive_errors: 8,
            retries: 9,
        };
        metrics.heard(ClientKind::Producer, stats);
        let of_producers = |value: &str| format!(r#"{{clients="producer"}} {value}"#);
        for (name, value) in [
            ("tidemark_kafka_brokers_up", "3"),
            ("tidemark_kafka_queued_records", "4"),
            ("tidemark_kafka_queued_bytes", "5"),
            ("tidemark_kafka_fetched_bytes", "6"),
            ("tidemark_kafka_round_trip_seconds", "0.25"),
            ("tidemark_kafka_retries_total", "9"),
        ] {
            assert_eq!(samples(&registry, name), [of_producers(value)], "{name}");
        }
        let errors = [r#"{clients="producer",direction="received"} 8"#, r#"{clients="producer",direction="sent"} 7"#];
        assert_eq!(samples(&registry, "tidemark_kafka_errors_total"), errors);
        // Nothing was asked meanwhile: a time of 0 would be a fast broker.
        metrics.heard(ClientKind::Producer, ClientStats { round_trip: None, ..stats });
        assert_eq!(samples(&registry, "tidemark_kafka_round_trip_seconds"), [""; 0]);
    }
}
