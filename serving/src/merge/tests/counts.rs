//! Counts by partition of merged tables: the curated part of them comes from the Delta log, and is the same as if it were
//! read.

use proptest::prelude::*;
use tidemark_shared::sql::Wants;

use super::support::{KEYED, PLAIN, World, coverage};

/// What a plan says where it reads data files.
const FILES: &str = "DataSourceExec: file_groups";
/// As much for every row as `count(*)`, and nothing that the log tells.
const ROW_BY_ROW: &str = "coalesce(sum(1 + 0 * _offset), 0)";

/// Statements with `{n}` for the count, and whether they read no file.
const CASES: [(&str, bool); 11] = [
    ("SELECT id, {n} FROM orders GROUP BY id ORDER BY id", true),
    ("SELECT id || '!', upper(id), {n} AS n FROM orders o GROUP BY 1, 2 ORDER BY 1, 2", true),
    ("SELECT {n} FROM orders", true),
    ("SELECT {n} FROM orders WHERE id = '1' OR id IS NULL", true),
    ("SELECT {n} FROM orders WHERE id = 'nobody'", true),
    ("SELECT id, {n} FROM orders GROUP BY id HAVING {n} > 1 ORDER BY id", true),
    (
        "SELECT k, {n} FROM (SELECT id AS k, _offset FROM orders UNION ALL SELECT 'x', _offset FROM live.orders) GROUP BY k ORDER BY k",
        true,
    ),
    ("SELECT id, {n} FROM orders WHERE cents > 2 GROUP BY id ORDER BY id", false),
    ("SELECT cents, {n} FROM orders GROUP BY cents ORDER BY cents", false),
    ("SELECT _partition, {n} FROM orders WHERE _offset >= 1 GROUP BY 1 ORDER BY 1", false),
    (
        "SELECT id, {n} FROM (SELECT id, _offset FROM orders ORDER BY cents, _partition, _offset LIMIT 4) GROUP BY id ORDER BY id",
        false,
    ),
];

/// Text, number and partition of each record.
type Said = (Option<u8>, i64, u32);

async fn world(records: &[Said]) -> World {
    let world = World::partitioned(PLAIN, &["id"]).await;
    for (id, cents, partition) in records {
        // An empty text is none to a partition.
        let id =
            id.map_or("null".to_owned(), |id| format!("\"{}\"", if id == 0 { String::new() } else { id.to_string() }));
        let _offset = world.produce(*partition, &format!(r#"{{"id": {id}, "cents": {cents}}}"#)).await;
    }
    world.index("g1").await;
    world
}

async fn same_from_log_and_files(world: &World, pins: &[[u64; 2]]) {
    let none = std::iter::once(Wants::default());
    let pinned = |at: &[u64; 2]| Wants { positions: [("orders".to_owned(), coverage(*at))].into(), ..Wants::default() };
    for wants in none.chain(pins.iter().map(pinned)) {
        // what is live has no earlier answer
        let has_answer = |sql: &str| wants.positions.is_empty() || !sql.contains("live.");
        for (sql, _) in CASES.iter().filter(|(sql, _)| has_answer(sql)) {
            let asked = sql.replace("{n}", "count(*)");
            let (counted, _) = world.ask_wanting(&asked, &wants).await.expect(sql);
            let (read, _) = world.ask_wanting(&sql.replace("{n}", ROW_BY_ROW), &wants).await.expect(sql);
            assert_eq!(counted, read, "{sql} {wants:?} mark {:?}", world.covered("g1"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_curated_part_of_a_count_by_partition_comes_from_the_log() {
    let world =
        world(&[(Some(1), 1, 0), (Some(2), 2, 0), (None, 3, 0), (Some(1), 4, 1), (Some(0), 5, 1), (Some(3), 6, 1)])
            .await;
    for mark in [[0, 0], [1, 0], [2, 1], [3, 2], [3, 3]] {
        world.curate("g1", mark).await;
        same_from_log_and_files(&world, &[[0, 0], [1, 2], mark, [3, 3]]).await;
        if mark == [2, 1] {
            for (sql, from_log) in CASES {
                let plan = world.explain(&sql.replace("{n}", "count(*)")).await;
                assert_eq!(!plan.contains(FILES), from_log, "{sql}\n{plan}");
                let plan = world.explain(&sql.replace("{n}", ROW_BY_ROW)).await;
                assert!(plan.contains(FILES) || sql.contains("nobody"), "{sql}\n{plan}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_summed_up_before_they_meet() {
    let world = world(&[(Some(1), 1, 0), (Some(2), 2, 0), (None, 3, 1)]).await;
    world.curate("g1", [1, 0]).await;
    let plan = world.explain("SELECT id, count(*) FROM orders GROUP BY id").await;
    let at = |what: &str| plan.rfind(what).unwrap_or_else(|| panic!("no {what} in\n{plan}"));
    assert!(at("mode=Partial") < at("UnionExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_key_are_not_counted_by_the_log() {
    let world = World::partitioned(KEYED, &["id"]).await;
    for (version, gone) in [(1, false), (2, false), (3, true), (1, false)] {
        let key = if gone { "b" } else { "a" };
        let _offset =
            world.produce(0, &format!(r#"{{"id": "{key}", "cents": 1, "v": {version}, "gone": {gone}}}"#)).await;
    }
    world.index("g1").await;
    for mark in [[0, 0], [1, 0], [3, 0], [4, 0]] {
        world.curate("g1", mark).await;
        for table in ["merged.orders", "batch.orders"] {
            let sql = format!("SELECT id, count(*) FROM {table} GROUP BY id");
            let (rows, _) = world.ask(&sql).await.expect("an answer");
            let wanted = match (table, mark[0]) {
                ("batch.orders", 0) => "",
                _ => "a|1",
            };
            assert_eq!(rows, wanted, "{sql} {mark:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_from_the_log_are_those_of_the_rows(
        records in prop::collection::vec((prop::option::weighted(0.8, 0..4_u8), 0..6_i64, 0..2_u32), 0..20),
        marks in prop::collection::vec([0..6_u64, 0..6_u64], 1..3),
        pin in [0..9_u64, 0..9_u64],
    ) {
        let ends = [0, 1].map(|partition| records.iter().filter(|record| record.2 == partition).count() as u64);
        let within = |at: [u64; 2]| [at[0].min(ends[0]), at[1].min(ends[1])];
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let world = world(&records).await;
            let mut mark = [0, 0];
            for moved in &marks {
                mark = within([mark[0] + moved[0], mark[1] + moved[1]]);
                world.curate("g1", mark).await;
                same_from_log_and_files(&world, &[within(pin)]).await;
            }
        });
    }
}
