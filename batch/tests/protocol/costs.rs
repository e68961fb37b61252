//! What an ordinary run asks of the store. Every call is a round trip to S3, so that their number must not creep up.

use tidemark_batch::report::quiet;
use tidemark_testing::faulty::{Call, Faulty};

use crate::support::Home;

fn calls(store: &Faulty, call: Call, key: &str) -> usize {
    store.made().iter().filter(|(made, path)| *made == call && path.as_ref().contains(key)).count()
}

fn told(store: &Faulty) -> String {
    store.made().iter().map(|(call, path)| format!("{call:?} {path}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_of_one_file_asks_the_store_a_bounded_number_of_times() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv", "b.csv"]).await.expect("ingests");
    let (batch, store) = home.observed(Vec::new());
    home.ingest(&batch, &["c.csv"]).await.expect("ingests");
    let list = told(&store);
    // Each entry is read once; after that, only whether there is a next one.
    for entry in ["ledger/00000000000000000000", "ledger/00000000000000000001"] {
        assert_eq!(calls(&store, Call::Get, entry), 1, "{list}");
    }
    assert_eq!(calls(&store, Call::List, "files/ledger"), 1, "{list}");
    assert_eq!(calls(&store, Call::Get, "definitions/"), 1, "{list}");
    // Once before anything is done, once to open what it names, once after the commit.
    assert_eq!(calls(&store, Call::Get, "current/"), 3, "{list}");
    let reads = calls(&store, Call::Get, "") + calls(&store, Call::List, "");
    let writes = calls(&store, Call::Put, "") + calls(&store, Call::Part, "");
    println!("{reads} reads and {writes} writes:\n{list}");
    assert!(reads <= READS_MAX, "{reads} reads:\n{list}");
    assert!(writes <= WRITES_MAX, "{writes} writes:\n{list}");
}

/// About two thirds of them are the Delta library's.
const READS_MAX: usize = 34;
/// Bytes, entry, rejects, one data file a partition, and the commit.
const WRITES_MAX: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_file_of_the_same_run_costs_no_look_at_the_ledger_or_the_table() {
    let mut reads = Vec::new();
    for files in [&["c.csv"][..], &["b.csv", "c.csv"][..]] {
        let home = Home::new().await;
        home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
        let (batch, store) = home.observed(Vec::new());
        home.ingest(&batch, files).await.expect("ingests");
        reads.push((calls(&store, Call::Get, "") + calls(&store, Call::List, ""), told(&store)));
    }
    // One for the bytes that are decoded: their head and their body.
    assert!(reads[1].0 <= reads[0].0 + 2, "{}\n--\n{}", reads[0].1, reads[1].1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_finds_nothing_to_do_writes_nothing() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let (batch, store) = home.observed(Vec::new());
    home.ingest(&batch, &["a.csv"]).await.expect("knows it");
    batch.run("events", &quiet()).await.expect("has nothing to do");
    assert_eq!(calls(&store, Call::Put, "") + calls(&store, Call::Part, ""), 0, "{}", told(&store));
}
