//! `pack`: puts small segments of a log partition into one large object, so that segments grow with bytes, not with time.
//!
//! Positions and bytes stay. A packed segment is put by conditional put, read back and compared record for record; the
//! small ones go only after it has been there for `batch.grace`, when nobody reads by an older listing, and each is compared
//! again before. Only what the generation that answers covers is packed. Its rejects are packed likewise.

use std::ops::Range;

use object_store::path::Path;
use tidemark_shared::layout;
use tidemark_shared::log::OffsetRecord;
use tidemark_shared::position::{LogPartition, united};
use tidemark_shared::segment::{Archive, Segment, SegmentError, SegmentHeader, SegmentRef};

use crate::curate::plan_pack::{Link, PACKED_BYTES, runs};
use crate::curated::table::TableHead;
use crate::error::BatchError;
use crate::failpoint;
use crate::report::PackReport;
use crate::service::Batch;

/// Bytes of records that are held in memory for one packed segment; what compresses better is cut there.
const RECORD_BYTES_MAX: usize = 256 << 20;

impl Batch {
    /// Packs small segments of all streams of the dataset, and removes those that were packed a grace ago.
    ///
    /// # Errors
    /// [`BatchError`]; no record is lost.
    pub async fn pack(&self, dataset: &str) -> Result<PackReport, BatchError> {
        let started = std::time::Instant::now();
        self.latest_definition(dataset).await?;
        let mut report = PackReport { dataset: dataset.to_owned(), ..PackReport::default() };
        let archive = self.archive(dataset);
        let (_, table) = self.answering(dataset).await?;
        let coverage = table.as_ref().map(TableHead::stream_coverage).unwrap_or_default();
        for (partition, covered) in coverage.iter() {
            self.remove_packed(&archive, partition, &mut report).await?;
            let Some(origin) = archive.origin(partition).await? else { continue };
            let chain = archive.segments_from(partition, origin).await?;
            let links: Vec<Link> = chain.iter().map(Link::from).collect();
            for run in runs(&links, covered, PACKED_BYTES) {
                pack_run(&archive, partition, &chain[run], &mut report).await?;
            }
        }
        if let Some(table) = &table {
            self.pack_rejects(table, &mut report).await?;
        }
        report.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }

    /// Removes segments that packed ones have stood for since the grace began.
    async fn remove_packed(
        &self,
        archive: &Archive,
        partition: &LogPartition,
        report: &mut PackReport,
    ) -> Result<(), BatchError> {
        let grace = chrono::Duration::from_std(self.settings.grace).unwrap_or(chrono::Duration::MAX);
        let Some(limit) = self.ambient.now().checked_sub_signed(grace) else { return Ok(()) };
        let folder = layout::packed_segments(archive.dataset(), partition);
        let old = self.store.list(&folder).await?.into_iter().filter(|object| object.last_modified <= limit);
        let old: Vec<Path> = old.map(|object| object.location).collect();
        if old.is_empty() {
            return Ok(());
        }
        // The plain ones last: an archiver or a packer may have put more since.
        let packed = archive.packed(partition).await?;
        let mut all = archive.plain(partition).await?;
        all.extend(packed.iter().cloned());
        for large in packed.iter().filter(|segment| old.contains(&segment.key)) {
            let small: Vec<SegmentRef> = all.iter().filter(|small| within(small, large)).cloned().collect();
            all.retain(|segment| !within(segment, large));
            if !small.is_empty() {
                remove(archive, partition, large, &small, report).await?;
            }
        }
        Ok(())
    }
}

/// True if `large` may stand for `small`: what a plain segment covers, only itself tells for sure.
fn within(small: &SegmentRef, large: &SegmentRef) -> bool {
    let last = large.end.unwrap_or(large.start);
    let begins = (large.start..last).contains(&small.start);
    begins && small.key != large.key && (!small.packed || small.end.is_some_and(|end| end <= last))
}

