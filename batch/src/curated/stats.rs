//! Statistics of a data file for the Delta log, from its Parquet footer.
//!
//! Source: Delta transaction log protocol, "Per-file Statistics". Bounds must hold for every value, so a maximum is
//! rounded up where its text is coarser than the value (timestamps have milliseconds there).

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::datatypes::{Date32Type, Decimal128Type, TimestampMicrosecondType};
use arrow::datatypes::{Int8Type, Int16Type, Int32Type, Int64Type};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use super::floats::{FloatColumn, Floats};

/// Longest string bound that goes into the log, in bytes; a column with a longer one gets no bounds in this file.
const STRING_BOUND_BYTES_MAX: usize = 64;

/// The `stats` text of an `add` action for a file with this footer, this (physical) schema and these floats.
///
/// A column of a type that Delta readers do not compare gets only a null count, a nested one nothing: its statistics
/// would have to be nested like it, and a reader that finds a number there refuses the whole table.
///
/// Where a column has values and can't have bounds, the file gets its number of rows alone: Python's `deltalake` takes a
/// bound that is missing beside those of other columns for a comparison with null, and passes the file by.
pub(crate) fn delta_stats(schema: &SchemaRef, footer: &ParquetMetaData, floats: &Floats) -> String {
    let rows = footer.file_metadata().num_rows();
    let rows_alone = || format!(r#"{{"numRecords":{rows}}}"#);
    let (mut min_values, mut max_values, mut null_counts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for field in schema.fields().iter().filter(|field| !field.data_type().is_nested()) {
        let column = if field.data_type().is_floating() {
            Some(of_floats(floats.column(field.name())))
        } else {
            of_footer(field, schema, footer)
        };
        let Some(ColumnStats { nulls, bounds }) = column else { return rows_alone() };
        null_counts.insert(field.name().clone(), nulls.to_string());
        let has_values = i64::try_from(nulls) != Ok(rows);
        match bounds {
            Some((min, max)) => {
                min_values.insert(field.name().clone(), min);
                max_values.insert(field.name().clone(), max);
            }
            None if has_values && is_compared(field.data_type()) => return rows_alone(),
            None => {}
        }
    }
    format!(
        r#"{{"numRecords":{rows},"minValues":{},"maxValues":{},"nullCount":{}}}"#,
        object(&min_values),
        object(&max_values),
        object(&null_counts)
    )
}

/// What the log says of a column: its nulls, and its bounds as JSON text.
struct ColumnStats {
    nulls: u64,
    bounds: Option<(String, String)>,
}

fn of_floats(column: FloatColumn) -> ColumnStats {
    // Both zeros are one number: a bound of zero holds for either.
    let (least, greatest) = (|min| if min == 0.0 { -0.0 } else { min }, |max| if max == 0.0 { 0.0 } else { max });
    let bounds = column.bounds.map(|(min, max)| (float_text(least(min)), float_text(greatest(max))));
    ColumnStats { nulls: column.nulls, bounds }
}

/// `None` if the footer does not tell of all row groups how many nulls they have.
fn of_footer(field: &Field, schema: &SchemaRef, footer: &ParquetMetaData) -> Option<ColumnStats> {
    let converter = StatisticsConverter::try_new(field.name(), schema, footer.file_metadata().schema_descr()).ok()?;
    // What is not told counts as no null, and so would say that there is none.
    let converter = converter.with_missing_null_counts_as_zero(false);
    let groups = footer.row_groups();
    let by_group = converter.row_group_null_counts(groups).ok()?;
    if by_group.null_count() > 0 {
        return None;
    }
    let nulls = by_group.iter().flatten().sum();
    let of_groups = || Some((converter.row_group_mins(groups).ok()?, converter.row_group_maxes(groups).ok()?));
    let Some((mins, maxes)) = of_groups() else { return Some(ColumnStats { nulls, bounds: None }) };
    // A row group of nulls alone has no bounds and needs none; one with values but without bounds voids both.
    let unknown = groups.iter().enumerate().any(|(i, group)| {
        let all_null = Ok(by_group.value(i)) == u64::try_from(group.num_rows());
        !all_null && (mins.is_null(i) || maxes.is_null(i))
    });
    let bounds = || Some((bound(field, &mins, Side::Min)?, bound(field, &maxes, Side::Max)?));
    Some(ColumnStats { nulls, bounds: if unknown { None } else { bounds() } })
}

/// True for the types of which Delta readers expect bounds.
fn is_compared(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null)
}

/// A JSON object of values that are JSON text already: decimals keep all their digits that way.
fn object(entries: &BTreeMap<String, String>) -> String {
    let fields: Vec<String> =
        entries.iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name.as_str()))).collect();
    format!("{{{}}}", fields.join(","))
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Min,
    Max,
}

