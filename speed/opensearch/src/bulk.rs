//! Documents into an index: portions by their bytes, an outcome for each document, another attempt for those that the cluster
//! had no room for.
//!
//! All are written under one version, over what is there: that is the same document (H3). A writer whose answer was lost may
//! come again before a slow copy of the index has what he wrote. Were his documents only created, he would be told at once
//! that they are there, and the refresh after that could be over on that copy before they come: the position would move
//! without them (H4). Written again they are on every copy that counts before he is answered.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::Value;
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::position::LogPartition;
use tidemark_shared::telemetry::{SPANS, number};
use tracing::{Instrument as _, info_span};

use crate::calls::Call;
use crate::client::Content;
use crate::cluster::Cluster;
use crate::document::{Document, document_id};
use crate::failure::{Failure, is_missing_index};
use crate::state::IndexRef;

/// Pauses where documents are refused for want of room. After these the indexer itself comes again, and less often.
const REFUSED: Backoff = Backoff {
    first: Duration::from_millis(100),
    pause_max: Duration::from_secs(2),
    attempts_max: 12,
    time_max: Duration::from_secs(15),
    attempts_min: 3,
};

/// What follows an id in the line before a document. A document that was created has version 1, too.
const AFTER_ID: &str = r#"","version":1,"version_type":"external_gte"}}"#;

/// Why documents were not taken.
#[derive(Debug)]
pub(crate) enum BulkError {
    /// The cluster failed.
    Failed(Failure),
    /// It takes this document in no form.
    Refused { offset: u64, reason: String },
}

impl From<Failure> for BulkError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

#[derive(Debug, Deserialize)]
struct Answered {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    index: Outcome,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    result: Done,
    /// Of few documents of thousands, if of any.
    #[serde(default)]
    error: Option<Box<Reason>>,
}

/// What was done about a document, in OpenSearch's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Done {
    Created,
    Updated,
    /// Nothing, as where an ingest pipeline drops it.
    Noop,
    /// Something else, or it is not told.
    #[default]
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Reason {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    caused_by: Value,
}

impl Reason {
    fn text(&self) -> String {
        match self.caused_by["reason"].as_str() {
            Some(cause) => format!("{}: {}: {cause}", self.kind, self.reason),
            None => format!("{}: {}", self.kind, self.reason),
        }
    }
}

impl Outcome {
    fn verdict(&self) -> Verdict {
        let error = self.error.as_deref();
        let (kind, reason) = error.map_or(("", ""), |error| (error.kind.as_str(), error.reason.as_str()));
        verdict(self.status, self.result, kind, reason)
    }

    fn reason(&self) -> String {
        match (&self.error, self.result) {
            (Some(error), _) => error.text(),
            (None, Done::Noop) => {
                format!("it was answered with status {} and `noop`, as where an ingest pipeline drops it", self.status)
            }
            (None, _) => format!("it was answered with status {} and no reason", self.status),
        }
    }
}

/// What to do about a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there.
    Taken,
    /// It is not there, and no error says why.
    Dropped,
    /// Send it again.
    Again,
    /// Send it without its searched fields.
    Bare,
    /// There is no such index any more.
    IndexGone,
    /// The index is there, and takes nothing until somebody opens it.
    IndexClosed,
}

/// The verdict on an outcome: by the kind of its error, and where that says nothing, in the words of HTTP.
pub(crate) fn verdict(status: u16, done: Done, kind: &str, reason: &str) -> Verdict {
    match (status, kind) {
        (200..=299, _) if matches!(done, Done::Created | Done::Updated) => Verdict::Taken,
        (200..=299, _) => Verdict::Dropped,
        // With the status of a document that is refused.
        (_, "index_closed_exception") => Verdict::IndexClosed,
        (404, kind) if is_missing_index(kind) => Verdict::IndexGone,
        (413, _) => Verdict::Bare,
        (400, kind) if is_against_document(kind, reason) => Verdict::Bare,
        // busy, failing, read-only for want of disk, or not as it was made: nothing that another form of the document would heal
        _ => Verdict::Again,
    }
}

/// True if an error has something against what is in a document.
fn is_against_document(kind: &str, reason: &str) -> bool {
    match kind {
        // The alias does not lead to one index any more.
        "illegal_argument_exception" => !reason.starts_with("no write index is defined"),
        "strict_dynamic_mapping_exception" => true,
        _ => kind.ends_with("parsing_exception") || kind.ends_with("parse_exception"),
    }
}

