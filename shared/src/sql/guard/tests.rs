use std::time::Instant;

use arrow::array::{Date32Array, Int64Array, IntervalMonthDayNanoArray, StringArray};
use datafusion::common::ScalarValue;

use super::*;

fn text(text: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::from(text))
}

fn number(number: i64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::from(number))
}

fn column(array: impl arrow::array::Array + 'static) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(array))
}

fn interval(months: i32, days: i32, nanos: i64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::new_interval_mdn(months, days, nanos))
}

fn day(day: i32) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Date32(Some(day)))
}

fn bytes(function: &str, args: &[ColumnarValue], rows: usize) -> u128 {
    let args: Vec<_> = args.iter().map(|arg| Argument::new(arg).expect("an array")).collect();
    bytes_of(Growth::of(function).expect("guarded"), &args, rows, u128::MAX)
}

#[test]
fn results_are_at_most_as_large_as_is_told() {
    let two = || column(StringArray::from(vec![Some("abc"), None]));
    let cases = [
        (bytes("repeat", &[text("abc"), number(1_000)], 1), 3_000..=19_000),
        (bytes("repeat", &[text("abc"), number(-5)], 1), 0..=0),
        (bytes("repeat", &[two(), column(Int64Array::from(vec![100, 200]))], 2), 300..=6_000),
        (bytes("array_repeat", &[number(1), number(1_000)], 1), 8_000..=8_000),
        (bytes("lpad", &[text("abc"), number(1_000)], 1), 1_000..=4_016),
        (bytes("concat", &[two(), text("1234567890")], 2), 23..=120),
        (bytes("concat_ws", &[text("1234567890"), two(), two(), two()], 2), 49..=400),
        (bytes("range", &[number(1_000)], 1), 8_000..=8_008),
        (bytes("range", &[number(0), number(1_000), number(10)], 1), 800..=808),
        (bytes("range", &[number(0), number(1_000), number(-10)], 1), 8..=8),
        (bytes("range", &[number(i64::MIN), number(i64::MAX)], 1), 1 << 66..=1 << 68),
        (bytes("generate_series", &[day(0), day(100), interval(0, 1, 0)], 1), 800..=880),
        (bytes("generate_series", &[day(i32::MIN), day(i32::MAX), interval(0, 1, 0)], 1), 1 << 34..=1 << 36),
        (bytes("generate_series", &[day(0), day(100), interval(1, -31, 0)], 1), u128::MAX..=u128::MAX),
        (bytes("replace", &[text("abab"), text("a"), text("1234567890")], 1), 24..=200),
        (bytes("regexp_replace", &[text("abab"), text("[ab]"), text("1234567890")], 1), 44..=400),
        (bytes("to_char", &[day(0), text("%A")], 1), 9..=200),
    ];
    for (index, (told, wanted)) in cases.into_iter().enumerate() {
        assert!(wanted.contains(&told), "case {index}: {told}, not in {wanted:?}");
    }
    let nulls = column(IntervalMonthDayNanoArray::from(vec![None, None]));
    let days = || column(Date32Array::from(vec![Some(1), None]));
    assert_eq!(bytes("range", &[days(), days(), nulls], 2), 0);
}

#[test]
fn what_is_too_much_is_refused_before_it_is_made() {
    let watch = Arc::new(Watch::new(Instant::now(), None, 1 << 20));
    let repeat = guarded(&datafusion::functions::string::repeat(), &watch).expect("it is guarded");
    assert!(guarded(&repeat, &watch).is_none(), "once is enough");
    let call = |times: ColumnarValue, rows: usize| {
        let field = |name, kind| Arc::new(arrow::datatypes::Field::new(name, kind, true));
        repeat.invoke_with_args(ScalarFunctionArgs {
            args: vec![text("x"), times],
            arg_fields: vec![field("text", DataType::Utf8), field("times", DataType::Int64)],
            number_rows: rows,
            return_field: field("repeat", DataType::Utf8),
            config_options: Arc::default(),
        })
    };
    let begun = Instant::now();
    let refused = |made: Result<ColumnarValue>| Refusal::of(&made.expect_err("too much")).cloned();
    let too_much = Some(Refusal::Value { function: "repeat".to_owned(), bytes_max: 1 << 20 });
    assert_eq!(refused(call(number(i64::from(i32::MAX)), 1)), too_much);
    assert_eq!(refused(call(column(Int64Array::from(vec![1 << 40, 1])), 2)), too_much);
    // Two halves of what constants may have, and a little.
    assert!(call(number(60_000), 1).is_ok());
    let all: Vec<_> = (0..20).map(|_| call(number(60_000), 1)).collect();
    assert!(all.into_iter().any(|made| made.is_err()), "constants add up");
    assert!(begun.elapsed().as_secs() < 5);
}
