//! What a running process says of its streams.

use serde_json::Value;

use super::{clean, table};

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
    let mut rows = Vec::new();
    for stream in datasets.filter(|stream| dataset.is_none_or(|name| stream["dataset"] == name)) {
        for (partition, at) in stream["partitions"].as_object().into_iter().flatten() {
            let fields = ["log_end", "archived", "visible", "coverage", "lag_records", "lag_ms"];
            let numbers = fields.map(|field| at[field].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string()));
            rows.push(std::iter::once(clean(partition)).chain(numbers).collect());
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
    for (task, health) in status["tasks"].as_object().into_iter().flatten() {
        if let Some(error) = health["error"].as_str() {
            text.push_str(&format!("  {}: {}\n", clean(task), clean(error)));
        }
    }
    text
}
