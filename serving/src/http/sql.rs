//! `POST /v1/sql`: one statement, its answer streamed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use serde::Deserialize;
use tidemark_shared::error::chain;
use tidemark_shared::lock;
use tidemark_shared::output::{self, RowWriter};
use tidemark_shared::position::Coverage;
use tidemark_shared::sql::{Answer, AsOf, Limits, Param, Query, Wants};
use tidemark_shared::telemetry::number;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument as _, Span};
use utoipa::ToSchema;

use super::Shared;
use super::accept::{self, Format};
use super::body;
use super::metrics::{READER_GONE, RunningQuery};
use super::problem::{Problem, sql_code};
use super::slow::SlowAnswers;
use super::spans;

/// Header with what the answer covers, as JSON.
pub(super) const AS_OF: HeaderName = HeaderName::from_static("tidemark-as-of");
/// Longest value of [`AS_OF`]; beyond it clients and proxies refuse the whole head, and only the body tells.
const AS_OF_BYTES_MAX: usize = 16 * 1024;
/// Most parameters of a statement.
const PARAMS_MAX: usize = 1_000;
/// Why an answer broke off: it is read slowly, and another query had its place.
const READER_SLOW: &str = "reader_slow";
/// Pieces of the body made ahead of who reads it.
const PIECES_AHEAD: usize = 2;

/// A statement with what it asks for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One statement. It only reads.
    #[schema(example = "SELECT count(*) AS n FROM trips")]
    pub sql: String,
    /// Values of `$1`, `$2`, …: null, booleans, numbers or strings.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub params: Vec<serde_json::Value>,
    /// The strings among `params` are as typed in a shell: where the statement wants no type in particular, a number, `true`,
    /// `false` or `null` is that.
    #[serde(default)]
    pub guess_param_types: bool,
    /// Positions, by dataset, that the answer must cover; it is waited for, within a bound.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, u64>>)]
    pub at_least: BTreeMap<String, Coverage>,
    /// Positions, by dataset, of an earlier answer: exactly what lies below them counts.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, u64>>)]
    pub positions: BTreeMap<String, Coverage>,
    /// Longest time, in milliseconds, that a record may have been in the log without being in the answer.
    #[serde(default)]
    #[schema(format = "uint64")]
    pub max_staleness_ms: Option<u64>,
    /// Time limit in milliseconds.
    #[serde(default)]
    #[schema(format = "uint64")]
    pub timeout_ms: Option<u64>,
    /// Most bytes read from data files.
    #[serde(default)]
    #[schema(format = "uint64")]
    pub bytes_read_max: Option<u64>,
}

