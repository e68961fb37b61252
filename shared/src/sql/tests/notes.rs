//! What is said beside an answer, and where there is none because nothing says which table answers.

use crate::ambient::System;
use crate::layout;
use crate::ledger::{Entry, Ledger, LedgerState};

use super::*;

async fn notes(engine: &SqlEngine, sql: &str) -> Vec<String> {
    rows(engine, &ask(sql)).await.expect(sql).1.notes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_no_partition_has_is_told_where_its_number_is_there() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    for (condition, texts) in [
        ("pickup_month = '7'", &["7"][..]),
        ("'7' = t.pickup_month", &["7"]),
        ("pickup_month IN ('7', '08', '9', '13')", &["7", "9"]),
        ("id IN (SELECT id FROM trips WHERE pickup_month = '7')", &["7"]),
        ("pickup_month = '07'", &[]),
        ("pickup_month = 7", &[]),
        ("pickup_month = '13'", &[]),
        ("pickup_month = 'july'", &[]),
        ("note = '7'", &[]),
        ("pickup_month <> '7'", &[]),
    ] {
        let told = notes(&engine, &format!("SELECT count(*) FROM trips t WHERE {condition}")).await;
        assert_eq!(told.len(), texts.len(), "{condition}: {told:?}");
        for (told, text) in told.iter().zip(texts) {
            let wanted = format!("no partition has pickup_month = '{text}', ");
            assert!(told.starts_with(&wanted) && told.contains(&format!("'0{text}'")), "{condition}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_behind_its_ledger_says_so() {
    let fixture = Fixture::new().await;
    let engine = fixture.engine(SqlConfig::default());
    let store = Store::local(&fixture.folder.path().join("store"), IfMissing::Fail).expect("the fixture's store");
    let (ledger, mut state) = (Ledger::new(store, "trips"), LedgerState::default());
    // What is covered, an entry more, and a vacuum's fence.
    for number in 0..14_u64 {
        assert_eq!(notes(&engine, "SELECT count(*) FROM trips").await.len(), usize::from(number == 13), "{number}");
        let entry = if number == 13 { Entry::Withdraw { file: number } } else { Entry::Accept { file: 0 } };
        let made = ledger.append(&mut state, &System, |_| Some(entry.clone())).await.expect("appends");
        assert_eq!(made, Some(number));
    }
    assert_eq!(
        notes(&engine, "SELECT count(*) FROM trips").await,
        ["trips is behind its ledger: of 13 entries, 1 are not in the table; `tidemark batch run trips` takes them in"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_no_pointer_names_is_no_unknown_name() {
    let fixture = Fixture::new().await;
    let pointers = fixture.folder.path().join("store").join(layout::currents("trips").as_ref());
    std::fs::remove_dir_all(pointers).expect("the pointers");
    let error = error(&fixture.engine(SqlConfig::default()), "SELECT count(*) FROM trips").await;
    assert!(matches!(error, SqlError::NoGeneration { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.hint().is_some_and(|hint| hint.contains("`tidemark batch run trips`")), "{error:?}");
}
