//! Rows of a raw file of the ledger, decoded in order on one thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use tidemark_shared::dataset::InputSpec;
use tidemark_shared::decode::{FileDecoder, OpenError, ReadAt};
use tidemark_shared::ledger::{LedgerFile, Location};
use tidemark_shared::position::FILES_SOURCE;
use tidemark_shared::rows::with_position;
use tidemark_shared::store::{IfMissing, Store, StoreUrl, Stores};
use tidemark_shared::transform::Transform;
use tokio::sync::mpsc;

use super::AuditError;

/// Decoded batches that wait for who takes them.
const BATCHES_AHEAD: usize = 4;

/// What makes the rows of a dataset's files.
#[derive(Clone)]
pub(super) struct FileRows {
    pub(super) dataset: String,
    pub(super) spec: InputSpec,
    pub(super) transform: Arc<Transform>,
    pub(super) schema: SchemaRef,
}

impl FileRows {
    /// The rows of a file with their positions; rejects and filtered records yield none.
    pub(super) fn read(
        &self,
        file: &LedgerFile,
        source: Arc<dyn ReadAt>,
    ) -> mpsc::Receiver<Result<RecordBatch, AuditError>> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let (rows, file) = (self.clone(), file.clone());
        // Ends by itself: a dropped receiver makes the next send fail.
        let _reader = tokio::task::spawn_blocking(move || {
            // A panic must not look like the file's end.
            let decoded = catch_unwind(AssertUnwindSafe(|| rows.decode(&file, source, &sender)));
            let panicked = || AuditError::File {
                dataset: rows.dataset.clone(),
                name: file.file.name.clone(),
                reason: "decoding it panicked".to_owned(),
            };
            if let Err(error) = decoded.unwrap_or_else(|_| Err(panicked())) {
                // Nobody listens any more.
                drop(sender.blocking_send(Err(error)));
            }
        });
        receiver
    }

    fn decode(
        &self,
        file: &LedgerFile,
        source: Arc<dyn ReadAt>,
        sender: &mpsc::Sender<Result<RecordBatch, AuditError>>,
    ) -> Result<(), AuditError> {
        let failed =
            |reason: String| AuditError::File { dataset: self.dataset.clone(), name: file.file.name.clone(), reason };
        let decoder = match FileDecoder::open(&self.spec, source) {
            Ok(decoder) => decoder,
            Err(OpenError::Reject(_)) => return Ok(()),
            Err(error) => return Err(failed(error.to_string())),
        };
        let chunk_decoder = decoder.chunk_decoder();
        let mut chunks = decoder.chunks().map_err(|error| failed(error.to_string()))?;
        while let Some(chunk) = chunks.next_chunk().map_err(|error| failed(error.to_string()))? {
            for run in chunk_decoder.decode(chunk).map_err(|error| failed(error.to_string()))? {
                let transformed = self.transform.apply(&run);
                if transformed.batch.num_rows() == 0 {
                    continue;
                }
                let batch = with_position(&self.schema, &transformed, FILES_SOURCE, file.number)?;
                if sender.blocking_send(Ok(batch)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Opens the bytes of a raw file.
pub(super) async fn open(
    store: &Store,
    stores: &Arc<dyn Stores>,
    dataset: &str,
    file: &LedgerFile,
) -> Result<Arc<dyn ReadAt>, AuditError> {
    let bad = |reason: String| AuditError::File { dataset: dataset.to_owned(), name: file.file.name.clone(), reason };
    match &file.file.location {
        Location::RawZone { key } => {
            let key = Path::parse(key).map_err(|error| bad(error.to_string()))?;
            Ok(store.read_at(&key, None).await?)
        }
        Location::InPlace { url, version } => {
            let rest = url.strip_prefix("s3://").unwrap_or(url);
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let url = StoreUrl::parse(&format!("s3://{bucket}"), std::path::Path::new(""))?;
            let bucket = stores.open(&url, IfMissing::Fail).await?;
            let key = Path::parse(key).map_err(|error| bad(error.to_string()))?;
            Ok(bucket.read_at(&key, Some(version)).await?)
        }
    }
}
