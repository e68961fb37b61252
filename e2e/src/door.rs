//! The HTTP door of a running `tidemark up`, whoever started it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::server::ServerError;

/// What a server answered, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers by lower-case name, as far as they are text.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub text: String,
}

impl Reply {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Status and code of a problem document.
    #[must_use]
    pub fn problem(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// A door that can be asked.
pub struct Door {
    /// Its address: `http://127.0.0.1:40001`.
    pub url: String,
    token: Option<String>,
    agent: ureq::Agent,
}

impl Door {
    /// The door at `url`; `token` is shown to it where it asks for one.
    #[must_use]
    pub fn at(url: String, token: Option<String>) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = config.timeout_global(Some(Duration::from_secs(120))).build().into();
        Self { url, token, agent }
    }

    fn with_token<Any>(&self, request: ureq::RequestBuilder<Any>) -> ureq::RequestBuilder<Any> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// [`ServerError::Asked`], [`ServerError::Busy`].
    pub fn get(&self, path: &str) -> Result<Value, ServerError> {
        read(self.with_token(self.agent.get(format!("{}{path}", self.url))).call())
    }

    /// Sends one request, with no other headers than these, and gives back whatever comes.
    ///
    /// # Errors
    /// [`ServerError::Asked`] if nothing, or no whole answer, comes.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Reply, ServerError> {
        let asked = |error: &dyn fmt::Display| ServerError::Asked(format!("{method} {path}: {error}"));
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| asked(&error))?;
        let mut answer = self.agent.run(request).map_err(|error| asked(&error))?;
        let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let (status, headers) = (answer.status().as_u16(), answer.headers().iter().filter_map(header).collect());
        let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().map_err(|error| asked(&error))?;
        Ok(Reply { status, headers, text })
    }

    /// Asks `POST /v1/sql` with a whole request document.
    ///
    /// # Errors
    /// [`ServerError::Asked`]; a refusal is a fine answer.
    pub fn query(&self, document: &Value) -> Result<Reply, ServerError> {
        self.ask("POST", "/v1/sql", &[("content-type", "application/json")], document.to_string().as_bytes())
    }

    /// Answers a statement.
    ///
    /// # Errors
    /// [`ServerError::Asked`], [`ServerError::Busy`].
    pub fn sql(&self, statement: &str) -> Result<Value, ServerError> {
        let body = serde_json::json!({ "sql": statement }).to_string();
        let request = self.with_token(self.agent.post(format!("{}/v1/sql", self.url)));
        read(request.header("content-type", "application/json").send(body.as_bytes()))
    }

    /// Appends records, one JSON object a line.
    ///
    /// # Errors
    /// [`ServerError::Asked`], [`ServerError::Busy`].
    pub fn produce(&self, dataset: &str, lines: &[u8]) -> Result<Value, ServerError> {
        let request = self.with_token(self.agent.post(format!("{}/v1/datasets/{dataset}/records", self.url)));
        read(request.header("content-type", "application/x-ndjson").send(lines))
    }
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, ServerError> {
    let asked = |error: ureq::Error| ServerError::Asked(error.to_string());
    let mut answer = answer.map_err(asked)?;
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().map_err(asked)?;
    match status.as_u16() {
        200..300 => {}
        429 | 503 => return Err(ServerError::Busy(format!("{status}: {text}"))),
        _ => return Err(ServerError::Asked(format!("{status}: {text}"))),
    }
    serde_json::from_str(&text).map_err(|error| ServerError::Asked(format!("no JSON: {error}: {text}")))
}
