//! Indices that are there, and do not hold any more what was written to them, or are not alone under their alias, or not reached by
//! it.

use std::sync::Arc;

use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use serde_json::{Value, json};
use tidemark_shared::error::{ErrorKind as _, chain};
use tidemark_shared::live::{LiveError, LivePin, ViewId};
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};

use crate::{ask, indices, tell, views};

/// The one index of rows of a view.
fn index_of_rows(view: &ViewId) -> String {
    indices(view).into_iter().find(|name| name.contains("__rows__")).expect("an index of rows")
}

fn done(answer: &Value) {
    assert!(answer["error"].is_null() && answer["timed_out"] != true, "{answer}");
}

/// Nothing is answered of a pin's rows: not how many records there are, nor what is read by many requests or by one. All say why.
async fn answers_nothing(pin: &Arc<dyn LivePin>, end: u64, why: &str) -> LiveError {
    for range in [0..end, 0..10] {
        let plan = pin.scan(&[(partition(0), range.clone())].into(), None, &[], None).unwrap();
        let error = collect(plan, Arc::new(TaskContext::default())).await.expect_err("rows of it are no answer");
        assert!(chain(&error).contains(why), "{range:?}: {}", chain(&error));
    }
    let error = pin.counts(&coverage(&[0])).await.expect_err("what is counted in it is no answer");
    assert!(chain(&error).contains(why), "{}", chain(&error));
    error
}

/// H4, H6: an index that is restored over itself keeps its id. Rows that came after the snapshot are gone, and nobody takes what is
/// there for all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_an_index_restored_over_itself_is_an_error_and_is_indexed_again() {
    let (one, two) = (views(200), views(200));
    let view = contract::view("restored");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..50)).await.unwrap();
    let index = index_of_rows(&view);
    let uuid = || {
        let settings = ask("GET", &format!("{index}/_settings"));
        settings[&index]["settings"]["index"]["uuid"].as_str().expect("an id").to_owned()
    };
    let before = uuid();
    let repository = format!("_snapshot/{}", view.generation);
    let settings = json!({"type": "fs", "settings": {"location": view.generation}});
    done(&tell("PUT", &repository, &settings));
    let snapshot = format!("{repository}/one");
    let of_index = json!({"indices": index, "include_global_state": false});
    done(&tell("PUT", &format!("{snapshot}?wait_for_completion=true"), &of_index));
    one.apply(&view, batch(&partition(0), 50..100)).await.unwrap();
    let pinned = two.pin(&view).await.unwrap().unwrap();

    done(&ask("POST", &format!("{index}/_close")));
    done(&tell("POST", &format!("{snapshot}/_restore?wait_for_completion=true"), &of_index));
    done(&ask("GET", &format!("_cluster/health/{index}?wait_for_status=yellow&timeout=30s")));
    assert_eq!(uuid(), before, "it has another id, by which it would be told from what it was");
    assert_eq!(ask("GET", &format!("{index}/_count"))["count"], count(0..50), "it has all that was written to it");
    answers_nothing(&pinned, 100, &index).await;
    answers_nothing(&two.pin(&view).await.unwrap().unwrap(), 100, &index).await;

    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 0)])).await;
    one.apply(&view, batch(&partition(0), 0..120)).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 120)])).await;
    }
    // A pin from before is of what is not there any more, though what has come instead is under the same name.
    answers_nothing(&pinned, 100, &index).await;
    one.close(&view).await.unwrap();
    done(&ask("DELETE", &snapshot));
    done(&ask("DELETE", &repository));
}

/// How many documents records of the suite are.
fn count(range: std::ops::Range<u64>) -> usize {
    range.filter(|offset| contract::fate(*offset) != contract::Fate::Hole).count()
}

/// H6: as where an index is restored under another name, with its aliases. What is read by ours then is of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_another_index_under_an_alias_of_ours_is_an_error_that_names_it() {
    let (one, two) = (views(200), views(200));
    let view = contract::view("shared");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..100)).await.unwrap();
    let index = index_of_rows(&view);
    let found = ask("GET", &format!("{index}/_alias"));
    let aliases = found[&index]["aliases"].as_object().expect("aliases");
    let alias = aliases.keys().next().expect("an alias").clone();
    let copy = format!("copy-{}", view.generation);
    let block = |value: Value| done(&tell("PUT", &format!("{index}/_settings"), &json!({"index.blocks.write": value})));
    block(json!(true));
    let as_copy = json!({"aliases": {(&alias): {}}, "settings": {"index.blocks.write": null}});
    done(&tell("POST", &format!("{index}/_clone/{copy}"), &as_copy));
    block(Value::Null);
    done(&ask("GET", &format!("_cluster/health/{copy}?wait_for_status=yellow&timeout=30s")));

    let pin = two.pin(&view).await.unwrap().unwrap();
    let error = answers_nothing(&pin, 100, &copy).await;
    assert!(error.hint().is_some_and(|hint| hint.contains("remove that alias")), "{error:?}");
    assert!(chain(&error).contains(&alias), "{}", chain(&error));
    // What is written goes to ours alone.
    one.apply(&view, batch(&partition(0), 100..120)).await.unwrap();

    let remove = json!({"actions": [{"remove": {"index": copy, "alias": alias}}]});
    done(&tell("POST", "_aliases", &remove));
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 120)])).await;
    }
    check_moment(&pin, &ranges(&[(0, 100)])).await;
    done(&ask("DELETE", &copy));
    one.close(&view).await.unwrap();
}

