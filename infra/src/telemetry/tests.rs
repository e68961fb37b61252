use std::io::Write;
use std::sync::Mutex;

use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tidemark_shared::lock;
use tidemark_shared::telemetry::{TraceParent, failed};
use tracing::field::Empty;
use tracing::subscriber::with_default;
use tracing::{Span, info, info_span, warn};

use super::*;

/// What was written.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *lock(&self.0));
        String::from_utf8(bytes).expect("text")
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        lock(&self.0).extend(batch);
        Ok(())
    }
}

impl Kept {
    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// What is done inside a subscriber: such a share of spans kept, lines by such a filter. With what they have.
fn traced(share: f64, filter: &str, format: LogFormat, work: impl FnOnce()) -> (Vec<SpanData>, String) {
    let (kept, written) = (Kept::default(), Written::default());
    let sampler = traces::KeptTraces::new(share);
    let provider = SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(kept.clone()).build();
    let writer = written.clone();
    let lines = logs(EnvFilter::new(filter), format, move || writer.clone(), false);
    let subscriber = Registry::default().with(lines).with(traces::layer(provider.tracer("test")));
    with_default(subscriber, work);
    (kept.take(), written.take())
}

fn work() {
    let outer = info_span!(target: SPANS, parent: None, "outer", otel.kind = "server", tidemark.records = 7);
    let _entered = outer.enter();
    info!(secret = "s", "told");
    let inner = info_span!(target: SPANS, "inner", error.type = Empty, otel.status_code = Empty);
    inner.in_scope(|| warn!("warned"));
    failed(&inner, "gone");
    let other = info_span!("other");
    other.in_scope(|| drop(info_span!(target: SPANS, "below another")));
}

#[test]
fn spans_hang_together_and_nothing_that_is_logged_is_in_them() {
    let (spans, _) = traced(1.0, "trace", LogFormat::Text, work);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["below another", "inner", "outer"]);
    let outer = &spans[2];
    assert_eq!((&outer.span_kind, &outer.status), (&SpanKind::Server, &Status::Unset));
    let attributes: Vec<String> = outer.attributes.iter().map(|at| format!("{}={}", at.key, at.value)).collect();
    assert_eq!(attributes, ["tidemark.records=7"]);
    for inner in &spans[..2] {
        assert_eq!(inner.parent_span_id, outer.span_context.span_id());
        assert_eq!(inner.span_context.trace_id(), outer.span_context.trace_id());
    }
    assert!(matches!(spans[1].status, Status::Error { .. }), "{:?}", spans[1].status);
    assert!(spans.iter().all(|span| span.events.is_empty()), "{spans:?}");
}

#[test]
fn log_lines_are_what_they_are_without_spans() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let (_, with) = traced(1.0, "info", format, work);
        let written = Written::default();
        let writer = written.clone();
        let lines = logs(EnvFilter::new("info"), format, move || writer.clone(), false);
        with_default(Registry::default().with(lines), || {
            let span = info_span!(target: SPANS, "span");
            assert!(span.is_disabled(), "nobody wants it");
            work();
        });
        let timeless = |text: &str| -> Vec<String> {
            let begin =
                |line: &str| line.find(" INFO ").or(line.find(" WARN ")).or(line.find("\"level\"")).unwrap_or(0);
            text.lines().map(|line| line[begin(line)..].to_owned()).collect()
        };
        let without = timeless(&written.take());
        assert_eq!(timeless(&with), without, "{format:?}");
        assert_eq!(without.len(), 2, "{without:?}");
        assert!(!with.contains("outer") && with.contains("told"), "{with}");
    }
}

#[test]
fn a_level_that_nobody_wants_is_passed_over_early() {
    let lines = logs::<Registry, _>(EnvFilter::new("warn"), LogFormat::Text, std::io::sink, false);
    let subscriber = Registry::default().with(lines);
    assert_eq!(Subscriber::max_level_hint(&subscriber), Some(LevelFilter::WARN));
    let provider = SdkTracerProvider::builder().build();
    let subscriber = subscriber.with(traces::layer(provider.tracer("test")));
    assert_eq!(Subscriber::max_level_hint(&subscriber), Some(LevelFilter::INFO));
}

#[test]
fn a_callers_trace_goes_on_and_the_caller_decides_whether_it_is_kept() {
    let caller = |sampled| TraceParent::new(0xabc, 0xdef, sampled).expect("ids");
    let other = |sampled| TraceParent::new(1, 2, sampled).expect("ids");
    for (share, from, origin, kept) in [
        (0.0, Some(caller(true)), other(false), true),
        (1.0, Some(caller(false)), other(true), false),
        (0.0, None, other(false), false),
        (0.0, None, other(true), true),
        (1.0, None, other(false), true),
    ] {
        let mut named = None;
        let (spans, _) = traced(share, "off", LogFormat::Text, || {
            let span = info_span!(target: SPANS, parent: None, "continued");
            if let Some(caller) = from {
                traces::OpenTelemetry.continue_from(&span, caller);
            }
            traces::OpenTelemetry.link(&span, origin);
            named = traces::OpenTelemetry.kept(&span);
            assert_eq!(traces::OpenTelemetry.kept(&Span::none()), None);
        });
        assert_eq!((spans.len(), named.is_some()), (usize::from(kept), kept), "{from:?}");
        let Some((span, named)) = spans.first().zip(named) else { continue };
        assert_eq!(span.span_context.span_id().to_string(), format!("{:016x}", named.span_id()));
        if let Some(caller) = from {
            assert_eq!(named.trace_id(), caller.trace_id());
            assert_eq!(span.parent_span_id.to_string(), format!("{:016x}", caller.span_id()));
        }
        let linked: Vec<_> = span.links.iter().map(|link| link.span_context.span_id().to_string()).collect();
        assert_eq!(linked, ["0000000000000002"]);
    }
}
