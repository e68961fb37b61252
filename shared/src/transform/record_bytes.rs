//! The original bytes of a decoded record, for rejects.

use bytes::Bytes;

use crate::decode::{Decoded, RawRecords, row_json};
use crate::reject::REJECT_BYTES_MAX;

impl Decoded {
    /// The original bytes of row `row`, without the record separator: a copy, so that it does not keep its file in
    /// memory. A columnar row is rendered as a JSON object. At most [`REJECT_BYTES_MAX`] bytes.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn record_bytes(&self, row: usize) -> Bytes {
        match &self.raw {
            RawRecords::Text { base_offset, bytes, lengths } => {
                let start = usize::try_from(self.offsets[row] - base_offset).expect("a record lies within its text");
                let length = (lengths[row] as usize).min(REJECT_BYTES_MAX);
                Bytes::copy_from_slice(&bytes[start..start + length])
            }
            RawRecords::Records(records) => {
                let record = &records[row];
                Bytes::copy_from_slice(&record[..record.len().min(REJECT_BYTES_MAX)])
            }
            RawRecords::Columnar => {
                let mut json = row_json(&self.batch, row);
                json.truncate(REJECT_BYTES_MAX);
                json
            }
        }
    }
}
