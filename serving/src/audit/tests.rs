use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StructArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use datafusion::prelude::SessionContext;
use serde_json::json;
use tidemark_shared::position::{LogPartition, Source};
use tidemark_shared::rows::table_schema;

use super::compare::{Row, rows_of};
use super::derived::DerivedRows;
use super::fingerprint::fingerprints;
use super::master::Cuts;
use super::prefix::Prefixes;
use super::*;

/// A column of every kind that a table can hold: its name, a value, and one that is nearly the same, as SQL.
const KINDS: [(&str, &str, &str); 28] = [
    ("flag", "true", "false"),
    ("tiny", "arrow_cast(7, 'Int8')", "arrow_cast(8, 'Int8')"),
    ("whole", "9223372036854775807", "9223372036854775806"),
    ("small", "arrow_cast(0.5, 'Float32')", "arrow_cast(0.50000006, 'Float32')"),
    ("double", "0.1", "0.10000000000000002"),
    ("zero", "arrow_cast('0', 'Float64')", "arrow_cast('-0', 'Float64')"),
    ("money", "arrow_cast('12.3400', 'Decimal128(38, 4)')", "arrow_cast('12.3401', 'Decimal128(38, 4)')"),
    ("text", "'a'", "'a '"),
    ("none", "''", "CAST(NULL AS VARCHAR)"),
    ("bytes", "X'ff00'", "X'ff01'"),
    ("day", "arrow_cast('2026-11-24', 'Date32')", "arrow_cast('2026-11-25', 'Date32')"),
    ("at", "arrow_cast(7, 'Timestamp(Microsecond, None)')", "arrow_cast(8, 'Timestamp(Microsecond, None)')"),
    (
        "instant",
        "arrow_cast(9223372036854775807, 'Timestamp(Microsecond, Some(\"UTC\"))')",
        "arrow_cast(9223372036854775806, 'Timestamp(Microsecond, Some(\"UTC\"))')",
    ),
    ("tags", "make_array('a', 'b')", "make_array('b', 'a')"),
    ("parts", "make_array('a', 'b c')", "make_array('a b', 'c')"),
    ("numbers", "make_array(make_array(1, 2), make_array(3))", "make_array(make_array(1, 2), make_array(4))"),
    ("spot", "named_struct('a', 'x', 'b', 1)", "named_struct('a', 'x', 'b', 2)"),
    (
        "deep",
        "named_struct('a', named_struct('b', make_array(1)))",
        "named_struct('a', named_struct('b', make_array(2)))",
    ),
    ("pairs", "make_array(make_array(1, 2), make_array(3))", "make_array(make_array(1), make_array(2, 3))"),
    ("words", "make_array(make_array('a', 'b'))", "make_array(make_array('a, b'))"),
    ("gaps", "make_array('a', '', NULL)", "make_array('a', NULL, '')"),
    ("blobs", "make_array(X'ff00')", "make_array(X'ff01')"),
    ("nested_blobs", "make_array(make_array(X'ff'), make_array(X'fe'))", "make_array(make_array(X'ff', X'fe'))"),
    (
        // No calendar holds them.
        "days",
        "make_array(arrow_cast(2147483647, 'Date32'))",
        "make_array(arrow_cast(2147483646, 'Date32'))",
    ),
    ("spots", "make_array(named_struct('a', 1))", "make_array(named_struct('a', 1), named_struct('a', 1))"),
    ("inside", "make_array(named_struct('a', 1))", "make_array(named_struct('a', 2))"),
    (
        "far",
        "named_struct('s', make_array(named_struct('a', make_array(named_struct('b', 'x')))))",
        "named_struct('s', make_array(named_struct('a', make_array(named_struct('b', 'y')))))",
    ),
    (
        "holes",
        "arrow_cast(make_array(make_array(NULL), make_array()), 'List(List(Utf8))')",
        "arrow_cast(make_array(make_array(), make_array(NULL)), 'List(List(Utf8))')",
    ),
];

