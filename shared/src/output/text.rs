//! Values as text, every one of them: where a calendar library ends, years go on with a sign and more digits, and what has no
//! form at all is its number.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::json;

/// What Arrow writes for a duration that the calendar library does not hold.
const INVALID: &str = "<invalid>";
const SECONDS_PER_DAY: i64 = 86_400;

/// The values of `array` as texts (string views); lists, structs and the like as JSON.
///
/// # Errors
/// A type that has no text at all.
pub fn texts(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(array, &DataType::Utf8View),
        nested if nested.is_nested() => {
            let cells = json::cells(array)?;
            let mut texts = StringViewBuilder::with_capacity(array.len());
            let mut buffer = Vec::new();
            for row in 0..array.len() {
                buffer.clear();
                cells(&mut buffer, row);
                let text = std::str::from_utf8(&buffer).expect("JSON is UTF-8");
                texts.append_option(array.is_valid(row).then_some(text));
            }
            Ok(Arc::new(texts.finish()))
        }
        _ => formatted(array),
    }
}

fn formatted(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    // A zone that nobody knows is no reason to have no text.
    let formatter = ArrayFormatter::try_new(array, &options).ok();
    let mut texts = StringViewBuilder::with_capacity(array.len());
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        let known = formatter.as_ref().and_then(|formatter| formatter.value(row).try_to_string().ok());
        match known.filter(|text| text != INVALID) {
            Some(text) => texts.append_value(text),
            None => texts.append_value(beyond(array, row)?),
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// The text of a value that the calendar library does not hold.
fn beyond(array: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let number = cast(&array.slice(row, 1), &DataType::Int64)?;
    let number = number.as_primitive::<Int64Type>().value(0);
    Ok(match array.data_type() {
        DataType::Date32 => date(number),
        DataType::Date64 => moment(number, TimeUnit::Millisecond),
        DataType::Timestamp(unit, None) => moment(number, *unit),
        DataType::Timestamp(unit, Some(_)) => moment(number, *unit) + "Z",
        DataType::Duration(unit) => {
            let (seconds, fraction) = parts(number.unsigned_abs().into(), *unit);
            format!("{}PT{seconds}{fraction}S", if number < 0 { "-" } else { "" })
        }
        _ => number.to_string(),
    })
}

fn per_second(unit: TimeUnit) -> (i128, usize) {
    match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    }
}

/// Whole seconds, and `.123` where there is more.
fn parts(number: i128, unit: TimeUnit) -> (i128, String) {
    let (per_second, digits) = per_second(unit);
    let fraction = match number.rem_euclid(per_second) {
        0 => String::new(),
        rest => format!(".{rest:0digits$}"),
    };
    (number.div_euclid(per_second), fraction)
}

fn moment(number: i64, unit: TimeUnit) -> String {
    let (seconds, fraction) = parts(number.into(), unit);
    let seconds = i64::try_from(seconds).expect("no more than there were units");
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hours, minutes, seconds_left) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{}T{hours:02}:{minutes:02}:{seconds_left:02}{fraction}", date(seconds.div_euclid(SECONDS_PER_DAY)))
}

/// The date of a day since 1970, in the Gregorian calendar without end.
fn date(days: i64) -> String {
    // Years begin in March here, so that a leap day is the last one; eras are of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        0..=9_999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Date64Array, DurationSecondArray, Time32SecondArray, TimestampMicrosecondArray,
        TimestampSecondArray,
    };

    use super::*;

    fn all(array: impl Array + 'static) -> Vec<Option<String>> {
        let texts = texts(&(Arc::new(array) as ArrayRef)).expect("every value has a text");
        texts.as_string_view().iter().map(|text| text.map(str::to_owned)).collect()
    }

    fn first(array: impl Array + 'static) -> String {
        all(array).swap_remove(0).expect("not null")
    }

    #[test]
    fn a_calendar_goes_on_where_the_library_s_ends() {
        let dates = Date32Array::from(vec![Some(0), None, Some(i32::MAX), Some(i32::MIN), Some(2_932_897)]);
        let wanted = [Some("1970-01-01"), None, Some("+5881580-07-11"), Some("-5877641-06-23"), Some("+10000-01-01")];
        assert_eq!(all(dates), wanted.map(|text| text.map(str::to_owned)));
        assert_eq!(first(TimestampSecondArray::from(vec![i64::MAX])), "+292277026596-12-04T15:30:07");
        let utc = TimestampSecondArray::from(vec![i64::MIN]).with_timezone("Europe/Berlin");
        assert_eq!(first(utc), "-292277022657-01-27T08:29:52Z");
        let micros = TimestampMicrosecondArray::from(vec![i64::MAX]);
        assert_eq!(first(micros), "+294247-01-10T04:00:54.775807");
        assert!(first(Date64Array::from(vec![i64::MAX])).starts_with("+292278994-08-17T07:12:55.807"));
        assert_eq!(first(DurationSecondArray::from(vec![i64::MAX])), "PT9223372036854775807S");
        assert_eq!(first(DurationSecondArray::from(vec![i64::MIN])), "-PT9223372036854775808S");
        assert_eq!(first(Time32SecondArray::from(vec![-1])), "-1");
    }

    #[test]
    fn both_calendars_are_one() {
        for days in (-800_000..2_900_000).step_by(997) {
            let known = first(Date32Array::from(vec![days]));
            assert_eq!(date(i64::from(days)), known, "day {days}");
        }
    }
}
