//! How the process is: for people and scripts (`/v1/status`), for whoever restarts or routes to it (`/healthz`, `/readyz`),
//! and for Prometheus (`/metrics`).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use prometheus_client::encoding::text::encode;

use super::problem::{Problem, of_error};
use super::{Readiness, Shared};

/// Per dataset and partition: log end, archived, visible, coverage, lag; per role: health.
#[utoipa::path(
    get, path = "/v1/status", tag = "status",
    responses(
        (status = 200, description = "What `tidemark status --json` shows as `server`", body = Object),
        (status = 503, description = "Something that was asked has no answer"),
    )
)]
pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<serde_json::Value>, Problem> {
    shared.backend.status().await.map(Json).map_err(|error| of_error(&error))
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "status", responses((status = 200, description = "It runs", body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The process can answer.
#[utoipa::path(
    get, path = "/readyz", tag = "status",
    responses(
        (status = 200, description = "It can answer; a line names each dataset that it does not do all its work for", body = String, content_type = "text/plain"),
        (status = 503, description = "`not_ready`: it can't yet, or no more"),
    )
)]
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Result<String, Problem> {
    match shared.backend.readiness().await {
        Readiness::Ready { degraded } => {
            // A line each, whatever others said of it.
            let line = |(dataset, reason): (String, String)| format!("degraded: `{dataset}`: {}\n", one_line(&reason));
            Ok(std::iter::once("ready\n".to_owned()).chain(degraded.into_iter().map(line)).collect())
        }
        Readiness::NotReady { reason } => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).retry_after(1))
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Counters and gauges as OpenMetrics text.
#[utoipa::path(
    get, path = "/metrics", tag = "status",
    responses(
        (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
    )
)]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<impl IntoResponse, Problem> {
    shared.backend.measure().await;
    let mut text = String::new();
    let failed =
        |error: std::fmt::Error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string());
    encode(&mut text, &shared.registry).map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
