use tidemark_batch::report::{DatasetStatus, FileOutcome, FileReport, HeldFile, IngestReport, RecomputeReport};
use tidemark_shared::ledger::Breach;
use tidemark_shared::position::{Coverage, LogPartition};

use super::*;

fn counts(records: u64, accepted: u64, filtered: u64, rejected: &[(&str, u64)]) -> Counts {
    let rejected = rejected.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
    Counts { records, accepted, filtered, rejected }
}

fn file(name: &str, outcome: FileOutcome, counts: Counts) -> FileReport {
    FileReport { name: name.to_owned(), number: Some(1), bytes: 2_000, outcome, counts, notes: Vec::new() }
}

fn breach() -> Breach {
    let [rule, wanted, found] = ["max_reject_ratio", "at most 0.05", "0.14"].map(str::to_owned);
    Breach { rule, wanted, found }
}

fn added() -> FileOutcome {
    FileOutcome::Added { bad_file: false, replaced: None }
}

#[test]
fn an_ingest_report_tells_each_file_and_accounts_for_all() {
    let mut first = file("a.csv", added(), counts(1_000, 989, 1, &[("bad_value", 8), ("width", 2)]));
    first.notes = vec!["unknown column `x`".to_owned()];
    let mut second = file("b.csv", FileOutcome::Held { breaches: vec![breach()] }, counts(7, 6, 0, &[("width", 1)]));
    second.notes = vec!["unknown column `x`".to_owned()];
    let message = "its content changed; --replace takes it in".to_owned();
    let refused = FileOutcome::Refused { code: "content_changed".to_owned(), message };
    let report = IngestReport {
        dataset: "trips".to_owned(),
        files: vec![first, second, file("c.csv", refused, Counts::default())],
        counts: counts(1_000, 989, 1, &[("bad_value", 8), ("width", 2)]),
        other_counts: counts(200, 200, 0, &[]),
        held_records: 7,
        raw_bytes: 1_000_000,
        curated_bytes: 250_000,
        table_version: Some(3),
        generation: Some("g1".to_owned()),
        elapsed_ms: 2_400,
        ..IngestReport::default()
    };
    let expected = "\
file     size  records  accepted  filtered  rejected  outcome
a.csv  2.0 kB    1,000       989         1        10  added
b.csv  2.0 kB        7         6         0         1  held
c.csv  2.0 kB        0         0         0         0  refused

b.csv is held, its rows do not count:
  max_reject_ratio: wanted at most 0.05, found 0.14
  what it refused:     tidemark rejects trips --held
  let its rows count:  tidemark ingest trips --accept b.csv
  or take it out:      tidemark ingest trips --withdraw b.csv

c.csv is refused: its content changed; --replace takes it in

note: 2 files: unknown column `x`

rejected by reason: bad_value 8, width 2
1,007 records = 989 accepted + 1 filtered + 10 rejected + 7 held: adds up
of them, 200 of files that an earlier run left in the ledger
1.0 MB raw -> 250.0 kB Parquet (25.0 %), table version 3 of generation g1, in 2.4 s
";
    assert_eq!(ingest(&report), expected);
}

#[test]
fn each_outcome_has_words() {
    let some = || counts(1, 1, 0, &[]);
    let table = [
        (file("a", added(), some()), "added"),
        (file("a", added(), Counts::default()), "added, holds no record"),
        (file("a", FileOutcome::Added { bad_file: false, replaced: Some(4) }, some()), "added, replaces file 4"),
        (file("a", FileOutcome::Added { bad_file: true, replaced: None }, some()), "rejected as a whole"),
        (file("a", FileOutcome::AlreadyThere { held: false }, some()), "already there, nothing done"),
        (file("a", FileOutcome::AlreadyThere { held: true }, some()), "already there, still held"),
        (file("a", FileOutcome::Accepted, some()), "accepted"),
        (file("a", FileOutcome::Withdrawn, some()), "withdrawn"),
        (file("a", FileOutcome::AlreadyWithdrawn, some()), "already withdrawn"),
    ];
    for (file, words) in table {
        let text = ingest(&IngestReport { files: vec![file], ..IngestReport::default() });
        assert!(text.lines().nth(1).is_some_and(|line| line.ends_with(words)), "{words}: {text}");
    }
}

#[test]
fn a_long_name_loses_its_middle_in_the_table() {
    let name = format!("2019/{}.csv", "\u{e9}".repeat(200));
    let text = ingest(&IngestReport { files: vec![file(&name, added(), counts(1, 1, 0, &[]))], ..Default::default() });
    let row = text.lines().nth(1).expect("a row");
    let cell = row.split("  ").next().expect("a cell");
    assert_eq!(cell.chars().count(), 60);
    assert!(cell.starts_with("2019/\u{e9}") && cell.contains("...") && cell.ends_with("\u{e9}.csv"), "{cell}");
}

#[test]
fn many_files_are_cut_but_what_needs_a_decision_is_told() {
    let mut files: Vec<FileReport> = (0..80).map(|n| file(&format!("{n}.csv"), added(), Counts::default())).collect();
    files.push(file("last one's.csv", FileOutcome::Held { breaches: vec![breach()] }, Counts::default()));
    let text = ingest(&IngestReport { dataset: "trips".to_owned(), files, ..IngestReport::default() });
    assert!(text.contains("... and 21 more files; --json lists all\n"), "{text}");
    assert!(text.contains(r"tidemark ingest trips --accept 'last one'\''s.csv'"), "{text}");
}

