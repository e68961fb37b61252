//! Records as Kafka has them. All there is of a record is kept as it is, with one exception: a time of 0 or less can't be sent
//! (librdkafka takes it for "now", and brokers refuse what is before 1970). It goes in a header, last of all.

use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use tidemark_shared::log::{LogError, Record};

/// The header that has such a time, as decimal digits.
const TIME_HEADER: &str = "tidemark-timestamp-ms";

/// The record's headers for Kafka, and the time if it has one that can be sent.
///
/// # Errors
/// [`LogError::Invalid`] for a header's name with a NUL, which would be cut there.
pub(crate) fn headers_and_time(record: &Record) -> Result<(Option<OwnedHeaders>, Option<i64>), LogError> {
    let plain_time = record.timestamp_ms > 0;
    if record.headers.is_empty() && plain_time {
        return Ok((None, Some(record.timestamp_ms)));
    }
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 1);
    for header in &record.headers {
        if header.name.contains('\0') {
            let what = format!("header name {:?}", header.name);
            return Err(LogError::Invalid { what, reason: "it has a NUL".to_owned() });
        }
        headers = headers.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() });
    }
    if plain_time {
        return Ok((Some(headers), Some(record.timestamp_ms)));
    }
    let time = record.timestamp_ms.to_string();
    Ok((Some(headers.insert(KafkaHeader { key: TIME_HEADER, value: Some(time.as_bytes()) })), None))
}

/// Takes the time out of the header of a record that was read, if it is there.
pub(crate) fn restore_time(record: &mut Record) {
    let time = record.headers.last().filter(|header| header.name == TIME_HEADER).and_then(|header| {
        let digits = std::str::from_utf8(header.value.as_deref()?).ok()?;
        digits.parse::<i64>().ok().filter(|time| *time <= 0)
    });
    if let Some(time) = time {
        record.timestamp_ms = time;
        record.headers.pop();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemark_shared::log::Header;

    use super::*;

    #[test]
    fn a_time_that_cant_be_sent_comes_back_out_of_its_header() {
        for time in [0, -1, i64::MIN] {
            let (headers, sent) = headers_and_time(&Record { timestamp_ms: time, ..Record::default() }).unwrap();
            assert_eq!(sent, None);
            assert!(headers.is_some());
            let header = Header { name: TIME_HEADER.to_owned(), value: Some(Bytes::from(time.to_string())) };
            let mut read = Record { headers: vec![header], timestamp_ms: 17, ..Record::default() };
            restore_time(&mut read);
            assert_eq!(read, Record { timestamp_ms: time, ..Record::default() });
        }
    }

    #[test]
    fn somebody_elses_headers_stay() {
        let header = |value: &'static str| Header { name: TIME_HEADER.to_owned(), value: Some(Bytes::from(value)) };
        for headers in
            [vec![header("5")], vec![header("x")], vec![header("-1"), Header { name: "a".to_owned(), value: None }]]
        {
            let mut read = Record { headers: headers.clone(), timestamp_ms: 17, ..Record::default() };
            restore_time(&mut read);
            assert_eq!((read.headers, read.timestamp_ms), (headers, 17));
        }
    }

    #[test]
    fn a_name_that_would_be_cut_is_refused() {
        let header = Header { name: "a\0b".to_owned(), value: None };
        let refused = headers_and_time(&Record { headers: vec![header], timestamp_ms: 1, ..Record::default() });
        assert!(matches!(refused, Err(LogError::Invalid { .. })), "{refused:?}");
    }
}
