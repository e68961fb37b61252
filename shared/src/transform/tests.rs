use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use bytes::Bytes;

use super::plan::plan_transform;
use super::*;
use crate::dataset::{Sources, parse};
use crate::decode::RawRecords;

fn schema() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("text", DataType::Utf8),
        field("amount", DataType::Float64),
        field("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ]))
}

#[test]
fn what_is_not_per_record_and_deterministic_is_refused_by_name() {
    for (sql, wanted) in [
        ("SELECT count(*) AS n FROM input", "`count(*)` is refused: an aggregate"),
        ("SELECT id, sum(amount) AS s FROM input GROUP BY id", "GROUP BY is refused"),
        ("SELECT row_number() OVER (ORDER BY id) AS n FROM input", "is refused: a window function"),
        ("SELECT sum(id) OVER () AS n FROM input", "`sum(id) OVER ()` is refused: a window function"),
        ("SELECT DISTINCT id FROM input", "DISTINCT is refused"),
        ("SELECT id FROM input ORDER BY id", "`ORDER BY id` is refused"),
        ("SELECT id FROM input LIMIT 1", "`LIMIT 1` is refused"),
        ("SELECT id FROM input FETCH FIRST 1 ROW ONLY", "`FETCH FIRST 1 ROWS ONLY` is refused"),
        ("SELECT id FROM input UNION ALL SELECT id FROM input", "UNION is not per record"),
        ("SELECT id FROM input EXCEPT SELECT id FROM input", "EXCEPT is not per record"),
        (
            "SELECT input.id FROM input JOIN input AS o ON input.id = o.id",
            "`JOIN input AS o ON input.id = o.id` is refused",
        ),
        ("SELECT 1 AS a FROM input, input AS o", "a join of several tables is refused"),
        ("SELECT id FROM trips", "FROM `trips` is refused"),
        ("SELECT id FROM (SELECT id FROM input) AS x", "FROM `(SELECT id FROM input) AS x` is refused"),
        ("SELECT 1 AS a", "there is no FROM input"),
        ("WITH x AS (SELECT id FROM input) SELECT id FROM x", "WITH is refused"),
        ("SELECT (SELECT max(id) FROM input) AS a FROM input", "the subquery `SELECT max(id) FROM input` is refused"),
        ("SELECT id FROM input WHERE id IN (SELECT id FROM input)", "the subquery `SELECT id FROM input` is refused"),
        ("SELECT id FROM input WHERE EXISTS (SELECT 1 FROM input)", "the subquery `SELECT 1 FROM input` is refused"),
        ("SELECT now() AS a FROM input", "`now()` is refused: it gives another value"),
        ("SELECT current_date AS a FROM input", "`current_date` is refused: it gives another value"),
        ("SELECT CURRENT_TIMESTAMP AS a FROM input", "`CURRENT_TIMESTAMP` is refused: it gives another value"),
        ("SELECT random() AS a FROM input", "`random()` is refused: it gives another value each time"),
        ("SELECT uuid() AS a FROM input", "`uuid()` is refused: it gives another value each time"),
        ("SELECT unnest(make_array(id)) AS a FROM input", "`unnest(make_array(id))` is refused"),
        ("SELECT id FROM input HAVING id > 1", "HAVING is refused"),
        ("SELECT id FROM input QUALIFY id > 1", "QUALIFY is refused"),
        ("SELECT id FROM input; SELECT id FROM input", "2 statements instead of one"),
        ("DELETE FROM input", "`DELETE FROM input` is not a SELECT"),
        ("", "there is no statement"),
        ("SELECT id FROM", "expected: identifier"),
        ("SELECT $1 AS a FROM input", "`$1`"),
        ("SELECT nosuch(id) AS a FROM input", "unknown function `nosuch`"),
        ("SELECT id * 1_000 AS a FROM input", "`1_000` is no number"),
        ("SELECT text SIMILAR TO 'a|b' AS a FROM input", "SIMILAR TO is not supported"),
        ("SELECT id, id FROM input", ""),
        ("SELECT id, amount AS id FROM input", ""),
        ("SELECT id + 1 FROM input", "can't name an output column"),
        ("SELECT id AS _offset FROM input", "output column `_offset`: names that start with `_` are reserved"),
        ("SELECT NULL AS a FROM input", "output column `a` is of type Null"),
        ("SELECT CAST(text AS TIME) AS a FROM input", "output column `a` is of type Time64"),
        ("SELECT at - at AS a FROM input", "output column `a` is of type Duration"),
        ("SELECT text + at AS a FROM input", ""),
    ] {
        let problems = plan_transform(&schema(), sql).expect_err(sql);
        let found: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert!(found.iter().any(|message| message.contains(wanted)), "{sql}\nwanted {wanted}\nfound  {found:#?}");
    }
}

