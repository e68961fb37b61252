//! Vacuums at the worst moments: what a slow run is about to name, and what queries may still read.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use tidemark_batch::report::quiet;
use tidemark_batch::{Batch, BatchError, BatchSettings, VacuumRequest};
use tidemark_shared::{curated, layout};
use tidemark_testing::faulty::{Call, Fault, Rule};

use crate::support::{DOUBLED, Home, Published, TRANSFORM};

/// Takes everything for old that was written before the call.
async fn vacuum(batch: &Batch) -> Vec<String> {
    batch.vacuum("events", &VacuumRequest::default()).await.expect("vacuums").removed
}

fn without_grace() -> BatchSettings {
    BatchSettings { threads: 2, grace: Duration::ZERO, ..BatchSettings::default() }
}

async fn undisturbed(files: &[&str]) -> Published {
    let home = Home::new().await;
    for file in files {
        home.ingest(&home.batch(), &[file]).await.expect("ingests");
    }
    home.published().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_a_vacuum_took_away_is_made_again_before_an_entry_names_it() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let other = home.batch_with(without_grace());
    let act = async move { assert_eq!(vacuum(&other).await.len(), 1, "the copy was not old enough") };
    let slow = home.hooked("ledger/00000000000000000001.json", act.boxed());
    home.ingest(&slow, &["b.csv"]).await.expect("copies again");
    let status = home.batch().status("events").await.expect("reads");
    // Of 0..70: 10 cut; 12 of the rest filtered. The fence has number 1.
    assert_eq!((status.rows, status.ledger_end, status.behind), (48, 3, 0));
    home.apply(DOUBLED).await;
    home.batch().recompute("events", &quiet()).await.expect("all bytes are there");
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_is_nothing_to_take_in() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let failing = home.faulty(vec![Rule::new(Call::Put, "ledger/", 0, Fault::Fails)]);
    home.ingest(&failing, &["b.csv"]).await.expect_err("no entry goes in");
    assert_eq!(vacuum(&home.batch_with(without_grace())).await.len(), 1, "the copy that nothing names");
    let status = home.batch().status("events").await.expect("reads");
    assert_eq!((status.ledger_end, status.behind, status.files_included), (2, 0, 1));
    assert_eq!(vacuum(&home.batch_with(without_grace())).await, Vec::<String>::new());
    assert_eq!(home.batch().status("events").await.expect("reads").ledger_end, 2, "no fence without need");
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_files_that_a_vacuum_took_away_are_never_committed() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let other = home.batch_with(without_grace());
    let act = async move { assert_ne!(vacuum(&other).await, Vec::<String>::new(), "no data file was old enough") };
    let slow = home.hooked("_delta_log/00000000000000000002.json", act.boxed());
    home.ingest(&slow, &["b.csv"]).await.expect("reads the file again");
    assert_eq!(home.published().await, undisturbed(&["a.csv", "b.csv"]).await);
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_switches_to_a_generation_that_a_vacuum_took_away() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    let before = home.published().await;
    home.apply(DOUBLED).await;
    let other = home.batch_with(without_grace());
    let act = async move { assert_ne!(vacuum(&other).await, Vec::<String>::new(), "no generation was old enough") };
    let slow = home.hooked("_delta_log/00000000000000000002.json", act.boxed());
    let error = slow.recompute("events", &quiet()).await.expect_err("its generation is gone");
    assert!(matches!(error, BatchError::Abandoned { .. }), "{error}");
    assert_eq!(home.published().await, before);
    home.ingest(&home.batch(), &["b.csv"]).await.expect("the old generation goes on");
    home.batch().recompute("events", &quiet()).await.expect("starts over");
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_queries_may_read_is_kept_for_the_grace_whatever_the_age() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv", "b.csv"]).await.expect("ingests");
    batch.withdraw("events", &["a.csv".to_owned()], &quiet()).await.expect("withdraws");
    assert_eq!(vacuum(&batch).await, Vec::<String>::new(), "a removed data file went within the grace");
    home.apply(DOUBLED).await;
    batch.recompute("events", &quiet()).await.expect("recomputes");
    assert_eq!(vacuum(&batch).await, Vec::<String>::new(), "a generation went within the grace");
    let removed = vacuum(&home.batch_with(without_grace())).await;
    assert!(removed.iter().any(|key| key.contains("_delta_log")), "{removed:?}");
    home.vacuum().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_that_a_generation_has_answered_stays() {
    let home = Home::new().await;
    home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
    home.apply(DOUBLED).await;
    home.batch().recompute("events", &quiet()).await.expect("recomputes");
    let notes = [0, 1].map(|n| home.path("store").join(layout::note("events", n).as_ref()));
    for note in &notes {
        std::fs::write(note, r#"{"format":1,"generation":"g"}"#).expect("writes");
    }
    let removed = vacuum(&home.batch_with(without_grace())).await;
    assert!(removed.iter().any(|key| key.contains("_delta_log")), "the first generation is gone: {removed:?}");
    assert!(notes.iter().all(|note| note.exists()), "{removed:?}");
    home.vacuum().await;
    assert!(notes.iter().all(|note| note.exists()));
}

fn generations(home: &Home) -> BTreeSet<String> {
    let entries = std::fs::read_dir(home.path("store/curated/events")).expect("it is there");
    entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned()).collect()
}

fn age(folder: &Path, by: Duration) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            age(&path, by);
        } else {
            let file = std::fs::File::options().write(true).open(&path).expect("our file");
            file.set_modified(SystemTime::now() - by).expect("its time can be set");
        }
    }
}

