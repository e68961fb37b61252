//! Intervals and differences of instants, which DataFusion by itself compares field by field.

use super::*;

/// Instants 0, 1, 30, 31 and 400 days after the first of a year, and none.
const INSTANTS: &str = "(SELECT TIMESTAMP '2021-01-01' AS a, at AS b FROM (VALUES (TIMESTAMP '2021-01-01'), \
                        (TIMESTAMP '2021-01-02'), (TIMESTAMP '2021-01-31'), (TIMESTAMP '2021-02-01'), \
                        (TIMESTAMP '2022-02-05'), (NULL)) v(at))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_of_time_are_compared_as_lengths() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for (condition, wanted) in [
        ("b - a > INTERVAL '30 days'", "2"),
        ("b - a < INTERVAL '30 days'", "2"),
        ("b - a >= INTERVAL '1 month'", "3"),
        ("INTERVAL '720 hours' <= b - a", "3"),
        ("b - a = INTERVAL '30 days'", "1"),
        ("b - a <> INTERVAL '30 days'", "4"),
        ("b - a IS DISTINCT FROM INTERVAL '30 days'", "5"),
        ("NOT (b - a > INTERVAL '30 days')", "3"),
        ("b - a BETWEEN INTERVAL '24 hours' AND INTERVAL '1 month'", "2"),
        ("b - a NOT BETWEEN INTERVAL '24 hours' AND INTERVAL '1 month'", "3"),
        ("b - a IN (INTERVAL '1 day', INTERVAL '31 days', NULL)", "2"),
        ("CASE b - a WHEN INTERVAL '1 day' THEN true WHEN INTERVAL '744 hours' THEN true ELSE false END", "2"),
        ("a - b < INTERVAL '-30 days'", "2"),
        ("b - a > INTERVAL '1000 years'", "0"),
        (
            "arrow_cast(b, 'Timestamp(Second, None)') - arrow_cast(a, 'Timestamp(Second, None)') > INTERVAL '30 days'",
            "2",
        ),
        ("now() - arrow_cast(b, 'Timestamp(Microsecond, Some(\"UTC\"))') > INTERVAL '1 day'", "5"),
        ("b - a > (SELECT INTERVAL '30 days')", "2"),
        ("INTERVAL '30 days' = INTERVAL '720 hours'", "6"),
        ("INTERVAL '1 month' > INTERVAL '40 days'", "0"),
        ("INTERVAL '1 month' = INTERVAL '30 days'", "6"),
    ] {
        let sql = format!("SELECT count(*) FROM {INSTANTS} WHERE {condition}");
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(condition).0, wanted, "{condition}");
    }
    for (sql, wanted) in [
        (format!("SELECT b - a > INTERVAL '30 days' FROM {INSTANTS} ORDER BY b LIMIT 4"), "false\nfalse\nfalse\ntrue"),
        (
            format!(
                "SELECT count(*) FROM (SELECT b - lag(b) OVER (ORDER BY b) AS gap FROM {INSTANTS}) \
                 WHERE gap > INTERVAL '1 day'"
            ),
            "2",
        ),
        (
            "SELECT count(*) FROM (SELECT INTERVAL '30 days' AS i) x JOIN (SELECT INTERVAL '720 hours' AS i) y ON x.i = y.i"
                .to_owned(),
            "1",
        ),
        (format!("SELECT max(b - a) > INTERVAL '399 days' FROM {INSTANTS}"), "true"),
        (format!("SELECT count(*) FROM {INSTANTS} WHERE extract(epoch FROM b - a) > 30 * 86400"), "2"),
    ] {
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, wanted, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sorted_grouped_or_joined_by_intervals() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let from = "FROM (SELECT INTERVAL '30 days' AS i UNION ALL SELECT INTERVAL '720 hours') t";
    for (sql, what) in [
        (format!("SELECT i {from} ORDER BY i"), "ORDER BY"),
        (format!("SELECT count(*) {from} GROUP BY i"), "GROUP BY"),
        (format!("SELECT DISTINCT i {from}"), "DISTINCT"),
        (format!("SELECT count(DISTINCT i) {from}"), "DISTINCT"),
        (format!("SELECT min(i) {from}"), "min"),
        (format!("SELECT max(i) OVER () {from}"), "max"),
        (format!("SELECT row_number() OVER (ORDER BY i) {from}"), "ORDER BY"),
        (format!("SELECT row_number() OVER (PARTITION BY i) {from}"), "PARTITION BY"),
        (format!("SELECT greatest(i, INTERVAL '1 day') {from}"), "greatest"),
        (format!("SELECT count(*) {from} JOIN (SELECT INTERVAL '1 day' AS i) u USING (i)"), "a join by columns"),
        (format!("SELECT 1 {from} WHERE i IN (SELECT INTERVAL '1 day')"), "a condition over a subquery"),
    ] {
        let refused = error(&engine, &sql).await;
        let SqlError::Plan { message } = &refused else { panic!("{sql}: {refused:?}") };
        assert!(message.starts_with(&format!("{what} of intervals is not supported")), "{sql}: {message}");
    }
    let seconds = format!("SELECT extract(epoch FROM i) {from} ORDER BY extract(epoch FROM i)");
    assert_eq!(rows(&engine, &ask(&seconds)).await.expect("as the message says").0, "2592000.0\n2592000.0");
    let counted = format!("SELECT count(i), count(*) {from}");
    assert_eq!(rows(&engine, &ask(&counted)).await.expect("nothing is compared").0, "2|2");
}
