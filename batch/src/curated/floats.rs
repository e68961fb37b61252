//! What the columns of floats of a data file hold, taken from their values. Parquet's own statistics of floats can't be
//! used: they pass by NaN, which is above all numbers in a query, so that a file pruned by them would lose it. They are
//! therefore not written, and a footer without them has no null counts either.

use std::collections::BTreeMap;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

/// One column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FloatColumn {
    /// Values that are null.
    pub(crate) nulls: u64,
    /// Least and greatest value; `None` without a value, or if one is infinite or not a number.
    pub(crate) bounds: Option<(f64, f64)>,
    is_finite: bool,
}

impl Default for FloatColumn {
    fn default() -> Self {
        Self { nulls: 0, bounds: None, is_finite: true }
    }
}

impl FloatColumn {
    fn take(&mut self, values: &ArrayRef) -> Result<(), ArrowError> {
        self.nulls += values.null_count() as u64;
        let values = cast(values, &DataType::Float64)?;
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            if !value.is_finite() {
                self.is_finite = false;
            }
            // `total_cmp`: a zero has a sign, and the negative one is the lesser.
            let lesser = |a: f64, b: f64| if a.total_cmp(&b).is_lt() { a } else { b };
            let greater = |a: f64, b: f64| if a.total_cmp(&b).is_gt() { a } else { b };
            let (min, max) = self.bounds.unwrap_or((value, value));
            self.bounds = Some((lesser(min, value), greater(max, value)));
        }
        if !self.is_finite {
            self.bounds = None;
        }
        Ok(())
    }
}

/// The columns of floats of one file, by name.
#[derive(Debug, Default)]
pub(crate) struct Floats(BTreeMap<String, FloatColumn>);

impl Floats {
    /// Takes in rows of the file.
    pub(crate) fn take(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        for (field, values) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            if field.data_type().is_floating() {
                self.0.entry(field.name().clone()).or_default().take(values)?;
            }
        }
        Ok(())
    }

    /// What a column holds.
    pub(crate) fn column(&self, name: &str) -> FloatColumn {
        self.0.get(name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array};

    use super::*;

    fn column(parts: &[Vec<Option<f64>>]) -> FloatColumn {
        let mut column = FloatColumn::default();
        for part in parts {
            column.take(&(Arc::new(Float64Array::from(part.clone())) as ArrayRef)).expect("floats");
        }
        column
    }

    #[test]
    fn nulls_are_counted_and_only_finite_values_have_bounds() {
        let (one, two) = (Some(1.0), Some(2.5));
        for (parts, nulls, bounds) in [
            (vec![vec![one, None], vec![two, None]], 2, Some((1.0, 2.5))),
            (vec![vec![None, None]], 2, None),
            (vec![vec![one, Some(f64::NAN)], vec![two]], 0, None),
            (vec![vec![Some(f64::NEG_INFINITY)], vec![two, None]], 1, None),
            (vec![], 0, None),
        ] {
            let found = column(&parts);
            assert_eq!((found.nulls, found.bounds), (nulls, bounds), "{parts:?}");
        }
        let zeros = column(&[vec![Some(0.0), Some(-0.0)]]).bounds.expect("finite");
        assert!(zeros.0.is_sign_negative() && zeros.1.is_sign_positive());
        let mut narrow = FloatColumn::default();
        narrow.take(&(Arc::new(Float32Array::from(vec![0.1_f32])) as ArrayRef)).expect("floats");
        assert_eq!(narrow.bounds, Some((f64::from(0.1_f32), f64::from(0.1_f32))), "as a reader makes it a double");
    }
}
