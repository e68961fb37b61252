//! What became of records, counted by the cluster, and the rejects among them.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::counts::Counts;
use tidemark_shared::position::{Coverage, LogPartition};
use tidemark_shared::reject::{Reason, Reject};

use crate::calls::Call;
use crate::client::{Answer, NoRoom};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::filter::any;
use crate::indices::{Shards, aliases, portions};
use crate::pin::{Piece, Pinned};
use crate::state::IndexRef;

/// Kinds of records, and more than there are.
const KINDS_MAX: u32 = 10;
/// Most reasons of rejects that are told apart.
const REASONS_MAX: u32 = 5_000;
/// Rejects of one request: each has at most 64 KiB of bytes.
const REJECTS_MAX: usize = 200;

/// The part of a search's answer that says whether all of it is there.
#[derive(Debug, Deserialize)]
struct Completeness {
    #[serde(default)]
    timed_out: bool,
    #[serde(rename = "_shards", default)]
    shards: Shards,
}

#[derive(Debug, Deserialize)]
struct Buckets {
    #[serde(default)]
    sum_other_doc_count: u64,
    #[serde(default)]
    doc_count_error_upper_bound: u64,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    key: String,
    doc_count: u64,
}

/// Records by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) rows: u64,
    pub(crate) rejects: u64,
    pub(crate) filtered: u64,
}

impl Kinds {
    /// What a search adds up for them, as `kinds`.
    pub(crate) fn asked() -> Value {
        json!({"terms": {"field": "kind", "size": KINDS_MAX}})
    }

    /// From the answer to a search that added them up.
    ///
    /// # Errors
    /// [`Failure`] if they are not there, or not exact.
    pub(crate) fn read(answer: &Answer, found: &Value) -> Result<Self, Failure> {
        let mut kinds = Self::default();
        for Bucket { key, doc_count } in exact(answer, found, "kinds")? {
            match key.as_str() {
                "row" => kinds.rows += doc_count,
                "reject" => kinds.rejects += doc_count,
                "filtered" => kinds.filtered += doc_count,
                other => return Err(answer.incomplete(format!("`{other}` is no kind of record"))),
            }
        }
        Ok(kinds)
    }

    fn all(self) -> u64 {
        self.rows + self.rejects + self.filtered
    }
}

/// The buckets of an aggregation, of which none may be left out.
fn exact(answer: &Answer, found: &Value, name: &str) -> Result<Vec<Bucket>, Failure> {
    let unreadable = |source| Failure::Unreadable { request: answer.request.clone(), source };
    let buckets = Buckets::deserialize(&found["aggregations"][name]).map_err(unreadable)?;
    if buckets.sum_other_doc_count + buckets.doc_count_error_upper_bound > 0 {
        return Err(answer.incomplete(format!("some of `{name}` were not counted")));
    }
    Ok(buckets.buckets)
}

#[derive(Debug, Deserialize)]
struct RejectSource {
    offset: u64,
    reason: String,
    reject: RejectBody,
}

#[derive(Debug, Deserialize)]
struct RejectBody {
    column: Option<String>,
    message: String,
    bytes: String,
}

/// # Errors
/// [`Failure::Incomplete`] if a part of the answer is missing.
pub(crate) fn check_complete(answer: &Answer) -> Result<(), Failure> {
    answer.accepted()?;
    let Completeness { timed_out, shards: Shards { failed, successful } } = answer.parsed()?;
    if timed_out || failed > 0 || successful == 0 {
        return Err(answer.incomplete(format!("{failed} parts failed, {successful} did not")));
    }
    Ok(())
}

/// The query for records of a range.
pub(crate) fn in_range(range: &Range<u64>) -> Value {
    json!({"range": {"offset": {"gte": range.start, "lt": range.end}}})
}

/// The query for the records of pieces.
pub(crate) fn of_pieces(pieces: &[Piece]) -> Value {
    let one =
        |piece: &Piece| json!({"bool": {"filter": [{"term": {"_index": piece.index.name}}, in_range(&piece.range)]}});
    let each: Vec<Value> = pieces.iter().map(one).collect();
    any(&each)
}

impl Cluster {
    /// Searches indices by name, told of as a `call`, and then compares their ids: the answer is of those that were meant (H6).
    /// `no_room` says what becomes of it where the cluster has no room for the answer.
    pub(crate) async fn search(
        &self,
        call: Call,
        indices: &[IndexRef],
        body: &Value,
        no_room: NoRoom,
    ) -> Result<Answer, Failure> {
        let path = format!("{}/_search?allow_partial_search_results=false", aliases(indices));
        let answer = self.send_with(call, Method::Post, &path, Some(body), no_room).await?;
        match check_complete(&answer) {
            Err(failure) if failure.is_missing() => {
                // The one of them that is missing is the one to name.
                self.check_identity(indices).await?;
                return Err(failure);
            }
            checked => checked?,
        }
        self.check_identity(indices).await?;
        Ok(answer)
    }
}

