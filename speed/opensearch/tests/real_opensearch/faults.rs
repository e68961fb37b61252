//! What goes wrong with a cluster, and that nothing is lost or doubled by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tidemark_opensearch::{Call, CallOutcome, Calls};
use tidemark_shared::error::{ErrorKind as _, Kind, chain};
use tidemark_shared::live::{LiveError, LiveView};
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};
use tidemark_testing::contract::log::SteppedClock;
use tidemark_testing::wait::until;

use crate::proxy::{Mode, Proxy, SILENT};
use crate::{ask, indices, server, tell, views, views_at, views_with};

/// What OpenSearch sets on every index of a node whose disk is nearly full.
const BLOCK: &str = "index.blocks.read_only_allow_delete";

/// Between two floors that are tried while an index takes no writes.
const PAUSE: Duration = Duration::from_secs(10);

/// How many requests there were.
#[derive(Debug, Default)]
struct Counted(AtomicUsize);

impl Counted {
    fn requests(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Calls for Counted {
    fn ended(&self, _: Call, _: CallOutcome, _: Duration) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Applies a batch until it is taken in.
async fn applied(views: &Arc<dyn LiveView>, view: &tidemark_shared::live::ViewId, range: std::ops::Range<u64>) {
    let mut last = String::new();
    for _ in 0..20 {
        match views.apply(view, batch(&partition(0), range.clone())).await {
            Ok(()) => return,
            Err(error @ LiveError::Backend { .. }) => last = chain(&error),
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("never taken in: {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_that_was_away_goes_on_where_it_was() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 64));
    let view = contract::view("away");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    applied(&views, &view, 0..50).await;
    let before = views.pin(&view).await.unwrap().unwrap();
    proxy.set(Mode::Away);
    let error = views.apply(&view, batch(&partition(0), 50..80)).await.expect_err("nobody is there");
    assert!(matches!(error, LiveError::Backend { .. }), "{error:?}");
    assert!(matches!(views.pin(&view).await, Err(LiveError::Backend { .. })), "a pin of nothing");
    let error = before.counts(&coverage(&[0])).await.expect_err("nobody is there");
    assert!(chain(&error).contains("no answer"), "{}", chain(&error));
    proxy.set(Mode::Pass);
    check_moment(&before, &ranges(&[(0, 50)])).await;
    applied(&views, &view, 50..80).await;
    check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 80)])).await;
    views.close(&view).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_that_is_busy_takes_each_row_once() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 64));
    let view = contract::view("busy");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    let (mut end, mut hits) = (0, 0);
    for mode in [Mode::Busy, Mode::BusyItems] {
        proxy.set(mode);
        let (to, of) = (Arc::clone(&views), view.clone());
        let range = end..end + 90;
        end = range.end;
        let taking = tokio::spawn(async move { applied(&to, &of, range).await });
        until("requests that are refused", || (proxy.hits() >= hits + 3).then_some(()));
        hits = proxy.hits();
        let pin = views.pin(&view).await.unwrap().unwrap();
        assert!(pin.ranges()[&partition(0)].visible < end, "what was not taken is visible");
        proxy.set(Mode::Pass);
        taking.await.unwrap();
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, end)])).await;
    }
    views.close(&view).await.unwrap();
}

/// H6: while a shard moves, none of its copies may say for a moment what it holds. What was read waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_whose_copies_are_silent_for_a_moment_is_asked_again() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 64));
    let view = contract::view("silent");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    applied(&views, &view, 0..50).await;
    let pin = views.pin(&view).await.unwrap().unwrap();
    proxy.set(Mode::Silent);
    assert_eq!(pin.counts(&coverage(&[0])).await.unwrap().records, count(0..50));
    assert_eq!(proxy.hits(), SILENT, "nobody was silent");
    proxy.set(Mode::Pass);
    views.close(&view).await.unwrap();
}

/// H3: whatever was written before its answer was lost counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_answers_that_are_lost_double_nothing() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 64));
    let view = contract::view("deaf");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    for step in 0..4 {
        let range = step * 40..(step + 1) * 40;
        proxy.set(Mode::Deaf);
        let lost = views.apply(&view, batch(&partition(0), range.clone())).await;
        assert!(matches!(lost, Err(LiveError::Backend { .. })), "{lost:?}");
        proxy.set(Mode::Pass);
        // what was read again may be cut elsewhere
        applied(&views, &view, range.start..range.end - 7).await;
        applied(&views, &view, range).await;
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, (step + 1) * 40)])).await;
    }
    views.close(&view).await.unwrap();
}

