//! Instants compared with texts, and with what a text is cast to. `at < '9999-12-31'` and `at < DATE '9999-12-31'` mean what
//! they say: DataFusion would take both sides to nanoseconds, which end in 2262.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;

use super::sides::{Meeting, meet};

/// Makes a text that is compared with an instant an instant of the same unit, where that loses no digit; likewise one that is
/// written as an instant or a date. Add it to a session's function rewrites: it then comes before type coercion.
#[derive(Debug, Default)]
pub(super) struct TextAsInstant;

impl FunctionRewrite for TextAsInstant {
    fn name(&self) -> &str {
        "text_as_instant"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(meet(self, expr, schema))
    }
}

impl Meeting for TextAsInstant {
    fn decides(&self, data_type: &DataType) -> bool {
        matches!(data_type, DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond, _))
    }

    fn bring(&self, side: Expr, to: &DataType, _: &DFSchema) -> Transformed<Expr> {
        let instant = match &side {
            Expr::Literal(text, _) if text.data_type().is_string() => exactly(text, to),
            Expr::Cast(Cast { expr, field }) => match expr.as_ref() {
                Expr::Literal(text, _) if text.data_type().is_string() => written(text, field.data_type(), to),
                _ => None,
            },
            _ => None,
        };
        instant.map_or_else(|| Transformed::no(side), |instant| Transformed::yes(Expr::Literal(instant, None)))
    }
}

/// `text`, which is written as of the type `written`, as an instant of the type `to`; `None` as for [`exactly`], and for
/// other types.
fn written(text: &ScalarValue, written: &DataType, to: &DataType) -> Option<ScalarValue> {
    match (written, to) {
        // What an offset or its absence means is decided by the zone that is written.
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), DataType::Timestamp(unit, _)) => {
            exactly(text, &DataType::Timestamp(*unit, zone.clone()))?.cast_to(to).ok()
        }
        (DataType::Date32, _) => text.cast_to(written).ok()?.cast_to(to).ok().filter(|instant| !instant.is_null()),
        _ => None,
    }
}

/// `text` as an instant of the type `to`; `None` if it is none, or has digits that such an instant does not have.
fn exactly(text: &ScalarValue, to: &DataType) -> Option<ScalarValue> {
    let DataType::Timestamp(_, zone) = to else { return None };
    let instant = text.cast_to(to).ok().filter(|instant| !instant.is_null())?;
    let finest = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
    match (text.cast_to(&finest), instant.cast_to(&finest)) {
        (Ok(wanted), Ok(found)) if wanted != found => None,
        _ => Some(instant),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray as _;
    use datafusion::execution::FunctionRegistry as _;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn is_true(condition: &str) -> std::result::Result<bool, String> {
        let context = SessionContext::new();
        let mut state = context.state();
        state.register_function_rewrite(Arc::new(TextAsInstant)).expect("a session takes every rewrite");
        let context = SessionContext::new_with_state(state);
        let sql = format!(
            "SELECT {condition} FROM (SELECT arrow_cast('2024-05-06T07:08:09.123456', 'Timestamp(Microsecond, Some(\"UTC\"))') AS at)"
        );
        let rows = context.sql(&sql).await.map_err(|error| error.to_string())?.collect().await;
        Ok(rows.map_err(|error| error.to_string())?[0].column(0).as_boolean().value(0))
    }

    #[tokio::test]
    async fn a_text_beside_an_instant_is_one_whatever_its_year() {
        for (condition, wanted) in [
            ("at < '9999-12-31'", true),
            ("'3000-01-01' < at", false),
            ("at > '0001-01-01 00:00:00'", true),
            ("at BETWEEN '1000-01-01' AND '2024-05-07'", true),
            ("at NOT BETWEEN '1000-01-01' AND '9999-12-31T23:59:59Z'", false),
            ("at IN ('3000-01-01', '2024-05-06T07:08:09.123456Z')", true),
            ("at = '2024-05-06T09:08:09.123456+02:00'", true),
            ("at < TIMESTAMP '9999-12-31'", true),
            ("at > CAST('0001-01-01' AS TIMESTAMP)", true),
            ("at BETWEEN TIMESTAMP '2024-05-06' AND TIMESTAMP(6) '9999-12-31'", true),
            ("at < DATE '2500-01-01'", true),
            ("DATE '2024-05-07' <= at", false),
            ("at IN (DATE '3000-01-01', TIMESTAMP '2024-05-06T07:08:09.123456Z')", true),
            ("at = TIMESTAMP '2024-05-06T09:08:09.123456+02:00'", true),
        ] {
            assert_eq!(is_true(condition).await, Ok(wanted), "{condition}");
        }
        assert!(is_true("at < 'soon'").await.is_err_and(|error| error.contains("soon")));
    }
}
