//! Which parts of a filter may be decided by bounds. `cast(x) < 5` may be decided by the cast of `x`'s bounds only if the
//! cast keeps their order. DataFusion takes that for granted of nearly every cast, and of `-x`, so that it leaves out rows
//! which satisfy the filter: of `at::time = '12:30:00'`, say, where the first and last instant lie on two days.
//!
//! Here it is the other way round: what is not known to keep the order is hidden from whatever prunes, and decided row by
//! row. That holds for the files of a version, and in each Parquet file for its row groups and pages.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource as _, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal,
    NotExpr, TryCastExpr,
};
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use datafusion::physical_expr_common::physical_expr::{is_volatile, with_new_children_if_necessary};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::monotone::is_monotone;

/// `filter` over `schema`, with everything hidden that must not be decided by bounds. It is true of the same rows.
pub(super) fn judged(filter: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    if is_junction(filter) {
        let parts = filter.children().into_iter().map(|part| judged(part, schema)).collect::<Result<Vec<_>>>()?;
        return with_new_children_if_necessary(Arc::clone(filter), parts);
    }
    if filter.is::<DynamicFilterPhysicalExpr>() {
        // What it will compare is not known yet, but with which sides: a join's keys, a sort's first columns.
        let sides = filter.children().into_iter().map(|side| match keeps_order(side, schema) {
            true => Arc::clone(side),
            false => hidden(side),
        });
        let sides: Vec<_> = sides.collect();
        return match sides.is_empty() {
            true => Ok(Arc::clone(filter)),
            false => with_new_children_if_necessary(Arc::clone(filter), sides),
        };
    }
    Ok(match is_judged(filter, schema) {
        true => Arc::clone(filter),
        false => hidden(filter),
    })
}

fn is_junction(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<BinaryExpr>().is_some_and(|binary| matches!(binary.op(), Operator::And | Operator::Or))
}

/// True if bounds may decide `condition`, which is no junction.
fn is_judged(condition: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let is_side = |side: &Arc<dyn PhysicalExpr>| is_constant(side) || keeps_order(side, schema);
    if let Some(binary) = condition.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                is_side(binary.left()) && is_side(binary.right())
            }
            // These count nulls, and DataFusion takes those of the column for those of a cast that makes some.
            Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => {
                let is_plain = |side: &Arc<dyn PhysicalExpr>| is_constant(side) || side.is::<Column>();
                is_plain(binary.left()) && is_plain(binary.right())
            }
            _ => false,
        };
    }
    if let Some(list) = condition.downcast_ref::<InListExpr>() {
        return keeps_order(list.expr(), schema) && list.list().iter().all(is_constant);
    }
    if let Some(like) = condition.downcast_ref::<LikeExpr>() {
        return keeps_order(like.expr(), schema) && is_constant(like.pattern());
    }
    let of = match (condition.downcast_ref::<IsNullExpr>(), condition.downcast_ref::<IsNotNullExpr>()) {
        (Some(null), _) => null.arg(),
        (_, Some(not_null)) => not_null.arg(),
        _ => condition.downcast_ref::<NotExpr>().map_or(condition, NotExpr::arg),
    };
    // A column by itself, and what is hidden already, which nobody looks into.
    of.is::<Column>() || of.is::<Literal>() || condition.is::<Hidden>()
}

/// True if `side` is one value, whatever the row.
fn is_constant(side: &Arc<dyn PhysicalExpr>) -> bool {
    let has_columns = side.exists(|part| Ok(part.is::<Column>() || part.is::<DynamicFilterPhysicalExpr>()));
    !is_volatile(side) && has_columns.is_ok_and(|has_columns| !has_columns)
}

/// True if `side` is a column, or casts of one that leave no value before one that it came behind.
fn keeps_order(side: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let (inner, to) = if let Some(cast) = side.downcast_ref::<CastExpr>() {
        (cast.expr(), cast.cast_type())
    } else if let Some(cast) = side.downcast_ref::<TryCastExpr>() {
        (cast.expr(), cast.cast_type())
    } else {
        return side.is::<Column>();
    };
    keeps_order(inner, schema) && inner.data_type(schema).is_ok_and(|from| is_monotone(&from, to))
}

fn hidden(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    match expr.is::<Hidden>() {
        true => Arc::clone(expr),
        false => Arc::new(Hidden(Arc::clone(expr))),
    }
}

/// An expression that has the value of another, and tells nobody how it comes about: what prunes knows columns and casts,
/// and keeps everything where it finds something else.
#[derive(Debug, Eq)]
struct Hidden(Arc<dyn PhysicalExpr>);

// By hand, as for DataFusion's own: a derived one would move out of the pointer.
impl PartialEq for Hidden {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for Hidden {
    fn hash<H: Hasher>(&self, state: &mut H) {
        "hidden".hash(state);
        self.0.hash(state);
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl PhysicalExpr for Hidden {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.0.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.0.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.0]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(children.first().map_or_else(|| hidden(&self.0), hidden))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// Hides from Parquet scans what bounds must not decide. Put it behind DataFusion's rules, which hand filters to scans.
#[derive(Debug, Default)]
pub(crate) struct JudgedScans;

impl PhysicalOptimizerRule for JudgedScans {
    fn name(&self) -> &'static str {
        "judged_scans"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let judged = plan.transform_up(|node| {
            Ok(match judged_scan(&node)? {
                Some(scan) => Transformed::yes(scan),
                None => Transformed::no(node),
            })
        })?;
        Ok(judged.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `node`, if it is a scan whose filter has something to hide, with that hidden.
fn judged_scan(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(exec) = node.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some((scan, source)) = exec.downcast_to_file_source::<ParquetSource>() else { return Ok(None) };
    let Some(filter) = source.filter() else { return Ok(None) };
    let wanted = judged(&filter, source.table_schema().table_schema())?;
    if Arc::ptr_eq(&filter, &wanted) {
        return Ok(None);
    }
    let mut scan = FileScanConfig::clone(scan);
    scan.file_source = Arc::new(source.with_predicate(wanted));
    Ok(Some(Arc::new(exec.clone().with_data_source(Arc::new(scan)))))
}

/// Fits filters to a file whose columns are of other types than the table's, and hides what these casts make of them.
#[derive(Debug, Default)]
pub(crate) struct JudgedFiles;

impl PhysicalExprAdapterFactory for JudgedFiles {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let adapter = DefaultPhysicalExprAdapterFactory.create(table, Arc::clone(&file))?;
        Ok(Arc::new(JudgedFile { adapter, file }))
    }
}

#[derive(Debug)]
struct JudgedFile {
    adapter: Arc<dyn PhysicalExprAdapter>,
    file: SchemaRef,
}

impl PhysicalExprAdapter for JudgedFile {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let fitted = self.adapter.rewrite(expr)?;
        // Projections come here, too; only what can be a filter has something to hide.
        match fitted.data_type(&self.file) {
            Ok(DataType::Boolean) => judged(&fitted, &self.file),
            _ => Ok(fitted),
        }
    }
}
