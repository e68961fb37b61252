//! Several processes on one view: two adapters that know nothing of each other.

use tidemark_shared::live::LiveError;
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};

use crate::{ask, indices, views};

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

/// H4: what a process remembers of a partition is no proof where another one has found rows gone, and the position stepped back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_rows_that_another_process_found_gone_are_taken_in_again() {
    let (one, two) = (views(64), views(64));
    let view = contract::view("found-gone");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..100)).await.unwrap();
    let first = indices(&view).into_iter().find(|name| name.contains("__rows__")).expect("an index");
    ask("DELETE", &first);
    two.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 0)])).await;
    // It has found nothing gone itself, and is given again what it has taken in before.
    one.apply(&view, batch(&partition(0), 0..70)).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 70)])).await;
    one.apply(&view, batch(&partition(0), 0..100)).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 100)])).await;
    }
    one.close(&view).await.unwrap();
}

/// H4: nor is it where another one has gone further: who took nothing in for a while is told of no gap that is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_rows_that_another_process_took_in_are_no_gap() {
    let (one, two) = (views(64), views(64));
    let view = contract::view("further");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..30)).await.unwrap();
    two.apply(&view, batch(&partition(0), 30..70)).await.unwrap();
    one.apply(&view, batch(&partition(0), 70..90)).await.expect("it has all below 70");
    let error = one.apply(&view, batch(&partition(0), 95..100)).await.expect_err("a gap");
    assert!(matches!(error, LiveError::Gap { visible: 90, start: 95, .. }), "{error:?}");
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 90)])).await;
    }
    one.close(&view).await.unwrap();
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

/// Two processes that open a view at the same time may know different coverages. Where one of them wins the floor and the other
/// the position, there would seem to be rows that nobody has written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_racing_openers_begin_where_the_floor_is() {
    for round in 0..8 {
        let (one, two) = (views(64), views(64));
        let view = contract::view("opened");
        let (schema, low, high) = (contract::schema(), coverage(&[10]), coverage(&[20]));
        let (opened, also) = tokio::join!(one.open(&view, &schema, &low), two.open(&view, &schema, &high));
        opened.unwrap();
        also.unwrap();
        let pin = two.pin(&view).await.unwrap().unwrap();
        let range = pin.ranges()[&partition(0)];
        assert_eq!(range.floor, range.visible, "round {round}: rows seem to be there that nobody wrote");
        one.close(&view).await.unwrap();
    }
}

/// A writer that was stopped goes on, batch after batch, while the one that took over is far ahead and lets rows go: the visible
/// position only moves forward, every row of it is found once, and nothing of the late one's stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_opensearch_a_writer_that_was_stopped_goes_on_and_changes_nothing() {
    const END: u64 = 600;
    let (stopped, owner, reader) = (views(64), views(64), views(64));
    let view = contract::view("zombie");
    stopped.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    stopped.apply(&view, batch(&partition(0), 0..30)).await.unwrap();
    owner.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    owner.apply(&view, batch(&partition(0), 30..200)).await.unwrap();
    owner.drop_below(&view, &coverage(&[150])).await.unwrap();
    let owns = async {
        for start in (200..END).step_by(20) {
            owner.apply(&view, batch(&partition(0), start..start + 20)).await.unwrap();
            owner.drop_below(&view, &coverage(&[start - 60])).await.unwrap();
        }
    };
    let goes_on = async {
        for start in (30..END).step_by(15) {
            // it begins where it was, in indices that are gone
            match stopped.apply(&view, batch(&partition(0), start..start + 15)).await {
                Ok(()) | Err(LiveError::Gap { .. }) => {}
                Err(error) => panic!("from {start}: {error:?}"),
            }
        }
    };
    let watches = async {
        let (mut visible, mut floor) = (0, 0);
        while visible < END {
            let pin = reader.pin(&view).await.unwrap().unwrap();
            let now = pin.ranges()[&partition(0)];
            assert!(now.visible >= visible && now.floor >= floor, "{visible} and {floor} moved back to {now:?}");
            (visible, floor) = (now.visible, now.floor);
        }
    };
    tokio::join!(owns, goes_on, watches);
    let last = END - 20 - 60;
    for views in [&stopped, &owner, &reader] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(last, END)])).await;
    }
    // whoever looks over the view removes indices that a late writer made again
    owner.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    let kept = indices(&view).into_iter().filter(|name| name.contains("__rows__")).count() as u64;
    assert_eq!(kept, END.div_ceil(64) - last / 64, "indices of rows that were let go are left");
    owner.close(&view).await.unwrap();
    assert_eq!(indices(&view), Vec::<String>::new());
}
