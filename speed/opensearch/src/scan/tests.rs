//! What a scan asks for, and what it takes for an answer, before a cluster that is none.

mod stand_in;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_plan::collect;
use futures::StreamExt as _;
use tidemark_shared::error::chain;
use tidemark_shared::live::{AggregateRequest, LivePin, LiveState};
use tidemark_shared::position::LogPartition;
use tidemark_testing::contract::live::{Fate, fate, partition};
use tidemark_testing::wait::until;

use self::stand_in::{END, StandIn};

fn every() -> BTreeMap<LogPartition, Range<u64>> {
    [(partition(0), 0..END)].into()
}

/// How many rows there are.
fn due() -> usize {
    (0..END).filter(|offset| fate(*offset) == Fate::Row).count()
}

/// How many rows come, or why none do.
async fn scanned(
    pin: &Arc<dyn LivePin>,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<usize, String> {
    let plan = pin.scan(&every(), projection, filters, limit).unwrap();
    let batches = collect(plan, Arc::new(TaskContext::default())).await.map_err(|error| chain(&error))?;
    Ok(batches.iter().map(RecordBatch::num_rows).sum())
}

/// How many rows the cluster counts by itself, or why none.
async fn counted(pin: &Arc<dyn LivePin>) -> Result<usize, String> {
    let (filters, groups, states) = (Vec::new(), Vec::new(), vec![LiveState::Rows]);
    let request = AggregateRequest { ranges: every(), filters, groups, states };
    let answer = pin.aggregation(&request).expect("it may be asked").answer().await;
    let batches = answer.map_err(|error| chain(&error))?.expect("it is exact");
    Ok(usize::try_from(batches[0].column(0).as_primitive::<Int64Type>().value(0)).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_fewer_rows_than_there_must_be_is_none() {
    let cluster = StandIn::start().await;
    let no_column = Vec::new();
    let asked = [(None, None), (Some(&no_column), None), (None, Some(1_000))];
    for (projection, limit) in asked {
        assert_eq!(scanned(&cluster.pin().await, projection, &[], limit).await, Ok(due()));
    }
    assert_eq!(counted(&cluster.pin().await).await, Ok(due()));

    let row = cluster.set(|it| it.rows.remove(&50).expect("there is a row at that offset"));
    for (projection, limit) in asked {
        let error = scanned(&cluster.pin().await, projection, &[], limit).await.expect_err("a row is gone");
        assert!(error.contains("`i40` (offsets 48 to 72 of `contract/0`)"), "{error}");
    }
    let error = counted(&cluster.pin().await).await.expect_err("a row is gone");
    assert!(error.contains("`i40`"), "{error}");
    assert_eq!(scanned(&cluster.pin().await, None, &[], Some(3)).await, Ok(3), "it is not one of the first");

    // As a release before this one wrote the position: how many there must be is not known.
    let rowless = cluster.set(|it| it.position.as_object_mut().unwrap().remove("rowless").unwrap());
    assert_eq!(scanned(&cluster.pin().await, None, &[], None).await, Ok(due() - 1));

    // What a writer left that did not move the position may be more.
    cluster.set(|it| {
        it.position["rowless"] = rowless;
        it.rows.extend([(50, row.clone()), (21, row)]);
    });
    assert_eq!(fate(21), Fate::Hole);
    assert_eq!(scanned(&cluster.pin().await, None, &[], None).await, Ok(due() + 1));
}

/// A node has so many points in time for all who search.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_point_in_time_goes_with_the_last_block_of_its_index() {
    let cluster = StandIn::start().await;
    let pin = cluster.pin().await;
    let plan = pin.scan(&every(), None, &[], None).unwrap();
    let mut rows = plan.execute(0, Arc::new(TaskContext::default())).unwrap();
    // Two blocks of the first index, and one of the second.
    for _ in 0..3 {
        rows.next().await.expect("there are seven blocks").unwrap();
    }
    let let_go = |count: usize| (cluster.asked("DELETE _search/point_in_time").len() == count).then_some(());
    until("the end of the first point in time", || let_go(1));
    assert_eq!(cluster.asked("/_search/point_in_time").len(), 2);
    while let Some(batch) = rows.next().await {
        batch.unwrap();
    }
    until("the end of all points in time", || let_go(3));
    assert_eq!(cluster.asked("/_search/point_in_time").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_a_point_in_time_indices_are_read_as_they_are() {
    let cluster = StandIn::start().await;
    cluster.set(|it| it.refuses_points = true);
    assert_eq!(scanned(&cluster.pin().await, None, &[], None).await, Ok(due()));
    assert_eq!(cluster.asked("/_search/point_in_time"), [429; 3], "each index once");
    assert_eq!(cluster.asked("POST _search"), [0_u16; 0], "what was read is of no point in time");
    assert_eq!(cluster.asked(".1/_search").len() - 3, 7, "one for each block");
    assert_eq!(cluster.asked("/_stats/flush").len(), 7, "what was read is compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_conditions_are_refused_all_rows_are_read() {
    let cluster = StandIn::start().await;
    let filters = [col("n").gt_eq(lit(0_i64))];
    // How many rows pass is the engine's to say, and so when there are enough.
    assert_eq!(scanned(&cluster.pin().await, None, &filters, Some(3)).await, Ok(due()));

    cluster.set(|it| it.refuses_conditions = true);
    let pin = cluster.pin().await;
    assert_eq!(scanned(&pin, None, &filters, None).await, Ok(due()));
    let refused = || cluster.asked("POST _search").into_iter().filter(|status| *status == 400).count();
    assert!((1..=2).contains(&refused()), "{} requests of two at once", refused());
    let before = cluster.asked("POST _search").len();
    assert_eq!(scanned(&pin, None, &filters, None).await, Ok(due()));
    assert_eq!(cluster.asked("POST _search").len(), before, "all rows were read, and are in memory");
    let limited = scanned(&cluster.pin().await, None, &filters, Some(3)).await;
    assert_eq!(limited, Ok(due()));
}