/// What those templates for a table that are `wanted` yield, over rows at these offsets of one partition, of which `o` is the
/// offset: each with its answer.
async fn answers(
    offsets: &[u64],
    columns: &[(&str, String)],
    wanted: fn(&Template) -> bool,
) -> Vec<(Template, Vec<Row>)> {
    let columns: Vec<String> = columns.iter().map(|(name, value)| format!("{value} AS \"{name}\"")).collect();
    let offsets: Vec<String> = offsets.iter().map(|offset| format!("({offset})")).collect();
    let sql = format!(
        "SELECT {}, 'orders' AS \"_source\", 0 AS \"_partition\", o AS \"_offset\" FROM (VALUES {}) AS t(o)",
        columns.join(", "),
        offsets.join(", ")
    );
    let batches = SessionContext::new().sql(&sql).await.expect(&sql).collect().await.expect(&sql);
    let schema = batches[0].schema();
    let partition = LogPartition { source: Source::topic("orders").expect("a topic"), partition: 0 };
    let positions: Coverage = std::iter::once((partition, 100)).collect();
    let cuts = Cuts::of([&positions]);
    let mut rows = DerivedRows::create(&schema).expect("a folder");
    for batch in &batches {
        rows.push(batch, &cuts).expect("rows");
    }
    let derived = rows.finish().await.expect("rows");
    let mut all = Vec::new();
    for template in templates(&schema, &[]).into_iter().filter(wanted) {
        let answer = {
            let prefixes = Prefixes::new(&derived, &template, &cuts).await.expect("sums");
            prefixes.at(&positions, &BTreeSet::new())
        };
        all.push((template, answer));
    }
    all
}

/// The answers of the thorough templates alone.
async fn thorough(offsets: &[u64], columns: &[(&str, String)]) -> Vec<(Template, Vec<Row>)> {
    answers(offsets, columns, Template::is_thorough).await
}

fn is_about(template: &Template, name: &str) -> bool {
    let of_column =
        |aggregate: &Aggregate| matches!(aggregate, Aggregate::Fingerprint { column, .. } if column == name);
    template.aggregates.iter().any(of_column)
}

#[tokio::test]
async fn one_changed_value_of_any_kind_is_found() {
    let columns: Vec<(&str, String)> = KINDS.iter().map(|(name, value, _)| (*name, (*value).to_owned())).collect();
    let right = thorough(&[0, 1, 2], &columns).await;
    assert_eq!(right, thorough(&[2, 0, 1], &columns).await, "in whichever order");
    for (index, (name, value, other)) in KINDS.iter().enumerate() {
        let mut changed = columns.clone();
        changed[index].1 = format!("CASE WHEN o = 1 THEN {other} ELSE {value} END");
        let found = thorough(&[0, 1, 2], &changed).await;
        assert_eq!(found.len(), right.len(), "{name}");
        let differ = right.iter().zip(&found).filter(|((_, right), (_, found))| right != found);
        let differ: Vec<&Template> = differ.map(|((template, _), _)| template).collect();
        assert!(!differ.is_empty(), "{name}: it is found");
        assert!(differ.iter().all(|template| is_about(template, name)), "{name}: by no other question: {differ:?}");
    }
}

/// Values of a type: all that there are of few plain ones and of short lists, each once, as SQL.
fn values(data_type: &DataType) -> Vec<String> {
    // Types as SQL may name them.
    let typed = |value: &str| format!("arrow_cast({value}, '{}')", data_type.to_string().replace('\'', "''"));
    let mut all = vec![typed("NULL")];
    match data_type {
        DataType::Struct(fields) => {
            let mut structs: Vec<Vec<String>> = vec![Vec::new()];
            for field in fields {
                let (name, mut longer) = (field.name().replace('\'', "''"), Vec::new());
                for parts in &structs {
                    for value in values(field.data_type()).iter().take(4) {
                        longer.push([parts.as_slice(), &[format!("'{name}', {value}")]].concat());
                    }
                }
                structs = longer;
            }
            all.extend(structs.iter().map(|parts| typed(&format!("named_struct({})", parts.join(", ")))));
        }
        DataType::List(item) => {
            let items = values(item.data_type());
            let lists = std::iter::once(String::new()).chain(items.iter().take(6).cloned());
            let few = &items[..3];
            let pairs = few.iter().flat_map(|first| few.iter().map(move |second| format!("{first}, {second}")));
            all.extend(lists.chain(pairs).map(|items| typed(&format!("make_array({items})"))));
        }
        _ => all.extend([typed("''"), typed("'a'")]),
    }
    all
}

