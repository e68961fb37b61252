//! Named places where the chaos tests kill the process: `TIDEMARK_FAILPOINT=<name>[:<n>]` aborts at the n-th passage.
//!
//! An abort is as abrupt as a SIGKILL: no destructor runs and nothing is flushed. Without the variable a passage costs
//! one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// All names, in the order in which an ingest, a recompute, a compaction and a packing pass them.
pub const FAILPOINTS: &[&str] = &[
    "raw.before_upload",
    "raw.after_upload",
    "stage.after_file",
    "rejects.after_put",
    "ledger.after_put",
    "curate.before_commit",
    "curate.after_commit",
    "streams.before_commit",
    "streams.after_commit",
    "generation.after_create",
    "recompute.before_freeze",
    "recompute.after_freeze",
    "generation.after_publish",
    "compact.before_commit",
    "pack.after_put",
];

struct Armed {
    name: String,
    passages_left: AtomicU64,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED
        .get_or_init(|| {
            let text = std::env::var("TIDEMARK_FAILPOINT").ok()?;
            let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
            let nth = nth.parse().unwrap_or(1);
            Some(Armed { name: name.to_owned(), passages_left: AtomicU64::new(nth) })
        })
        .as_ref()
}

/// Marks the place `name`.
pub(crate) fn pass(name: &'static str) {
    debug_assert!(FAILPOINTS.contains(&name), "{name} is not in FAILPOINTS");
    if let Some(armed) = armed()
        && armed.name == name
        && armed.passages_left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}
