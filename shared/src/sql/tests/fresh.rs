//! Statements of one engine: each sees what was committed before it.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_sees_the_commits_and_generations_before_it() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let count = ask("SELECT count(*), sum(fare_amount) FROM trips");
    let (before, answer) = rows(&engine, &count).await.expect("answers");
    assert_eq!((before.as_str(), answer.as_of.datasets["trips"].table_version), ("12000|594000", 0));

    let append = |generation, month_number| {
        let log = log_store(Arc::clone(&fixture.objects), "trips", generation).expect("a log store");
        async move {
            let mut table = DeltaTable::new(log);
            if table.load().await.is_err() {
                assert!(table.version().is_none());
            }
            let transaction = Transaction::new(transaction_id(&LogPartition::files()), 13);
            let append = table.write([month(month_number)]).with_save_mode(SaveMode::Append);
            let append = append
                .with_partition_columns(["pickup_month"])
                .with_commit_properties(CommitProperties::default().with_application_transaction(transaction));
            append.await.expect("the table takes the rows")
        }
    };
    append("g1", 1).await;
    let (after, answer) = rows(&engine, &count).await.expect("answers");
    assert_eq!((after.as_str(), answer.as_of.datasets["trips"].table_version), ("13000|643500", 1));

    append("g2", 1).await;
    let store = Store::local(&fixture.folder.path().join("store"), IfMissing::Fail).expect("the store");
    publish(&store, "trips", 1, &CurrentGeneration::new("g2", "d2", 1)).await.expect("publishes");
    let (switched, answer) = rows(&engine, &count).await.expect("answers");
    assert_eq!((switched.as_str(), answer.as_of.datasets["trips"].definition.as_str()), ("1000|49500", "d2"));
}