async fn remove(
    archive: &Archive,
    partition: &LogPartition,
    large: &SegmentRef,
    small: &[SegmentRef],
    report: &mut PackReport,
) -> Result<(), BatchError> {
    let whole = match archive.read(partition, large).await {
        Ok(whole) => whole,
        // A still larger one stands for it, and another packing removed it meanwhile.
        Err(SegmentError::Hole { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut parts = Vec::with_capacity(small.len());
    for segment in small {
        // Those between it and the next one that is listed may be gone, so the listing does not tell its end.
        let listed = if segment.packed { segment.clone() } else { SegmentRef { end: None, ..segment.clone() } };
        match archive.read(partition, &listed).await {
            Ok(part) => parts.push((segment, verdict(&whole, &part), part.header.range)),
            Err(SegmentError::Hole { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Before any of them goes, so that what is said of the others is true.
    if let Some(error) = contradiction(large, &whole.header.range, &parts) {
        return Err(error.into());
    }
    for (segment, verdict, range) in parts {
        if verdict == Verdict::Refuted {
            let (start, end, key) = (range.start, range.end, &segment.key);
            tracing::warn!(%partition, start, end, %key, "it called lost what was archived and packed before: it goes");
        }
        if matches!(verdict, Verdict::Held | Verdict::Refuted) {
            archive.delete(std::slice::from_ref(segment)).await?;
            report.removed += 1;
            report.removed_bytes += segment.bytes;
        }
    }
    Ok(())
}

/// What a packed segment says of another one that lies where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It goes further: this one does not stand for it.
    Beyond,
    /// All that it has is here, and nothing else.
    Held,
    /// It has no record and calls lost what is here: who put it had not heard of what was packed.
    Refuted,
    /// It lacks records that are here, and has none that are not.
    Less,
    /// It has what is not here.
    More,
}

fn verdict(whole: &Segment, part: &Segment) -> Verdict {
    let Range { start, end } = part.header.range;
    if end > whole.header.range.end {
        return Verdict::Beyond;
    }
    if holds(whole, part) {
        return Verdict::Held;
    }
    let here = inside(whole, &part.header.range);
    let lost = united(part.header.lost.iter().cloned());
    if part.records.is_empty() && lost == std::slice::from_ref(&part.header.range) && !here.is_empty() {
        return Verdict::Refuted;
    }
    let is_here = |record: &OffsetRecord| {
        here.binary_search_by_key(&record.offset, |other| other.offset).is_ok_and(|at| here[at] == *record)
    };
    let lacks_some = whole.header.range.start <= start && part.records.len() < here.len();
    if lacks_some && part.records.iter().all(is_here) { Verdict::Less } else { Verdict::More }
}

/// Why none of the segments that lie where a packed one does may go, if that is so; with which of the two is wrong. A segment is
/// called the wrong one only where no record goes with it.
fn contradiction(
    large: &SegmentRef,
    range: &Range<u64>,
    parts: &[(&SegmentRef, Verdict, Range<u64>)],
) -> Option<SegmentError> {
    let (wrong, verdict, _) = parts.iter().find(|(_, verdict, _)| matches!(verdict, Verdict::Less | Verdict::More))?;
    if *verdict == Verdict::Less {
        let reason = format!("it lacks records that `{}` has in its offsets; delete it, that one stays", large.key);
        return Some(SegmentError::Corrupt { key: wrong.key.to_string(), reason });
    }
    let all = united(parts.iter().map(|(_, _, part)| part.start.max(range.start)..part.end.min(range.end)));
    let advice = match all == std::slice::from_ref(range) {
        true => "; delete it, that one stays, and so do all others of its offsets",
        false => ", and some of what it holds is nowhere else: delete neither, restore them from a backup",
    };
    let reason = format!("it does not hold what `{}` does{advice}", wrong.key);
    Some(SegmentError::Corrupt { key: large.key.to_string(), reason })
}

/// The records of `whole` in `range`.
fn inside<'a>(whole: &'a Segment, range: &Range<u64>) -> &'a [OffsetRecord] {
    let from = whole.records.partition_point(|record| record.offset < range.start);
    let to = whole.records.partition_point(|record| record.offset < range.end);
    &whole.records[from..to]
}

/// True if `whole` has exactly the records and the losses of `part` in its range.
fn holds(whole: &Segment, part: &Segment) -> bool {
    let Range { start, end } = part.header.range;
    let is_inside = whole.header.range.start <= start && end <= whole.header.range.end;
    let lost =
        |segment: &Segment| united(segment.header.lost.iter().map(|lost| lost.start.max(start)..lost.end.min(end)));
    is_inside && *inside(whole, &part.header.range) == part.records[..] && lost(whole) == lost(part)
}

/// Puts the segments of a run into one, or as many of them as memory allows, and reads it back.
async fn pack_run(
    archive: &Archive,
    partition: &LogPartition,
    run: &[SegmentRef],
    report: &mut PackReport,
) -> Result<(), BatchError> {
    let Some(first) = run.first() else { return Ok(()) };
    let (mut end, mut lost, mut records) = (first.start, Vec::new(), Vec::new());
    let (mut count, mut segment_bytes, mut record_bytes) = (0, 0, 0);
    for small in run {
        let segment = archive.read(partition, small).await?;
        let bytes: usize = segment.records.iter().map(|record| record.record.bytes()).sum();
        if count > 0 && record_bytes + bytes > RECORD_BYTES_MAX {
            break;
        }
        record_bytes += bytes;
        end = segment.header.range.end;
        lost.extend(segment.header.lost);
        records.extend(segment.records);
        count += 1;
        segment_bytes += small.bytes;
    }
    if count < 2 {
        return Ok(());
    }
    let header = SegmentHeader { range: first.start..end, lost: united(lost) };
    let packed = Segment { header, records };
    archive.put_packed(partition, &packed).await?;
    failpoint::pass("pack.after_put");
    let key = layout::packed_segment(archive.dataset(), partition, first.start, end);
    let put = SegmentRef { key, start: first.start, end: Some(end), bytes: 0, packed: true };
    if archive.read(partition, &put).await? != packed {
        let reason = "it holds other records than were put".to_owned();
        return Err(SegmentError::Corrupt { key: put.key.to_string(), reason }.into());
    }
    report.packed += 1;
    report.segments += count;
    report.segment_bytes += segment_bytes;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidemark_shared::log::Record;

    use super::*;

    fn segment(range: Range<u64>, offsets: &[u64]) -> Segment {
        let record = |offset: &u64| OffsetRecord { offset: *offset, record: Record::default() };
        Segment::new(range, offsets.iter().map(record).collect())
    }

    #[test]
    fn only_what_a_packed_segment_has_too_goes_and_no_record_with_what_is_wrong() {
        let mut whole = segment(0..30, &[1, 5, 12, 13]);
        whole.header.lost = std::iter::once(20..30).collect();
        let lost = |range: Range<u64>| Segment::lost(range);
        for (part, wanted) in [
            (segment(0..10, &[1, 5]), Verdict::Held),
            (segment(10..20, &[12, 13]), Verdict::Held),
            (segment(14..20, &[]), Verdict::Held),
            (lost(20..25), Verdict::Held),
            (lost(25..30), Verdict::Held),
            (segment(14..31, &[]), Verdict::Beyond),
            (lost(10..31), Verdict::Beyond),
            // An archiver that was away took for lost what others had archived.
            (lost(10..14), Verdict::Refuted),
            (lost(13..30), Verdict::Refuted),
            (segment(0..10, &[1]), Verdict::Less),
            (segment(0..10, &[]), Verdict::Less),
            (segment(0..10, &[1, 5, 6]), Verdict::More),
            (segment(0..10, &[2, 5]), Verdict::More),
            (segment(20..25, &[]), Verdict::More),
            (lost(14..20), Verdict::More),
        ] {
            assert_eq!(verdict(&whole, &part), wanted, "{part:?}");
        }
    }

    #[test]
    fn what_is_to_be_deleted_takes_no_record_with_it() {
        let of = |name: &str, start, end| SegmentRef { key: Path::from(name), start, end, bytes: 1, packed: false };
        let (large, small, rest) = (of("large", 0, Some(20)), of("small", 0, None), of("rest", 10, None));
        let told = |parts: &[(&SegmentRef, Verdict, Range<u64>)]| {
            contradiction(&large, &(0..20), parts).map(|error| error.to_string())
        };
        assert_eq!(told(&[(&small, Verdict::Held, 0..10), (&rest, Verdict::Refuted, 10..20)]), None);
        let less = told(&[(&small, Verdict::Less, 0..10), (&rest, Verdict::Held, 10..20)]).expect("it is wrong");
        assert!(less.starts_with("`small` is no segment") && less.contains("that one stays"), "{less}");
        let all = told(&[(&small, Verdict::More, 0..10), (&rest, Verdict::Beyond, 10..30)]).expect("it is wrong");
        assert!(all.starts_with("`large` is no segment") && all.contains("delete it, that one stays"), "{all}");
        let alone = told(&[(&small, Verdict::More, 0..10)]).expect("it is wrong");
        assert!(alone.starts_with("`large` is no segment") && alone.contains("delete neither"), "{alone}");
    }
}
