//! A point in time of an index: it stays as it was for as long as somebody reads, so that its identity is compared once, after the
//! point was opened, and not after each request (H6). One that has ended, as when a reader was slow, is followed by another: rows
//! below the visible position are the same in it.
//!
//! It saves requests and is needed for nothing else. A node has so many of them at once (`search.max_open_pit_context`), for all who
//! search: where there is no room for another, the index is read as it is, and compared after each request.

use std::sync::Arc;

use opensearch::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidemark_shared::error::chain;
use tokio::sync::Mutex;

use crate::calls::Call;
use crate::client::{Answer, Content, NoRoom};
use crate::cluster::Cluster;
use crate::counts::check_complete;
use crate::failure::Failure;
use crate::state::IndexRef;

/// How long a point in time outlives the last request on it.
const KEEP_ALIVE: &str = "2m";
/// Points in time after the first that a request tries.
const REOPENED_MAX: u32 = 3;

/// See the module's text. Opened when it is first needed; dropping it lets it go.
pub(crate) struct PointInTime {
    cluster: Arc<Cluster>,
    index: IndexRef,
    held: Mutex<Held>,
}

/// What there is of it.
#[derive(Debug, Default)]
enum Held {
    /// Nobody has asked for it yet, or it has ended.
    #[default]
    Nothing,
    /// Its id.
    Open(String),
    /// There is none to be had.
    Refused,
}

#[derive(Debug, Deserialize)]
struct Opened {
    pit_id: String,
}

impl PointInTime {
    pub(crate) fn new(cluster: Arc<Cluster>, index: IndexRef) -> Self {
        Self { cluster, index, held: Mutex::default() }
    }

    /// Searches the index. `no_room` says what becomes of it where the cluster has no room for the answer.
    pub(crate) async fn search(&self, mut body: Value, no_room: NoRoom) -> Result<Answer, Failure> {
        let mut ended: Option<String> = None;
        let mut reopened = 0;
        loop {
            let Some(id) = self.opened(ended.as_deref()).await? else { break };
            body["pit"] = json!({"id": id, "keep_alive": KEEP_ALIVE});
            let path = "_search?allow_partial_search_results=false";
            let answer = self.cluster.send_with(Call::Search, Method::Post, path, Some(&body), no_room).await?;
            match check_complete(&answer) {
                // It has ended, or its index is gone: who opens another is told of that.
                Err(Failure::Refused { status: 404, .. }) if reopened < REOPENED_MAX => {
                    reopened += 1;
                    ended = Some(id);
                }
                checked => return checked.map(|()| answer),
            }
        }
        if let Some(fields) = body.as_object_mut() {
            fields.remove("pit");
        }
        self.cluster.search(Call::Search, std::slice::from_ref(&self.index), &body, no_room).await
    }

    /// Its id. It is opened if there is none yet, or only `ended`. `None` if there is none to be had.
    async fn opened(&self, ended: Option<&str>) -> Result<Option<String>, Failure> {
        let mut held = self.held.lock().await;
        match &*held {
            Held::Refused => return Ok(None),
            Held::Open(id) if Some(id.as_str()) != ended => return Ok(Some(id.clone())),
            Held::Open(_) | Held::Nothing => {}
        }
        *held = Held::Nothing;
        let id = self.open().await?;
        *held = id.clone().map_or(Held::Refused, Held::Open);
        Ok(id)
    }

    /// Opens one, and compares the index that it is of. `None` if there is none to be had.
    async fn open(&self) -> Result<Option<String>, Failure> {
        let path = format!(
            "{}/_search/point_in_time?keep_alive={KEEP_ALIVE}&allow_partial_pit_creation=false",
            self.index.alias
        );
        // Once: who is told no reads on without it, and waits for nothing.
        let answer = self.cluster.client.once(Call::Other, Method::Post, &path, Content::Json, None).await;
        let opened: Result<Opened, Failure> = answer.and_then(|answer| answer.read());
        let Opened { pit_id } = match opened.map_err(|failure| failure.about(&self.index.name)) {
            Err(failure) if is_read_without(&failure) => {
                tracing::debug!(
                    index = self.index.name,
                    error = %chain(&failure),
                    "there is no point in time; the index is compared after each request"
                );
                return Ok(None);
            }
            read => read?,
        };
        match self.cluster.check_identity(std::slice::from_ref(&self.index)).await {
            Ok(()) => Ok(Some(pit_id)),
            Err(failure) => {
                close(&self.cluster, pit_id).await;
                Err(failure)
            }
        }
    }
}

/// True if an index can be read without the point in time that there was no answer of, or a no. What keeps one from that, too, is
/// told by whoever tries. One that has taken all the time that a request has is not waited for twice.
fn is_read_without(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { .. } => !failure.is_missing(),
        Failure::Unreachable { source, .. } => !source.is_timeout(),
        _ => false,
    }
}

/// Lets a point in time go; if that fails, it goes by itself.
async fn close(cluster: &Cluster, id: String) {
    let body = json!({"pit_id": [id]});
    if let Err(failure) = cluster.send(Call::Other, Method::Delete, "_search/point_in_time", Some(&body)).await {
        tracing::debug!(error = %chain(&failure), "a point in time ends by itself");
    }
}

impl Drop for PointInTime {
    fn drop(&mut self) {
        let Held::Open(id) = std::mem::take(self.held.get_mut()) else { return };
        let cluster = Arc::clone(&self.cluster);
        drop(self.cluster.client.home().spawn(async move { close(&cluster, id).await }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_without_a_point_that_is_refused_unless_it_is_gone() {
        let search = |kind: &str| {
            let cause = format!(r#"{{"type": "{kind}", "reason": "no"}}"#);
            format!(r#"{{"error": {{"root_cause": [{cause}], "type": "search_phase_execution_exception"}}}}"#)
        };
        for (status, kind, wanted) in [
            // `search.max_open_pit_context`
            (429, "rejected_execution_exception", true),
            (429, "circuit_breaking_exception", true),
            (503, "no_shard_available_action_exception", true),
            // `point_in_time.max_keep_alive`
            (400, "illegal_argument_exception", true),
            (403, "security_exception", true),
            (404, "index_not_found_exception", false),
        ] {
            let failure = Failure::refused("POST /i.1/_search/point_in_time", status, &search(kind));
            assert_eq!(is_read_without(&failure), wanted, "{status} {kind}");
        }
        let cut_off = Failure::Incomplete { request: "POST /i.1".to_owned(), reason: "cut off".to_owned() };
        assert!(!is_read_without(&cut_off));
    }
}
