//! New files on their way in: copied, decoded, judged, entered in the ledger; their rows in data files that no commit
//! names yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use tidemark_shared::layout;
use tidemark_shared::ledger::{
    AddedFile, Candidate, Decision, Entry, LedgerState, Location, PlanOptions, Verdict, decide,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::NewFile;
use super::input::Input;
use super::rows::{MEMORY_SHARES, Tally, Waited, WaitingRows, feed, with_position};
use crate::curate::StagedRows;
use crate::curated::writer::{StagedFile, TableWriter};
use crate::error::BatchError;
use crate::failpoint;
use crate::gate::{Expectations, judge};
use crate::generation::{Current, Maker};
use crate::pipeline::{self, Event, Parts};
use crate::report::{Counts, FileOutcome, Halves, IngestReport, Progress};
use crate::service::{Batch, IngestRequest};

/// Objects with rejects on their way into the store at once; each may hold as much memory as a spool.
const PUBLISHING_MAX: usize = 4;
/// Files on their way into the raw zone at once. One that goes in parts, several at a time, goes alone.
const COPIES_MAX: u32 = 4;
/// Bytes from which on a file goes alone.
const ALONE_BYTES: u64 = 8 << 20;

/// A file that was decoded and judged, but has no number yet.
struct Judged {
    counts: Counts,
    bad_file: bool,
    verdict: Verdict,
    rows: Waited,
    rejects: crate::rejects::SpooledRejects,
    notes: Vec<String>,
}

/// A file on its way into the raw zone.
struct Departure {
    found: super::input::Found,
    sha256: String,
    location: Location,
    /// False if the ledger names the location, so that the bytes should be there.
    is_new: bool,
    /// Told when its bytes are there.
    arrived: oneshot::Sender<Result<(), BatchError>>,
}

/// One group of files on its way, and their rows.
struct Group<'a> {
    request: &'a IngestRequest,
    progress: &'a Arc<dyn Progress>,
    writer: TableWriter,
    files: Vec<StagedFile>,
    numbers: BTreeSet<u64>,
    /// Rejects on their way into the store.
    publishing: JoinSet<Result<(), BatchError>>,
    /// End of the ledger before the first byte was copied.
    copied_since: u64,
}

impl Group<'_> {
    /// Waits until at most `rest` objects with rejects are on their way.
    async fn published_down_to(&mut self, rest: usize) -> Result<(), BatchError> {
        while self.publishing.len() > rest
            && let Some(done) = self.publishing.join_next().await
        {
            done.map_err(|source| BatchError::Panicked { task: "publish rejects", source })??;
        }
        Ok(())
    }
}

impl Batch {
    /// Takes a group of new files in, up to the point where only the commit is missing.
    pub(crate) async fn stage(
        &self,
        current: &Current,
        files: Vec<NewFile>,
        request: &IngestRequest,
        state: &mut LedgerState,
        report: &mut IngestReport,
        progress: &Arc<dyn Progress>,
    ) -> Result<Option<StagedRows>, BatchError> {
        let maker = &current.maker;
        let ledger = self.ledger(&maker.dataset);
        ledger.catch_up(state).await?;
        let mut uploads = JoinSet::new();
        let mut raw = Vec::with_capacity(files.len());
        let locations = self.locations(maker, &files, request, state)?;
        let mut arrivals = Vec::with_capacity(files.len());
        for (file, location) in files.iter().zip(&locations) {
            let (arrived, arrival) = oneshot::channel();
            arrivals.push(Departure {
                found: file.found.clone(),
                sha256: file.sha256.clone(),
                location: location.clone(),
                is_new: state.all_by_sha256(&file.sha256).next().is_none(),
                arrived,
            });
            raw.push(self.raw_file_after(maker, &file.found.name, location, arrival)?);
        }
        // Every byte that is copied passes twice: into the raw zone, and from there through the decoder.
        let progress = &if request.in_place { Arc::clone(progress) } else { Halves::of(progress) };
        let (batch, told) = (self.clone(), Arc::clone(progress));
        progress.phase("ingest", Some(files.iter().map(|f| f.found.bytes).sum()));
        uploads.spawn(async move { batch.copy_all(arrivals, &told).await });
        let mut parts = pipeline::start(raw, Arc::clone(&maker.transform), self.threads());
        let mut group = Group {
            request,
            progress,
            writer: TableWriter::new(
                maker.table_layout(self, &current.generation).with_share(MEMORY_SHARES - 1, MEMORY_SHARES),
            ),
            files: Vec::new(),
            numbers: BTreeSet::new(),
            publishing: JoinSet::new(),
            copied_since: state.end(),
        };
        for (file, location) in files.into_iter().zip(locations) {
            let judged = self.judge_file(current, &file, state.end(), &mut parts, progress).await?;
            failpoint::pass("stage.after_file");
            self.enter(current, file, location, judged, state, &mut group, report).await?;
        }
        while let Some(done) = uploads.join_next().await {
            done.map_err(|source| BatchError::Panicked { task: "upload", source })??;
        }
        // All rejects are there before the commit that shows them.
        group.published_down_to(0).await?;
        group.files.extend(group.writer.finish().await?);
        if group.numbers.is_empty() {
            return Ok(None);
        }
        Ok(Some(StagedRows {
            generation: current.generation.clone(),
            vacuums: current.table.vacuums(),
            numbers: group.numbers,
            files: group.files,
        }))
    }

