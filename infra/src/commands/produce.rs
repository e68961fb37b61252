//! `tidemark produce`: appends records to a dataset's stream.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemark_shared::ambient::{Ambient as _, System};
use tidemark_shared::backoff::{Attempts, Backoff};
use tokio::sync::mpsc;

use crate::client::{ClientError, Server};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::units::counted;

/// Bytes and lines of one request.
const REQUEST_BYTES: usize = 1 << 20;
const REQUEST_LINES: usize = 10_000;
/// Longest line; the log takes no longer record.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of records that are not sent line by line. How much of that the door takes, it says itself.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// The code of a refusal for a dataset that there is not.
const UNKNOWN_DATASET: &str = "unknown_dataset";
/// How records are sent a JSON object a line.
const NDJSON: &str = "application/x-ndjson";
/// A request is repeated, with the same idempotency key, for so long.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(50),
    pause_max: Duration::from_secs(2),
    attempts_max: 1_000,
    time_max: Duration::from_secs(60),
    attempts_min: 3,
};

/// Arguments of `tidemark produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemark produce orders orders.ndjson
  tail -f orders.ndjson | tidemark produce orders -")]
pub struct ProduceArgs {
    /// Dataset
    pub dataset: String,
    /// File of records in the stream's format: a JSON object or a CSV record a line, or one Avro container; `-`: standard input
    pub file: PathBuf,
    /// Address of the server [env: TIDEMARK_SERVER] [default: the one that runs on the data directory]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

type Lines = BufReader<Box<dyn Read + Send>>;

/// What was appended.
#[derive(Debug, Default, Serialize)]
struct Produced {
    accepted: u64,
    at_least: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    at_least: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Appends the records of a file, some thousand at a time.
///
/// # Errors
/// [`CliError`]; what was appended before is there, and the error says how much that is.
pub async fn run(args: &ProduceArgs, context: &Context) -> Result<Exit, CliError> {
    let server = Server::need(args.server.as_deref(), context).await?;
    let lines = open(&args.file)?;
    let media_type = media_type(&server, context, &args.dataset).await?;
    let mut bodies = bodies(lines, &args.file, media_type == NDJSON)?;
    let mut produced = Produced::default();
    while let Some(body) = bodies.recv().await {
        let sent = match body {
            Ok(body) => {
                let sent = send(&server, context, &args.dataset, media_type, &body.bytes).await;
                sent.map_err(|error| (error.into(), body.line))
            }
            Err((error, line)) => Err((error, line)),
        };
        match sent {
            Ok(answer) => produced.take(answer),
            Err((error, _)) if produced.accepted == 0 => return Err(error),
            Err((source, line)) => {
                let Produced { accepted, at_least } = produced;
                let at_least = serde_json::to_string(&at_least).expect("a token is plain data");
                return Err(CliError::Appended { accepted, at_least, line, source: Box::new(source) });
            }
        }
    }
    context.report(&produced, |produced| {
        let token = serde_json::to_string(&produced.at_least).expect("a token is plain data");
        format!("{} appended\nat least: {token}\n", counted(produced.accepted, "record"))
    })?;
    Ok(Exit::Done)
}

impl Produced {
    fn take(&mut self, answer: Answer) {
        self.accepted += answer.accepted;
        for (dataset, positions) in answer.at_least {
            let known = self.at_least.entry(dataset).or_default();
            for (partition, end) in positions {
                let highest = known.entry(partition).or_default();
                *highest = end.max(*highest);
            }
        }
    }
}

/// What one request brings.
struct Body {
    bytes: Vec<u8>,
    /// Number of the file's line that it begins with.
    line: u64,
}

/// A body; or why there is none, and with which line it would have begun.
type NextBody = Result<Body, (CliError, u64)>;

/// Requests' bodies, read ahead on a thread of its own: a signal ends the command while standard input is silent, and does
/// not wait for its next line.
fn bodies(mut lines: Lines, path: &Path, by_line: bool) -> Result<mpsc::Receiver<NextBody>, CliError> {
    let path = path.to_owned();
    let (sender, receiver) = mpsc::channel(1);
    let read = move || {
        let mut passed = 0;
        loop {
            let body = if by_line { next_body(&mut lines, &path, &mut passed) } else { whole_body(&mut lines, &path) };
            let (is_end, failed) = (body.as_ref().is_ok_and(|body| body.bytes.is_empty()), body.is_err());
            if is_end || sender.blocking_send(body).is_err() || failed {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("records".to_owned()).spawn(read);
    match spawned {
        Ok(_) => Ok(receiver),
        Err(source) => Err(crate::failed_to_start(source)),
    }
}

fn open(path: &Path) -> Result<Lines, CliError> {
    if path.as_os_str() == "-" {
        return Ok(BufReader::with_capacity(REQUEST_BYTES, Box::new(std::io::stdin())));
    }
    let failed = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        let message = format!("{} is a folder", path.display());
        return Err(CliError::Argument { message, hint: Some("name one of its files".to_owned()) });
    }
    Ok(BufReader::with_capacity(REQUEST_BYTES, Box::new(file)))
}

/// The next lines, whole ones only; blank ones before them are left out. Lines that have come are not kept for those that
/// have not: what writes one a second sees each appended. `passed` counts the lines read.
fn next_body(lines: &mut Lines, path: &Path, passed: &mut u64) -> NextBody {
    let (mut bytes, mut count, mut line) = (Vec::new(), 0, *passed + 1);
    while bytes.len() < REQUEST_BYTES && count < REQUEST_LINES {
        let before = bytes.len();
        if before > 0 && lines.buffer().is_empty() {
            break;
        }
        let read = lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
        let failed = |source| (CliError::File { action: "read", path: path.to_owned(), source }, line);
        let read = read.map_err(failed)?;
        if read == 0 {
            break;
        }
        *passed += 1;
        if read as u64 > LINE_BYTES_MAX {
            let message = format!("{}: line {passed} is longer than {LINE_BYTES_MAX} bytes", path.display());
            return Err((CliError::Argument { message, hint: Some("a record has at most 1 MB".to_owned()) }, line));
        }
        if before == 0 && bytes.iter().all(u8::is_ascii_whitespace) {
            bytes.clear();
            line = *passed + 1;
            continue;
        }
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        count += 1;
    }
    Ok(Body { bytes, line })
}

/// What the stream's records are sent as. Where that can't be found out, sending them will say why.
///
/// # Errors
/// [`CliError::UnknownDataset`], and that the server can't be reached.
async fn media_type(server: &Server, context: &Context, dataset: &str) -> Result<&'static str, CliError> {
    let path = format!("/v1/datasets/{dataset}");
    let shown = persistently(server, context, is_away, || server.get(&path)).await;
    match shown {
        Ok(shown) => Ok(match shown["stream_format"].as_str() {
            Some("csv") => "text/csv",
            Some("avro") => "application/avro",
            _ => NDJSON,
        }),
        Err(ClientError::Refused { code, .. }) if code == UNKNOWN_DATASET => {
            let known = server.get("/v1/datasets").await.unwrap_or_default();
            Err(CliError::unknown_dataset(dataset, &names(&known)))
        }
        Err(error) if is_away(&error) => Err(error.into()),
        Err(_) => Ok(NDJSON),
    }
}

/// The names in a list of datasets.
fn names(listed: &Value) -> Vec<String> {
    let datasets = listed["datasets"].as_array().into_iter().flatten();
    datasets.filter_map(|dataset| Some(dataset["name"].as_str()?.to_owned())).collect()
}

/// All there is: where records of text end, only the definition says, and an Avro container is one record.
fn whole_body(lines: &mut Lines, path: &Path) -> NextBody {
    let failed = |source| (CliError::File { action: "read", path: path.to_owned(), source }, 1);
    let mut bytes = Vec::new();
    let read = lines.by_ref().take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > BODY_BYTES_MAX {
        let message = format!("{}: more than {BODY_BYTES_MAX} bytes", path.display());
        let hint = "records of this format go in one request: split the file, or bring it by `tidemark ingest`";
        return Err((CliError::Argument { message, hint: Some(hint.to_owned()) }, 1));
    }
    Ok(Body { bytes, line: 1 })
}

async fn send(
    server: &Server,
    context: &Context,
    dataset: &str,
    media_type: &str,
    body: &[u8],
) -> Result<Answer, ClientError> {
    let key = System.unique_id();
    let headers = [("content-type", media_type), ("idempotency-key", key.as_str())];
    let path = format!("/v1/datasets/{dataset}/records");
    let may_pass = |error: &ClientError| match error {
        ClientError::Refused { status, .. } => matches!(status, 429 | 503),
        error => is_away(error),
    };
    let answer = persistently(server, context, may_pass, || server.post(&path, &headers, body.to_vec())).await?;
    serde_json::from_value(answer)
        .map_err(|error| ClientError::NotUnderstood { url: server.shown_url().to_owned(), reason: error.to_string() })
}

fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::BrokeOff { .. })
}

/// What `ask` yields. While it fails as what `may_pass` does, it is asked again, for a while; that a server can't be reached is
/// said at once, for it may be the address that is wrong.
async fn persistently<T, F: Future<Output = Result<T, ClientError>>>(
    server: &Server,
    context: &Context,
    may_pass: impl Fn(&ClientError) -> bool,
    ask: impl Fn() -> F,
) -> Result<T, ClientError> {
    let (mut attempts, mut is_said) = (Attempts::new(RETRY), false);
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if is_away(&error) && !is_said {
            let seconds = RETRY.time_max.as_secs();
            context.remark(&format!("{} can't be reached; trying for {seconds} s", server.shown_url()));
            is_said = true;
        }
        if !may_pass(&error) || !attempts.again(System.random()).await {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_those_of_a_list_of_datasets() {
        assert_eq!(names(&json!({"datasets": [{"name": "orders"}, {"name": "trips"}]})), ["orders", "trips"]);
        assert_eq!(names(&Value::Null), Vec::<String>::new());
    }

    #[test]
    fn a_folder_is_no_file_of_records() {
        let folder = tempfile::tempdir().expect("a folder");
        let Err(error) = open(folder.path()) else { panic!("it is no file") };
        assert!(matches!(error, CliError::Argument { .. }), "{error}");
    }
}
