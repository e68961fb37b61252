//! Cuts of a small dataset, whose log, view and table the tests move by hand.

mod counts;
mod cuts;
mod keys;
mod moments;
mod parts;
mod stream;
pub(crate) mod support;
mod switch;

use std::time::Duration;

use tidemark_shared::position::Coverage;
use tidemark_shared::sql::{CutError, Limits, Query, SqlError, Wants};

use cuts::six;
use support::{KEYED, World, coverage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_aggregates_and_filters_run_on_both_sides() {
    let world = six().await;
    world.curate("g1", [2, 1]).await;
    let plan = world.explain("SELECT v, sum(cents) FROM orders WHERE cents > 2 GROUP BY v").await;
    let at = |what: &str| plan.find(what).unwrap_or_else(|| panic!("no {what} in\n{plan}"));
    assert!(at("mode=Partial") < at("UnionExec"), "{plan}");
    let below = &plan[at("UnionExec")..];
    assert_eq!(below.matches("FilterExec").count(), 2, "{plan}");
    assert!(below.contains("DataSourceExec: file_groups") && below.contains("projection=[cents, v]"), "{plan}");
    let counted = world.explain("SELECT count(*) FROM orders").await;
    assert!(counted.contains("PlaceholderRowExec") && !counted.contains("DataSourceExec"), "{counted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_reads_it_or_is_told_how_far_it_got() {
    let world = six().await;
    world.curate("g1", [1, 1]).await;
    let _offset = world.produce(1, r#"{"id": "7", "cents": 7, "v": 1}"#).await;
    let wants = |end| Wants { at_least: [("orders".to_owned(), coverage([0, end]))].into(), ..Wants::default() };
    let asked = wants(4);
    let (found, ()) = tokio::join!(world.ask_wanting("SELECT count(*) FROM orders", &asked), world.index("g1"));
    assert_eq!(found.expect("it comes").0, "7");
    let error = world.ask_wanting("SELECT count(*) FROM orders", &wants(9)).await.expect_err("it never comes");
    match error {
        SqlError::Cut { source: CutError::NotReached { wanted, reached, .. }, .. } => {
            assert_eq!((wanted, reached), (coverage([0, 9]), coverage([3, 4])));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_vain_is_told_how_far_it_got_though_a_look_goes_on() {
    for (looks, seen) in [(1, coverage([3, 3])), (0, Coverage::new())] {
        let world = six().await;
        world.stop_after(looks);
        let wants = Wants { at_least: [("orders".to_owned(), coverage([0, 9]))].into(), ..Wants::default() };
        let limits = Limits { timeout: Some(Duration::from_secs(1)), ..Limits::default() };
        let sql = "SELECT count(*) FROM orders".to_owned();
        let query = Query { sql, wants, limits, ..Query::default() };
        let error = world.engine().query(&query).await.expect_err("it never comes");
        let SqlError::Cut { source: CutError::NotReached { wanted, reached, .. }, .. } = error else {
            panic!("{looks}: {error:?}");
        };
        assert_eq!((wanted, reached), (coverage([0, 9]), seen), "{looks}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_what_is_curated_waits_for_a_batch_run() {
    let world = six().await;
    world.curate("g1", [1, 1]).await;
    let wants = |end| Wants { at_least: [("orders".to_owned(), coverage([0, end]))].into(), ..Wants::default() };
    let only_batch = "SELECT count(*) FROM batch.orders";
    // Whichever layer comes first in the text: one moment is taken for both, and must do for both.
    let both = "SELECT (SELECT count(*) FROM merged.orders) AS m, (SELECT count(*) FROM batch.orders) AS b";
    for (sql, mark, rows) in [(only_batch, 2, "3"), (both, 3, "6|4")] {
        let (asked, ends) = (wants(mark), [1, mark]);
        let (found, ()) = tokio::join!(world.ask_wanting(sql, &asked), world.curate("g1", ends));
        assert_eq!(found.expect("it is curated").0, rows, "{sql}");
    }
    let error = world.ask_wanting(only_batch, &wants(4)).await.expect_err("nobody curates it");
    let SqlError::Cut { source: CutError::NotReached { wanted, reached, waited_ms }, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((wanted, reached), (coverage([0, 4]), coverage([1, 3])));
    assert!(waited_ms >= 500, "it gave up after {waited_ms} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_as_old_as_the_oldest_record_it_lacks() {
    let world = six().await;
    world.curate("g1", [1, 1]).await;
    let age = async |wants: &Wants| {
        let answered = world.ask_wanting("SELECT count(*) FROM orders", wants).await;
        answered.map(|(_, answer)| answer.as_of.datasets["orders"].age_ms)
    };
    let within = |ms| Wants { staleness_max: Some(Duration::from_millis(ms)), ..Wants::default() };
    assert_eq!(age(&within(0)).await.expect("nothing is missing"), Some(0));
    let _offset = world.produce(1, r#"{"id": "7", "cents": 7, "v": 1}"#).await;
    world.pass(Duration::from_millis(300));
    assert_eq!(age(&within(300)).await.expect("young enough"), Some(300));
    let error = age(&within(299)).await.expect_err("too old");
    assert!(
        matches!(error, SqlError::Cut { source: CutError::TooStale { age_ms: 300, limit_ms: 299 }, .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_answer_is_given_again_wherever_the_mark_is_now() {
    let world = six().await;
    let at_positions = |at: Coverage| Wants { positions: [("orders".to_owned(), at)].into(), ..Wants::default() };
    for mark in [[0, 0], [1, 2], [3, 3]] {
        world.curate("g1", mark).await;
        for at in [[0, 0], [1, 0], [2, 3], [3, 3]] {
            let asked = at_positions(coverage(at));
            let (rows, answer) = world
                .ask_wanting("SELECT count(*), count(*) FILTER (WHERE _partition = 1) FROM orders", &asked)
                .await
                .expect("an answer");
            assert_eq!(rows, format!("{}|{}", at[0] + at[1], at[1]), "{mark:?} {at:?}");
            assert_eq!(answer.as_of.datasets["orders"].positions, coverage(at));
        }
    }
    let error =
        world.ask_wanting("SELECT 1 FROM orders", &at_positions(coverage([4, 0]))).await.expect_err("not there yet");
    assert!(matches!(error, SqlError::Cut { source: CutError::NotReached { .. }, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_listings_are_those_of_three_schemas() {
    let world = World::new(KEYED).await;
    let listed =
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name = 'orders' ORDER BY 1";
    assert_eq!(world.ask(listed).await.expect("lists").0, "batch|orders\nlive|orders\nmerged|orders");
    let error = world.ask("SELECT 1 FROM oders").await.expect_err("no such table");
    assert_eq!(error.to_string(), "table `oders` not found; did you mean `orders`?");
}
