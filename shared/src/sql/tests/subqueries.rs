//! Conditions over subqueries: what they mean with nulls, as every other engine has it, and what they cost.

use super::*;

/// `outside` has the rows 1..=6 with x = 1, 2, 3, null, 2, 3; the others have v and k, `narrow` in fewer bits.
async fn sets(fixture: &Fixture) -> SqlEngine {
    let engine = fixture.engine(SqlConfig { files_in_place: true, threads: Some(2), ..SqlConfig::default() });
    let tables = [
        ("outside", "id,x\n1,1\n2,2\n3,3\n4,\n5,2\n6,3\n"),
        ("plain", "v,k\n2,2\n2,2\n3,1\n"),
        ("holey", "v,k\n2,2\n,1\n2,2\n"),
        ("empty", "v,k\n"),
        ("narrow", "v,k\n2,2\n2,2\n3,1\n"),
    ];
    for (name, text) in tables {
        let file = fixture.file(&format!("{name}.csv"), text);
        let columns = match name {
            "outside" => "id BIGINT, x BIGINT",
            "narrow" => "v INT, k INT",
            _ => "v BIGINT, k BIGINT",
        };
        let create = format!(
            "CREATE EXTERNAL TABLE {name} ({columns}) STORED AS CSV LOCATION '{file}' OPTIONS ('format.has_header' 'true')"
        );
        rows(&engine, &ask(&create)).await.expect(name);
    }
    engine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nulls_count_in_conditions_over_subqueries_as_sql_has_it() {
    let fixture = Fixture::new().await;
    let engine = sets(&fixture).await;
    // The ids found with the set `plain`, `holey` and `empty`.
    let cases = [
        ("x NOT IN (SELECT v FROM s)", ["1", "", "1,2,3,4,5,6"]),
        ("NOT x IN (SELECT v FROM s)", ["1", "", "1,2,3,4,5,6"]),
        ("x <> ALL (SELECT v FROM s)", ["1", "", "1,2,3,4,5,6"]),
        ("x IN (SELECT v FROM s)", ["2,3,5,6", "2,5", ""]),
        ("x = ANY (SELECT v FROM s)", ["2,3,5,6", "2,5", ""]),
        ("x > ALL (SELECT v FROM s)", ["", "", "1,2,3,4,5,6"]),
        ("NOT EXISTS (SELECT 1 FROM s WHERE v = x)", ["1,4", "1,3,4,6", "1,2,3,4,5,6"]),
        ("EXISTS (SELECT 1 FROM s WHERE v = x AND k < id)", ["3,5,6", "5", ""]),
        ("NOT EXISTS (SELECT 1 FROM s)", ["", "", "1,2,3,4,5,6"]),
        ("x NOT IN (SELECT v FROM s) OR id = 4", ["1,4", "4", "1,2,3,4,5,6"]),
        ("NOT (x IN (SELECT v FROM s) AND id < 9)", ["1", "", "1,2,3,4,5,6"]),
        ("(x NOT IN (SELECT v FROM s)) IS NULL", ["4", "1,3,4,6", ""]),
        ("x NOT IN (SELECT v FROM s WHERE k = id)", ["1,3,4,5,6", "3,4,5,6", "1,2,3,4,5,6"]),
        ("x NOT IN (SELECT v FROM s LIMIT 9)", ["1", "", "1,2,3,4,5,6"]),
        ("3 NOT IN (SELECT v FROM s)", ["", "", "1,2,3,4,5,6"]),
        ("x NOT IN (SELECT v FROM s WHERE k <> id)", ["1,2", "1", "1,2,3,4,5,6"]),
        ("(x NOT IN (SELECT v FROM s WHERE k <> id)) IS NULL", ["4", "2,3,4,6", ""]),
        ("x NOT IN (SELECT v FROM s WHERE k = x OR id = 6)", ["1,3,4", "3,4", "1,2,3,4,5,6"]),
        // What is compared is never null, what the subquery depends on may be.
        (
            "coalesce(x, 0) NOT IN (SELECT coalesce(v, 0) FROM s WHERE k = id)",
            ["1,3,4,5,6", "1,3,4,5,6", "1,2,3,4,5,6"],
        ),
        ("coalesce(x, 0) NOT IN (SELECT coalesce(v, 0) FROM s WHERE k = x)", ["1,3,4,6", "1,3,4,6", "1,2,3,4,5,6"]),
        (
            "coalesce(x, 0) NOT IN (SELECT coalesce(v, 0) FROM s WHERE k <> x)",
            ["1,2,4,5", "1,2,3,4,5,6", "1,2,3,4,5,6"],
        ),
        ("7 NOT IN (SELECT coalesce(v, 0) FROM s WHERE k = x)", ["1,2,3,4,5,6", "1,2,3,4,5,6", "1,2,3,4,5,6"]),
        // An aggregate over nothing is a row, too.
        ("0 IN (SELECT count(*) FROM s WHERE k = x)", ["3,4,6", "3,4,6", "1,2,3,4,5,6"]),
        ("2 NOT IN (SELECT count(*) FROM s WHERE k = id)", ["1,3,4,5,6", "1,3,4,5,6", "1,2,3,4,5,6"]),
        ("x NOT IN (SELECT max(v) FROM s WHERE k = id)", ["1", "", ""]),
        ("1 > ANY (SELECT count(*) FROM s WHERE k = id)", ["3,4,5,6", "3,4,5,6", "1,2,3,4,5,6"]),
        ("NOT EXISTS (SELECT max(v) FROM s WHERE k = id)", ["", "", ""]),
        ("EXISTS (SELECT 1 FROM s WHERE k = id HAVING count(*) > 1)", ["2", "2", ""]),
        ("x NOT IN (SELECT max(v) FROM s WHERE k = id HAVING count(*) > 1)", ["1,3,4,5,6", "1,3,4,5,6", "1,2,3,4,5,6"]),
        // Compared with its own table, a column is still the outer one.
        ("x <> ALL (SELECT x FROM outside WHERE id > 4)", ["1", "1", "1"]),
        ("x < ANY (SELECT x FROM outside WHERE id = 5)", ["1", "1", "1"]),
    ];
    for (condition, wanted) in cases {
        for (set, wanted) in ["plain", "holey", "empty"].into_iter().zip(wanted) {
            let condition = condition.replace(" FROM s", &format!(" FROM {set}"));
            let (found, _) = rows(&engine, &ask(&format!("SELECT id FROM outside WHERE {condition} ORDER BY 1")))
                .await
                .expect(&condition);
            assert_eq!(found.replace('\n', ","), wanted, "{condition}");
        }
    }
}

/// Asks for the ids of the rows of `from` that meet each condition, and expects those beside it.
async fn meet(from: &str, cases: &[(&str, &str)]) {
    let fixture = Fixture::new().await;
    let engine = sets(&fixture).await;
    for (condition, wanted) in cases {
        let sql = format!("SELECT id FROM {from} WHERE {condition} ORDER BY 1");
        let (found, _) = rows(&engine, &ask(&sql)).await.expect(condition);
        assert_eq!(found.replace('\n', ","), *wanted, "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subquery_depends_on_the_row_outside_by_columns_of_any_width() {
    meet(
        "outside",
        &[
            ("x IN (SELECT v FROM narrow WHERE v >= id)", "2,3"),
            ("x NOT IN (SELECT v FROM narrow WHERE v >= id)", "1,4,5,6"),
            ("x NOT IN (SELECT v FROM narrow WHERE v + 3 >= id)", "1"),
            ("(x IN (SELECT v FROM narrow WHERE v + 3 >= id)) IS NULL", "4"),
            ("x IN (SELECT DISTINCT v FROM narrow WHERE v >= id)", "2,3"),
            ("x IN (SELECT v FROM narrow WHERE v >= id) OR id = 4", "2,3,4"),
            ("x > ALL (SELECT v FROM narrow WHERE v < id)", "1,2,3"),
            ("EXISTS (SELECT CAST(v AS BIGINT) FROM narrow WHERE v = id)", "2,3"),
            // Under the name of another.
            ("x IN (SELECT k AS v FROM narrow WHERE v = id)", "2"),
            ("x + 1 IN (SELECT k + 1 AS v FROM narrow WHERE v = id)", "2"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subquery_depends_on_the_row_outside_by_the_columns_that_it_names() {
    meet(
        "outside",
        &[
            ("x IN (SELECT p.v FROM plain p, holey h WHERE h.k = id)", "2"),
            ("x NOT IN (SELECT p.v FROM plain p, holey h WHERE h.k = id)", "1,3,4,5,6"),
            ("EXISTS (SELECT 1 FROM plain p JOIN holey h ON p.k = h.k WHERE h.v = x AND p.v = id)", "2"),
            ("EXISTS (SELECT 1 FROM plain p, holey h WHERE h.k = id AND p.k = x)", "1,2"),
            ("NOT EXISTS (SELECT 1 FROM plain p, holey h WHERE h.k = id AND p.k = x)", "3,4,5,6"),
            ("EXISTS (SELECT 1 FROM plain p, holey h WHERE h.k = id AND p.k = x) OR id = 4", "1,2,4"),
            ("(SELECT count(*) FROM plain p, holey h WHERE h.k = id AND p.k = x) = 4", "2"),
            ("(SELECT max(h.k) FROM plain p, holey h WHERE h.k = id AND p.k = x) = id", "1,2"),
            // Compared further in than it is selected.
            ("x IN (SELECT t.v FROM (SELECT v FROM plain WHERE k = id) t)", "2"),
            ("x IN (SELECT t.w FROM (SELECT v AS w FROM narrow WHERE k = id) t WHERE t.w > 1)", "2"),
            ("x IN (SELECT t.k FROM (SELECT v AS k FROM plain WHERE k = id) t)", "2"),
            ("EXISTS (SELECT 1 FROM (SELECT * FROM plain WHERE k = id) t JOIN holey h ON t.v = h.v)", "2"),
            ("(SELECT t.n FROM (SELECT count(*) AS n FROM plain WHERE k = id) t) = 0", "3,4,5,6"),
        ],
    )
    .await;
    meet(
        "(SELECT id, x AS v FROM outside)",
        &[
            ("v IN (SELECT v FROM plain)", "2,3,5,6"),
            ("v NOT IN (SELECT v FROM plain)", "1"),
            ("v = 1 OR v IN (SELECT v FROM plain)", "1,2,3,5,6"),
            ("(v IN (SELECT v FROM plain)) IS NULL", "4"),
            ("v NOT IN (SELECT v FROM plain WHERE k = id)", "1,3,4,5,6"),
            ("v > ALL (SELECT v FROM plain WHERE v < 3)", "3,6"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subquery_that_no_join_can_be_made_of_is_refused_in_words() {
    let fixture = Fixture::new().await;
    let engine = sets(&fixture).await;
    let joined = "can't be made a join: it may compare";
    for (condition, words) in [
        ("(SELECT max(v) FROM plain WHERE k <> id) > 2", joined),
        ("(SELECT v FROM plain WHERE k = id LIMIT 1) > 2", joined),
        ("x IN (SELECT v FROM plain WHERE k = id UNION ALL SELECT v FROM holey)", joined),
        ("EXISTS (SELECT v FROM plain WHERE k <> id GROUP BY v HAVING count(*) > 1)", joined),
        ("id IN (SELECT row_number() OVER (ORDER BY v) FROM plain WHERE k = id)", "has a window function of rows"),
        ("EXISTS (SELECT v FROM plain WHERE k = id LIMIT 1 OFFSET 2)", "has an OFFSET of rows"),
        ("EXISTS (SELECT 1 FROM plain WHERE k = id HAVING count(*) < 1)", "has an aggregate over all of rows"),
        (
            "(SELECT max(n) FROM (SELECT count(*) AS n FROM plain WHERE k = id) t) = 0",
            "has an aggregate over all of rows",
        ),
        ("EXISTS (SELECT 1 FROM (SELECT v AS w FROM plain WHERE k = id) t, holey)", "compares with it below a join"),
        (
            "EXISTS (SELECT 1 FROM plain WHERE EXISTS (SELECT 1 FROM holey WHERE holey.v = outside.id))",
            "reaches over the query right around it",
        ),
        ("EXISTS (SELECT 1 FROM plain WHERE x IN (SELECT v FROM holey))", "is compared with a row further outside"),
        ("x NOT IN (SELECT v FROM plain WHERE k = id LIMIT 1)", "write `NOT EXISTS (SELECT … WHERE …)`"),
        ("id = 4 OR x NOT IN (SELECT v FROM holey LIMIT 9)", "make it one of its own, `… AND x NOT IN (…)`"),
        ("(x IN (SELECT v FROM holey LIMIT 9)) IS NULL", "make it one of its own, `… AND x NOT IN (…)`"),
    ] {
        let refused = error(&engine, &format!("SELECT id FROM outside WHERE {condition}")).await;
        let SqlError::Plan { message } = &refused else { panic!("{condition}: {refused:?}") };
        assert!(message.contains(words), "{condition}: {message}");
        assert_eq!(refused.kind(), Kind::Invalid, "{condition}");
    }
    let refused = error(&engine, "SELECT id, (SELECT max(v) FROM plain WHERE k <> id) FROM outside").await.to_string();
    for named in ["the subquery `SELECT max(plain.v) …`", "depends on `outside.id`", "join with its tables instead"] {
        assert!(refused.contains(named), "{refused}");
    }
    let joined = "SELECT id, max(v) FROM outside LEFT JOIN plain ON k <> id GROUP BY id ORDER BY id LIMIT 2";
    let (found, _) = rows(&engine, &ask(joined)).await.expect("as the message says");
    assert_eq!(found, "1|2\n2|3");
    // Where null is as good as false, a second look is not needed.
    let limited = "SELECT id FROM outside WHERE id = 4 OR x IN (SELECT v FROM holey LIMIT 9) ORDER BY id";
    assert_eq!(rows(&engine, &ask(limited)).await.expect("not within another").0, "2\n4\n5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_over_a_subquery_is_no_value_of_a_column() {
    let fixture = Fixture::new().await;
    let engine = sets(&fixture).await;
    for sql in [
        // A filter that is pushed into the select list would lose the nulls of `c`.
        "SELECT id FROM (SELECT id, x NOT IN (SELECT v FROM holey) AS c FROM outside) t WHERE c IS TRUE",
        "WITH t AS (SELECT id, x IN (SELECT v FROM plain) AS c FROM outside) SELECT id FROM t WHERE c IS UNKNOWN",
        "SELECT id, EXISTS (SELECT 1 FROM plain WHERE v = x) FROM outside",
        "SELECT a.id FROM outside a JOIN outside b ON a.x > ALL (SELECT v FROM plain) AND a.id = b.id",
    ] {
        let refused = error(&engine, sql).await;
        let SqlError::Plan { message } = &refused else { panic!("{sql}: {refused:?}") };
        assert!(
            message.starts_with("a condition over a subquery (IN, EXISTS, ANY, ALL) may stand in WHERE"),
            "{message}"
        );
    }
    let counted = "SELECT id FROM outside WHERE (SELECT count(*) FROM plain WHERE v = x) > 1 ORDER BY id";
    let (found, _) = rows(&engine, &ask(counted)).await.expect("as the message says");
    assert_eq!(found, "2\n5");
    let having = "SELECT x FROM outside GROUP BY x HAVING count(*) IN (SELECT k FROM holey) ORDER BY x";
    let (found, _) = rows(&engine, &ask(having)).await.expect("a filter");
    assert_eq!(found, "1\n2\n3\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_over_few_values_compares_no_pairs_of_rows() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { threads: Some(2), ..SqlConfig::default() });
    let many = "SELECT value % 3 AS v FROM range(1000000)";
    for condition in [
        "v NOT IN (SELECT v FROM b)",
        "v <> ALL (SELECT v FROM b)",
        "NOT EXISTS (SELECT 1 FROM b WHERE b.v = a.v)",
        "EXISTS (SELECT 1 FROM b WHERE b.v = a.v + 5)",
        "v IN (SELECT v + 5 FROM b)",
        "v IN (SELECT v + 5 FROM b) OR v = 9",
    ] {
        let sql = format!("WITH a AS ({many}), b AS ({many}) SELECT count(*) FROM a WHERE {condition}");
        // Pair by pair it takes hours.
        let limits = Limits { timeout: Some(Duration::from_secs(60)), ..Limits::default() };
        let (found, _) = rows(&engine, &Query { limits, ..ask(&sql) }).await.expect(condition);
        assert_eq!(found, "0", "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_table_flows_past_the_values_that_it_is_compared_with() {
    let fixture = Fixture::new().await;
    let small = SqlConfig { memory_bytes_max: 4 * 1024 * 1024, threads: Some(1), ..SqlConfig::default() };
    let engine = fixture.engine(SqlConfig { spill_bytes_max: 0, ..small });
    // The outer side alone is ten times the memory.
    let many = "SELECT value AS id, NULLIF(value % 3, 5) AS v, value * 2 AS a, value * 3 AS b, value * 5 AS c \
                FROM range(1000000)";
    for condition in ["v NOT IN (SELECT v FROM b WHERE v > 0)", "v IN (SELECT v FROM b WHERE v < 1)"] {
        let sql = format!(
            "WITH x AS ({many}), b AS (SELECT v FROM ({many})) \
             SELECT count(*), max(id), max(a), max(b), max(c) FROM x WHERE {condition}"
        );
        let (found, _) = rows(&engine, &ask(&sql)).await.expect(condition);
        assert_eq!(found, "333334|999999|1999998|2999997|4999995", "{condition}");
    }
}
