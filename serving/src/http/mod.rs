//! The HTTP door: queries, records, what there is, and how it goes. docs/http.md describes it for people,
//! [`document`] for programs.
//!
//! Every input has a bound: bytes and time of bodies and heads, connections, queries running and waiting, time, memory
//! and bytes read of each. Whatever is refused is refused as a [`Problem`].

mod accept;
mod auth;
mod backend;
mod body;
mod datasets;
mod idle;
mod metrics;
mod openapi;
mod patient;
mod problem;
mod records;
mod seal;
mod serve;
mod slow;
mod spans;
mod sql;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use prometheus_client::registry::Registry;
use tidemark_shared::sql::{DatasetTables, SqlEngine};
use tidemark_shared::store::Store;
use tidemark_shared::telemetry::Traces;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

pub use auth::{Tokens, TokensError, Unguarded, check_address};
pub use backend::{Backend, IntakeError, Readiness, Taken};
pub use datasets::{ColumnType, Dataset, DatasetDetail, Datasets};
pub use openapi::document;
pub use problem::Problem;
pub use records::{Accepted, RecordPosition};
pub use seal::Sealed;
pub use serve::{ConnectionLimits, Drained, listen, serve};
pub use sql::SqlRequest;

use body::Bodies;
use metrics::Metrics;
use slow::SlowAnswers;

/// Bounds on requests.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Most bytes of a request with a statement.
    pub sql_bytes_max: usize,
    /// Most bytes of a request with records.
    pub records_bytes_max: usize,
    /// Most bytes that the bodies of all requests under way take together.
    pub bodies_bytes_max: usize,
    /// Longest time that a body may take to come.
    pub body_timeout: Duration,
    /// Longest time that nothing of a query's answer may be taken: the query is given up then, and others have its turn.
    /// Its connection ends by [`ConnectionLimits::write_timeout`].
    pub write_timeout: Duration,
    /// How long an answer waits for its reader before it may lose its place: once half of all do, and queries wait for theirs.
    pub slow_reader: Duration,
    /// Time limit of a query that asks for none.
    pub query_timeout: Duration,
    /// Longest time limit that a query can ask for.
    pub query_timeout_max: Duration,
    /// Most bytes that a query may read; `None`: no limit but its own.
    pub bytes_read_max: Option<u64>,
    /// Most queries that run at once.
    pub queries_max: usize,
    /// Most queries that wait for that.
    pub waiting_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            sql_bytes_max: 1 << 20,
            records_bytes_max: 16 << 20,
            bodies_bytes_max: 256 << 20,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            slow_reader: Duration::from_secs(1),
            query_timeout: Duration::from_secs(60),
            query_timeout_max: Duration::from_secs(600),
            bytes_read_max: None,
            queries_max: 16,
            waiting_max: 128,
        }
    }
}

/// What the door leads to.
pub struct Door {
    /// Answers statements; made with the same `datasets`.
    pub engine: Arc<SqlEngine>,
    /// Datasets as this process serves them.
    pub datasets: Arc<dyn DatasetTables>,
    /// Where definitions are.
    pub store: Store,
    /// The rest of the process.
    pub backend: Arc<dyn Backend>,
    /// Tokens that open it; without, see [`check_address`].
    pub tokens: Option<Tokens>,
    /// Bounds.
    pub limits: RequestLimits,
    /// Metrics of the rest of the process; the door adds its own.
    pub registry: Registry,
    /// Where requests go on with their callers' traces.
    pub traces: Arc<dyn Traces>,
    /// False for a process that answers nothing and takes no records: its door tells how it is, and no more.
    pub serves: bool,
}

/// What all requests share.
struct Shared {
    engine: Arc<SqlEngine>,
    datasets: Arc<dyn DatasetTables>,
    store: Store,
    backend: Arc<dyn Backend>,
    tokens: Option<Tokens>,
    limits: RequestLimits,
    bodies: Bodies,
    registry: Registry,
    traces: Arc<dyn Traces>,
    metrics: Metrics,
    running: Arc<Semaphore>,
    waiting: Semaphore,
    slow_answers: Arc<SlowAnswers>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("limits", &self.limits).field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Door {
    /// The routes, for [`serve`].
    pub fn router(mut self) -> Router {
        let metrics = Metrics::new(&mut self.registry);
        let shared = Arc::new(Shared {
            engine: self.engine,
            datasets: self.datasets,
            store: self.store,
            backend: self.backend,
            tokens: self.tokens,
            limits: self.limits,
            bodies: Bodies::new(
                self.limits.bodies_bytes_max.max(self.limits.records_bytes_max),
                self.limits.body_timeout,
            ),
            registry: self.registry,
            traces: self.traces,
            metrics,
            running: Arc::new(Semaphore::new(self.limits.queries_max)),
            waiting: Semaphore::new(self.limits.waiting_max),
            slow_answers: Arc::new(SlowAnswers::new(self.limits.queries_max, self.limits.slow_reader)),
        });
        let status = Router::new()
            .route("/v1/status", get(status::status))
            .route("/healthz", get(status::healthz))
            .route("/readyz", get(status::readyz))
            .route("/metrics", get(status::metrics));
        let routes = match self.serves {
            true => status.merge(serving_routes()).fallback(no_route),
            false => status.fallback(not_served),
        };
        routes
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(Arc::clone(&shared), auth::guard))
            .layer(from_fn_with_state(Arc::clone(&shared), observe))
            .with_state(shared)
    }
}

/// Of a process that answers.
fn serving_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/sql", post(sql::sql))
        .route("/v1/datasets", get(datasets::list))
        .route("/v1/datasets/{dataset}", get(datasets::show))
        .route("/v1/datasets/{dataset}/records", post(records::append))
        .route("/v1/datasets/{dataset}/seal", post(seal::seal))
        .route("/openapi.json", get(openapi::json))
        .route("/docs", get(openapi::page))
}

async fn no_route(uri: Uri) -> Problem {
    let detail = format!("there is nothing at `{}`", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "no_route", detail).with_hint("`GET /docs` shows what there is")
}

async fn not_served(uri: Uri) -> Problem {
    let detail = format!("nothing is served at `{}`: this process has not the role `serving`", uri.path());
    let hint = "ask one that has; here there are `/v1/status`, `/metrics`, `/healthz` and `/readyz`";
    Problem::new(StatusCode::NOT_FOUND, "not_served", detail).with_hint(hint)
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("`{}` takes no {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", detail)
}

/// Counts a request, and writes it to the log and among the traces.
async fn observe(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let name = spans::method_name(&method);
    let span = spans::request(shared.traces.as_ref(), name, &route, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    shared.metrics.request(name, &route, status);
    let code = response.extensions().get::<problem::Code>().map(|code| code.0);
    if let Some(code) = code {
        shared.metrics.problem(code);
    }
    spans::answered(&span, status, code);
    let trace_id = shared.traces.kept(&span).map(|kept| format!("{:032x}", kept.trace_id()));
    match (&trace_id, status) {
        (Some(trace_id), 500..) => tracing::warn!(%method, route, status, code, trace_id, "a request failed"),
        _ => tracing::debug!(%method, route, status, trace_id, "request"),
    }
    response
}
