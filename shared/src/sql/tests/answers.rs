//! Answers that DataFusion by itself gets wrong.

use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use super::*;

/// Rows as a merged table has them: of two parts.
const PARTS: &str = "(SELECT * FROM (VALUES (1, 10, 'x'), (2, 20, 'n')) \
                     UNION ALL SELECT * FROM (VALUES (3, 30, 'y'), (1, 11, 'z')))";

async fn one_by_one<S: AsRef<str>>(cases: &[(S, &str)]) {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { threads: Some(2), ..SqlConfig::default() });
    for (sql, wanted) in cases {
        let sql = sql.as_ref().replace("{parts}", PARTS);
        let (found, _) = rows(&engine, &ask(&sql)).await.expect(&sql);
        assert_eq!(found, *wanted, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_above_a_join_is_about_the_columns_that_it_names() {
    one_by_one(&[
        (
            "SELECT count(*) FROM {parts} a(id, n, s) RIGHT JOIN {parts} b(id, n, s) ON a.id = b.id \
             WHERE b.n < a.n OR b.s = 'y'",
            "2",
        ),
        (
            "SELECT count(*) FROM {parts} b(id, n, s) LEFT JOIN {parts} a(id, n, s) ON a.id = b.id \
             WHERE b.n < a.n OR b.s = 'y'",
            "2",
        ),
        (
            "SELECT count(*) FROM {parts} a(id, n, s) FULL JOIN {parts} b(id, n, s) ON a.id = b.id \
             WHERE a.n < b.n OR a.s = 'y'",
            "2",
        ),
        (
            "SELECT count(a.s), count(b.id), count(*) FROM {parts} a(id, n, s) \
             RIGHT JOIN {parts} b(id, n, s) ON a.s = b.s AND a.n > 100 WHERE a.id = a.id",
            "0|0|0",
        ),
        (
            "SELECT count(a.s), count(b.id), count(*) FROM {parts} a(id, n, s) \
             RIGHT JOIN {parts} b(id, n, s) ON a.s = b.s AND a.n > 100 WHERE a.id IS NULL",
            "0|4|4",
        ),
        // Joined once more, and by a key that both sides have.
        (
            "SELECT count(*) FROM {parts} c(id, n, s) JOIN (SELECT a.id, b.id AS other, a.n, b.s FROM {parts} a(id, n, s) \
             RIGHT JOIN {parts} b(id, n, s) ON a.id = b.id WHERE b.n < a.n OR b.s = 'y') d ON c.id = d.other",
            "3",
        ),
        (
            "SELECT count(*) FROM trips a RIGHT JOIN trips b ON a.id = b.id + 500 \
             WHERE a.fare_amount < b.fare_amount OR b.fare_amount = 7",
            "120",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_are_told_what_a_join_has_found() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { threads: Some(2), ..SqlConfig::default() });
    let sql = "EXPLAIN SELECT count(*) FROM trips a JOIN trips b ON a.id = b.id WHERE a.fare_amount = 7";
    let (plan, _) = rows(&engine, &ask(sql)).await.expect("a plan");
    assert!(plan.contains("DynamicFilter"), "{plan}");
    assert!(!plan.contains("Wall"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_over_one_value_keep_their_nulls() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let from = "FROM (VALUES (1, NULL, 1), (2, 1, 1), (3, 2, 7), (4, 5, NULL)) t(id, x, a)";
    for (condition, wanted) in [
        ("x IN (1, 2) AND x NOT IN (3, NULL)", ""),
        ("x NOT IN (3, NULL) AND x IN (1, 2)", ""),
        ("x IN (1, 2) AND x NOT IN (3, NULLIF(1, 1))", ""),
        ("x IN (1, 2) AND x NOT IN (a, 9)", "3"),
        ("x IN (1, 5) AND x NOT IN (a, 9)", ""),
        ("x NOT IN (1, 7) OR x NOT IN (2, 8)", "2,3,4"),
        ("NOT (x IN (1, 7) AND x IN (2, 8))", "2,3,4"),
        ("(x IN (1, 7) AND x IN (2, 8)) IS NULL", "1"),
        ("(x IN (1, 7) AND x NOT IN (1, 7)) IS NULL", "1"),
        ("x NOT IN (1, 5) OR x NOT IN (2, NULL)", "3"),
        ("NOT (x = 1 OR x = 2) OR NOT (x = 5 OR x = 7)", "2,3,4"),
        ("x IN (1, NULL) OR x IN (2, NULL)", "2,3"),
        ("x = 1 OR x = 2 OR x IN (7, 8)", "2,3"),
        ("(x IN (1, NULL)) IS NULL", "1,3,4"),
        ("(x NOT IN (1, NULL)) IS NULL", "1,3,4"),
        ("x NOT IN (1, 2) AND x NOT IN (3, 9)", "4"),
        ("x IN (1, 2, 5) AND x IN (2, 5, 6) AND x NOT IN (5, 6)", "3"),
        ("x IN (a, 2, 2 + 3)", "2,3,4"),
        ("5 NOT IN (x, a)", "2,3"),
    ] {
        let sql = format!("SELECT id {from} WHERE {condition} ORDER BY 1");
        let (found, _) = rows(&engine, &ask(&sql)).await.expect(&sql);
        assert_eq!(found.replace('\n', ","), wanted, "{condition}");
        // And as what a column is made of.
        let sql = format!("SELECT id FROM (SELECT id, {condition} AS c {from}) u WHERE c ORDER BY 1");
        let (found, _) = rows(&engine, &ask(&sql)).await.expect(&sql);
        assert_eq!(found.replace('\n', ","), wanted, "{condition}");
    }
    let apart =
        format!("SELECT id FROM (SELECT id, x NOT IN (1, 7) p, x NOT IN (2, 8) q {from}) u WHERE p OR q ORDER BY 1");
    assert_eq!(rows(&engine, &ask(&apart)).await.expect(&apart).0, "2\n3\n4");
    let grouped = format!("SELECT x IN (1, 2), x NOT IN (1, NULL), count(*) {from} GROUP BY 1, 2 ORDER BY 3, 1, 2");
    let (found, answer) = rows(&engine, &ask(&grouped)).await.expect(&grouped);
    assert_eq!(found, "false||1\ntrue|false|1\ntrue||1\n1");
    assert_eq!(answer.schema.field(0).name(), "t.x IN Int64(1), Int64(2)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alternatives_over_one_value_keep_its_nulls() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let plain = "FROM (VALUES (1, NULL), (2, 1), (3, 2), (4, 5)) t(id, x)";
    let narrow = format!("FROM (SELECT id, arrow_cast(x, 'Int32') AS x {plain}) t");
    for (condition, wanted) in [
        ("NOT (x = 1 OR x = 2) OR NOT (x = 5 OR x = 7)", "2,3,4"),
        ("NOT (1 = x OR 2 = x) OR NOT (5 = x OR 7 = x)", "2,3,4"),
        ("NOT (x = 1 + 0 OR x = 2 + 0) OR NOT (x = 5 + 0 OR x = 7 + 0)", "2,3,4"),
        ("NOT (x * 1 = 1 OR x * 1 = 2) OR NOT (x * 1 = 5 OR x * 1 = 7)", "2,3,4"),
        ("NOT (x = 1 OR x = 2) OR x NOT IN (5, 7)", "2,3,4"),
        ("(NOT (x <> 1 AND x <> 2) AND NOT (x <> 5 AND x <> 7)) IS NULL", "1"),
        ("(NOT (NOT x = 1 AND NOT x = 2) AND NOT (NOT x = 5 AND NOT x = 7)) IS NULL", "1"),
        ("((x <> 1 AND x <> 2) = false AND (x <> 5 AND x <> 7) = false) IS NULL", "1"),
        ("(x IN (1, 7) AND NOT (x IN (1, 7))) IS NULL", "1"),
        ("x = 1 OR x = 2 OR (x = 5 AND x NOT IN (1, 2))", "2,3,4"),
        ("(x NOT IN (1, 7) AND x <> 5) OR (x = 5 AND x <> 1)", "3,4"),
    ] {
        for from in [plain, narrow.as_str()] {
            let many = wanted.split(',').count();
            for (sql, wanted) in [
                (format!("SELECT id {from} WHERE {condition} ORDER BY 1"), wanted.replace(',', "\n")),
                (
                    format!("SELECT id FROM (SELECT id, {condition} AS c {from}) u WHERE c ORDER BY 1"),
                    wanted.replace(',', "\n"),
                ),
                (format!("SELECT sum(CASE WHEN {condition} THEN 1 ELSE 0 END) {from}"), many.to_string()),
                (format!("SELECT count(*) FILTER (WHERE {condition}) {from}"), many.to_string()),
            ] {
                assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, wanted, "{sql}");
            }
        }
    }
    for (columns, condition) in [
        ("NOT (x = 1 OR x = 2 OR x = 3 OR x = 4) AS p, NOT (x = 5 OR x = 6 OR x = 7 OR x = 8) AS q", "p OR q"),
        ("x = 1 AS p, x = 2 AS q, x = 5 AS r, x = 7 AS s", "NOT (p OR q) OR NOT (r OR s)"),
    ] {
        for from in [plain, narrow.as_str()] {
            let sql = format!("SELECT id FROM (SELECT id, {columns} {from}) u WHERE {condition} ORDER BY 1");
            assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, "2\n3\n4", "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alternatives_of_a_condition_leave_out_files() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for condition in [
        "pickup_month = '07' OR pickup_month = '08'",
        "(pickup_month = '07' AND fare_amount = 5) OR (pickup_month = '08' AND fare_amount = 7)",
    ] {
        let sql = format!("SELECT count(id) FROM trips WHERE {condition}");
        let (_, answer) = rows(&engine, &ask(&sql)).await.expect(&sql);
        assert_eq!(answer.stats().files_pruned, 10, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_of_decimals_is_right_or_an_error() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let of = |digits: &str, times: usize| {
        let values = vec![format!("(1, CAST('{digits}' AS DECIMAL(38, 0)))"); times].join(", ");
        format!("FROM (VALUES {values}) t(g, x)")
    };
    let (most, half) = (of(&"9".repeat(38), 4), of(&format!("4{}", "9".repeat(37)), 2));
    for select in ["sum(x)", "g, sum(x)", "sum(x) OVER ()", "sum(x) OVER (PARTITION BY g ORDER BY x)", "sum(x) + 1"] {
        let grouped = if select.starts_with('g') { "GROUP BY g" } else { "" };
        let failed = error(&engine, &format!("SELECT {select} {most} {grouped}")).await;
        assert!(matches!(failed, SqlError::Execution { .. }), "{select}: {failed:?}");
        assert_eq!(failed.kind(), Kind::Unprocessable, "{select}");
    }
    let fits = format!("{}8", "9".repeat(37));
    for (sql, wanted) in [
        (format!("SELECT sum(x) {half}"), fits.clone()),
        (format!("SELECT sum(x) {half} GROUP BY g HAVING sum(x) > 5"), fits.clone()),
        (format!("SELECT DISTINCT sum(x) OVER (PARTITION BY g) {half}"), fits.clone()),
        (format!("SELECT sum(DISTINCT x) * 2 {half}"), fits),
        ("SELECT avg(x), sum(x) FROM (VALUES (1.5), (2.5)) t(x)".to_owned(), "2.00000|4.0".to_owned()),
    ] {
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, wanted, "{sql}");
    }
    let (_, answer) = rows(&engine, &ask(&format!("SELECT sum(x) {half}"))).await.expect("fits");
    let field = answer.schema.field(0);
    assert_eq!((field.name().as_str(), field.data_type()), ("sum(t.x)", &DataType::Decimal128(38, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nan_is_the_largest_float_wherever_it_stands() {
    let from = "FROM (VALUES (1, 'NaN'::double, 1), (1, 1.0::double, 2), (2, 1.0::double, 1), (2, 'NaN'::double, 2), \
                (3, NULL, 1), (3, 2.5::double, 2)) t(g, x, i)";
    let made = "FROM (SELECT 1 AS g, 0.0::double / 0.0::double AS x UNION ALL SELECT 1, 7.0::double) t";
    one_by_one(&[
        (
            format!("SELECT g, min(x), max(x) {from} GROUP BY g ORDER BY g"),
            "1|1.0|NaN\n2|1.0|NaN\n3|2.5|2.5",
        ),
        (
            format!("SELECT g, min(x::float), max(x::float) {from} GROUP BY g ORDER BY g"),
            "1|1.0|NaN\n2|1.0|NaN\n3|2.5|2.5",
        ),
        (format!("SELECT min(x), max(x) {from}"), "1.0|NaN"),
        (format!("SELECT min(x), max(x) {made}"), "7.0|NaN"),
        // Of few groups.
        (format!("SELECT g, min(x) {made} GROUP BY g ORDER BY 2 LIMIT 1"), "1|7.0"),
        (format!("SELECT g, max(x) {made} GROUP BY g ORDER BY 2 DESC NULLS LAST LIMIT 1"), "1|NaN"),
        (format!("SELECT DISTINCT x {from} ORDER BY x DESC NULLS LAST LIMIT 2"), "NaN\n2.5"),
        (format!("SELECT x {from} GROUP BY x ORDER BY x DESC NULLS LAST LIMIT 1"), "NaN"),
        (format!("SELECT x, max(i) {from} GROUP BY x ORDER BY 2 DESC, x DESC LIMIT 1"), "NaN|2"),
        (format!("SELECT g, max(i) {from} GROUP BY g ORDER BY 2 DESC NULLS LAST, g LIMIT 1"), "1|2"),
        (
            format!("SELECT max(x) OVER (PARTITION BY g ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) {from} ORDER BY g, i"),
            "NaN\nNaN\n1.0\nNaN\n\n2.5",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_session_beside_the_engine_is_mended_too() {
    let state = mended(SessionStateBuilder::new().with_default_features()).expect("a session");
    let context = SessionContext::new_with_state(state);
    let parts = PARTS;
    for (sql, wanted) in [
        ("SELECT max(x) FROM (VALUES (1, 'NaN'::double), (1, 1.0::double)) t(g, x) GROUP BY g".to_owned(), "NaN"),
        ("SELECT count(*) FROM (VALUES (1), (2)) t(x) WHERE x IN (1, 2) AND x NOT IN (3, NULL)".to_owned(), "| 0 "),
        (
            format!(
                "SELECT count(*) FROM {parts} a(id, n, s) WHERE EXISTS (SELECT 1 FROM {parts} b(id, n, s), \
                 {parts} c(id, n, s) WHERE b.id = a.id AND c.id = a.id + 1)"
            ),
            "| 3 ",
        ),
        (
            "SELECT min(x) FROM (SELECT 1 AS g, 0.0::double / 0.0::double AS x UNION ALL SELECT 1, 7.0::double) t \
             GROUP BY g ORDER BY 1 LIMIT 1"
                .to_owned(),
            "7.0",
        ),
        (
            format!(
                "SELECT count(*) FROM {parts} a(id, n, s) RIGHT JOIN {parts} b(id, n, s) ON a.id = b.id \
                 WHERE b.n < a.n OR b.s = 'y'"
            ),
            "| 2 ",
        ),
    ] {
        let frame = context.sql(&sql).await.expect(&sql);
        let shown = frame.to_string().await.expect(&sql);
        assert!(shown.contains(wanted), "{sql}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zeros_are_equal_whatever_their_sign() {
    let from = "FROM (VALUES ('-0.0'::double, 1), (0.0::double, 2), (3.0::double, 3)) t(x, i)";
    one_by_one(&[
        (format!("SELECT count(*) {from} WHERE x IN (0.0, 1.0, 2.0, 4.0, 5.0)"), "2"),
        (format!("SELECT count(*) {from} WHERE x IN ('-0.0'::double, 1.0, 2.0, 4.0, 5.0)"), "2"),
        (format!("SELECT count(*) {from} WHERE x NOT IN (0.0, 1.0, 2.0, 4.0, 5.0)"), "1"),
        (format!("SELECT count(*) {from} WHERE x IN (0.0::double * 1.0::double, 1, 2, 4, 5)"), "2"),
        (format!("SELECT count(*) {from} WHERE x = 0.0 OR x = 1.0 OR x = 2.0 OR x = 4.0 OR x = 5.0"), "2"),
        (format!("SELECT count(*) {from} WHERE NOT (x <> 0.0 AND x <> 1.0 AND x <> 2.0 AND x <> 4.0)"), "2"),
        (
            format!(
                "SELECT count(*) FROM (SELECT x = 0.0 AS a, x = 1.0 AS b, x = 2.0 AS c, x = 4.0 AS d {from}) u \
                 WHERE a OR b OR c OR d"
            ),
            "2",
        ),
        (
            format!("SELECT CASE x WHEN 0.0 THEN 'zero' ELSE 'more' END AS c, count(*) {from} GROUP BY 1 ORDER BY 1"),
            "more|1\nzero|2",
        ),
        (format!("SELECT count(*) OVER (PARTITION BY x) AS n {from} ORDER BY i"), "2\n2\n1"),
        (format!("SELECT rank() OVER (ORDER BY x) AS n {from} ORDER BY i"), "1\n1\n3"),
        (format!("SELECT i {from} JOIN (VALUES (0.0::double)) w(z) ON x = z ORDER BY i"), "1\n2"),
        (format!("SELECT i {from} WHERE x IN (SELECT z FROM (VALUES (0.0::double)) w(z)) ORDER BY i"), "1\n2"),
        (format!("SELECT count(DISTINCT x) {from}"), "2"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_count_equal_rows_is_refused() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for sql in [
        "SELECT 1 EXCEPT ALL SELECT 1",
        "SELECT 1 INTERSECT ALL SELECT 1",
        "SELECT * FROM (SELECT 1 UNION ALL (SELECT 2 INTERSECT ALL SELECT 2)) t",
        "WITH c AS (SELECT 1 EXCEPT ALL SELECT 2) SELECT * FROM c",
        "SELECT 1 WHERE 1 IN (SELECT 1 EXCEPT ALL SELECT 2 UNION SELECT 3)",
        "EXPLAIN SELECT 1 EXCEPT ALL SELECT 1",
    ] {
        let refused = error(&engine, sql).await;
        let SqlError::Plan { message } = &refused else { panic!("{sql}: {refused:?}") };
        assert!(message.starts_with("EXCEPT ALL and INTERSECT ALL"), "{sql}: {message}");
    }
    for sql in ["SELECT 1 EXCEPT SELECT 2", "SELECT 1 INTERSECT SELECT 1", "SELECT 1 EXCEPT DISTINCT SELECT 2"] {
        assert_eq!(rows(&engine, &ask(sql)).await.expect(sql).0, "1", "{sql}");
    }
}
