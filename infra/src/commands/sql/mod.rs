//! `tidemark sql`: one statement, a file of them, or a prompt.

mod prompt;
mod remote;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidemark_batch::sql::{Answer, FileTable, Limits, Param, Query, SqlConfig, SqlEngine, SqlError, split};
use tidemark_shared::error::{ErrorKind, Kind};

use prompt::Asked;

use crate::cli::given;
use crate::client::{ClientError, Server};
use crate::output::{Format, OutputError, TableLimits, writer};
use crate::render::clean;
use crate::units::{counted, format_bytes, format_count, parse_bytes, parse_duration};

/// Rows of a table shown on a terminal unless `--max-rows` says otherwise.
const TERMINAL_ROWS: u64 = 1000;
/// Characters of one value shown on a terminal.
const TERMINAL_CELL_CHARS: usize = 60;
/// Longest text read from a file or standard input, in bytes.
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Arguments of `tidemark sql`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SqlArgs {
    /// The statement; without one, read from standard input, or typed at a prompt.
    pub statement: Option<String>,
    /// Read statements from a file; `-` is standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "statement")]
    pub file: Option<PathBuf>,
    /// Value of $1, then of $2, and so on.
    #[arg(long = "param", value_name = "VALUE")]
    pub params: Vec<String>,
    /// How rows are written; `table` on a terminal, else `csv`.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// One JSON document with columns, as-of, rows and stats; short for `--format json`.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Say on standard error how much was read, and how long it took; of a server's answer, the time.
    #[arg(long)]
    pub stats: bool,
    /// Name a CSV, JSON or Parquet file or folder, for use in the statement.
    #[arg(long = "table", value_name = "NAME=PATH", value_parser = parse_table)]
    pub tables: Vec<(String, String)>,
    /// Show at most so many rows of a table, or `all`; 1000 on a terminal unless given.
    #[arg(long, value_name = "N", value_parser = parse_rows)]
    pub max_rows: Option<u64>,
    /// Stop after this time, for example `30s`.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Stop before reading more of data files than this, for example `2GB`.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub bytes_read_max: Option<u64>,
    /// Memory for sorts, joins and aggregates; beyond it they spill to disk.
    #[arg(long, value_name = "BYTES", value_parser = parse_memory)]
    pub memory: Option<NonZeroU64>,
    /// Threads to use; one per core unless given.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Disk space for what spills, for example `20GB`; 0: nothing spills.
    #[arg(long, value_name = "BYTES")]
    pub spill_bytes_max: Option<String>,
    /// Ask this server [env: TIDEMARK_SERVER] [default: the one that runs on the data directory, if one does].
    #[arg(long, value_name = "URL", conflicts_with = "local")]
    pub server: Option<String>,
    /// Answer here, whether or not a server runs: files in place can be named, and streams show as far as they are curated.
    #[arg(long)]
    pub local: bool,
    /// Wait until the answer covers these positions: the token that `tidemark produce` prints. Needs a server.
    #[arg(long, value_name = "TOKEN", value_parser = parse_token)]
    pub at_least: Option<serde_json::Value>,
    /// Refuse an answer that lacks a record which has been in the log for longer. Needs a server.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub max_staleness: Option<Duration>,
    /// No as-of line and no greeting: `--quiet`, which is a flag of all commands.
    #[arg(skip)]
    pub quiet: bool,
}

/// `all` is as many as there can be.
fn parse_rows(text: &str) -> Result<u64, String> {
    match text {
        "all" => Ok(u64::MAX),
        text => text.parse().map_err(|_| "expected a number of rows, or `all`".to_owned()),
    }
}

fn parse_table(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_lowercase(), path.to_owned())),
        _ => Err("expected NAME=PATH".to_owned()),
    }
}

fn parse_token(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("expected a token like {{\"orders\": {{\"orders/0\": 7}}}}: {error}"))
}

fn parse_memory(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse_bytes(text)?).ok_or_else(|| "must not be 0".to_owned())
}

impl SqlArgs {
    /// True if statements are to be typed: none is given, and standard input is a terminal.
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        self.statement.is_none() && self.file.is_none() && io::stdin().is_terminal()
    }

    /// Settings of the engine that [`run`] wants: files in place are open, since a person asks for their own.
    #[must_use]
    pub fn engine_config(&self) -> SqlConfig {
        let mut config = SqlConfig { threads: self.threads, files_in_place: true, ..SqlConfig::default() };
        if let Some(memory) = self.memory {
            config.memory_bytes_max = usize::try_from(memory.get()).unwrap_or(usize::MAX);
        }
        config
    }

    /// The settings among the flags that count as such; the others are this command's own.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        given(&[("--spill-bytes-max", &self.spill_bytes_max)])
    }

    fn format(&self, terminal: bool) -> Format {
        match self.format {
            Some(format) => format,
            None if self.json => Format::Json,
            None if terminal => Format::Table,
            None => Format::Csv,
        }
    }

    fn table_limits(&self, terminal: bool) -> TableLimits {
        TableLimits {
            rows_max: self.max_rows.or(terminal.then_some(TERMINAL_ROWS)),
            cell_chars_max: terminal.then_some(TERMINAL_CELL_CHARS),
        }
    }

    fn query(&self, sql: String) -> Query {
        let limits = Limits { timeout: self.timeout, bytes_read_max: self.bytes_read_max };
        Query { sql, params: self.params.iter().cloned().map(Param::Text).collect(), limits, ..Query::default() }
    }
}

