//! One run of a transform over one batch: which rows are still in, and which were refused and why.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, new_empty_array};
use arrow::compute::{CastOptions, cast_with_options, concat, filter, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::physical_expr::PhysicalExpr;

use super::Transformed;
use crate::dataset::RejectRule;
use crate::decode::Decoded;
use crate::reject::{Reason, Reject};

/// Longest message of a reject, in characters.
const MESSAGE_MAX: usize = 400;

/// The state between two stages.
pub(super) struct Run<'a> {
    decoded: &'a Decoded,
    /// Columns so far, of the rows still in.
    batch: RecordBatch,
    /// The input columns of the rows still in, if reject rules will want them.
    input: Option<RecordBatch>,
    /// For each row still in, its row in the decoded batch; `None` while all are.
    rows: Option<Vec<usize>>,
    filtered: u64,
    rejects: Vec<Reject>,
}

impl<'a> Run<'a> {
    pub(super) fn new(decoded: &'a Decoded, keep_input: bool) -> Self {
        let batch = decoded.batch.clone();
        let input = keep_input.then(|| batch.clone());
        Self { decoded, batch, input, rows: None, filtered: 0, rejects: Vec::new() }
    }

    pub(super) fn column(&self, index: usize) -> &ArrayRef {
        self.batch.column(index)
    }

    /// Keeps the rows for which `predicate` is true.
    pub(super) fn filter(&mut self, predicate: &Arc<dyn PhysicalExpr>) {
        let mask = self.evaluate(predicate, &DataType::Boolean, "WHERE", &mut Vec::new());
        let mask = true_only(mask.as_boolean());
        self.filtered += (mask.len() - mask.true_count()) as u64;
        self.keep(&mask, &mut Vec::new());
    }

    /// Replaces the columns by those of `expressions`.
    pub(super) fn project(&mut self, expressions: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef) {
        let mut columns = Vec::with_capacity(expressions.len());
        for (expression, field) in expressions.iter().zip(schema.fields()) {
            let column = self.evaluate(expression, field.data_type(), field.name(), &mut columns);
            columns.push(column);
        }
        self.batch = assemble(schema, columns, self.batch.num_rows());
    }

    /// Adds the input columns behind the output columns.
    pub(super) fn widen(&mut self, record: &SchemaRef) {
        let input = self.input.take().expect("kept since the start, because there are rules");
        let columns = self.batch.columns().iter().chain(input.columns()).cloned().collect();
        self.batch = assemble(record, columns, self.batch.num_rows());
    }

    /// Drops the input columns again.
    pub(super) fn narrow(&mut self, output: &SchemaRef) {
        let columns = self.batch.columns()[..output.fields().len()].to_vec();
        self.batch = assemble(output, columns, self.batch.num_rows());
    }

    /// Rejects the rows for which a rule's condition is true.
    pub(super) fn reject_where(&mut self, rule: &RejectRule, condition: &Arc<dyn PhysicalExpr>) {
        let label = format!("reject rule `{}`", rule.name);
        let mask = self.evaluate(condition, &DataType::Boolean, &label, &mut Vec::new());
        let mask = true_only(mask.as_boolean());
        if mask.true_count() == 0 {
            return;
        }
        self.reject_marked(&mask, |_| (Reason::Rule(rule.name.clone()), None, rule.when.clone()));
    }

    /// Rejects the marked rows.
    pub(super) fn reject_marked(
        &mut self,
        marked: &BooleanArray,
        why: impl Fn(usize) -> (Reason, Option<String>, String),
    ) {
        for row in marked.values().set_indices() {
            let (reason, column, message) = why(row);
            self.reject(row, reason, column, &message);
        }
        let kept = BooleanArray::new(!marked.values(), None);
        self.keep(&kept, &mut Vec::new());
    }

    pub(super) fn finish(mut self) -> Transformed {
        let offsets = match &self.rows {
            None => self.decoded.offsets.clone(),
            Some(rows) => rows.iter().map(|row| self.decoded.offsets[*row]).collect(),
        };
        self.rejects.sort_by_key(|reject| reject.offset);
        Transformed { batch: self.batch, offsets, filtered: self.filtered, rejects: self.rejects }
    }

    fn reject(&mut self, row: usize, reason: Reason, column: Option<String>, message: &str) {
        let row = self.rows.as_ref().map_or(row, |rows| rows[row]);
        self.rejects.push(Reject {
            offset: self.decoded.offsets[row],
            reason,
            column,
            message: message.chars().take(MESSAGE_MAX).collect(),
            bytes: self.decoded.record_bytes(row),
        });
    }

