//! The calls into librdkafka that the `rdkafka` crate has no safe form of: topics' ids, why a broker does not tell a topic's
//! settings (the crate shows a topic without any then), and one partition's records by position, with the offsets at which a
//! reader came to the end (the crate drops those, and panics at a header whose name is not UTF-8).
//!
//! All of this project's code on Kafka that the compiler can't check is here.
#![expect(unsafe_code, reason = "calls of a C library; what makes each of them sound is said beside it")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;
use tidemark_shared::log::{Header, OffsetRecord, Record};
use tokio::sync::Notify;

use crate::clients::Events;
use crate::record::restore_time;

/// Bytes for a message of librdkafka's.
const MESSAGE_BYTES: usize = 512;
/// How much longer than the request's own limit its answer is waited for.
const SLACK: Duration = Duration::from_secs(1);
/// What a broker tells as the id of a topic if it knows no ids.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// What a broker tells of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Its id; `None` if the broker knows no ids.
    pub(crate) id: Option<String>,
    /// How many partitions it has.
    pub(crate) partitions: u32,
}

/// What a broker tells of topics, in the order of `names`; `None` for one that is not there. Blocks for `timeout` at most,
/// and a little.
///
/// # Errors
/// The failure of the request; in the list, that of one topic.
pub(crate) fn describe(
    client: &Client<Events>,
    names: &[&str],
    timeout: Duration,
) -> Result<Vec<Result<Option<Described>, RDKafkaErrorCode>>, RDKafkaErrorCode> {
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client outlives the call. The names are copied by the first function, the collection by
    // `rd_kafka_DescribeTopics`; each object is destroyed once, by its guard, and the answer after what was read from it.
    unsafe {
        let rk = client.native_ptr();
        let topics =
            Guard::of(sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()), |found| {
                sys::rd_kafka_TopicCollection_destroy(found);
            })?;
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let answer = ask(client, operation, timeout, |options, queue| {
            sys::rd_kafka_DescribeTopics(rk, topics.0, options, queue);
        })?;
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.event.0);
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let mut count = 0;
        let found = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        Ok((0..count).map(|at| described(*found.add(at))).collect())
    }
}

/// # Safety
/// `topic` is one of a result that lives.
unsafe fn described(topic: *const sys::rd_kafka_TopicDescription_t) -> Result<Option<Described>, RDKafkaErrorCode> {
    // SAFETY: the caller's; what is got here lives as long as the result, and is copied.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        match checked(sys::rd_kafka_error_code(error)) {
            Ok(()) => {}
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            Err(code) => return Err(code),
        }
        let mut partitions = 0;
        let _partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = text(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic)));
        // as Kafka's own tools show it
        let id = Some(id.replace('+', "-").replace('/', "_")).filter(|id| !id.is_empty() && id != NO_ID);
        Ok(Some(Described { id, partitions: u32::try_from(partitions).unwrap_or(u32::MAX) }))
    }
}

/// What a broker tells of a topic's setting; `None` if it has none of that name. Blocks for `timeout` at most, and a little.
///
/// # Errors
/// The failure of the request, or why the broker does not tell.
pub(crate) fn setting(
    client: &Client<Events>,
    topic: &str,
    name: &str,
    timeout: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    // SAFETY: the client outlives the call. The name is copied by the first function, the resource by
    // `rd_kafka_DescribeConfigs`; each object is destroyed once, by its guard, and the answer after what was read from it.
    unsafe {
        let rk = client.native_ptr();
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let resource = Guard::of(sys::rd_kafka_ConfigResource_new(kind, topic.as_ptr()), |found| {
            sys::rd_kafka_ConfigResource_destroy(found);
        })?;
        let mut resources = [resource.0];
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
        let answer = ask(client, operation, timeout, |options, queue| {
            sys::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), resources.len(), options, queue);
        })?;
        let result = sys::rd_kafka_event_DescribeConfigs_result(answer.event.0);
        if result.is_null() {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let mut count = 0;
        let found = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        if count == 0 {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        let found = *found;
        checked(sys::rd_kafka_ConfigResource_error(found))?;
        let mut count = 0;
        let entries = sys::rd_kafka_ConfigResource_configs(found, &raw mut count);
        for at in 0..count {
            let entry = *entries.add(at);
            if text(sys::rd_kafka_ConfigEntry_name(entry)) == name {
                let value = sys::rd_kafka_ConfigEntry_value(entry);
                return Ok((!value.is_null()).then(|| text(value)));
            }
        }
        Ok(None)
    }
}

/// What a broker answered, and the queue by which it came. Dropped in this order.
struct Answer {
    event: Guard<sys::rd_kafka_event_t>,
    _queue: Guard<sys::rd_kafka_queue_t>,
}

