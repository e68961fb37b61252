//! Parameters: bound to `$1`, `$2`, … as values, never spliced into the text.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;

use super::error::SqlError;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// Text, as typed in a shell: it becomes a value of the type that the statement wants there. Where it wants none in
    /// particular, a number, `true`, `false` or `null` is that, and all else a string.
    Text(String),
    /// A string that becomes a value of the type that the statement wants there; where it wants none in particular, it is
    /// a string.
    String(String),
    /// A value with its type.
    Value(ScalarValue),
}

/// Binds `params`, in order, to the placeholders of `plan`.
pub(super) fn bind(plan: LogicalPlan, params: &[Param]) -> Result<LogicalPlan, SqlError> {
    let types = plan.get_parameter_types().map_err(SqlError::from_planning)?;
    for name in types.keys() {
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        if number.is_none_or(|number| number == 0 || number > params.len()) {
            let message = format!("has no value; {} given", params.len());
            return Err(SqlError::Parameter { name: name.clone(), message });
        }
    }
    let mut values = Vec::with_capacity(params.len());
    for (index, param) in params.iter().enumerate() {
        let name = format!("${}", index + 1);
        let bound = match types.get(&name) {
            Some(wanted) => value(param, wanted.as_ref()),
            None => Err("does not occur in the statement".to_owned()),
        };
        values.push(bound.map_err(|message| SqlError::Parameter { name, message })?);
    }
    if values.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(values).map_err(SqlError::from_planning)
}

fn value(param: &Param, wanted: Option<&DataType>) -> Result<ScalarValue, String> {
    match (param, wanted) {
        (Param::Value(value), _) => Ok(value.clone()),
        (Param::Text(text), Some(DataType::Null) | None) => Ok(guessed(text)),
        (Param::Text(text), Some(wanted)) if text.eq_ignore_ascii_case("null") => {
            ScalarValue::try_from(wanted).map_err(|error| error.to_string())
        }
        (Param::String(text), Some(DataType::Null) | None) => Ok(ScalarValue::Utf8(Some(text.clone()))),
        (Param::Text(text) | Param::String(text), Some(wanted)) => ScalarValue::Utf8(Some(text.clone()))
            .cast_to(wanted)
            .ok()
            .filter(|value| !value.is_null())
            .ok_or_else(|| format!("`{text}` is not a value of type {wanted}")),
    }
}

fn guessed(text: &str) -> ScalarValue {
    match text.to_ascii_lowercase().as_str() {
        "null" => return ScalarValue::Null,
        "true" => return ScalarValue::Boolean(Some(true)),
        "false" => return ScalarValue::Boolean(Some(false)),
        _ => {}
    }
    // A number with a leading zero is a code, such as the month `07`.
    let code = text.len() > 1 && text.starts_with('0') && !text.starts_with("0.");
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(number), _) if !code => ScalarValue::Int64(Some(number)),
        (_, Ok(number)) if !code && number.is_finite() => ScalarValue::Float64(Some(number)),
        _ => ScalarValue::Utf8(Some(text.to_owned())),
    }
}
