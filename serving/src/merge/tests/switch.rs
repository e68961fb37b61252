//! Processes that share store and views, while another generation takes over.

use std::time::Duration;

use object_store::ObjectStoreExt as _;
use tidemark_shared::error::{ErrorKind as _, Kind, chain};
use tidemark_shared::layout;
use tidemark_shared::sql::{CutError, SqlError, Wants};
use tidemark_testing::faulty::{Call, Fault, Rule};

use super::cuts::six;
use super::support::{Process, World, coverage};

const COUNT: &str = "SELECT count(*) FROM orders";

/// Six records; the first generation has curated two of them, and is about to be followed by one that has curated four.
async fn before_the_switch() -> World {
    let world = six().await;
    world.curate("g1", [1, 1]).await;
    world.publish("g2", 1).await;
    world.curate("g2", [2, 2]).await;
    world
}

/// The view of the second generation is there, and as far as that of the first.
async fn make_ready(world: &World) {
    world.open_view("g2", [2, 2]).await;
    world.index("g2").await;
}

/// The view of the second generation is lost, and is made anew from what is curated.
async fn lose_view(world: &World) {
    world.close_view("g2").await;
    world.open_view("g2", [2, 2]).await;
}

async fn told(process: &Process, wants: &Wants) -> Result<(String, String), SqlError> {
    let (rows, answer) = process.ask(COUNT, wants).await?;
    Ok((answer.as_of.datasets["orders"].generation.clone(), rows))
}

/// Which generation answers, and how many rows it counts.
async fn answer(process: &Process) -> (String, String) {
    told(process, &Wants::default()).await.expect("an answer")
}

