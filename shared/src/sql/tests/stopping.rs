//! Statements that nobody waits for any more.

use super::super::meter::Meter;
use super::*;

/// Waits until nothing of a statement is left that could go on.
async fn forgotten(meter: &Arc<Meter>) {
    let gone = async {
        while Arc::strong_count(meter) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the dropped statement lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_answer_stops_reading() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { threads: Some(1), ..SqlConfig::default() });
    let mut answer = engine.query(&ask("SELECT id, note FROM trips")).await.expect("starts");
    let first = answer.next().await.expect("reads").expect("has rows");
    assert!(first.num_rows() > 0);
    let meter = Arc::clone(&answer.meter);
    drop(answer);
    // A read that was under way may end, and counts; then nobody is left to read.
    forgotten(&meter).await;
    let read = meter.bytes();
    let (_, whole) = rows(&engine, &ask("SELECT id, note FROM trips")).await.expect("answers");
    assert!(read < whole.stats().bytes_read, "{read} of {}", whole.stats().bytes_read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_nobody_waits_for_ends() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig { threads: Some(1), ..SqlConfig::default() });
    let limits = Limits { timeout: Some(Duration::from_millis(200)), ..Limits::default() };
    // None of ten thousands of millions of pairs passes, so that no batch comes out at which a join would give way.
    for condition in ["a.value + b.value = -1", "a.value % 2 = b.value % 2 AND a.value + b.value = -1"] {
        let sql = format!("SELECT count(*) FROM range(300000) a JOIN range(300000) b ON {condition}");
        let mut answer = engine.query(&Query { limits, ..ask(&sql) }).await.expect("starts");
        let stopped = answer.next().await.expect_err("takes longer");
        assert!(matches!(stopped, SqlError::TimedOut { limit_ms: 200 }), "{stopped:?}");
        let meter = Arc::clone(&answer.meter);
        drop(answer);
        forgotten(&meter).await;
    }
}
