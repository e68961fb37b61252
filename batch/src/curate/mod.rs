//! Brings a curated table up to an end of the ledger: reads what must come in, rewrites what must go, and commits data
//! and coverage together (H2). A loser of a race reads the table again and plans anew.

pub(crate) mod exclude;
pub(crate) mod plan;
pub(crate) mod plan_compact;
pub(crate) mod plan_pack;
pub(crate) mod plan_streams;
pub(crate) mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::layout;
use tidemark_shared::ledger::{LedgerFile, LedgerState};
use tidemark_shared::position::LogPartition;
use tracing::Instrument as _;

use crate::curated::table::{Change, Committed, TableHead};
use crate::curated::writer::{StagedFile, TableWriter};
use crate::error::BatchError;
use crate::failpoint;
use crate::generation::{Maker, ours};
use crate::ingest::rows::{Tally, with_position};
use crate::pipeline::{self, Event, RawFile};
use crate::report::{Counts, Progress};
use crate::service::Batch;
use crate::spans;
use plan::Bounds;

/// Rows of new files that are in data files already, but in no commit.
pub(crate) struct StagedRows {
    /// The generation whose definition made them.
    pub(crate) generation: String,
    /// The table's count of vacuums before they were written.
    pub(crate) vacuums: u64,
    /// The files that the rows are of.
    pub(crate) numbers: BTreeSet<u64>,
    pub(crate) files: Vec<StagedFile>,
}

/// What bringing a table up did.
#[derive(Default)]
pub(crate) struct Extended {
    /// Counts of the files that were read from the raw zone.
    pub(crate) read: Counts,
    /// Files that were read from the raw zone.
    pub(crate) read_files: Vec<(u64, Counts)>,
    /// True if the staged rows were published.
    pub(crate) staged_published: bool,
    pub(crate) rows_removed: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) curated_bytes: u64,
    pub(crate) table_version: u64,
    /// True if anything was committed.
    pub(crate) committed: bool,
    /// True if the table was frozen before the end was reached: another generation takes over.
    pub(crate) frozen: bool,
}

