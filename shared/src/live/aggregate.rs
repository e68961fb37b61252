//! What a view may add up by itself instead of giving its rows out: partial states, for a final aggregation to merge.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::logical_expr::Expr;

use super::LiveError;
use crate::position::LogPartition;

/// Digits that a sum of decimals has more than they, as SQL has it.
const SUM_DIGITS: u8 = 10;

/// A fact about the rows of a group. Columns are places in the pin's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LiveState {
    /// How many there are.
    Rows,
    /// How many of them have a value in the column.
    Values(usize),
    /// The exact sum of a column of whole numbers or decimals; null without a value.
    Sum(usize),
    /// The sum of a column of numbers as a float, within the tolerance that sums of floats have; null without a value.
    FloatSum(usize),
    /// The least value of a column; null without one.
    Least(usize),
    /// The greatest value of a column; null without one.
    Greatest(usize),
}

impl LiveState {
    /// The column that it is about.
    #[must_use]
    pub fn column(self) -> Option<usize> {
        match self {
            Self::Rows => None,
            Self::Values(column)
            | Self::Sum(column)
            | Self::FloatSum(column)
            | Self::Least(column)
            | Self::Greatest(column) => Some(column),
        }
    }

    /// The type in which it is answered, about a column of type `of`.
    #[must_use]
    pub fn data_type(self, of: &DataType) -> DataType {
        match (self, of) {
            (Self::Rows | Self::Values(_), _) => DataType::Int64,
            (Self::Sum(_), DataType::Decimal128(precision, scale)) => {
                DataType::Decimal128((precision + SUM_DIGITS).min(DECIMAL128_MAX_PRECISION), *scale)
            }
            (Self::Sum(_), _) => DataType::Int64,
            (Self::FloatSum(_), _) => DataType::Float64,
            (Self::Least(_) | Self::Greatest(_), of) => of.clone(),
        }
    }
}

/// Which states of which rows are asked for.
#[derive(Debug, Clone)]
pub struct AggregateRequest {
    /// Positions of the rows; they lie within the view's.
    pub ranges: BTreeMap<LogPartition, Range<u64>>,
    /// Conditions that rows must meet, all of them and exactly; columns are named as in the pin's schema.
    pub filters: Vec<Expr>,
    /// The columns that rows are grouped by, nulls in a group of their own; places in the pin's schema. None of them: all
    /// rows are one group, even if there is no row.
    pub groups: Vec<usize>,
    /// What is to be known of each group.
    pub states: Vec<LiveState>,
}

impl AggregateRequest {
    /// Schema of an answer, where `rows` is the pin's: the groups' columns, then one for each state.
    #[must_use]
    pub fn schema(&self, rows: &Schema) -> SchemaRef {
        let groups = self.groups.iter().map(|column| Arc::clone(&rows.fields()[*column]));
        let states = self.states.iter().enumerate().map(|(n, state)| -> FieldRef {
            let of = state.column().map_or(DataType::Int64, |column| rows.field(column).data_type().clone());
            Arc::new(Field::new(format!("state_{n}"), state.data_type(&of), true))
        });
        Arc::new(Schema::new(groups.chain(states).collect::<Vec<_>>()))
    }
}

/// A request that a view may be able to answer. It belongs to the pin that made it, and keeps what that keeps (H6).
#[async_trait]
pub trait LiveAggregation: Send + Sync + fmt::Debug {
    /// The states, with the request's schema; a group may stand in several rows. `None` if they would not be exact, or cost
    /// more than the rows: read the rows then.
    ///
    /// # Errors
    /// [`LiveError::Backend`], as for reading the rows: what is not there is never left out.
    async fn answer(&self) -> Result<Option<Vec<RecordBatch>>, LiveError>;
}