#[test]
fn figures_that_do_not_add_up_are_said_to_be_a_defect() {
    assert!(account(&counts(3, 1, 1, &[]), 1).contains("4 records = "));
    assert!(account(&counts(3, 1, 1, &[]), 1).contains("DOES NOT ADD UP"));
    assert_eq!(account(&counts(1, 1, 0, &[]), 0), "1 record = 1 accepted + 0 filtered + 0 rejected: adds up\n");
}

#[test]
fn what_comes_from_files_can_not_steer_the_terminal() {
    let row = RejectRow {
        source: "files".to_owned(),
        partition: 3,
        file: Some("a\u{1b}[2J.csv".to_owned()),
        offset: 17,
        reason: "bad_value".to_owned(),
        column: Some("fare".to_owned()),
        message: "`x\ny` is no number".to_owned(),
        bytes: b"1,\x1b]0;x\x07,\xff".to_vec(),
        held: true,
    };
    let text = rejects(&[row]);
    assert_eq!(
        text,
        "a\\u{1b}[2J.csv:17 (held)  bad_value in fare: `x\\ny` is no number\n    1,\\u{1b}]0;x\\u{7},\\xff\n"
    );
}

#[test]
fn a_status_names_what_waits_and_how_to_go_on() {
    let mut coverage = Coverage::new();
    coverage.set(LogPartition::files(), 3);
    let standing = DatasetStatus {
        dataset: "trips".to_owned(),
        active_definition: Some("aaaa".to_owned()),
        pending_definition: Some("bbbb".to_owned()),
        generation: Some("g1".to_owned()),
        table_location: Some("file:///d/table".to_owned()),
        table_version: Some(7),
        coverage,
        ledger_end: 5,
        behind: 2,
        files_included: 2,
        files_held: vec![HeldFile { name: "b.csv".to_owned(), number: 1, breaches: vec![breach()] }],
        streams: Vec::new(),
        rows: 1_234,
        data_files: 31,
        bytes: 2_000,
    };
    let expected = "\
trips
  definition  aaaa
  pending     bbbb; to activate it: tidemark batch recompute trips
  table       1,234 rows in 31 files, 2.0 kB; version 7 of generation g1
  location    file:///d/table
  ledger      5 entries; 2 files with rows that count
  coverage    files up to 3
  behind      2 entries; to take in what waits: tidemark batch run trips
  held        b.csv (file 1); max_reject_ratio: wanted at most 0.05, found 0.14
";
    assert_eq!(status(&standing), expected);
}

#[test]
fn a_vacuum_says_what_it_would_do() {
    let report = VacuumReport {
        dataset: "trips".to_owned(),
        removed: (0..51).map(|n| format!("curated/trips/{n}")).collect(),
        removed_bytes: 1_000,
        too_young: 1,
        spared: vec!["curated/trips/young".to_owned()],
        spared_bytes: 17,
        older_than_ms: 86_400_000,
        kept_ms: 86_400_000,
        dry_run: true,
        ..VacuumReport::default()
    };
    let text = vacuum(&report);
    assert!(text.contains("... and 1 more; --json lists all\n"), "{text}");
    let told = "trips: 51 orphaned objects would be removed (1.0 kB); old enough is 1d (--older-than)\n\
                trips: 1 orphaned object spared as too young, or as part of a switch (17 B):\n  curated/trips/young\n";
    assert!(text.ends_with(told), "{text}");
    let leftovers = vec!["definitions/trips/00000001.json".to_owned()];
    let text =
        vacuum(&VacuumReport { leftovers, leftover_bytes: 2_000, older_than_ms: 60_000, dry_run: false, ..report });
    let told = "old enough is 1m (--older-than), and 1d for what queries may still read (--grace)\n";
    assert!(text.contains(told), "{text}");
    assert!(text.ends_with("\ntrips: 1 unfinished write removed (2.0 kB)\n"), "{text}");
}

#[test]
fn columns_line_up_whatever_their_content() {
    let rows = [vec!["é".to_owned(), "10".to_owned()], vec!["abc".to_owned(), "5".to_owned()]];
    assert_eq!(table(&[("a", false), ("n", true)], &rows), "a     n\né    10\nabc   5\n");
}

#[test]
fn a_recompute_says_when_a_running_process_answers_by_it() {
    let of = |previous: Option<&str>| RecomputeReport {
        dataset: "trips".to_owned(),
        generation: "g2".to_owned(),
        previous_generation: previous.map(str::to_owned),
        definition: "bbbb".to_owned(),
        counts: counts(1, 1, 0, &[]),
        previous_counts: Counts::default(),
        rejects_taken_up: 0,
        curated_bytes: 7,
        catalog_error: None,
        elapsed_ms: 3,
    };
    let text = recompute(&of(Some("g1")));
    assert!(text.starts_with("trips: generation g2 answers now, g1 before; definition bbbb\n"), "{text}");
    assert!(text.contains("\na running `tidemark up` takes it up within a second"), "{text}");
    assert!(!recompute(&of(None)).contains("tidemark up"), "nothing answered before");
}
