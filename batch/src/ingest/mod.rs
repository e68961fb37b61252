//! `ingest`: files enter the raw zone and the ledger, and their rows the curated table.
//!
//! A new file is hashed, copied, decoded, judged by the gate and entered in the ledger with the verdict; its rows wait
//! until it has a number. Then the table is brought up to the end of the ledger, with the waiting rows where they can be
//! used. A crash between any two steps leaves either an unnamed object (vacuum) or a ledger entry above the coverage
//! (the next run takes it in from the raw zone).

pub(crate) mod input;
mod raw;
pub(crate) mod rows;
mod segments;
mod stage;

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _};
use tidemark_shared::dataset::nearest;
use tidemark_shared::ledger::{Candidate, Decision, Entry, LedgerState, PlanOptions, Standing, decide};
use tidemark_shared::secrets::shown_url;
use tracing::Instrument as _;

use crate::error::BatchError;
use crate::generation::{Current, Definitions};
use crate::report::{Counts, FileOutcome, FileReport, IngestReport, Progress};
use crate::service::{Batch, IngestRequest};
use crate::spans;
use input::Found;

/// How often a run follows a recompute that switched the generation under it.
const SWITCHES_MAX: u32 = 100;
/// Known files whose bytes are looked for at once.
const CHECKS_MAX: usize = 8;

/// A file that may enter: its decision allows it.
pub(crate) struct NewFile {
    /// Its place in the request's report.
    pub(crate) index: usize,
    pub(crate) found: Found,
    pub(crate) sha256: String,
}

impl Batch {
    /// Takes files in. See [`IngestRequest`].
    ///
    /// # Errors
    /// [`BatchError`]; what was done before is kept, and the same call again goes on from there.
    pub async fn ingest(
        &self,
        dataset: &str,
        request: &IngestRequest,
        progress: &Arc<dyn Progress>,
    ) -> Result<IngestReport, BatchError> {
        let run = spans::run(dataset, "ingest");
        spans::ended(&run, self.take_in(dataset, request, false, progress).instrument(run.clone()).await)
    }

