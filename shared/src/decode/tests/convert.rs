//! Columns of columnar files as columns of the definition: each value arrives as it was, or refuses its record.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
    ListArray, MapBuilder, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type, TimeUnit};

use super::*;
use crate::decode::convert::convert;

/// Each value as text, `None` where it was refused or null.
fn texts(array: &ArrayRef) -> Vec<Option<String>> {
    let options = arrow::util::display::FormatOptions::default();
    let format = arrow::util::display::ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
    (0..array.len()).map(|row| array.is_valid(row).then(|| format.value(row).to_string())).collect()
}

fn decimals(values: Vec<i128>, precision: u8, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
}

#[test]
fn values_arrive_as_they_were_or_not_at_all() {
    let money = || DataType::Decimal128(9, 2);
    let cases: Vec<(ArrayRef, DataType, Vec<Option<&str>>)> = vec![
        // Rounding is the transform's.
        (
            Arc::new(Float64Array::from(vec![8.9, 1.005, 0.1 + 0.2, 1e7, -2.5, f64::NAN])),
            money(),
            vec![Some("8.90"), None, None, None, Some("-2.50"), None],
        ),
        (Arc::new(Float32Array::from(vec![8.9, 0.125])), money(), vec![Some("8.90"), None]),
        (decimals(vec![89_000, 89_001], 20, 4), money(), vec![Some("8.90"), None]),
        (Arc::new(Int64Array::from(vec![5, 10_000_000])), money(), vec![Some("5.00"), None]),
        (decimals(vec![500, 550], 9, 2), DataType::Int32, vec![Some("5"), None]),
        (Arc::new(UInt64Array::from(vec![7, u64::MAX])), DataType::Int64, vec![Some("7"), None]),
        (Arc::new(Int64Array::from(vec![0, 1, 5])), DataType::Boolean, vec![Some("false"), Some("true"), None]),
        (Arc::new(Float64Array::from(vec![1.0, 0.5])), DataType::Boolean, vec![Some("true"), None]),
        (Arc::new(BooleanArray::from(vec![true])), DataType::Int64, vec![Some("1")]),
        (Arc::new(Float64Array::from(vec![0.5, 1e300])), DataType::Float32, vec![Some("0.5"), None]),
        (
            Arc::new(Int64Array::from(vec![1 << 53, (1 << 53) + 1, i64::MAX])),
            DataType::Float64,
            vec![Some("9007199254740992.0"), None, None],
        ),
        (Arc::new(Int32Array::from(vec![1 << 24, (1 << 24) + 1])), DataType::Float32, vec![Some("16777216.0"), None]),
        (decimals(vec![12_345_678_901_234_567_899], 20, 2), DataType::Float64, vec![Some("1.2345678901234568e17")]),
        (
            Arc::new(TimestampNanosecondArray::from(vec![-1, 1_999])),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            vec![Some("1969-12-31T23:59:59.999999"), Some("1970-01-01T00:00:00.000001")],
        ),
        (Arc::new(TimestampMicrosecondArray::from(vec![0, 1])), DataType::Date32, vec![Some("1970-01-01"), None]),
        (Arc::new(StringArray::from(vec!["7", "x", "8.90"])), DataType::Int64, vec![Some("7"), None, None]),
    ];
    for (source, target, expected) in cases {
        let array = convert(&source, &target).unwrap();
        let found = texts(&array);
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        assert_eq!((array.data_type(), found), (&target, expected), "{} to {target}", source.data_type());
    }
}

#[test]
fn items_of_lists_follow_the_same_rules() {
    let rows = [Some(vec![Some(1.0), None]), Some(vec![Some(2.5)]), None, Some(vec![Some(3.0)]), Some(vec![])];
    let source: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows));
    let target = DataType::List(Arc::new(Field::new("element", DataType::Int32, true)));
    let array = convert(&source, &target).unwrap();
    assert_eq!(array.data_type(), &target);
    assert_eq!(texts(&array), [Some("[1, ]"), None, None, Some("[3]"), Some("[]")].map(|text| text.map(str::to_owned)));
    // A slice refers to a part of the items.
    let array = convert(&source.slice(3, 1), &target).unwrap();
    assert_eq!(array.as_list::<i32>().value(0).as_primitive::<arrow::datatypes::Int32Type>().values(), &[3]);
    // One value is no list.
    let one: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    assert_eq!(texts(&convert(&one, &target).unwrap()), [None]);
}

#[test]
fn fields_of_structs_are_found_by_name() {
    let fields = Fields::from(vec![Field::new("B", DataType::Float64, true), Field::new("a", DataType::Int64, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Float64Array::from(vec![1.0, 1.5])), Arc::new(Int64Array::from(vec![Some(7), None]))];
    let source: ArrayRef = Arc::new(StructArray::new(fields, columns, None));
    let wanted = |names: &[(&str, DataType)]| {
        let fields = names.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        DataType::Struct(fields.collect())
    };
    let target = wanted(&[("a", DataType::Int64), ("b", DataType::Int32), ("c", DataType::Utf8)]);
    let array = convert(&source, &target).unwrap();
    assert_eq!(array.data_type(), &target);
    assert_eq!(texts(&array), [Some("{a: 7, b: 1, c: }".to_owned()), None]);
}

#[test]
fn nested_values_are_json_in_a_text_column() {
    let lists: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]));
    assert_eq!(texts(&convert(&lists, &DataType::Utf8).unwrap()), [Some("[1,null]".to_owned()), None]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("k\"");
    maps.values().append_value("v");
    maps.append(true).unwrap();
    let maps: ArrayRef = Arc::new(maps.finish());
    assert_eq!(texts(&convert(&maps, &DataType::Utf8).unwrap()), [Some(r#"{"k\"":"v"}"#.to_owned())]);
}

#[test]
fn an_instant_is_no_local_time() {
    let instants: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"));
    assert_eq!(texts(&convert(&instants, &naive()).unwrap()), [None]);
    assert_eq!(texts(&convert(&instants, &instant()).unwrap()), [Some("1970-01-01T00:00:00Z".to_owned())]);
    let elsewhere = DataType::Timestamp(TimeUnit::Millisecond, Some("+02:00".into()));
    let elsewhere = arrow::compute::cast(&instants, &elsewhere).unwrap();
    assert_eq!(texts(&convert(&elsewhere, &instant()).unwrap()), [Some("1970-01-01T00:00:00Z".to_owned())]);
}
