use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{binary_expr, col, lit};
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::*;

const END: u64 = 12;

static ENGINE: LazyLock<SessionContext> = LazyLock::new(SessionContext::new);

fn partitions() -> BTreeMap<LogPartition, Range<u64>> {
    ["s/0", "s/1", "t/1"].map(|name| (name.parse::<LogPartition>().expect("a partition"), 0..END)).into()
}

/// What is left of the partitions, as text: `s/0 2-5,7-9`.
fn left(filters: &[Expr]) -> Vec<String> {
    let range = |range: &Range<u64>| format!("{}-{}", range.start, range.end);
    let text = |(partition, ranges): (&LogPartition, &Vec<Range<u64>>)| {
        format!("{partition} {}", ranges.iter().map(range).collect::<Vec<_>>().join(","))
    };
    narrowed(&partitions(), filters).iter().map(text).collect()
}

fn offset() -> Expr {
    col(OFFSET_COLUMN)
}

fn number() -> Expr {
    col(PARTITION_COLUMN)
}

fn source() -> Expr {
    col(SOURCE_COLUMN)
}

fn unknown() -> Expr {
    col("n").eq(lit(0_i64))
}

#[test]
fn conditions_on_positions_leave_the_offsets_at_which_they_may_hold() {
    let everything = &["s/0 0-12", "s/1 0-12", "t/1 0-12"][..];
    let everywhere = |range: &str| ["s/0", "s/1", "t/1"].map(|partition| format!("{partition} {range}"));
    for (filter, wanted) in [
        (offset().eq(lit(5_i64)), "5-6"),
        (lit(5_i64).lt(offset()), "6-12"),
        (offset().gt_eq(lit(-3_i64)), "0-12"),
        (offset().not_eq(lit(5_i64)), "0-5,6-12"),
        (offset().lt_eq(lit(5_i32)), "0-6"),
        (offset().between(lit(3_i64), lit(90_i64)), "3-12"),
        (offset().not_between(lit(3_i64), lit(5_i64)), "0-3,6-12"),
        (offset().in_list([7, 2, 3, -1, 40].map(lit::<i64>).to_vec(), false), "2-4,7-8"),
        (offset().in_list([2, 3].map(lit::<i64>).to_vec(), true), "0-2,4-12"),
        (offset().gt(lit(5_i64)).and(unknown()), "6-12"),
    ] {
        assert_eq!(left(std::slice::from_ref(&filter)), everywhere(wanted), "{filter}");
    }
    let below = |name: &str, partition: i64, end: i64| {
        source().eq(lit(name)).and(number().eq(lit(partition))).and(offset().lt(lit(end)))
    };
    for (filter, wanted) in [
        (number().eq(lit(1_i64)), &["s/1 0-12", "t/1 0-12"][..]),
        (number().gt(lit(1_i64)), &[]),
        (source().eq(lit("t")), &["t/1 0-12"]),
        (source().in_list(vec![lit("r"), lit("s")], false), &["s/0 0-12", "s/1 0-12"]),
        (below("s", 0, 4).or(below("t", 1, 90)), &["s/0 0-4", "t/1 0-12"]),
        (offset().lt(lit(-1_i64)), &[]),
        // of these nothing is known
        (unknown(), everything),
        (offset().gt(lit(5_i64)).or(unknown()), everything),
        (offset().eq(lit(5.0)), everything),
        (offset().eq(lit(ScalarValue::Int64(None))), everything),
        (offset().in_list(vec![lit(1_i64), lit(ScalarValue::Int64(None))], true), everything),
        (offset().eq(number()), everything),
        (number().eq(lit("1")), everything),
        (Expr::Not(Box::new(offset().eq(lit(5_i64)))), everything),
    ] {
        assert_eq!(left(std::slice::from_ref(&filter)), wanted, "{filter}");
    }
    assert_eq!(left(&[]), everything);
    assert_eq!(left(&[number().eq(lit(0_i64)), offset().gt(lit(8_i64)), unknown()]), ["s/0 9-12"], "all of them hold");
}

