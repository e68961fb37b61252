//! Statements of a line that would take all memory or all time there is.

use std::time::Instant;

use super::*;

/// Longest time that a refusal may take, on a machine that does other things as well.
const SOON: Duration = Duration::from_secs(30);

/// `levels` tables of a `WITH` clause, each made of the one before.
fn levels(first: &str, levels: usize, next: impl Fn(&str) -> String) -> String {
    let mut sql = format!("WITH t0 AS ({first})");
    for level in 1..=levels {
        sql += &format!(", t{level} AS ({})", next(&format!("t{}", level - 1)));
    }
    sql
}

async fn refused_soon(engine: &SqlEngine, sql: &str) -> SqlError {
    let begun = Instant::now();
    let refused = error(engine, sql).await;
    assert!(begun.elapsed() < SOON, "`{sql}` took {:?}", begun.elapsed());
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_memory_does_not_hold_are_refused_before_they_are_made() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let doubled = |expression: &str| {
        let next = |table: &str| format!("SELECT {expression} AS x FROM {table}");
        format!("{} SELECT * FROM t15", levels("SELECT repeat(note, 1000) AS x FROM trips LIMIT 10", 15, next))
    };
    let lists = levels("SELECT array_repeat(id, 10000) AS x FROM trips LIMIT 10", 15, |table| {
        format!("SELECT x || x AS x FROM {table}")
    });
    let statements = [
        "SELECT array_repeat(1, 2000000000)".to_owned(),
        "SELECT repeat('x', 1000000000)".to_owned(),
        "SELECT length(repeat(repeat('x', 100000), 100000))".to_owned(),
        "SELECT lpad('x', 1000000000), rpad('x', 1000000000, 'ab')".to_owned(),
        "SELECT range(0, 10000000000)".to_owned(),
        "SELECT cardinality(generate_series(1, 3000000000))".to_owned(),
        "SELECT generate_series(TIMESTAMP '1900-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 millisecond')".to_owned(),
        "SELECT generate_series(DATE '2020-01-01', DATE '2021-01-01', INTERVAL '1 month -31 days')".to_owned(),
        "SELECT array_resize([1], 2000000000)".to_owned(),
        "SELECT replace(repeat('a', 1000000), 'a', repeat('b', 1000000))".to_owned(),
        "SELECT regexp_replace(repeat('a', 1000000), 'a', repeat('b', 1000000), 'g')".to_owned(),
        "SELECT array_to_string(range(1, 1000000), repeat(',', 1000000))".to_owned(),
        "SELECT array_replace_all(array_repeat('a', 1000000), 'a', repeat('b', 1000000))".to_owned(),
        "SELECT to_char(DATE '2020-01-01', repeat('%A', 20000000))".to_owned(),
        "SELECT repeat('x', 200000000), repeat('y', 200000000), repeat('z', 200000000)".to_owned(),
        "SELECT count(*) FROM trips WHERE note = repeat('x', 1000000000)".to_owned(),
        // Not constant, so not known before it runs.
        "SELECT max(length(repeat(note, id))) FROM trips".to_owned(),
        "SELECT count(array_repeat(id, id * 1000)) FROM trips".to_owned(),
        "SELECT max(lpad(note, id * 1000)) FROM trips".to_owned(),
        "SELECT max(cardinality(range(id * 1000))) FROM trips".to_owned(),
        // Copied for each row.
        "SELECT id, repeat('x', 1000000) FROM trips".to_owned(),
        doubled("x || x"),
        doubled("concat(x, x)"),
        format!("{lists} SELECT * FROM t15"),
    ];
    for sql in statements {
        let refused = refused_soon(&engine, &sql).await;
        assert!(matches!(refused, SqlError::TooLarge { .. }), "`{sql}`: {refused:?}");
        assert_eq!(refused.kind(), Kind::Exhausted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_stand_for_too_much_are_refused() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let joined =
        levels("SELECT id FROM trips", 30, |table| format!("SELECT a.id FROM {table} a JOIN {table} b USING (id)"));
    let refused = refused_soon(&engine, &format!("{joined} SELECT count(*) FROM t30")).await;
    assert!(matches!(refused, SqlError::TooComplex { .. }), "{refused:?}");
    // Columns that are made of each other double at each step, whatever is done to the last.
    let column = |next: &str| levels("SELECT id AS x FROM trips", 60, |table| next.replace("TABLE", table));
    let sums = column("SELECT x + x % 7 AS x FROM TABLE");
    let groups = column("SELECT x + x % 7 AS x FROM TABLE GROUP BY x");
    let structs = column("SELECT struct(x, x) AS x FROM TABLE");
    for sql in [
        format!("{sums} SELECT count(*) FROM t60 WHERE x > 5"),
        format!("{sums} SELECT x FROM t60 ORDER BY x LIMIT 1"),
        format!("{groups} SELECT count(*) FROM t60 a JOIN t60 b ON a.x = b.x"),
        format!("{structs} SELECT x FROM t60 LIMIT 1"),
    ] {
        let refused = refused_soon(&engine, &sql).await;
        assert!(matches!(refused, SqlError::TooComplex { .. }), "{sql}: {refused:?}");
    }
    // The same with a thousand at each step: a few steps would be more than there is memory for.
    let sum = vec!["x"; 1_000].join(" + ");
    let columns = levels("SELECT id AS x FROM trips", 4, |table| format!("SELECT {sum} AS x FROM {table}"));
    let refused = refused_soon(&engine, &format!("{columns} SELECT count(*) FROM t4 WHERE x > 5")).await;
    assert!(matches!(refused, SqlError::TooComplex { .. }), "{refused:?}");
    let range = refused_soon(&engine, "SELECT * FROM range(length(repeat('x', 1000000000)))").await;
    assert!(matches!(range, SqlError::TooLarge { .. } | SqlError::Plan { .. }), "{range:?}");
    for (open, close) in
        [("(", ")"), ("[", "]"), ("abs(", ")"), ("CASE WHEN true THEN ", " END"), ("NOT ", ""), ("- ", "")]
    {
        let sql = format!("SELECT {}1{}", open.repeat(50_000), close.repeat(50_000));
        let refused = refused_soon(&engine, &sql).await;
        assert!(matches!(refused, SqlError::TooDeep { .. } | SqlError::Syntax { .. }), "{open}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guarded_functions_answer_as_ever() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { memory_bytes_max: 64 << 20, ..SqlConfig::default() });
    let long = "y".repeat(1_000);
    let cases = [
        ("SELECT repeat('ab', 3), lpad('7', 3, '0'), range(3)".to_owned(), "ababab|007|[0, 1, 2]"),
        ("SELECT 'a' || 1, 'a' || NULL, concat('a', NULL, 1), [1] || [2]".to_owned(), "a1||a1|[1, 2]"),
        ("SELECT note || '!' FROM trips WHERE id = 1000007".to_owned(), "a note on trip number 1000007!"),
        (
            "SELECT max(note || '-' || pickup_month) FROM trips WHERE id < 1000010".to_owned(),
            "a note on trip number 1000009-01",
        ),
        (
            "SELECT cardinality(generate_series(DATE '2020-01-31', DATE '2021-01-31', INTERVAL '1 month'))".to_owned(),
            "13",
        ),
        // By its arguments it could be gigabytes: it is made in pieces.
        (format!("SELECT sum(length(replace(note || note, 'zz', '{long}'))) FROM trips"), "702000"),
        (format!("SELECT count(*) FROM trips WHERE regexp_replace(note, 'q', '{long}', 'g') = note"), "12000"),
    ];
    for (sql, wanted) in cases {
        let (found, _) = rows(&engine, &ask(&sql)).await.unwrap_or_else(|error| panic!("`{sql}`: {error}"));
        assert_eq!(found, wanted, "`{sql}`");
    }
    let (_, answer) = rows(&engine, &ask("SELECT 'a' || note FROM trips LIMIT 1")).await.expect("answers");
    assert_eq!(answer.schema.field(0).name(), "Utf8(\"a\") || trips.note");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planning_without_a_pause_ends_with_the_time_limit() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    // Folded while it is planned, in one call that takes some seconds.
    let sql = "SELECT levenshtein(repeat('a', 60000), repeat('b', 60000))";
    let limits = Limits { timeout: Some(Duration::from_millis(100)), ..Limits::default() };
    let late = engine.query(&Query { limits, ..ask(sql) }).await.expect_err("too late");
    assert!(matches!(late, SqlError::TimedOut { limit_ms: 100 }), "{late:?}");
    let (found, _) = rows(&engine, &ask("SELECT count(*) FROM trips")).await.expect("others go on");
    assert_eq!(found, "12000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_a_window_at_each_of_its_rows_is_refused() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for sql in [
        "SELECT array_agg(id) OVER () FROM trips",
        "SELECT count(*) FROM (SELECT string_agg(note, ',') OVER (ORDER BY id) AS all_notes FROM trips)",
    ] {
        let refused = refused_soon(&engine, sql).await;
        assert!(
            matches!(&refused, SqlError::Plan { message } if message.contains("of all rows of its window")),
            "{refused:?}"
        );
    }
    let (counted, _) = rows(&engine, &ask("SELECT cardinality(array_agg(id)) FROM trips")).await.expect("one list");
    assert_ne!(counted, "0");
}

/// Of such short rows, the merge needs more than the rows take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sort_by_several_columns_spills_what_memory_does_not_hold() {
    let fixture = Fixture::new().await;
    let sql = "SELECT count(*), max(n) FROM (SELECT row_number() OVER (ORDER BY k, value) AS n \
               FROM (SELECT value % 1000 AS k, value FROM range(1000000)))";
    for threads in [1, 2] {
        let small = SqlConfig { memory_bytes_max: 16 << 20, threads: Some(threads), ..SqlConfig::default() };
        let full = fixture.engine(SqlConfig { spill_bytes_max: 1, ..small.clone() });
        let stopped = rows(&full, &ask(sql)).await.expect_err("it does not fit");
        assert!(matches!(stopped, SqlError::OutOfSpillSpace { limit_bytes: 1 }), "{threads}: {stopped:?}");
        let (counted, _) = rows(&fixture.engine(small), &ask(sql)).await.expect("it spills");
        assert_eq!(counted, "1000000|1000000", "{threads}");
    }
}
