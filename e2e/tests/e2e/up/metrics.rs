//! `/metrics`: what it counts is what happened, and the document names what it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::json;
use tidemark_e2e::platform::repository;
use tidemark_e2e::server::Server;

use super::{SUMS, Shop, answered, until};

/// A family of metrics, as it is shown.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    /// By whole name and labels.
    samples: BTreeMap<String, f64>,
}

impl Family {
    /// The sum of the samples whose name and labels have all of these texts.
    fn sum(&self, with: &[&str]) -> f64 {
        let counts = |name: &&String| with.iter().all(|part| name.contains(part));
        self.samples.keys().filter(counts).map(|name| self.samples[name]).sum()
    }
}

fn scrape(server: &Server) -> BTreeMap<String, Family> {
    let reply = server.ask("GET", "/metrics", &[], b"").unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in reply.text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().help = help.trim_end_matches('.').to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let base = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = base.filter(|base| families.contains_key(*base)).unwrap_or(name);
            let family = families.get_mut(name).unwrap_or_else(|| panic!("{line}: no such family"));
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
            family.labels.extend(labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
            family.samples.insert(sample.to_owned(), value.parse().unwrap());
        }
    }
    families
}

#[test]
fn metrics_count_what_happens_and_are_documented() {
    let shop = Shop::open_with(&["--batch-interval", "200ms"]);
    let bad = b"{\"id\": \"o-1\", \"cents\": \"many\", \"at\": \"2026-11-24T10:00:00Z\"}\n";
    shop.server.produce("orders", bad).unwrap();
    let token = shop.take(0..10);
    shop.at_least(SUMS, &token);
    let refused = shop.server.query(&json!({"sql": "SELEC 1"})).unwrap();
    assert_eq!(refused.status, 400);
    answered(&shop.server, &json!({"sql": "SELECT count(*) FROM batch.orders", "at_least": token}));
    // A run commits its rows before it ends and is counted: the two are told apart here.
    let families = until("all eleven records in the curated table, by a run that is counted", || {
        let families = scrape(&shop.server);
        let sum = |name: &str| families[name].sum(&[]);
        let covered = sum("tidemark_curated_end_offset") >= 11.0 && sum("tidemark_batch_runs") >= 1.0;
        (covered && sum("tidemark_queries_running") < 1.0).then_some(families)
    });
    let sum = |name: &str, with: &[&str]| families[name].sum(with);
    for (name, with, wanted) in [
        ("tidemark_ready", &[][..], 1.0),
        ("tidemark_log_appended_records", &["dataset=\"orders\""], 11.0),
        ("tidemark_log_end_offset", &["partition=\"orders/"], 11.0),
        ("tidemark_archive_end_offset", &[], 11.0),
        ("tidemark_archive_lost_offsets", &[], 0.0),
        ("tidemark_live_visible_offset", &[], 11.0),
        ("tidemark_curated_end_offset", &[], 11.0),
        ("tidemark_live_lag_records", &[], 0.0),
        ("tidemark_live_records", &["outcome=\"accepted\""], 10.0),
        ("tidemark_live_records", &["outcome=\"filtered\""], 0.0),
        ("tidemark_live_records", &["outcome=\"rejected\""], 1.0),
        ("tidemark_live_limit_bytes", &[], f64::from(1 << 30)),
        ("tidemark_batch_run_failures", &[], 0.0),
        ("tidemark_measure_failures", &[], 0.0),
        ("tidemark_tasks_failing", &[], 0.0),
        ("tidemark_queries", &[], 3.0),
        ("tidemark_query_errors", &["code=\"syntax_error\""], 1.0),
        ("tidemark_query_errors", &[], 1.0),
        ("tidemark_queries_running", &[], 0.0),
        ("tidemark_query_duration_seconds", &["_count"], 3.0),
        ("tidemark_query_first_row_seconds", &["_count"], 2.0),
        ("tidemark_http_problems", &["code=\"syntax_error\""], 1.0),
    ] {
        assert!((sum(name, with) - wanted).abs() < 1e-9, "{name} {with:?}: {:#?}", families[name]);
    }
    let runs = sum("tidemark_batch_runs", &[]);
    assert!(runs >= 1.0 && sum("tidemark_batch_run_duration_seconds", &["_count"]) >= 1.0, "{runs} runs");
    assert!(sum("tidemark_archive_segments_sealed", &[]) >= 1.0);
    assert!(sum("tidemark_live_freshness_seconds", &["quantile=\"0.99\""]) < 60.0);
    assert!(sum("tidemark_batch_last_success_timestamp_seconds", &[]) > 1.7e9);
    documented(&families);
}

/// The document's table is that of a process which has something to show in each family.
fn documented(families: &BTreeMap<String, Family>) {
    let mut table = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, family) in families {
        assert!(!family.samples.is_empty(), "{name} shows nothing");
        let end = if family.kind == "counter" { "_total" } else { "" };
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{name}{end}` | {} | {} | {} |\n", family.kind, labels.join(", "), family.help);
    }
    let path = repository().join("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("--test e2e metrics -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- end -->").unwrap();
    if std::env::var("TIDEMARK_BLESS").is_ok_and(|value| value == "1") {
        fs::write(&path, format!("{before}--test e2e metrics -->\n{table}<!-- end -->{after}")).unwrap();
        return;
    }
    assert_eq!(found, table, "docs/metrics.md is not what a process shows: TIDEMARK_BLESS=1 writes it anew");
}
