//! The coverage of a Delta table's version, out of the application transactions in its log.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use delta_kernel::actions::LOG_TXN_SCHEMA;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::{Engine, Snapshot};
use url::Url;

use crate::position::{Coverage, LogPartition};

/// Prefix of the application ids that are ours.
const PREFIX: &str = "tidemark/";

/// Application id that every commit which removes files moves (H2). It is no partition of the log.
pub const LAYOUT_TRANSACTION: &str = "tidemark/layout";

/// Application id under which a commit records how far it covers `partition`: `tidemark/files`, `tidemark/trips/3`.
/// The transaction's version is the exclusive end.
#[must_use]
pub fn transaction_id(partition: &LogPartition) -> String {
    format!("{PREFIX}{partition}")
}

/// The newest version of every application id in the log of the table at `url`, as of table version `version`.
/// Blocking.
pub(super) fn transactions(engine: &Arc<dyn Engine>, url: &Url, version: u64) -> Result<BTreeMap<String, i64>, String> {
    let text = |error: delta_kernel::Error| error.to_string();
    let snapshot = Snapshot::builder_for(url).at_version(version).build(engine.as_ref()).map_err(text)?;
    let batches = snapshot.log_segment().read_actions(engine.as_ref(), LOG_TXN_SCHEMA.clone()).map_err(text)?;
    let mut newest = BTreeMap::new();
    for batch in batches {
        let data = ArrowEngineData::try_from_engine_data(batch.map_err(text)?.actions).map_err(text)?;
        collect(data.record_batch(), &mut newest).map_err(|error| error.to_string())?;
    }
    Ok(newest)
}

/// Adds a batch of `txn` actions. The log is replayed newest first, so the first version of an id counts.
fn collect(batch: &RecordBatch, newest: &mut BTreeMap<String, i64>) -> Result<(), arrow::error::ArrowError> {
    let Some(txn) = batch.column_by_name("txn").and_then(|column| column.as_struct_opt()) else { return Ok(()) };
    let (Some(ids), Some(versions)) = (txn.column_by_name("appId"), txn.column_by_name("version")) else {
        return Ok(());
    };
    let ids = cast(ids, &DataType::Utf8)?;
    let ids = ids.as_string::<i32>();
    let versions = cast(versions, &DataType::Int64)?;
    let versions = versions.as_primitive::<Int64Type>();
    for row in (0..batch.num_rows()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row) && versions.is_valid(*row)) {
        newest.entry(ids.value(row).to_owned()).or_insert_with(|| versions.value(row));
    }
    Ok(())
}

/// The coverage that `transactions` record. Ids that are not ours are left alone; one of ours that is neither the
/// layout nor a partition, or a negative end, is an error: guessing would put a hole or a double into answers.
pub(super) fn coverage(transactions: &BTreeMap<String, i64>) -> Result<Coverage, String> {
    let mut coverage = Coverage::new();
    for (id, version) in transactions {
        let Some(name) = id.strip_prefix(PREFIX) else { continue };
        if id == LAYOUT_TRANSACTION {
            continue;
        }
        let partition: LogPartition = name.parse().map_err(|_| format!("application id `{id}` names no partition"))?;
        let end = u64::try_from(*version).map_err(|_| format!("application id `{id}` has version {version}"))?;
        coverage.set(partition, end);
    }
    Ok(coverage)
}
