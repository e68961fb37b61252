//! Records that somebody else's producer made.

use std::time::Duration;

use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidemark_shared::log::{Header, LogError};

use super::support::{client, open, read_on, topic, values};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_whatever_compresses_a_record_it_is_read_as_it_was() {
    let log = open();
    let topic = topic(&log, "compressed", 1).await;
    let time = super::support::now_ms() - 1_000;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let producer: BaseProducer = client().set("compression.type", codec).create().unwrap();
        let headers = OwnedHeaders::new()
            .insert(KafkaHeader { key: "codec", value: Some(codec) })
            .insert(KafkaHeader::<&str> { key: "none", value: None });
        let value = codec.repeat(10_000);
        let record = BaseRecord::to(topic.name.as_str()).payload(&value).key(codec).partition(0);
        producer.send(record.timestamp(time).headers(headers)).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    }
    let (read, _) = read_on(&log, &topic, 0).await;
    assert_eq!(values(&read), codecs.map(|codec| codec.repeat(10_000)));
    for (read, codec) in read.iter().zip(codecs) {
        assert_eq!(read.record.key.as_deref(), Some(codec.as_bytes()));
        assert_eq!(read.record.timestamp_ms, time);
        let header = |name: &str, value: Option<&'static str>| Header {
            name: name.to_owned(),
            value: value.map(|value| bytes::Bytes::from_static(value.as_bytes())),
        };
        assert_eq!(read.record.headers, [header("codec", Some(codec)), header("none", None)]);
    }
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_kafka_what_a_topic_does_not_take_is_refused_for_good() {
    let log = open();
    let topic = topic(&log, "small", 1).await;
    let admin: rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext> = client().create().unwrap();
    let config = rdkafka::admin::AlterConfig::new(rdkafka::admin::ResourceSpecifier::Topic(topic.name.as_str()));
    admin.alter_configs(&[config.set("max.message.bytes", "2000")], &Default::default()).await.unwrap();
    let mut noise = super::support::record(0, "");
    // no compression makes that fit
    let bytes: Vec<u8> = (0..100_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
    noise.record.value = Some(bytes.into());
    for key in [None, Some(tidemark_shared::log::IdempotencyKey::new("k").unwrap())] {
        let refused = log.append(&topic, vec![noise.clone()], key.as_ref()).await.expect_err("it is too large");
        assert!(matches!(refused, LogError::Invalid { .. }), "{refused:?}");
    }
    log.close().await.unwrap();
}