/// H3, H4: a batch whose answer was lost is written again whole. That it is there already says nothing of an index's other copies,
/// which may still wait for it; what is written again is on all of them before the position moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_documents_that_are_there_are_written_to_every_copy_again() {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 64));
    let view = contract::view("again");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    // the index is there, so that only the documents' answer is lost
    applied(&views, &view, 0..20).await;
    let index = of_rows(indices(&view)).remove(0);
    let document = || {
        let found = ask("GET", &format!("{index}/_doc/contract%2F0%2F20"));
        (found["_seq_no"].as_u64(), found["_version"].as_u64())
    };
    proxy.set(Mode::Deaf);
    let lost = views.apply(&view, batch(&partition(0), 20..50)).await;
    assert!(matches!(lost, Err(LiveError::Backend { .. })), "{lost:?}");
    let (before, version) = document();
    assert!(before.is_some() && version == Some(1), "it was not written: {before:?}, {version:?}");
    proxy.set(Mode::Pass);
    applied(&views, &view, 20..50).await;
    let (after, version) = document();
    // Each operation has a number, and is done on every copy before it is answered.
    assert!(after > before, "it was not written again: {after:?}");
    assert_eq!(version, Some(1), "who writes it once more would be refused");
    check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 50)])).await;
    views.close(&view).await.unwrap();
}

/// An index that is closed has lost nothing: no position steps back, no row is to blame, and once it is open all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_closed_index_is_waited_for() {
    let views = views(64);
    let view = contract::view("closed");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    applied(&views, &view, 0..50).await;
    let index = of_rows(indices(&view)).remove(0);
    assert_eq!(ask("POST", &format!("{index}/_close"))["acknowledged"], true);
    let error = views.apply(&view, batch(&partition(0), 50..60)).await.expect_err("it is closed");
    assert!(matches!(error, LiveError::Backend { .. }) && error.kind() == Kind::Retryable, "{error:?}");
    assert!(chain(&error).contains(&index), "{}", chain(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("_open")), "{error:?}");
    // who looks over the view does not take it for gone
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    assert_eq!(views.pin(&view).await.unwrap().unwrap().ranges(), &ranges(&[(0, 50)]));
    assert_eq!(ask("POST", &format!("{index}/_open"))["shards_acknowledged"], true);
    views.apply(&view, batch(&partition(0), 50..60)).await.unwrap();
    check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 60)])).await;
    views.close(&view).await.unwrap();
}

