//! Casts in conditions: what is compared is what a select list shows.

use super::*;

/// An id that is a bit of its own, a number, and what casts make of it: to a whole number, to a decimal without places, and
/// to a whole number of eight bits or null.
const NUMBERS: &str = "WITH t AS (SELECT id, m::decimal(10, 2) AS m, i, r, b FROM (VALUES (1, 1.50, 1, 2, 1), \
                       (2, -1.50, -1, -2, -1), (4, 0.50, 0, 1, 0), (8, 2.00, 2, 2, 2), (16, 1.00, 1, 1, 1), \
                       (32, 300.25, 300, 300, NULL), (64, NULL, NULL, NULL, NULL)) v(id, m, i, r, b))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_is_about_what_a_cast_makes() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for (cast, made) in [
        ("m::int", "i"),
        ("arrow_cast(m, 'Int64')", "i"),
        ("m::decimal(10, 0)", "r"),
        ("TRY_CAST(m AS TINYINT)", "b"),
        ("TRY_CAST(i AS TINYINT)", "b"),
    ] {
        let shown = format!("{NUMBERS} SELECT id, {cast} AS shown FROM t ORDER BY id");
        let wanted = format!("{NUMBERS} SELECT id, {made} AS shown FROM t ORDER BY id");
        let (shown, wanted) = (rows(&engine, &ask(&shown)).await, rows(&engine, &ask(&wanted)).await);
        assert_eq!(shown.expect(cast).0, wanted.expect(made).0, "{cast}");
        for condition in [
            "{} = 1",
            "1 = {}",
            "{} <> 1",
            "{} > 1",
            "{} >= 2",
            "0 > {}",
            "NOT ({} = 1)",
            "NOT ({} > 1)",
            "{} BETWEEN -1 AND 1",
            "{} NOT BETWEEN 0 AND 1",
            "{} IN (1, -1)",
            "{} IN (-2, -1, 1, 5, 6, 7)",
            "{} NOT IN (1, 7)",
            "{} IS DISTINCT FROM 1",
            "{} IS NOT DISTINCT FROM -1",
            "{} = 1 OR {} = 2",
            "({} = 1) IS NULL",
        ] {
            let on = |side: &str| condition.replace("{}", side);
            let sql = format!(
                "{NUMBERS} SELECT (SELECT coalesce(sum(id), 0) FROM t WHERE {}) AS wanted, \
                 (SELECT coalesce(sum(id), 0) FROM t WHERE {}) AS plain, \
                 (SELECT coalesce(sum(id), 0) FROM (SELECT id, {cast} AS c FROM t) u WHERE {}) AS above, \
                 (SELECT coalesce(sum(CASE WHEN {} THEN id END), 0) FROM t) AS chosen",
                on(made),
                on(cast),
                on("c"),
                on(cast),
            );
            let (found, _) = rows(&engine, &ask(&sql)).await.expect(&sql);
            let sums: Vec<&str> = found.split('|').collect();
            assert!(sums.len() == 4 && sums.iter().all(|sum| *sum == sums[0]), "{sql}: {found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cast_of_instants_keeps_their_digits_and_their_zone() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let from = "FROM (SELECT arrow_cast(x, 'Timestamp(Microsecond, None)') AS at FROM (VALUES ('2024-01-01')) v(x)) t";
    let zone = "'Timestamp(Microsecond, Some(\"-05:00\"))'";
    let half = "TIMESTAMP '2024-01-01 00:00:00.0000005'";
    for (condition, wanted) in [
        (format!("at = {half}"), "0"),
        (format!("at < {half}"), "1"),
        (format!("{half} > at"), "1"),
        (format!("at IN ({half}, TIMESTAMP '2025-01-01')"), "0"),
        (format!("at BETWEEN {half} AND TIMESTAMP '2025-01-01'"), "0"),
        ("at = TIMESTAMP '2024-01-01'".to_owned(), "1"),
        (format!("arrow_cast(at, {zone}) = arrow_cast('2024-01-01T05:00:00Z', {zone})"), "1"),
    ] {
        let sql = format!("SELECT count(*) {from} WHERE {condition}");
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, wanted, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cast_that_fails_fails_in_a_condition_too() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let failed = error(&engine, "SELECT count(*) FROM (VALUES (1), (300)) t(x) WHERE x::tinyint > 0").await;
    assert!(matches!(failed, SqlError::Execution { .. }), "{failed:?}");
}
