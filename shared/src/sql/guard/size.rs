//! How much a function would make, by its arguments.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::compute::kernels::length::length;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use super::join;

/// Bytes of a text's place in an array, whatever its length.
const TEXT_BYTES: u128 = 16;
/// Bytes of a number or moment as text, at most.
const NUMBER_TEXT_BYTES: u128 = 48;
/// Bytes that one letter of a format can become: the full name of a weekday or month, a moment in full.
const FORMAT_BYTES: u128 = 40;
/// Bytes of a character, at most.
const CHARACTER_BYTES: u128 = 4;

const NANOS_PER_HOUR: i128 = 3_600_000_000_000;

/// What the size of a result follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// All arguments, one behind the other.
    Sum,
    /// The same, with the first between the others.
    Separated,
    /// The first, as often as the second says; of texts or of elements.
    Repeat,
    /// As many characters as the second says.
    Pad,
    /// As many elements as the second says.
    Resize,
    /// A series of numbers or moments.
    Series,
    /// The third for each place of the second in the first.
    Replace,
    /// The third, with parts of the first in it, for each match in the first.
    Pattern,
    /// The second between the elements of the first.
    Elements,
    /// The third for elements of the first.
    ReplaceElements,
    /// A moment in the form that the second says.
    Format,
}

impl Growth {
    /// The growth of the functions that can make more than they are given.
    pub(super) fn of(function: &str) -> Option<Self> {
        Some(match function {
            "concat"
            | "encode"
            | "overlay"
            | "make_array"
            | "array_append"
            | "array_prepend"
            | "array_concat"
            | join::NAME => Self::Sum,
            "concat_ws" => Self::Separated,
            "repeat" | "array_repeat" => Self::Repeat,
            "lpad" | "rpad" => Self::Pad,
            "array_resize" => Self::Resize,
            "range" | "generate_series" => Self::Series,
            "replace" => Self::Replace,
            "regexp_replace" => Self::Pattern,
            "array_to_string" => Self::Elements,
            "array_replace" | "array_replace_n" | "array_replace_all" => Self::ReplaceElements,
            "to_char" => Self::Format,
            _ => return None,
        })
    }

    /// True if results can be much smaller than the arguments allow.
    pub(super) fn is_a_bound(self) -> bool {
        matches!(self, Self::Replace | Self::Pattern | Self::Elements | Self::ReplaceElements | Self::Format)
    }
}

/// An argument: a column, or one value for all rows.
pub(super) struct Argument {
    array: ArrayRef,
    is_column: bool,
}

impl Argument {
    pub(super) fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self { array: Arc::clone(array), is_column: true },
            ColumnarValue::Scalar(scalar) => Self { array: scalar.to_array()?, is_column: false },
        })
    }

    fn place(&self, row: usize) -> usize {
        if self.is_column { row } else { 0 }
    }

    /// Bytes of all of it, if it stands in each of `rows`.
    fn total(&self, rows: usize) -> u128 {
        bytes(&self.array) * if self.is_column { 1 } else { rows as u128 }
    }

    /// Per row, the bytes of a text, or the number of a list's elements.
    fn lengths(&self) -> Numbers {
        let lengths = length(self.array.as_ref()).and_then(|lengths| cast(&lengths, &DataType::Int64));
        Numbers { array: lengths.ok(), is_column: self.is_column, scale: 1 }
    }

    /// Per row, a number.
    fn numbers(&self) -> Numbers {
        Numbers { array: cast(&self.array, &DataType::Int64).ok(), is_column: self.is_column, scale: 1 }
    }

    /// Per row, a number as it is, a date or a moment in nanoseconds.
    fn moments(&self) -> Numbers {
        let scale = match self.array.data_type() {
            DataType::Date32 => 24 * NANOS_PER_HOUR,
            DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
            DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            _ => 1,
        };
        Numbers { scale, ..self.numbers() }
    }

    /// Bytes of one row's value.
    fn of_row(&self, row: usize, lengths: &Numbers) -> u128 {
        let place = self.place(row);
        match self.array.data_type() {
            kind if is_text(kind) => lengths.at(row) + TEXT_BYTES,
            kind => kind.primitive_width().map_or_else(|| bytes(&self.array.slice(place, 1)), |width| width as u128),
        }
    }
}