/// H4, H6, H7: where indices take no writes, as on a disk that is nearly full, curated rows make room all the same. The floor
/// follows, and nothing that is curated is indexed again; meanwhile who would read what went is told so. Whoever drops rows does so
/// all the time, and asks the cluster now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_curated_rows_go_from_a_disk_that_is_nearly_full() {
    let (schema, old, new) = (contract::schema(), coverage(&[0]), coverage(&[90]));
    for by_another in [false, true] {
        let (clock, counted) = (Arc::new(SteppedClock::default()), Arc::new(Counted::default()));
        let one: Arc<dyn LiveView> =
            Arc::new(views_with(&server(), 40, Arc::<SteppedClock>::clone(&clock), Arc::<Counted>::clone(&counted)));
        let two = views(40);
        let view = contract::view("flood");
        one.open(&view, &schema, &old).await.unwrap();
        applied(&one, &view, 0..110).await;
        // of another process: one of the same keeps what it reads
        let before = two.pin(&view).await.unwrap().unwrap();
        let (all, rows) = (indices(&view), of_rows(indices(&view)));
        let block = |names: &[String], value: Option<bool>| {
            let set = tell("PUT", &format!("{}/_settings", names.join(",")), &json!({BLOCK: value}));
            assert_eq!(set["acknowledged"], true, "{set}");
        };
        block(&all, Some(true));

        let error = one.drop_below(&view, &new).await.expect_err("the floor can't be raised");
        assert!(chain(&error).contains("blocked by") && error.kind() == Kind::Retryable, "{}", chain(&error));
        assert_eq!(of_rows(indices(&view)), rows[2..], "curated rows keep the disk full");
        let asked = counted.requests();
        for _ in 0..5 {
            let error = one.drop_below(&view, &new).await.expect_err("the floor can't be raised");
            assert!(error.hint().is_some_and(|hint| hint.contains("make room")), "{error:?}");
        }
        assert_eq!(counted.requests(), asked, "an ailing cluster is asked all the time");
        clock.pass(PAUSE);
        one.drop_below(&view, &new).await.expect_err("there is nothing left to drop");
        let asked = counted.requests() - asked;
        assert!((1..=3).contains(&asked), "the state, a floor and the indices, not {asked} requests");
        for views in [&one, &two] {
            views.open(&view, &schema, &old).await.unwrap();
            assert_eq!(views.pin(&view).await.unwrap().unwrap().ranges(), &ranges(&[(0, 110)]));
        }
        for pin in [&before, &one.pin(&view).await.unwrap().unwrap()] {
            let error = pin.counts(&old).await.expect_err("rows are gone");
            assert!(chain(&error).contains(&rows[0]), "{}", chain(&error));
            let plan = pin.scan(&[(partition(0), 40..110)].into(), None, &[], None).unwrap();
            let context = Arc::new(datafusion::execution::TaskContext::default());
            let error = datafusion::physical_plan::collect(plan, context).await.expect_err("rows are gone");
            assert!(chain(&error).contains(&rows[1]), "{}", chain(&error));
            assert_eq!(pin.counts(&new).await.unwrap().records, count(90..110), "what is not curated is there");
        }

        block(&indices(&view), None);
        // Whoever looks first knows of it: by what it dropped, or by the coverage that it opens the view with.
        let (looks, floors) = if by_another { (&two, &new) } else { (&one, &old) };
        looks.open(&view, &schema, floors).await.unwrap();
        if by_another {
            one.drop_below(&view, &new).await.expect_err("a process that has not written looks later");
            clock.pass(PAUSE);
        }
        check_moment(&looks.pin(&view).await.unwrap().unwrap(), &ranges(&[(80, 110)])).await;
        one.drop_below(&view, &new).await.unwrap();
        one.apply(&view, batch(&partition(0), 110..130)).await.unwrap();
        for views in [&one, &two] {
            check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(90, 130)])).await;
        }
        assert_eq!(of_rows(indices(&view)).first(), Some(&rows[2]), "curated rows were indexed again");
        one.close(&view).await.unwrap();
    }
}

/// H4, H6: an index that is gone is an error for who reads it, and the position steps back to where it began. Who had a pin of it
/// before is never shown what is indexed in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_an_index_deleted_behind_our_back_is_an_error_and_is_made_again() {
    let views = views(40);
    let view = contract::view("deleted");
    views.open(&view, &contract::schema(), &coverage(&[0, 0])).await.unwrap();
    applied(&views, &view, 0..110).await;
    let before = views.pin(&view).await.unwrap().unwrap();
    let second = of_rows(indices(&view))[1].clone();
    ask("DELETE", &second);
    for pin in [&before, &views.pin(&view).await.unwrap().unwrap()] {
        let error = pin.counts(&coverage(&[0])).await.expect_err("an index is gone");
        assert!(chain(&error).contains(&second), "{}", chain(&error));
        let plan = pin.scan(&[(partition(0), 0..110)].into(), None, &[], None).unwrap();
        let context = Arc::new(datafusion::execution::TaskContext::default());
        let error = datafusion::physical_plan::collect(plan, context).await.expect_err("rows are gone");
        assert!(chain(&error).contains(&second), "{}", chain(&error));
        // what does not need it is still there
        assert_eq!(pin.counts(&coverage(&[80])).await.unwrap().records, count(80..110));
    }
    // The indexer looks again, and is told where to go on.
    views.open(&view, &contract::schema(), &coverage(&[0, 0])).await.unwrap();
    let mended = views.pin(&view).await.unwrap().unwrap();
    check_moment(&mended, &ranges(&[(0, 40), (0, 0)])).await;
    let error = views.apply(&view, batch(&partition(0), 110..120)).await.expect_err("there is a gap");
    assert!(matches!(error, LiveError::Gap { visible: 40, .. }), "{error:?}");
    applied(&views, &view, 40..120).await;
    check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 120), (0, 0)])).await;
    assert!(of_rows(indices(&view)).contains(&second), "an index of the same name is there again");
    assert_eq!(before.ranges(), &ranges(&[(0, 110), (0, 0)]));
    let error = before.counts(&coverage(&[0])).await.expect_err("its index is not the one that it was");
    assert!(chain(&error).contains(&second), "{}", chain(&error));

    // Met by a writer: it mends at once.
    let last = of_rows(indices(&view)).last().expect("an index").clone();
    ask("DELETE", &last);
    let error = views.apply(&view, batch(&partition(0), 120..125)).await;
    // the batch begins an index of its own, or finds the gap
    assert!(matches!(error, Ok(()) | Err(LiveError::Gap { .. })), "{error:?}");
    views.open(&view, &contract::schema(), &coverage(&[0, 0])).await.unwrap();
    let visible = views.pin(&view).await.unwrap().unwrap().ranges()[&partition(0)].visible;
    assert_eq!(visible, 80, "{last}");
    applied(&views, &view, visible..125).await;
    check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 125), (0, 0)])).await;
    views.close(&view).await.unwrap();
}

