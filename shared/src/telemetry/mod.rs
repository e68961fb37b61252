//! Traces, as the layers see them.
//!
//! Spans are those of `tracing`, with the target [`SPANS`], and docs/traces.md names them all. They are made per request,
//! batch or run, never per record, and nothing of what records, statements or settings say is in them. Where they go, and
//! whether anybody wants them, only the binary knows; what `tracing` has no words for stands behind [`Traces`].

use std::fmt;

use bytes::Bytes;
use tracing::Span;

use crate::log::{APPEND_BYTES_MAX, Header, RECORD_BYTES_MAX, Record};
use crate::position::Coverage;

/// Target of all spans: by it a log line does not repeat them, and whatever else is logged is no part of a trace.
pub const SPANS: &str = "tidemark::spans";
/// Header of a request, or of a record, that names the span that it came from.
pub const TRACEPARENT: &str = "traceparent";
/// Most spans that a batch of records names as those that its records came from.
pub const LINKS_MAX: usize = 8;
/// Partitions whose positions are written into one attribute.
const PARTITIONS_SHOWN: usize = 32;

/// A span of a trace, as W3C's header [`TRACEPARENT`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl TraceParent {
    /// A span by its ids; `None` if one of them is 0, which names nothing.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64, sampled: bool) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled })
    }

    /// Reads a header's value: `00-<32 hex>-<16 hex>-<2 hex>`; of later versions what version 0 knows. `None` for all else.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
        let mut parts = text.split('-');
        let mut part = |digits: usize| parts.next().filter(|part| part.len() == digits && is_lower_hex(part));
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Self::new(u128::from_str_radix(trace_id, 16).ok()?, u64::from_str_radix(span_id, 16).ok()?, flags & 1 == 1)
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The span in it.
    #[must_use]
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// True if whoever made the span keeps it.
    #[must_use]
    pub fn sampled(&self) -> bool {
        self.sampled
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What `tracing` can't say of spans. Each call may be made for any span, whether anybody takes it or not.
pub trait Traces: fmt::Debug + Send + Sync {
    /// Makes `span` part of the trace that its caller is in. To be called before it has children.
    fn continue_from(&self, span: &Span, caller: TraceParent);

    /// Says that `span` is about what came from `other`, in a trace of its own.
    fn link(&self, span: &Span, other: TraceParent);

    /// How others name `span`; `None` if it is not kept.
    fn kept(&self, span: &Span) -> Option<TraceParent>;
}

/// Nobody wants spans.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTraces;

impl Traces for NoTraces {
    fn continue_from(&self, _: &Span, _: TraceParent) {}

    fn link(&self, _: &Span, _: TraceParent) {}

    fn kept(&self, _: &Span) -> Option<TraceParent> {
        None
    }
}

/// The spans that records came from, by the values of their headers [`TRACEPARENT`]: the first [`LINKS_MAX`] different ones.
pub fn origins<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<TraceParent> {
    let (mut found, mut last): (Vec<TraceParent>, &[u8]) = (Vec::new(), &[]);
    for value in values {
        // Records that came together say the same.
        if value == last {
            continue;
        }
        last = value;
        if let Some(origin) = TraceParent::parse(value)
            && !found.contains(&origin)
        {
            found.push(origin);
            if found.len() == LINKS_MAX {
                break;
            }
        }
    }
    found
}

/// Names in each record of an append the span that it came from; in none, if they would then be more than a log takes.
pub fn name_origin(records: &mut [Record], origin: TraceParent) {
    let value = Bytes::from(origin.to_string());
    let more = TRACEPARENT.len() + value.len();
    let sizes = records.iter().map(|record| record.bytes() + more);
    if sizes.clone().max().is_some_and(|most| most > RECORD_BYTES_MAX) || sizes.sum::<usize>() > APPEND_BYTES_MAX {
        return;
    }
    for record in records {
        record.headers.push(Header { name: TRACEPARENT.to_owned(), value: Some(value.clone()) });
    }
}

/// A number as an attribute: those of traces have a sign, and what is larger is cut.
#[must_use]
pub fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// Positions as an attribute: `orders/0:12 orders/1:7`; of very many partitions only the first.
#[must_use]
pub fn positions(coverage: &Coverage) -> String {
    let shown = coverage.iter().take(PARTITIONS_SHOWN).map(|(partition, end)| format!("{partition}:{end}"));
    let mut shown: Vec<String> = shown.collect();
    if coverage.iter().nth(PARTITIONS_SHOWN).is_some() {
        shown.push("…".to_owned());
    }
    shown.join(" ")
}

/// Writes into `span` what its work failed for: a name that stays the same, never the error's text.
pub fn failed(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
    span.record("otel.status_code", "ERROR");
}

#[cfg(test)]
mod tests;
