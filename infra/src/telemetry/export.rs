//! Spans on their way out: a bounded queue, a bounded time for each request, and what became of them. Nobody waits for a
//! receiver: where it is slow or gone, spans are lost, counted, and told of once in a while.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::Runtime;

/// Most spans that wait to be sent.
const WAITING_MAX: usize = 4_096;
/// Longest time for a request with spans, with all its attempts.
const EXPORT_MAX: Duration = Duration::from_secs(10);
/// While spans are lost, a log line says so at most so often.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What became of spans. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SpanCounts {
    /// Spans that a receiver has taken.
    pub sent: Counter,
    /// Spans that nobody has: more than could wait, or none that took them.
    pub lost: Counter,
}

/// Counts spans that wait; what is more than may is lost.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    inner: P,
    waiting: Arc<AtomicUsize>,
    lost: Arc<Losses>,
}

/// Sends spans on a runtime of its own, from the one thread that calls it: it neither waits for the process's other work nor
/// keeps it waiting, and what is left can be sent when that has ended.
pub(super) struct OnItsOwn<E> {
    inner: E,
    runtime: Runtime,
    waiting: Arc<AtomicUsize>,
    lost: Arc<Losses>,
}

impl<E> fmt::Debug for OnItsOwn<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnItsOwn").finish_non_exhaustive()
    }
}

/// What was lost, and what was told of it.
#[derive(Debug)]
struct Losses {
    counts: SpanCounts,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// When a log line said so.
    at: Option<Instant>,
    /// Spans lost since.
    untold: usize,
}

/// Sends spans in batches by `inner`, from a thread of its own that runs `runtime`; they are counted in `counts`.
pub(super) fn bounded<E: SpanExporter + 'static>(
    inner: E,
    runtime: Runtime,
    counts: &SpanCounts,
) -> Bounded<BatchSpanProcessor> {
    let waiting = Arc::new(AtomicUsize::new(0));
    let lost = Arc::new(Losses { counts: counts.clone(), told: Mutex::default() });
    let exporter = OnItsOwn { inner, runtime, waiting: Arc::clone(&waiting), lost: Arc::clone(&lost) };
    // How often, and how many at once, `OTEL_BSP_…` may say.
    let batches = BatchConfigBuilder::default().with_max_queue_size(WAITING_MAX).build();
    Bounded { inner: BatchSpanProcessor::new(exporter, batches), waiting, lost }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        let room = |waiting| (waiting < WAITING_MAX).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, room) {
            Ok(_) => self.inner.on_end(span),
            Err(_) => self.lost.lost(1, "more spans end than are taken"),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for OnItsOwn<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sending = async { tokio::time::timeout(EXPORT_MAX, self.inner.export(batch)).await };
        let ended = self.runtime.block_on(sending).unwrap_or(Err(OTelSdkError::Timeout(EXPORT_MAX)));
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
        match &ended {
            Ok(()) => self.lost.sent(spans),
            Err(error) => self.lost.lost(spans, &error.to_string()),
        }
        ended
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl Losses {
    fn told(&self) -> MutexGuard<'_, Told> {
        // a panic inside leaves at most a wrong number to be told of
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self, spans: usize) {
        let _before = self.counts.sent.inc_by(spans as u64);
        if std::mem::take(&mut *self.told()).at.is_some() {
            tracing::info!("spans are taken again");
        }
    }

    fn lost(&self, spans: usize, error: &str) {
        let _before = self.counts.lost.inc_by(spans as u64);
        let lost = self.told().lost(spans, Instant::now());
        if let Some(lost) = lost {
            tracing::warn!(lost, error, "spans of traces are lost");
        }
    }
}

impl Told {
    /// Takes note of lost spans; how many are to be told of now, if it is time.
    fn lost(&mut self, spans: usize, now: Instant) -> Option<usize> {
        self.untold += spans;
        if self.at.is_some_and(|at| now.duration_since(at) < TELL_AGAIN) {
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests;
