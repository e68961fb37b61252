//! Spans of `tracing` as spans of OpenTelemetry, and where those go.

use std::time::Duration;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample};
use tidemark_shared::telemetry::{SPANS, TraceParent, Traces};
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::export::{SpanCounts, bounded};
use crate::config::TracesConfig;

/// How the process is called where `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say nothing.
const SERVICE_NAME: &str = "tidemark";
/// How the crate calls a process that nobody has named.
const UNNAMED: &str = "unknown_service";
/// Path of the signal at a receiver.
const PATH: &str = "/v1/traces";
/// How long sending what is left may take at the end.
const FINISH_MAX: Duration = Duration::from_secs(3);

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendingError {
    /// The sender can't be made.
    #[error("their sender can't be made")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Nor what it runs on.
    #[error("their sender can't be started")]
    Runtime(#[from] std::io::Error),
}

/// Sends spans until it is finished.
#[derive(Debug)]
pub(super) struct Sending {
    provider: SdkTracerProvider,
}

impl Sending {
    /// Begins to send; nobody is asked before there is something to be sent.
    ///
    /// # Errors
    /// That there can be no such sender: the environment wants of it what this build does not have.
    pub(super) fn start(config: &TracesConfig, counts: &SpanCounts) -> Result<Self, SendingError> {
        let builder = SpanExporter::builder().with_http().with_endpoint(format!("{}{PATH}", config.endpoint));
        let exporter = builder.build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let processor = bounded(exporter, runtime, counts);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_sampler(KeptTraces::new(config.sample.get()))
            .with_span_processor(processor);
        Ok(Self { provider: provider.build() })
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SERVICE_NAME)
    }

    /// Sends what is left, within a bound.
    pub(super) fn finish(&self) {
        match self.provider.shutdown_with_timeout(FINISH_MAX) {
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => tracing::warn!(%error, "the last spans of traces were not sent"),
        }
    }
}

/// Which spans are kept: of a trace that goes on here, as the caller decided; of those that begin here, a share, and all that
/// are about what came from a trace that is kept.
#[derive(Debug, Clone)]
pub(super) struct KeptTraces(Sampler);

impl KeptTraces {
    /// Keeps a share of the traces that begin here, from 0 to 1.
    pub(super) fn new(share: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
    }
}

impl ShouldSample for KeptTraces {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self.0.should_sample(parent, trace_id, name, kind, attributes, links);
        let begins = !parent.is_some_and(Context::has_active_span);
        if begins && links.iter().any(|link| link.span_context.is_sampled()) {
            result.decision = SamplingDecision::RecordAndSample;
        }
        result
    }
}

/// What the process is, for whoever looks at its spans.
fn resource() -> Resource {
    // With what the environment says.
    let found = Resource::builder().build();
    let name = found.get(&"service.name".into()).map(|name| name.to_string()).unwrap_or_default();
    let mut builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if name.is_empty() || name.starts_with(UNNAMED) {
        builder = builder.with_service_name(SERVICE_NAME);
    }
    builder.build()
}

/// Makes spans of OpenTelemetry of those with the target [`SPANS`], and of nothing else: what is logged may say what records
/// do.
pub(super) fn layer<S, T>(tracer: T) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    T: opentelemetry::trace::Tracer + Send + Sync + 'static,
    T::Span: Send + Sync,
{
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == SPANS);
    tracing_opentelemetry::layer()
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // Spans hang together as those of `tracing` do; nobody asks OpenTelemetry which one is current.
        .with_context_activation(false)
        .with_tracer(tracer)
        .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
}

/// What `tracing` can't say, said to OpenTelemetry.
#[derive(Debug)]
pub(super) struct OpenTelemetry;

impl Traces for OpenTelemetry {
    fn continue_from(&self, span: &Span, caller: TraceParent) {
        // Of a span that nobody takes, there is nothing to be told.
        drop(span.set_parent(Context::new().with_remote_span_context(remote(caller))));
    }

    fn link(&self, span: &Span, other: TraceParent) {
        span.add_link(remote(other));
    }

    fn kept(&self, span: &Span) -> Option<TraceParent> {
        let context = span.context();
        let span = context.span();
        let named = span.span_context();
        let trace_id = u128::from_be_bytes(named.trace_id().to_bytes());
        let span_id = u64::from_be_bytes(named.span_id().to_bytes());
        TraceParent::new(trace_id, span_id, true).filter(|_| named.is_sampled())
    }
}

fn remote(span: TraceParent) -> SpanContext {
    let flags = if span.sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace_id, span_id) = (TraceId::from(span.trace_id()), SpanId::from(span.span_id()));
    SpanContext::new(trace_id, span_id, flags, true, TraceState::default())
}
