//! Logs and traces. Logs go to standard error, warnings and worse unless `--log` or `TIDEMARK_LOG` asks for more; as text,
//! or a JSON object a line. Traces (docs/traces.md) go to a receiver of OTLP, if there is one.

mod export;
mod traces;

use std::io::IsTerminal as _;
use std::sync::Arc;

use tidemark_shared::error::chain;
use tidemark_shared::telemetry::{NoTraces, SPANS, Traces};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::fmt::writer::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::config::{LogFormat, TracesConfig};
use crate::error::CliError;
pub use export::SpanCounts;
use traces::Sending;

/// Environment variable that `--log` overrides.
const VARIABLE: &str = "TIDEMARK_LOG";
/// What is logged if nobody says. The Delta library calls every lost race an error, and its kernel every log that it
/// can't read, which its callers are told besides; whether it is one is ours to tell.
const DEFAULT: &str = "warn,deltalake_core::kernel::transaction=off,buoyant_kernel=off";

/// What a process tells of itself, besides what it is asked for.
#[derive(Debug)]
pub struct Telemetry {
    /// What can be done with spans.
    pub traces: Arc<dyn Traces>,
    /// What became of them.
    pub counts: SpanCounts,
    sending: Option<Sending>,
}

impl Telemetry {
    /// Sets the process's logger up, and where its spans go. The first call counts: one process carries out one command.
    ///
    /// # Errors
    /// [`CliError::Argument`] if the filter of log lines is none. That spans can't be sent is a warning.
    pub fn start(flag: Option<&str>, format: LogFormat, traces: Option<&TracesConfig>) -> Result<Self, CliError> {
        let logs = logs(log_filter(flag)?, format, std::io::stderr, std::io::stderr().is_terminal());
        let counts = SpanCounts::default();
        match traces.map(|config| Sending::start(config, &counts)) {
            Some(Ok(sending)) => {
                let spans = traces::layer(sending.tracer());
                // A second command in one process (a test's) keeps the first one's logger.
                drop(tracing::subscriber::set_global_default(Registry::default().with(logs).with(spans)));
                Ok(Self { traces: Arc::new(traces::OpenTelemetry), counts, sending: Some(sending) })
            }
            none => {
                drop(tracing::subscriber::set_global_default(Registry::default().with(logs)));
                if let Some(Err(error)) = none {
                    tracing::warn!(error = chain(&error), "there are no traces");
                }
                Ok(Self { traces: Arc::new(NoTraces), counts, sending: None })
            }
        }
    }

    /// Sends what spans are left, within a bound. To be called when all work has ended.
    pub fn finish(&self) {
        if let Some(sending) = &self.sending {
            sending.finish();
        }
    }
}

fn log_filter(flag: Option<&str>) -> Result<EnvFilter, CliError> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let text = flag.map(str::to_owned).or(variable).unwrap_or_else(|| DEFAULT.to_owned());
    EnvFilter::builder().parse(&text).map_err(|error| CliError::Argument {
        message: format!("`{text}` is not a log filter: {error}"),
        hint: Some("write a level (`info`) or levels by part (`warn,tidemark_batch=debug`)".to_owned()),
    })
}

/// Writes log lines.
fn logs<S, W>(filter: EnvFilter, format: LogFormat, writer: W, ansi: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Spans of traces are none of their business: a line would repeat all that it is in. A hint, so that what nobody
    // wants is passed over as early as without them.
    let no_span = filter_fn(|metadata| metadata.target() != SPANS).with_max_level_hint(LevelFilter::TRACE);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(ansi)
        // It would tell of a line that can't be written in another line there, and panic: a full disk may hold the log file.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_filter(filter.and(no_span)).boxed(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.with_ansi(false).with_filter(filter.and(no_span)).boxed()
        }
    }
}

#[cfg(test)]
mod tests;
