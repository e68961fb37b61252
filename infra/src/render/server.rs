//! What a running process says of its streams.

use serde_json::Value;

use super::{clean, table};
use crate::units::{counted, format_bytes};

/// A line a partition, and what does not work. Only `dataset`, if one is named.
#[must_use]
pub fn server(status: &Value, dataset: Option<&str>) -> String {
    let mut text = String::from("running process\n");
    let header = [
        ("partition", false),
        ("log end", true),
        ("archived", true),
        ("visible", true),
        ("curated", true),
        ("lag", true),
        ("lag ms", true),
    ];
    let datasets = status["datasets"].as_array().into_iter().flatten();
    let (mut rows, mut troubles) = (Vec::new(), String::new());
    for stream in datasets.filter(|stream| dataset.is_none_or(|name| stream["dataset"] == name)) {
        for (partition, at) in stream["partitions"].as_object().into_iter().flatten() {
            let fields = ["log_end", "archived", "visible", "coverage", "lag_records", "lag_ms"];
            let numbers = fields.map(|field| at[field].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string()));
            rows.push(std::iter::once(clean(partition)).chain(numbers).collect());
            troubles.push_str(&trouble(partition, at));
        }
        let name = stream["dataset"].as_str().unwrap_or_default();
        let (p50, p99) = (&stream["freshness"]["p50_ms"], &stream["freshness"]["p99_ms"]);
        if p50.is_null() {
            // it keeps no view up
            continue;
        }
        text.push_str(&format!("  {}: fresh within {p50} ms (half), {p99} ms (99 of 100), last minute\n", clean(name)));
    }
    text.push_str(&table(&header, &rows));
    text.push_str(&views(&status["live"]["usage"]));
    text.push_str(&troubles);
    let degraded = status["degraded"].as_object().into_iter().flatten();
    let degraded: Vec<(&String, &str)> =
        degraded.map(|(name, reason)| (name, reason.as_str().unwrap_or_default())).collect();
    for (name, reason) in &degraded {
        text.push_str(&format!("  {}, degraded: {}\n", clean(name), clean(reason)));
    }
    for failed in status["failed"].as_array().into_iter().flatten() {
        let (name, error) = (failed["dataset"].as_str(), failed["error"].as_str());
        let (name, error) = (name.unwrap_or_default(), error.unwrap_or_default());
        text.push_str(&format!("  {}: can't be looked at: {}\n", clean(name), clean(error)));
    }
    for (task, health) in status["tasks"].as_object().into_iter().flatten() {
        // what a dataset is degraded by stands above
        let is_told = |error: &str| degraded.iter().any(|(_, reason)| reason.contains(error));
        if let Some(error) = health["error"].as_str().filter(|error| !is_told(error)) {
            text.push_str(&format!("  {}: {}\n", clean(task), clean(error)));
        }
    }
    text
}

/// What the process's views hold, if they hold anything. Rejects take room as rows do.
fn views(usage: &Value) -> String {
    let number = |name: &str| usage[name].as_u64().unwrap_or(0);
    let (rows, rejects) = (number("rows"), number("rejects"));
    if rows + rejects == 0 {
        return String::new();
    }
    let (rows, rejects) = (counted(rows, "row"), counted(rejects, "reject"));
    format!("  real-time views: {rows}, {rejects}, {}\n", format_bytes(number("bytes")))
}

/// What does not work of a partition, a line each.
fn trouble(partition: &str, at: &Value) -> String {
    let mut text = String::new();
    let state = if at["stopped"].as_bool() == Some(true) { "stopped until a restart" } else { "tried again" };
    for error in at["errors"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        text.push_str(&format!("  {}, {state}: {}\n", clean(partition), clean(error)));
    }
    for lost in at["lost"].as_array().into_iter().flatten() {
        let (start, end) = (lost["start"].as_u64().unwrap_or(0), lost["end"].as_u64().unwrap_or(0));
        text.push_str(&format!(
            "  {}: offsets {start} to {end} were lost before they were archived\n",
            clean(partition)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_stopped_or_was_lost_shows() {
        let partition = json!({
            "log_end": 9, "stopped": true, "errors": ["the log has lost records"], "lost": [{"start": 2, "end": 5}]
        });
        let status = json!({
            "datasets": [{"dataset": "orders", "partitions": {"orders/0": partition}}],
            "failed": [{"dataset": "trips", "error": "the store is away"}],
            "degraded": {"green": "stream: the topic is missing"},
            "tasks": {"stream green": {"error": "the topic is missing"}, "batch orders": {"error": "no run"}},
            "live": {"usage": {"rows": 1200, "rejects": 1, "bytes": 2_000}},
        });
        let text = server(&status, None);
        for line in [
            "  orders/0, stopped until a restart: the log has lost records\n",
            "  orders/0: offsets 2 to 5 were lost before they were archived\n",
            "  trips: can't be looked at: the store is away\n",
            "  green, degraded: stream: the topic is missing\n",
            "  batch orders: no run\n",
            "  real-time views: 1,200 rows, 1 reject, 2.0 kB\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("stream green"), "it is told twice: {text}");
    }

    #[test]
    fn an_end_that_nobody_knows_is_no_number() {
        let partition = json!({"log_end": null, "archived": null, "visible": 4, "stopped": false});
        let text = server(&json!({"datasets": [{"dataset": "orders", "partitions": {"orders/0": partition}}]}), None);
        let line = text.lines().find(|line| line.contains("orders/0")).unwrap_or_default();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells, ["orders/0", "-", "-", "4", "-", "-", "-"], "{text}");
    }
}