/// A document that is gone takes nothing with it by which its index would be told from what it was: that there are too few rows tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_row_that_is_gone_is_an_error_and_is_indexed_again_with_its_index() {
    let (one, two) = (views(200), views(200));
    let view = contract::view("row");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..100)).await.unwrap();
    let index = index_of_rows(&view);
    let pin = two.pin(&view).await.unwrap().unwrap();
    assert_eq!(contract::fate(5), contract::Fate::Row);
    let deleted = ask("DELETE", &format!("{index}/_doc/contract%2F0%2F5?refresh=true"));
    assert_eq!(deleted["result"], "deleted", "{deleted}");
    // By many requests, by one, and where only their number is wanted.
    for (range, projection) in [(0..100, None), (0..10, None), (0..100, Some(Vec::new()))] {
        let plan = pin.scan(&[(partition(0), range)].into(), projection.as_ref(), &[], None).unwrap();
        let error = collect(plan, Arc::new(TaskContext::default())).await.expect_err("a row is gone");
        assert!(chain(&error).contains(&format!("rows must be in `{index}`")), "{}", chain(&error));
    }
    let plan = pin.scan(&[(partition(0), 30..100)].into(), None, &[], None).unwrap();
    collect(plan, Arc::new(TaskContext::default())).await.expect("what does not need it is there");

    done(&ask("DELETE", &index));
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..100)).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 100)])).await;
    one.close(&view).await.unwrap();
}

fn aliases(index: &str) -> Vec<String> {
    let found = ask("GET", &format!("{index}/_alias"));
    found[index]["aliases"].as_object().expect("aliases").keys().cloned().collect()
}

/// Takes its aliases from an index.
fn take(index: &str) -> Vec<String> {
    let had = aliases(index);
    let remove = json!({"actions": [{"remove": {"index": index, "aliases": had}}]});
    done(&tell("POST", "_aliases", &remove));
    assert_eq!(aliases(index), Vec::<String>::new());
    had
}

/// H4: what was written by an index's alias while that led to another one is there, and not here. Once it has no alias, an index is as
/// one that is gone: its rows are indexed again, in an index that is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_an_index_whose_alias_was_taken_is_indexed_again() {
    let (one, two) = (views(64), views(64));
    let view = contract::view("unaliased");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..100)).await.unwrap();
    let before = two.pin(&view).await.unwrap().unwrap();
    let (all, end) = (indices(&view), coverage(&[64]));
    let [first, second, _state] = all.as_slice() else { panic!("two indices of rows and one of positions: {all:?}") };

    // Its alias leads elsewhere, and so do rows that are taken in.
    let other = format!("other-{}", view.generation);
    done(&tell("PUT", &other, &json!({"mappings": {"dynamic": false}})));
    let had = take(second);
    let add = json!({"actions": [{"add": {"index": other, "alias": had[0], "is_write_index": true}}]});
    done(&tell("POST", "_aliases", &add));
    one.apply(&view, batch(&partition(0), 100..120)).await.expect("nothing tells yet");
    let error = before.counts(&end).await.expect_err("what is read is another's");
    assert!(chain(&error).contains(&other), "{}", chain(&error));
    // Its alias is taken from there, too: nothing says any more where it led.
    take(&other);
    two.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 64)])).await;
    one.apply(&view, batch(&partition(0), 64..120)).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 120)])).await;
    }
    assert!(aliases(second).len() == 1 && aliases(second) != had, "{:?}", aliases(second));
    done(&ask("DELETE", &other));

    // Who writes to one finds that it has none.
    take(second);
    let error = one.apply(&view, batch(&partition(0), 120..125)).await.expect_err("its rows are to come again");
    assert!(matches!(error, LiveError::Gap { visible: 64, .. }), "{error:?}");
    take(first);
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    check_moment(&two.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 0)])).await;
    one.apply(&view, batch(&partition(0), 0..120)).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 120)])).await;
    }
    before.counts(&coverage(&[0])).await.expect_err("what it read was removed");
    one.close(&view).await.unwrap();
}

/// H4: the alias of a state index fences off who knows an earlier one: it gets another, and what it says counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_state_index_whose_alias_was_taken_gets_another() {
    let (one, two) = (views(64), views(64));
    let view = contract::view("stateless");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..120)).await.unwrap();
    let state = indices(&view).into_iter().find(|name| name.ends_with("__state")).expect("a state index");
    let had = take(&state);
    let error = one.apply(&view, batch(&partition(0), 120..130)).await.expect_err("the state index is not reached");
    assert!(matches!(error, LiveError::Missing { .. }), "{error:?}");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 120..130)).await.unwrap();
    assert!(aliases(&state).len() == 1 && aliases(&state) != had, "{:?}", aliases(&state));
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 130)])).await;
    }
    one.close(&view).await.unwrap();
}
