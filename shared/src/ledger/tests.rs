use proptest::prelude::*;

use super::*;

fn file(name: &str, sha256: &str, verdict: Verdict) -> AddedFile {
    AddedFile {
        name: name.to_owned(),
        sha256: sha256.to_owned(),
        bytes: 1,
        file_format: "csv".to_owned(),
        location: Location::RawZone { key: format!("raw/{name}") },
        verdict,
    }
}

fn add(name: &str, sha256: &str) -> Entry {
    Entry::Add { file: file(name, sha256, Verdict::Passed) }
}

fn held(name: &str, sha256: &str) -> Entry {
    Entry::Add { file: file(name, sha256, Verdict::Held { breaches: Vec::new() }) }
}

fn candidate(name: &str, sha256: &str) -> Candidate {
    Candidate { name: name.to_owned(), sha256: sha256.to_owned() }
}

fn standings(state: &LedgerState) -> Vec<(u64, Standing)> {
    state.files().map(|f| (f.number, f.standing)).collect()
}

#[test]
fn every_entry_kind_changes_what_counts() {
    let replacement = Entry::Replace { replaced: 0, file: file("a", "A2", Verdict::Passed) };
    let entries = [
        add("a", "A"),
        held("b", "B"),
        add("c", "C"),
        Entry::Accept { file: 1 },
        Entry::Withdraw { file: 2 },
        replacement,
    ];
    let state = LedgerState::replay(&entries);
    assert_eq!(
        standings(&state),
        [(0, Standing::Replaced(5)), (1, Standing::Included), (2, Standing::Withdrawn(4)), (5, Standing::Included)]
    );
    assert_eq!(state.by_name("a").map(|f| f.number), Some(5));
    assert!(state.by_name("c").is_none());
    assert_eq!(state.end(), 6);
}

#[test]
fn an_entry_about_a_file_that_is_gone_changes_nothing() {
    let entries = [
        add("a", "A"),
        Entry::Withdraw { file: 0 },
        Entry::Withdraw { file: 0 },
        Entry::Accept { file: 0 },
        Entry::Accept { file: 99 },
    ];
    assert_eq!(standings(&LedgerState::replay(&entries)), [(0, Standing::Withdrawn(1))]);
}

#[test]
fn a_fence_changes_nothing_that_counts_and_is_remembered() {
    let before = LedgerState::replay(&[add("a", "A")]);
    let state = LedgerState::replay(&[add("a", "A"), Entry::fence(1), Entry::Withdraw { file: 0 }]);
    assert_eq!(standings(&state), [(0, Standing::Withdrawn(2))]);
    assert_eq!(state.gone_at(0), Some(2));
    assert!(!before.fenced_since(0));
    assert_eq!([0, 1, 2].map(|number| state.fenced_since(number)), [true, true, false]);
}

#[test]
fn decisions() {
    let state = LedgerState::replay(&[add("a", "A"), held("h", "H"), add("w", "W"), Entry::Withdraw { file: 2 }]);
    let plain = PlanOptions::default();
    let all = PlanOptions { replace: true, allow_duplicate: true };
    let cases = [
        (candidate("new", "N"), plain, Decision::Add),
        (candidate("a", "A"), plain, Decision::AlreadyThere { number: 0, held: false }),
        (candidate("h", "H"), plain, Decision::AlreadyThere { number: 1, held: true }),
        (candidate("a", "X"), plain, Decision::ContentChanged { number: 0, known_sha256: "A".to_owned() }),
        (candidate("a", "X"), all, Decision::Replace { number: 0 }),
        (candidate("b", "A"), plain, Decision::DuplicateContent { known_name: "a".to_owned() }),
        (candidate("b", "A"), all, Decision::Add),
        // What was withdrawn may come back, as a new file.
        (candidate("w", "W"), plain, Decision::Add),
    ];
    for (candidate, options, wanted) in cases {
        assert_eq!(decide(&state, std::slice::from_ref(&candidate), options), [wanted], "{candidate:?} {options:?}");
    }
}

#[test]
fn candidates_of_one_request_see_each_other() {
    let request = [candidate("a", "A"), candidate("b", "A"), candidate("a", "B")];
    let decided = decide(&LedgerState::default(), &request, PlanOptions::default());
    let duplicate = Decision::DuplicateContent { known_name: "a".to_owned() };
    assert_eq!(decided, [Decision::Add, duplicate, Decision::DuplicateName]);
}

#[test]
fn a_stored_entry_has_a_stable_form() {
    let stored = StoredEntry {
        format: LEDGER_FORMAT,
        id: "id".to_owned(),
        at: DateTime::from_timestamp(0, 0).expect("the epoch"),
        entry: Entry::Replace { replaced: 3, file: file("a", "A", Verdict::Passed) },
    };
    let golden = r#"{"format":1,"id":"id","at":"1970-01-01T00:00:00Z","entry":{"kind":"replace","replaced":3,"file":{"name":"a","sha256":"A","bytes":1,"file_format":"csv","location":{"kind":"raw_zone","key":"raw/a"},"verdict":{"kind":"passed"}}}}"#;
    assert_eq!(serde_json::to_string(&stored).expect("plain data"), golden);
    assert_eq!(serde_json::from_str::<StoredEntry>(golden).expect("parses"), stored);
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (0u8..6).prop_map(|n| add(&format!("f{n}"), &format!("{n}"))),
        (0u8..6).prop_map(|n| held(&format!("f{n}"), &format!("{n}"))),
        (0u64..20).prop_map(|file| Entry::Withdraw { file }),
        (0u64..20).prop_map(|file| Entry::Accept { file }),
        (0u64..20).prop_map(|replaced| Entry::Replace { replaced, file: file("r", "R", Verdict::Passed) }),
    ]
}

proptest! {
    #[test]
    fn a_step_leads_from_one_prefix_to_the_next(
        entries in proptest::collection::vec(any_entry(), 0..20), cut in 0usize..20
    ) {
        let cut = cut.min(entries.len());
        let (from, to) = (LedgerState::replay(&entries[..cut]), LedgerState::replay(&entries));
        let step = to.step(from.end(), to.end());
        for file in to.files() {
            let n = file.number;
            let before = from.includes(n);
            let expected = (before && !step.exclude.contains(&n)) || step.include.contains(&n);
            prop_assert_eq!(to.includes(n), expected);
            prop_assert!(!(before && step.include.contains(&n)));
        }
    }

    #[test]
    fn a_state_knows_what_counted_in_every_prefix(entries in proptest::collection::vec(any_entry(), 0..20)) {
        let all = LedgerState::replay(&entries);
        for end in 0..=entries.len() {
            let prefix = LedgerState::replay(&entries[..end]);
            for file in all.files() {
                let then = prefix.file(file.number).map(|file| file.standing);
                prop_assert_eq!(file.counts_at(end as u64), then == Some(Standing::Included), "{:?} at {}", file, end);
                prop_assert_eq!(file.held_at(end as u64), then == Some(Standing::Held), "{:?} at {}", file, end);
            }
        }
        for file in all.files() {
            let same = all.files().filter(|other| other.file.name == file.file.name);
            prop_assert!(all.all_by_name(&file.file.name).eq(same));
        }
    }

    #[test]
    fn replaying_in_two_goes_is_replaying_in_one(
        entries in proptest::collection::vec(any_entry(), 0..20), cut in 0usize..20
    ) {
        let cut = cut.min(entries.len());
        let mut state = LedgerState::replay(&entries[..cut]);
        for entry in &entries[cut..] {
            state.apply(entry);
        }
        prop_assert_eq!(state, LedgerState::replay(&entries));
    }
}
