//! What one cut consists of, wherever the mark is and whatever moves meanwhile (H5, H6, H9).

use tidemark_shared::sql::{CutError, SqlError};

use super::support::{PLAIN, World, coverage};

/// The dataset with six records in two partitions, all in the view: offsets 0 to 2 of each, `cents` 1 to 6.
pub(crate) async fn six() -> World {
    let world = World::new(PLAIN).await;
    for cents in 1..=6 {
        let record = format!(r#"{{"id": "{cents}", "cents": {cents}, "v": 1}}"#);
        let _offset = world.produce((cents % 2) as u32, &record).await;
    }
    world.index("g1").await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_wherever_the_mark_is_every_record_counts_once() {
    let world = six().await;
    let sql = "SELECT count(*), sum(cents), (SELECT count(*) FROM batch.orders) AS b, (SELECT count(*) FROM live.orders) AS l FROM orders";
    for (mark, batch) in [([0, 0], 0), ([1, 0], 1), ([1, 3], 4), ([2, 3], 5), ([3, 3], 6)] {
        world.curate("g1", mark).await;
        let (rows, answer) = world.ask(sql).await.expect("an answer");
        assert_eq!(rows, format!("6|21|{batch}|{}", 6 - batch), "{mark:?}");
        let as_of = &answer.as_of.datasets["orders"];
        assert_eq!(as_of.positions, coverage([3, 3]), "{mark:?}");
        assert_eq!(as_of.coverage, world.covered("g1"), "{mark:?}");
        assert_eq!(as_of.log_end, Some(coverage([3, 3])));
        let stats = answer.stats();
        assert_eq!((stats.rows_batch, stats.rows_live), (Some(batch), Some(6 - batch)), "{mark:?}");
    }
    // What the view has not come to yet is curated all the same: as-of is the higher of the two.
    let _offset = world.produce(0, r#"{"id": "7", "cents": 7, "v": 1}"#).await;
    world.curate("g1", [4, 3]).await;
    let (rows, answer) = world.ask("SELECT count(*), sum(cents) FROM merged.orders").await.expect("an answer");
    assert_eq!(rows, "7|28");
    assert_eq!(answer.as_of.datasets["orders"].positions, coverage([4, 3]));
}

/// A figure is told where it is known: no statement has the view count for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_tell_how_many_rows_both_sides_had_and_have_none_counted() {
    let world = six().await;
    world.curate("g1", [2, 1]).await;
    let all = "SELECT (SELECT count(*) FROM orders) AS m, (SELECT count(*) FROM batch.orders) AS b";
    for (sql, wanted) in [
        ("SELECT max(cents) FROM orders", (3, 3)),
        ("SELECT id FROM orders WHERE cents > 5", (3, 3)),
        ("SELECT max(cents) FROM batch.orders", (3, 0)),
        ("SELECT max(cents) FROM live.orders", (0, 3)),
        (all, (3, 3)),
    ] {
        let (_, answer) = world.ask(sql).await.expect("an answer");
        let stats = answer.stats();
        assert_eq!((stats.rows_batch, stats.rows_live), (Some(wanted.0), Some(wanted.1)), "{sql}");
    }
    assert_eq!(world.counted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h6_rows_that_neither_side_has_are_an_error_and_batch_still_answers() {
    let world = six().await;
    world.curate("g1", [1, 1]).await;
    world.drop_below("g1", [2, 1]).await;
    let error = world.ask("SELECT count(*) FROM orders").await.expect_err("a gap");
    let SqlError::Cut { dataset, source: CutError::RealtimeGap { partition, missing } } = error else {
        panic!("{error:?}");
    };
    assert_eq!((dataset.as_str(), partition.to_string().as_str(), missing), ("orders", "orders/0", 1..2));
    assert_eq!(world.ask("SELECT count(*) FROM batch.orders").await.expect("an answer").0, "2");
    // A newer version is found, though an older one is kept open.
    world.curate("g1", [2, 1]).await;
    assert_eq!(world.ask("SELECT count(*) FROM orders").await.expect("an answer").0, "6");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h6_rows_that_go_while_a_question_is_asked_are_found_curated() {
    for pins in 0..4 {
        let world = six().await;
        world.curate("g1", [1, 1]).await;
        let sum = async || world.ask("SELECT count(id), sum(cents) FROM orders").await.expect("an answer").0;
        assert_eq!(sum().await, "6|21");
        // The version that the question finds is older than what the view keeps.
        world.look_before_commits("g1").await;
        world.curate("g1", [3, 2]).await;
        world.drop_after(pins, [3, 2]);
        assert_eq!(sum().await, "6|21", "dropped after {pins} pins");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_the_new_generation_answers_when_its_view_is_as_far_as_the_old_one() {
    let world = six().await;
    world.curate("g1", [1, 1]).await;
    world.publish("g2", 1).await;
    world.curate("g2", [2, 2]).await;
    let generation = async || {
        let (rows, answer) = world.ask("SELECT count(*) FROM orders").await.expect("an answer");
        assert_eq!(rows, "6");
        answer.as_of.datasets["orders"].generation.clone()
    };
    assert_eq!(generation().await, "g1", "the new view is not there");
    world.open_view("g2", [2, 2]).await;
    assert_eq!(generation().await, "g1", "the new view is behind");
    world.index("g2").await;
    assert_eq!(generation().await, "g2");
    // The old view goes on for a while: what has answered once stays.
    let _offset = world.produce(0, r#"{"id": "7", "cents": 7, "v": 1}"#).await;
    world.index("g1").await;
    assert_eq!(generation().await, "g2");
    world.close_view("g1").await;
    assert_eq!(generation().await, "g2");
    world.close_view("g2").await;
    let error = world.ask("SELECT count(*) FROM orders").await.expect_err("no view");
    assert!(matches!(error, SqlError::Cut { source: CutError::NoView { .. }, .. }), "{error:?}");
}