/// Answers one statement.
#[utoipa::path(
    post, path = "/v1/sql", tag = "query",
    description = "One statement over `merged.<dataset>` (the default schema), `batch.<dataset>` and `live.<dataset>`. `as_of` comes before `rows` and `stats` ends the body; a late error breaks the connection, so a body without its end is no answer. As-of stands also in the header `tidemark-as-of` (left out beyond 16 KiB).",
    request_body = SqlRequest,
    responses(
        (status = 200, description = "The answer: `{columns, as_of, rows, stats}`, or CSV, NDJSON or an Arrow IPC stream by `Accept`", content(
            (Object = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"), (String = "application/vnd.apache.arrow.stream"))),
        (status = 400, description = "The request or the statement is wrong"),
        (status = 404, description = "`unknown_table`"),
        (status = 406, description = "No such format"),
        (status = 408, description = "The body came too slowly"),
        (status = 410, description = "`positions_gone`"),
        (status = 412, description = "`too_stale`"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is no JSON, packed, or in another charset than UTF-8"),
        (status = 422, description = "`time_limit`, `memory_limit`, `spill_limit`, `bytes_read_limit`, or the values allow no answer or have no form in the format"),
        (status = 429, description = "Too many queries"),
        (status = 503, description = "`realtime_gap`, `realtime_unavailable`, `unavailable`"),
        (status = 504, description = "`positions_not_reached`"),
    )
)]
pub(super) async fn sql(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Problem> {
    let (parts, incoming) = request.into_parts();
    let format = accept::format(&parts.headers)?;
    body::media_type(&parts.headers, &["application/json"])?;
    let limits = &shared.limits;
    let held = shared.bodies.read(incoming, limits.sql_bytes_max).await?;
    let asked: SqlRequest = serde_json::from_str(body::text(&held.bytes)?)
        .map_err(|error| Problem::bad_request("malformed", error.to_string()))?;
    drop(held);
    let query = shared.query(asked)?;
    let span = spans::query(&query.sql);
    let running = shared.metrics.query(span.clone());
    let within = query.limits.timeout.unwrap_or(limits.query_timeout_max);
    let answered = async {
        let permit = shared.permit(within).instrument(spans::wait()).await?;
        Box::pin(answer(&shared, &query, format, permit, &running)).await
    };
    answered.instrument(span).await.inspect_err(|problem: &Problem| running.failed(problem.code))
}

impl Shared {
    fn query(&self, asked: SqlRequest) -> Result<Query, Problem> {
        if asked.params.len() > PARAMS_MAX {
            return Err(Problem::bad_request("bad_parameter", format!("at most {PARAMS_MAX} parameters")));
        }
        let params =
            asked.params.into_iter().enumerate().map(|(index, value)| param(index, value, asked.guess_param_types));
        let timeout = asked.timeout_ms.map_or(self.limits.query_timeout, Duration::from_millis);
        let limit = self.limits.bytes_read_max;
        let bytes_read_max = match (asked.bytes_read_max, limit) {
            (Some(asked), Some(limit)) => Some(asked.min(limit)),
            (asked, limit) => asked.or(limit),
        };
        Ok(Query {
            sql: asked.sql,
            params: params.collect::<Result<_, _>>()?,
            limits: Limits { timeout: Some(timeout.min(self.limits.query_timeout_max)), bytes_read_max },
            wants: Wants {
                at_least: asked.at_least,
                staleness_max: asked.max_staleness_ms.map(Duration::from_millis),
                positions: asked.positions,
            },
        })
    }

    /// Leave to run a query; who waits longer than `within`, or finds too many waiting, is turned away.
    async fn permit(&self, within: Duration) -> Result<OwnedSemaphorePermit, Problem> {
        let too_many = || {
            let detail = "too many queries are running or waiting";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_queries", detail).retry_after(1)
        };
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Err(too_many()) };
        // Answers that nobody reads on make room.
        let _wanted = self.slow_answers.wanted();
        match timeout(within, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(too_many()),
        }
    }
}

fn param(index: usize, value: serde_json::Value, guess: bool) -> Result<Param, Problem> {
    Ok(match value {
        serde_json::Value::Null => Param::Value(ScalarValue::Null),
        serde_json::Value::Bool(value) => Param::Value(ScalarValue::Boolean(Some(value))),
        serde_json::Value::String(text) if guess => Param::Text(text),
        serde_json::Value::String(text) => Param::String(text),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Param::Value(ScalarValue::Int64(Some(number))),
            (_, Some(number), _) => Param::Value(ScalarValue::UInt64(Some(number))),
            (_, _, number) => Param::Value(ScalarValue::Float64(number)),
        },
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            let detail = format!("parameter ${} is neither null nor a boolean, number or string", index + 1);
            return Err(Problem::bad_request("bad_parameter", detail));
        }
    })
}

