//! Any statement, over the rows below its cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::error::DataFusionError;
use datafusion::execution::{FunctionRegistry as _, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemark_shared::curated::comparisons;
use tidemark_shared::position::{Coverage, FILES_SOURCE, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};
use tidemark_shared::sql::mended;

use super::AuditError;
use super::compare::{Kind, Row, rows_of};
use super::derived::{Derived, INTERVAL_COLUMN, TABLE};
use super::keys;
use super::master::Derivation;
use super::tolerance::{Tolerance, tolerance};

const CATALOG: &str = "tidemark";

/// The rows of one dataset, and what of them an answer covers.
pub(super) struct Covered<'a> {
    pub(super) derived: &'a Derived,
    pub(super) derivation: &'a Derivation,
    pub(super) positions: &'a Coverage,
    pub(super) coverage: &'a Coverage,
}

/// What a statement yields over the rows that its answer covers.
pub(super) enum Outcome {
    /// The kinds of its columns, and its rows; see [`super::compare::difference`].
    Rows(Vec<Kind>, Vec<Row>),
    /// The audit can't say.
    NotAuditable(String),
}

/// Runs `sql` over `datasets`, each cut to what the answer covers.
pub(super) async fn derive(sql: &str, datasets: &BTreeMap<String, Covered<'_>>) -> Result<Outcome, AuditError> {
    let context = session(sql, datasets).await?;
    let run = async |sql: &str| {
        let frame = context.sql(sql).await?;
        let kinds: Vec<Kind> = frame.schema().fields().iter().map(|field| Kind::of(field.data_type())).collect();
        Ok::<_, DataFusionError>((kinds, frame))
    };
    let (kinds, frame) = match run(sql).await {
        Ok(planned) => planned,
        Err(error) => return cannot_run(error),
    };
    let frame = match tolerance(sql, &kinds) {
        Tolerance::Exact => frame,
        Tolerance::Unknown(reason) => return Ok(Outcome::NotAuditable(reason)),
        Tolerance::Asked(sql) => match run(&sql).await {
            Ok((_, frame)) => frame,
            Err(error) => return cannot_run(error),
        },
    };
    match frame.collect().await {
        Ok(batches) => Ok(Outcome::Rows(kinds, rows_of(&batches)?.1)),
        Err(error) => cannot_run(error),
    }
}

/// A statement that was answered, and that the audit's plainer session does not run, is counted; a disk that fails is an error.
fn cannot_run(error: DataFusionError) -> Result<Outcome, AuditError> {
    match error.find_root() {
        DataFusionError::IoError(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::ParquetError(_)
        | DataFusionError::ResourcesExhausted(_)
        | DataFusionError::External(_) => Err(error.into()),
        root => Ok(Outcome::NotAuditable(format!("the audit can't run it: {}", root.strip_backtrace()))),
    }
}

/// A session that knows `datasets`, each cut to what the answer covers.
async fn session(sql: &str, datasets: &BTreeMap<String, Covered<'_>>) -> Result<SessionContext, AuditError> {
    let mut config = SessionConfig::new().with_default_catalog_and_schema(CATALOG, "merged");
    config = config.with_create_default_catalog_and_schema(false);
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    let mut state = mended(SessionStateBuilder::new().with_config(config).with_default_features())?;
    for rewrite in comparisons() {
        state.register_function_rewrite(rewrite)?;
    }
    let context = SessionContext::new_with_state(state);
    let catalog = Arc::new(MemoryCatalogProvider::new());
    let text = sql.to_lowercase();
    for schema in ["merged", "batch", "live"] {
        let tables = Arc::new(MemorySchemaProvider::new());
        // A schema that the text does not name is not read.
        let read = schema == "merged" || text.contains(schema);
        for (name, covered) in datasets.iter().filter(|_| read) {
            let condition = match schema {
                "merged" => below(covered.positions, &files(covered, covered.positions)),
                "batch" => below(covered.coverage, &files(covered, covered.coverage)),
                _ => {
                    let above = below(covered.coverage, &BTreeSet::new());
                    format!("({}) AND NOT ({above})", below(covered.positions, &BTreeSet::new()))
                }
            };
            let rows = covered.derived.context.sql(&format!("SELECT * FROM {TABLE} WHERE {condition}")).await?;
            let rows = rows.drop_columns(&[INTERVAL_COLUMN])?;
            let table = match &covered.derivation.definition.key {
                Some(key) => keys::resolve(rows, key).await?,
                None => rows.into_view(),
            };
            let _none = tables.register_table(name.clone(), table)?;
        }
        let _none = catalog.register_schema(schema, tables)?;
    }
    let _none = context.register_catalog(CATALOG, catalog);
    Ok(context)
}

fn files(covered: &Covered<'_>, at: &Coverage) -> BTreeSet<u64> {
    let counting = covered.derivation.ledger.files().filter(|file| file.counts_at(at.files_end()));
    counting.map(|file| file.number).collect()
}

/// The condition that a row lies below `positions`; of files only those of `files`.
fn below(positions: &Coverage, files: &BTreeSet<u64>) -> String {
    let streams = positions.iter().filter(|(partition, _)| partition.source.as_str() != FILES_SOURCE);
    let mut conditions: Vec<String> = streams
        .map(|(partition, end)| {
            let (source, number) = (&partition.source, partition.partition);
            format!(
                "(\"{SOURCE_COLUMN}\" = '{source}' AND \"{PARTITION_COLUMN}\" = {number} AND \"{OFFSET_COLUMN}\" < {end})"
            )
        })
        .collect();
    if !files.is_empty() {
        let numbers: Vec<String> = files.iter().map(u64::to_string).collect();
        let numbers = numbers.join(", ");
        conditions.push(format!("(\"{SOURCE_COLUMN}\" = '{FILES_SOURCE}' AND \"{PARTITION_COLUMN}\" IN ({numbers}))"));
    }
    if conditions.is_empty() { "false".to_owned() } else { conditions.join(" OR ") }
}