/// Numbers of rows; null and what is below zero count as 0.
struct Numbers {
    array: Option<ArrayRef>,
    is_column: bool,
    /// What a number stands for.
    scale: i128,
}

impl Numbers {
    fn signed(&self, row: usize) -> Option<i128> {
        let place = if self.is_column { row } else { 0 };
        let numbers = self.array.as_ref()?.as_primitive_opt::<Int64Type>()?;
        numbers.is_valid(place).then(|| i128::from(numbers.value(place)) * self.scale)
    }

    fn at(&self, row: usize) -> u128 {
        self.signed(row).and_then(|number| u128::try_from(number).ok()).unwrap_or(0)
    }
}

fn is_text(kind: &DataType) -> bool {
    kind.is_string() || kind.is_binary()
}

fn is_deep(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_nested()
        }
        _ => true,
    }
}

/// Bytes of the values of `array`, and of what tells where they are.
pub(super) fn bytes(array: &ArrayRef) -> u128 {
    let rows = array.len() as u128;
    match array.data_type() {
        DataType::Null => 0,
        DataType::FixedSizeBinary(width) => rows * u128::try_from(*width).unwrap_or(0),
        kind if is_text(kind) => {
            let lengths = Argument { array: Arc::clone(array), is_column: true }.lengths();
            (0..array.len()).map(|row| lengths.at(row)).sum::<u128>() + rows * TEXT_BYTES
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, last) = (list.value_offsets()[0], list.value_offsets()[array.len()]);
            bytes(&list.values().slice(first as usize, (last - first) as usize)) + rows * 4
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes).sum(),
        kind => {
            kind.primitive_width().map_or_else(|| array.get_array_memory_size() as u128, |width| rows * width as u128)
        }
    }
}

/// Bytes that a function makes of `args` in `rows` rows, at most; counted until they are more than `enough`.
pub(super) fn bytes_of(growth: Growth, args: &[Argument], rows: usize, enough: u128) -> u128 {
    let sum = |args: &[Argument]| args.iter().fold(0_u128, |sum, arg| sum.saturating_add(arg.total(rows)));
    match (growth, args) {
        (Growth::Separated, [separator, others @ ..]) => {
            sum(others).saturating_add(separator.total(rows).saturating_mul(others.len() as u128))
        }
        (Growth::Series, _) => series(args, rows, enough),
        (Growth::Sum | Growth::Separated, _) | (_, [] | [_]) => sum(args),
        (_, [first, second, others @ ..]) => {
            let of_row = row_of(growth, first, second, others.first());
            let mut total = 0_u128;
            for row in 0..rows {
                total = total.saturating_add(of_row(row));
                if total > enough {
                    break;
                }
            }
            total
        }
    }
}

