//! Asks a running `tidemark up` over its HTTP door.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tidemark_shared::error::{ErrorKind, Kind};

use crate::context::Context;
use crate::endpoints::Endpoints;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a server may send nothing: as long as the longest statement that it answers.
const SILENCE_MAX: Duration = Duration::from_secs(700);
/// Environment variable of the bearer token.
pub const TOKEN_VARIABLE: &str = "TIDEMARK_TOKEN";

/// Why a server could not be asked, or what it answered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody runs.
    #[error("no `tidemark up` runs on {data_dir}")]
    NotRunning {
        /// The data directory that was looked at.
        data_dir: String,
    },
    /// It can't be reached, or the connection broke.
    #[error("{url} can't be reached")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's stable code.
        code: String,
        /// What it says.
        message: String,
        /// What to do, where it says so.
        hint: Option<String>,
        /// Seconds after which to try again, where it says so.
        retry_after_s: Option<u64>,
    },
    /// It answered something else than it should.
    #[error("{url} gave no answer that this release understands: {reason}")]
    NotUnderstood {
        /// Its address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address is none.
    #[error("`{url}` is no address of a server: {reason}")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token is no header.
    #[error("the token in {TOKEN_VARIABLE} can't be sent")]
    BadToken,
}

impl ErrorKind for ClientError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotRunning { .. } | Self::BadUrl { .. } | Self::BadToken => Kind::Invalid,
            Self::Unreachable { .. } => Kind::Retryable,
            Self::Refused { status, .. } => match *status {
                404 => Kind::NotFound,
                409 | 410 | 412 => Kind::Conflict,
                408 | 429 | 503 | 504 => Kind::Retryable,
                // A limit, or values that allow no answer: the request itself is in order.
                422 => Kind::Unprocessable,
                400..500 => Kind::Invalid,
                _ => Kind::Internal,
            },
            Self::NotUnderstood { .. } => Kind::Unsupported,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => Some("start it with `tidemark up`, or name one with --server URL".to_owned()),
            Self::Unreachable { .. } => Some("see whether `tidemark up` still runs there".to_owned()),
            Self::Refused { status: 401, .. } => Some(format!("put a token of its tokens file into {TOKEN_VARIABLE}")),
            Self::Refused { hint, .. } => hint.clone(),
            Self::BadUrl { .. } => Some("write it like http://127.0.0.1:8410".to_owned()),
            Self::NotUnderstood { .. } | Self::BadToken => None,
        }
    }
}

/// How long a server that is not there is waited for: `tidemark up &` and the next command begin together.
const START_MAX: Duration = Duration::from_secs(3);
const START_LOOK: Duration = Duration::from_millis(50);

/// What a server gives.
#[derive(Debug)]
pub struct Given {
    /// What the answer covers, as JSON, where a header says so.
    pub as_of: Option<String>,
    url: String,
    answer: Response,
}

impl Given {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]: the answer broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.answer.chunk().await.map_err(|source| ClientError::Unreachable { url: self.url.clone(), source })
    }
}

/// A server's HTTP door.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
    token: Option<String>,
    http: Client,
}

impl Server {
    /// The server at `url`, else the one that runs on the data directory; `None` if there is none.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if no client can be made.
    pub fn find(url: Option<&str>, context: &Context) -> Result<Option<Self>, ClientError> {
        let running = || Endpoints::find(&context.config.data_dir).map(|found| found.http);
        let Some(url) = url.map(str::to_owned).or_else(running) else { return Ok(None) };
        let url = url.trim_end_matches('/').to_owned();
        let bad = |reason: String| ClientError::BadUrl { url: url.clone(), reason };
        let parsed = reqwest::Url::parse(&url).map_err(|error| bad(error.to_string()))?;
        if parsed.scheme() != "http" || !parsed.has_host() {
            return Err(bad("it does not begin with http://".to_owned()));
        }
        // A proxy would be asked for the loopback address. An answer may take its time, but not fall silent.
        let http = Client::builder().no_proxy().connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX).build();
        let http = http.map_err(|source| ClientError::Unreachable { url: url.clone(), source })?;
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        Ok(Some(Self { url, token, http }))
    }

    /// As [`Self::find`]; one that is about to start is waited for, and that there is none is an error.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`].
    pub async fn need(url: Option<&str>, context: &Context) -> Result<Self, ClientError> {
        let begun = tokio::time::Instant::now();
        // Nothing tells when the file appears.
        let mut looks = tokio::time::interval(START_LOOK);
        loop {
            let _now = looks.tick().await;
            if let Some(found) = Self::find(url, context)? {
                return Ok(found);
            }
            let data_dir = &context.config.data_dir;
            if begun.elapsed() > START_MAX || !data_dir.is_dir() {
                return Err(ClientError::NotRunning { data_dir: data_dir.display().to_string() });
            }
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask(Method::GET, path, &[], Vec::new()).await
    }

    /// Posts a body and gets a JSON document.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Value, ClientError> {
        self.ask(Method::POST, path, headers, body).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Value, ClientError> {
        let answer = self.open(method, path, headers, body).await?;
        let body = answer.bytes().await.map_err(|source| ClientError::Unreachable { url: self.url.clone(), source })?;
        serde_json::from_slice(&body).map_err(|error| self.not_understood(&error))
    }

    fn not_understood(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::NotUnderstood { url: self.url.clone(), reason: error.to_string() }
    }

    /// Posts a body and gets whatever comes, as it comes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post_for_stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Given, ClientError> {
        let answer = self.open(Method::POST, path, headers, body).await?;
        let as_of = answer.headers().get("tidemark-as-of").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Given { as_of, url: self.url.clone(), answer })
    }

    /// Sends a request; its answer's head has come, and is no refusal.
    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.url.clone(), source };
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| match error.is_builder() {
            true => ClientError::BadToken,
            false => unreachable(error),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Err(refused(status, retry_after, &answer.bytes().await.map_err(unreachable)?))
    }
}

/// An RFC 9457 problem document as an error.
fn refused(status: StatusCode, retry_after_s: Option<u64>, bytes: &[u8]) -> ClientError {
    let problem: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    ClientError::Refused {
        status: status.as_u16(),
        code: text("code").unwrap_or_else(|| status.as_u16().to_string()),
        message: text("detail").or_else(|| text("title")).unwrap_or_else(|| status.to_string()),
        hint: text("hint"),
        retry_after_s,
    }
}