    fn locations(
        &self,
        maker: &Maker,
        files: &[NewFile],
        request: &IngestRequest,
        state: &LedgerState,
    ) -> Result<Vec<Location>, BatchError> {
        let attempt = self.ambient.unique_id();
        files
            .iter()
            .map(|file| {
                if request.in_place {
                    return in_place(file);
                }
                // Bytes that the ledger names are there to stay, whatever became of the file.
                let known = state.all_by_sha256(&file.sha256).map(|known| &known.file.location);
                let mut in_raw_zone = known.filter(|location| matches!(location, Location::RawZone { .. }));
                if let Some(location) = in_raw_zone.next() {
                    return Ok(location.clone());
                }
                let key = layout::raw_file(&maker.dataset, &file.sha256, &attempt, &file.found.name);
                Ok(Location::RawZone { key: key.to_string() })
            })
            .collect()
    }

    /// Copies files into the raw zone in their order, small ones a few at a time, ahead of the decoder, and tells each
    /// one's turn.
    async fn copy_all(&self, files: Vec<Departure>, progress: &Arc<dyn Progress>) -> Result<(), BatchError> {
        let room = Semaphore::new(COPIES_MAX as usize);
        let copies = files.into_iter().map(|departure| {
            let (room, share) = (&room, if departure.found.bytes < ALONE_BYTES { 1 } else { COPIES_MAX });
            async move {
                let _place = room.acquire_many(share).await.expect("nobody closes it");
                self.depart(departure, progress).await
            }
        });
        // Nobody waits any more if the decoder failed first; its error is the one to tell.
        let mut copies = futures::stream::iter(copies).buffered(COPIES_MAX as usize);
        while copies.next().await == Some(true) {}
        Ok(())
    }

    /// Copies one file. False if that failed, or nobody waits for it any more.
    async fn depart(&self, departure: Departure, progress: &Arc<dyn Progress>) -> bool {
        let Departure { found, sha256, location, is_new, arrived } = departure;
        let copied = match &location {
            Location::InPlace { .. } => Ok(()),
            Location::RawZone { key } if is_new => self.copy_in(&found, &sha256, key, progress).await,
            Location::RawZone { key } => self.copy_in_again(&found, &sha256, key, progress).await,
        };
        let failed = copied.is_err();
        arrived.send(copied).is_ok() && !failed
    }

    /// Takes one file's parts and asks the gate.
    async fn judge_file(
        &self,
        current: &Current,
        file: &NewFile,
        expected_number: u64,
        parts: &mut Parts,
        progress: &Arc<dyn Progress>,
    ) -> Result<Judged, BatchError> {
        let maker = &current.maker;
        let mut tally = Tally::new()?;
        let mut rows = WaitingRows::new(&maker.table_layout(self, &current.generation), expected_number);
        let expectations = Expectations::start(&maker.gate.expectations, &maker.transform.output_schema());
        let mut notes = Vec::new();
        while let Some(event) = parts.next().await? {
            match event {
                Event::Part(part) => {
                    progress.advance(part.raw_bytes);
                    let accepted = tally.take(part)?;
                    feed(expectations.as_ref(), &accepted).await;
                    rows.push(accepted).await?;
                }
                Event::BadFile(reject) => {
                    tally.bad_file(reject)?;
                    break;
                }
                Event::End { notes: all } => {
                    notes = all;
                    break;
                }
            }
        }
        let failed = match expectations {
            Some(run) => run.finish().await?,
            None => Vec::new(),
        };
        let bad_file = tally.bad_file;
        let (counts, rejects) = tally.finish(&file.found.name)?;
        let verdict = judge(&maker.gate, &counts, bad_file, failed);
        Ok(Judged { counts, bad_file, verdict, rows: rows.finish().await?, rejects, notes })
    }

