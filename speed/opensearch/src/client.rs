//! Requests to a cluster: sent on the runtime that the adapter was made on, with a time limit, a bound on what is taken of an
//! answer, and a few attempts where the cluster says that it is busy. Each of them that ends is told of, whatever comes of it; one
//! that nobody waits for any more is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opensearch::auth::Credentials;
use opensearch::http::Method;
use opensearch::http::headers::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use opensearch::http::transport::{BuildError, SingleNodeConnectionPool, Transport, TransportBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemark_shared::backoff::{Attempts, Backoff};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::calls::{Call, CallOutcome, Calls};
use crate::failure::Failure;
use crate::url::OpenSearchUrl;

/// Most bytes of an answer that are taken, as far as it says how large it is: OpenSearch does. What a proxy sends on in chunks is
/// bounded by what was asked for, so many documents of so many bytes at most; the client takes it whole.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Pauses where the cluster is busy. Who waits longer is better told.
pub(crate) const BUSY: Backoff = Backoff {
    first: Duration::from_millis(50),
    pause_max: Duration::from_secs(1),
    attempts_max: 8,
    time_max: Duration::from_secs(5),
    attempts_min: 2,
};

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) request: String,
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The body, if the answer does not say no.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.accepted()?;
        self.parsed()
    }

    /// The body, whatever the status.
    pub(crate) fn parsed<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|source| Failure::Unreadable { request: self.request.clone(), source })
    }

    /// # Errors
    /// [`Failure::Refused`] if the answer says no.
    pub(crate) fn accepted(&self) -> Result<(), Failure> {
        if self.is_refusal() {
            return Err(Failure::refused(&self.request, self.status, &self.body));
        }
        Ok(())
    }

    /// True if the answer says no.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status >= 400
    }

    pub(crate) fn incomplete(&self, reason: impl Into<String>) -> Failure {
        Failure::Incomplete { request: self.request.clone(), reason: reason.into() }
    }
}

/// See the module's text. Without `Debug`: it knows the password.
pub(crate) struct Client {
    transport: Transport,
    /// Connections live on the runtime that made them. Statements are answered on threads that come and go.
    home: Handle,
    timeout: Duration,
    calls: Arc<dyn Calls>,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Json,
    /// One JSON text a line.
    Lines,
}

/// What becomes of a request where the cluster has no room in its memory for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// It is sent again, as where the cluster is busy: there may be room in a moment.
    Waits,
    /// It is told at once: whoever sent it asks for less.
    Told,
}

/// True if a request that was refused so may be sent again as it is.
fn is_sent_again(refused: &Failure, no_room: NoRoom) -> bool {
    refused.is_passing() && !(no_room == NoRoom::Told && refused.is_breaker())
}

impl Client {
    /// For the cluster at `url`. A request that takes longer than `timeout` fails; `calls` is told of each.
    pub(crate) fn new(url: &OpenSearchUrl, timeout: Duration, calls: Arc<dyn Calls>) -> Result<Self, BuildError> {
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url.url.clone())).timeout(timeout);
        if let Some((user, password)) = &url.credentials {
            builder = builder.auth(Credentials::Basic(user.clone(), password.clone()));
        }
        // Compressed answers do not say how large they are.
        builder = builder.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Self { transport: builder.build()?, home: Handle::current(), timeout, calls })
    }

    /// Where tasks that nobody waits for run.
    pub(crate) fn home(&self) -> &Handle {
        &self.home
    }

    /// Sends a request once, and tells what came of it, as a `call`.
    pub(crate) async fn once(
        &self,
        call: Call,
        method: Method,
        path: &str,
        content: Content,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let answer = self.answer(method, path, content, body).await;
        self.calls.ended(call, CallOutcome::of(&answer), begun.elapsed());
        answer
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        content: Content,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        // Without what comes after `?`: that is of no use to people.
        let shown = path.split_once('?').map_or(path, |(path, _)| path);
        let request = format!("{} /{shown}", method_name(method));
        let (transport, path, timeout) = (self.transport.clone(), path.to_owned(), self.timeout);
        let mut headers = HeaderMap::new();
        if content == Content::Lines {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        }
        let named = request.clone();
        let sending = self.home.spawn(async move {
            let unreachable = |source| Failure::Unreachable { request: named.clone(), source };
            let answer = transport.send(method, &path, headers, None::<&()>, body, Some(timeout)).await;
            let answer = answer.map_err(unreachable)?;
            let bytes = answer.content_length().unwrap_or(0);
            if bytes > ANSWER_BYTES_MAX {
                return Err(Failure::TooLarge { request: named.clone(), bytes, max: ANSWER_BYTES_MAX });
            }
            let status = answer.status_code().as_u16();
            let body = answer.text().await.map_err(unreachable)?;
            Ok(Answer { request: named, status, body })
        });
        match AbortOnDropHandle::new(sending).await {
            Ok(answer) => answer,
            Err(ended) => {
                let reason = format!("the request was cut off: {ended}");
                Err(Failure::Incomplete { request, reason })
            }
        }
    }

    /// Sends a request that may be sent twice, and again where the cluster is busy; each attempt is told of as a `call`.
    /// `random` spreads the pauses.
    pub(crate) async fn send(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<&Value>,
        no_room: NoRoom,
        random: u64,
    ) -> Result<Answer, Failure> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let mut attempts = Attempts::new(BUSY);
        let mut cut_off = false;
        loop {
            let answer = match self.once(call, method, path, Content::Json, body.clone()).await {
                // A connection that was kept may have been closed meanwhile; a new one shows whether anybody is there.
                Err(Failure::Unreachable { source, .. }) if !cut_off && !source.is_timeout() => {
                    cut_off = true;
                    continue;
                }
                answer => answer?,
            };
            let refused = answer.accepted().err();
            let Some(busy) = refused.filter(|refused| is_sent_again(refused, no_room)) else { return Ok(answer) };
            let random = random.rotate_left(attempts.failed() * 7);
            if !attempts.again(random).await {
                return Err(busy);
            }
        }
    }
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Put => "PUT",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Head => "HEAD",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_sent_again_unless_less_can_be_asked_for() {
        for (status, kind, waits, told) in [
            (429, "circuit_breaking_exception", true, false),
            (503, "circuit_breaking_exception", true, false),
            (429, "rejected_execution_exception", true, true),
            (503, "unavailable_shards_exception", true, true),
            (429, "cluster_block_exception", false, false),
            (404, "index_not_found_exception", false, false),
            (400, "parsing_exception", false, false),
        ] {
            let body = format!(r#"{{"error": {{"type": "{kind}"}}}}"#);
            let failure = Failure::refused("POST /i/_search", status, &body);
            let found = [NoRoom::Waits, NoRoom::Told].map(|no_room| is_sent_again(&failure, no_room));
            assert_eq!(found, [waits, told], "{status} {kind}");
        }
    }
}
