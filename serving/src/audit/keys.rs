//! Of each key the row that counts: a plain fold over derived rows, which shares nothing with the plan that answers use.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::TryStreamExt as _;
use tidemark_shared::dataset::KeySpec;
use tidemark_shared::position::{FILES_SOURCE, OFFSET_COLUMN, PARTITION_COLUMN, SOURCE_COLUMN};

use super::AuditError;

/// What is kept of a key: how its row ranks among those of the key, and the row.
struct Kept {
    rank: OwnedRow,
    row: OwnedRow,
}

/// Folds rows, in any order, into one a key. Holds one row of each key in memory.
struct Fold {
    schema: SchemaRef,
    key: Vec<usize>,
    version: Option<usize>,
    keys: RowConverter,
    ranks: RowConverter,
    rows: RowConverter,
    kept: HashMap<OwnedRow, Kept>,
}

/// The rows of `rows` that count by `spec`, as a table; a key whose row says that it is deleted has none.
pub(super) async fn resolve(rows: DataFrame, spec: &KeySpec) -> Result<Arc<dyn TableProvider>, AuditError> {
    let schema: SchemaRef = Arc::new(rows.schema().as_arrow().clone());
    let mut fold = Fold::new(Arc::clone(&schema), spec)?;
    let mut batches = rows.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        fold.take(&batch)?;
    }
    let winners: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(schema, vec![fold.end()?])?);
    let Some(condition) = &spec.delete_when else { return Ok(winners) };
    let context = SessionContext::new();
    let _none = context.register_table("winners", winners)?;
    let shown = context.sql(&format!("SELECT * FROM winners WHERE ({condition}) IS NOT TRUE")).await?;
    Ok(shown.into_view())
}

