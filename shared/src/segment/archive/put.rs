//! How segments come into the archive of a partition (H1).

use std::ops::Range;

use bytes::Bytes;

use super::{Archive, PutSegment, covers};
use crate::elsewhere::elsewhere;
use crate::layout;
use crate::position::LogPartition;
use crate::segment::{Segment, SegmentError, SegmentHeader, read_segment, write_segment};
use crate::store::PutNew;

impl Archive {
    /// Puts a segment where its range begins.
    ///
    /// # Errors
    /// [`SegmentError`]. It may be there or not; putting the same again settles that.
    pub async fn put(&self, partition: &LogPartition, segment: &Segment) -> Result<PutSegment, SegmentError> {
        let start = segment.header.range.start;
        let key = layout::segment(&self.dataset, partition, start);
        match self.store.put_new(&key, encode(segment.clone()).await?).await? {
            PutNew::Exists(winner) => {
                let header = read_segment(key.as_ref(), winner)?.header;
                let Range { start: from, end } = header.range;
                if from != start || end <= start {
                    // Who goes on where it ends would not get on.
                    let reason = format!("it covers offsets {from} to {end}");
                    return Err(SegmentError::Corrupt { key: key.to_string(), reason });
                }
                Ok(PutSegment::Exists(header))
            }
            PutNew::Created => {
                let passed = self.packed_before(partition, start).await?;
                Ok(passed.map_or(PutSegment::Created, PutSegment::Passed))
            }
        }
    }

    /// Where the archive of a partition ends, if a packed segment stands for `start`, where one was put now. Who comes late
    /// finds the key free: what was under it has gone, and the packed one stays, which readers prefer.
    ///
    /// Then there is a plain one further up, too, for the last one is never packed. So whoever puts at the archive's end pays
    /// one listing of nothing.
    async fn packed_before(&self, partition: &LogPartition, start: u64) -> Result<Option<u64>, SegmentError> {
        if self.plain_after(partition, Some(start)).await?.is_empty() {
            return Ok(None);
        }
        if !self.packed(partition).await?.iter().any(|packed| covers(packed, start)) {
            return Ok(None);
        }
        self.end(partition, start).await
    }

    /// Says that all between the end of a partition's archive and `to` is lost, but for what others put there meanwhile; tells
    /// which offsets. Of an archive that has not begun nothing is said.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn lose(&self, partition: &LogPartition, to: u64) -> Result<Option<Range<u64>>, SegmentError> {
        let Some(mut end) = self.end(partition, 0).await? else { return Ok(None) };
        while end < to {
            let range = end..to;
            end = match self.put(partition, &Segment::lost(range.clone())).await? {
                PutSegment::Created => return Ok(Some(range)),
                PutSegment::Exists(winner) => winner.range.end,
                PutSegment::Passed(end) => end,
            };
        }
        Ok(None)
    }

    /// The range of the segment at `start`, where the archive of a partition ended once, if it says that all of it is lost.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn lost_at(&self, partition: &LogPartition, start: u64) -> Result<Option<Range<u64>>, SegmentError> {
        let found = self.segments_from(partition, start).await?.into_iter().next();
        let Some(segment) = found.filter(|segment| segment.start == start) else { return Ok(None) };
        let SegmentHeader { range, lost } = self.header(&segment).await?;
        Ok((lost.as_slice() == std::slice::from_ref(&range)).then_some(range))
    }

    /// What is lost of what the segments from `from` on cover, by their headers. `from` is as that of [`Self::segments_from`].
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn lost_from(&self, partition: &LogPartition, from: u64) -> Result<Vec<Range<u64>>, SegmentError> {
        let Some(origin) = self.origin(partition).await? else { return Ok(Vec::new()) };
        let (from, mut lost) = (from.max(origin), Vec::new());
        for segment in self.segments_from(partition, from).await? {
            lost.extend(self.header(&segment).await?.lost);
        }
        Ok(lost.into_iter().map(|lost| lost.start.max(from)..lost.end).filter(|lost| !lost.is_empty()).collect())
    }

    /// Puts a packed segment, unless it is there.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn put_packed(&self, partition: &LogPartition, segment: &Segment) -> Result<(), SegmentError> {
        let Range { start, end } = segment.header.range;
        let key = layout::packed_segment(&self.dataset, partition, start, end);
        let bytes = encode(segment.clone()).await?;
        match self.store.put_new(&key, bytes).await? {
            PutNew::Created => {}
            PutNew::Exists(winner) if read_segment(key.as_ref(), winner.clone())? == *segment => {}
            PutNew::Exists(_) => {
                let reason = "it holds other records".to_owned();
                return Err(SegmentError::Corrupt { key: key.to_string(), reason });
            }
        }
        // It comes to stand for segments that were synced before their records left the log.
        Ok(self.store.sync(&key).await?)
    }
}

/// Encodes on a thread where that may take its time.
async fn encode(segment: Segment) -> Result<Bytes, SegmentError> {
    let encoding = elsewhere(move || write_segment(&segment)).await;
    encoding.map_err(|error| SegmentError::Encode { reason: error.to_string() })?
}
