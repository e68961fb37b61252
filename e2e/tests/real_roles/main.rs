//! A process a role, on real servers: Kafka, OpenSearch, S3 and PostgreSQL. Indexers share the partitions; one is killed, one
//! joins, one is stopped and continued. `infra/servers/test-real.sh` starts the servers and runs this; a plain `cargo test`
//! leaves it out.

mod stack;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack::Stack;
use tidemark_e2e::wait::until;

/// Within this, whatever happened to a process, new records are found again.
const RECOVERED_MAX: Duration = Duration::from_secs(15);

#[test]
fn real_roles_are_processes_of_their_own_that_share_their_work_and_take_it_over() {
    let mut stack = Stack::open();
    let begun = Instant::now();
    for (name, role) in [
        ("archiver", "archiver"),
        ("indexer-1", "indexer"),
        ("indexer-2", "indexer"),
        ("batch", "batch"),
        ("serving", "serving"),
    ] {
        stack.start(name, role);
    }
    stack.all_ready();
    println!("five processes are ready after {:.1?}", begun.elapsed());
    // what one of them has is shared out once the other has come
    until("shares of two", || (stack.shares(&["indexer-1", "indexer-2"]) == [2, 2]).then_some(()));
    assert_eq!(stack.shares(&["archiver"]), [4]);
    small_doors(&stack);
    for _ in 0..3 {
        stack.pulse();
    }

    // one is killed, one joins
    stack.kill("indexer-1");
    let killed = stack.recovers("an indexer was killed", RECOVERED_MAX);
    stack.start("indexer-3", "indexer");
    until("a share of its own", || (stack.shares(&["indexer-2", "indexer-3"]) == [2, 2]).then_some(()));
    let joined = stack.recovers("an indexer joined", RECOVERED_MAX);

    // one is stopped for longer than its session, and goes on with what it had
    stack.signal("indexer-2", "STOP");
    let stopped = stack.recovers("an indexer was stopped", RECOVERED_MAX);
    until("all partitions", || (stack.shares(&["indexer-3"]) == [4]).then_some(()));
    stack.signal("indexer-2", "CONT");
    let continued = stack.recovers("it was continued", RECOVERED_MAX);
    until("its share", || (stack.shares(&["indexer-2", "indexer-3"]) == [2, 2]).then_some(()));
    println!(
        "found again after: killed {killed:.1?}, joined {joined:.1?}, stopped {stopped:.1?}, continued {continued:.1?}"
    );

    // so with archivers: the other one archives, and the one that was stopped puts nothing in its way
    stack.signal("archiver", "STOP");
    stack.start("archiver-2", "archiver");
    let covered = stack.rows_batch();
    until("rows that the other archiver sealed", || {
        stack.pulse();
        (stack.rows_batch() > covered + 60).then_some(())
    });
    stack.signal("archiver", "CONT");
    for _ in 0..3 {
        stack.pulse();
    }
    stack.sealed();
    stack.audit();
    stack.stop_all();
}

/// Who does not serve says so, and how he is.
fn small_doors(stack: &Stack) {
    let asked = stack.server("indexer-1").query(&json!({"sql": "SELECT 1"})).expect("it answers");
    assert_eq!(asked.problem(), (404, "not_served".to_owned()), "{}", asked.text);
    let status: Value = stack.server("batch").get("/v1/status").expect("it answers");
    assert_eq!(status["roles"], json!(["batch"]), "{status}");
    let metrics = stack.server("archiver").ask("GET", "/metrics", &[], b"").expect("it answers").text;
    let line = "tidemark_assigned_partitions{dataset=\"orders\",role=\"archiver\"} 4";
    assert!(metrics.contains(line), "{metrics}");
}
