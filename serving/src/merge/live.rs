//! The real-time part of a cut as a table.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tidemark_shared::live::LivePin;
use tidemark_shared::position::LogPartition;

use super::spans;

/// Rows of a pinned view in some ranges of offsets.
#[derive(Debug)]
pub(super) struct LiveTable {
    dataset: String,
    pin: Arc<dyn LivePin>,
    ranges: BTreeMap<LogPartition, Range<u64>>,
    schema: SchemaRef,
}

impl LiveTable {
    pub(super) fn new(dataset: &str, pin: Arc<dyn LivePin>, ranges: BTreeMap<LogPartition, Range<u64>>) -> Self {
        let schema = pin.schema();
        Self { dataset: dataset.to_owned(), pin, ranges, schema }
    }
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let span = spans::live(&self.dataset, &self.ranges);
        let scanned = span.in_scope(|| self.pin.scan(&self.ranges, projection, filters, limit));
        scanned.map_err(|error| DataFusionError::External(Box::new(error)))
    }
}
