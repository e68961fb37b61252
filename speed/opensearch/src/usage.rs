//! What views take: as far as this process knows, what it wrote since it last asked the cluster, and what that said.

use opensearch::http::Method;
use serde_json::{Value, json};
use tidemark_shared::error::chain;
use tidemark_shared::live::{LiveBatch, LiveUsage, ViewId};

use crate::calls::Call;
use crate::client::Answer;
use crate::cluster::Cluster;
use crate::counts::{Kinds, check_complete};
use crate::failure::Failure;
use crate::names;

impl Cluster {
    /// Takes note of what a view takes, as the cluster counts it.
    pub(crate) async fn measure(&self, view: &ViewId) -> Result<(), Failure> {
        let pattern = names::row_indices(&self.prefix, view);
        let path = format!("{pattern}/_stats/store?filter_path=_all.primaries.store");
        let stats: Value = self.send(Call::Other, Method::Get, &path, None).await?.read()?;
        let bytes = stats["_all"]["primaries"]["store"]["size_in_bytes"].as_u64().unwrap_or(0);
        let counted = self.kinds(&pattern).await;
        // An index that somebody is making at this moment can't be searched. It is only for people, who have the last figures.
        let counted = counted.inspect_err(|failure| {
            tracing::debug!(%view, error = %chain(failure), "rows and rejects could not be counted");
        });
        self.views.change_usage(view, |known| match counted {
            Ok(Kinds { rows, rejects, .. }) => LiveUsage { rows, rejects, bytes },
            Err(_) => LiveUsage { bytes, ..known },
        });
        Ok(())
    }

    /// How many records of each kind the indices of a pattern hold.
    async fn kinds(&self, pattern: &str) -> Result<Kinds, Failure> {
        let body = json!({"size": 0, "track_total_hits": false, "aggs": {"kinds": Kinds::asked()}});
        counted(&self.send(Call::Aggregate, Method::Post, &format!("{pattern}/_search"), Some(&body)).await?)
    }
}

/// Records by kind, in the answer to a search of a pattern: none, where no index is there yet.
fn counted(answer: &Answer) -> Result<Kinds, Failure> {
    let found: Value = answer.read()?;
    if found["_shards"]["total"] == 0 {
        return Ok(Kinds::default());
    }
    check_complete(answer)?;
    Kinds::read(answer, &found)
}

/// What so many documents are that were made of a batch from offset `from` on; their bytes are not known yet.
pub(crate) fn taken(batch: &LiveBatch, from: u64, documents: usize) -> LiveUsage {
    let rejects = batch.rejects.iter().filter(|reject| reject.offset >= from).count();
    let filtered = batch.filtered.iter().filter(|offset| **offset >= from).count();
    let rows = documents.saturating_sub(rejects + filtered);
    LiveUsage { rows: rows as u64, rejects: rejects as u64, bytes: 0 }
}

#[cfg(test)]
mod tests {
    use tidemark_shared::reject::{Reason, Reject};

    use super::*;

    #[test]
    fn rejects_are_no_rows() {
        let offsets = |range: std::ops::Range<u64>| {
            range.map(|offset| Reject {
                offset,
                reason: Reason::BadJson,
                column: None,
                message: String::new(),
                bytes: Default::default(),
            })
        };
        let batch = LiveBatch {
            partition: "t/0".parse().unwrap(),
            range: 0..20,
            rows: Vec::new(),
            rejects: offsets(3..9).collect(),
            filtered: vec![9, 12],
            lost: Vec::new(),
        };
        assert_eq!(taken(&batch, 0, 20), LiveUsage { rows: 12, rejects: 6, bytes: 0 });
        assert_eq!(taken(&batch, 8, 12), LiveUsage { rows: 9, rejects: 1, bytes: 0 });
        assert_eq!(taken(&batch, 13, 7), LiveUsage { rows: 7, rejects: 0, bytes: 0 });
    }

    #[test]
    fn where_no_index_is_nothing_is_counted() {
        let answer =
            |body: Value| Answer { request: "POST /i/_search".to_owned(), status: 200, body: body.to_string() };
        let buckets = json!([{"key": "reject", "doc_count": 70}, {"key": "row", "doc_count": 20}]);
        let of = |successful: u64| {
            let shards = json!({"total": 2, "successful": successful, "failed": 2 - successful});
            answer(json!({"_shards": shards, "aggregations": {"kinds": {"buckets": buckets}}}))
        };
        assert_eq!(counted(&of(2)).unwrap(), Kinds { rows: 20, rejects: 70, filtered: 0 });
        assert!(matches!(counted(&of(1)), Err(Failure::Incomplete { .. })), "half of them could not be asked");
        let none = json!({"_shards": {"total": 0, "successful": 0, "failed": 0}, "hits": {"hits": []}});
        assert_eq!(counted(&answer(none)).unwrap(), Kinds::default());
    }
}