/// However often definitions change: a generation's grace begins when it was replaced, not when the last one was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_was_replaced_long_ago_goes_though_another_one_was_just_now() {
    let home = Home::new().await;
    let batch = home.batch();
    home.ingest(&batch, &["a.csv"]).await.expect("ingests");
    let first = generations(&home);
    home.apply(DOUBLED).await;
    batch.recompute("events", &quiet()).await.expect("recomputes");
    let second = generations(&home);
    age(&home.path("store/curated"), Duration::from_secs(48 * 3_600));
    batch.recompute("events", &quiet()).await.expect("recomputes");
    let third = generations(&home);
    assert_eq!((first.len(), second.len(), third.len()), (2, 3, 4), "a generation each, and the pointers");

    let removed = vacuum(&batch).await;
    let gone: Vec<_> = first.iter().filter(|name| removed.iter().any(|key| key.contains(*name))).collect();
    assert_eq!(gone.len(), 1, "the first generation: {removed:?}");
    assert!(removed.iter().all(|key| key.contains(gone[0])), "and none that answered a moment ago: {removed:?}");
    home.vacuum().await;
}

/// With a stream, queries move on when one of them notes it: views may be behind for long after the pointer moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_still_answers_stays_though_the_pointer_has_moved() {
    for (days, goes) in [(2, false), (9, true)] {
        let home = Home::new().await;
        crate::streams::apply(&home, TRANSFORM, true).await;
        home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
        home.batch().recompute("events", &quiet()).await.expect("recomputes");
        let first = curated::pointer(home.store().objects().as_ref(), "events", 0).await.expect("reads");
        let first = first.expect("it is there").generation;
        age(&home.path("store/curated"), Duration::from_secs(days * 24 * 3_600));
        let is_of_first = |removed: Vec<String>| removed.iter().any(|key| key.contains(&first));
        let default = || home.batch_with(BatchSettings { threads: 2, ..BatchSettings::default() });
        assert_eq!(is_of_first(vacuum(&default()).await), goes, "{days} days after the pointer, and no note");
        if goes {
            continue;
        }
        let note = home.path("store").join(layout::note("events", 1).as_ref());
        std::fs::write(note, r#"{"format":1,"generation":"g"}"#).expect("writes");
        assert!(!is_of_first(vacuum(&default()).await), "noted a moment ago");
        assert!(is_of_first(vacuum(&home.batch_with(without_grace())).await), "noted, and nobody is given time");
    }
}

/// Vacuums again and again, for which everything that is unnamed is old, while all else goes on. Runs may fail, for what
/// they read is taken away under them; but no row is lost or doubled, and the next runs go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_counts_is_lost_whatever_vacuums_take() {
    let mut failures = 0;
    for round in 0..6 {
        let home = Home::new().await;
        home.ingest(&home.batch(), &["a.csv"]).await.expect("ingests");
        home.apply(DOUBLED).await;
        home.file("d.csv", 100..140);
        let greedy = home.batch_with(without_grace());
        let (gone, progress) = (["a.csv".to_owned()], quiet());
        let (one, two, three, four, five) = (home.batch(), home.batch(), home.batch(), home.batch(), home.batch());
        let work = async {
            let (b, c, d, withdrawn, recomputed) = tokio::join!(
                home.ingest(&one, &["b.csv"]),
                home.ingest(&two, &["c.csv"]),
                home.ingest(&three, &["d.csv", "b.csv"]),
                four.withdraw("events", &gone, &progress),
                five.recompute("events", &progress),
            );
            [b.err(), c.err(), d.err(), withdrawn.err(), recomputed.err()].into_iter().flatten().count()
        };
        let vacuums = async {
            loop {
                // It may itself be overtaken too often.
                drop(greedy.vacuum("events", &VacuumRequest::default()).await);
            }
        };
        failures += tokio::select! {
            failed = work => failed,
            () = vacuums => 0,
        };
        let batch = home.batch();
        home.ingest(&batch, &["b.csv", "c.csv", "d.csv"]).await.expect("nothing is in the way");
        batch.withdraw("events", &gone, &quiet()).await.expect("nothing is in the way");
        for again in [false, true] {
            if again {
                batch.recompute("events", &quiet()).await.expect("all bytes are there");
            }
            let status = batch.status("events").await.expect("reads");
            // Of 40..140: 14 cut; 18 of the rest filtered.
            assert_eq!((status.rows, status.behind, status.files_included), (68, 0, 3), "round {round}");
            home.published().await;
        }
        home.vacuum().await;
    }
    println!("{failures} runs failed under the vacuums");
}
