//! `min` and `max` of floats: NaN is the largest of them, wherever it stands among the rows.
//!
//! DataFusion's accumulators of groups ask whether one value is less than another, which a NaN never is: what is left of a
//! group would depend on the order of its rows. And a NaN that a division made may have a sign, by which it would come
//! before all numbers. So floats go into the accumulators as whole numbers of the same order. Where few groups are asked for
//! (`GROUP BY g ORDER BY min(x) LIMIT 3`), it would keep only those, without accumulators: of floats, all are kept.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::error::Result;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::topk_aggregation::TopKAggregation;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;

/// `min` and `max`, for a session to use instead of DataFusion's.
pub(super) fn extremes() -> [Arc<AggregateUDF>; 2] {
    [min_udaf(), max_udaf()].map(|inner| Arc::new(AggregateUDF::new_from_impl(Extreme { inner })))
}

/// `rule`; behind this one, if it is the one that has aggregates keep few groups.
pub(super) fn all_groups(
    rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
) -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
    if rule.name() == TopKAggregation::new().name() { Arc::new(AllGroups(rule)) } else { rule }
}

/// A rule that leaves the extremes of floats alone.
#[derive(Debug)]
struct AllGroups(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for AllGroups {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.0.optimize(plan, config)?.transform_up(unlimited)?.data)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// `node`, of all its groups, if it seeks the least or greatest float of each, or if floats make its groups: a NaN is not
/// equal to itself where few groups are kept.
fn unlimited(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let of_floats = node.downcast_ref::<AggregateExec>().filter(|aggregate| {
        let schema = aggregate.schema();
        let groups = schema.fields().iter().take(aggregate.group_expr().expr().len());
        let is_sought = aggregate.get_minmax_desc().is_some_and(|(field, _)| field.data_type().is_floating());
        let is_limited = aggregate.limit_options().is_some();
        is_limited && (is_sought || groups.into_iter().any(|field| field.data_type().is_floating()))
    });
    let unlimited =
        of_floats.map(|aggregate| -> Arc<dyn ExecutionPlan> { Arc::new(aggregate.with_new_limit_options(None)) });
    Ok(match unlimited {
        Some(unlimited) => Transformed::yes(unlimited),
        None => Transformed::no(node),
    })
}

/// DataFusion's function, with accumulators of our own where values are floats.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    inner: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.inner.inner().name()
    }

    fn signature(&self) -> &Signature {
        self.inner.inner().signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match ordered(args) {
            Ok(args) => Ok(Box::new(OfFloats(self.inner.inner().accumulator(args)?))),
            Err(args) => self.inner.inner().accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match ordered(args) {
            Ok(args) => Ok(Box::new(OfFloats(self.inner.inner().create_sliding_accumulator(args)?))),
            Err(args) => self.inner.inner().create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        // Half floats have an order of their own only where they are compared one by one.
        *args.return_field.data_type() != DataType::Float16 && self.inner.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match ordered(args) {
            Ok(args) => Ok(Box::new(GroupsOfFloats(self.inner.inner().create_groups_accumulator(args)?))),
            Err(args) => self.inner.inner().create_groups_accumulator(args),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.inner().order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.inner().reverse_expr()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.inner().is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        // Who writes files leaves NaN out of a column's bounds.
        let counts_all = !statistics.return_type.is_floating();
        counts_all.then(|| self.inner.inner().value_from_stats(statistics)).flatten()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }
}

/// What an accumulator of whole numbers is made with instead of one of floats; `Err`: as it came, where there are none.
fn ordered(args: AccumulatorArgs<'_>) -> Result<AccumulatorArgs<'_>, AccumulatorArgs<'_>> {
    let data_type = match args.return_field.data_type() {
        DataType::Float32 => DataType::Int32,
        DataType::Float64 => DataType::Int64,
        _ => return Err(args),
    };
    let return_field = Arc::new(Field::new(args.return_field.name(), data_type, true));
    Ok(AccumulatorArgs { return_field, ..args })
}

/// One value over floats, by an accumulator of whole numbers.
#[derive(Debug)]
struct OfFloats(Box<dyn Accumulator>);

impl Accumulator for OfFloats {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(&whole(values))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate().map(float)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.0.state()?.into_iter().map(float).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(&whole(states))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(&whole(values))
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }
}

/// A value a group over floats, by an accumulator of whole numbers.
struct GroupsOfFloats(Box<dyn GroupsAccumulator>);

impl GroupsAccumulator for GroupsOfFloats {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.0.update_batch(&whole(values), group_indices, filter, groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.0.evaluate(emit_to).map(floats)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.0.state(emit_to)?.into_iter().map(floats).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], groups: usize) -> Result<()> {
        self.0.merge_batch(&whole(states), group_indices, groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        Ok(self.0.convert_to_state(&whole(values), filter)?.into_iter().map(floats).collect())
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}

fn whole(columns: &[ArrayRef]) -> Vec<ArrayRef> {
    let one = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Float32 => {
                let whole: Int32Array = column.as_primitive::<Float32Type>().unary(whole_32);
                Arc::new(whole)
            }
            DataType::Float64 => {
                let whole: Int64Array = column.as_primitive::<Float64Type>().unary(whole_64);
                Arc::new(whole)
            }
            _ => Arc::clone(column),
        }
    };
    columns.iter().map(one).collect()
}