/// Has `request` send a request with the options, which it copies, and waits for the answer in the queue.
///
/// # Safety
/// `request` sends one of the kind `operation` by `client`, and keeps no pointer.
unsafe fn ask(
    client: &Client<Events>,
    operation: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    request: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Answer, RDKafkaErrorCode> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let wait_ms = i32::try_from((timeout + SLACK).as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client outlives the call, and the caller's; each object is destroyed once, by its guard.
    unsafe {
        let rk = client.native_ptr();
        let options = Guard::of(sys::rd_kafka_AdminOptions_new(rk, operation), |found| {
            sys::rd_kafka_AdminOptions_destroy(found);
        })?;
        let mut message = [0; MESSAGE_BYTES];
        let set =
            sys::rd_kafka_AdminOptions_set_request_timeout(options.0, timeout_ms, message.as_mut_ptr(), MESSAGE_BYTES);
        checked(set)?;
        let queue = Guard::of(sys::rd_kafka_queue_new(rk), |found| sys::rd_kafka_queue_destroy(found))?;
        request(options.0, queue.0);
        let event = sys::rd_kafka_queue_poll(queue.0, wait_ms);
        if event.is_null() {
            return Err(RDKafkaErrorCode::OperationTimedOut);
        }
        let event = Guard::of(event, |found| sys::rd_kafka_event_destroy(found))?;
        checked(sys::rd_kafka_event_error(event.0))?;
        Ok(Answer { event, _queue: queue })
    }
}

/// What comes of a partition.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A record.
    Record(OffsetRecord),
    /// All below this offset was read past: it is the end, for now.
    End(u64),
    /// The broker refuses, or the bytes are damaged.
    Failed(RDKafkaErrorCode),
}

/// One partition's records from an offset on, as they come. The broker is asked for more in the background, until so much
/// waits here. Of one consumer and partition there is one at a time.
pub(crate) struct PartitionStream {
    topic: *mut sys::rd_kafka_topic_t,
    partition: i32,
    queue: *mut sys::rd_kafka_queue_t,
    /// Told when something comes while nothing waits.
    came: Arc<Notify>,
    /// The pointers are its.
    consumer: Arc<BaseConsumer<Events>>,
}

// SAFETY: librdkafka's objects may be used from any thread; calls on one stream are serialised by `&mut self`.
unsafe impl Send for PartitionStream {}

impl PartitionStream {
    /// Begins at `offset`. Does not wait for the broker.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub(crate) fn start(
        consumer: Arc<BaseConsumer<Events>>,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Result<Self, RDKafkaErrorCode> {
        let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        let partition = i32::try_from(partition).map_err(|_| RDKafkaErrorCode::UnknownPartition)?;
        let offset = i64::try_from(offset).map_err(|_| RDKafkaErrorCode::OffsetOutOfRange)?;
        let came = Arc::new(Notify::new());
        // SAFETY: the consumer, which the stream holds, outlives topic and queue; both are destroyed once, by `Drop` or here.
        // The callback's argument is kept alive by `came` until the callback is taken off, under the queue's own lock.
        unsafe {
            let rk = consumer.client().native_ptr();
            let topic = sys::rd_kafka_topic_new(rk, name.as_ptr(), ptr::null_mut());
            if topic.is_null() {
                return Err(sys::rd_kafka_last_error().into());
            }
            let queue = sys::rd_kafka_queue_new(rk);
            sys::rd_kafka_queue_cb_event_enable(queue, Some(tell), Arc::as_ptr(&came).cast_mut().cast());
            if sys::rd_kafka_consume_start_queue(topic, partition, offset, queue) != 0 {
                let error = sys::rd_kafka_last_error();
                sys::rd_kafka_queue_cb_event_enable(queue, None, ptr::null_mut());
                sys::rd_kafka_queue_destroy(queue);
                sys::rd_kafka_topic_destroy(topic);
                return Err(error.into());
            }
            Ok(Self { topic, partition, queue, came, consumer })
        }
    }

    /// Told when something comes while nothing waits.
    pub(crate) fn came(&self) -> &Arc<Notify> {
        &self.came
    }

    /// What has come and waits, at most so much. Does not wait.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Taken> {
        // what else the client has to say: failures that it goes on from by itself
        while self.consumer.poll(Duration::ZERO).is_some() {}
        let mut messages: Vec<*mut sys::rd_kafka_message_t> = vec![ptr::null_mut(); max];
        // SAFETY: at most `max` pointers are written, and so many messages are ours: each is read and destroyed once.
        unsafe {
            let count = sys::rd_kafka_consume_batch_queue(self.queue, 0, messages.as_mut_ptr(), max);
            let count = usize::try_from(count).unwrap_or(0);
            let copied = |message: &*mut sys::rd_kafka_message_t| {
                let taken = taken(*message);
                sys::rd_kafka_message_destroy(*message);
                taken
            };
            messages[..count].iter().map(copied).collect()
        }
    }
}

