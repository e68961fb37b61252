//! Asks a running `tidemark up` over its HTTP door.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tidemark_shared::error::{ErrorKind, Kind};
use tidemark_shared::secrets::shown_url;

use crate::context::Context;
use crate::endpoints::Endpoints;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a server may send nothing: as long as the longest statement that it answers.
const SILENCE_MAX: Duration = Duration::from_secs(700);
/// How long a server that takes its time is waited for before that is said.
const PATIENCE: Duration = Duration::from_secs(7);
/// Environment variable of the server's address, where `--server` names none.
pub const SERVER_VARIABLE: &str = "TIDEMARK_SERVER";
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
    /// It can't be reached, or the connection broke before an answer began.
    #[error("{url} can't be reached")]
    Unreachable {
        /// Its address, as people may see it.
        url: String,
        /// Why, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// Its answer began, and the rest of it never came.
    #[error("{url} broke off its answer")]
    BrokeOff {
        /// Its address, as people may see it.
        url: String,
        /// Why, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// It is there, and says nothing.
    #[error("{server} takes connections, and gave no answer to {asked} within {} s", within.as_secs())]
    Silent {
        /// Its address, and its process where that is known.
        server: String,
        /// What it was asked: `GET /v1/status`.
        asked: String,
        /// How long it was waited for.
        within: Duration,
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
        /// What was given, without what may be secret in it.
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
            Self::Unreachable { .. } | Self::BrokeOff { .. } | Self::Silent { .. } => Kind::Retryable,
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
            Self::NotRunning { .. } => {
                Some(format!("start it with `tidemark up`, or name one with --server URL or {SERVER_VARIABLE}"))
            }
            Self::Silent { .. } => Some("it is stopped, overloaded, or no `tidemark up`: see what it does".to_owned()),
            Self::Unreachable { .. } => Some("see whether `tidemark up` still runs there".to_owned()),
            Self::BrokeOff { .. } => {
                Some("ask again; its log says why, unless it was the connection that broke".to_owned())
            }
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
    /// Where it comes from, as people may see it.
    shown: String,
    answer: Response,
}

impl Given {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`ClientError::BrokeOff`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.answer.chunk().await.map_err(|error| broke_off(&self.shown, error))
    }
}

/// A server's HTTP door.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
    /// The same, as people may see it.
    shown: String,
    /// Its process, where the data directory tells it.
    pid: Option<u32>,
    token: Option<String>,
    http: Client,
    /// Says nothing of waiting.
    quiet: bool,
}

impl Server {
    /// The server at `url`, else the one that [`SERVER_VARIABLE`] names, else the one that runs on the data directory; `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if no client can be made.
    pub fn find(url: Option<&str>, context: &Context) -> Result<Option<Self>, ClientError> {
        let running = Endpoints::find(&context.config.data_dir);
        let of_environment = std::env::var(SERVER_VARIABLE).ok();
        let Some(url) = address(url, of_environment.as_deref(), running.as_ref()) else { return Ok(None) };
        let pid = running.filter(|running| running.http == url).map(|running| running.pid);
        let shown = shown_url(&url);
        let bad = |reason: String| ClientError::BadUrl { url: shown.clone(), reason };
        let parsed = reqwest::Url::parse(&url).map_err(|error| bad(error.to_string()))?;
        if parsed.scheme() != "http" || !parsed.has_host() {
            return Err(bad("it does not begin with http://".to_owned()));
        }
        // A proxy would be asked for the loopback address. An answer may take its time, but not fall silent.
        let http = Client::builder().no_proxy().connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX).build();
        let http = http.map_err(|error| unreachable(&shown, error))?;
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        Ok(Some(Self { url, shown, pid, token, http, quiet: context.quiet }))
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

    /// Its address, as people may see it.
    #[must_use]
    pub fn shown_url(&self) -> &str {
        &self.shown
    }

    /// Gets a JSON document that is made at once: whoever has none `within` this time does not answer.
    ///
    /// # Errors
    /// [`ClientError`], [`ClientError::Silent`] among them.
    pub async fn get_within(&self, path: &str, within: Duration) -> Result<Value, ClientError> {
        tokio::time::timeout(within, self.get(path))
            .await
            .unwrap_or_else(|_| Err(ClientError::Silent { server: self.name(), asked: format!("GET {path}"), within }))
    }