/// By their number `n`, the fingerprints of the values `c` of `rows`, which are all at one position.
async fn prints(rows: RecordBatch) -> BTreeMap<Option<String>, Vec<(usize, Row)>> {
    let field = rows.schema().field_with_name("c").expect("it is there").clone();
    let context = SessionContext::new();
    let _none = context.register_batch("t", rows).expect("a table");
    let mut prints: BTreeMap<_, Vec<(usize, Row)>> = BTreeMap::new();
    for (which, (of, sql)) in fingerprints(&field).iter().enumerate() {
        let sql = format!("SELECT n, count(*), {sql} FROM {} GROUP BY n", of.sql("t", &["n"]));
        let batches = context.sql(&sql).await.expect(&sql).collect().await.expect(&sql);
        for mut row in rows_of(&batches).expect("texts").1 {
            let n = row.remove(0);
            prints.entry(n).or_default().push((which, row));
        }
    }
    prints
}

/// Values as the column `c` of rows that are all at one position, numbered by the column `n`.
async fn at_one_position(values: &[String]) -> RecordBatch {
    let values: Vec<String> = values.iter().enumerate().map(|(n, value)| format!("({n}, {value})")).collect();
    let sql = format!(
        "SELECT n, c, 'orders' AS \"_source\", 0 AS \"_partition\", 0 AS \"_offset\" FROM (VALUES {}) AS t(n, c)",
        values.join(", ")
    );
    let batches = SessionContext::new().sql(&sql).await.expect(&sql).collect().await.expect(&sql);
    concat_batches(&batches[0].schema(), &batches).expect("one table")
}

#[tokio::test]
async fn however_they_are_nested_no_two_values_have_the_same_fingerprints() {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let list = |item: &DataType| DataType::List(Arc::new(Field::new_list_field(item.clone(), true)));
    let named =
        |name: &str, part: &DataType| DataType::Struct(Fields::from(vec![Field::new(name, part.clone(), true)]));
    let texts = list(&list(&DataType::Utf8));
    let inner = list(&DataType::Struct(Fields::from(vec![text("b")])));
    for data_type in [
        texts.clone(),
        list(&texts),
        list(&named("a", &DataType::Utf8)),
        list(&DataType::Struct(Fields::from(vec![Field::new("a", inner, true), text("c")]))),
        named("x", &list(&DataType::Struct(Fields::from(vec![text("a"), text("b")])))),
        named("x", &named("it's", &texts)),
        list(&list(&named("a", &texts))),
    ] {
        let values = values(&data_type);
        let prints = prints(at_one_position(&values).await).await;
        assert_eq!(prints.len(), values.len(), "{data_type}");
        let mut known = BTreeMap::new();
        for (n, print) in &prints {
            let value = |n: &Option<String>| n.as_ref().and_then(|n| values.get(n.parse::<usize>().ok()?));
            let other = known.insert(print, n);
            assert_eq!(other.map(value), None, "{data_type}: has the fingerprints of {:?}", value(n));
        }
    }
}

