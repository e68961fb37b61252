//! A handle on a running `tidemark up`: started, asked over HTTP, stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::platform::Tidemark;

/// How long a server may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long it may take to drain.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Why a server could not be started or asked.
#[derive(Debug)]
pub enum ServerError {
    /// It could not be started.
    Start(io::Error),
    /// It ended, or is not ready in time; the end of its log.
    NotReady(String),
    /// It refused or can't be reached.
    Asked(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "tidemark up could not be started: {error}"),
            Self::NotReady(log) => write!(f, "tidemark up is not ready: {log}"),
            Self::Asked(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ServerError {}

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

/// A running server; dropping it kills the process.
pub struct Server {
    child: Child,
    log: PathBuf,
    /// Its address: `http://127.0.0.1:40001`.
    pub url: String,
    agent: ureq::Agent,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts `tidemark up` with a free port and more `flags`, and waits until it is ready.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(tidemark: &Tidemark, flags: &[&str]) -> Result<Self, ServerError> {
        let log = tidemark.data_dir().join("up.log");
        fs::create_dir_all(tidemark.data_dir()).map_err(ServerError::Start)?;
        let output = fs::File::create(&log).map_err(ServerError::Start)?;
        let mut arguments = vec!["up", "--http", "127.0.0.1:0"];
        arguments.extend(flags);
        let mut command = tidemark.command(&arguments);
        command.stdout(Stdio::piped()).stderr(output.try_clone().map_err(ServerError::Start)?).stdin(Stdio::null());
        let mut child = command.spawn().map_err(ServerError::Start)?;
        let ready = lines_until_ready(child.stdout.take(), output);
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = config.timeout_global(Some(Duration::from_secs(120))).build().into();
        let mut server = Self { child, log, url: String::new(), agent };
        match ready.recv_timeout(READY_MAX) {
            Ok(url) => server.url = url,
            Err(_) => return Err(ServerError::NotReady(fs::read_to_string(&server.log).unwrap_or_default())),
        }
        Ok(server)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// [`ServerError::Asked`].
    pub fn get(&self, path: &str) -> Result<Value, ServerError> {
        read(self.agent.get(format!("{}{path}", self.url)).call())
    }

    /// Sends one request and gives back whatever comes.
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
    /// [`ServerError::Asked`].
    pub fn sql(&self, statement: &str) -> Result<Value, ServerError> {
        let body = serde_json::json!({ "sql": statement }).to_string();
        let request = self.agent.post(format!("{}/v1/sql", self.url)).header("content-type", "application/json");
        read(request.send(body.as_bytes()))
    }

    /// Appends records, one JSON object a line.
    ///
    /// # Errors
    /// [`ServerError::Asked`].
    pub fn produce(&self, dataset: &str, lines: &[u8]) -> Result<Value, ServerError> {
        let request = self.agent.post(format!("{}/v1/datasets/{dataset}/records", self.url));
        read(request.header("content-type", "application/x-ndjson").send(lines))
    }

    /// Sends the process a signal: `TERM`, `INT`, `STOP`.
    ///
    /// # Errors
    /// [`ServerError::Start`] if `kill` can't be run.
    pub fn signal(&self, name: &str) -> Result<(), ServerError> {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
        sent.map(drop).map_err(ServerError::Start)
    }

    /// Ends the process at once, as a crash would.
    ///
    /// # Errors
    /// [`ServerError::Start`] if it can't be waited for.
    pub fn kill(mut self) -> Result<(), ServerError> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(ServerError::Start)
    }

    /// Asks the process to drain, and waits for its end; its exit code.
    ///
    /// # Errors
    /// [`ServerError::NotReady`] if it does not end in time.
    pub fn stop(self) -> Result<Option<i32>, ServerError> {
        self.signal("TERM")?;
        self.ended()
    }

    /// Waits for the end of a process that was told to stop; its exit code.
    ///
    /// # Errors
    /// [`ServerError::NotReady`] if it does not end in time.
    pub fn ended(mut self) -> Result<Option<i32>, ServerError> {
        let pid = self.child.id().to_string();
        let (sender, ended) = mpsc::channel();
        let Self { child, .. } = &mut self;
        thread::scope(|scope| {
            let _waiting = scope.spawn(|| {
                // Whoever asked may have given up; the scope waits all the same.
                drop(sender.send(child.wait().map(|status| status.code())));
            });
            match ended.recv_timeout(STOP_MAX) {
                Ok(code) => code.map_err(ServerError::Start),
                Err(_) => {
                    drop(std::process::Command::new("kill").args(["-KILL", &pid]).status());
                    Err(ServerError::NotReady("it does not end".to_owned()))
                }
            }
        })
    }
}

/// Keeps what a process prints in its log, and tells its address once it says that it is ready.
fn lines_until_ready(output: Option<ChildStdout>, mut log: fs::File) -> mpsc::Receiver<String> {
    let (sender, ready) = mpsc::channel();
    let _reader = thread::spawn(move || {
        for line in BufReader::new(output.into_iter().next()?).lines() {
            let line = line.ok()?;
            writeln!(log, "{line}").ok()?;
            if let Some(url) = line.strip_prefix("ready: ").and_then(|rest| rest.split(' ').next()) {
                // Nobody waits any more.
                drop(sender.send(url.to_owned()));
            }
        }
        Some(())
    });
    ready
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, ServerError> {
    let asked = |error: ureq::Error| ServerError::Asked(error.to_string());
    let mut answer = answer.map_err(asked)?;
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().map_err(asked)?;
    if !status.is_success() {
        return Err(ServerError::Asked(format!("{status}: {text}")));
    }
    serde_json::from_str(&text).map_err(|error| ServerError::Asked(format!("no JSON: {error}: {text}")))
}