/// Bytes of one row's result.
fn row_of<'a>(
    growth: Growth,
    first: &'a Argument,
    second: &'a Argument,
    third: Option<&'a Argument>,
) -> Box<dyn Fn(usize) -> u128 + 'a> {
    let lengths = first.lengths();
    let size = move |row: usize| first.of_row(row, &lengths);
    let (lengths, numbers) = (second.lengths(), second.numbers());
    let of_third = third.map(|third| (third, third.lengths()));
    let third = move |row: usize, missing: u128| {
        of_third.as_ref().map_or(missing, |(third, lengths)| third.of_row(row, lengths))
    };
    let own = first.lengths();
    match growth {
        Growth::Repeat => Box::new(move |row| size(row).saturating_mul(numbers.at(row))),
        Growth::Pad => Box::new(move |row| numbers.at(row).saturating_mul(CHARACTER_BYTES) + TEXT_BYTES),
        Growth::Resize => Box::new(move |row| {
            let of_element = third(row, TEXT_BYTES).max(TEXT_BYTES);
            size(row).saturating_add(numbers.at(row).saturating_mul(of_element))
        }),
        Growth::Replace => Box::new(move |row| {
            let places = own.at(row) / lengths.at(row).max(1) + 1;
            size(row).saturating_add(places.saturating_mul(third(row, 0)))
        }),
        Growth::Pattern => Box::new(move |row| {
            let matches = own.at(row) + 1;
            size(row).saturating_add(matches.saturating_mul(third(row, 0)).saturating_mul(2))
        }),
        Growth::Elements => Box::new(move |row| {
            // Elements of elements are counted too, and none of them is smaller than a byte.
            let elements = if is_deep(first.array.data_type()) { size(row) } else { own.at(row) };
            let each = lengths.at(row) + NUMBER_TEXT_BYTES;
            size(row).saturating_add(elements.saturating_mul(each))
        }),
        Growth::ReplaceElements => {
            Box::new(move |row| size(row).saturating_add(own.at(row).saturating_mul(third(row, 0))))
        }
        Growth::Format => Box::new(move |row| lengths.at(row).saturating_mul(FORMAT_BYTES) + TEXT_BYTES),
        Growth::Sum | Growth::Separated | Growth::Series => Box::new(size),
    }
}

/// Bytes of `range(stop)`, `range(start, stop)` or `range(start, stop, step)`.
fn series(args: &[Argument], rows: usize, enough: u128) -> u128 {
    let (start, stop, step) = match args {
        [stop] => (None, stop.moments(), None),
        [start, stop, rest @ ..] => (Some(start.moments()), stop.moments(), rest.first()),
        [] => return 0,
    };
    let steps = step.map(|step| (step, step.numbers()));
    let mut total = 0_u128;
    for row in 0..rows {
        let Some(stop) = stop.signed(row) else { continue };
        let distance = stop - start.as_ref().and_then(|start| start.signed(row)).unwrap_or(0);
        let step = match &steps {
            None => Some(1),
            Some((step, numbers)) => step_of(step, row).unwrap_or_else(|| numbers.signed(row)),
        };
        let elements = match step {
            // The function itself refuses it, or gives null.
            None | Some(0) => 0,
            // Forwards and backwards at once: it may never arrive.
            Some(i128::MAX) => return u128::MAX,
            Some(step) if (step < 0) == (distance < 0) => distance.unsigned_abs() / step.unsigned_abs() + 1,
            Some(_) => 1,
        };
        total = total.saturating_add(elements.saturating_mul(8));
        if total > enough {
            break;
        }
    }
    total
}

/// The shortest that an interval can be, in nanoseconds; [`i128::MAX`] if it goes both ways. The outer `None`: no interval.
#[expect(clippy::option_option, reason = "whether it is an interval, and whether it is null")]
fn step_of(step: &Argument, row: usize) -> Option<Option<i128>> {
    if !matches!(step.array.data_type(), DataType::Interval(IntervalUnit::MonthDayNano)) {
        return None;
    }
    let intervals = step.array.as_primitive::<IntervalMonthDayNanoType>();
    let place = step.place(row);
    if intervals.is_null(place) {
        return Some(None);
    }
    let interval = intervals.value(place);
    let parts = [
        i128::from(interval.months) * 28 * 24 * NANOS_PER_HOUR,
        // A day has 23 hours where the clocks change.
        i128::from(interval.days) * 23 * NANOS_PER_HOUR,
        i128::from(interval.nanoseconds),
    ];
    let both_ways = parts.iter().any(|part| *part > 0) && parts.iter().any(|part| *part < 0);
    Some(Some(if both_ways { i128::MAX } else { parts.iter().sum() }))
}
