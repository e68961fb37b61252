use std::sync::mpsc::{Receiver, Sender, channel};

use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::*;

/// Tells of each request, and answers it when it is told to.
#[derive(Debug)]
struct Receiving {
    asked: Sender<usize>,
    answers: Mutex<Receiver<OTelSdkResult>>,
    resource: Option<Resource>,
}

impl SpanExporter for Receiving {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        assert!(self.resource.is_some(), "nobody said what the process is");
        self.asked.send(batch.len()).expect("the test looks");
        self.answers.lock().expect("no panic").recv().unwrap_or(Ok(()))
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = Some(resource.clone());
    }
}

/// A provider of spans that go to a receiver, what became of them, and both ends of the receiver.
fn provider() -> (SdkTracerProvider, SpanCounts, Receiver<usize>, Sender<OTelSdkResult>) {
    let ((asked, asks), (answer, answers)) = (channel(), channel());
    let counts = SpanCounts::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let receiving = Receiving { asked, answers: Mutex::new(answers), resource: None };
    let processor = bounded(receiving, runtime, &counts);
    (SdkTracerProvider::builder().with_span_processor(processor).build(), counts, asks, answer)
}

fn spans(provider: &SdkTracerProvider, count: usize) {
    let tracer = provider.tracer("test");
    for _ in 0..count {
        drop(tracer.start("span"));
    }
}

#[test]
fn spans_are_sent_or_lost_and_counted_as_that() {
    let (provider, counts, asks, answer) = provider();
    answer.send(Ok(())).expect("it waits");
    spans(&provider, 3);
    provider.force_flush().expect("flushed");
    assert_eq!((asks.recv(), counts.sent.get(), counts.lost.get()), (Ok(3), 3, 0));
    answer.send(Err(OTelSdkError::InternalFailure("gone".to_owned()))).expect("it waits");
    spans(&provider, 2);
    provider.force_flush().expect_err("it failed");
    assert_eq!((counts.sent.get(), counts.lost.get()), (3, 2));
}

#[test]
fn while_nobody_takes_spans_no_more_wait_than_may() {
    let (provider, counts, asks, answer) = provider();
    // One request is under way, and is not answered.
    spans(&provider, 600);
    let under_way = asks.recv().expect("a request");
    assert!((1..=600).contains(&under_way), "{under_way}");
    spans(&provider, WAITING_MAX);
    assert_eq!(counts.lost.get(), 600);
    drop(answer);
    provider.force_flush().expect("flushed");
    assert_eq!((counts.sent.get(), counts.lost.get()), (WAITING_MAX as u64, 600));
    spans(&provider, 1);
    provider.shutdown().expect("it ends");
    assert_eq!((counts.sent.get(), counts.lost.get()), (WAITING_MAX as u64 + 1, 600));
}

#[test]
fn losses_are_told_of_once_in_a_while() {
    let (mut told, begin) = (Told::default(), Instant::now());
    assert_eq!(told.lost(2, begin), Some(2));
    assert_eq!(told.lost(3, begin + TELL_AGAIN / 2), None);
    assert_eq!(told.lost(4, begin + TELL_AGAIN), Some(7));
    assert_eq!(told.lost(1, begin + TELL_AGAIN), None);
}