    /// Enters a judged file in the ledger and gives its rows their place.
    #[expect(clippy::too_many_arguments, reason = "one step of `stage`, cut out of it for length")]
    async fn enter(
        &self,
        current: &Current,
        file: NewFile,
        location: Location,
        judged: Judged,
        state: &mut LedgerState,
        group: &mut Group<'_>,
        report: &mut IngestReport,
    ) -> Result<(), BatchError> {
        let maker = &current.maker;
        let expected = state.end();
        let added = AddedFile {
            name: file.found.name.clone(),
            sha256: file.sha256.clone(),
            bytes: file.found.bytes,
            file_format: maker.spec()?.format.name().to_owned(),
            location,
            verdict: judged.verdict.clone(),
        };
        let line = file.index;
        let (entered, decision) = self.append_file(maker, &file, added, group, state).await?;
        let Some(number) = entered else {
            // Somebody else entered the same name or content meanwhile: what holds now is told, not what held before.
            let (number, outcome) =
                self.outcome_of(&maker.dataset, &file.sha256, &decision, group.request, state).await?;
            report.files[line].number = number;
            report.files[line].outcome = outcome;
            return self.drop_rows(current, judged.rows).await;
        };
        let replaced = match decision {
            Decision::Replace { number } => Some(number),
            _ => None,
        };
        failpoint::pass("ledger.after_put");
        group.published_down_to(PUBLISHING_MAX - 1).await?;
        let key = layout::file_rejects(&maker.dataset, &current.generation, number);
        let (store, rejects) = (self.store.clone(), judged.rejects);
        group.publishing.spawn(async move { rejects.publish(&store, &key).await });
        let entry = &mut report.files[line];
        entry.number = Some(number);
        entry.counts = judged.counts;
        entry.notes.extend(judged.notes);
        entry.outcome = match judged.verdict {
            Verdict::Passed => FileOutcome::Added { bad_file: judged.bad_file, replaced },
            Verdict::Held { .. } if group.request.accept => {
                self.accept(&maker.dataset, number, state).await?;
                FileOutcome::Accepted
            }
            Verdict::Held { breaches } => FileOutcome::Held { breaches },
        };
        // Held, or gone already by somebody else's hand: a later run reads the file again if its rows ever count.
        if !state.includes(number) {
            return self.drop_rows(current, judged.rows).await;
        }
        report.raw_bytes += file.found.bytes;
        match judged.rows {
            Waited::Memory(rows) => {
                for run in rows {
                    group.writer.write(&with_position(&maker.schema, &run, number)?).await?;
                }
            }
            Waited::Files(files) if number == expected => group.files.extend(files),
            // The rows carry a number that is somebody else's now: the run reads this file again, with its own.
            rows @ Waited::Files(_) => return self.drop_rows(current, rows).await,
        }
        group.numbers.insert(number);
        Ok(())
    }

    /// The entry's number, and the decision that held when it went in; `None` if the ledger has the file meanwhile, or
    /// may not take it any more, by another run.
    ///
    /// A fence that a vacuum put since the file was copied may mean that the copy is gone: then it is made again, behind
    /// the fence, before an entry names it.
    async fn append_file(
        &self,
        maker: &Maker,
        file: &NewFile,
        mut added: AddedFile,
        group: &mut Group<'_>,
        state: &mut LedgerState,
    ) -> Result<(Option<u64>, Decision), BatchError> {
        let options = PlanOptions { replace: group.request.replace, allow_duplicate: group.request.allow_duplicate };
        let candidate = [Candidate { name: added.name.clone(), sha256: added.sha256.clone() }];
        let mut copied_since = group.copied_since;
        loop {
            let (mut decision, mut doomed) = (Decision::Add, false);
            let entry = |state: &LedgerState| {
                decision = decide(state, &candidate, options).remove(0);
                let entry = match &decision {
                    Decision::Add => Entry::Add { file: added.clone() },
                    Decision::Replace { number } => Entry::Replace { replaced: *number, file: added.clone() },
                    _ => return None,
                };
                doomed = may_be_gone(state, &added, copied_since);
                (!doomed).then_some(entry)
            };
            let number = self.ledger(&maker.dataset).append(state, self.ambient.as_ref(), entry).await?;
            if !doomed {
                return Ok((number, decision));
            }
            group.progress.remark(&format!("a vacuum ran meanwhile; copying {} again", added.name.escape_debug()));
            copied_since = state.end();
            let attempt = self.ambient.unique_id();
            let key = layout::raw_file(&maker.dataset, &added.sha256, &attempt, &added.name).to_string();
            self.copy_in(&file.found, &file.sha256, &key, group.progress).await?;
            added.location = Location::RawZone { key };
        }
    }

    async fn drop_rows(&self, current: &Current, rows: Waited) -> Result<(), BatchError> {
        if let Waited::Files(files) = rows {
            let root = layout::table(&current.maker.dataset, &current.generation);
            self.delete_files(&root, &files).await;
        }
        Ok(())
    }
}

/// True if a vacuum may have taken the bytes of `added`, copied when the ledger ended at `copied_since`, for orphans.
fn may_be_gone(state: &LedgerState, added: &AddedFile, copied_since: u64) -> bool {
    let named = || state.all_by_sha256(&added.sha256).any(|file| file.file.location == added.location);
    matches!(added.location, Location::RawZone { .. }) && state.fenced_since(copied_since) && !named()
}

fn in_place(file: &NewFile) -> Result<Location, BatchError> {
    let refused = |message: &str, hint: &str| BatchError::BadRequest {
        message: format!("{}: {message}", file.found.name),
        hint: Some(hint.to_owned()),
    };
    match &file.found.input {
        Input::Remote { url, version: Some(version), .. } if version != "null" => {
            Ok(Location::InPlace { url: url.clone(), version: version.clone() })
        }
        Input::Remote { .. } => Err(refused(
            "--in-place needs a versioned bucket, and this object has no version id",
            "enable versioning on the bucket, or leave --in-place away so that the file is copied",
        )),
        Input::Local(_) => Err(refused(
            "--in-place is for remote files; a local file may change under us",
            "leave --in-place away: the file is copied into the raw zone",
        )),
    }
}
