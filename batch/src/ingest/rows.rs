//! One raw file on its way through the pipeline: counted, judged if it is new, and its rows kept until they have a
//! place to go.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemark_shared::position::FILES_SOURCE;
use tidemark_shared::reject::Reject;
use tidemark_shared::rows;
use tidemark_shared::transform::Transformed;

use crate::curated::writer::{StagedFile, TableLayout, TableWriter};
use crate::error::BatchError;
use crate::gate::Expectations;
use crate::pipeline::Part;
use crate::rejects::RejectSpool;
use crate::report::Counts;

/// Of the memory for rows, one of so many parts is for the file whose verdict is not known; the group's rows have the
/// others.
pub(crate) const MEMORY_SHARES: usize = 3;

/// Adds the position columns to transformed rows of file `number`.
pub(crate) fn with_position(schema: &SchemaRef, rows: &Transformed, number: u64) -> Result<RecordBatch, BatchError> {
    Ok(rows::with_position(schema, rows, FILES_SOURCE, number)?)
}

/// Counts and rejects of one file, whatever happens to its rows.
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    pub(crate) bad_file: bool,
    spool: RejectSpool,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, BatchError> {
        Ok(Self { counts: Counts::default(), bad_file: false, spool: RejectSpool::new()? })
    }

    /// Counts a part and keeps its rejects; gives back its rows.
    pub(crate) fn take(&mut self, part: Part) -> Result<Vec<Transformed>, BatchError> {
        self.counts.records += part.records;
        self.counts.filtered += part.filtered;
        self.counts.accepted += part.accepted.iter().map(|t| t.batch.num_rows() as u64).sum::<u64>();
        self.reject(part.rejects)?;
        Ok(part.accepted)
    }

    /// The whole file is one reject.
    pub(crate) fn bad_file(&mut self, reject: Reject) -> Result<(), BatchError> {
        self.bad_file = true;
        self.counts.records += 1;
        self.reject(vec![reject])
    }

    fn reject(&mut self, rejects: Vec<Reject>) -> Result<(), BatchError> {
        for reject in &rejects {
            *self.counts.rejected.entry(reject.reason.code()).or_default() += 1;
        }
        self.spool.push(rejects)
    }

    /// Ends the file. Fails if a record is unaccounted for (H8): better no commit than a wrong one.
    pub(crate) fn finish(self, name: &str) -> Result<(Counts, crate::rejects::SpooledRejects), BatchError> {
        if !self.counts.adds_up() {
            return Err(BatchError::DoesNotAddUp {
                name: name.to_owned(),
                records: self.counts.records,
                accepted: self.counts.accepted,
                filtered: self.counts.filtered,
                rejected: self.counts.rejected_total(),
            });
        }
        let rejects = self.spool.finish(&self.counts)?;
        Ok((self.counts, rejects))
    }
}

/// The rows of a new file until its verdict and number are known: in memory while they fit into its share of it. A
/// larger file gets data files of its own, which nobody sees unless the gate passes it.
pub(crate) struct WaitingRows {
    schema: SchemaRef,
    layout: TableLayout,
    /// The number that the file gets unless somebody else appends to the ledger first.
    expected_number: u64,
    memory: Vec<Transformed>,
    memory_bytes: usize,
    own: Option<TableWriter>,
}

/// Where a new file's rows are when all of them were seen.
pub(crate) enum Waited {
    /// In memory, without a number yet.
    Memory(Vec<Transformed>),
    /// In data files that carry the expected number.
    Files(Vec<StagedFile>),
}

impl WaitingRows {
    pub(crate) fn new(layout: &TableLayout, expected_number: u64) -> Self {
        Self {
            schema: Arc::clone(&layout.schema),
            layout: layout.clone().with_share(1, MEMORY_SHARES),
            expected_number,
            memory: Vec::new(),
            memory_bytes: 0,
            own: None,
        }
    }

    pub(crate) async fn push(&mut self, rows: Vec<Transformed>) -> Result<(), BatchError> {
        for run in rows {
            self.memory_bytes += run.batch.get_array_memory_size() + run.offsets.len() * 8;
            self.memory.push(run);
        }
        if self.memory_bytes > self.layout.buffer_bytes_max || self.own.is_some() {
            self.spill().await?;
        }
        Ok(())
    }

    async fn spill(&mut self) -> Result<(), BatchError> {
        let writer = self.own.get_or_insert_with(|| TableWriter::new(self.layout.clone()));
        for run in self.memory.drain(..) {
            writer.write(&with_position(&self.schema, &run, self.expected_number)?).await?;
        }
        self.memory_bytes = 0;
        Ok(())
    }

    pub(crate) async fn finish(self) -> Result<Waited, BatchError> {
        match self.own {
            Some(writer) => Ok(Waited::Files(writer.finish().await?)),
            None => Ok(Waited::Memory(self.memory)),
        }
    }
}

/// Feeds accepted rows to the expectations, if there are any.
pub(crate) async fn feed(expectations: Option<&Expectations>, rows: &[Transformed]) {
    if let Some(expectations) = expectations {
        for run in rows {
            expectations.feed(&run.batch).await;
        }
    }
}