#[test]
fn all_unknown_columns_are_named_with_line_and_nearest() {
    let problems = plan_transform(&schema(), "SELECT\n  amont AS a,\n  i.txet AS b\nFROM input AS i").expect_err("two");
    let found: Vec<_> =
        problems.iter().map(|p| (p.line, p.message.as_str(), p.suggestion.as_deref().unwrap_or_default())).collect();
    let wanted = [
        (Some(2), "unknown column `amont`", "did you mean `amount`?"),
        (Some(3), "unknown column `txet`", "did you mean `text`?"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_zone_is_checked_with_the_text_it_stands_in() {
    let sql = "SELECT event_instant(at, 'America/New_Yrok') AS a,\n  event_instant(at, text) AS b FROM input\n\
               WHERE event_instant(at, 'UTC') > event_instant(at, NULL)";
    let problems = plan_transform(&schema(), sql).expect_err("three");
    let found: Vec<_> =
        problems.iter().map(|p| (p.line, p.column, p.message.as_str(), p.suggestion.as_deref())).collect();
    let iana = Some("write an IANA name like 'America/New_York'");
    let wanted = [
        (Some(1), Some(26), "unknown time zone `America/New_Yrok`", Some("did you mean `America/New_York`?")),
        (Some(2), Some(21), "the zone of event_instant is `text`, not a literal", iana),
        (Some(3), Some(52), "the zone of event_instant is `NULL`, not a literal", iana),
    ];
    assert_eq!(found, wanted);
    let condition = super::plan::check_expectation(&schema(), "max(event_instant(at, 'Nowhere')) IS NULL");
    assert_eq!(condition.expect_err("no zone")[0].message, "unknown time zone `Nowhere`");
}

#[test]
fn output_types_are_storable() {
    let sql = "SELECT id, upper(text) AS u, arrow_cast(id, 'UInt32') AS w, to_timestamp_nanos(id) AS n,
        arrow_cast(text, 'LargeUtf8') AS l, arrow_cast(at, 'Timestamp(Millisecond, Some(\"+02:00\"))') AS z,
        arrow_cast(text, 'Dictionary(Int32, Utf8)') AS d, 'x' AS c FROM input";
    let planned = plan_transform(&schema(), sql).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let found: Vec<DataType> = planned.output.fields().iter().map(|field| field.data_type().clone()).collect();
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let text = DataType::Utf8;
    let wanted = [
        DataType::Int64,
        text.clone(),
        DataType::Int64,
        micros(None),
        text.clone(),
        micros(Some("UTC")),
        text.clone(),
        text,
    ];
    assert_eq!(found, wanted);
}

fn transform(sql: &str, more: &str) -> Transform {
    let toml = format!(
        "name = \"t\"\ncolumns = [ {{ name = \"id\", type = \"int64\" }}, {{ name = \"text\", type = \"string\" }}, \
         {{ name = \"amount\", type = \"float64\" }}, {{ name = \"at\", type = \"timestamp\" }} ]\n\
         [files]\nformat = \"csv\"\n{more}"
    );
    let sources: Sources =
        [("dataset.toml", toml.as_str()), ("transform.sql", sql)].map(|(n, t)| (n.to_owned(), t.to_owned())).into();
    Transform::compile(&parse(&sources).unwrap_or_else(|error| panic!("{error}"))).expect("it compiles")
}

fn micros(text: &str) -> i64 {
    chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").expect(text).and_utc().timestamp_micros()
}

/// Row `i` has the offset `100 + 10 i` and the bytes `record i`.
fn decoded(ids: Vec<Option<i64>>, texts: &[&str], at: Option<&str>) -> Decoded {
    let rows = ids.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(StringArray::from_iter_values((0..rows).map(|row| texts[row % texts.len()]))),
        Arc::new(Float64Array::from_iter_values((0..rows).map(|row| f64::from(u32::try_from(row).expect("small"))))),
        Arc::new(TimestampMicrosecondArray::from(vec![at.map(micros); rows])),
    ];
    Decoded {
        batch: RecordBatch::try_new(schema(), columns).expect("equal lengths"),
        offsets: (0..rows as u64).map(|row| 100 + 10 * row).collect(),
        raw: RawRecords::Records((0..rows).map(|row| Bytes::from(format!("record {row}"))).collect()),
        rejects: Vec::new(),
    }
}

fn adds_up(decoded: &Decoded, transformed: &Transformed) {
    let parts = transformed.batch.num_rows() + transformed.rejects.len();
    assert_eq!(decoded.batch.num_rows() as u64, parts as u64 + transformed.filtered);
    assert_eq!(transformed.batch.num_rows(), transformed.offsets.len());
}

#[test]
fn rows_are_filtered_and_mapped_with_their_offsets() {
    let transform = transform("SELECT id * 2 AS id, upper(text) AS text FROM input WHERE id > 1", "");
    let decoded = decoded(vec![Some(1), Some(2), None, Some(3)], &["a"], None);
    let result = transform.apply(&decoded);
    adds_up(&decoded, &result);
    assert_eq!(result.batch.schema(), transform.output_schema());
    assert_eq!(result.batch.column(0).as_primitive::<Int64Type>().values().to_vec(), [4, 6]);
    assert_eq!((result.offsets, result.filtered), (vec![110, 130], 2));
}

#[test]
fn a_record_on_which_an_expression_fails_is_a_reject_and_the_others_go_on() {
    let transform = transform("SELECT id, CAST(text AS INT) AS n, 10 / id AS q FROM input WHERE id < 100", "");
    let decoded = decoded(vec![Some(1), Some(0), Some(2), Some(200), Some(3)], &["1", "2", "x", "y", "5"], None);
    let result = transform.apply(&decoded);
    adds_up(&decoded, &result);
    assert_eq!((result.offsets.clone(), result.filtered), (vec![100, 140], 1));
    let found: Vec<_> = result.rejects.iter().map(|r| (r.offset, r.reason.clone(), r.bytes.clone())).collect();
    assert_eq!(
        found,
        [(110, Reason::Transform, Bytes::from("record 1")), (120, Reason::Transform, Bytes::from("record 2"))]
    );
    assert!(result.rejects[0].message.starts_with("q: "), "{}", result.rejects[0].message);
    assert!(result.rejects[1].message.starts_with("n: "), "{}", result.rejects[1].message);
}

#[test]
fn a_number_that_does_not_fit_is_a_reject_and_never_another_number() {
    for (sql, offsets) in [
        ("SELECT id * 2 AS n FROM input", vec![110, 130]),
        ("SELECT id + 1 AS n FROM input", vec![110, 120, 130]),
        ("SELECT id - 9 AS n FROM input", vec![100, 110, 130]),
        ("SELECT -id AS n FROM input", vec![100, 110, 130]),
        ("SELECT abs(id) AS n FROM input", vec![100, 110, 130]),
        ("SELECT arrow_cast(id, 'Int8') * arrow_cast(100, 'Int8') AS n FROM input WHERE abs(id % 1000) < 9", vec![]),
        // What does not matter to a row is not looked at, whatever stands in the rows around it.
        ("SELECT id FROM input WHERE id > 100 AND id - 2000 > 0 OR id < 0 AND id * 2 < 0", vec![100, 110]),
    ] {
        let decoded = decoded(vec![Some(i64::MAX), Some(-3), Some(i64::MIN), None], &["a"], None);
        let result = transform(sql, "").apply(&decoded);
        adds_up(&decoded, &result);
        let out: Vec<u64> = result.rejects.iter().map(|reject| reject.offset).collect();
        assert!(result.rejects.iter().all(|reject| reject.message.to_lowercase().contains("overflow")), "{sql}");
        let kept: Vec<u64> = result.offsets.iter().copied().filter(|offset| !out.contains(offset)).collect();
        assert_eq!(kept, offsets, "{sql}: {:?}", result.rejects);
    }
}

#[test]
fn rules_see_output_and_input_and_the_first_true_one_names_the_reject() {
    let rules = "[[reject]]\nname = \"negative\"\nwhen = \"id < 0\"\n\
        [[reject]]\nname = \"odd_text\"\nwhen = \"input.text = 'odd' OR input.id = 7\"\n\
        [[reject]]\nname = \"fails\"\nwhen = \"10 / input.id > 100\"\n";
    let transform = transform("SELECT -id AS id, amount FROM input WHERE text <> 'left out'", rules);
    let ids = vec![Some(5), Some(-1), Some(-7), Some(0), None, Some(-2)];
    let decoded = decoded(ids, &["odd", "a", "odd", "a", "a", "left out"], None);
    let result = transform.apply(&decoded);
    adds_up(&decoded, &result);
    let found: Vec<_> = result.rejects.iter().map(|reject| (reject.offset, reject.reason.code())).collect();
    let wanted = [(100, "rule:negative"), (120, "rule:odd_text"), (130, "transform")];
    assert_eq!(found, wanted.map(|(offset, code)| (offset, code.to_owned())));
    assert_eq!((result.offsets, result.filtered), (vec![110, 140], 1));
    assert_eq!(result.batch.num_columns(), 2);
}

#[test]
fn a_cast_is_compared_as_what_it_makes() {
    let rule = "[[reject]]\nname = \"minus_one\"\nwhen = \"CAST(m AS INT) = -1\"\n";
    let half = "CAST(amount / 2 - 2 AS DECIMAL(10, 2))";
    let sql = format!(
        "SELECT {half} AS m, CAST({half} AS INT) = 1 AS is_one, CAST({half} AS INT) IN (1, 7) AS is_listed \
         FROM input WHERE CAST({half} AS INT) <> 0"
    );
    // From -2.00 to 1.50.
    let decoded = decoded(vec![Some(1); 8], &["a"], None);
    let result = transform(&sql, rule).apply(&decoded);
    adds_up(&decoded, &result);
    let rejected: Vec<u64> = result.rejects.iter().map(|reject| reject.offset).collect();
    assert_eq!((result.offsets, result.filtered, rejected), (vec![100, 160, 170], 3, vec![110, 120]));
    for column in [1, 2] {
        let found: Vec<Option<bool>> = result.batch.column(column).as_boolean().iter().collect();
        assert_eq!(found, [Some(false), Some(true), Some(true)], "{column}");
    }
}

#[test]
fn lengths_of_time_are_compared_as_lengths() {
    let late = "input.at - TIMESTAMP '2019-01-01' > INTERVAL '30 days'";
    let rule = format!("[[reject]]\nname = \"late\"\nwhen = \"{late}\"\n");
    let sql = "SELECT id, at, at - TIMESTAMP '2019-01-01' >= INTERVAL '1 month' AS old FROM input \
               WHERE at - TIMESTAMP '2019-01-01' < INTERVAL '720 days'";
    for (at, kept, old) in [
        ("2019-01-30 00:00:00", 1, Some(false)),
        ("2019-01-31 00:00:00", 1, Some(true)),
        ("2019-02-01 00:00:00", 0, None),
        ("2021-02-01 00:00:00", 0, None),
    ] {
        let decoded = decoded(vec![Some(1)], &["a"], Some(at));
        let result = transform(sql, &rule).apply(&decoded);
        adds_up(&decoded, &result);
        assert_eq!(result.batch.num_rows(), kept, "{at}: {:?}", result.rejects);
        let found: Vec<bool> = result.batch.column(2).as_boolean().iter().flatten().collect();
        assert_eq!(found.first().copied(), old, "{at}");
        assert_eq!(result.filtered, u64::from(at.starts_with("2021")), "{at}");
    }
}

#[test]
fn a_local_time_that_does_not_exist_is_a_reject() {
    let zone = "[event_time]\ncolumn = \"at\"\nzone = \"America/New_York\"\n";
    let transform = transform("SELECT id, at FROM input", zone);
    for (at, rejected) in [
        (Some("2019-03-10 02:30:00"), true),
        (Some("2019-03-10 03:00:00"), false),
        (Some("2019-11-03 01:30:00"), false),
        (None, false),
    ] {
        let decoded = decoded(vec![Some(1), Some(2)], &["a"], at);
        let result = transform.apply(&decoded);
        adds_up(&decoded, &result);
        assert_eq!(result.rejects.len(), if rejected { 2 } else { 0 }, "{at:?}");
        if let Some(reject) = result.rejects.first() {
            assert_eq!((&reject.reason, reject.column.as_deref()), (&Reason::NonexistentTime, Some("at")));
            assert_eq!(reject.message, "2019-03-10 02:30:00 does not exist in America/New_York");
        }
    }
}

#[test]
fn event_instant_takes_the_first_of_an_ambiguous_hour() {
    let transform = transform("SELECT event_instant(at, 'America/New_York') AS at FROM input", "");
    for (local, instant) in [
        ("2019-11-03 01:30:00", Some("2019-11-03 05:30:00")),
        ("2019-07-01 12:00:00", Some("2019-07-01 16:00:00")),
        ("2019-03-10 02:30:00", None),
    ] {
        let result = transform.apply(&decoded(vec![Some(1)], &["a"], Some(local)));
        let column = result.batch.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(column.iter().next().expect("one row"), instant.map(micros), "{local}");
    }
}

#[test]
fn many_bad_records_cost_a_few_evaluations_each() {
    let transform = transform("SELECT CAST(text AS INT) AS n, id FROM input", "");
    let decoded = decoded((0..20_000).map(Some).collect(), &["1", "x", "y"], None);
    let result = transform.apply(&decoded);
    adds_up(&decoded, &result);
    assert_eq!(result.rejects.len(), 13_333);
    assert!(result.rejects.windows(2).all(|pair| pair[0].offset < pair[1].offset));
}

#[test]
fn no_rows_and_only_bad_rows_yield_empty_batches() {
    let transform = transform("SELECT CAST(text AS INT) AS n FROM input WHERE 10 / id > 0", "");
    for ids in [vec![], vec![Some(0), Some(0)]] {
        let decoded = decoded(ids, &["1"], None);
        let result = transform.apply(&decoded);
        adds_up(&decoded, &result);
        assert_eq!((result.batch.num_rows(), result.batch.schema()), (0, transform.output_schema()));
    }
}

#[test]
fn record_bytes_are_those_of_the_record() {
    let mut decoded = decoded(vec![Some(1), None], &["a\"b"], None);
    decoded.raw = RawRecords::Text { base_offset: 100, bytes: "first line\nsecond".into(), lengths: vec![10, 6] };
    decoded.offsets = vec![100, 111];
    assert_eq!((decoded.record_bytes(0), decoded.record_bytes(1)), ("first line".into(), "second".into()));
    decoded.raw = RawRecords::Columnar;
    assert_eq!(decoded.record_bytes(0), Bytes::from(r#"{"id":1,"text":"a\"b","amount":0.0}"#));
}

#[test]
fn an_unsigned_number_that_fits_no_integer_is_kept() {
    assert_eq!(types::storable(&DataType::UInt64), Ok(DataType::Decimal128(20, 0)));
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let stored = arrow::compute::cast(&column, &DataType::Decimal128(20, 0)).expect("it fits");
    assert_eq!(arrow::util::display::array_value_to_string(&stored, 0).expect("shown"), u64::MAX.to_string());
}

/// The repository's `trips`, and a batch of its input from JSON lines.
fn trips(records: &str) -> (Transform, Decoded) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/trips");
    let definition = crate::dataset::load(&folder).unwrap_or_else(|error| panic!("{error}")).definition;
    let reader =
        arrow::json::ReaderBuilder::new(definition.input_schema()).build(records.as_bytes()).expect("a schema");
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("json")).collect();
    let batch = arrow::compute::concat_batches(&definition.input_schema(), &batches).expect("one schema");
    let rows = batch.num_rows() as u64;
    let decoded = Decoded { batch, offsets: (0..rows).collect(), raw: RawRecords::Columnar, rejects: Vec::new() };
    (Transform::compile(&definition).expect("it is valid"), decoded)
}

#[test]
fn trips_of_all_years_become_the_same_words_and_cents() {
    let (transform, decoded) = trips(
        r#"{"vendor": "VTS", "pickup_at": "2009-01-04T02:52:00", "passenger_count": 1, "payment_type": "CASH", "fare_amount": 8.9000000000000004, "total_amount": 9.4000000000000004}
{"vendor": "CMT", "pickup_at": "2010-06-23T18:42:21", "rate_code": "1", "store_and_fwd_flag": "0", "payment_type": "Cre", "fare_amount": 10.9, "total_amount": 13.4}
{"vendor": "2", "pickup_at": "2016-06-09T21:06:36", "rate_code": "2", "store_and_fwd_flag": "N", "payment_type": "2", "fare_amount": -2.5, "total_amount": 1}
{"vendor": "4", "pickup_at": "2008-12-31T23:00:00", "rate_code": "99", "store_and_fwd_flag": "Y", "payment_type": "1", "congestion_surcharge": 2.5}
{"pickup_at": "2019-07-01T00:00:00"}
{"pickup_at": "2019-03-10T02:30:00"}
"#,
    );
    let result = transform.apply(&decoded);
    adds_up(&decoded, &result);
    assert_eq!((result.rejects.len(), &result.rejects[0].reason), (1, &Reason::NonexistentTime));
    let shown = |name: &str| -> Vec<String> {
        let column = result.batch.column_by_name(name).expect(name);
        (0..column.len()).map(|row| arrow::util::display::array_value_to_string(column, row).expect("shown")).collect()
    };
    assert_eq!(shown("vendor"), ["VTS", "CMT", "VTS", "4", ""]);
    assert_eq!(shown("rate_code"), ["", "standard", "jfk", "unknown", ""]);
    assert_eq!(shown("store_and_fwd"), ["", "false", "false", "true", ""]);
    assert_eq!(shown("payment_type"), ["cash", "credit card", "cash", "credit card", ""]);
    assert_eq!(shown("fare_amount"), ["8.90", "10.90", "-2.50", "", ""]);
    assert_eq!(shown("congestion_surcharge"), ["", "", "", "2.50", ""]);
    assert_eq!(shown("pickup_year"), ["2009", "2010", "2016", "2008", "2019"]);
    assert_eq!(shown("pickup_month"), ["01", "06", "06", "12", "07"]);
}
