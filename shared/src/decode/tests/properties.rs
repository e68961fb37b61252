use arrow::datatypes::DataType;
use proptest::prelude::*;

use super::*;

fn spec(multiline: bool) -> InputSpec {
    let types = [("id!", DataType::Int64), ("name", DataType::Utf8), ("at", naive()), ("x", DataType::Float64)];
    let options = CsvOptions { multiline, null_values: vec!["NA".to_owned()], ..CsvOptions::default() };
    InputSpec { format: Format::Csv(options), ..csv_spec(&types) }
}

/// Pieces of delimited text that matter, in any order.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => "[0-9]{1,3},[a-z]{0,4},2020-0[1-9]-1[0-9] 0[0-9]:00:00,[0-9]\\.[0-9]\n",
        3 => "[a-z0-9.,\"\r\n ]{0,12}",
        1 => Just("\r\n".to_owned()),
        1 => Just("1,\"a\nb\",,\n".to_owned()),
        1 => Just("1,\"a\"\"b\",NA,\n".to_owned()),
        1 => Just("1,é,,,,\n".to_owned()),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| format!("id,name,at,x\n{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn chunks_do_not_change_rows_and_rejects(text in text(), chunk_bytes in 1_usize..200, multiline: bool) {
        let spec = spec(multiline);
        let whole = decode(&spec, &text);
        let split = try_decode(&spec, text.as_bytes(), chunk_bytes).unwrap();
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn every_line_is_a_row_or_a_reject(text in text()) {
        let outcome = decode(&spec(false), &text);
        let records = text.split('\n').skip(1).filter(|line| !line.strip_suffix('\r').unwrap_or(line).trim_matches([' ', '\t']).is_empty());
        let records = records.count();
        prop_assert_eq!(outcome.rows.len() + outcome.rejects.len(), records);
        let mut positions: Vec<u64> = outcome.rows.iter().map(|(offset, _)| *offset).collect();
        positions.extend(outcome.rejects.iter().map(|reject| reject.offset));
        positions.sort_unstable();
        positions.dedup();
        prop_assert_eq!(positions.len(), records, "no position twice");
        for ((offset, _), raw) in outcome.rows.iter().zip(&outcome.raw) {
            prop_assert!(text[usize::try_from(*offset).unwrap()..].starts_with(raw.as_str()));
        }
    }

    #[test]
    fn json_is_what_serde_json_takes_for_an_object(
        tokens in prop::collection::vec(
            prop::sample::select(vec!["{", "}", "{", "}", "\"a\"", ":", "\"b\":", ",", "1", "[", "]", " ", "null", "-.5"]),
            1..8,
        )
    ) {
        let spec = json_spec(&[("a", DataType::Utf8)]);
        let text = tokens.concat();
        prop_assume!(!text.trim().is_empty());
        let object = serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| value.is_object());
        prop_assert_eq!(decode(&spec, format!("{text}\n")).rejects.is_empty(), object);
    }

    #[test]
    fn fields_are_split_at_every_delimiter_and_nowhere_else(text in "[,a\u{ac}\u{12c}.]{0,40}") {
        let quote = CsvOptions { header: false, ..CsvOptions::default() };
        let fields: Vec<&str> = text.split(',').collect();
        let names: Vec<String> = (0..fields.len()).map(|index| format!("c{index}")).collect();
        let types: Vec<(&str, DataType)> = names.iter().map(|name| (name.as_str(), DataType::Utf8)).collect();
        let outcome = decode(&InputSpec { format: Format::Csv(quote), ..csv_spec(&types) }, format!("{text}\n"));
        let object: serde_json::Map<_, _> = names.iter().zip(&fields).filter(|(_, field)| !field.is_empty())
            .map(|(name, field)| (name.clone(), serde_json::Value::from(*field))).collect();
        if text.is_empty() {
            prop_assert!(outcome.rows.is_empty());
        } else {
            let row: serde_json::Map<_, _> = serde_json::from_str(outcome.json()[0]).unwrap();
            prop_assert_eq!(row, object);
        }
    }

    #[test]
    fn plain_numbers_are_rounded_as_rust_rounds_them(text in "-?[0-9]{0,12}\\.?[0-9]{0,12}") {
        let expected = text.parse::<f64>().ok().map(f64::to_bits);
        prop_assert_eq!(crate::decode::values::float64(text.as_bytes()).map(f64::to_bits), expected);
    }

    #[test]
    fn values_that_are_written_are_read_back(int: i64, float: f64, cents in -999_999_999_i64..999_999_999) {
        prop_assert_eq!(crate::decode::values::int64(int.to_string().as_bytes()), Some(int));
        if float.is_finite() {
            let text = float.to_string();
            prop_assert_eq!(crate::decode::values::float64(text.as_bytes()).map(f64::to_bits), Some(float.to_bits()));
        }
        let text = format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
        prop_assert_eq!(crate::decode::values::decimal(text.as_bytes(), 9, 2), Some(i128::from(cents)));
    }
}
