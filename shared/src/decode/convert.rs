//! Arrow arrays → arrays of a column's type, value by value: each arrives as it was, or is null, which makes its record a
//! reject. Nothing is rounded, cut, wrapped or guessed on the way; floats alone stay the approximations that they are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options, not, nullif};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float32Type, Float64Type, TimeUnit};
use arrow::datatypes::{TimestampMicrosecondType, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::util::display::FormatOptions;

use super::columns::{ColumnBuilder, Refused};
use super::header::normalized;

const STRICT: CastOptions<'_> = CastOptions { safe: false, format_options: FormatOptions::new() };
const SAFE: CastOptions<'_> = CastOptions { safe: true, format_options: FormatOptions::new() };

/// Rows that have a value in `source` and none in `array`.
pub(crate) fn lost_rows(source: &ArrayRef, array: &ArrayRef) -> Vec<usize> {
    if array.logical_null_count() == source.logical_null_count() {
        return Vec::new();
    }
    let (before, after) = (source.logical_nulls(), array.logical_nulls());
    let null = |nulls: &Option<NullBuffer>, row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    (0..array.len()).filter(|row| null(&after, *row) && !null(&before, *row)).collect()
}

/// `source` as `target`, null where a value can't be held.
pub(crate) fn convert(source: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    let from = source.data_type();
    if from == target {
        return Ok(Arc::clone(source));
    }
    let refused = || Ok(new_null_array(target, source.len()));
    match (from, target) {
        (DataType::Dictionary(_, values), _) => convert(&cast_with_options(source, values, &STRICT)?, target),
        (DataType::LargeUtf8 | DataType::Utf8View, _) => {
            convert(&cast_with_options(source, &DataType::Utf8, &STRICT)?, target)
        }
        (DataType::Utf8, DataType::Utf8 | DataType::Binary) => cast_with_options(source, target, &SAFE),
        (DataType::Utf8, _) if !target.is_nested() => from_text(source, target),
        (DataType::LargeList(item) | DataType::FixedSizeList(item, _), DataType::List(_)) => {
            convert(&cast_with_options(source, &DataType::List(Arc::clone(item)), &STRICT)?, target)
        }
        (DataType::List(_), DataType::List(item)) => list(source.as_list(), item),
        (DataType::Struct(_), DataType::Struct(fields)) => structure(source.as_struct(), fields),
        (_, DataType::Utf8) if from.is_nested() => to_json(source),
        _ if from.is_nested() || target.is_nested() => refused(),
        // A number has no unit that would make it a time, and an instant no zone that would make it a local one.
        _ if from.is_integer() && target.is_temporal() || from.is_temporal() && target.is_numeric() => refused(),
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)) => refused(),
        (DataType::Float64, DataType::Float32) => Ok(narrow_floats(source)),
        // What a float stands for is its shortest text: 8.9, not the sum of powers of two next to it.
        _ if from.is_floating() && target.is_decimal() => {
            from_text(&cast_with_options(source, &DataType::Utf8, &SAFE)?, target)
        }
        _ if from.is_decimal() && target.is_floating() => {
            from_text(&cast_with_options(source, &DataType::Utf8, &SAFE)?, target)
        }
        (DataType::Timestamp(TimeUnit::Nanosecond, zone), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            convert(&whole_microseconds(source, zone.as_ref()), target)
        }
        _ => cast(source, target),
    }
}

/// Digits below the microsecond are cut as they are of a text: to the earlier one, before 1970 too.
fn whole_microseconds(source: &ArrayRef, zone: Option<&Arc<str>>) -> ArrayRef {
    let nanos = source.as_primitive::<TimestampNanosecondType>();
    let micros = nanos.unary::<_, TimestampMicrosecondType>(|nanos| nanos.div_euclid(1_000));
    Arc::new(micros.with_timezone_opt(zone.cloned()))
}

/// A cast, except where it changes the value: where it does not lead back to what it came from.
fn cast(source: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    let from = source.data_type();
    let Ok(array) = cast_with_options(source, target, &SAFE) else {
        // No cast between the two types: every value is one that can't be held.
        return Ok(new_null_array(target, source.len()));
    };
    let lossy = match target {
        DataType::Boolean => true,
        DataType::Date32 => from.is_temporal(),
        _ if target.is_integer() => from.is_floating() || from.is_decimal(),
        _ if target.is_floating() => from.is_integer(),
        _ => from.is_decimal() && target.is_decimal(),
    };
    if !lossy {
        return Ok(array);
    }
    let back = cast_with_options(&array, from, &SAFE)?;
    nullif(&array, &not(&not_distinct(&back, source)?)?)
}