/// H4: where a position steps back, what came after the index that is gone is indexed again, too. Records that have left log and
/// archive meanwhile, as those of a compacted topic, are no rows any more, though the index that had them is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_rows_that_are_not_read_again_after_a_step_back_are_gone() {
    let (one, two) = (views(40), views(40));
    let view = contract::view("stale");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    applied(&one, &view, 0..110).await;
    let before = one.pin(&view).await.unwrap().unwrap();
    let rows = of_rows(indices(&view));
    ask("DELETE", &rows[1]);
    // Another process finds it gone, and ends before anything is indexed again.
    two.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 40)])).await;
    assert_eq!(before.counts(&coverage(&[80])).await.unwrap().records, count(80..110), "nobody has written it yet");

    let (mut again, later) = (batch(&partition(0), 40..85), batch(&partition(0), 100..120));
    again.range.end = later.range.end;
    again.rows.extend(later.rows);
    again.rejects.extend(later.rejects);
    again.filtered.extend(later.filtered);
    one.apply(&view, again).await.unwrap();
    let is_row = |offset: &u64| contract::fate(*offset) == contract::Fate::Row;
    let wanted: Vec<u64> = (0..85).chain(100..120).filter(is_row).collect();
    for views in [&one, &two] {
        let pin = views.pin(&view).await.unwrap().unwrap();
        assert_eq!(pin.ranges(), &ranges(&[(0, 120)]));
        let all = [(partition(0), 0..120)].into();
        let found: Vec<u64> = contract::rows(&pin, &all).await.into_iter().map(|(_, offset, ..)| offset).collect();
        assert_eq!(found, wanted);
        assert_eq!(pin.rows(&all), Some(wanted.len() as u64));
        assert_eq!(pin.counts(&coverage(&[0])).await.unwrap().records, count(0..85) + count(100..120));
    }
    let error = before.counts(&coverage(&[80])).await.expect_err("what it read was removed");
    assert!(chain(&error).contains(&rows[2]), "{}", chain(&error));
    drop(before);
    // What was written again stays, and the position with it.
    applied(&two, &view, 120..130).await;
    two.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    assert_eq!(two.pin(&view).await.unwrap().unwrap().ranges(), &ranges(&[(0, 130)]));
    one.close(&view).await.unwrap();
    assert_eq!(indices(&view), Vec::<String>::new());
}

fn of_rows(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| name.contains("__rows__")).collect()
}

fn count(range: std::ops::Range<u64>) -> u64 {
    range.filter(|offset| contract::fate(*offset) != contract::Fate::Hole).count() as u64
}

/// The state index that is gone is a view that is gone; no write makes one by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_lost_state_is_a_lost_view() {
    let views = views(64);
    let view = contract::view("state");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    applied(&views, &view, 0..70).await;
    let before = views.pin(&view).await.unwrap().unwrap();
    let state = indices(&view).into_iter().find(|name| name.ends_with("__state")).expect("a state index");
    ask("DELETE", &state);
    let error = views.apply(&view, batch(&partition(0), 70..80)).await.expect_err("the view is gone");
    assert!(matches!(error, LiveError::Missing { .. }), "{error:?}");
    assert!(views.pin(&view).await.unwrap().is_none());
    assert!(!indices(&view).contains(&state), "a write made an index");
    views.open(&view, &contract::schema(), &coverage(&[30])).await.unwrap();
    let pin = views.pin(&view).await.unwrap().unwrap();
    check_moment(&pin, &ranges(&[(30, 30)])).await;
    // its rows are there already, which changes nothing
    applied(&views, &view, 30..90).await;
    check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(30, 90)])).await;
    check_moment(&before, &ranges(&[(0, 70)])).await;
    views.close(&view).await.unwrap();
}
