//! Statements that a running server answers: its rows as they come, written as those that are answered here.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use serde_json::{Value, json};
use tidemark_batch::sql::{AsOf, Stats};

use super::{SqlArgs, SqlCommandError, note, tell_as_of};
use crate::client::{ClientError, Given, Server};
use crate::output::{Format, OutputError, writer};
use crate::units::counted;

const JSON: (&str, &str) = ("content-type", "application/json");
const ARROW: &str = "application/vnd.apache.arrow.stream";

pub(super) async fn run_all(args: &SqlArgs, server: &Server, statements: Vec<String>) -> Result<(), SqlCommandError> {
    let format = args.format(io::stdout().is_terminal());
    if statements.len() > 1 && matches!(format, Format::Json | Format::Arrow) {
        return Err(SqlCommandError::OneAnswer { count: statements.len() });
    }
    for statement in statements {
        run_one(args, server, &statement, format, args.stats).await?;
    }
    Ok(())
}

/// A statement of the prompt; Ctrl-C drops it.
pub(super) async fn run_cancellable(
    args: &SqlArgs,
    server: &Server,
    statement: &str,
    stats: bool,
) -> Result<(), SqlCommandError> {
    tokio::select! {
        done = run_one(args, server, statement, args.format(true), stats) => done,
        _ = tokio::signal::ctrl_c() => Err(SqlCommandError::Cancelled),
    }
}

async fn run_one(
    args: &SqlArgs,
    server: &Server,
    statement: &str,
    format: Format,
    stats: bool,
) -> Result<(), SqlCommandError> {
    let begun = Instant::now();
    // The document is the server's own, for it tells what the server read.
    let accept = if format == Format::Json { "application/json" } else { ARROW };
    let body = request(args, statement).to_string().into_bytes();
    let given = server.post_for_stream("/v1/sql", &[JSON, ("accept", accept)], body).await?;
    let as_of = given.as_of.clone();
    let rows = match format {
        Format::Json => {
            hand_on(given).await?;
            None
        }
        _ => Some(write(args, server, given, format).await?),
    };
    if let (Some(as_of), false, false) = (as_of, args.quiet, format == Format::Json) {
        tell_as_of(&as_of);
    }
    if stats {
        let rows = rows.map(|rows| format!("{} ", counted(rows, "row"))).unwrap_or_default();
        let ms = begun.elapsed().as_millis();
        note(&format!("{rows}in {ms} ms by {}; what it read is in the answer of --json", server.shown_url()));
    }
    Ok(())
}

/// The request's body.
fn request(args: &SqlArgs, statement: &str) -> Value {
    let mut request = json!({"sql": statement, "params": args.params, "guess_param_types": true});
    let millis = |time: &std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let more = [
        ("at_least", args.at_least.clone()),
        ("max_staleness_ms", args.max_staleness.as_ref().map(|time| millis(time).into())),
        ("timeout_ms", args.timeout.as_ref().map(|time| millis(time).into())),
        ("bytes_read_max", args.bytes_read_max.map(Value::from)),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            request[name] = value;
        }
    }
    request
}

/// Writes a body as it comes.
async fn hand_on(mut given: Given) -> Result<(), SqlCommandError> {
    while let Some(piece) = given.next().await? {
        io::stdout().lock().write_all(&piece).map_err(OutputError::from)?;
    }
    io::stdout().lock().flush().map_err(OutputError::from)?;
    Ok(())
}

/// Writes an Arrow stream's rows as they come, in the format that is wanted. Gives their number.
async fn write(args: &SqlArgs, server: &Server, mut given: Given, format: Format) -> Result<u64, SqlCommandError> {
    let broken = |error: ArrowError| ClientError::NotUnderstood {
        url: server.shown_url().to_owned(),
        reason: error.to_string(),
    };
    let out = io::BufWriter::with_capacity(64 * 1024, io::stdout());
    let mut rows = writer(format, out, args.table_limits(io::stdout().is_terminal()));
    let (mut decoder, mut has_begun, mut count) = (StreamDecoder::new(), false, 0);
    while let Some(piece) = given.next().await? {
        let mut piece = Buffer::from(piece);
        while !piece.is_empty() {
            let batch = decoder.decode(&mut piece).map_err(broken)?;
            if let (Some(schema), false) = (decoder.schema(), has_begun) {
                rows.begin(&schema, &AsOf::default())?;
                has_begun = true;
            }
            if let Some(batch) = batch {
                count += batch.num_rows() as u64;
                rows.rows(&batch)?;
            }
        }
    }
    decoder.finish().map_err(broken)?;
    rows.end(&Stats { rows: count, ..Stats::default() })?;
    Ok(count)
}
