//! Answers of templates, many cuts in one pass: what every interval adds, summed up to each cut.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal256Type, Int64Type, i256};
use tidemark_shared::position::{Coverage, FILES_SOURCE, LogPartition, PARTITION_COLUMN, SOURCE_COLUMN, Source};

use super::AuditError;
use super::compare::Row;
use super::derived::{Derived, INTERVAL_COLUMN, TABLE};
use super::master::Cuts;
use super::template::{Aggregate, Template};

/// Digits of a decimal that holds every sum: of as many numbers as there are offsets, with as many digits as there may be.
const DIGITS: u8 = 76;

/// One number of a group, without its decimal point; `None`: no row, or none but null.
type Number = Option<i256>;
type Groups = BTreeMap<Row, Vec<Number>>;

/// What a template's answer is at every cut.
pub(super) struct Prefixes<'a> {
    template: &'a Template,
    cuts: &'a Cuts,
    /// Types of the answer's numbers, by aggregate.
    types: Vec<DataType>,
    /// Per partition, what all rows below each of its cuts make.
    streams: BTreeMap<LogPartition, Vec<Groups>>,
    files: BTreeMap<u64, Groups>,
}

impl<'a> Prefixes<'a> {
    /// Asks the derived rows once.
    pub(super) async fn new(derived: &Derived, template: &'a Template, cuts: &'a Cuts) -> Result<Self, AuditError> {
        let groups = template.groups.iter().map(|column| format!("\"{column}\""));
        let keys: Vec<String> = [SOURCE_COLUMN, PARTITION_COLUMN, INTERVAL_COLUMN]
            .map(|c| format!("\"{c}\""))
            .into_iter()
            .chain(groups)
            .collect();
        // A column that is grouped by twice would be ambiguous.
        let named = keys.iter().enumerate().map(|(index, column)| format!("{column} AS k{index}"));
        let aggregates = template.aggregates.iter().map(Aggregate::sql).enumerate();
        let aggregates = aggregates.map(|(index, aggregate)| format!("{aggregate} AS a{index}"));
        let columns: Vec<String> = named.chain(aggregates).collect();
        let by: Vec<String> = (1..=keys.len()).map(|index| index.to_string()).collect();
        let rows = template.rows.sql(TABLE, &[INTERVAL_COLUMN]);
        let sql = format!("SELECT {} FROM {rows} GROUP BY {}", columns.join(", "), by.join(", "));
        let mut prefixes = Self { template, cuts, types: Vec::new(), streams: BTreeMap::new(), files: BTreeMap::new() };
        let mut steps: BTreeMap<LogPartition, BTreeMap<usize, Groups>> = BTreeMap::new();
        for batch in derived.ask(&sql).await? {
            prefixes.take(&batch, &mut steps)?;
        }
        for partition in cuts.partitions() {
            let mut sums = Groups::new();
            let steps = steps.remove(partition).unwrap_or_default();
            let mut at_cuts = Vec::with_capacity(cuts.len(partition));
            for cut in 0..cuts.len(partition) {
                if let Some(step) = steps.get(&cut) {
                    add(&template.aggregates, &mut sums, step);
                }
                at_cuts.push(sums.clone());
            }
            prefixes.streams.insert(partition.clone(), at_cuts);
        }
        Ok(prefixes)
    }

    fn take(
        &mut self,
        batch: &RecordBatch,
        steps: &mut BTreeMap<LogPartition, BTreeMap<usize, Groups>>,
    ) -> Result<(), AuditError> {
        let bad = |what: &str| AuditError::Derive { reason: format!("{what} in the sums of an interval") };
        let texts = |index: usize| cast(batch.column(index), &DataType::Utf8View);
        let sources = texts(0)?;
        let partitions = cast(batch.column(1), &DataType::Int64)?;
        let intervals = cast(batch.column(2), &DataType::Int64)?;
        let (first, count) = (3, self.template.groups.len());
        let groups = (first..first + count).map(texts).collect::<Result<Vec<_>, _>>()?;
        let numbers = (first + count..batch.num_columns()).map(|index| number_column(batch, index));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        self.types =
            (first + count..batch.num_columns()).map(|index| batch.column(index).data_type().clone()).collect();
        for row in 0..batch.num_rows() {
            let cell = |column: &arrow::array::ArrayRef| {
                column.is_valid(row).then(|| column.as_string_view().value(row).to_owned())
            };
            let key: Row = groups.iter().map(cell).collect();
            let values: Vec<Number> = numbers
                .iter()
                .map(|column| {
                    let column = column.as_primitive::<Decimal256Type>();
                    column.is_valid(row).then(|| column.value(row))
                })
                .collect();
            let number =
                u64::try_from(partitions.as_primitive::<Int64Type>().value(row)).map_err(|_| bad("a partition"))?;
            let source = sources.as_string_view().value(row);
            let into = if source == FILES_SOURCE {
                self.files.entry(number).or_default()
            } else {
                let source = Source::topic(source).map_err(|_| bad("a source"))?;
                let partition =
                    LogPartition { source, partition: u32::try_from(number).map_err(|_| bad("a partition"))? };
                let interval = usize::try_from(intervals.as_primitive::<Int64Type>().value(row))
                    .map_err(|_| bad("an interval"))?;
                steps.entry(partition).or_default().entry(interval).or_default()
            };
            add(&self.template.aggregates, into, &Groups::from([(key, values)]));
        }
        Ok(())
    }

