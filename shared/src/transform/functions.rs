//! The functions that SQL of a definition may call: DataFusion's own and ours, looked up in one place so that every
//! layer plans the same text to the same thing.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result as DfResult, ScalarValue, TableReference, exec_err, plan_err};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, HigherOrderUDF, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableSource,
    Volatility, WindowUDF,
};

use super::zone::LocalTime;
use crate::dataset::TIMESTAMP_UNIT;

/// Functions of ours, to be registered wherever SQL of a definition is planned.
#[must_use]
pub fn own_functions() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(EventInstant::new())]
}

/// Everything callable, by name and alias.
pub(super) struct Functions {
    scalars: HashMap<String, Arc<ScalarUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    windows: HashMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: Arc<ConfigOptions>,
}

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(Functions::new);

impl Functions {
    pub(super) fn get() -> &'static Self {
        &FUNCTIONS
    }

    fn new() -> Self {
        let mut scalars = HashMap::new();
        let own = own_functions().into_iter().map(Arc::new);
        for function in SessionStateDefaults::default_scalar_functions().into_iter().chain(own) {
            for name in function.aliases() {
                scalars.insert(name.clone(), Arc::clone(&function));
            }
            scalars.insert(function.name().to_owned(), function);
        }
        let mut aggregates = HashMap::new();
        for function in SessionStateDefaults::default_aggregate_functions() {
            for name in function.aliases() {
                aggregates.insert(name.clone(), Arc::clone(&function));
            }
            aggregates.insert(function.name().to_owned(), function);
        }
        let windows = SessionStateDefaults::default_window_functions()
            .into_iter()
            .map(|function| (function.name().to_owned(), function))
            .collect();
        let planners = SessionStateDefaults::default_expr_planners();
        Self { scalars, aggregates, windows, planners, options: Arc::new(ConfigOptions::default()) }
    }

    pub(super) fn scalar(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.scalars.get(name)
    }

    pub(super) fn is_aggregate(&self, name: &str) -> bool {
        self.aggregates.contains_key(name)
    }

    pub(super) fn is_window(&self, name: &str) -> bool {
        self.windows.contains_key(name)
    }

    pub(super) fn scalar_names(&self) -> impl Iterator<Item = &str> {
        self.scalars.keys().map(String::as_str)
    }

    pub(super) fn options(&self) -> &Arc<ConfigOptions> {
        &self.options
    }
}

/// One table under one name, and all functions: what a transform or an expectation can see.
pub(super) struct OneTable {
    pub(super) name: &'static str,
    pub(super) source: Arc<dyn TableSource>,
}

impl ContextProvider for OneTable {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        if name.table() == self.name && name.schema().is_none() {
            return Ok(Arc::clone(&self.source));
        }
        plan_err!("unknown table `{name}`: only `{}` can be read", self.name)
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &Functions::get().planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        Functions::get().scalars.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        Functions::get().aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        Functions::get().windows.get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &Functions::get().options
    }

    fn udf_names(&self) -> Vec<String> {
        Functions::get().scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Functions::get().aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Functions::get().windows.keys().cloned().collect()
    }
}

/// The name of [`EventInstant`].
pub(super) const EVENT_INSTANT: &str = "event_instant";

/// `event_instant(local, zone)`: the UTC instant of a local time in an IANA zone. The first of the two instants of an
/// ambiguous time; null for a time that the zone skips.
#[derive(Debug, PartialEq, Eq, Hash)]
struct EventInstant {
    signature: Signature,
}

impl EventInstant {
    fn new() -> Self {
        let types = vec![DataType::Timestamp(TIMESTAMP_UNIT, None), DataType::Utf8];
        Self { signature: Signature::exact(types, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for EventInstant {
    fn name(&self) -> &'static str {
        EVENT_INSTANT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Timestamp(TIMESTAMP_UNIT, Some("UTC".into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [local, zone] = args.args.as_slice() else {
            return exec_err!("event_instant takes a local timestamp and a zone");
        };
        let ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone))) = zone else {
            return exec_err!("the zone of event_instant must be a constant string");
        };
        let Ok(zone) = zone.parse::<chrono_tz::Tz>() else {
            return exec_err!("`{zone}` is not an IANA time zone");
        };
        let local = local.to_array(args.number_rows)?;
        let zone = LocalTime::new(zone);
        let instants: PrimitiveArray<TimestampMicrosecondType> =
            local.as_primitive::<TimestampMicrosecondType>().unary_opt(|micros| zone.instant(micros));
        let instants: ArrayRef = Arc::new(instants.with_timezone("UTC"));
        Ok(ColumnarValue::Array(instants))
    }
}
