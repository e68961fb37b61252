//! Visible positions and floors, as documents of a view's state index.
//!
//! A position's document is written under an external version that grows with its epoch, and within one with the position:
//! whoever comes late is refused and reads what is there (H4). An epoch begins where rows were lost, and only then a position
//! is lower than before.

use std::collections::BTreeMap;
use std::ops::Range;

use opensearch::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemark_shared::live::lost_with;
use tidemark_shared::lock;
use tidemark_shared::position::LogPartition;

use crate::calls::Call;
use crate::cluster::{Cluster, Handle};
use crate::failure::{Failure, is_missing_index};
use crate::names::{self, floor_id, position_id};
use crate::rowless::Rowless;
use crate::sizes::Sizes;

/// Bits of a version that are the position's.
const POSITION_BITS: u32 = 47;
/// Epochs of a partition at most.
const EPOCHS_MAX: u64 = 1 << 15;
/// Document that lists the partitions.
const PARTITIONS: &str = "partitions";
/// Attempts against others who change the list of partitions.
const ATTEMPTS_MAX: u32 = 100;

/// A row index, as it was when a position was written that counts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexRef {
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) uuid: String,
    /// The id of what was written to it ([`crate::identity`]). A release before this one did not write it down.
    pub(crate) history: Option<String>,
}

/// How far a view holds a partition, and in which indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionState {
    pub(crate) epoch: u64,
    pub(crate) floor: u64,
    pub(crate) visible: u64,
    /// By the offset from which on they hold rows.
    pub(crate) indices: BTreeMap<u64, IndexRef>,
    /// The ids of indices, likewise, that were there when the position stepped back and that it counts on no more. What is in them
    /// was read before that, and may be gone from log and archive: they are removed before their rows are written again.
    pub(crate) stale: BTreeMap<u64, String>,
    /// Lost offsets that it has read past.
    pub(crate) lost: Vec<Range<u64>>,
    /// Offsets without a row, as far as they are known.
    pub(crate) rowless: Rowless,
    /// Bytes of rows.
    pub(crate) sizes: Sizes,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It counts.
    Done,
    /// Somebody else has written what is further on.
    Overtaken,
}

/// Attempts of whoever is overtaken again and again.
pub(crate) const OVERTAKEN_MAX: u32 = 20;

