//! A dataset's archived streams: which sources there are, where each partition begins, which segments follow, and how the
//! next one is put (H1). There is no other checkpoint than the objects themselves.

mod begun;
mod put;

use std::sync::Arc;

use object_store::path::Path;
use parquet::arrow::async_reader::AsyncFileReader as _;
use parquet::errors::ParquetError;
use serde::{Deserialize, Serialize};

use super::{Segment, SegmentError, SegmentHeader, read_header, read_segment};
use crate::elsewhere::elsewhere;
use crate::layout;
use crate::log::{Topic, TopicId, TopicName};
use crate::position::{LogPartition, Source};
use crate::store::{Cause, Operation, PutNew, Store, StoreError};

/// Version of the JSON of sources and origins. A reader refuses a higher one.
pub(super) const SOURCE_FORMAT: u32 = 1;
/// A source is entered once for each incarnation of a topic: others seldom come in between.
const SOURCE_ATTEMPTS_MAX: u32 = 100;
/// Bytes read at a segment's end in one request, in the hope that the whole footer is among them.
const FOOTER_BYTES: usize = 8 << 10;

#[expect(
    deprecated,
    reason = "its successor is a trait to implement; this reader does the same until object_store moves on"
)]
type ObjectReader = parquet::arrow::async_reader::ParquetObjectReader;

/// One incarnation of a topic as a source of a dataset: `trips`, and `trips~2` once the topic was deleted and made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSource {
    format: u32,
    /// Its name in positions and keys.
    pub source: Source,
    /// The topic.
    pub topic: TopicName,
    /// Which incarnation of the topic.
    pub id: TopicId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    format: u32,
    offset: u64,
}

/// A segment's object, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRef {
    /// The object.
    pub key: Path,
    /// Its first offset.
    pub start: u64,
    /// Its exclusive end, where the listing tells: of packed ones, and of those that have a successor.
    pub end: Option<u64>,
    /// Size of the object in bytes.
    pub bytes: u64,
    /// True if it stands for several segments.
    pub packed: bool,
}

/// Outcome of [`Archive::put`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutSegment {
    /// It is in the archive, put by us now or by somebody with the same bytes.
    Created,
    /// Another archiver put one at this start first; it covers so much.
    Exists(SegmentHeader),
    /// What begins there was archived long ago, and packed since: the archive ends here.
    Passed(u64),
}

/// The archived streams of one dataset.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
    dataset: String,
}

impl Archive {
    /// Those of `dataset` in `store`.
    #[must_use]
    pub fn new(store: Store, dataset: &str) -> Self {
        Self { store, dataset: dataset.to_owned() }
    }