fn bound(field: &Field, values: &ArrayRef, side: Side) -> Option<String> {
    match field.data_type() {
        DataType::Boolean => {
            let flags: Vec<bool> = values.as_boolean().iter().flatten().collect();
            Some(if side == Side::Min { flags.iter().all(|f| *f) } else { flags.iter().any(|f| *f) }.to_string())
                .filter(|_| !flags.is_empty())
        }
        DataType::Int8 => integer::<Int8Type>(values, side),
        DataType::Int16 => integer::<Int16Type>(values, side),
        DataType::Int32 => integer::<Int32Type>(values, side),
        DataType::Int64 => integer::<Int64Type>(values, side),
        DataType::Decimal128(_, scale) => {
            let scale = u32::try_from(*scale).ok()?;
            extreme(values.as_primitive::<Decimal128Type>().iter(), side).map(|v| decimal_text(v, scale))
        }
        DataType::Date32 => {
            let days = extreme(values.as_primitive::<Date32Type>().iter(), side)?;
            let date = chrono::NaiveDate::from_num_days_from_ce_opt(days.checked_add(719_163)?)?;
            plain_year(chrono::Datelike::year(&date)).then(|| quoted(&date.format("%Y-%m-%d").to_string()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = extreme(values.as_primitive::<TimestampMicrosecondType>().iter(), side)?;
            timestamp_text(micros, side, zone.is_some())
        }
        DataType::Utf8 => {
            let texts = values.as_string_opt::<i32>()?.iter().flatten();
            let text = if side == Side::Min { texts.min() } else { texts.max() }?;
            (text.len() <= STRING_BOUND_BYTES_MAX).then(|| quoted(text))
        }
        _ => None,
    }
}

fn integer<T: ArrowPrimitiveType<Native: Ord + ToString>>(values: &ArrayRef, side: Side) -> Option<String> {
    extreme(values.as_primitive::<T>().iter(), side).map(|value| value.to_string())
}

/// All the digits that a finite double takes.
fn float_text(value: f64) -> String {
    format!("{value:?}")
}

fn extreme<T: Ord>(values: impl Iterator<Item = Option<T>>, side: Side) -> Option<T> {
    if side == Side::Min { values.flatten().min() } else { values.flatten().max() }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `-12345` with scale 2 is `-123.45`.
fn decimal_text(value: i128, scale: u32) -> String {
    if scale == 0 {
        return value.to_string();
    }
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

/// ISO text with milliseconds; a maximum is rounded up to the next one.
fn timestamp_text(micros: i64, side: Side, utc: bool) -> Option<String> {
    let mut millis = micros.div_euclid(1_000);
    if side == Side::Max && micros.rem_euclid(1_000) != 0 {
        millis = millis.checked_add(1)?;
    }
    let time = chrono::DateTime::from_timestamp_millis(millis)?;
    let text = time.format(if utc { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.3f" }).to_string();
    plain_year(chrono::Datelike::year(&time)).then(|| quoted(&text))
}

/// True for the years that all readers parse: beyond 9999 the text is signed, and Python knows no year 0.
fn plain_year(year: i32) -> bool {
    (1..=9999).contains(&year)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::compute::cast;
    use parquet::arrow::ArrowWriter;
    use serde_json::{Value, json};

    use super::*;

    /// The statistics of a file with these columns, in two row groups.
    fn stats(columns: Vec<(&str, ArrayRef)>) -> Value {
        let rows =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
        let rows = rows.unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        let mut floats = Floats::default();
        for part in [rows.slice(0, 2), rows.slice(2, rows.num_rows() - 2)] {
            floats.take(&part).unwrap();
            writer.write(&part).unwrap();
            writer.flush().unwrap();
        }
        let footer = writer.finish().unwrap();
        serde_json::from_str(&delta_stats(&rows.schema(), &footer, &floats)).unwrap()
    }

    #[test]
    fn every_storable_type_of_one_value_has_bounds() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(-100), Some(100)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("2019-07-01T00:00:00.000001"),
            None,
            Some("0001-01-01T00:00:00"),
            Some("9999-12-31T23:59:59"),
        ]));
        let (utc, local) = ("\"0001-01-01T00:00:00.000Z\"", "\"0001-01-01T00:00:00.000\"");
        let (utc_max, local_max) = ("\"9999-12-31T23:59:59.000Z\"", "\"9999-12-31T23:59:59.000\"");
        for (data_type, from, min, max) in [
            (DataType::Boolean, &numbers, "true", "true"),
            (DataType::Int8, &numbers, "-100", "100"),
            (DataType::Int16, &numbers, "-100", "100"),
            (DataType::Int32, &numbers, "-100", "100"),
            (DataType::Int64, &numbers, "-100", "100"),
            (DataType::Float32, &numbers, "-100.0", "100.0"),
            (DataType::Float64, &numbers, "-100.0", "100.0"),
            (DataType::Decimal128(5, 1), &numbers, "-100.0", "100.0"),
            (DataType::Decimal128(38, 2), &numbers, "-100.0", "100.0"),
            (DataType::Utf8, &numbers, "\"-100\"", "\"7\""),
            (DataType::Date32, &texts, "\"0001-01-01\"", "\"9999-12-31\""),
            (DataType::Timestamp(TimeUnit::Microsecond, None), &texts, local, local_max),
            (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), &texts, utc, utc_max),
        ] {
            let stats = stats(vec![("c", cast(from, &data_type).unwrap())]);
            let bounds = (stats["minValues"]["c"].to_string(), stats["maxValues"]["c"].to_string());
            assert_eq!(bounds, (min.to_owned(), max.to_owned()), "{data_type}");
            assert_eq!((&stats["nullCount"]["c"], &stats["numRecords"]), (&json!(1), &json!(4)), "{data_type}");
        }
        let binary = stats(vec![("c", cast(&texts, &DataType::Binary).unwrap())]);
        assert_eq!((&binary["minValues"], &binary["nullCount"]["c"]), (&json!({}), &json!(1)));
    }

    #[test]
    fn a_file_with_a_bound_that_no_reader_could_take_tells_its_rows_alone() {
        let floats = |last: f32| -> ArrayRef { Arc::new(arrow::array::Float32Array::from(vec![0.1, 1.5, last])) };
        assert_eq!(stats(vec![("c", floats(2.5))])["minValues"]["c"], json!(f64::from(0.1_f32)));
        for odd in [f32::INFINITY, f32::NAN] {
            let others: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
            assert_eq!(stats(vec![("c", floats(odd)), ("d", others)]), json!({"numRecords": 3}));
        }
        let days = Arc::new(arrow::array::Date32Array::from(vec![0, 1, 9_999_999]));
        assert_eq!(stats(vec![("c", days)]), json!({"numRecords": 3}));
        let year_zero = Arc::new(arrow::array::Date32Array::from(vec![0, 1, -719_528]));
        assert_eq!(stats(vec![("c", year_zero)]), json!({"numRecords": 3}));
        let nothing: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![None, None, None]));
        let others: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let stats = stats(vec![("c", nothing), ("d", others)]);
        assert_eq!((&stats["nullCount"], &stats["minValues"]), (&json!({"c": 3, "d": 0}), &json!({"d": 1})));
    }

    #[test]
    fn a_nested_column_has_no_statistics() {
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let fields = vec![(Arc::new(Field::new("x", DataType::Int64, true)), Arc::clone(&inner))];
        let nested: ArrayRef = Arc::new(arrow::array::StructArray::from(fields));
        let stats = stats(vec![("s", nested), ("c", inner)]);
        assert_eq!((&stats["nullCount"], &stats["minValues"]), (&json!({"c": 1}), &json!({"c": 1})));
    }

    #[test]
    fn decimals_keep_their_digits_and_sign() {
        assert_eq!(decimal_text(-12_345, 2), "-123.45");
        assert_eq!(decimal_text(-5, 2), "-0.05");
        assert_eq!(decimal_text(7, 0), "7");
        assert_eq!(decimal_text(i128::from(u64::MAX) * 10, 1), "18446744073709551615.0");
    }

    #[test]
    fn a_timestamp_maximum_is_rounded_up_and_a_minimum_down() {
        assert_eq!(timestamp_text(1_500, Side::Max, true).as_deref(), Some("\"1970-01-01T00:00:00.002Z\""));
        assert_eq!(timestamp_text(1_500, Side::Min, false).as_deref(), Some("\"1970-01-01T00:00:00.001\""));
        assert_eq!(timestamp_text(-1, Side::Min, false).as_deref(), Some("\"1969-12-31T23:59:59.999\""));
        assert_eq!(timestamp_text(i64::MAX, Side::Max, false), None);
    }
}