fn floats(column: ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Int32 => {
            let floats: Float32Array = column.as_primitive::<Int32Type>().unary(float_32);
            Arc::new(floats)
        }
        DataType::Int64 => {
            let floats: Float64Array = column.as_primitive::<Int64Type>().unary(float_64);
            Arc::new(floats)
        }
        _ => column,
    }
}

fn float(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Int32(value) => ScalarValue::Float32(value.map(float_32)),
        ScalarValue::Int64(value) => ScalarValue::Float64(value.map(float_64)),
        other => other,
    }
}

/// A number that is less than another's where the float is, and the largest of all for NaN.
fn whole_64(float: f64) -> i64 {
    if float.is_nan() { i64::MAX } else { turned_64(float.to_bits().cast_signed()) }
}

fn float_64(whole: i64) -> f64 {
    if whole == i64::MAX { f64::NAN } else { f64::from_bits(turned_64(whole).cast_unsigned()) }
}

/// Below zero, a float's bits grow as it gets less.
fn turned_64(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// As [`whole_64`].
fn whole_32(float: f32) -> i32 {
    if float.is_nan() { i32::MAX } else { turned_32(float.to_bits().cast_signed()) }
}

fn float_32(whole: i32) -> f32 {
    if whole == i32::MAX { f32::NAN } else { f32::from_bits(turned_32(whole).cast_unsigned()) }
}

fn turned_32(bits: i32) -> i32 {
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_the_order_of_floats() {
        let floats = [f64::NEG_INFINITY, f64::MIN, -1.5, -0.0, 0.0, f64::MIN_POSITIVE, 1.5, f64::MAX, f64::INFINITY];
        let wholes: Vec<i64> = floats.into_iter().map(whole_64).collect();
        assert!(wholes.is_sorted_by(|a, b| a < b), "{wholes:?}");
        assert_eq!(
            floats.map(f64::to_bits).to_vec(),
            wholes.iter().map(|w| float_64(*w).to_bits()).collect::<Vec<_>>()
        );
        let wholes: Vec<i32> = [f32::NEG_INFINITY, -1.5, -0.0, 0.0, 1.5, f32::INFINITY].map(whole_32).to_vec();
        assert!(wholes.is_sorted_by(|a, b| a < b), "{wholes:?}");
        assert_eq!(float_32(whole_32(-1.5)).to_bits(), (-1.5_f32).to_bits());
        for nan in [f64::NAN, -f64::NAN] {
            assert!(whole_64(nan) > whole_64(f64::INFINITY) && float_64(whole_64(nan)).is_nan());
        }
        assert!(whole_32(-f32::NAN) > whole_32(f32::INFINITY) && float_32(i32::MAX).is_nan());
    }
}
