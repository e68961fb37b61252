//! Several runs at once, in one process: no row twice, none missing.

use tidemark_batch::VacuumRequest;
use tidemark_batch::report::{FileOutcome, quiet};

use std::time::Duration;

use super::parts;
use super::support::{DOUBLED, Home};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h2_ingests_that_race_count_every_row_once() {
    for round in 0..parts::rounds(5) {
        let home = Home::new().await;
        let (a, b, c, d) = (home.batch(), home.batch(), home.batch(), home.batch());
        let (a, b, c, d) = tokio::join!(
            home.ingest(&a, &["a.csv"]),
            home.ingest(&b, &["b.csv"]),
            home.ingest(&c, &["c.csv"]),
            home.ingest(&d, &["a.csv", "b.csv", "c.csv"]),
        );
        for result in [a, b, c, d] {
            result.expect("a race is no failure");
        }
        let report = home.batch().status("events").await.expect("reads");
        // Of 0..100: 15 cut; 17 of the rest filtered.
        assert_eq!((report.rows, report.behind, report.files_included), (68, 0, 3), "round {round}");
        home.vacuum().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_contents_under_one_name_one_enters_and_the_other_is_refused() {
    for round in 0..parts::rounds(10) {
        let home = Home::new().await;
        std::fs::create_dir(home.path("other")).expect("a writable folder");
        home.file("other/a.csv", 500..600);
        let (one, other, progress) = (home.batch(), home.batch(), quiet());
        let requests = [home.request(&["a.csv"]), home.request(&["other/a.csv"])];
        let (one, other) = tokio::join!(
            one.ingest("events", &requests[0], &progress),
            other.ingest("events", &requests[1], &progress)
        );
        let mut outcomes: Vec<String> = [one, other]
            .map(|report| match &report.expect("a race is no failure").files[0].outcome {
                FileOutcome::Added { .. } => "added".to_owned(),
                FileOutcome::Refused { code, .. } => code.clone(),
                outcome => format!("{outcome:?}"),
            })
            .to_vec();
        outcomes.sort();
        assert_eq!(outcomes, ["added", "content_changed"], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h2_h9_ingest_withdrawal_and_recompute_race() {
    for round in 0..parts::rounds(5) {
        let home = Home::new().await;
        home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
        home.apply(DOUBLED).await;
        let (ingesting, withdrawing, recomputing, again) = (home.batch(), home.batch(), home.batch(), home.batch());
        let (gone, progress) = (["a.csv".to_owned()], quiet());
        let (ingested, withdrawn, recomputed, twice) = tokio::join!(
            home.ingest(&ingesting, &["b.csv", "c.csv"]),
            withdrawing.withdraw("events", &gone, &progress),
            recomputing.recompute("events", &progress),
            again.recompute("events", &progress),
        );
        ingested.expect("a race is no failure");
        withdrawn.expect("a race is no failure");
        recomputed.expect("a race is no failure");
        twice.expect("a race is no failure");
        let wanted = {
            let quiet_home = Home::new().await;
            quiet_home.apply(DOUBLED).await;
            let batch = quiet_home.batch();
            quiet_home.ingest(&batch, &["a.csv"]).await.expect("ingests");
            quiet_home.ingest(&batch, &["b.csv", "c.csv"]).await.expect("ingests");
            batch.withdraw("events", &gone, &progress).await.expect("withdraws");
            quiet_home.batch().status("events").await.expect("reads").rows
        };
        let status = home.batch().status("events").await.expect("reads");
        assert_eq!((status.rows, status.behind), (wanted, 0), "round {round}");
        home.vacuum().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h2_h9_ingests_recompute_replacement_and_vacuum_race() {
    for round in 0..parts::rounds(5) {
        let home = Home::new().await;
        home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
        home.apply(DOUBLED).await;
        std::fs::create_dir(home.path("new")).expect("a writable folder");
        home.file("new/a.csv", 200..210);
        let mut replacing = home.request(&["new/a.csv"]);
        replacing.replace = true;
        let (one, two, three, four, five) = (home.batch(), home.batch(), home.batch(), home.batch(), home.batch());
        let (progress, request) = (quiet(), VacuumRequest { older_than: HOUR, ..VacuumRequest::default() });
        let (b, c, replaced, recomputed, vacuumed) = tokio::join!(
            home.ingest(&one, &["b.csv"]),
            home.ingest(&two, &["c.csv"]),
            three.ingest("events", &replacing, &progress),
            four.recompute("events", &progress),
            five.vacuum("events", &request),
        );
        b.expect("a race is no failure");
        c.expect("a race is no failure");
        replaced.expect("a race is no failure");
        recomputed.expect("a race is no failure");
        assert_eq!(vacuumed.expect("a race is no failure").removed, Vec::<String>::new(), "all is young");
        let status = home.batch().status("events").await.expect("reads");
        // Of 40..100: 9 cut, 10 of the rest filtered; of 200..210: 2 cut, 2 of the rest filtered.
        assert_eq!((status.rows, status.behind, status.files_included), (47, 0, 3), "round {round}");
        home.vacuum().await;
    }
}