fn is(generation: &str, rows: &str) -> (String, String) {
    (generation.to_owned(), rows.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_no_process_goes_back_behind_another() {
    let world = before_the_switch().await;
    let (first, second) = (world.process(vec![]), world.process(vec![]));
    assert_eq!(answer(&second).await, is("g1", "6"));
    make_ready(&world).await;
    assert_eq!(answer(&first).await, is("g2", "6"));
    // The older view goes on for a while, further than the newer one.
    let _offset = world.produce(0, r#"{"id": "7", "cents": 7, "v": 1}"#).await;
    world.index("g1").await;
    assert_eq!(answer(&second).await, is("g2", "6"), "it could answer from the older generation");
    assert_eq!(answer(&world.process(vec![])).await, is("g2", "6"), "one that was started since");
    // Not even where the newer view is lost.
    world.close_view("g2").await;
    let error = told(&first, &Wants::default()).await.expect_err("no view may answer");
    assert!(matches!(error, SqlError::Cut { source: CutError::NoView { .. }, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_a_process_waits_for_as_far_as_it_has_answered() {
    let world = before_the_switch().await;
    let (first, second) = (world.process(vec![]), world.process(vec![]));
    assert_eq!(answer(&second).await, is("g1", "6"));
    make_ready(&world).await;
    assert_eq!(answer(&first).await, is("g2", "6"));
    lose_view(&world).await;
    let error = told(&second, &Wants::default()).await.expect_err("it has answered six");
    let SqlError::Cut { source: source @ CutError::ViewBehind { .. }, .. } = error else { panic!("{error:?}") };
    assert_eq!((source.code(), source.kind()), (Some("realtime_unavailable"), Kind::Retryable));
    let (curated, _) = second.ask("SELECT count(*) FROM batch.orders", &Wants::default()).await.expect("an answer");
    assert_eq!(curated, "4");
    let earlier = Wants { positions: [("orders".to_owned(), coverage([1, 2]))].into(), ..Wants::default() };
    assert_eq!(told(&second, &earlier).await.expect("it is an earlier answer"), is("g2", "3"));
    assert_eq!(answer(&world.process(vec![])).await, is("g2", "4"), "who has not answered owes nothing");
    let (found, ()) = tokio::join!(answer(&second), world.index("g2"));
    assert_eq!(found, is("g2", "6"), "it comes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_while_a_note_cant_be_written_the_older_generation_answers() {
    let puts = |process: &Process| process.calls.made().iter().filter(|(call, _)| *call == Call::Put).count();
    for (fault, next) in [(Fault::Fails, "g1"), (Fault::NoSpace, "g1"), (Fault::AckLost, "g2")] {
        let world = before_the_switch().await;
        make_ready(&world).await;
        let process = world.process(vec![Rule::new(Call::Put, ".answered.json", 0, fault)]);
        assert_eq!(answer(&process).await, is("g1", "6"), "{fault:?}");
        assert_eq!(answer(&process).await, is(next, "6"), "{fault:?}");
        assert_eq!(puts(&process), 1, "{fault:?}: nobody waits for the store so soon again");
        world.pass(Duration::from_secs(1));
        assert_eq!(answer(&process).await, is("g2", "6"), "{fault:?}");
        assert_eq!(answer(&world.process(vec![])).await, is("g2", "6"), "{fault:?}");
    }
    // Without a view of the older one nobody can do more than say so.
    let world = before_the_switch().await;
    make_ready(&world).await;
    world.close_view("g1").await;
    let process = world.process(vec![Rule::new(Call::Put, ".answered.json", 0, Fault::Fails)]);
    let error = told(&process, &Wants::default()).await.expect_err("it is not noted");
    assert!(chain(&error).contains("00000001.answered.json"), "{}", chain(&error));
    assert_eq!(error.kind(), Kind::Retryable);
    assert_eq!(answer(&process).await, is("g2", "6"));
}

/// What is curated, and of which generation.
async fn curated(process: &Process) -> (String, String) {
    let (rows, answer) =
        process.ask("SELECT count(*) FROM batch.orders", &Wants::default()).await.expect("what is curated answers");
    (answer.as_of.datasets["orders"].generation.clone(), rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_who_sees_no_view_answers_from_the_generation_that_others_do() {
    let world = before_the_switch().await;
    let first = world.process(vec![]);
    assert_eq!(answer(&first).await, is("g1", "6"));
    world.take_views_away(true);
    assert_eq!(curated(&first).await, is("g1", "2"));
    assert_eq!(curated(&world.process(vec![])).await, is("g1", "2"), "it has answered nothing yet");
    world.take_views_away(false);
    assert_eq!(curated(&world.process(vec![])).await, is("g1", "2"));
    // A table that a vacuum takes away answers no more.
    world.take_views_away(true);
    world.store().objects().put(&layout::ban("orders", "g1"), "{}".into()).await.expect("puts");
    assert_eq!(curated(&world.process(vec![])).await, is("g2", "4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_without_any_view_the_newest_generation_answers_and_stays() {
    let world = before_the_switch().await;
    world.close_view("g1").await;
    assert_eq!(curated(&world.process(vec![])).await, is("g2", "4"), "there is nothing that it could be behind");
    world.open_view("g1", [1, 1]).await;
    world.index("g1").await;
    assert_eq!(curated(&world.process(vec![])).await, is("g2", "4"), "the older view came back");
    make_ready(&world).await;
    assert_eq!(answer(&world.process(vec![])).await, is("g2", "6"));
    // While that can't be noted, the older one goes on.
    let world = before_the_switch().await;
    world.close_view("g1").await;
    let process = world.process(vec![Rule::new(Call::Put, ".answered.json", 0, Fault::Fails)]);
    assert_eq!(curated(&process).await, is("g1", "2"));
    assert_eq!(curated(&process).await, is("g2", "4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_tells_that_no_generation_took_over() {
    let world = six().await;
    world.curate("g1", [1, 1]).await;
    let process = world.process(vec![]);
    let asked = async |wanted: &str| {
        assert_eq!(answer(&process).await.0, wanted);
        let before = process.calls.made().len();
        assert_eq!(answer(&process).await.0, wanted);
        let made = process.calls.made().split_off(before);
        let of_pointers = made.into_iter().filter(|(_, key)| key.as_ref().contains("/current"));
        of_pointers.map(|(call, key)| (call, key.to_string())).collect::<Vec<_>>()
    };
    let head = |n: u64| (Call::Get, layout::current("orders", n).to_string());
    let list = (Call::List, layout::currents("orders").to_string());
    assert_eq!(asked("g1").await, [head(1)], "there is one generation");
    world.publish("g2", 1).await;
    world.curate("g2", [2, 2]).await;
    assert_eq!(asked("g1").await, [list], "the second may be noted at any time");
    make_ready(&world).await;
    assert_eq!(asked("g2").await.len(), 2, "it is, and the note is read once");
    assert_eq!(asked("g2").await, [head(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_of_a_newer_form_is_refused() {
    let world = before_the_switch().await;
    let newer = r#"{"format": 2, "generation": "g2", "epoch": 1}"#;
    world.store().objects().put(&layout::note("orders", 1), newer.into()).await.expect("puts");
    let error = told(&world.process(vec![]), &Wants::default()).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    assert!(chain(&error).contains("form 2 of the note"), "{}", chain(&error));
}
