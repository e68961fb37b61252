//! Conditions over subqueries: what they mean with nulls, as every other engine has it, and what they cost.

use super::*;

/// `outside` has the rows 1..=6 with x = 1, 2, 3, null, 2, 3; the others have v.
async fn sets(fixture: &Fixture) -> SqlEngine {
    let engine = fixture.engine(SqlConfig { files_in_place: true, threads: Some(2), ..SqlConfig::default() });
    let tables = [
        ("outside", "id,x\n1,1\n2,2\n3,3\n4,\n5,2\n6,3\n"),
        ("plain", "v,k\n2,2\n2,2\n3,1\n"),
        ("holey", "v,k\n2,2\n,1\n2,2\n"),
        ("empty", "v,k\n"),
    ];
    for (name, text) in tables {
        let file = fixture.file(&format!("{name}.csv"), text);
        let columns = if name == "outside" { "id BIGINT, x BIGINT" } else { "v BIGINT, k BIGINT" };
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
