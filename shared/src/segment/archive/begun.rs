//! The mark that a source has begun: whichever partition is met later, begins at 0 (H1).

use serde::{Deserialize, Serialize};

use super::{Archive, SOURCE_FORMAT, parse};
use crate::layout;
use crate::position::Source;
use crate::segment::SegmentError;
use crate::store::{Cause, PutNew};

/// The mark of [`Archive::mark_begun`]. It has a key of its own: older builds read an origin with more fields in it no more.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    format: u32,
}

impl Archive {
    /// True if [`Self::mark_begun`] was called for a source. Of archives that older builds began, it was not.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn has_begun(&self, source: &Source) -> Result<bool, SegmentError> {
        let key = layout::stream_begun(&self.dataset, source);
        match self.store.get(&key).await? {
            None => Ok(false),
            Some(bytes) => parse::<Begun>(&key, &bytes).map(|_| true),
        }
    }

    /// Notes that the archives of all partitions of a source have begun that had let go of records: whichever begins later does
    /// so at 0, for the dataset followed the topic before its first record left.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn mark_begun(&self, source: &Source) -> Result<(), SegmentError> {
        let key = layout::stream_begun(&self.dataset, source);
        let json = serde_json::to_vec(&Begun { format: SOURCE_FORMAT }).expect("a mark is plain data");
        match self.store.put_new(&key, json.into()).await? {
            PutNew::Created => Ok(()),
            PutNew::Exists(bytes) => parse::<Begun>(&key, &bytes).map(drop),
        }
    }

    /// Makes the mark durable, if it is there: later incarnations have none, nor have archives that older builds began.
    pub(super) async fn sync_begun(&self, source: &Source) -> Result<(), SegmentError> {
        match self.store.sync(&layout::stream_begun(&self.dataset, source)).await {
            Err(error) if error.cause() == Some(Cause::NotFound) => Ok(()),
            synced => Ok(synced?),
        }
    }
}
