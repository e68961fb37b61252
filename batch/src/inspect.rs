//! What people ask of a dataset: its rejects and how it stands.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use tidemark_shared::dataset::registry;
use tidemark_shared::layout;
use tidemark_shared::ledger::{Entry, LedgerFile, LedgerState, Standing, Verdict};
use tidemark_shared::position::{Coverage, FILES_SOURCE};

use crate::curated::table::TableHead;
use crate::error::BatchError;
use crate::generation::whole_ledger;
use crate::rejects::FileRejects;
use crate::report::{Counts, DatasetStatus, HeldFile, RejectQuery, RejectRow, StreamStatus};
use crate::service::Batch;

impl Batch {
    /// Published rejects, in order of position: those of files below the coverage whose rows count, and of held files
    /// if asked for; then those of streams below the coverage.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn rejects(&self, dataset: &str, query: &RejectQuery) -> Result<Vec<RejectRow>, BatchError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut rows = Vec::new();
        let Some((table, files)) = self.with_rejects(dataset, query).await? else { return Ok(rows) };
        for (file, held) in files {
            self.push_rejects(&table, &file, held, query, limit, &mut rows).await?;
            if rows.len() >= limit {
                return Ok(rows);
            }
        }
        if query.file.is_none() {
            self.push_stream_rejects(&table, query, limit, &mut rows).await?;
        }
        Ok(rows)
    }

    /// How many rejects there are of each reason, of those that `query` could show if it named no reason and no limit.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn reject_reasons(
        &self,
        dataset: &str,
        query: &RejectQuery,
    ) -> Result<BTreeMap<String, u64>, BatchError> {
        let mut counts = Counts::default();
        let Some((table, files)) = self.with_rejects(dataset, query).await? else { return Ok(counts.rejected) };
        for (file, held) in files {
            if let Some(rejects) = self.file_rejects(&table, &file, held).await? {
                counts.add(&rejects.counts);
            }
        }
        let streams = table.stream_coverage();
        let partitions = streams.iter().filter(|(p, _)| query.file.is_none() && table.totals(p).rejected > 0);
        for (partition, _) in partitions {
            let mut stored = self.stream_rejects(&table, partition).await?;
            while let Some(reject) = stored.try_next().await? {
                *counts.rejected.entry(reject.reason).or_default() += 1;
            }
        }
        counts.rejected.retain(|_, count| *count > 0);
        Ok(counts.rejected)
    }

    /// The generation that answers, if one does, and the files whose rejects `query` shows, with true for held ones.
    async fn with_rejects(
        &self,
        dataset: &str,
        query: &RejectQuery,
    ) -> Result<Option<(TableHead, Vec<(LedgerFile, bool)>)>, BatchError> {
        self.latest_definition(dataset).await?;
        let (_, table) = self.answering(dataset).await?;
        // Read after the table, so that it can't be the shorter one.
        let now = self.ledger(dataset).state().await?;
        if let Some(name) = &query.file {
            self.known_file(dataset, &now, name)?;
        }
        let Some(table) = table else { return Ok(None) };
        let covered = table.files_end();
        let shown = |file: &&LedgerFile| {
            let counts = file.counts_at(covered) || (file.standing == Standing::Held && query.held);
            counts && query.file.as_ref().is_none_or(|name| *name == file.file.name)
        };
        let with_hold = |file: &LedgerFile| (file.clone(), file.standing == Standing::Held);
        let files = now.files().filter(shown).map(with_hold).collect();
        Ok(Some((table, files)))
    }

    async fn push_stream_rejects(
        &self,
        table: &TableHead,
        query: &RejectQuery,
        limit: usize,
        rows: &mut Vec<RejectRow>,
    ) -> Result<(), BatchError> {
        for (partition, _) in table.stream_coverage().iter().filter(|(p, _)| table.totals(p).rejected > 0) {
            if rows.len() >= limit {
                break;
            }
            let mut stored = self.stream_rejects(table, partition).await?;
            while rows.len() < limit
                && let Some(reject) = stored.try_next().await?
            {
                if query.reason.as_ref().is_some_and(|reason| *reason != reject.reason) {
                    continue;
                }
                rows.push(RejectRow {
                    source: partition.source.to_string(),
                    partition: u64::from(partition.partition),
                    file: None,
                    offset: reject.offset,
                    reason: reject.reason,
                    column: reject.column,
                    message: reject.message,
                    bytes: reject.bytes,
                    held: false,
                });
            }
        }
        Ok(())
    }

    /// The rejects of `file`. Every file whose rows count has an object, be it without a reject: one that is gone took
    /// rejects with it, and is no file without any (H8).
    async fn file_rejects(
        &self,
        table: &TableHead,
        file: &LedgerFile,
        held: bool,
    ) -> Result<Option<FileRejects>, BatchError> {
        let (dataset, generation) = (&table.dataset, &table.generation);
        let found = FileRejects::open(&self.store, dataset, generation, file.number).await?;
        if found.is_none() && !held {
            return Err(BatchError::RejectsLost {
                dataset: dataset.clone(),
                name: file.file.name.clone(),
                key: layout::file_rejects(dataset, generation, file.number).to_string(),
            });
        }
        Ok(found)
    }

    async fn push_rejects(
        &self,
        table: &TableHead,
        file: &LedgerFile,
        held: bool,
        query: &RejectQuery,
        limit: usize,
        rows: &mut Vec<RejectRow>,
    ) -> Result<(), BatchError> {
        let Some(rejects) = self.file_rejects(table, file, held).await? else { return Ok(()) };
        if wanted_none(query, &rejects.counts) {
            return Ok(());
        }
        let mut stored = rejects.rejects()?;
        while rows.len() < limit
            && let Some(reject) = stored.try_next().await?
        {
            if query.reason.as_ref().is_some_and(|reason| *reason != reject.reason) {
                continue;
            }
            rows.push(RejectRow {
                source: FILES_SOURCE.to_owned(),
                partition: file.number,
                file: Some(file.file.name.clone()),
                offset: reject.offset,
                reason: reject.reason,
                column: reject.column,
                message: reject.message,
                bytes: reject.bytes,
                held,
            });
        }
        Ok(())
    }

    /// How a dataset stands. Reads only.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn status(&self, dataset: &str) -> Result<DatasetStatus, BatchError> {
        let latest = self.latest_definition(dataset).await?;
        let version = latest.version.to_string();
        let (pointer, table) = self.answering(dataset).await?;
        // Read after the table, so that it can't be the shorter one.
        let entries = self.ledger(dataset).entries().await?;
        let state = LedgerState::replay(&entries);
        if let Some(table) = &table {
            whole_ledger(dataset, table, state.end())?;
        }
        let coverage = table.as_ref().map_or_else(Coverage::new, TableHead::coverage);
        let (mut rows, mut data_files, mut bytes) = (0u64, 0u64, 0u64);
        if let Some(table) = &table {
            for view in table.snapshot.log_data().iter() {
                rows += view.num_records().unwrap_or(0) as u64;
                bytes += u64::try_from(view.size()).unwrap_or(0);
                data_files += 1;
            }
        }
        let streams = self.stream_status(dataset, table.as_ref()).await?;
        let active = pointer.as_ref().map(|p| p.definition.clone());
        Ok(DatasetStatus {
            dataset: dataset.to_owned(),
            pending_definition: Some(version).filter(|v| active.as_ref().is_some_and(|a| a != v)),
            active_definition: active,
            table_location: pointer.as_ref().map(|p| self.table_location(dataset, &p.generation)),
            generation: pointer.map(|p| p.generation),
            table_version: table.as_ref().map(TableHead::version),
            ledger_end: state.end(),
            behind: behind(&entries, coverage.files_end()),
            coverage,
            files_included: state.files().filter(|f| state.includes(f.number)).count() as u64,
            files_held: state.files().filter_map(held_file).collect(),
            streams,
            rows,
            data_files,
            bytes,
        })
    }

    /// How the partitions of the dataset's streams stand, in order of name.
    async fn stream_status(&self, dataset: &str, table: Option<&TableHead>) -> Result<Vec<StreamStatus>, BatchError> {
        let archive = self.archive(dataset);
        let mut partitions = BTreeSet::new();
        for source in archive.sources().await? {
            partitions.extend(archive.partitions(&source.source).await?);
        }
        let coverage = table.map(TableHead::stream_coverage).unwrap_or_default();
        partitions.extend(coverage.iter().map(|(partition, _)| partition.clone()));
        let mut streams = Vec::new();
        for partition in partitions {
            let covered = coverage.end(&partition);
            streams.push(StreamStatus {
                partition: partition.to_string(),
                archived: archive.end(&partition, covered).await?.unwrap_or(covered),
                covered,
                lost: table.map_or(0, |t| t.lost(&partition).iter().map(|lost| lost.end - lost.start).sum()),
                counts: table.map(|table| table.totals(&partition)).unwrap_or_default(),
            });
        }
        Ok(streams)
    }

    /// Names of all datasets with an applied definition.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn datasets(&self) -> Result<Vec<String>, BatchError> {
        Ok(registry::list(&self.store).await?)
    }
}

/// Entries from `covered` on. A vacuum's fences are nothing that a run must take in.
fn behind(entries: &[Entry], covered: u64) -> u64 {
    (0u64..).zip(entries).filter(|(number, entry)| *number >= covered && !entry.is_fence(*number)).count() as u64
}

/// True if the counts alone tell that no reject of the file is asked for.
fn wanted_none(query: &RejectQuery, counts: &Counts) -> bool {
    match &query.reason {
        Some(reason) => counts.rejected.get(reason).is_none_or(|count| *count == 0),
        None => counts.rejected_total() == 0,
    }
}

fn held_file(file: &LedgerFile) -> Option<HeldFile> {
    let Verdict::Held { breaches } = &file.file.verdict else { return None };
    (file.standing == Standing::Held).then(|| HeldFile {
        name: file.file.name.clone(),
        number: file.number,
        breaches: breaches.clone(),
    })
}
