//! Brings a curated table up to an end of the ledger: reads what must come in, rewrites what must go, and commits data
//! and coverage together (H2). A loser of a race reads the table again and plans anew.

pub(crate) mod exclude;
pub(crate) mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use tidemark_shared::ledger::{Entry, LedgerFile, LedgerState};
use tidemark_shared::position::LogPartition;

use crate::curated::table::{Change, Committed, CuratedTable};
use crate::curated::writer::{StagedFile, TableWriter};
use crate::error::BatchError;
use crate::failpoint;
use crate::generation::Maker;
use crate::ingest::rows::{Tally, with_position};
use crate::pipeline::{self, Event, RawFile};
use crate::report::{Counts, Progress};
use crate::service::Batch;

/// How often a run plans anew because others changed the table. Each time somebody made progress.
const ATTEMPTS_MAX: u32 = 1_000;

/// Rows of new files that are in data files already, but in no commit.
pub(crate) struct StagedRows {
    /// The generation whose definition made them.
    pub(crate) generation: String,
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
    /// True if the table was sealed before the end was reached: another generation takes over.
    pub(crate) sealed: bool,
}

impl Batch {
    /// Brings the table of `generation` up to ledger end `to`, with the rows of `staged` where they can be used.
    pub(crate) async fn extend(
        &self,
        maker: &Maker,
        generation: &str,
        to: u64,
        staged: Option<StagedRows>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Extended, BatchError> {
        let mut staged = staged;
        if staged.as_ref().is_some_and(|s| s.generation != generation) {
            self.discard(maker, staged.take()).await;
        }
        let entries = self.ledger(&maker.dataset).entries().await?;
        let mut done = Extended::default();
        let mut attempts = 0;
        loop {
            let table = self.open_or_create(maker, generation).await?;
            done.table_version = table.version();
            if table.files_end() >= to {
                self.discard(maker, staged.take()).await;
                return Ok(done);
            }
            if table.successor().is_some() {
                self.discard(maker, staged.take()).await;
                done.sealed = true;
                return Ok(done);
            }
            let numbers = staged.as_ref().map(|s| s.numbers.clone()).unwrap_or_default();
            let piece = plan::next_piece(&entries, table.files_end(), to, &numbers, self.settings.commit_bytes);
            if piece.discard_staged {
                self.discard(maker, staged.take()).await;
            }
            let mut work = self.piece_work(maker, &table, &entries, &piece, progress).await?;
            let with_staged = !piece.staged.is_empty();
            if let Some(rows) = staged.as_ref().filter(|_| with_staged) {
                work.change.adds.extend(rows.files.iter().cloned());
            }
            work.change.coverage.push((LogPartition::files(), piece.end));
            failpoint::pass("curate.before_commit");
            match self.commit(maker, &table, &work.change).await? {
                Some(version) => {
                    failpoint::pass("curate.after_commit");
                    done.table_version = version;
                    done.take(work, with_staged);
                    if with_staged {
                        staged = None;
                    }
                }
                None => {
                    attempts += 1;
                    if attempts >= ATTEMPTS_MAX {
                        return Err(BatchError::Contended { dataset: maker.dataset.clone(), attempts });
                    }
                    progress.remark("another run committed first; planning again");
                    self.delete_files(&table.root, &work.written).await;
                }
            }
        }
    }

    /// Commits; `None` means that somebody else was first.
    ///
    /// A commit whose acknowledgement was lost looks like a lost race against itself, so the log is asked whether one of
    /// the commits that came is ours before our files count as worthless.
    async fn commit(&self, maker: &Maker, table: &CuratedTable, change: &Change) -> Result<Option<u64>, BatchError> {
        let attempt = self.ambient.unique_id();
        if let Committed::Version(version) = table.commit(change, &attempt).await? {
            return Ok(Some(version));
        }
        let now = self.open_or_create(maker, &table.generation).await?;
        table.committed_by(&attempt, now.version()).await
    }

    async fn piece_work(
        &self,
        maker: &Maker,
        table: &CuratedTable,
        entries: &[Entry],
        piece: &plan::Piece,
        progress: &Arc<dyn Progress>,
    ) -> Result<Work, BatchError> {
        let mut work = Work::default();
        let mut writer = TableWriter::new(maker.layout(self, &table.generation));
        if !piece.read.is_empty() {
            let state = LedgerState::replay(entries);
            let files: Vec<LedgerFile> = piece.read.iter().filter_map(|n| state.file(*n).cloned()).collect();
            progress.phase("curate", Some(files.iter().map(|f| f.file.bytes).sum()));
            self.read_into(maker, &table.generation, &files, &mut writer, &mut work, progress).await?;
        }
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

    /// Reads files of the ledger from the raw zone and writes their rows; no judgement, the verdicts are recorded.
    async fn read_into(
        &self,
        maker: &Maker,
        generation: &str,
        files: &[LedgerFile],
        writer: &mut TableWriter,
        work: &mut Work,
        progress: &Arc<dyn Progress>,
    ) -> Result<(), BatchError> {
        let raw: Vec<RawFile> = files.iter().map(|file| self.raw_file(maker, &file.file)).collect();
        let mut parts = pipeline::start(raw, Arc::clone(&maker.transform), self.threads());
        for file in files {
            let mut tally = Tally::new()?;
            while let Some(event) = parts.next().await? {
                match event {
                    Event::Part(part) => {
                        progress.advance(part.raw_bytes);
                        for rows in tally.take(part)? {
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
            rejects.publish(&self.store, &maker.dataset, generation, file.number).await?;
            work.raw_bytes += file.file.bytes;
            work.read.push((file.number, counts));
        }
        Ok(())
    }

    /// Deletes data files that no commit names. They are orphans if this fails: `vacuum` finds them.
    async fn discard(&self, maker: &Maker, staged: Option<StagedRows>) {
        if let Some(staged) = staged {
            let root = tidemark_shared::layout::table(&maker.dataset, &staged.generation);
            self.delete_files(&root, &staged.files).await;
        }
    }

    pub(crate) async fn delete_files(&self, root: &Path, files: &[StagedFile]) {
        let objects = self.store.objects();
        for file in files {
            let key: Path = match Path::parse(&file.add.path) {
                Ok(path) => root.parts().chain(path.parts()).collect(),
                Err(_) => continue,
            };
            if let Err(error) = objects.delete(&key).await {
                tracing::warn!(%key, %error, "an unpublished data file stays behind; vacuum removes it");
            }
        }
    }
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