    /// Takes in what lies above the coverage: entries of the ledger first, then segments, both up to the end that was there
    /// when it began.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn run(&self, dataset: &str, progress: &Arc<dyn Progress>) -> Result<IngestReport, BatchError> {
        let (run, request) = (spans::run(dataset, "run"), IngestRequest::default());
        spans::ended(&run, self.take_in(dataset, &request, true, progress).instrument(run.clone()).await)
    }

    async fn take_in(
        &self,
        dataset: &str,
        request: &IngestRequest,
        streams: bool,
        progress: &Arc<dyn Progress>,
    ) -> Result<IngestReport, BatchError> {
        let started = Instant::now();
        let mut definitions = self.definitions(dataset).await?;
        if !request.paths.is_empty() && !definitions.takes_files() {
            return Err(BatchError::NoFiles { dataset: dataset.to_owned() });
        }
        let exists = self.refuse_other_semantics(dataset).await?;
        let (found, names) = self.expand(request, progress).await?;
        // Read once; from here on only what others append is read.
        let mut state = self.ledger_state(dataset).await?;
        let mut opened = self.open_current(&mut definitions, &mut state, exists).await?;
        let mut route = match streams {
            true => self.route(&definitions, opened.as_ref()).await?,
            false => None,
        };
        let mut report = IngestReport { dataset: dataset.to_owned(), ..IngestReport::default() };
        for name in &names {
            if !(request.accept && state.by_name(name).is_some()) {
                // A path may hold anything; an address shows no secret.
                let path = if name.contains("://") { shown_url(name) } else { name.clone() };
                return Err(BatchError::NoSuchFile { path });
            }
        }
        self.accept_known(dataset, &names, &mut state, &mut report).await?;
        let new = self.decide_all(dataset, found, request, &mut state, &mut report, progress).await?;
        let groups = group_by_bytes(new, self.settings.commit_bytes);
        let is_up = |current: &Current| route.is_some() && current.table.files_end() >= state.end();
        if groups.is_empty() && !opened.as_ref().is_some_and(is_up) {
            self.bring_up(&mut definitions, opened.take(), None, &mut state, &mut report, progress).await?;
        }
        // Each group is brought up to the ledger's end, so nothing is left after the last one.
        for group in groups {
            let current = match opened.take() {
                Some(current) => current,
                None => self.current(&mut definitions).await?,
            };
            let staged = self.stage(&current, group, request, &mut state, &mut report, progress).await?;
            self.bring_up(&mut definitions, Some(current), staged, &mut state, &mut report, progress).await?;
        }
        if let Some(route) = &mut route {
            self.bring_up_streams(&mut definitions, opened.take(), route, &mut report, progress).await?;
        }
        self.finish(&mut definitions, report, started).await
    }

    /// The sums of a report; and the catalog is told. What was done is done, though the catalog be away.
    async fn finish(
        &self,
        definitions: &mut Definitions,
        mut report: IngestReport,
        started: Instant,
    ) -> Result<IngestReport, BatchError> {
        report.counts = total(&report);
        report.held_records = held(&report);
        report.catalog_error = self.tell_catalog(definitions).await?;
        report.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    /// Takes the rows of files out, by their names.
    ///
    /// # Errors
    /// [`BatchError::UnknownFile`] before anything is done, if a name is not known.
    pub async fn withdraw(
        &self,
        dataset: &str,
        names: &[String],
        progress: &Arc<dyn Progress>,
    ) -> Result<IngestReport, BatchError> {
        let started = Instant::now();
        let mut definitions = self.definitions(dataset).await?;
        let exists = self.refuse_other_semantics(dataset).await?;
        let ledger = self.ledger(dataset);
        let mut state = self.ledger_state(dataset).await?;
        let opened = self.open_current(&mut definitions, &mut state, exists).await?;
        for name in names {
            // One that was withdrawn before is no mistake: a run that was killed in between is typed again.
            if state.all_by_name(name).next().is_none() {
                self.known_file(dataset, &state, name)?;
            }
        }
        let mut report = IngestReport { dataset: dataset.to_owned(), ..IngestReport::default() };
        for name in names {
            let Some(file) = state.by_name(name).or_else(|| state.all_by_name(name).next_back()) else { continue };
            let (number, bytes) = (file.number, file.file.bytes);
            let entry = |state: &LedgerState| {
                let standing = state.file(number)?.standing;
                matches!(standing, Standing::Included | Standing::Held).then_some(Entry::Withdraw { file: number })
            };
            let entered = ledger.append(&mut state, self.ambient.as_ref(), entry).await?;
            report.files.push(FileReport {
                name: name.clone(),
                number: Some(number),
                bytes,
                outcome: if entered.is_some() { FileOutcome::Withdrawn } else { FileOutcome::AlreadyWithdrawn },
                counts: Counts::default(),
                notes: Vec::new(),
            });
        }
        self.bring_up(&mut definitions, opened, None, &mut state, &mut report, progress).await?;
        self.finish(&mut definitions, report, started).await
    }

    pub(crate) fn known_file(&self, dataset: &str, state: &LedgerState, name: &str) -> Result<(), BatchError> {
        if state.by_name(name).is_some() {
            return Ok(());
        }
        let present = state.files().filter(|f| matches!(f.standing, Standing::Included | Standing::Held));
        let names: Vec<&str> = present.map(|f| f.file.name.as_str()).collect();
        let nearest = nearest(name, names).filter(|near| *near != name).map(str::to_owned);
        Err(BatchError::UnknownFile { dataset: dataset.to_owned(), name: name.to_owned(), nearest })
    }

    /// `--accept` with names instead of paths.
    async fn accept_known(
        &self,
        dataset: &str,
        names: &[String],
        state: &mut LedgerState,
        report: &mut IngestReport,
    ) -> Result<(), BatchError> {
        for name in names {
            let Some(file) = state.by_name(name) else { continue };
            let held = file.standing == Standing::Held;
            let (number, bytes) = (file.number, file.file.bytes);
            if held {
                self.accept(dataset, number, state).await?;
            }
            let outcome = if held { FileOutcome::Accepted } else { FileOutcome::AlreadyThere { held: false } };
            report.files.push(FileReport {
                name: name.clone(),
                number: Some(number),
                bytes,
                outcome,
                counts: Counts::default(),
                notes: Vec::new(),
            });
        }
        Ok(())
    }

    /// Lets a held file's rows count; `state` is brought up to date.
    pub(crate) async fn accept(&self, dataset: &str, number: u64, state: &mut LedgerState) -> Result<(), BatchError> {
        let held = |state: &LedgerState| state.file(number).is_some_and(|f| f.standing == Standing::Held);
        let entry = |state: &LedgerState| held(state).then_some(Entry::Accept { file: number });
        self.ledger(dataset).append(state, self.ambient.as_ref(), entry).await?;
        Ok(())
    }

    /// Hashes the files and decides what happens to each; the report gets a line for every one.
    async fn decide_all(
        &self,
        dataset: &str,
        found: Vec<Found>,
        request: &IngestRequest,
        state: &mut LedgerState,
        report: &mut IngestReport,
        progress: &Arc<dyn Progress>,
    ) -> Result<Vec<NewFile>, BatchError> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        progress.phase("hash", Some(found.iter().map(|f| f.bytes).sum()));
        let inputs: Vec<_> = found.iter().map(|f| f.input.clone()).collect();
        let digests = futures::stream::iter(inputs)
            .map(|input| async move { input::digest(&input, progress).await })
            .buffered(self.threads());
        let digests: Vec<(String, u64)> = digests.try_collect().await?;
        let with_length = |(file, (_, bytes)): (Found, &(String, u64))| Found { bytes: *bytes, ..file };
        let found: Vec<Found> = found.into_iter().zip(&digests).map(with_length).collect();
        let candidate = |(file, (sha256, _)): (&Found, &(String, u64))| Candidate {
            name: file.name.clone(),
            sha256: sha256.clone(),
        };
        let candidates: Vec<Candidate> = found.iter().zip(&digests).map(candidate).collect();
        let options = PlanOptions { replace: request.replace, allow_duplicate: request.allow_duplicate };
        let decisions = decide(state, &candidates, options);
        let repaired = self.put_back_all(&found, &candidates, &decisions, state, request.verify, progress).await?;
        let mut new = Vec::new();
        for (((found, candidate), mut decision), repaired) in
            found.into_iter().zip(candidates).zip(decisions).zip(repaired)
        {
            let index = report.files.len();
            if let Some((number, held)) = repaired {
                decision = Decision::AlreadyThere { number, held };
            }
            let sha256 = candidate.sha256;
            let (number, outcome) = self.outcome_of(dataset, &sha256, &decision, request, state).await?;
            let mut notes: Vec<String> =
                repaired.map(|(n, _)| format!("the lost bytes of file {n} were put back")).into_iter().collect();
            let earlier = state.all_by_name(&found.name).next_back().map(|earlier| (earlier.number, earlier.standing));
            if let (Decision::Add, Some((n, Standing::Withdrawn(_)))) = (&decision, earlier) {
                notes.push(format!("it was withdrawn before, as file {n}; now it counts again"));
            }
            report.files.push(FileReport {
                name: found.name.clone(),
                number,
                bytes: found.bytes,
                outcome,
                counts: Counts::default(),
                notes,
            });
            match decision {
                Decision::Add | Decision::Replace { .. } => new.push(NewFile { index, found, sha256 }),
                _ => {}
            }
        }
        Ok(new)
    }

    /// Puts back the bytes of files of the ledger that are gone from the raw zone or others there, where a given file has the
    /// same. For each given one: number and hold of the file that it repaired.
    async fn put_back_all(
        &self,
        found: &[Found],
        candidates: &[Candidate],
        decisions: &[Decision],
        state: &LedgerState,
        verify: bool,
        progress: &Arc<dyn Progress>,
    ) -> Result<Vec<Option<(u64, bool)>>, BatchError> {
        let known = |sha256: &str, decision: &Decision| match decision {
            Decision::AlreadyThere { number, .. } => state.file(*number).cloned(),
            Decision::DuplicateContent { .. } => state.by_sha256(sha256).cloned(),
            _ => None,
        };
        let checks: Vec<_> = found
            .iter()
            .zip(candidates.iter().zip(decisions))
            .map(|(found, (candidate, decision))| (found.clone(), known(&candidate.sha256, decision)))
            .collect();
        let bytes = checks.iter().filter_map(|(_, known)| Some(known.as_ref()?.file.bytes)).sum();
        if verify && bytes > 0 {
            progress.phase("compare", Some(bytes));
        }
        futures::stream::iter(checks)
            .map(|(found, known)| async move {
                let Some(known) = known else { return Ok(None) };
                let done = self.put_back(&known, &found, verify, progress).await?;
                Ok(done.then_some((known.number, known.standing == Standing::Held)))
            })
            .buffered(CHECKS_MAX)
            .try_collect()
            .await
    }

    pub(crate) async fn outcome_of(
        &self,
        dataset: &str,
        sha256: &str,
        decision: &Decision,
        request: &IngestRequest,
        state: &mut LedgerState,
    ) -> Result<(Option<u64>, FileOutcome), BatchError> {
        let refused = |code: &str, message: String| FileOutcome::Refused { code: code.to_owned(), message };
        Ok(match decision {
            // Overwritten when the file is staged.
            Decision::Add | Decision::Replace { .. } => (None, FileOutcome::Added { bad_file: false, replaced: None }),
            Decision::AlreadyThere { number, held: true } if request.accept => {
                self.accept(dataset, *number, state).await?;
                (Some(*number), FileOutcome::Accepted)
            }
            Decision::AlreadyThere { number, held } => (Some(*number), FileOutcome::AlreadyThere { held: *held }),
            Decision::ContentChanged { number, known_sha256 } => {
                let message = format!(
                    "its content changed: file {number} of this name has SHA-256 {known_sha256}, this one {sha256}; \
                     --replace puts this one in its place, and the rows of that one go; --as NAME, or giving the folder above \
                     both, takes it in beside it"
                );
                (Some(*number), refused("content_changed", message))
            }
            Decision::DuplicateContent { known_name } => {
                let message = format!(
                    "the same content is known as `{known_name}` (SHA-256 {sha256}); --allow-duplicate takes it in anyway"
                );
                (None, refused("duplicate_content", message))
            }
            Decision::DuplicateName => (
                None,
                refused("duplicate_name", "two files of this request have this name; --as renames one".to_owned()),
            ),
        })
    }

    /// Brings the generation that answers up to the end of the ledger, and the next one if a recompute switches.
    /// `current` is it, where it was opened before; what others did to it since is found out by the commit.
    pub(crate) async fn bring_up(
        &self,
        definitions: &mut Definitions,
        current: Option<Current>,
        staged: Option<crate::curate::StagedRows>,
        state: &mut LedgerState,
        report: &mut IngestReport,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        let dataset = definitions.dataset.clone();
        let (mut opened, mut staged) = (current, staged);
        for _ in 0..SWITCHES_MAX {
            self.ledger(&dataset).catch_up(state).await?;
            let to = state.end();
            if to == 0 && opened.is_none() && self.pointer(&dataset).await?.is_none() {
                return Ok(());
            }
            let Current { number, generation, maker, table } = match opened.take() {
                Some(current) => current,
                None => self.current(definitions).await?,
            };
            let done = self.extend(&maker, table, state, to, staged.take(), progress).await?;
            for (number, counts) in &done.read_files {
                if let Some(file) = report.files.iter_mut().find(|f| f.number == Some(*number)) {
                    file.counts = counts.clone();
                } else {
                    report.other_counts.add(counts);
                }
            }
            report.committed |= done.committed;
            report.rows_removed += done.rows_removed;
            report.raw_bytes += done.raw_bytes;
            report.curated_bytes += done.curated_bytes;
            report.table_version = Some(done.table_version);
            report.generation = Some(generation);
            // A recompute may have switched while we committed to the old generation: then the new one lacks our files.
            let switched = done.committed && self.pointer(&dataset).await?.is_some_and(|(now, _)| now != number);
            if !done.frozen && !switched {
                return Ok(());
            }
        }
        Err(BatchError::Contended { dataset, attempts: SWITCHES_MAX })
    }
}

/// Counts of everything whose rows came in.
fn total(report: &IngestReport) -> Counts {
    let mut counts = report.other_counts.clone();
    for file in &report.files {
        if matches!(file.outcome, FileOutcome::Added { .. } | FileOutcome::Accepted) {
            counts.add(&file.counts);
        }
    }
    for stream in &report.streams {
        counts.add(&stream.counts);
    }
    counts
}

/// Records of files that went into the ledger now and are held there.
fn held(report: &IngestReport) -> u64 {
    let held = report.files.iter().filter(|file| matches!(file.outcome, FileOutcome::Held { .. }));
    held.map(|file| file.counts.records).sum()
}

/// Files in order, in groups of about `bytes_max` bytes: each group is one commit.
fn group_by_bytes(files: Vec<NewFile>, bytes_max: u64) -> Vec<Vec<NewFile>> {
    let mut groups: Vec<Vec<NewFile>> = Vec::new();
    let mut bytes = 0u64;
    for file in files {
        let size = file.found.bytes;
        if groups.is_empty() || bytes.saturating_add(size) > bytes_max {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        groups.last_mut().expect("pushed just now").push(file);
    }
    groups
}
