//! Values as whole numbers: microseconds of a time, days of a date, units of a decimal's last digit. What is searched of
//! such columns is rounded (milliseconds, the nearest float), and no sum and no least value could be made of it exactly.

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit};
use arrow::error::ArrowError;

/// Most digits of a decimal that a 64-bit number holds, whatever they are.
const DIGITS_MAX: u8 = 18;

/// True for types whose values are written as whole numbers beside what is searched of them.
pub(crate) fn has_whole(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32 => true,
        DataType::Decimal128(precision, _) => *precision <= DIGITS_MAX,
        _ => false,
    }
}

/// The values of a column of integers, or of such a type. What no 64-bit number holds is null.
pub(crate) fn values(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let numbers = match column.data_type() {
        DataType::Decimal128(..) => {
            let units = column.as_primitive::<Decimal128Type>();
            return Ok(units.iter().map(|units| i64::try_from(units?).ok()).collect());
        }
        DataType::Date32 => cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(column, &DataType::Int64)?,
    };
    Ok(numbers.as_primitive().clone())
}

/// The column of the given type that [`values`] makes such numbers of.
///
/// # Errors
/// [`ArrowError`] for a number that is no value of that type.
pub(crate) fn column(numbers: Vec<Option<i64>>, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(match data_type {
        DataType::Decimal128(precision, scale) => {
            let units: Decimal128Array = numbers.into_iter().map(|units| units.map(i128::from)).collect();
            std::sync::Arc::new(units.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Date32 => {
            let day =
                |day: i64| i32::try_from(day).map_err(|_| ArrowError::CastError(format!("there is no day {day}")));
            let days = numbers.into_iter().map(|number| number.map(day).transpose());
            std::sync::Arc::new(days.collect::<Result<Date32Array, _>>()?)
        }
        other => {
            let exact = arrow::compute::CastOptions { safe: false, ..Default::default() };
            arrow::compute::cast_with_options(&Int64Array::from(numbers), other, &exact)?
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int16Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn whole_numbers_are_the_values() {
        let all: [(ArrayRef, [Option<i64>; 3]); 4] = [
            (Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(7)])), [Some(-32_768), None, Some(7)]),
            (Arc::new(Date32Array::from(vec![Some(i32::MAX), None, Some(-1)])), [Some(2_147_483_647), None, Some(-1)]),
            (
                Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_001)]).with_timezone("UTC")),
                [Some(-1), None, Some(1_001)],
            ),
            (
                Arc::new(
                    Decimal128Array::from(vec![Some(-12_345), None, Some(1)]).with_precision_and_scale(18, 2).unwrap(),
                ),
                [Some(-12_345), None, Some(1)],
            ),
        ];
        for (held, wanted) in all {
            let numbers = values(&held).unwrap();
            assert_eq!(numbers.iter().collect::<Vec<_>>(), wanted, "{:?}", held.data_type());
            assert_eq!(&column(wanted.to_vec(), held.data_type()).unwrap(), &held);
        }
        assert!(column(vec![Some(40_000)], &DataType::Int16).is_err(), "a number that is no value of the type");
        assert!(column(vec![Some(i64::MAX)], &DataType::Date32).is_err());
    }

    #[test]
    fn what_no_number_holds_is_null() {
        let beyond: ArrayRef = Arc::new(Decimal128Array::from(vec![i128::MAX]));
        assert!(values(&beyond).unwrap().is_null(0));
        let cases = [
            (DataType::Decimal128(18, 4), true),
            (DataType::Decimal128(19, 4), false),
            (DataType::Timestamp(TimeUnit::Microsecond, None), true),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), false),
            (DataType::Int64, false),
        ];
        for (data_type, wanted) in cases {
            assert_eq!(has_whole(&data_type), wanted, "{data_type}");
        }
    }
}