/// A struct's parts may hold something where the struct itself is null: what is computed with it, not what it is.
#[tokio::test]
async fn what_lies_below_a_null_does_not_count() {
    let value =
        "named_struct('x', make_array(named_struct('a', 'b')), 'y', named_struct('z', make_array(make_array(1))))";
    let rows = at_one_position(&[value.to_owned()]).await;
    let schema = rows.schema();
    let (fields, parts, _nulls) = rows.column_by_name("c").expect("it is there").as_struct().clone().into_parts();
    let hidden = StructArray::new(fields, parts, Some(NullBuffer::new_null(1)));
    let with = |c: ArrayRef| {
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
            let is_c = field.name() == "c";
            (field.name().clone(), if is_c { Arc::clone(&c) } else { Arc::clone(column) }, is_c)
        });
        RecordBatch::try_from_iter_with_nullable(columns).expect("the same rows")
    };
    let null = prints(with(new_null_array(hidden.data_type(), 1))).await;
    assert_eq!(prints(with(Arc::new(hidden))).await, null);
    assert_ne!(prints(rows).await, null);
}

#[tokio::test]
async fn changes_that_cancel_out_are_found() {
    let of = |n: &str, text: &str| vec![("n", n.to_owned()), ("text", text.to_owned())];
    let text = "concat('t', o)";
    let right = of("o", text);
    let wanted = thorough(&[0, 1, 2, 3], &right).await;
    for (case, offsets, columns) in [
        ("swapped", &[0, 1, 2, 3][..], of("CASE o WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE o END", text)),
        ("one more and one less", &[0, 1, 2, 3][..], of("CASE o WHEN 0 THEN 1 WHEN 3 THEN 2 ELSE o END", text)),
        (
            "swapped texts",
            &[0, 1, 2, 3][..],
            of("o", "CASE o WHEN 0 THEN 't3' WHEN 3 THEN 't0' ELSE concat('t', o) END"),
        ),
        ("taken out", &[0, 1, 3][..], right.clone()),
        ("doubled", &[0, 1, 2, 2, 3][..], right.clone()),
        ("doubled and taken out, with one sum", &[0, 0, 3, 3][..], right),
    ] {
        assert_ne!(wanted, thorough(offsets, &columns).await, "{case}");
    }
}

#[tokio::test]
async fn decimals_whose_sums_may_have_too_many_digits_have_their_fingerprints_alone() {
    let three = Some("3".to_owned());
    let sum = Some(format!("2{}7", "9".repeat(27)));
    // The sum of the offsets 0, 1 and 2 stands last.
    for (digits, row) in [
        (38, vec![three.clone(), three.clone()]),
        (29, vec![three.clone(), three.clone()]),
        (28, vec![three.clone(), sum, three]),
    ] {
        let most = "9".repeat(digits);
        let money = |last: u32| {
            let value = format!("concat('{}', CASE o WHEN 1 THEN '{last}' ELSE '9' END)", &most[1..]);
            vec![("money", format!("arrow_cast({value}, 'Decimal128({digits}, 0)')"))]
        };
        let right = answers(&[0, 1, 2], &money(9), |_| true).await;
        assert_eq!(right[2].1, [row], "{digits}");
        assert_ne!(thorough(&[0, 1, 2], &money(9)).await, thorough(&[0, 1, 2], &money(8)).await, "{digits}");
    }
}

fn every_kind() -> Schema {
    let text = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
    let item = || Arc::new(Field::new("element", DataType::Struct(Fields::from(vec![text("a")])), true));
    let kinds = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Decimal128(38, 10),
        DataType::Utf8,
        DataType::Binary,
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::List(text("element")),
        DataType::List(item()),
        DataType::Struct(Fields::from(vec![text("it's")])),
    ];
    let fields = kinds.iter().enumerate().map(|(n, kind)| Field::new(format!("c{n}"), kind.clone(), true));
    table_schema(&Schema::new(fields.collect::<Vec<_>>())).as_ref().clone()
}

