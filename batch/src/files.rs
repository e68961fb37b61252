//! The files of a dataset: what the ledger says of each, and what became of its records.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tidemark_shared::ledger::{LedgerFile, Location, Standing};

use crate::curated::table::TableHead;
use crate::error::BatchError;
use crate::rejects::{FOOTERS_MAX, FileRejects};
use crate::report::{FileRow, FileStanding};
use crate::service::Batch;

impl Batch {
    /// All files that the ledger ever named, in its order; with counts where the generation that answers has them. Reads
    /// the ledger, and a footer a file.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn files(&self, dataset: &str) -> Result<Vec<FileRow>, BatchError> {
        self.latest_definition(dataset).await?;
        let (_, table) = self.answering(dataset).await?;
        // Read after the table, so that it can't be the shorter one.
        let state = self.ledger(dataset).state().await?;
        let covered = table.as_ref().map_or(0, TableHead::files_end);
        let files: Vec<LedgerFile> = state.files().cloned().collect();
        stream::iter(files)
            .map(|file| {
                let (store, generation) = (&self.store, table.as_ref().map(|table| &table.generation));
                async move {
                    let standing = standing(&file, covered);
                    let has_counts = matches!(standing, FileStanding::Included | FileStanding::Held);
                    let rejects = match generation.filter(|_| has_counts) {
                        Some(generation) => FileRejects::open(store, dataset, generation, file.number).await?,
                        None => None,
                    };
                    Ok(row(file, standing, rejects))
                }
            })
            .buffered(FOOTERS_MAX)
            .try_collect()
            .await
    }
}

/// How a file stands in a table that covers the first `covered` entries. What the table has not been told yet waits.
fn standing(file: &LedgerFile, covered: u64) -> FileStanding {
    match file.standing {
        Standing::Included if file.counts_at(covered) => FileStanding::Included,
        Standing::Included => FileStanding::Waiting,
        Standing::Held => FileStanding::Held,
        Standing::Withdrawn(_) => FileStanding::Withdrawn,
        Standing::Replaced(_) => FileStanding::Replaced,
    }
}

fn row(file: LedgerFile, standing: FileStanding, rejects: Option<FileRejects>) -> FileRow {
    let gone_at = file.gone_at();
    let location = match file.file.location {
        Location::RawZone { key } => key,
        Location::InPlace { url, version } => format!("{url}?versionId={version}"),
    };
    FileRow {
        number: file.number,
        name: file.file.name,
        standing,
        gone_at,
        bytes: file.file.bytes,
        sha256: file.file.sha256,
        format: file.file.file_format,
        location,
        counts: rejects.map(|rejects| rejects.counts),
    }
}
