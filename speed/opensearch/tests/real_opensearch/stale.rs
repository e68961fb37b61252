//! Row indices that are there and that no position counts on, and what a cluster may answer when they are to go.

use std::sync::Arc;

use serde_json::{Value, json};
use tidemark_shared::live::{LiveBatch, LiveView, ViewId};
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};

use crate::proxy::{Mode, Proxy};
use crate::{ask, indices, server, tell, views, views_at};

fn of_rows(view: &ViewId) -> Vec<String> {
    indices(view).into_iter().filter(|name| name.contains("__rows__")).collect()
}

fn state_of(view: &ViewId) -> String {
    indices(view).into_iter().find(|name| name.ends_with("__state")).expect("a state index")
}

fn uuid(index: &str) -> String {
    let settings = ask("GET", &format!("{index}/_settings"));
    settings[index]["settings"]["index"]["uuid"].as_str().expect("an id").to_owned()
}

/// The document of the first partition's visible position.
fn position(view: &ViewId) -> Value {
    ask("GET", &format!("{}/_doc/position.contract.0", state_of(view)))["_source"].clone()
}

/// Records as they are read again after those from 85 to 100 have left log and archive, as those of a compacted topic.
fn compacted(from: u64) -> LiveBatch {
    let (mut again, later) = (batch(&partition(0), from..85), batch(&partition(0), 100..120));
    again.range.end = later.range.end;
    again.rows.extend(later.rows);
    again.rejects.extend(later.rejects);
    again.filtered.extend(later.filtered);
    again
}

/// A view with rows up to 110 in three indices, in front of which a proxy stands, after a step back to 40: the second index is gone,
/// and the third one is stale.
async fn stepped_back(name: &str) -> (Proxy, Arc<dyn LiveView>, ViewId, String) {
    let proxy = Proxy::start(&server()).await;
    let views: Arc<dyn LiveView> = Arc::new(views_at(&proxy.url(), 40));
    let view = contract::view(name);
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..110)).await.unwrap();
    let rows = of_rows(&view);
    ask("DELETE", &rows[1]);
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    assert_eq!(position(&view)["stale"], json!([[80, uuid(&rows[2])]]));
    (proxy, views, view, rows[2].clone())
}

/// An index of which a snapshot is made can't be removed, perhaps for hours. It is written over, and no later call removes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_stale_index_of_which_a_snapshot_is_made_is_written_over() {
    let (proxy, one, view, third) = stepped_back("snapshot").await;
    let before = uuid(&third);
    proxy.set(Mode::Snapshot);
    one.apply(&view, batch(&partition(0), 40..120)).await.expect("it waits for no snapshot");
    assert_eq!(proxy.hits(), 1, "it is asked for in vain");
    proxy.set(Mode::Pass);
    assert_eq!(uuid(&third), before);
    assert_eq!(position(&view)["stale"], json!([]), "it is counted on, and would be removed");
    let two = views(40);
    two.apply(&view, batch(&partition(0), 120..130)).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 130)])).await;
    }
    assert_eq!(uuid(&third), before);
    one.close(&view).await.unwrap();
}

/// H7: what is curated goes later where a snapshot is made of it; neither the keeper nor whoever opens the view fails over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_curated_index_of_which_a_snapshot_is_made_goes_later() {
    let (proxy, one, view, _) = stepped_back("curated").await;
    one.apply(&view, batch(&partition(0), 40..120)).await.unwrap();
    let rows = of_rows(&view);
    proxy.set(Mode::Snapshot);
    one.drop_below(&view, &coverage(&[80])).await.expect("it waits for no snapshot");
    one.open(&view, &contract::schema(), &coverage(&[80])).await.expect("nor does who opens it");
    assert!(proxy.hits() >= 2, "it is asked for in vain");
    assert_eq!(of_rows(&view), rows);
    check_moment(&one.pin(&view).await.unwrap().unwrap(), &ranges(&[(80, 120)])).await;
    proxy.set(Mode::Pass);
    one.drop_below(&view, &coverage(&[80])).await.unwrap();
    assert_eq!(of_rows(&view), rows[2..]);
    one.close(&view).await.unwrap();
}

/// The answer to a removal may say nothing of it. Whoever asks once more, without a look, may remove what another process has made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_stale_index_that_is_gone_is_not_removed_again() {
    let (proxy, one, view, third) = stepped_back("unsaid").await;
    let before = uuid(&third);
    proxy.set(Mode::Unsaid);
    one.apply(&view, batch(&partition(0), 40..120)).await.expect("it is gone");
    assert_eq!(proxy.hits(), 1, "it was removed without a look");
    proxy.set(Mode::Pass);
    assert_ne!(uuid(&third), before);
    check_moment(&one.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 120)])).await;
    one.close(&view).await.unwrap();
}

/// A release that knows nothing of stale indices takes them up, and its positions count on them. What this one remembers of them is
/// no ground to remove them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_stale_index_that_an_earlier_release_counts_on_stays() {
    let views = views(40);
    let view = contract::view("earlier");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..110)).await.unwrap();
    let rows = of_rows(&view);
    ask("DELETE", &rows[0]);
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..40)).await.unwrap();

    let (second, before) = (&rows[1], uuid(&rows[1]));
    let aliases = ask("GET", &format!("{second}/_alias"))[second]["aliases"].clone();
    let alias = aliases.as_object().and_then(|aliases| aliases.keys().next()).expect("an alias");
    let mut document = position(&view);
    assert_eq!(document["stale"], json!([[40, before], [80, uuid(&rows[2])]]));
    document["indices"].as_array_mut().expect("indices").push(json!([40, second, alias, before]));
    document["visible"] = json!(80);
    for unknown in ["stale", "rowless", "sizes"] {
        document.as_object_mut().expect("a document").remove(unknown);
    }
    let version = ((document["epoch"].as_u64().expect("an epoch") << 47) | 80) + 2;
    let path = format!("{}/_doc/position.contract.0?version={version}&version_type=external", state_of(&view));
    let written = tell("PUT", &path, &document);
    assert_eq!(written["result"], "updated", "{written}");

    views.apply(&view, batch(&partition(0), 40..80)).await.unwrap();
    assert_eq!(uuid(second), before, "an index that is counted on was removed");
    views.apply(&view, batch(&partition(0), 80..120)).await.unwrap();
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 120)])).await;
    views.close(&view).await.unwrap();
}

/// H4: of a view whose state index was lost, row indices are still there. Records that have left log and archive meanwhile are no
/// rows any more, though they are in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_rows_that_a_lost_view_left_behind_are_gone() {
    let (one, two) = (views(40), views(40));
    let view = contract::view("left");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..110)).await.unwrap();
    ask("DELETE", &state_of(&view));
    two.open(&view, &contract::schema(), &coverage(&[10])).await.unwrap();
    two.apply(&view, compacted(10)).await.unwrap();
    let is_row = |offset: &u64| contract::fate(*offset) == contract::Fate::Row;
    let wanted: Vec<u64> = (10..85).chain(100..120).filter(is_row).collect();
    for views in [&one, &two] {
        let pin = views.pin(&view).await.unwrap().unwrap();
        assert_eq!(pin.ranges(), &ranges(&[(10, 120)]));
        let all = [(partition(0), 10..120)].into();
        let found: Vec<u64> = contract::rows(&pin, &all).await.into_iter().map(|(_, offset, ..)| offset).collect();
        assert_eq!(found, wanted);
    }
    assert_eq!(position(&view)["stale"], json!([]));
    two.close(&view).await.unwrap();
    assert_eq!(indices(&view), Vec::<String>::new());
}