/// Strings → any type, by the same rules as delimited text.
fn from_text(source: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    let texts = source.as_string::<i32>();
    let Some(mut column) = ColumnBuilder::new(target, texts.len()) else {
        return Ok(new_null_array(target, source.len()));
    };
    for text in texts {
        match text.map(|text| text.trim_ascii().as_bytes()) {
            Some(text) if column.push_text(text) == Err(Refused) => column.push_null(),
            Some(_) => {}
            None => column.push_null(),
        }
    }
    column.finish()
}

/// Doubles as floats, except those that would become infinite.
fn narrow_floats(source: &ArrayRef) -> ArrayRef {
    let narrow = |wide: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "a float column holds approximations")]
        let narrow = wide as f32;
        (narrow.is_finite() || !wide.is_finite()).then_some(narrow)
    };
    Arc::new(source.as_primitive::<Float64Type>().unary_opt::<_, Float32Type>(narrow))
}

/// Lists are converted whole or not at all.
fn list(source: &ListArray, item: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let items = convert(source.values(), item.data_type())?;
    let mut fits = vec![true; items.len()];
    lost_rows(source.values(), &items).into_iter().for_each(|index| fits[index] = false);
    let whole = |ends: &[i32]| {
        let range = usize::try_from(ends[0]).ok().zip(usize::try_from(ends[1]).ok());
        range.and_then(|(start, end)| fits.get(start..end)).is_some_and(|items| items.iter().all(|fits| *fits))
    };
    let whole: Vec<bool> = source.offsets().windows(2).map(whole).collect();
    let nulls = NullBuffer::union(Some(&NullBuffer::from(whole)), source.nulls());
    let array = ListArray::try_new(Arc::clone(item), source.offsets().clone(), items, nulls);
    // It can fail where items may not be null, which no definition says.
    Ok(array.map_or_else(|_| new_null_array(&DataType::List(Arc::clone(item)), source.len()), |a| Arc::new(a) as _))
}

/// Structs are converted whole or not at all, their fields found by name. A field that the source lacks is null.
fn structure(source: &StructArray, fields: &Fields) -> Result<ArrayRef, ArrowError> {
    let mut columns = Vec::with_capacity(fields.len());
    let mut fits = vec![true; source.len()];
    for field in fields {
        let wanted = normalized(field.name());
        let mut found = (0..source.num_columns()).filter(|at| normalized(source.fields()[*at].name()) == wanted);
        let (first, second) = (found.next(), found.next());
        let mut column = new_null_array(field.data_type(), source.len());
        if let Some(theirs) = first.map(|at| source.column(at)) {
            column = convert(theirs, field.data_type())?;
            lost_rows(theirs, &column).into_iter().for_each(|row| fits[row] = false);
        }
        if second.is_some() {
            // Of two fields by one name nobody knows which is meant.
            fits.fill(false);
        }
        columns.push(column);
    }
    let nulls = NullBuffer::union(Some(&NullBuffer::from(fits)), source.nulls());
    let array = StructArray::try_new_with_length(fields.clone(), columns, nulls, source.len());
    Ok(array.map_or_else(|_| new_null_array(&DataType::Struct(fields.clone()), source.len()), |a| Arc::new(a) as _))
}

/// Nested values as JSON text.
fn to_json(source: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("value", source.data_type().clone(), true));
    let options = EncoderOptions::default();
    let Ok(mut encoder) = make_encoder(&field, source.as_ref(), &options) else {
        return Ok(new_null_array(&DataType::Utf8, source.len()));
    };
    let mut texts = ColumnBuilder::new(&DataType::Utf8, source.len()).expect("text decodes to text");
    let mut json = Vec::new();
    for row in 0..source.len() {
        json.clear();
        if encoder.is_null(row) {
            texts.push_null();
            continue;
        }
        encoder.encode(row, &mut json);
        if std::str::from_utf8(&json).is_err() || texts.push_text(&json) == Err(Refused) {
            texts.push_null();
        }
    }
    texts.finish()
}