#[test]
fn too_much_is_read_rather_than_decided() {
    let many = |count: i64| (0..count).map(|n| lit(2 * n)).collect::<Vec<Expr>>();
    let ranges = BTreeMap::from([("s/0".parse::<LogPartition>().expect("a partition"), 0..1 << 20)]);
    let left = |filter: Expr| narrowed(&ranges, &[filter]).into_values().next().expect("something is left");
    assert_eq!(left(offset().in_list(many(512), false)).len(), 512);
    let bounds = left(offset().in_list(many(513), false));
    assert_eq!(bounds.first().map(|range| (range.start, range.end)), Some((0, 1_025)));
    assert_eq!(bounds.len(), 1);
    // a chain is one level; brackets within brackets are not looked into for ever
    let chain = many(400).into_iter().map(|n| offset().eq(n)).reduce(Expr::or).expect("a chain");
    assert_eq!(left(chain).len(), 400);
    let deep = (0..100).fold(offset().eq(lit(7_i64)), |inner, n| match n % 2 {
        0 => inner.or(offset().eq(lit(7_i64))),
        _ => inner.and(offset().gt(lit(3_i64))),
    });
    assert!(left(deep).iter().any(|range| range.contains(&7)));
}

/// A condition out of comparisons of positions and of what is not known, which is true.
fn condition() -> impl Strategy<Value = Expr> {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    let operator = prop::sample::select(vec![Eq, NotEq, Lt, LtEq, Gt, GtEq]);
    let (at, text) = (-2..14_i64, prop::sample::select(vec!["r", "s", "t"]));
    let list = prop::collection::vec(-2..14_i64, 1..5);
    let leaf = prop_oneof![
        (operator.clone(), at.clone()).prop_map(|(op, at)| binary_expr(offset(), op, lit(at))),
        (operator.clone(), at.clone()).prop_map(|(op, at)| binary_expr(lit(at), op, offset())),
        (operator.clone(), -1..3_i64).prop_map(|(op, at)| binary_expr(number(), op, lit(at))),
        (operator, text).prop_map(|(op, text)| binary_expr(source(), op, lit(text))),
        (list, any::<bool>()).prop_map(|(list, not)| offset().in_list(list.into_iter().map(lit).collect(), not)),
        (at.clone(), at, any::<bool>()).prop_map(|(low, high, not)| match not {
            true => offset().not_between(lit(low), lit(high)),
            false => offset().between(lit(low), lit(high)),
        }),
        Just(unknown()),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| one.and(other)),
            (inner.clone(), inner).prop_map(|(one, other)| one.or(other)),
        ]
    })
}

/// A row at each offset.
fn rows(positions: &[(&LogPartition, u64)]) -> RecordBatch {
    let numbers = |of: &dyn Fn(&LogPartition, u64) -> u64| -> ArrayRef {
        let number = |(partition, offset): &(&LogPartition, u64)| i64::try_from(of(partition, *offset)).expect("small");
        Arc::new(Int64Array::from_iter_values(positions.iter().map(number)))
    };
    let sources = StringViewArray::from_iter_values(positions.iter().map(|(partition, _)| partition.source.as_str()));
    let columns = [
        ("n", numbers(&|_, _| 0)),
        (SOURCE_COLUMN, Arc::new(sources) as ArrayRef),
        (PARTITION_COLUMN, numbers(&|partition, _| u64::from(partition.partition))),
        (OFFSET_COLUMN, numbers(&|_, offset| offset)),
    ];
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), false));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.map(|(_, column)| column).to_vec()).expect("rows")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Of these conditions what is left is even exact.
    #[test]
    fn what_is_left_is_where_the_engine_finds_rows(condition in condition()) {
        let ranges = partitions();
        let positions: Vec<(&LogPartition, u64)> =
            ranges.iter().flat_map(|(partition, range)| range.clone().map(move |offset| (partition, offset))).collect();
        let rows = rows(&positions);
        let schema = DFSchema::try_from(rows.schema()).expect("a schema");
        let compiled = ENGINE.create_physical_expr(condition.clone(), &schema).expect("an expression");
        let holds = compiled.evaluate(&rows).and_then(|holds| holds.into_array(rows.num_rows())).expect("an answer");
        let left = narrowed(&ranges, std::slice::from_ref(&condition));
        for ((partition, offset), holds) in positions.iter().zip(holds.as_boolean().values()) {
            let is_left = left.get(*partition).is_some_and(|all| all.iter().any(|range| range.contains(offset)));
            prop_assert_eq!(is_left, holds, "{} at {} of {}", condition, offset, partition);
        }
    }
}