    /// Keeps the rows that `mask` is true for; `done` are columns of the next batch that exist already.
    fn keep(&mut self, mask: &BooleanArray, done: &mut [ArrayRef]) {
        if mask.true_count() == mask.len() {
            return;
        }
        const FITS: &str = "the mask has the batch's length";
        self.batch = filter_record_batch(&self.batch, mask).expect(FITS);
        self.input = self.input.take().map(|input| filter_record_batch(&input, mask).expect(FITS));
        for column in done {
            *column = filter(column, mask).expect(FITS);
        }
        let kept = mask.values().set_indices();
        self.rows = Some(match self.rows.take() {
            None => kept.collect(),
            Some(rows) => kept.map(|row| rows[row]).collect(),
        });
    }

    /// The value of `expression` for the rows still in. Rows on which it fails are rejected and leave `done` too.
    fn evaluate(
        &mut self,
        expression: &Arc<dyn PhysicalExpr>,
        data_type: &DataType,
        label: &str,
        done: &mut Vec<ArrayRef>,
    ) -> ArrayRef {
        if let Ok(column) = value(expression, &self.batch, data_type) {
            return column;
        }
        let rows = self.batch.num_rows();
        let mut parts = Parts::default();
        parts.evaluate(expression, data_type, &self.batch, 0);
        let mut kept = vec![true; rows];
        for (row, message) in parts.failing {
            kept[row] = false;
            self.reject(row, Reason::Transform, None, &format!("{label}: {message}"));
        }
        self.keep(&BooleanArray::from(kept), done);
        let columns: Vec<&dyn Array> = parts.columns.iter().map(AsRef::as_ref).collect();
        match columns.is_empty() {
            true => new_empty_array(data_type),
            false => concat(&columns).expect("parts of one column are of one type"),
        }
    }
}

/// Evaluates on all rows at once.
fn value(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, data_type: &DataType) -> Result<ArrayRef, String> {
    let value = expression.evaluate(batch).map_err(|error| error.strip_backtrace())?;
    let column = value.into_array(batch.num_rows()).map_err(|error| error.strip_backtrace())?;
    if column.data_type() == data_type {
        return Ok(column);
    }
    // A value that the type can't hold is a reject, never a null that nobody asked for.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&column, data_type, &options).map_err(|error| error.to_string())
}

/// A column evaluated part by part: of the rows that do not fail, and which do.
#[derive(Default)]
struct Parts {
    columns: Vec<ArrayRef>,
    failing: Vec<(usize, String)>,
}

impl Parts {
    /// Finds the rows that fail by halving, so that one bad row costs a few evaluations and all bad rows cost two each.
    /// A row fails if it does so alone: among others, `a AND b` may look at a `b` that does not matter to it.
    fn evaluate(
        &mut self,
        expression: &Arc<dyn PhysicalExpr>,
        data_type: &DataType,
        batch: &RecordBatch,
        start: usize,
    ) {
        let error = match value(expression, batch, data_type) {
            Ok(column) => return self.columns.push(column),
            Err(error) => error,
        };
        match batch.num_rows() {
            0 => {}
            1 => self.failing.push((start, error)),
            rows => {
                let half = rows / 2;
                self.evaluate(expression, data_type, &batch.slice(0, half), start);
                self.evaluate(expression, data_type, &batch.slice(half, rows - half), start + half);
            }
        }
    }
}

fn true_only(mask: &BooleanArray) -> BooleanArray {
    if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) }
}

fn assemble(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .expect("every column was evaluated for these rows, to its field's type")
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Schema};
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    #[test]
    fn a_value_that_its_type_cannot_hold_fails_and_is_no_null() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let batch = |values: Vec<Option<i64>>| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(values))]).expect("fits")
        };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("a", 0));
        let fits = value(&column, &batch(vec![Some(1), None]), &DataType::Int8).expect("both fit");
        assert_eq!((fits.data_type(), fits.null_count()), (&DataType::Int8, 1));
        let error = value(&column, &batch(vec![Some(1), Some(300)]), &DataType::Int8).expect_err("300 does not");
        assert!(error.contains("300"), "{error}");
        let mut parts = Parts::default();
        parts.evaluate(&column, &DataType::Int8, &batch(vec![Some(1), Some(300), None]), 0);
        assert_eq!(parts.failing.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
        assert_eq!(parts.columns.iter().map(|column| column.len()).sum::<usize>(), 2);
    }
}