impl Cluster {
    /// Writes documents, all of them or an error; tells how many bytes were sent. Searchable only after a refresh.
    pub(crate) async fn write_documents(
        &self,
        index: &IndexRef,
        partition: &LogPartition,
        mut documents: Vec<Document>,
    ) -> Result<u64, BulkError> {
        let (mut sent, mut bytes_max) = (0, self.settings.bulk_bytes_max.max(1));
        let mut attempts = Attempts::new(REFUSED);
        loop {
            let (mut rest, mut reason) = (Vec::new(), String::new());
            for portion in portions(&documents, bytes_max) {
                let body = body(partition, portion);
                sent += body.len() as u64;
                match self.write_portion(index, portion, body).await? {
                    Some((again, why)) => {
                        rest.extend(again);
                        reason = why;
                    }
                    None => {
                        // More than the cluster takes at once.
                        bytes_max = (bytes_max / 2).max(1);
                        rest.extend_from_slice(portion);
                    }
                }
            }
            if rest.is_empty() {
                return Ok(sent);
            }
            let count = rest.len();
            documents = rest;
            if !attempts.again(self.ambient.random()).await {
                return Err(Failure::NotTaken { count, index: index.name.clone(), reason }.into());
            }
        }
    }

    /// Documents that are to be sent again, and what one of them was refused for. `None`: the portion is too large.
    async fn write_portion(
        &self,
        index: &IndexRef,
        portion: &[Document],
        body: Bytes,
    ) -> Result<Option<(Vec<Document>, String)>, BulkError> {
        // `errors` only for who reads along: without an error, a document may have been dropped.
        let wanted = "errors,items.index.status,items.index.result,items.index.error";
        let path = format!("{}/_bulk?require_alias=true&filter_path={wanted}", index.alias);
        let span = info_span!(
            target: SPANS,
            "opensearch.bulk",
            otel.kind = "client",
            tidemark.index = index.name,
            tidemark.rows = number(portion.len()),
            tidemark.bytes = number(body.len()),
        );
        let asked = self.client.once(Call::Bulk, Method::Post, &path, Content::Lines, Some(body));
        let answer = asked.instrument(span).await?;
        match answer.accepted() {
            Ok(()) => {}
            Err(Failure::Refused { status: 413, reason, .. }) if portion.len() == 1 => {
                return Err(BulkError::Refused { offset: portion[0].offset, reason });
            }
            Err(Failure::Refused { status: 413, .. }) => return Ok(None),
            Err(failure) if failure.is_passing() => return Ok(Some((portion.to_vec(), failure.to_string()))),
            Err(failure) => return Err(failure.about(&index.name).into()),
        }
        let answered: Answered = answer.parsed()?;
        if answered.items.len() != portion.len() {
            let told = format!("{} outcomes of {} documents", answered.items.len(), portion.len());
            return Err(answer.incomplete(told).into());
        }
        let (mut again, mut reason) = (Vec::new(), String::new());
        let name = || index.name.clone();
        for (document, Item { index: outcome }) in portion.iter().zip(&answered.items) {
            match outcome.verdict() {
                Verdict::Taken => {}
                Verdict::Dropped => {
                    let (offset, reason) = (document.offset, outcome.reason());
                    return Err(Failure::Dropped { index: name(), offset, reason }.into());
                }
                Verdict::IndexGone => return Err(Failure::IndexGone { index: name() }.into()),
                Verdict::IndexClosed => return Err(Failure::IndexClosed { index: name() }.into()),
                Verdict::Again => {
                    again.push(document.clone());
                    reason = outcome.reason();
                }
                Verdict::Bare => {
                    let (offset, why) = (document.offset, outcome.reason());
                    tracing::warn!(index = index.name, offset, reason = why, "a row is kept without searched fields");
                    let refused = || BulkError::Refused { offset, reason: why.clone() };
                    again.push(document.bare().ok_or_else(refused)?);
                    reason = why;
                }
            }
        }
        Ok(Some((again, reason)))
    }
}