impl Batch {
    /// Brings `table` up to ledger end `to`, which `state` has reached, with the rows of `staged` where they can be used.
    pub(crate) async fn extend(
        &self,
        maker: &Maker,
        table: TableHead,
        state: &LedgerState,
        to: u64,
        staged: Option<StagedRows>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Extended, BatchError> {
        let (mut table, mut staged) = (table, staged);
        let mut done = Extended::default();
        let (mut attempts, mut least_end) = (Attempts::new(Backoff::RACE), 0);
        loop {
            done.table_version = table.version();
            done.frozen = table.successor().is_some();
            if table.files_end() >= to || done.frozen {
                self.discard(maker, staged.take()).await;
                done.frozen &= table.files_end() < to;
                return Ok(done);
            }
            ours(&maker.dataset, &table.generation, table.semantics()?)?;
            self.discard_doomed(maker, &table, &mut staged, progress).await;
            let numbers = staged.as_ref().map(|s| s.numbers.clone()).unwrap_or_default();
            let bounds = Bounds { raw_bytes_max: self.settings.commit_bytes, least_end };
            let piece = plan::next_piece(state, table.files_end(), to, &numbers, bounds);
            if piece.discard_staged {
                self.discard(maker, staged.take()).await;
            }
            let read = spans::read();
            let working = self.piece_work(maker, &table, state, &piece, progress).instrument(read.clone());
            let mut work = match working.await {
                Ok(work) => work,
                Err(error) => {
                    least_end = without_lost(&error, state, piece.end, to).ok_or(error)?;
                    continue;
                }
            };
            spans::was_read(&read, work.raw_bytes, work.written.len());
            let with_staged = !piece.staged.is_empty();
            if let Some(rows) = staged.as_ref().filter(|_| with_staged) {
                work.change.adds.extend(rows.files.iter().cloned());
            }
            work.change.coverage.push((LogPartition::files(), piece.end));
            failpoint::pass("curate.before_commit");
            match self.commit(&table, &work.change).await? {
                Some(version) => {
                    failpoint::pass("curate.after_commit");
                    done.table_version = version;
                    done.committed = true;
                    attempts = Attempts::new(Backoff::RACE);
                    done.take(work, with_staged);
                    if with_staged {
                        staged = None;
                    }
                    if piece.end >= to {
                        return Ok(done);
                    }
                }
                None => self.lost_race(&table, &work.written, &mut attempts, progress).await?,
            }
            table = self.open_again(&table).await?;
        }
    }

    /// Lets go of staged rows that no commit on `table` may name: those of another generation, and those that a vacuum
    /// may have taken for orphans.
    async fn discard_doomed(
        &self,
        maker: &Maker,
        table: &TableHead,
        staged: &mut Option<StagedRows>,
        progress: &Arc<dyn Progress>,
    ) {
        let Some(rows) = staged.as_ref() else { return };
        let vacuumed = rows.generation == table.generation && rows.vacuums != table.vacuums();
        if vacuumed {
            progress.remark("a vacuum ran meanwhile and may have removed what was written; reading the files again");
        }
        if vacuumed || rows.generation != table.generation {
            self.discard(maker, staged.take()).await;
        }
    }

    /// The newest version of a table that was open before.
    pub(crate) async fn open_again(&self, table: &TableHead) -> Result<TableHead, BatchError> {
        let now = TableHead::open(&table.objects, &table.dataset, &table.generation).await?;
        now.ok_or_else(|| BatchError::Abandoned {
            dataset: table.dataset.clone(),
            generation: table.generation.clone(),
        })
    }

    /// Commits; `None` means that somebody else was first.
    ///
    /// A commit whose acknowledgement was lost looks like a lost race against itself, so the log is asked whether one of
    /// the commits that came is ours before our files count as worthless.
    pub(crate) async fn commit(&self, table: &TableHead, change: &Change) -> Result<Option<u64>, BatchError> {
        let span = spans::commit(table, change);
        let version = self.commit_once(table, change).instrument(span.clone()).await;
        spans::committed(&span, &version);
        version
    }

    async fn commit_once(&self, table: &TableHead, change: &Change) -> Result<Option<u64>, BatchError> {
        let attempt = self.ambient.unique_id();
        if let Committed::Version(version) = table.commit(change, &attempt, self.ambient.now()).await? {
            return Ok(Some(version));
        }
        let now = self.open_again(table).await?;
        table.committed_by(&attempt, now.version()).await
    }

    /// After somebody else committed first: what was `written` is worthless, and the table is read again after a pause.
    ///
    /// # Errors
    /// [`BatchError::Contended`] if there were attempts enough.
    pub(crate) async fn lost_race(
        &self,
        table: &TableHead,
        written: &[StagedFile],
        attempts: &mut Attempts,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        self.delete_files(&table.root, written).await;
        if !attempts.again(self.ambient.random()).await {
            let attempts = attempts.failed();
            return Err(BatchError::Contended { dataset: table.dataset.clone(), attempts });
        }
        progress.remark("another run committed first; planning again");
        Ok(())
    }

    async fn piece_work(
        &self,
        maker: &Maker,
        table: &TableHead,
        state: &LedgerState,
        piece: &plan::Piece,
        progress: &Arc<dyn Progress>,
    ) -> Result<Work, BatchError> {
        let mut work = Work::default();
        let mut writer = TableWriter::new(maker.table_layout(self, &table.generation));
        let files: Vec<LedgerFile> = piece.read.iter().filter_map(|n| state.file(*n).cloned()).collect();
        if !files.is_empty() {
            progress.phase("curate", Some(files.iter().map(|f| f.file.bytes).sum()));
            self.read_into(maker, &table.generation, &files, Some(&mut writer), &mut work, progress).await?;
        }
        self.read_held(maker, &table.generation, state, &piece.held, progress).await?;
        if !piece.exclude.is_empty() {
            progress.phase("take out", None);
            let gone = exclude::rewrite_without(table, &maker.schema, &piece.exclude, &mut writer).await?;
            work.rows_removed = gone.rows;
            work.change.removes = gone.removes;
        }
        work.written = writer.finish().await?;
        work.change.adds.extend(work.written.iter().cloned());
        Ok(work)
    }

    /// Publishes counts and rejects of held files where the generation has none, as after a recompute or a crash. Their
    /// rows are not kept, and the recorded verdict stays. Lost bytes hold nothing up: no row is missing.
    async fn read_held(
        &self,
        maker: &Maker,
        generation: &str,
        state: &LedgerState,
        held: &[u64],
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        for file in held.iter().filter_map(|number| state.file(*number)) {
            let key = layout::file_rejects(&maker.dataset, generation, file.number);
            if self.store.size(&key).await?.is_some() {
                continue;
            }
            progress.phase("held", Some(file.file.bytes));
            let file = std::slice::from_ref(file);
            match self.read_into(maker, generation, file, None, &mut Work::default(), progress).await {
                Err(lost @ BatchError::RawLost { .. }) => progress.remark(&lost.to_string()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Reads files of the ledger from the raw zone and writes their rows, if they are wanted; no judgement, the verdicts
    /// are recorded.
    async fn read_into(
        &self,
        maker: &Maker,
        generation: &str,
        files: &[LedgerFile],
        mut writer: Option<&mut TableWriter>,
        work: &mut Work,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        let raw: Vec<RawFile> = files.iter().map(|file| self.raw_file(maker, file)).collect::<Result<_, _>>()?;
        let mut parts = pipeline::start(raw, Arc::clone(&maker.transform), self.threads());
        for file in files {
            let mut tally = Tally::new()?;
            while let Some(event) = parts.next().await? {
                match event {
                    Event::Part(part) => {
                        progress.advance(part.raw_bytes);
                        for rows in tally.take(part)? {
                            let Some(writer) = writer.as_deref_mut() else { continue };
                            writer.write(&with_position(&maker.schema, &rows, file.number)?).await?;
                        }
                    }
                    Event::BadFile(reject) => {
                        tally.bad_file(reject)?;
                        break;
                    }
                    Event::End { .. } => break,
                }
            }
            let (counts, rejects) = tally.finish(&file.file.name)?;
            let key = layout::file_rejects(&maker.dataset, generation, file.number);
            rejects.publish(&self.store, &key).await?;
            work.raw_bytes += file.file.bytes;
            work.read.push((file.number, counts));
        }
        Ok(())
    }

    /// Deletes data files that no commit names. They are orphans if this fails: `vacuum` finds them.
    async fn discard(&self, maker: &Maker, staged: Option<StagedRows>) {
        if let Some(staged) = staged {
            let root = layout::table(&maker.dataset, &staged.generation);
            self.delete_files(&root, &staged.files).await;
        }
    }

    pub(crate) async fn delete_files(&self, root: &Path, files: &[StagedFile]) {
        let objects = self.store.objects();
        for file in files {
            let path = match Path::parse(&file.add.path) {
                Ok(path) => path,
                Err(error) => {
                    let path = &file.add.path;
                    tracing::warn!(%root, path, %error, "an unpublished data file stays behind; vacuum removes it");
                    continue;
                }
            };
            let key: Path = root.parts().chain(path.parts()).collect();
            if let Err(error) = objects.delete(&key).await {
                tracing::warn!(%key, %error, "an unpublished data file stays behind; vacuum removes it");
            }
        }
    }
}

/// After the bytes of a file were found lost: the least end of a piece that goes without them, if there is one.
fn without_lost(error: &BatchError, state: &LedgerState, end: u64, to: u64) -> Option<u64> {
    let BatchError::RawLost { number, .. } = error else { return None };
    plan::end_without(state, *number, end, to)
}

#[derive(Default)]
struct Work {
    change: Change,
    /// Files written for this piece: worthless after a lost race.
    written: Vec<StagedFile>,
    read: Vec<(u64, Counts)>,
    rows_removed: u64,
    raw_bytes: u64,
}

impl Extended {
    fn take(&mut self, work: Work, with_staged: bool) {
        for (_, counts) in &work.read {
            self.read.add(counts);
        }
        self.read_files.extend(work.read);
        self.staged_published |= with_staged;
        self.rows_removed += work.rows_removed;
        self.raw_bytes += work.raw_bytes;
        self.curated_bytes += work.change.adds.iter().map(|f| u64::try_from(f.add.size).unwrap_or(0)).sum::<u64>();
    }
}