impl Drop for PartitionStream {
    fn drop(&mut self) {
        // SAFETY: started by `start`, and nobody else has the pointers.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            let _stopped = sys::rd_kafka_consume_stop(self.topic, self.partition);
            sys::rd_kafka_queue_destroy(self.queue);
            sys::rd_kafka_topic_destroy(self.topic);
        }
    }
}

/// # Safety
/// `came` is a [`Notify`] that lives.
unsafe extern "C" fn tell(_: *mut sys::rd_kafka_t, came: *mut c_void) {
    // SAFETY: the caller's
    let came = unsafe { &*came.cast::<Notify>() };
    came.notify_one();
}

/// # Safety
/// `message` is one of a consumer's that was not destroyed.
unsafe fn taken(message: *mut sys::rd_kafka_message_t) -> Taken {
    // SAFETY: the caller's; lengths are those that belong to the pointers, and all is copied.
    unsafe {
        let found = &*message;
        let offset = u64::try_from(found.offset).unwrap_or(0);
        match checked(found.err) {
            Ok(()) => {}
            Err(RDKafkaErrorCode::PartitionEOF) => return Taken::End(offset),
            Err(code) => return Taken::Failed(code),
        }
        let headers = match headers(message) {
            Ok(headers) => headers,
            Err(code) => return Taken::Failed(code),
        };
        let (key, value) = key_and_value(slice(found.key, found.key_len), slice(found.payload, found.len));
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let mut record =
            Record { key, value, headers, timestamp_ms: sys::rd_kafka_message_timestamp(message, &raw mut kind) };
        restore_time(&mut record);
        Taken::Record(OffsetRecord { offset, record })
    }
}

/// # Safety
/// As of [`taken`].
unsafe fn headers(message: *const sys::rd_kafka_message_t) -> Result<Vec<Header>, RDKafkaErrorCode> {
    // SAFETY: the caller's; what is got lives as long as the message, and is copied.
    unsafe {
        let mut list = ptr::null_mut();
        match checked(sys::rd_kafka_message_headers(message, &raw mut list)) {
            Ok(()) => {}
            Err(RDKafkaErrorCode::NoEnt) => return Ok(Vec::new()),
            Err(code) => return Err(code),
        }
        let mut headers = Vec::new();
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let got = sys::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut size);
            if got != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Ok(headers);
            }
            headers.push(Header { name: text(name), value: slice(value, size).map(Bytes::copy_from_slice) });
        }
    }
}

/// Copies of a record's key and value. Where there are both, they share their memory: it is had once, and cloning either of them
/// needs none, which archiver and indexer do with every record.
fn key_and_value(key: Option<&[u8]>, value: Option<&[u8]>) -> (Option<Bytes>, Option<Bytes>) {
    let (Some(key), Some(value)) = (key, value) else {
        return (key.map(Bytes::copy_from_slice), value.map(Bytes::copy_from_slice));
    };
    let mut both = Vec::with_capacity(key.len() + value.len());
    both.extend_from_slice(key);
    both.extend_from_slice(value);
    let mut first = Bytes::from(both);
    let second = first.split_off(key.len());
    (Some(first), Some(second))
}

/// # Safety
/// `bytes` is null, or has `length` bytes that stay for as long as the slice is used.
unsafe fn slice<'a>(bytes: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's
    (!bytes.is_null()).then(|| unsafe { std::slice::from_raw_parts(bytes.cast(), length) })
}

/// # Safety
/// `text` is null or ends in a NUL.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn checked(code: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// Destroys an object of librdkafka's when it is left.
struct Guard<T>(*mut T, unsafe fn(*mut T));

impl<T> Guard<T> {
    fn of(object: *mut T, destroy: unsafe fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        if object.is_null() { Err(RDKafkaErrorCode::Fail) } else { Ok(Self(object, destroy)) }
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        // SAFETY: made by `of` of an object that nobody else destroys
        unsafe { (self.1)(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_value_are_what_they_were_whether_they_are_there_or_empty() {
        let some: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"\x00 bytes")];
        for key in some {
            for value in some {
                let (copied_key, copied_value) = key_and_value(key, value);
                assert_eq!((copied_key.as_deref(), copied_value.as_deref()), (key, value));
            }
        }
    }
}