#[test]
fn every_column_has_its_questions() {
    let schema = every_kind();
    let all = templates(&schema, &["c9".to_owned()]);
    let (mut printed, mut summed) = (Vec::new(), Vec::new());
    for aggregate in all.iter().filter(|template| template.groups != ["c9"]).flat_map(|template| &template.aggregates) {
        match aggregate {
            Aggregate::Fingerprint { column, .. } => printed.push(column.as_str()),
            Aggregate::Sum(column) if column.starts_with('c') => summed.push(column.as_str()),
            _ => {}
        }
    }
    let names: Vec<String> = (0..17).map(|n| format!("c{n}")).collect();
    assert_eq!(printed[..17], names[..], "each once");
    assert_eq!(printed[17..], ["c15"], "and the structs of a list by themselves");
    assert_eq!(summed, ["c1", "c2", "c3", "c4", "c7"], "no decimals whose sums may have too many digits");
    for template in &all {
        assert_eq!(classify(&template.sql("merged.t")), Auditable::Yes, "{template:?}");
        assert!(template.aggregates.len() <= 6, "what a question costs is bounded: {template:?}");
    }
}

#[test]
fn the_questions_of_an_audit_are_spread_over_all_columns() {
    let schema = every_kind();
    let rows = json!([["orders", 3, 5_000, 100, "5099", 0], ["files", 7, "40", 0, 39, 0]]);
    let rows = serde_json::from_value(rows).expect("rows");
    let extents = Extent::of(&Answered { sql: String::new(), as_of: BTreeMap::new(), columns: Vec::new(), rows });
    assert_eq!(extents.len(), 2);
    let asked = Asked { table: "merged.t", schema: &schema, partition_columns: &["c9".to_owned()], extents: &extents };
    for (count, slices) in [(0, 0), (1, 0), (3, 0), (12, 1), (100, 8), (1_000, 8)] {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let all = questions(&asked, count, &mut random);
        assert_eq!(all.len(), count);
        assert_eq!(all.iter().filter(|sql| sql.contains(" WHERE ")).count(), slices, "{count}");
        for sql in all.iter().filter(|sql| sql.contains(" WHERE ")) {
            assert_eq!(classify(sql), Auditable::Yes, "{sql}");
            assert!(!sql.contains("\"c14\"") && sql.contains("\"c13\"") && sql.contains("\"_offset\""), "{sql}");
            let start = sql.split("\"_offset\" >= ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a start");
            let start: u64 = start.parse().expect("a number");
            let has_rows = if sql.contains("'orders'") { (100..=3_100).contains(&start) } else { start == 0 };
            assert!(has_rows, "{sql}");
        }
        let thorough: Vec<String> = templates(&schema, &["c9".to_owned()])
            .iter()
            .filter(|template| template.is_thorough())
            .map(|template| template.sql("merged.t"))
            .collect();
        let times = |sql: &String| all.iter().filter(|asked| *asked == sql).count();
        assert!(thorough.iter().all(|sql| times(sql) <= 1), "{count}: what costs most is asked once");
        assert_eq!(thorough.iter().map(times).sum::<usize>(), count.min(thorough.len()), "{count}");
    }
    let nothing = Asked { extents: &[], ..asked };
    assert!(questions(&nothing, 100, &mut || 3).iter().all(|sql| !sql.contains(" WHERE ")));
}

#[test]
fn what_a_prefix_does_not_determine_is_told() {
    let yes = ["SELECT count(*) FROM trips", "SELECT a, sum(b) FROM merged.trips GROUP BY a ORDER BY 2"];
    for sql in yes {
        assert_eq!(classify(sql), Auditable::Yes, "{sql}");
    }
    let no = [
        "SELECT * FROM trips LIMIT 3",
        "SELECT now()",
        "SELECT * FROM (SELECT a FROM trips ORDER BY a LIMIT 1)",
        "SELECT approx_distinct(a) FROM trips",
        "SELECT row_number() OVER (ORDER BY a) FROM trips",
        "DELETE FROM trips",
    ];
    for sql in no {
        assert!(matches!(classify(sql), Auditable::No { .. }), "{sql}");
    }
}

#[test]
fn a_template_is_plain_sql() {
    let template = Template {
        rows: Unfolded::default(),
        groups: vec!["month".to_owned()],
        aggregates: vec![Aggregate::Count, Aggregate::Sum("cents".to_owned())],
    };
    let sql = template.sql("merged.orders");
    assert_eq!(sql, "SELECT \"month\", count(*), sum(\"cents\") FROM merged.orders GROUP BY \"month\"");
}
