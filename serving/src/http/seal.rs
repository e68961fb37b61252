//! `POST /v1/datasets/{dataset}/seal`: what the log has, into the archive now.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use tidemark_shared::position::Coverage;
use utoipa::ToSchema;

use super::Shared;
use super::problem::{Problem, dataset_of};

/// What was archived.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sealed {
    /// Per partition, the exclusive end of what is archived.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub archived: Coverage,
}

/// Archives what the log has.
#[utoipa::path(
    post, path = "/v1/datasets/{dataset}/seal", tag = "records",
    description = "Archives all records that the dataset's log has now, whatever the age and size of the segments, and tells how far the archive reaches.",
    params(("dataset" = String, Path, description = "Name of the dataset")),
    responses(
        (status = 200, description = "All is archived", body = Sealed),
        (status = 400, description = "`bad_path`"),
        (status = 404, description = "`unknown_dataset`"),
        (status = 409, description = "`no_stream`"),
        (status = 429, description = "`busy`"),
        (status = 503, description = "Log or store has no answer"),
    )
)]
pub(super) async fn seal(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Sealed>, Problem> {
    let dataset = dataset_of(path)?;
    let within = shared.limits.query_timeout;
    match tokio::time::timeout(within, shared.backend.seal(&dataset)).await {
        Ok(archived) => Ok(Json(Sealed { archived: archived? })),
        Err(_) => {
            let detail =
                format!("not all was archived within {} ms; the rest is as soon as it can be", within.as_millis());
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(1))
        }
    }
}
