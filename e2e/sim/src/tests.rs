use super::*;
use crate::view::Plant;

fn run(seed: u64, wanted: Wanted) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let thread = thread.spawn(move || run_seed(seed, &path, wanted)).expect("a thread");
    thread.join().expect("no panic").expect("a runtime")
}

#[test]
fn a_seed_gives_the_same_calls_and_faults_again() {
    let verbose = Wanted { verbose: true, ..Wanted::default() };
    for seed in [3, 4] {
        let (first, second) = (run(seed, verbose), run(seed, verbose));
        assert!(first.trace.steps > 100, "{} steps", first.trace.steps);
        assert_eq!(first.trace.lines, second.trace.lines, "seed {seed}");
    }
}

#[test]
fn a_defect_on_purpose_is_found() {
    for (plant, said) in [(Plant::RowsLost, "missing"), (Plant::DroppedTooFar, "neither curated nor in")] {
        let found = (0..20).find_map(|seed| {
            let outcome = run(seed, Wanted { plant: Some(plant), ..Wanted::default() });
            outcome.findings.into_iter().next()
        });
        assert!(found.as_ref().is_some_and(|found| found.contains(said)), "{plant:?}: {found:?}");
    }
}