async fn answer(
    shared: &Arc<Shared>,
    query: &Query,
    format: Format,
    permit: OwnedSemaphorePermit,
    running: &Arc<RunningQuery>,
) -> Result<Response, Problem> {
    let mut answer = shared.engine.query(query).await?;
    check_named(&query.wants, &answer.as_of)?;
    let pieces = Pieces::default();
    let mut writer: Box<dyn RowWriter> = match format {
        Format::Json => output::document(pieces.clone()),
        Format::Ndjson => output::ndjson(pieces.clone()),
        Format::Csv => output::csv(pieces.clone()),
        Format::Arrow => output::ipc(pieces.clone()),
    };
    writer.begin(&answer.schema, &answer.as_of)?;
    // What fails before the first rows are written still has a status of its own.
    let more = match answer.next().await? {
        Some(rows) => {
            writer.rows(&rows)?;
            true
        }
        None => false,
    };
    running.has_first_row();
    let as_of = serde_json::to_vec(&answer.as_of).expect("plain data");
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let slow_answers = Arc::clone(&shared.slow_answers);
    let work = Streaming { answer, writer, pieces, sender, patience: shared.limits.write_timeout, slow_answers };
    // It ends with the answer, at its time limit, when nobody reads any more, or for another query where it is read slowly:
    // whichever is first.
    let running = Arc::clone(running);
    let mut task = JoinSet::new();
    let streaming = async move {
        let _permit = permit;
        match work.run(more).await {
            Some(code) => running.failed(code),
            None => running.answered(),
        }
    };
    let _handle = task.spawn(streaming.instrument(Span::current()));
    let mut response = Response::new(Body::from_stream(until_the_end(receiver, task)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_bytes(&as_of)
        && as_of.len() <= AS_OF_BYTES_MAX
    {
        headers.insert(AS_OF, value);
    }
    Ok(response)
}

/// A wish for a dataset that the statement does not read would be granted by ignoring it.
fn check_named(wants: &Wants, as_of: &AsOf) -> Result<(), Problem> {
    let mut named = wants.at_least.keys().chain(wants.positions.keys());
    match named.find(|name| !as_of.datasets.contains_key(*name)) {
        Some(name) => Err(Problem::bad_request(
            "not_read",
            format!("positions are given for `{name}`, which the statement does not read"),
        )),
        None => Ok(()),
    }
}

/// What a writer has written and nobody has taken yet.
#[derive(Debug, Clone, Default)]
struct Pieces(Arc<Mutex<Vec<u8>>>);

impl Pieces {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *lock(&self.0)).into()
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A piece of a body; `None` is its end. A channel that closes without an end was cut off.
type Piece = Option<Bytes>;

struct Streaming {
    answer: Answer,
    writer: Box<dyn RowWriter>,
    pieces: Pieces,
    sender: mpsc::Sender<Piece>,
    patience: Duration,
    slow_answers: Arc<SlowAnswers>,
}

impl Streaming {
    /// Writes the answer from its second batch on, if there may be `more`; the code of what broke it off, if something did.
    async fn run(mut self, mut more: bool) -> Option<&'static str> {
        while more {
            if let Err(code) = self.send().await {
                return Some(code);
            }
            more = match self.answer.next().await {
                Ok(Some(rows)) => {
                    if let Err(error) = self.writer.rows(&rows) {
                        tracing::warn!(error = chain(&error), "an answer broke off");
                        return Some("format");
                    }
                    true
                }
                Ok(None) => false,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "an answer broke off");
                    return Some(sql_code(&error).1);
                }
            };
        }
        let stats = self.answer.stats();
        Span::current().record("tidemark.rows", number(stats.rows)).record("tidemark.bytes", number(stats.bytes_read));
        if let Err(error) = self.writer.end(&stats) {
            tracing::warn!(error = chain(&error), "an answer broke off");
            return Some("format");
        }
        let ended = match self.send().await {
            Ok(()) => self.hand_on(None).await,
            gone => gone,
        };
        ended.err()
    }

    /// Hands on what was written.
    async fn send(&mut self) -> Result<(), &'static str> {
        match self.pieces.take() {
            piece if piece.is_empty() => Ok(()),
            piece => self.hand_on(Some(piece)).await,
        }
    }

    /// Hands on a piece, or the end: that, too, has to wait where nobody takes the pieces before it. Else the code of why
    /// nobody waits for the reader any more.
    async fn hand_on(&mut self, piece: Piece) -> Result<(), &'static str> {
        let until = Instant::now() + self.patience;
        let long = self.slow_answers.after.min(self.patience);
        let mut sending = pin!(self.sender.send(piece));
        let sent = match timeout(long, &mut sending).await {
            Ok(sent) => sent,
            Err(_) => {
                let slow = self.slow_answers.enter();
                tokio::select! {
                    biased;
                    () = slow.is_cut_off() => return Err(READER_SLOW),
                    sent = timeout_at(until, &mut sending) => sent.map_err(|_| READER_GONE)?,
                }
            }
        };
        sent.map_err(|_| READER_GONE)
    }
}

/// The pieces; an error, which breaks the connection, where they stop without an end. Owns the task that makes them.
fn until_the_end(receiver: mpsc::Receiver<Piece>, task: JoinSet<()>) -> impl futures::Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some((receiver, task)), |going_on| async {
        let (mut receiver, task) = going_on?;
        match receiver.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some((receiver, task)))),
            Some(None) => None,
            None => Some((Err(io::Error::other("the answer broke off")), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::tests::support::{PLAIN, World};

    #[tokio::test]
    async fn an_answer_whose_end_nobody_takes_is_given_up() {
        let world = World::new(PLAIN).await;
        let query = Query { sql: "SELECT 1 AS n".to_owned(), ..Query::default() };
        let mut answer = world.engine().query(&query).await.expect("an answer");
        let pieces = Pieces::default();
        let mut writer: Box<dyn RowWriter> = output::document(pieces.clone());
        writer.begin(&answer.schema, &answer.as_of).expect("it begins");
        while let Some(rows) = answer.next().await.expect("rows") {
            writer.rows(&rows).expect("they have a form");
        }
        // The last piece takes all the room that there is, so that only the end has to wait.
        let (sender, mut receiver) = mpsc::channel(1);
        let slow_answers = Arc::new(SlowAnswers::new(1, Duration::from_secs(1)));
        let work = Streaming { answer, writer, pieces, sender, patience: Duration::from_millis(20), slow_answers };
        let ended = tokio::time::timeout(Duration::from_secs(10), work.run(false)).await;
        assert_eq!(ended.expect("it waits no longer than it is to"), Some("reader_gone"));
        assert!(matches!(receiver.recv().await, Some(Some(_))), "the piece was handed on");
        assert!(receiver.recv().await.is_none(), "the end was not");
    }
}
