//! Statements that are valid, and that DataFusion by itself refuses.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_partitions_decide_can_be_counted_by_whatever_its_form() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for (group, wanted) in [
        ("(pickup_month > '03') IS TRUE", "false|3000\ntrue|9000"),
        ("(pickup_month > 3) IS NOT TRUE", "false|9000\ntrue|3000"),
        ("(pickup_month > '03') IS FALSE", "false|9000\ntrue|3000"),
        ("(pickup_month > '03') IS NOT FALSE", "false|3000\ntrue|9000"),
        ("(pickup_month > '03') IS UNKNOWN", "false|12000"),
        ("(pickup_month > '03') IS NOT UNKNOWN", "true|12000"),
        ("(pickup_month > '03' AND pickup_month < '06') IS NOT TRUE", "false|2000\ntrue|10000"),
        ("pickup_month IS NULL", "false|12000"),
        ("pickup_month IS DISTINCT FROM '03'", "false|1000\ntrue|11000"),
        ("pickup_month NOT IN ('01', '02')", "false|2000\ntrue|10000"),
        ("CASE WHEN pickup_month > '03' THEN 'late' ELSE 'early' END", "early|3000\nlate|9000"),
        ("CASE WHEN (pickup_month > '03') IS TRUE THEN 1 ELSE 0 END", "0|3000\n1|9000"),
        ("coalesce(nullif(pickup_month, '01'), 'first') = 'first'", "false|11000\ntrue|1000"),
    ] {
        let sql = format!("SELECT {group}, count(*) FROM trips GROUP BY 1 ORDER BY 1");
        let (found, answer) = rows(&engine, &ask(&sql)).await.expect(group);
        assert_eq!(found, wanted, "{group}");
        assert_eq!(answer.stats().files_read, 0, "{group}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truth_can_be_a_column_below_an_aggregate() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let inner = "SELECT (fare_amount > 50) IS TRUE AS high, fare_amount FROM trips";
    for (sql, wanted) in [
        (format!("SELECT high, count(DISTINCT fare_amount) FROM ({inner}) GROUP BY 1 ORDER BY 1"), "false|51\ntrue|49"),
        (format!("SELECT high, sum(1) FROM ({inner} UNION ALL SELECT false, 1) GROUP BY 1 ORDER BY 1"), "false|6121\ntrue|5880"),
        ("SELECT DISTINCT (row_number() OVER (ORDER BY id) > 5) IS TRUE FROM trips ORDER BY 1".to_owned(), "false\ntrue"),
        (
            "SELECT count(*) FILTER (WHERE (fare_amount > 50) IS TRUE), sum(CASE WHEN (fare_amount > 50) IS TRUE THEN 1 END) \
             FROM trips"
                .to_owned(),
            "5880|5880",
        ),
        ("SELECT count(*) FROM trips WHERE (fare_amount > 50) IS NOT TRUE".to_owned(), "6120"),
    ] {
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, wanted, "{sql}");
    }
    let named = "SELECT (fare_amount > 50) IS TRUE, count(*) FROM trips GROUP BY 1";
    let (_, answer) = rows(&engine, &ask(named)).await.expect("an answer");
    let name = answer.schema.field(0).name();
    assert!(name.ends_with("> Int64(50) IS TRUE"), "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_of_decimals_beside_distinct_values_is_of_its_type() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let values = "(1, 1.5, 2), (1, 1.5, 2), (1, 1.5, 3), (2, 0.5, 4)";
    let from = format!("FROM (SELECT x, CAST(d AS DECIMAL(10, 2)) AS d, y FROM (VALUES {values}) AS v(x, d, y)) AS t");
    for (sql, wanted) in [
        (format!("SELECT x, count(DISTINCT y) {from} GROUP BY x HAVING sum(d) > 3"), "1|2"),
        (format!("SELECT x, sum(d), count(DISTINCT y) {from} GROUP BY x HAVING sum(d) < 3"), "2|0.50|1"),
        (
            format!("SELECT x, sum(d) + 1, max(d), sum(DISTINCT d) {from} GROUP BY x ORDER BY 1"),
            "1|5.50|1.50|1.50\n2|1.50|0.50|0.50",
        ),
        (format!("SELECT sum(d), count(DISTINCT y) {from} HAVING sum(d) BETWEEN 4 AND 6"), "5.00|3"),
    ] {
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, wanted, "{sql}");
    }
    let typed = format!("SELECT sum(d), count(DISTINCT y) {from}");
    let (_, answer) = rows(&engine, &ask(&typed)).await.expect("an answer");
    assert_eq!(*answer.schema.field(0).data_type(), DataType::Decimal128(20, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instants_reach_further_than_nanoseconds() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let instant = |text: &str| format!("arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')");
    let rows_of = format!(
        "FROM (VALUES ({}), ({}), ({}), (NULL)) AS t(at)",
        instant("0001-06-01T01:02:03.5"),
        instant("2024-05-06T07:08:09.5"),
        instant("2500-06-01T01:02:03.5")
    );
    for (sql, wanted) in [
        (
            "SELECT TIMESTAMP '2500-01-01 00:00:00', CAST('0001-01-01' AS TIMESTAMP)",
            "2500-01-01T00:00:00|0001-01-01T00:00:00",
        ),
        (
            "SELECT '9999-12-31'::timestamp, TRY_CAST('1500-01-01' AS TIMESTAMP)",
            "9999-12-31T00:00:00|1500-01-01T00:00:00",
        ),
        ("SELECT TIMESTAMP '2020-01-01 00:00:00.123456789'", "2020-01-01T00:00:00.123456789"),
        ("SELECT count(*) {rows} WHERE at < TIMESTAMP '9999-12-31' AND at > TIMESTAMP '1000-01-01'", "2"),
        ("SELECT count(*) {rows} WHERE at BETWEEN TIMESTAMP '2020-01-01' AND TIMESTAMP '9999-12-31'", "2"),
        ("SELECT count(*) {rows} WHERE at >= DATE '2400-01-01'", "1"),
        ("SELECT count(*) {rows} WHERE coalesce(at, TIMESTAMP '9999-12-31') > DATE '2400-01-01'", "2"),
        ("SELECT count(*) {rows} WHERE coalesce(at, TIMESTAMP '2020-01-01') > DATE '2400-01-01'", "1"),
        ("SELECT count(*) {rows} WHERE coalesce(at, DATE '9999-12-31') > DATE '2400-01-01'", "2"),
        ("SELECT count(*) {rows} WHERE coalesce(at, '9999-12-31') > DATE '2400-01-01'", "2"),
        ("SELECT count(*) {rows} WHERE nullif(at, TIMESTAMP '2024-05-06 07:08:09.5') IS NULL", "2"),
        ("SELECT count(*) {rows} WHERE nullif(at, DATE '9999-12-31') IS NULL", "1"),
        ("SELECT count(*) {rows} WHERE greatest(at, TIMESTAMP '2030-01-01') > DATE '2400-01-01'", "1"),
        ("SELECT count(*) {rows} WHERE least(at, DATE '2020-01-01') < DATE '1000-01-01'", "1"),
        (
            "SELECT count(*) {rows} WHERE CASE WHEN at IS NULL THEN TIMESTAMP '2020-01-01' ELSE at END > DATE '2400-01-01'",
            "1",
        ),
        ("SELECT sum(CASE at WHEN TIMESTAMP '2024-05-06 07:08:09.5' THEN 1 ELSE 0 END) {rows}", "1"),
        (
            "SELECT date_trunc('year', at) {rows} ORDER BY 1",
            "0001-01-01T00:00:00Z\n2024-01-01T00:00:00Z\n2500-01-01T00:00:00Z\n",
        ),
        (
            "SELECT date_trunc('week', at) {rows} ORDER BY 1",
            "0001-05-28T00:00:00Z\n2024-05-06T00:00:00Z\n2500-05-31T00:00:00Z\n",
        ),
        (
            "SELECT datetrunc('hour', at) {rows} ORDER BY 1",
            "0001-06-01T01:00:00Z\n2024-05-06T07:00:00Z\n2500-06-01T01:00:00Z\n",
        ),
        ("SELECT date_trunc('month', TIMESTAMP '2500-06-09 10:00:00')", "2500-06-01T00:00:00"),
        ("SELECT date_trunc('minute', TIMESTAMP '1500-06-09 10:11:12')", "1500-06-09T10:11:00"),
    ] {
        let sql = sql.replace("{rows}", &rows_of);
        assert_eq!(rows(&engine, &ask(&sql)).await.expect(&sql).0, wanted, "{sql}");
    }
    let unknown = error(&engine, &format!("SELECT date_trunc('aeon', at) {rows_of}")).await;
    assert!(unknown.to_string().contains("aeon"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_can_be_selected_twice() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for (sql, wanted, names) in [
        (
            "SELECT fare_amount, id, fare_amount FROM trips ORDER BY id LIMIT 2",
            "0|1000000|0\n1|1000001|1",
            vec!["fare_amount", "id", "fare_amount"],
        ),
        ("SELECT count(*), count(*) FROM trips", "12000|12000", vec!["count(*)", "count(*)"]),
        ("SELECT 1, 1", "1|1", vec!["Int64(1)", "Int64(1)"]),
        (
            "SELECT DISTINCT pickup_month, pickup_month FROM trips ORDER BY pickup_month LIMIT 1",
            "01|01",
            vec!["pickup_month", "pickup_month"],
        ),
        (
            "SELECT pickup_month AS m, max(id), pickup_month AS m FROM trips GROUP BY 1, 3 ORDER BY 1 DESC LIMIT 1",
            "12|12000999|12",
            vec!["m", "max(trips.id)", "m"],
        ),
        ("SELECT CAST(x AS TEXT), x::double FROM (SELECT 7 AS x) t", "7|7.0", vec!["t.x", "t.x"]),
        (
            "SELECT abs(fare_amount::int), abs(fare_amount) AS a, abs(fare_amount::double) FROM trips ORDER BY id LIMIT 1",
            "0|0|0.0",
            vec!["abs(trips.fare_amount)", "a", "abs(trips.fare_amount)"],
        ),
    ] {
        let (found, answer) = rows(&engine, &ask(sql)).await.expect(sql);
        assert_eq!(found, wanted, "{sql}");
        let found: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(found, names, "{sql}");
    }
    let two_meanings = error(&engine, "SELECT id AS p, fare_amount AS p FROM trips ORDER BY p").await;
    assert!(matches!(two_meanings, SqlError::Plan { .. }), "{two_meanings:?}");
    let aggregated = error(&engine, "SELECT sum(id), sum(id::double) FROM trips").await;
    assert!(aggregated.to_string().contains("compute one of them in a subquery"), "{aggregated}");
    let apart = "SELECT sum(x), sum(y) FROM (SELECT 1 AS x, 1::double AS y)";
    assert_eq!(rows(&engine, &ask(apart)).await.expect("as the message says").0, "1|1.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_read_is_refused_with_what_to_write_instead() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for (sql, instead) in [
        ("SELECT id * 1_000 FROM trips", "without `_`, `1000`"),
        ("SELECT id + 0x1F FROM trips", "in decimal, `31`"),
        ("SELECT id FROM trips WHERE pickup_month SIMILAR TO 'a|b'", "regexp_like"),
        ("SELECT id FROM trips ORDER BY pickup_month NOT SIMILAR TO '0%'", "LIKE"),
        ("SELECT a.id FROM trips a SEMI JOIN trips b ON a.id = b.id", "LEFT SEMI JOIN"),
        ("SELECT 1 UNION SELECT a.id FROM (trips a ANTI JOIN trips b ON a.id = b.id)", "LEFT ANTI JOIN"),
        ("SELECT * FROM trips PIVOT (sum(id) FOR pickup_month IN ('01', '02'))", "FILTER (WHERE"),
        ("SELECT id, e FROM (SELECT 1 AS id, [1, 2] AS l) t, UNNEST(l) AS u(e)", "SELECT id, unnest(tags)"),
        (
            "SELECT t.id, u.n FROM trips t CROSS JOIN LATERAL (SELECT t.id + fare_amount AS n FROM trips LIMIT 1) u",
            "LATERAL subquery",
        ),
    ] {
        let refused = error(&engine, sql).await;
        assert_eq!(refused.kind(), Kind::Invalid, "{sql}: {refused:?}");
        assert!(refused.to_string().contains(instead), "{sql}: {refused}");
    }
    for (sql, wanted) in [
        ("SELECT count(*) FROM trips a LEFT SEMI JOIN trips b ON a.id = b.id", "12000"),
        ("SELECT id, unnest(l) FROM (SELECT 7 AS id, [1, 2] AS l) t", "7|1\n7|2"),
    ] {
        assert_eq!(rows(&engine, &ask(sql)).await.expect(sql).0, wanted, "{sql}");
    }
}