    /// The template's answer over the rows below `positions`, where `files` are those that count.
    pub(super) fn at(&self, positions: &Coverage, files: &BTreeSet<u64>) -> Vec<Row> {
        let mut sums = Groups::new();
        for (partition, end) in positions.iter() {
            let at = self.cuts.index(partition, end).and_then(|cut| self.streams.get(partition)?.get(cut));
            if let Some(at) = at {
                add(&self.template.aggregates, &mut sums, at);
            }
        }
        for file in files.iter().filter_map(|number| self.files.get(number)) {
            add(&self.template.aggregates, &mut sums, file);
        }
        if self.template.groups.is_empty() && sums.is_empty() {
            // Without groups there is always a row.
            let empty = |aggregate: &Aggregate| (*aggregate == Aggregate::Count).then_some(i256::ZERO);
            sums.insert(Vec::new(), self.template.aggregates.iter().map(empty).collect());
        }
        let row = |(key, numbers): (Row, Vec<Number>)| -> Row {
            let cell = |(index, number): (usize, Number)| number.map(|number| number_of(number, self.types.get(index)));
            key.into_iter().chain(numbers.into_iter().enumerate().map(cell)).collect()
        };
        sums.into_iter().map(row).collect()
    }
}

fn number_column(batch: &RecordBatch, index: usize) -> Result<arrow::array::ArrayRef, AuditError> {
    let column = batch.column(index);
    let scale = match column.data_type() {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    };
    Ok(cast(column, &DataType::Decimal256(DIGITS, scale))?)
}

/// A sum as an answer of this type has it: sums of whole numbers wrap around, in each of its parts and so in all.
fn number_of(number: i256, of: Option<&DataType>) -> String {
    // The lower half of the number, of which the types of whole numbers have the lower half.
    let (low, _) = number.to_parts();
    match of {
        Some(DataType::Int64) => (low as i64).to_string(),
        Some(DataType::UInt64) => (low as u64).to_string(),
        Some(DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale)) => decimal(number, *scale),
        _ => number.to_string(),
    }
}

fn add(aggregates: &[Aggregate], into: &mut Groups, more: &Groups) {
    for (key, numbers) in more {
        match into.get_mut(key) {
            None => {
                into.insert(key.clone(), numbers.clone());
            }
            Some(sums) => {
                for ((aggregate, sum), number) in aggregates.iter().zip(sums).zip(numbers) {
                    *sum = match (*sum, *number) {
                        (Some(a), Some(b)) => Some(match aggregate {
                            Aggregate::Count | Aggregate::Sum(_) | Aggregate::Fingerprint { .. } => a.wrapping_add(b),
                            Aggregate::Min(_) => a.min(b),
                            Aggregate::Max(_) => a.max(b),
                        }),
                        (a, b) => a.or(b),
                    };
                }
            }
        }
    }
}

/// An unscaled number with its decimal point.
fn decimal(number: i256, scale: i8) -> String {
    let Ok(scale @ 1..) = usize::try_from(scale) else { return number.to_string() };
    let (sign, digits) = (if number.is_negative() { "-" } else { "" }, number.wrapping_abs().to_string());
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_told_as_answers_have_them() {
        let number = |text: &str| i256::from_string(text).expect(text);
        let whole = "9223372036854775809";
        let most = "99999999999999999999999999999999999999";
        for (sum, of, wanted) in [
            (whole, DataType::Int64, "-9223372036854775807"),
            (whole, DataType::UInt64, whole),
            (whole, DataType::Decimal128(38, 0), whole),
            ("-5", DataType::Decimal128(38, 2), "-0.05"),
            ("7", DataType::Int64, "7"),
            ("-7", DataType::Int64, "-7"),
            (most, DataType::Decimal256(76, 0), most),
            (most, DataType::Decimal128(38, 38), "0.99999999999999999999999999999999999999"),
        ] {
            assert_eq!(number_of(number(sum), Some(&of)), wanted, "{sum} {of}");
        }
    }

    #[test]
    fn sums_of_decimals_with_all_their_digits_do_not_overflow() {
        let most = i256::from_i128(10_i128.pow(38) - 1);
        let key: Row = vec![Some("x".to_owned())];
        let one = Groups::from([(key.clone(), vec![Some(most)])]);
        let aggregates = [Aggregate::Sum("cents".to_owned())];
        let mut sums = Groups::new();
        for _ in 0..3 {
            add(&aggregates, &mut sums, &one);
        }
        assert_eq!(sums[&key], [Some(most.wrapping_mul(i256::from_i128(3)))]);
        add(&aggregates, &mut sums, &Groups::from([(key.clone(), vec![Some(most.wrapping_mul(i256::from_i128(-2)))])]));
        assert_eq!(sums, one, "what cancels out is what it was");
    }
}
