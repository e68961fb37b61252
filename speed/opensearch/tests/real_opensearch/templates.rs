//! Templates and pipelines that people have for indices of their own, and that match ours.

use std::sync::Arc;

use serde_json::{Value, json};
use tidemark_opensearch::{OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::System;
use tidemark_shared::error::{ErrorKind as _, Kind, chain};
use tidemark_shared::live::LiveView;
use tidemark_testing::contract::live::{self as contract, batch, check_moment, coverage, partition, ranges};

use crate::{ask, indices, server, tell, views};

fn done(answer: &Value) {
    assert!(answer["error"].is_null() && answer["acknowledged"] == true, "{answer}");
}

/// Makes a pipeline that drops every document.
fn drops(name: &str) {
    done(&tell("PUT", &format!("_ingest/pipeline/{name}"), &json!({"processors": [{"drop": {}}]})));
}

/// The settings of an index, each by its whole name.
fn settings(index: &str) -> Value {
    ask("GET", &format!("{index}/_settings?flat_settings=true"))[index]["settings"].clone()
}

/// Names of all indices that begin so, hidden ones too.
fn all_indices(prefix: &str) -> Vec<String> {
    let found = ask("GET", &format!("_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all"));
    let names = found.as_array().expect("a list").iter().filter_map(|index| index["index"].as_str());
    names.map(str::to_owned).collect()
}

fn views_under(prefix: &str) -> Arc<dyn LiveView> {
    let url: OpenSearchUrl = format!("opensearch+{}/{prefix}", server()).parse().expect("the server's address");
    let settings = OpenSearchViewSettings { index_offsets: 40, block_offsets: 24, ..OpenSearchViewSettings::default() };
    Arc::new(OpenSearchView::new(&url, Arc::new(System), settings).expect("a client"))
}

/// H4: by a template that matches all indices, documents would be lost, held back or not found. Ours are as they are without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_template_takes_no_row_away() {
    let prefix = format!("templ-{}", std::process::id());
    let (pipeline, nowhere, by_hand) =
        (format!("{prefix}-drop"), format!("{prefix}-nowhere"), format!("{prefix}-by-hand"));
    drops(&pipeline);
    let harmful = json!({
        "index.translog.durability": "async",
        "index.default_pipeline": pipeline,
        "index.final_pipeline": nowhere,
        "index.search.default_pipeline": nowhere,
        "index.mapping.ignore_malformed": "true",
        "index.hidden": "true",
        "index.max_result_window": "10",
        "index.max_terms_count": "1",
        "index.max_docvalue_fields_search": "0",
        "index.blocks.read": "true",
        "index.blocks.write": "true",
    });
    let mappings = json!({"_source": {"enabled": false}, "_routing": {"required": true}});
    let template = json!({
        "index_patterns": [format!("{prefix}*")],
        "priority": 1_000,
        "template": {"settings": harmful, "mappings": mappings},
    });
    done(&tell("PUT", &format!("_index_template/{prefix}"), &template));
    done(&ask("PUT", &by_hand));
    let found = settings(&by_hand);
    let harmful = harmful.as_object().expect("settings");
    harmful.iter().for_each(|(name, value)| assert_eq!(&found[name], value, "{name}: no index has it"));

    let (one, two) = (views_under(&prefix), views_under(&prefix));
    let view = contract::view("template");
    one.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    one.apply(&view, batch(&partition(0), 0..110)).await.unwrap();
    two.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    for views in [&one, &two] {
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, 110)])).await;
    }
    let ours: Vec<String> = all_indices(&prefix).into_iter().filter(|name| *name != by_hand).collect();
    assert_eq!(ours.len(), 4, "three of rows and one of positions: {ours:?}");
    for index in &ours {
        let found = settings(index);
        for (name, value) in harmful {
            assert!(found[name].is_string() && found[name] != *value, "{name} of {index}: {}", found[name]);
        }
        for name in ["index.append_only.enabled", "index.derived_source.enabled", "index.blocks.read_only"] {
            assert_eq!(found[name], "false", "{name} of {index}");
        }
    }
    two.drop_below(&view, &coverage(&[80])).await.unwrap();
    check_moment(&one.pin(&view).await.unwrap().unwrap(), &ranges(&[(80, 110)])).await;
    one.close(&view).await.unwrap();
    assert_eq!(all_indices(&prefix), std::slice::from_ref(&by_hand));
    for path in [by_hand, format!("_index_template/{prefix}"), format!("_ingest/pipeline/{pipeline}")] {
        done(&ask("DELETE", &path));
    }
}

/// H4: the cluster answers for a document that a pipeline drops as for one that is there. No position counts on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_opensearch_a_document_that_a_pipeline_drops_is_not_there() {
    let views = views(64);
    let view = contract::view("dropped");
    views.open(&view, &contract::schema(), &coverage(&[0])).await.unwrap();
    views.apply(&view, batch(&partition(0), 0..20)).await.unwrap();
    let index = indices(&view).into_iter().find(|name| name.contains("__rows__")).expect("an index of rows");
    let pipeline = format!("drop-{}", view.generation);
    drops(&pipeline);
    for setting in ["index.default_pipeline", "index.final_pipeline"] {
        let set = |value: &str| done(&tell("PUT", &format!("{index}/_settings"), &json!({(setting): value})));
        let visible = views.pin(&view).await.unwrap().unwrap().ranges()[&partition(0)].visible;
        let next = || batch(&partition(0), visible..visible + 20);
        set(&pipeline);
        let error = views.apply(&view, next()).await.expect_err("its documents are dropped");
        assert!(chain(&error).contains("noop") && chain(&error).contains(&index), "{}", chain(&error));
        assert_eq!(error.kind(), Kind::Retryable);
        assert!(error.hint().is_some_and(|hint| hint.contains(setting)), "{error:?}");
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, visible)])).await;
        set("_none");
        views.apply(&view, next()).await.unwrap();
        check_moment(&views.pin(&view).await.unwrap().unwrap(), &ranges(&[(0, visible + 20)])).await;
    }
    views.close(&view).await.unwrap();
    done(&ask("DELETE", &format!("_ingest/pipeline/{pipeline}")));
}