#[derive(Debug, Serialize, Deserialize)]
struct PositionDocument {
    partition: String,
    epoch: u64,
    visible: u64,
    indices: Vec<(u64, String, String, String)>,
    /// Of the indices, as far as they are known.
    #[serde(default)]
    histories: Vec<(u64, String)>,
    /// A release before this one wrote none.
    #[serde(default)]
    stale: Vec<(u64, String)>,
    #[serde(default)]
    lost: Vec<Range<u64>>,
    /// A release before this one wrote none.
    #[serde(default)]
    rowless: Option<Rowless>,
    /// Likewise.
    #[serde(default)]
    sizes: Option<Sizes>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FloorDocument {
    floor: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct PartitionsDocument {
    partitions: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Got {
    docs: Vec<GotOne>,
}

#[derive(Debug, Deserialize)]
struct GotOne {
    #[serde(default)]
    found: bool,
    #[serde(rename = "_source", default)]
    source: Value,
    #[serde(rename = "_seq_no", default)]
    seq_no: u64,
    #[serde(rename = "_primary_term", default)]
    primary_term: u64,
    #[serde(default)]
    error: Value,
}

#[cfg(test)]
impl IndexRef {
    /// An index, with all that follows from its name in tests.
    pub(crate) fn named(name: &str) -> Self {
        let (alias, uuid) = (format!("{name}.1"), format!("id {name}"));
        Self { name: name.to_owned(), alias, uuid, history: Some(format!("history of {name}")) }
    }
}

impl PartitionState {
    /// A partition of which nothing is visible yet: it begins at `floor`.
    pub(crate) fn beginning(floor: u64) -> Self {
        let (indices, stale, lost) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (rowless, sizes) = (Rowless::beginning(floor), Sizes::beginning(floor));
        Self { epoch: 0, floor, visible: floor, indices, stale, lost, rowless, sizes }
    }

    /// Forgets indices that lie below a floor whole; each holds rows of `range` offsets.
    pub(crate) fn drop_indices_below(&mut self, floor: u64, range: u64) {
        let stays = |start: &u64| start.saturating_add(range) > floor;
        self.indices.retain(|start, _| stays(start));
        self.stale.retain(|start, _| stays(start));
    }

    /// How many rows have offsets in `range`, as far as they are there; `None` if that is not known.
    pub(crate) fn rows_in(&self, range: &Range<u64>) -> Option<u64> {
        self.rowless.rows_in(&self.there(range))
    }

    /// About how many bytes the rows have that are there at offsets of `range`.
    pub(crate) fn bytes_in(&self, range: &Range<u64>) -> u64 {
        self.sizes.bytes_in(&self.there(range))
    }

    /// What of a range is there.
    fn there(&self, range: &Range<u64>) -> Range<u64> {
        range.start.max(self.floor)..range.end.min(self.visible)
    }

    fn version(&self, partition: &LogPartition) -> Result<u64, Failure> {
        let fits = self.epoch < EPOCHS_MAX && self.visible < 1 << POSITION_BITS;
        // A document that is made has version 1.
        let version = || (self.epoch << POSITION_BITS | self.visible) + 2;
        fits.then(version).ok_or_else(|| too_far(partition, self.visible))
    }

    fn document(&self, partition: &LogPartition) -> Value {
        let one =
            |(start, index): (&u64, &IndexRef)| (*start, index.name.clone(), index.alias.clone(), index.uuid.clone());
        let indices = self.indices.iter().map(one).collect();
        let history = |(start, index): (&u64, &IndexRef)| Some((*start, index.history.clone()?));
        let histories = self.indices.iter().filter_map(history).collect();
        let (epoch, visible, lost) = (self.epoch, self.visible, self.lost.clone());
        let stale = self.stale.clone().into_iter().collect();
        let (partition, rowless, sizes) = (partition.to_string(), Some(self.rowless.clone()), Some(self.sizes.clone()));
        json!(PositionDocument { partition, epoch, visible, indices, histories, stale, lost, rowless, sizes })
    }
}

fn too_far(partition: &LogPartition, offset: u64) -> Failure {
    Failure::TooFar { what: format!("offset {offset} of `{partition}`") }
}

impl Cluster {
    /// Documents of a state index, as they are now.
    async fn get(&self, handle: &Handle, ids: &[String]) -> Result<Vec<GotOne>, Failure> {
        let docs: Vec<Value> = ids.iter().map(|id| json!({"_id": id})).collect();
        // Another copy may not have heard of the newest position yet, and positions never go back (H4).
        let path = format!("{}/_mget?preference=_primary", handle.state);
        let answer = self.send(Call::Other, Method::Post, &path, Some(&json!({"docs": docs}))).await?;
        let got: Got = answer.read().map_err(|failure| failure.about(&handle.state))?;
        if got.docs.len() != ids.len() {
            return Err(answer.incomplete(format!("{} of {} documents", got.docs.len(), ids.len())));
        }
        match got.docs.iter().find(|doc| !doc.error.is_null()) {
            Some(doc) if doc.error["type"].as_str().is_some_and(is_missing_index) => {
                Err(Failure::IndexGone { index: handle.state.clone() })
            }
            Some(doc) => Err(answer.incomplete(doc.error.to_string())),
            None => Ok(got.docs),
        }
    }

    /// A view's partitions as they are now.
    pub(crate) async fn read_state(&self, handle: &Handle) -> Result<BTreeMap<LogPartition, PartitionState>, Failure> {
        loop {
            let known: Vec<LogPartition> = lock(&handle.known).iter().cloned().collect();
            let of_each = known.iter().flat_map(|partition| [position_id(partition), floor_id(partition)]);
            let ids: Vec<String> = [PARTITIONS.to_owned()].into_iter().chain(of_each).collect();
            let got = self.get(handle, &ids).await?;
            let listed = partitions(handle, &got[0])?;
            let before = known.len();
            let mut all = lock(&handle.known);
            all.extend(listed);
            if all.len() > before {
                continue;
            }
            drop(all);
            let pairs = known.into_iter().zip(got[1..].chunks(2));
            return pairs
                .map(|(partition, pair)| Ok((partition, partition_state(handle, &pair[0], &pair[1])?)))
                .collect();
        }
    }

    /// One partition as it is now; `None` if the view has none of that name.
    pub(crate) async fn read_partition(
        &self,
        handle: &Handle,
        partition: &LogPartition,
    ) -> Result<Option<PartitionState>, Failure> {
        let got = self.get(handle, &[position_id(partition), floor_id(partition)]).await?;
        if !got[0].found {
            return Ok(None);
        }
        partition_state(handle, &got[0], &got[1]).map(Some)
    }

    /// Writes a position.
    pub(crate) async fn put_position(
        &self,
        handle: &Handle,
        partition: &LogPartition,
        state: &PartitionState,
    ) -> Result<Put, Failure> {
        let document = state.document(partition);
        self.put(handle, &position_id(partition), state.version(partition)?, &document).await
    }

    /// Raises a floor.
    pub(crate) async fn put_floor(
        &self,
        handle: &Handle,
        partition: &LogPartition,
        floor: u64,
    ) -> Result<Put, Failure> {
        if floor >= 1 << POSITION_BITS {
            return Err(too_far(partition, floor));
        }
        self.put(handle, &floor_id(partition), floor + 2, &json!(FloorDocument { floor })).await
    }

    async fn put(&self, handle: &Handle, id: &str, version: u64, document: &Value) -> Result<Put, Failure> {
        let state = &handle.state;
        let path = format!("{state}/_doc/{id}?version={version}&version_type=external&require_alias=true");
        let answer = self.send(Call::Other, Method::Put, &path, Some(document)).await?;
        let put = match answer.accepted() {
            Ok(()) => Put::Done,
            // The answer to a first attempt may have been lost: what is there decides.
            Err(Failure::Refused { status: 409, .. }) => Put::Overtaken,
            Err(failure) => return Err(failure.about(state)),
        };
        // Either way the index takes writes: floors need wait no longer.
        *lock(&handle.refused) = None;
        Ok(put)
    }

    /// Adds partitions that a view does not have yet, from a floor on. The others stay as they are.
    pub(crate) async fn add_partitions(&self, handle: &Handle, floors: &[(LogPartition, u64)]) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let got = self.get(handle, &[PARTITIONS.to_owned()]).await?;
            let mut listed = partitions(handle, &got[0])?;
            lock(&handle.known).extend(listed.iter().cloned());
            let new: Vec<_> = floors.iter().filter(|(partition, _)| !listed.contains(partition)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for (partition, floor) in new {
                let _checked = PartitionState::beginning(*floor).version(partition)?;
                self.create(handle, &floor_id(partition), &json!(FloorDocument { floor: *floor })).await?;
                // Who was first may have begun elsewhere: a position above its floor would say that there are rows between.
                let got = self.get(handle, &[floor_id(partition)]).await?;
                let mut begun = PartitionState::beginning(floor_of(handle, &got[0])?);
                begun.stale = self.left_behind(handle, partition).await?;
                begun.drop_indices_below(begun.floor, handle.range);
                self.create(handle, &position_id(partition), &begun.document(partition)).await?;
                listed.push(partition.clone());
            }
            // Last, so that whoever reads the list finds what it names.
            let names = listed.iter().map(ToString::to_string).collect();
            let expected = match got[0].found {
                true => {
                    format!("_doc/{PARTITIONS}?if_seq_no={}&if_primary_term={}&", got[0].seq_no, got[0].primary_term)
                }
                false => format!("_create/{PARTITIONS}?"),
            };
            let path = format!("{}/{expected}require_alias=true", handle.state);
            let document = json!(PartitionsDocument { partitions: names });
            let answer = self.send(Call::Other, Method::Put, &path, Some(&document)).await?;
            match answer.accepted() {
                Err(Failure::Refused { status: 409, .. }) => {}
                outcome => return outcome.map_err(|failure| failure.about(&handle.state)),
            }
        }
        Err(Failure::Contended { index: handle.state.clone() })
    }

    /// The ids of row indices of a partition that has no position yet, by where they begin. No position was ever written that counts
    /// on them: they are of a view of the same name whose state index was lost. What this process still reads is none of them: a pin
    /// keeps what it has, and such an index is written over.
    async fn left_behind(&self, handle: &Handle, partition: &LogPartition) -> Result<BTreeMap<u64, String>, Failure> {
        let of_partition = names::partition_prefix(&self.prefix, &handle.view, partition);
        let found = self.describe(&format!("{of_partition}*")).await?.into_iter();
        let unread = found.filter(|index| !self.leases.is_held(&index.name));
        Ok(unread.filter_map(|index| Some((names::start_of(&of_partition, &index.name)?, index.uuid))).collect())
    }

    /// Makes a document unless it is there.
    async fn create(&self, handle: &Handle, id: &str, document: &Value) -> Result<(), Failure> {
        let path = format!("{}/_create/{id}?require_alias=true", handle.state);
        let answer = self.send(Call::Other, Method::Put, &path, Some(document)).await?;
        match answer.accepted() {
            Err(Failure::Refused { status: 409, .. }) => Ok(()),
            outcome => outcome.map_err(|failure| failure.about(&handle.state)),
        }
    }
}

fn corrupt(handle: &Handle, reason: impl ToString) -> Failure {
    Failure::Corrupt { index: handle.state.clone(), reason: reason.to_string() }
}

fn partitions(handle: &Handle, got: &GotOne) -> Result<Vec<LogPartition>, Failure> {
    if !got.found {
        return Ok(Vec::new());
    }
    let listed: PartitionsDocument = Deserialize::deserialize(&got.source).map_err(|error| corrupt(handle, error))?;
    listed.partitions.iter().map(|name| name.parse().map_err(|error| corrupt(handle, error))).collect()
}

fn floor_of(handle: &Handle, got: &GotOne) -> Result<u64, Failure> {
    if !got.found {
        return Err(corrupt(handle, "a partition has no floor"));
    }
    let FloorDocument { floor } = Deserialize::deserialize(&got.source).map_err(|error| corrupt(handle, error))?;
    Ok(floor)
}

fn partition_state(handle: &Handle, position: &GotOne, floor: &GotOne) -> Result<PartitionState, Failure> {
    if !position.found {
        return Err(corrupt(handle, "a partition has no position"));
    }
    let floor = floor_of(handle, floor)?;
    let read = PositionDocument::deserialize(&position.source);
    Ok(state_of(read.map_err(|error| corrupt(handle, error))?, floor))
}

fn state_of(position: PositionDocument, floor: u64) -> PartitionState {
    let mut histories: BTreeMap<u64, String> = position.histories.into_iter().collect();
    let one = |(start, name, alias, uuid): (u64, String, String, String)| {
        (start, IndexRef { name, alias, uuid, history: histories.remove(&start) })
    };
    let visible = position.visible;
    let mut rowless = position.rowless.unwrap_or_else(|| Rowless::beginning(visible));
    let mut sizes = position.sizes.unwrap_or_else(|| Sizes::beginning(visible));
    rowless.drop_below(floor);
    sizes.drop_below(floor);
    PartitionState {
        epoch: position.epoch,
        floor,
        // A floor that was raised above it stands before the position is written.
        visible: visible.max(floor),
        indices: position.indices.into_iter().map(one).collect(),
        stale: position.stale.into_iter().collect(),
        lost: lost_with(&position.lost, &[], floor),
        rowless,
        sizes,
    }
}

#[cfg(test)]
mod tests {
    use tidemark_testing::contract::live::{batch, partition};

    use super::*;

    #[test]
    fn a_document_says_what_a_partition_was() {
        let mut state = PartitionState::beginning(5);
        state.rowless.take_in(&batch(&partition(0), 5..30), 5);
        state.sizes.take_in([(7, 100), (20, 50)], 5);
        (state.epoch, state.visible) = (2, 30);
        (state.indices, state.lost) = (BTreeMap::from([(0, IndexRef::named("i"))]), vec![Range { start: 7, end: 9 }]);
        state.stale = BTreeMap::from([(40, "id".to_owned())]);
        let read = |text: Value, floor| state_of(serde_json::from_value(text).unwrap(), floor);
        let written = state.document(&partition(0));
        assert_eq!(read(written.clone(), 5), state);
        let rows = |state: &PartitionState, from| state.rows_in(&(from..u64::MAX));
        assert_eq!((rows(&state, 5), rows(&read(written.clone(), 12), 0)), (Some(17), Some(12)));
        assert_eq!(rows(&read(written.clone(), 40), 0), Some(0), "a floor above the position");
        let bytes = |state: &PartitionState| state.bytes_in(&(0..u64::MAX));
        assert_eq!([5, 10, 40].map(|floor| bytes(&read(written.clone(), floor))), [150, 150, 0]);

        // As a release before this one wrote it: how many rows there are is not known, but of none; nor what the index held.
        let mut earlier = written;
        for field in ["rowless", "histories", "sizes", "stale"] {
            earlier.as_object_mut().unwrap().remove(field).expect(field);
        }
        let earlier = read(earlier, 5);
        assert_eq!((rows(&earlier, 5), rows(&earlier, 30)), (None, Some(0)));
        assert!(bytes(&earlier) > 25 * 1_000, "rows that nothing is known of may be large");
        let index = IndexRef { history: None, ..IndexRef::named("i") };
        assert_eq!((earlier.visible, earlier.indices, earlier.lost), (30, BTreeMap::from([(0, index)]), state.lost));
        assert_eq!(earlier.stale, BTreeMap::new());
    }

    #[test]
    fn an_index_is_forgotten_when_all_of_it_lies_below_a_floor() {
        let mut state = PartitionState::beginning(0);
        for start in [0, 10, 20] {
            state.indices.insert(start, IndexRef::named("i"));
            state.stale.insert(start + 30, "id".to_owned());
        }
        for (floor, wanted) in [(9, 6), (10, 5), (29, 4), (30, 3), (40, 2), (59, 1), (60, 0)] {
            state.drop_indices_below(floor, 10);
            assert_eq!(state.indices.len() + state.stale.len(), wanted, "below {floor}");
        }
    }
}
