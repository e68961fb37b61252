//! `GET /v1/datasets` and `GET /v1/datasets/{dataset}`: what there is to ask for.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use tidemark_shared::curated::current;
use tidemark_shared::dataset::registry;
use tidemark_shared::sql::{Layer, Limits, OpenedDataset, SqlError, Wants};
use utoipa::ToSchema;

use super::Shared;
use super::problem::{Problem, dataset_of, of_error, unknown_dataset};

/// A dataset.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// One sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Version of the newest definition.
    pub definition: String,
    /// The generation that is current, if anything was curated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// True if a newer definition than that of the current generation yields other rows: a recompute brings it.
    pub pending: bool,
    /// It takes files.
    pub files: bool,
    /// It takes records.
    pub stream: bool,
    /// The format of its records, if it takes some: `json`, `csv` or `avro`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_format: Option<&'static str>,
    /// Columns that identify a row; empty without a key.
    pub key: Vec<String>,
}

/// A dataset with its columns and what an answer would cover now.
#[derive(Debug, Serialize, ToSchema)]
pub struct DatasetDetail {
    /// The dataset.
    #[serde(flatten)]
    pub dataset: Dataset,
    /// Columns of its tables; none while nothing was curated.
    pub columns: Vec<ColumnType>,
    /// What an answer would cover now: as in the answers of `/v1/sql`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub as_of: Option<serde_json::Value>,
    /// Why `merged` has no answer now, where it has none: code and detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A column.
#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnType {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub r#type: String,
}

/// All datasets.
#[derive(Debug, Serialize, ToSchema)]
pub struct Datasets {
    /// In order of name.
    pub datasets: Vec<Dataset>,
}

/// Lists the datasets.
#[utoipa::path(
    get, path = "/v1/datasets", tag = "datasets",
    responses(
        (status = 200, description = "All datasets", body = Datasets),
        (status = 503, description = "The store has no answer"),
    )
)]
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Datasets>, Problem> {
    let mut datasets = Vec::new();
    for name in registry::list(&shared.store).await.map_err(|error| of_error(&error))? {
        datasets.extend(shared.dataset(&name).await?);
    }
    Ok(Json(Datasets { datasets }))
}

/// Shows one dataset.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}", tag = "datasets",
    params(("dataset" = String, Path, description = "Name of the dataset")),
    responses(
        (status = 200, description = "The dataset", body = DatasetDetail),
        (status = 400, description = "`bad_path`"),
        (status = 404, description = "`unknown_dataset`"),
        (status = 503, description = "The store has no answer"),
    )
)]
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DatasetDetail>, Problem> {
    let name = dataset_of(path)?;
    let dataset = shared.dataset(&name).await?.ok_or_else(|| unknown_dataset(&name))?;
    let opened = shared.opened(&name, Layer::Merged).await;
    let (opened, problem) = match opened {
        Ok(opened) => (opened, None),
        Err(error) => (shared.opened(&name, Layer::Batch).await?, Some(Problem::from(error))),
    };
    let (columns, as_of) = opened.map_or_else(Default::default, |opened| {
        let fields = opened.schema.fields().iter();
        let column = |field: &arrow::datatypes::FieldRef| ColumnType {
            name: field.name().clone(),
            r#type: tidemark_shared::output::type_name(field.data_type()),
        };
        (fields.map(column).collect(), Some(serde_json::to_value(&opened.as_of).expect("plain data")))
    });
    Ok(Json(DatasetDetail { dataset, columns, as_of, problem }))
}

impl Shared {
    async fn dataset(&self, name: &str) -> Result<Option<Dataset>, Problem> {
        let latest = registry::latest(&self.store, name).await.map_err(|error| of_error(&error))?;
        let Some(registered) = latest else { return Ok(None) };
        let pointer = current(self.store.objects().as_ref(), name).await.map_err(|error| of_error(&error))?;
        let generation = pointer.map(|(_, generation)| generation);
        let definition = &registered.definition;
        let version = registered.version.as_str();
        let dataset = Dataset {
            name: name.to_owned(),
            description: definition.description.clone(),
            definition: version.to_owned(),
            pending: generation.as_ref().is_some_and(|current| current.definition != version),
            generation: generation.map(|current| current.generation),
            files: definition.files.is_some(),
            stream: definition.stream.is_some(),
            stream_format: definition.stream.as_ref().map(|stream| stream.format.name()),
            key: definition.key.as_ref().map(|key| key.columns.clone()).unwrap_or_default(),
        };
        Ok(Some(dataset))
    }

    async fn opened(&self, name: &str, layer: Layer) -> Result<Option<OpenedDataset>, SqlError> {
        let limits = Limits { timeout: Some(self.limits.query_timeout), bytes_read_max: None };
        self.datasets.statement(&Wants::default(), limits).open(layer, name).await
    }
}