/// Why `tidemark sql` did not do all it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SqlCommandError {
    /// A statement has no answer.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// Rows could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Statements could not be read.
    #[error("can't read statements from {from}")]
    Input {
        /// File name, or standard input.
        from: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No statement in the text.
    #[error("no statement in {from}")]
    Empty {
        /// File name, or standard input.
        from: String,
    },
    /// A command of the prompt among statements.
    #[error("`{command}` is a command of the prompt, not a statement")]
    PromptCommand {
        /// Its first word.
        command: String,
    },
    /// Several answers where the format holds one.
    #[error("{count} statements, but this format holds one answer")]
    OneAnswer {
        /// Number of statements.
        count: usize,
    },
    /// The server refused, or can't be reached.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// The prompt could not be shown.
    #[error("can't read from the terminal")]
    Prompt(#[source] rustyline::error::ReadlineError),
    /// Stopped by Ctrl-C.
    #[error("cancelled")]
    Cancelled,
}

impl ErrorKind for SqlCommandError {
    fn kind(&self) -> Kind {
        match self {
            Self::Sql(error) => error.kind(),
            Self::Server(error) => error.kind(),
            Self::Input { .. }
            | Self::Empty { .. }
            | Self::PromptCommand { .. }
            | Self::OneAnswer { .. }
            | Self::Output(OutputError::SameName { .. }) => Kind::Invalid,
            Self::Output(_) | Self::Prompt(_) | Self::Cancelled => Kind::Retryable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Sql(error) => error.hint(),
            Self::Server(ClientError::Refused { code, .. }) if code == "files_closed" => {
                Some("`--local` or `--table NAME=PATH` has this process answer, which reads files in place".to_owned())
            }
            Self::Server(error) => error.hint(),
            Self::PromptCommand { .. } => Some(
                "`tidemark sql` on a terminal has a prompt; in a statement, ask `information_schema.tables`, or `DESCRIBE`"
                    .to_owned(),
            ),
            Self::OneAnswer { .. } => {
                Some("use `--format table`, `ndjson` or `csv`, or run them one by one".to_owned())
            }
            Self::Output(OutputError::SameName { .. }) => {
                Some("give one of them another name: `SELECT a.id, b.id AS b_id`".to_owned())
            }
            _ => None,
        }
    }
}

/// Runs the statement, the file of statements, or the prompt. `history` is where the prompt keeps its lines.
///
/// A reader that goes away (`tidemark sql … | head`) ends it quietly. Ctrl-C cancels the running statement.
///
/// # Errors
/// [`SqlCommandError`].
pub async fn run(args: &SqlArgs, engine: &SqlEngine, history: Option<&Path>) -> Result<(), SqlCommandError> {
    for (name, path) in &args.tables {
        engine.add_table(name, &FileTable::at(path)).await?;
    }
    let ended = match statements(args)? {
        Some(statements) => tokio::select! {
            ended = run_all(args, engine, statements) => ended,
            // What was spilled goes with the statement, rather than being left behind by the process.
            () = terminated() => Err(SqlCommandError::Cancelled),
        },
        None => prompt::run(args, Asked::Here(engine), history).await,
    };
    match ended {
        Err(SqlCommandError::Output(error)) if error.is_closed_pipe() => Ok(()),
        other => other,
    }
}

/// Asks a running server. Without a statement, starts a prompt, which keeps its lines in `history`.
///
/// # Errors
/// [`SqlCommandError`].
pub async fn run_on(args: &SqlArgs, server: &Server, history: Option<&Path>) -> Result<(), SqlCommandError> {
    let Some(statements) = statements(args)? else {
        return prompt::run(args, Asked::Server(server), history).await;
    };
    let ended = tokio::select! {
        ended = remote::run_all(args, server, statements) => ended,
        _ = tokio::signal::ctrl_c() => Err(SqlCommandError::Cancelled),
        () = terminated() => Err(SqlCommandError::Cancelled),
    };
    match ended {
        Err(SqlCommandError::Output(error)) if error.is_closed_pipe() => Ok(()),
        other => other,
    }
}

/// Waits for the signal that ends processes.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut stream) => drop(stream.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// The statements to run; `None` asks for a prompt.
fn statements(args: &SqlArgs) -> Result<Option<Vec<String>>, SqlCommandError> {
    let (text, from) = match (&args.statement, &args.file) {
        (Some(statement), _) => (statement.clone(), "the argument".to_owned()),
        (None, Some(file)) if file.as_os_str() != "-" => {
            let from = format!("`{}`", file.display());
            let opened = std::fs::File::open(file);
            let text =
                opened.and_then(read_text).map_err(|source| SqlCommandError::Input { from: from.clone(), source });
            (text?, from)
        }
        (None, None) if args.is_prompt() => return Ok(None),
        (None, _) => {
            let from = "standard input".to_owned();
            let text = read_text(io::stdin()).map_err(|source| SqlCommandError::Input { from: from.clone(), source });
            (text?, from)
        }
    };
    let (statements, _) = split(&text)?;
    if statements.is_empty() {
        return Err(SqlCommandError::Empty { from });
    }
    match statements.iter().find_map(|statement| prompt_command(statement)) {
        Some(command) => Err(SqlCommandError::PromptCommand { command: command.to_owned() }),
        None => Ok(Some(statements)),
    }
}

/// The command that a text begins with which only the prompt knows: no statement begins so.
fn prompt_command(statement: &str) -> Option<&str> {
    let word = statement.split_whitespace().next()?;
    let name = word.strip_prefix(['.', '\\'])?;
    name.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(word)
}

fn read_text(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let read = from.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)? as u64;
    if read > TEXT_BYTES_MAX {
        return Err(io::Error::other(format!("more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

async fn run_all(args: &SqlArgs, engine: &SqlEngine, statements: Vec<String>) -> Result<(), SqlCommandError> {
    let terminal = io::stdout().is_terminal();
    let format = args.format(terminal);
    let count = statements.len();
    // Seen before the first is run: one document behind the other would be none.
    let answers = statements.iter().filter(|statement| !creates_a_table(statement)).count();
    if answers > 1 && matches!(format, Format::Json | Format::Arrow) {
        return Err(SqlCommandError::OneAnswer { count });
    }
    for statement in statements {
        run_one(args, engine, statement, terminal, args.stats).await?;
    }
    Ok(())
}

/// True for the one statement that has no answer: `CREATE EXTERNAL TABLE`.
fn creates_a_table(statement: &str) -> bool {
    statement.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("create"))
}

/// Runs one statement and writes its answer, if it has one; Ctrl-C drops it.
async fn run_one(
    args: &SqlArgs,
    engine: &SqlEngine,
    statement: String,
    terminal: bool,
    stats: bool,
) -> Result<(), SqlCommandError> {
    let query = args.query(statement);
    let work = async {
        let answer = engine.query(&query).await?;
        if !answer.is_query {
            return Ok(());
        }
        write_answer(args, answer, terminal, stats).await
    };
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(SqlCommandError::Cancelled),
    }
}

async fn write_answer(args: &SqlArgs, mut answer: Answer, terminal: bool, stats: bool) -> Result<(), SqlCommandError> {
    let format = args.format(terminal);
    let out = io::BufWriter::with_capacity(64 * 1024, io::stdout());
    let mut rows = writer(format, out, args.table_limits(terminal));
    rows.begin(&answer.schema, &answer.as_of)?;
    while let Some(batch) = answer.next().await? {
        rows.rows(&batch)?;
    }
    let took = answer.stats();
    rows.end(&took)?;
    drop(rows);
    if format != Format::Json && !args.quiet {
        tell_as_of(&serde_json::to_string(&answer.as_of).expect("plain data"));
    }
    for line in &answer.notes {
        note(&format!("note: {line}"));
    }
    if stats {
        note(&format!(
            "{} in {} ms; read {} of {} in {} of {}",
            counted(took.rows, "row"),
            took.elapsed_ms,
            format_bytes(took.bytes_read),
            format_bytes(took.bytes_total),
            format_count(took.files_read),
            counted(took.files_total, "file"),
        ));
    }
    Ok(())
}

/// Says on standard error what an answer covers.
fn tell_as_of(document: &str) {
    if let Some(line) = as_of_line(document, io::stderr().is_terminal()) {
        note(&line);
    }
}

/// What an answer covers, on a line: in short for people, else as the JSON that `--format json` has. `None` where the statement
/// read nothing that has a version.
fn as_of_line(document: &str, people: bool) -> Option<String> {
    let Ok(Value::Object(read)) = serde_json::from_str(document) else { return Some(format!("as of {document}")) };
    if read.is_empty() {
        return None;
    }
    if !people {
        return Some(format!("as of {document}"));
    }
    let number = |value: &Value| value.as_str().map_or_else(|| value.to_string(), clean);
    let dataset = |name: &String, read: &Value| {
        let positions = read["positions"].as_object().into_iter().flatten();
        let positions: String =
            positions.map(|(partition, end)| format!(", {} up to {}", clean(partition), number(end))).collect();
        format!("{} version {}{positions}", clean(name), number(&read["table_version"]))
    };
    let table = |name: &String, read: &Value| match &read["version"] {
        Value::Null => clean(name),
        version => format!("{} version {}", clean(name), number(version)),
    };
    let (datasets, tables): (Vec<_>, Vec<_>) = read.iter().partition(|(_, read)| read["positions"].is_object());
    let datasets = datasets.into_iter().map(|(name, read)| dataset(name, read));
    let parts: Vec<String> = datasets.chain(tables.into_iter().map(|(name, read)| table(name, read))).collect();
    Some(format!("as of {}", parts.join("; ")))
}

/// A line on standard error. Nobody there to read it is no failure.
fn note(line: &str) {
    let _written = writeln!(io::stderr(), "{line}").is_ok();
}
