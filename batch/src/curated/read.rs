//! Reads Parquet objects of the store by ranges, batch by batch, so that memory does not grow with their size.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use crate::error::BatchError;

/// Bytes read at an object's end in one request, in the hope that the whole footer is among them.
const FOOTER_BYTES: usize = 16 << 10;

#[expect(
    deprecated,
    reason = "its successor is a trait to implement; this reader does the same until object_store moves on"
)]
pub(crate) type ObjectReader = parquet::arrow::async_reader::ParquetObjectReader;

/// Reads the footer of the object `key`, which is `bytes` long.
pub(crate) async fn open_parquet(
    objects: &Arc<dyn ObjectStore>,
    key: Path,
    bytes: u64,
) -> Result<ParquetRecordBatchStreamBuilder<ObjectReader>, BatchError> {
    let reader =
        ObjectReader::new(Arc::clone(objects), key.clone()).with_file_size(bytes).with_footer_size_hint(FOOTER_BYTES);
    ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|error| BatchError::object(&key, error))
}
