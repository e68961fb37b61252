//! A handle on a running `tidemark up`: started, asked over HTTP, stopped.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::ops::Deref;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::door::Door;
pub use crate::door::Reply;
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
    /// It refused for now (429, 503): the same may be asked again.
    Busy(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "tidemark up could not be started: {error}"),
            Self::NotReady(log) => write!(f, "tidemark up is not ready: {log}"),
            Self::Asked(why) | Self::Busy(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ServerError {}

/// A running server, with its door; dropping it kills the process.
pub struct Server {
    child: Child,
    door: Arc<Door>,
}

impl Deref for Server {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
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
        match ready.recv_timeout(READY_MAX) {
            Ok(url) => Ok(Self { child, door: Arc::new(Door::at(url, None)) }),
            Err(_) => {
                // Gone already is as good.
                drop(child.kill());
                drop(child.wait());
                Err(ServerError::NotReady(fs::read_to_string(&log).unwrap_or_default()))
            }
        }
    }

    /// Its door, for threads that ask while others hold the process.
    #[must_use]
    pub fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
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