    /// Its address, and its process where that is known.
    fn name(&self) -> String {
        named(&self.shown, self.pid)
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
        let body = answer.bytes().await.map_err(|error| broke_off(&self.shown, error))?;
        serde_json::from_slice(&body).map_err(|error| self.not_understood(&error))
    }

    fn not_understood(&self, error: &dyn std::error::Error) -> ClientError {
        ClientError::NotUnderstood { url: self.shown.clone(), reason: error.to_string() }
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
        Ok(Given { as_of, shown: self.shown.clone(), answer })
    }

    /// Sends a request; its answer's head has come, and is no refusal.
    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response, ClientError> {
        let asked = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let says = || {
            if !self.quiet {
                let line = format!("waiting for {} to answer {asked}", self.name());
                // Nobody can be told that standard error is closed.
                drop(writeln!(std::io::stderr(), "{line}"));
            }
        };
        let answer = patiently(PATIENCE, request.send(), says).await.map_err(|error| match error.is_builder() {
            true => ClientError::BadToken,
            false => unreachable(&self.shown, error),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = answer.bytes().await.map_err(|error| broke_off(&self.shown, error))?;
        Err(refused(status, retry_after, &body))
    }
}

/// The address to ask at: as it is given, else as the environment names it, else that of the process that runs.
fn address(given: Option<&str>, of_environment: Option<&str>, running: Option<&Endpoints>) -> Option<String> {
    let of_environment = of_environment.filter(|url| !url.is_empty());
    let url = given.or(of_environment).or_else(|| running.map(|running| running.http.as_str()))?;
    Some(url.trim_end_matches('/').to_owned())
}

/// A failure on the way to the server at the address `shown`, which the client's own words would repeat with all that is in it.
fn unreachable(shown: &str, error: reqwest::Error) -> ClientError {
    ClientError::Unreachable { url: shown.to_owned(), source: error.without_url() }
}

/// An answer of the server at the address `shown` that has no end.
fn broke_off(shown: &str, error: reqwest::Error) -> ClientError {
    ClientError::BrokeOff { url: shown.to_owned(), source: error.without_url() }
}

fn named(url: &str, pid: Option<u32>) -> String {
    pid.map_or_else(|| url.to_owned(), |pid| format!("{url} (pid {pid})"))
}

/// What `work` yields; where that takes longer than `patience`, `says` so once.
async fn patiently<T>(patience: Duration, work: impl Future<Output = T>, says: impl FnOnce()) -> T {
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(patience, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            says();
            work.await
        }
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

#[cfg(test)]
impl Server {
    /// The server at `url`, asked without a token.
    pub(crate) fn at(url: &str) -> Self {
        let http = Client::builder().no_proxy().build().expect("a client");
        Self { url: url.to_owned(), shown: url.to_owned(), pid: Some(7), token: None, http, quiet: true }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_shared::error::chain;

    use super::*;

    #[test]
    fn an_address_that_is_given_counts_before_the_environment_and_that_before_the_process_that_runs() {
        let running = Endpoints { pid: 7, http: "http://127.0.0.1:3".to_owned(), directory: String::new() };
        for (given, of_environment, running, wanted) in [
            (Some("http://a:1/"), Some("http://b:2"), Some(&running), Some("http://a:1")),
            (None, Some("http://b:2"), Some(&running), Some("http://b:2")),
            (None, Some(""), Some(&running), Some("http://127.0.0.1:3")),
            (None, None, Some(&running), Some("http://127.0.0.1:3")),
            (None, None, None, None),
        ] {
            assert_eq!(address(given, of_environment, running).as_deref(), wanted, "{given:?} {of_environment:?}");
        }
    }

    #[tokio::test]
    async fn waiting_is_said_once_it_takes_long() {
        let at_once = patiently(PATIENCE, std::future::ready(7), || panic!("it did not take long")).await;
        assert_eq!(at_once, 7);
        // It does not end before it is said that it takes long.
        let (say, said) = tokio::sync::oneshot::channel();
        let done = patiently(Duration::from_millis(1), said, || say.send(7).expect("it is waited for")).await;
        assert_eq!(done, Ok(7));
    }

    #[tokio::test]
    async fn who_takes_connections_and_says_nothing_is_named() {
        // The system takes connections for it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = Server::at(&url);
        let error = server.get_within("/v1/status", Duration::from_millis(50)).await.expect_err("nobody answers");
        let begin = format!("{url} (pid 7) takes connections, and gave no answer to GET /v1/status within ");
        assert!(matches!(error, ClientError::Silent { .. }) && chain(&error).starts_with(&begin), "{error}");
    }
}