    /// The dataset.
    #[must_use]
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// All sources that the dataset was ever fed from, oldest first.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn sources(&self) -> Result<Vec<StreamSource>, SegmentError> {
        let mut sources = Vec::new();
        for object in self.store.list(&layout::stream_sources(&self.dataset)).await? {
            let bytes = self.store.get(&object.location).await?.unwrap_or_default();
            sources.push(parse(&object.location, &bytes)?);
        }
        Ok(sources)
    }

    /// The source that this incarnation of a topic is; entered by conditional put when it is met first.
    ///
    /// # Errors
    /// [`SegmentError`]; [`SegmentError::Source`] for a topic whose name can't be a source's.
    pub async fn source(&self, topic: &Topic) -> Result<StreamSource, SegmentError> {
        let mut attempts = 0;
        loop {
            let sources = self.sources().await?;
            if let Some(known) = sources.iter().find(|known| known.name_and_id() == (&topic.name, &topic.id)) {
                return Ok(known.clone());
            }
            let earlier = sources.iter().filter(|known| known.topic == topic.name).count();
            let entry = StreamSource {
                format: SOURCE_FORMAT,
                source: source_name(&topic.name, earlier)?,
                topic: topic.name.clone(),
                id: topic.id.clone(),
            };
            let key = layout::stream_source(&self.dataset, sources.len() as u64);
            let json = serde_json::to_vec(&entry).expect("a source is plain data");
            if let PutNew::Created = self.store.put_new(&key, json.into()).await? {
                return Ok(entry);
            }
            // Whoever was first, the next round finds what is there: each loss is a topic of somebody else.
            attempts += 1;
            if attempts == SOURCE_ATTEMPTS_MAX {
                return Err(SegmentError::Contended { dataset: self.dataset.clone(), attempts });
            }
        }
    }

    /// The sources that were met before `source`, oldest first; none if that is unknown. Nothing is entered.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn sources_before(&self, source: &Source) -> Result<Vec<StreamSource>, SegmentError> {
        let mut sources = self.sources().await?;
        let place = sources.iter().position(|known| known.source == *source);
        sources.truncate(place.unwrap_or(0));
        Ok(sources)
    }

    /// The partitions of a source that have an archive, in order of number.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn partitions(&self, source: &Source) -> Result<Vec<LogPartition>, SegmentError> {
        let first = LogPartition { source: source.clone(), partition: 0 };
        let origin = layout::stream_origin(&self.dataset, &first);
        let folder: Path = origin.parts().take(origin.parts().count() - 1).collect();
        let objects = self.store.list(&folder).await?;
        let numbers = objects.iter().filter_map(|object| layout::number_of(&object.location));
        let mut numbers: Vec<u32> = numbers.filter_map(|number| u32::try_from(number).ok()).collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|partition| LogPartition { source: source.clone(), partition }).collect())
    }

    /// Where the archive of a partition begins, if it has begun.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn origin(&self, partition: &LogPartition) -> Result<Option<u64>, SegmentError> {
        let key = layout::stream_origin(&self.dataset, partition);
        match self.store.get(&key).await? {
            None => Ok(None),
            Some(bytes) => Ok(Some(parse::<Origin>(&key, &bytes)?.offset)),
        }
    }

    /// Lets the archive of a partition begin at `offset`, unless it has begun; tells where it begins.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn begin(&self, partition: &LogPartition, offset: u64) -> Result<u64, SegmentError> {
        let key = layout::stream_origin(&self.dataset, partition);
        let json = serde_json::to_vec(&Origin { format: SOURCE_FORMAT, offset }).expect("an origin is plain data");
        match self.store.put_new(&key, json.into()).await? {
            PutNew::Created => Ok(offset),
            PutNew::Exists(bytes) => Ok(parse::<Origin>(&key, &bytes)?.offset),
        }
    }

    /// The segments that follow each other from offset `from` on, where a segment begins or the archive ends, as a
    /// coverage does. Packed ones are preferred, and may begin before it. What it costs grows with what lies above `from`,
    /// and with the number of packed segments.
    ///
    /// # Errors
    /// [`SegmentError::Hole`] if later segments are there and the one at `from` is not; the store's.
    pub async fn segments_from(&self, partition: &LogPartition, from: u64) -> Result<Vec<SegmentRef>, SegmentError> {
        // The plain ones first: packing puts before it deletes.
        let mut plain = self.plain_after(partition, from.checked_sub(1)).await?;
        let packed = self.packed(partition).await?;
        if plain.first().is_some_and(|first| first.start != from) && !packed.iter().any(|packed| covers(packed, from)) {
            return self.segments_over(partition, from).await;
        }
        close(&mut plain, &packed);
        plain.retain(|segment| segment.end.is_none_or(|end| end > from));
        self.chain(partition, from, &plain, &packed)
    }

    /// All plain segments of a partition that are there, in order of start, with those that packed ones stand for.
    ///
    /// # Errors
    /// The store's.
    pub async fn plain(&self, partition: &LogPartition) -> Result<Vec<SegmentRef>, SegmentError> {
        let mut plain = self.plain_after(partition, None).await?;
        close(&mut plain, &self.packed(partition).await?);
        Ok(plain)
    }

    /// Like [`Self::segments_from`] for an offset that may lie inside a segment, the last one included: lists them all.
    ///
    /// # Errors
    /// Those of [`Self::segments_from`].
    pub async fn segments_over(&self, partition: &LogPartition, from: u64) -> Result<Vec<SegmentRef>, SegmentError> {
        let mut plain = self.plain_after(partition, None).await?;
        let packed = self.packed(partition).await?;
        close(&mut plain, &packed);
        plain.retain(|segment| segment.end.is_none_or(|end| end > from));
        self.chain(partition, from, &plain, &packed)
    }

    /// The plain segments that begin above `after`; all if that is `None`.
    async fn plain_after(&self, partition: &LogPartition, after: Option<u64>) -> Result<Vec<SegmentRef>, SegmentError> {
        let folder = layout::segments(&self.dataset, partition);
        let listed = match after {
            Some(after) => self.store.list_after(&folder, &layout::segment(&self.dataset, partition, after)).await?,
            None => self.store.list(&folder).await?,
        };
        let start = |key: &Path| layout::segment_start(key);
        let listed = listed.into_iter().filter_map(|object| Some((start(&object.location)?, object)));
        let mut found: Vec<SegmentRef> = listed
            .map(|(start, object)| SegmentRef {
                key: object.location,
                start,
                end: None,
                bytes: object.size,
                packed: false,
            })
            .collect();
        found.sort_by_key(|segment| segment.start);
        Ok(found)
    }

    /// The packed segments of a partition, in order of start.
    ///
    /// # Errors
    /// The store's.
    pub async fn packed(&self, partition: &LogPartition) -> Result<Vec<SegmentRef>, SegmentError> {
        let listed = self.store.list(&layout::packed_segments(&self.dataset, partition)).await?;
        let segment = |object: object_store::ObjectMeta| {
            let (start, end) = layout::packed_range(&object.location)?;
            Some(SegmentRef { key: object.location, start, end: Some(end), bytes: object.size, packed: true })
        };
        Ok(listed.into_iter().filter_map(segment).collect())
    }

    /// Picks what to read from `from` on: see [`Self::segments_from`].
    fn chain(
        &self,
        partition: &LogPartition,
        from: u64,
        plain: &[SegmentRef],
        packed: &[SegmentRef],
    ) -> Result<Vec<SegmentRef>, SegmentError> {
        let (mut at, mut chain) = (from, Vec::new());
        loop {
            let widest = packed.iter().filter(|segment| covers(segment, at)).max_by_key(|segment| segment.end);
            // Of the last one the end is unknown: where it begins before what was picked, a packed one stands for it.
            let passed = |segment: &&SegmentRef| segment.end.is_none() && segment.start < at && !chain.is_empty();
            let begun = &plain[..plain.partition_point(|segment| segment.start <= at)];
            let mut newest = begun.iter().rev().filter(|segment| !passed(segment));
            let next = widest.or_else(|| newest.find(|segment| covers(segment, at)));
            let Some(next) = next else { break };
            chain.push(next.clone());
            match next.end {
                Some(end) => at = end,
                None => return Ok(chain),
            }
        }
        match plain.iter().chain(packed).map(|segment| segment.start).filter(|start| *start > at).min() {
            None => Ok(chain),
            Some(start) => Err(SegmentError::Hole {
                dataset: self.dataset.clone(),
                partition: partition.clone(),
                missing: at..start,
            }),
        }
    }

    /// Up to which offset the archive of a partition reaches without a gap; `None` if it has not begun. `from` is an offset
    /// that it is known to reach: what is below is not looked at.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn end(&self, partition: &LogPartition, from: u64) -> Result<Option<u64>, SegmentError> {
        let Some(origin) = self.origin(partition).await? else { return Ok(None) };
        let from = from.max(origin);
        match self.segments_from(partition, from).await?.last() {
            None => Ok(Some(from)),
            Some(last) => match last.end {
                Some(end) => Ok(Some(end)),
                None => Ok(Some(self.header(last).await?.range.end)),
            },
        }
    }

    /// Makes durable what the archive of a partition holds from `from` up to `end`, so that the log may let it go.
    ///
    /// # Errors
    /// [`SegmentError`]: nothing is promised then.
    pub async fn sync(&self, partition: &LogPartition, from: u64, end: u64) -> Result<(), SegmentError> {
        for object in self.store.list(&layout::stream_sources(&self.dataset)).await? {
            self.store.sync(&object.location).await?;
        }
        self.store.sync(&layout::stream_origin(&self.dataset, partition)).await?;
        self.sync_begun(&partition.source).await?;
        let mut synced = from;
        while synced < end {
            let before = synced;
            let mut segments = self.segments_over(partition, synced).await?.into_iter();
            let next = segments.next().filter(|segment| segment.start < end).ok_or_else(|| SegmentError::Hole {
                dataset: self.dataset.clone(),
                partition: partition.clone(),
                missing: synced..end,
            })?;
            for segment in std::iter::once(next).chain(segments.take_while(|segment| segment.start < end)) {
                match self.store.sync(&segment.key).await {
                    Ok(()) => synced = segment.end.unwrap_or(end),
                    // It was packed meanwhile: what stands for it now is to be listed.
                    Err(error) if error.cause() == Some(Cause::NotFound) && synced > before => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Deletes segments that a packed one, which is there, stands for.
    ///
    /// # Errors
    /// The store's; some may be gone.
    pub async fn delete(&self, segments: &[SegmentRef]) -> Result<(), SegmentError> {
        let keys = segments.iter().map(|segment| segment.key.clone());
        Ok(self.store.delete_many(keys.collect()).await?)
    }

    /// Reads a segment and checks that it is the one that was listed.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn read(&self, partition: &LogPartition, segment: &SegmentRef) -> Result<Segment, SegmentError> {
        let bytes = self.store.get(&segment.key).await?.ok_or_else(|| self.gone(partition, segment))?;
        let key = segment.key.to_string();
        let decoding = elsewhere(move || read_segment(&key, bytes)).await;
        let read = decoding.map_err(|error| SegmentError::Encode { reason: error.to_string() })??;
        self.check(partition, segment, &read.header)?;
        Ok(read)
    }

    /// What a listed segment covers, from its footer.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn header(&self, segment: &SegmentRef) -> Result<SegmentHeader, SegmentError> {
        let mut reader = ObjectReader::new(self.store.objects(), segment.key.clone())
            .with_file_size(segment.bytes)
            .with_footer_size_hint(FOOTER_BYTES);
        // A store that is away says nothing of the segment: whoever takes it for damaged stops for good.
        let failed = |error: ParquetError| match Cause::behind(&error) {
            Some(cause) => StoreError::because(Operation::Read, &segment.key, cause, error).into(),
            None => SegmentError::Corrupt { key: segment.key.to_string(), reason: error.to_string() },
        };
        let metadata = reader.get_metadata(None).await.map_err(failed)?;
        read_header(segment.key.as_ref(), Arc::as_ref(&metadata))
    }

    fn check(&self, partition: &LogPartition, listed: &SegmentRef, header: &SegmentHeader) -> Result<(), SegmentError> {
        let range = &header.range;
        match listed.end {
            Some(next) if range.start == listed.start && range.end < next => {
                let missing = range.end..next;
                Err(SegmentError::Hole { dataset: self.dataset.clone(), partition: partition.clone(), missing })
            }
            end if range.start == listed.start && end.is_none_or(|end| end == range.end) => Ok(()),
            _ => Err(SegmentError::Corrupt {
                key: listed.key.to_string(),
                reason: format!("it covers offsets {} to {}", range.start, range.end),
            }),
        }
    }

    fn gone(&self, partition: &LogPartition, segment: &SegmentRef) -> SegmentError {
        let missing = segment.start..segment.end.unwrap_or(segment.start + 1);
        SegmentError::Hole { dataset: self.dataset.clone(), partition: partition.clone(), missing }
    }
}

impl StreamSource {
    fn name_and_id(&self) -> (&TopicName, &TopicId) {
        (&self.topic, &self.id)
    }
}

/// Tells where the plain segments end: where the next one begins, or a packed one that stands for the next ones, which may
/// be gone.
fn close(plain: &mut [SegmentRef], packed: &[SegmentRef]) {
    for at in 0..plain.len() {
        let (start, next) = (plain[at].start, plain.get(at + 1).map(|next| next.start));
        let begins = packed.iter().map(|segment| segment.start).filter(|begin| *begin > start);
        plain[at].end = next.into_iter().chain(begins).min();
    }
}

fn covers(segment: &SegmentRef, offset: u64) -> bool {
    segment.start <= offset && segment.end.is_none_or(|end| offset < end)
}

/// `trips` for the first incarnation, `trips~2` for the next.
fn source_name(topic: &TopicName, earlier: usize) -> Result<Source, SegmentError> {
    let name = match earlier {
        0 => topic.to_string(),
        _ => format!("{topic}~{}", earlier + 1),
    };
    Source::topic(&name).map_err(|source| SegmentError::Source { topic: topic.to_string(), source })
}

fn parse<T: serde::de::DeserializeOwned>(key: &Path, bytes: &[u8]) -> Result<T, SegmentError> {
    #[derive(Deserialize)]
    struct Form {
        format: u32,
    }
    let corrupt = |reason: String| SegmentError::Corrupt { key: key.to_string(), reason };
    let form: Form = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
    if form.format > SOURCE_FORMAT {
        return Err(SegmentError::Newer { key: key.to_string(), format: form.format });
    }
    serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))
}

#[cfg(test)]
mod tests;