/// Documents in portions of so many bytes, or of one document.
fn portions(documents: &[Document], bytes_max: usize) -> Vec<&[Document]> {
    let (mut portions, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, document) in documents.iter().enumerate() {
        if at > start && bytes + document.text.len() > bytes_max {
            portions.push(&documents[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += document.text.len();
    }
    if start < documents.len() {
        portions.push(&documents[start..]);
    }
    portions
}

fn body(partition: &LogPartition, portion: &[Document]) -> Bytes {
    // all that is one id's own is its offset, which is digits
    let id = Value::from(document_id(partition, 0)).to_string();
    let before = id.strip_suffix("0\"").expect("an id ends with its offset");
    let room = before.len() + AFTER_ID.len() + 32;
    let mut body = Vec::with_capacity(portion.iter().map(|document| document.text.len() + room).sum());
    for document in portion {
        writeln!(body, "{{\"index\":{{\"_id\":{before}{}{AFTER_ID}", document.offset).expect("memory takes all bytes");
        body.extend_from_slice(&document.text);
        body.push(b'\n');
    }
    body.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_names_each_document_before_it() {
        let partition: LogPartition = "a \"topic\"/3".parse().unwrap();
        let body = body(&partition, &[0, 17].map(Document::filtered));
        let lines: Vec<Value> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(read).collect();
        // Over what is there, so that each copy has it when the answer comes: version 1 is not below that of any that is there.
        let line = |offset| {
            let id = document_id(&partition, offset);
            json!({"index": {"_id": id, "version": 1, "version_type": "external_gte"}})
        };
        assert_eq!(lines[0], line(0));
        assert_eq!(lines[1], json!({"offset": 0, "kind": "filtered"}));
        assert_eq!((&lines[2], &lines[3]["offset"]), (&line(17), &json!(17)));
        assert_eq!(lines.len(), 4);
    }

    fn read(line: &[u8]) -> Value {
        serde_json::from_slice(line).unwrap()
    }

    #[test]
    fn what_is_neither_created_nor_updated_is_not_there() {
        let text = r#"{"items": [
            {"index": {"result": "created", "status": 201}},
            {"index": {"result": "updated", "status": 200}},
            {"index": {"result": "noop", "status": 200}},
            {"index": {"result": "not_found", "status": 200}},
            {"index": {"status": 200}},
            {"index": {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "full"}}},
            {"index": {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse",
                "caused_by": {"type": "input_coercion_exception", "reason": "out of range"}}}}
        ]}"#;
        let Answered { items } = serde_json::from_str(text).unwrap();
        let found: Vec<(Verdict, String)> =
            items.iter().map(|Item { index }| (index.verdict(), index.reason())).collect();
        let wanted = [
            (Verdict::Taken, ""),
            (Verdict::Taken, ""),
            (Verdict::Dropped, "status 200 and `noop`, as where an ingest pipeline"),
            (Verdict::Dropped, "status 200 and no reason"),
            (Verdict::Dropped, "status 200 and no reason"),
            (Verdict::Again, "rejected_execution_exception: full"),
            (Verdict::Bare, "failed to parse: out of range"),
        ];
        assert_eq!(found.len(), wanted.len());
        for ((verdict, reason), (wanted, told)) in found.into_iter().zip(wanted) {
            assert_eq!(verdict, wanted, "{reason}");
            assert!(reason.contains(told), "{reason}, not {told}");
        }
    }

    #[test]
    fn an_outcome_says_what_to_do() {
        let (none, no_alias) =
            ("", "no write index is defined for alias [a]. The write index may be explicitly disabled");
        for (status, kind, reason, wanted) in [
            // Not even then is it known to be on every copy: somebody else has written it, under a version of his own.
            (409, "version_conflict_engine_exception", none, Verdict::Again),
            (429, "rejected_execution_exception", none, Verdict::Again),
            (429, "cluster_block_exception", none, Verdict::Again),
            (403, "cluster_block_exception", none, Verdict::Again),
            (503, "unavailable_shards_exception", none, Verdict::Again),
            (404, "index_not_found_exception", none, Verdict::IndexGone),
            (404, "shard_not_found_exception", none, Verdict::Again),
            (400, "index_closed_exception", "closed", Verdict::IndexClosed),
            (400, "illegal_argument_exception", no_alias, Verdict::Again),
            (400, "illegal_argument_exception", "Document contains at least one immense term", Verdict::Bare),
            (400, "mapper_parsing_exception", "failed to parse field [row.n]", Verdict::Bare),
            (400, "document_parsing_exception", none, Verdict::Bare),
            (400, "x_content_parse_exception", none, Verdict::Bare),
            (400, "strict_dynamic_mapping_exception", none, Verdict::Bare),
            (400, "routing_missing_exception", none, Verdict::Again),
            (413, "", none, Verdict::Bare),
        ] {
            assert_eq!(verdict(status, Done::Other, kind, reason), wanted, "{status} {kind} {reason}");
        }
    }
}
