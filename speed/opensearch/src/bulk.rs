//! Documents into an index: portions by their bytes, some of them under way at once, an outcome for each document, another
//! attempt for those that the cluster had no room for.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::position::LogPartition;
use tidemark_shared::telemetry::{SPANS, number};
use tracing::{Instrument as _, info_span};

use crate::calls::Call;
use crate::client::Content;
use crate::cluster::Cluster;
use crate::document::{Document, document_id, push_number};
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

/// Portions of a batch that are under way at once: while the cluster makes one durable, it works on another.
const PORTIONS_AT_ONCE: usize = 2;

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
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    create: Outcome,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Reason,
}

#[derive(Debug, Default, Deserialize)]
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

/// What came of documents that were sent once.
#[derive(Debug, Default)]
struct Sent {
    /// Bytes that went out.
    bytes: u64,
    /// Documents that are to be sent again.
    again: Vec<Document>,
    /// What one of them was refused for.
    reason: String,
    /// More of them were sent by one request than the cluster takes at once.
    is_too_large: bool,
}

impl Sent {
    /// Together with what came of others.
    fn and(mut self, other: Self) -> Self {
        self.bytes += other.bytes;
        self.again.extend(other.again);
        if !other.reason.is_empty() {
            self.reason = other.reason;
        }
        self.is_too_large |= other.is_too_large;
        self
    }
}

/// What to do about a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there.
    Taken,
    /// Send it again.
    Again,
    /// Send it without its searched fields.
    Bare,
    /// The index is gone.
    Lost,
}

/// The verdict on an outcome, in the words of HTTP.
pub(crate) fn verdict(status: u16, kind: &str) -> Verdict {
    match status {
        200..=299 => Verdict::Taken,
        // Written before: a document is known by its id, and what it says never differs (H3).
        409 => Verdict::Taken,
        404 if is_missing_index(kind) => Verdict::Lost,
        400 | 404 | 413 => Verdict::Bare,
        // busy, failing, or read-only for want of disk
        _ => Verdict::Again,
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
        let (mut bytes, mut bytes_max) = (0, self.settings.bulk_bytes_max.max(1));
        let mut attempts = Attempts::new(REFUSED);
        loop {
            let sent = self.write_once(index, partition, &documents, bytes_max).await?;
            bytes += sent.bytes;
            if sent.again.is_empty() {
                return Ok(bytes);
            }
            if sent.is_too_large {
                bytes_max = (bytes_max / 2).max(1);
            }
            let count = sent.again.len();
            documents = sent.again;
            if !attempts.again(self.ambient.random()).await {
                return Err(Failure::NotTaken { count, index: index.name.clone(), reason: sent.reason }.into());
            }
        }
    }

    /// Sends each document once, a few portions at a time. In which order they arrive means nothing: a document is known by its
    /// id, and nothing is searched before all are there. After a failure no more are begun, and those under way are waited for:
    /// they count as requests, too, and what they still do is done before anybody goes on.
    async fn write_once(
        &self,
        index: &IndexRef,
        partition: &LogPartition,
        documents: &[Document],
        bytes_max: usize,
    ) -> Result<Sent, BulkError> {
        let mut waiting = portions(documents, bytes_max).into_iter();
        let (mut under_way, mut sent, mut failed) = (FuturesUnordered::new(), Sent::default(), None);
        loop {
            // A body is made when its turn comes: only so many are in memory.
            while failed.is_none()
                && under_way.len() < PORTIONS_AT_ONCE
                && let Some(portion) = waiting.next()
            {
                under_way.push(self.write_portion(index, portion, body(partition, portion)));
            }
            match under_way.next().await {
                Some(Ok(outcome)) => sent = sent.and(outcome),
                Some(Err(error)) => failed = failed.or(Some(error)),
                None => return failed.map_or(Ok(sent), Err),
            }
        }
    }

    /// Sends a portion by one request.
    async fn write_portion(&self, index: &IndexRef, portion: &[Document], body: Bytes) -> Result<Sent, BulkError> {
        let mut sent = Sent { bytes: body.len() as u64, ..Sent::default() };
        let wanted = "errors,items.create.status,items.create.error";
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
        let lost = || Failure::Lost { index: index.name.clone() };
        match answer.accepted() {
            Ok(()) => {}
            Err(failure) if failure.is_missing() => return Err(lost().into()),
            Err(Failure::Refused { status: 413, reason, .. }) if portion.len() == 1 => {
                return Err(BulkError::Refused { offset: portion[0].offset, reason });
            }
            Err(failure @ Failure::Refused { status: 413, .. }) => {
                return Ok(Sent { again: portion.to_vec(), reason: failure.to_string(), is_too_large: true, ..sent });
            }
            Err(failure) if failure.is_passing() => {
                return Ok(Sent { again: portion.to_vec(), reason: failure.to_string(), ..sent });
            }
            Err(failure) => return Err(failure.into()),
        }
        let answered: Answered = answer.parsed()?;
        if answered.items.len() != portion.len() {
            let told = format!("{} outcomes of {} documents", answered.items.len(), portion.len());
            return Err(answer.incomplete(told).into());
        }
        if !answered.errors {
            return Ok(sent);
        }
        for (document, item) in portion.iter().zip(&answered.items) {
            let outcome = &item.create;
            match verdict(outcome.status, &outcome.error.kind) {
                Verdict::Taken => {}
                Verdict::Lost => return Err(lost().into()),
                Verdict::Again => {
                    sent.again.push(document.clone());
                    sent.reason = outcome.error.text();
                }
                Verdict::Bare => {
                    let (offset, why) = (document.offset, outcome.error.text());
                    tracing::warn!(index = index.name, offset, reason = why, "a row is kept without searched fields");
                    let refused = || BulkError::Refused { offset, reason: why.clone() };
                    sent.again.push(document.bare().ok_or_else(refused)?);
                    sent.reason = why;
                }
            }
        }
        Ok(sent)
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
    let first = json!({"create": {"_id": document_id(partition, 0)}}).to_string();
    let before = first.strip_suffix("0\"}}").expect("an id ends with its offset");
    let room = before.len() + 32;
    let mut body = Vec::with_capacity(portion.iter().map(|document| document.text.len() + room).sum());
    for document in portion {
        body.extend_from_slice(before.as_bytes());
        push_number(document.offset, &mut body);
        body.extend_from_slice(b"\"}}\n");
        body.extend_from_slice(&document.text);
        body.push(b'\n');
    }
    body.into()
}

#[cfg(test)]
mod tests;