impl Fold {
    fn new(schema: SchemaRef, spec: &KeySpec) -> Result<Self, AuditError> {
        let key = spec.columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let version = spec.version_by.as_ref().map(|name| schema.index_of(name)).transpose()?;
        // No version is the lowest one.
        let order = SortOptions { descending: false, nulls_first: true };
        let field = |index: &usize| SortField::new(schema.field(*index).data_type().clone());
        let position = [DataType::Int64, DataType::Utf8View, DataType::Int64, DataType::Int64];
        let versions = version.iter().map(|index| schema.field(*index).data_type().clone());
        let ranked = versions.chain(position).map(|data_type| SortField::new_with_options(data_type, order));
        Ok(Self {
            keys: RowConverter::new(key.iter().map(field).collect())?,
            ranks: RowConverter::new(ranked.collect())?,
            rows: RowConverter::new((0..schema.fields().len()).map(|index| field(&index)).collect())?,
            schema,
            key,
            version,
            kept: HashMap::new(),
        })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), AuditError> {
        let key: Vec<ArrayRef> = self.key.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let keys = self.keys.convert_columns(&key)?;
        let version = self.version.iter().map(|index| Arc::clone(batch.column(*index)));
        let ranks = self.ranks.convert_columns(&version.chain(position(batch)?).collect::<Vec<_>>())?;
        let rows = self.rows.convert_columns(batch.columns())?;
        for index in 0..batch.num_rows() {
            let (key, rank) = (keys.row(index).owned(), ranks.row(index));
            let beaten = self.kept.get(&key).is_none_or(|kept| rank > kept.rank.row());
            if beaten {
                let kept = Kept { rank: rank.owned(), row: rows.row(index).owned() };
                let _before = self.kept.insert(key, kept);
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Vec<RecordBatch>, AuditError> {
        let columns = self.rows.convert_rows(self.kept.values().map(|kept| kept.row.row()))?;
        Ok(vec![RecordBatch::try_new(self.schema, columns)?])
    }
}

/// The order of positions: files, then the incarnations of the topic one after the other, each by partition and offset.
fn position(batch: &RecordBatch) -> Result<[ArrayRef; 4], AuditError> {
    let lacking = || AuditError::Derive { reason: "rows without their position".to_owned() };
    let column = |name: &str, to: DataType| {
        let column = batch.column_by_name(name).ok_or_else(lacking)?;
        cast(column, &to).map_err(AuditError::from)
    };
    let sources = column(SOURCE_COLUMN, DataType::Utf8View)?;
    let incarnation = |source: Option<&str>| match source {
        Some(FILES_SOURCE) | None => 0,
        Some(topic) => topic.rsplit_once('~').and_then(|(_, number)| number.parse().ok()).unwrap_or(1_i64),
    };
    let incarnations = sources.as_string_view().iter().map(incarnation);
    Ok([
        Arc::new(Int64Array::from_iter_values(incarnations)),
        Arc::clone(&sources),
        column(PARTITION_COLUMN, DataType::Int64)?,
        column(OFFSET_COLUMN, DataType::Int64)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as `(id, version, gone, source, partition, offset)`, all in one SQL statement.
    async fn shown(rows: &str, spec: &KeySpec) -> Vec<String> {
        let context = SessionContext::new();
        let sql = format!(
            "SELECT column1 AS id, column2 AS version, column3 AS gone, column4 AS \"{SOURCE_COLUMN}\", \
             column5 AS \"{PARTITION_COLUMN}\", column6 AS \"{OFFSET_COLUMN}\" FROM (VALUES {rows})"
        );
        let table = resolve(context.sql(&sql).await.expect("rows"), spec).await.expect("resolved");
        let _none = context.register_table("shown", table).expect("a table");
        let sql =
            format!("SELECT concat(id, ' ', \"{SOURCE_COLUMN}\", '/', \"{OFFSET_COLUMN}\") FROM shown ORDER BY 1");
        let batches = context.sql(&sql).await.expect("planned").collect().await.expect("rows");
        let texts = batches.iter().flat_map(|batch| {
            let texts = cast(batch.column(0), &DataType::Utf8).expect("text");
            texts.as_string::<i32>().iter().map(|text| text.expect("no null").to_owned()).collect::<Vec<_>>()
        });
        texts.collect()
    }

    #[tokio::test]
    async fn the_highest_version_counts_then_the_position_and_deleted_keys_are_not_shown() {
        let versioned = KeySpec {
            columns: vec!["id".to_owned()],
            version_by: Some("version".to_owned()),
            delete_when: Some("gone".to_owned()),
        };
        let unversioned = KeySpec { version_by: None, delete_when: None, ..versioned.clone() };
        let cases = [
            ("the highest version", "('a', 2, false, 't', 0, 1), ('a', 1, false, 't', 0, 9)", "a t/1"),
            ("ties by offset", "('a', 1, false, 't', 0, 9), ('a', 1, false, 't', 0, 10)", "a t/10"),
            ("files before stream", "('a', 1, false, 't', 0, 0), ('a', 1, false, 'files', 7, 9)", "a t/0"),
            ("incarnations", "('a', 1, false, 't~10', 0, 0), ('a', 1, false, 't~9', 0, 5)", "a t~10/0"),
            ("no version is the lowest", "('a', 1, false, 't', 0, 0), ('a', NULL, false, 't', 0, 5)", "a t/0"),
            ("deleted", "('a', 1, false, 't', 0, 0), ('a', 2, true, 't', 0, 1), ('b', 1, NULL, 't', 0, 2)", "b t/2"),
            ("not deleted by an older record", "('a', 3, false, 't', 0, 0), ('a', 2, true, 't', 0, 1)", "a t/0"),
        ];
        for (case, rows, wanted) in cases {
            assert_eq!(shown(rows, &versioned).await, [wanted], "{case}");
        }
        let rows = "('a', 2, true, 't', 0, 1), ('a', 1, false, 't', 0, 9), (NULL, 1, false, 't', 0, 3), (NULL, 1, false, 't', 0, 2)";
        assert_eq!(shown(rows, &unversioned).await, [" t/3", "a t/9"], "null is a key, too");
    }
}