impl Pinned {
    /// See the port.
    pub(crate) async fn counts(&self, from: &Coverage) -> Result<Counts, Failure> {
        let mut counts = Counts::default();
        for pieces in portions(&self.from(from)) {
            self.count(pieces, &mut counts).await?;
        }
        Ok(counts)
    }

    async fn count(&self, pieces: &[Piece], counts: &mut Counts) -> Result<(), Failure> {
        let body = json!({
            "size": 0,
            "track_total_hits": true,
            "query": {"bool": {"filter": [of_pieces(pieces)]}},
            "aggs": {
                "kinds": Kinds::asked(),
                "reasons": {"terms": {"field": "reason", "size": REASONS_MAX}},
            },
        });
        let indices: Vec<IndexRef> = pieces.iter().map(|piece| piece.index.clone()).collect();
        let answer = self.cluster.search(Call::Aggregate, &indices, &body, NoRoom::Waits).await?;
        let found: Value = answer.parsed()?;
        let kinds = Kinds::read(&answer, &found)?;
        counts.records += kinds.all();
        counts.accepted += kinds.rows;
        counts.filtered += kinds.filtered;
        for Bucket { key, doc_count } in exact(&answer, &found, "reasons")? {
            *counts.rejected.entry(key).or_default() += doc_count;
        }
        let total = found["hits"]["total"]["value"].as_u64();
        if total != Some(kinds.all()) || !counts.adds_up() {
            return Err(answer.incomplete("the counts do not add up"));
        }
        Ok(())
    }

    /// See the port.
    pub(crate) async fn rejects(&self, from: &Coverage, limit: usize) -> Result<Vec<(LogPartition, Reject)>, Failure> {
        let mut found = Vec::new();
        for piece in self.from(from) {
            let mut range = piece.range.clone();
            while found.len() < limit && !range.is_empty() {
                let size = REJECTS_MAX.min(limit - found.len());
                let body = json!({
                    "size": size,
                    "track_total_hits": false,
                    "query": {"bool": {"filter": [{"term": {"kind": "reject"}}, in_range(&range)]}},
                    "sort": [{"offset": "asc"}],
                    "_source": ["offset", "reason", "reject"],
                });
                let index = std::slice::from_ref(&piece.index);
                let answer = self.cluster.search(Call::Search, index, &body, NoRoom::Waits).await?;
                let body: Value = answer.parsed()?;
                let hits = body["hits"]["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
                for hit in hits {
                    let reject = reject(hit, &piece.index)?;
                    range.start = reject.offset + 1;
                    found.push((piece.partition.clone(), reject));
                }
                if hits.len() < size {
                    break;
                }
            }
        }
        Ok(found)
    }
}

fn reject(hit: &Value, index: &IndexRef) -> Result<Reject, Failure> {
    let corrupt = |reason: String| Failure::Corrupt { index: index.name.clone(), reason };
    let source = RejectSource::deserialize(&hit["_source"]).map_err(|error| corrupt(error.to_string()))?;
    let reason = Reason::from_code(&source.reason);
    let bytes = STANDARD.decode(&source.reject.bytes).map_err(|error| corrupt(error.to_string()))?;
    Ok(Reject {
        offset: source.offset,
        reason: reason.ok_or_else(|| corrupt(format!("`{}` is no reason", source.reason)))?,
        column: source.reject.column,
        message: source.reject.message,
        bytes: bytes.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_by_kind_or_not_at_all() {
        let bucket = |kind: &str, count: u64| json!({"key": kind, "doc_count": count});
        let read = |kinds: Value| {
            let found = json!({"aggregations": {"kinds": kinds}});
            let answer = Answer { request: "POST /i/_search".to_owned(), status: 200, body: found.to_string() };
            Kinds::read(&answer, &found).map_err(|failure| failure.to_string())
        };
        let all = json!([bucket("reject", 70), bucket("row", 20), bucket("filtered", 5)]);
        assert_eq!(read(json!({"buckets": all})), Ok(Kinds { rows: 20, rejects: 70, filtered: 5 }));
        assert_eq!(read(json!({"buckets": []})), Ok(Kinds::default()));
        for (kinds, wanted) in [
            (json!({"buckets": all, "sum_other_doc_count": 1}), "some of `kinds` were not counted"),
            (json!({"buckets": [bucket("letter", 1)]}), "`letter` is no kind of record"),
            (Value::Null, "can't be read"),
        ] {
            let refused = read(kinds).expect_err(wanted);
            assert!(refused.contains(wanted), "{refused}");
        }
    }
}
