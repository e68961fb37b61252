//! Several processes on one view: two adapters that know nothing of each other.

use tidemark_shared::live::LiveError;
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};

use crate::{indices, views};

/// H4: whoever comes late moves nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_late_writer_moves_nothing_back() {
    let (one, two) = (views(64), views(64));
    let view = contract::view("late");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..30)).await.unwrap();
    two.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    two.apply(&view, batch(&partition(0), 30..100)).await.unwrap();
    // stopped for a while, it goes on with what it had read
    one.apply(&view, batch(&partition(0), 30..50)).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 100)])).await;
    }
    let error = one.apply(&view, batch(&partition(0), 101..120)).await.expect_err("a gap");
    assert!(matches!(error, LiveError::Gap { visible: 100, .. }), "{error:?}");
    one.apply(&view, batch(&partition(0), 100..140)).await.unwrap();
    two.apply(&view, batch(&partition(0), 90..150)).await.unwrap();
    // floors, likewise
    two.drop_below(&view, &coverage(&[70])).await.unwrap();
    one.drop_below(&view, &coverage(&[60])).await.unwrap();
    one.apply(&view, batch(&partition(0), 150..160)).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(70, 160)])).await;
    }
    one.close(&view).await.unwrap();
    assert!(two.pin(&view).await.unwrap().is_none(), "it is gone for all");
    let error = two.apply(&view, batch(&partition(0), 160..170)).await.expect_err("it is gone");
    assert!(matches!(error, LiveError::Missing { .. }), "{error:?}");
    assert_eq!(indices(&view), Vec::<String>::new(), "a late write left something behind");
}

/// A writer that was away while the view was closed and opened anew finds the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_late_writer_harms_no_view_of_the_same_name() {
    let (one, two) = (views(64), views(64));
    let view = contract::view("anew");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..50)).await.unwrap();
    two.close(&view).await.unwrap();
    two.open(&view, &contract::schema(), &coverage(&[20])).await.unwrap();
    let late = one.apply(&view, batch(&partition(0), 50..90)).await;
    assert!(matches!(late, Err(LiveError::Missing { .. } | LiveError::Gap { .. })), "{late:?}");
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(20, 20)])).await;
    }
    one.apply(&view, batch(&partition(0), 20..60)).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(20, 60)])).await;
    two.close(&view).await.unwrap();
}
