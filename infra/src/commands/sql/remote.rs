//! Statements that a running server answers: its rows as they come, tables made of them here.

use std::io::{self, IsTerminal as _, Write as _};

use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};
use tidemark_batch::sql::{AsOf, Stats};

use super::{SqlArgs, SqlCommandError, note};
use crate::client::{ClientError, Server};
use crate::output::{Format, OutputError, writer};

const JSON: (&str, &str) = ("content-type", "application/json");

pub(super) async fn run_all(args: &SqlArgs, server: &Server, statements: Vec<String>) -> Result<(), SqlCommandError> {
    let format = args.format(io::stdout().is_terminal());
    if statements.len() > 1 && matches!(format, Format::Json | Format::Arrow) {
        return Err(SqlCommandError::OneAnswer { count: statements.len() });
    }
    for statement in statements {
        run_one(args, server, &statement, format).await?;
    }
    Ok(())
}

async fn run_one(args: &SqlArgs, server: &Server, statement: &str, format: Format) -> Result<(), SqlCommandError> {
    let accept = match format {
        Format::Json => "application/json",
        Format::Ndjson => "application/x-ndjson",
        Format::Csv => "text/csv",
        Format::Arrow | Format::Table => "application/vnd.apache.arrow.stream",
    };
    let body = request(args, statement).to_string().into_bytes();
    let given = server.post_for_bytes("/v1/sql", &[JSON, ("accept", accept)], body).await?;
    if format == Format::Table {
        table(args, server, &given.body)?;
    } else {
        let mut out = io::stdout().lock();
        out.write_all(&given.body).and_then(|()| out.flush()).map_err(OutputError::from)?;
    }
    if let (Some(as_of), false, false) = (given.as_of, args.quiet, format == Format::Json) {
        note(&format!("as of {as_of}"));
    }
    Ok(())
}

/// The request's body.
fn request(args: &SqlArgs, statement: &str) -> Value {
    let mut request = json!({"sql": statement, "params": args.params});
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

fn table(args: &SqlArgs, server: &Server, body: &[u8]) -> Result<(), SqlCommandError> {
    let not_understood = |error: arrow::error::ArrowError| ClientError::NotUnderstood {
        url: server.url().to_owned(),
        reason: error.to_string(),
    };
    let terminal = io::stdout().is_terminal();
    let reader = StreamReader::try_new(body, None).map_err(not_understood)?;
    let out = io::BufWriter::with_capacity(64 * 1024, io::stdout());
    let mut rows = writer(Format::Table, out, args.table_limits(terminal));
    rows.begin(&reader.schema(), &AsOf::default())?;
    let mut count = 0;
    for batch in reader {
        let batch = batch.map_err(not_understood)?;
        count += batch.num_rows() as u64;
        rows.rows(&batch)?;
    }
    rows.end(&Stats { rows: count, ..Stats::default() })?;
    Ok(())
}
