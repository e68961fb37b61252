//! `tidemark audit`: derives answers again from the master dataset and compares.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tidemark_serving::audit::{
    Answered, Asked, AuditError, AuditReport, Auditable, Extent, Master, Template, audit, classify, questions,
};
use tidemark_shared::ambient::{Ambient as _, System};
use tidemark_shared::backoff::{Attempts, Backoff};
use tidemark_shared::dataset::registry;
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_shared::output::document;
use tidemark_shared::rows::table_schema;
use tidemark_shared::sql::{Query, SqlEngine};
use tidemark_shared::store::{IfMissing, Store};
use tidemark_shared::transform::Transform;

use super::query;
use super::sql::SqlCommandError;
use crate::client::{ClientError, Server};
use crate::context::{Context, stores};
use crate::error::CliError;
use crate::exit::Exit;
use crate::render;
use crate::units::{counted, parse_duration};

/// Longest line of a file of answers, in bytes.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Most questions that are thought out; more are these over again.
const OWN_QUESTIONS_MAX: usize = 10_000;

/// A question whose answer breaks off is asked again: what cut it off may have passed.
const BROKE_OFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    pause_max: Duration::from_secs(2),
    attempts_max: 3,
    time_max: Duration::from_secs(60),
    attempts_min: 2,
};

/// Arguments of `tidemark audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Where no server runs, the answers of the curated table (batch.trips) are audited.

The audit's own questions go over every column of every row, so that a row that was taken out,
doubled or changed is found, however deep in lists and structs. That takes one question for every
four columns, one for every list of lists or of structs in them, and one more.

Examples:
  tidemark audit trips --count 200
  tidemark audit trips --while-running 1m
  tidemark audit trips --query 'SELECT payment_type, count(*) FROM trips GROUP BY 1'
  tidemark audit trips --answers answers.ndjson

Answers that what they cover does not determine (LIMIT, now(), …), or that can't be derived again,
are counted as not auditable, with the reason; so are the audit's own questions that are refused
(a limit is reached, the values allow no answer), or whose answer breaks off whenever it is asked
for. A --query that gets no answer is an error.

Exit codes: 0 no audited answer is wrong, 1 one is wrong or the audit failed.")]
pub struct AuditArgs {
    /// Dataset
    pub dataset: String,
    /// Answers to ask for
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub count: u64,
    /// Spread the questions over so long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub while_running: Option<Duration>,
    /// Ask this instead of the audit's own questions
    #[arg(long, value_name = "SQL")]
    pub query: Option<String>,
    /// Audit the answers of this file, one JSON document of `POST /v1/sql` a line with its `sql` added, and ask nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["count", "while_running", "query"])]
    pub answers: Option<PathBuf>,
    /// Write the answers that were got to this file
    #[arg(long, value_name = "FILE", conflicts_with = "answers")]
    pub save: Option<PathBuf>,
    /// Address of the server [env: TIDEMARK_SERVER] [default: the one that runs on the data directory]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// Audits answers: those of a file, those that the running server gives now, or where none runs, those that the curated
/// table gives.
///
/// # Errors
/// [`CliError`]; a wrong answer is no error, but exit code 1.
pub async fn run(args: &AuditArgs, context: &Context) -> Result<Exit, CliError> {
    let store = context.store(IfMissing::Fail).await?;
    let server = Server::find(args.server.as_deref(), context)?;
    if registry::latest(&store, &args.dataset).await?.is_none() {
        return Err(CliError::unknown_dataset(&args.dataset, &registry::list(&store).await?));
    }
    let Got { answers, unanswered } = match (&args.answers, &server) {
        (Some(path), _) => Got { answers: read(path)?, unanswered: Vec::new() },
        (None, Some(server)) => ask(args, context, &store, &Door::Server(server)).await?,
        (None, None) => {
            let engine = query::local_engine(context, store.clone())?;
            ask(args, context, &store, &Door::Curated(Box::new(engine))).await?
        }
    };
    if let Some(path) = &args.save {
        save(path, &answers)?;
    }
    if let Some(server) = &server {
        seal(server, &answers).await?;
    }
    let master = Master::new(store, stores());
    let mut report = Box::pin(audit(&master, &answers)).await?;
    for reason in unanswered {
        report.pass_over(reason);
    }
    context.report(&report, render::audit)?;
    Ok(verdict(&report))
}

fn verdict(report: &AuditReport) -> Exit {
    if report.wrong > 0 { Exit::Failed } else { Exit::Done }
}

/// What the answers cover must be in the raw zone before it can be read there.
async fn seal(server: &Server, answers: &[Answered]) -> Result<(), ClientError> {
    let datasets: BTreeSet<&String> = answers.iter().flat_map(|answer| answer.as_of.keys()).collect();
    for dataset in datasets {
        match server.post(&format!("/v1/datasets/{dataset}/seal"), &[], Vec::new()).await {
            // Files are in the raw zone from the start.
            Err(ClientError::Refused { code, .. }) if code == "no_stream" => {}
            sealed => drop(sealed?),
        }
    }
    Ok(())
}

/// Who answers.
enum Door<'a> {
    /// The running process.
    Server(&'a Server),
    /// Nobody runs: what is curated answers for itself.
    Curated(Box<SqlEngine>),
}

impl Door<'_> {
    /// The layer that its own questions are about.
    fn layer(&self) -> &'static str {
        match self {
            Self::Server(_) => "merged",
            Self::Curated(_) => "batch",
        }
    }

    async fn ask(&self, sql: &str) -> Result<Answered, CliError> {
        match self {
            Self::Server(server) => {
                let body = serde_json::to_vec(&json!({ "sql": sql })).expect("text has a JSON form");
                let headers = [("content-type", "application/json")];
                let answer = to_its_end(|| server.post("/v1/sql", &headers, body.clone())).await?;
                Ok(answered(sql, answer, server.shown_url())?)
            }
            Self::Curated(engine) => {
                let answer = curated_answer(engine, sql).await?;
                Ok(answered(sql, answer, "the store")?)
            }
        }
    }
}

/// What `ask` yields; asked again, within bounds, while its answer breaks off.
async fn to_its_end<T, F: Future<Output = Result<T, ClientError>>>(ask: impl Fn() -> F) -> Result<T, ClientError> {
    let mut attempts = Attempts::new(BROKE_OFF);
    loop {
        let told = ask().await;
        let broke_off = matches!(told, Err(ClientError::BrokeOff { .. }));
        if !broke_off || !attempts.again(System.random()).await {
            return told;
        }
    }
}

/// The answer of what is curated, as the HTTP API would give it.
async fn curated_answer(engine: &SqlEngine, sql: &str) -> Result<Value, SqlCommandError> {
    let mut answer = engine.query(&Query { sql: sql.to_owned(), ..Query::default() }).await?;
    let mut text = Vec::new();
    let mut rows = document(&mut text);
    rows.begin(&answer.schema, &answer.as_of)?;
    while let Some(batch) = answer.next().await? {
        rows.rows(&batch)?;
    }
    rows.end(&answer.stats())?;
    drop(rows);
    Ok(serde_json::from_slice(&text).expect("the writer of documents writes JSON"))
}

/// What asking brought.
#[derive(Debug, Default)]
struct Got {
    answers: Vec<Answered>,
    /// Of every question that got none, why.
    unanswered: Vec<String>,
}

impl Got {
    /// Takes what a question brought. One that `may_lack` an answer is counted where it does; the audit goes on without it.
    fn take(&mut self, may_lack: bool, told: Result<Answered, CliError>) -> Result<(), CliError> {
        match told {
            Ok(answer) => self.answers.push(answer),
            Err(error) => match lacking(&error).filter(|_| may_lack) {
                Some(reason) => self.unanswered.push(reason),
                None => return Err(error),
            },
        }
        Ok(())
    }

    fn remark(&self) -> String {
        let answers = counted(self.answers.len() as u64, "answer");
        match self.unanswered.len() as u64 {
            0 => format!("{answers}; deriving them again"),
            unanswered => {
                format!("{answers}, {} without one; deriving them again", counted(unanswered, "question"))
            }
        }
    }
}

/// Why a question got no answer, where that says nothing of the next one: it was refused, for it reached a limit, its values
/// allow no answer, or too many others are answered; or what came of its answer had no end. `None`: whoever should answer
/// can't, or what he has is damaged.
fn lacking(error: &CliError) -> Option<String> {
    let is_turned_away = matches!(error, CliError::Client(ClientError::Refused { status: 429, .. }));
    let is_refused = is_turned_away || matches!(error.kind(), Kind::Unprocessable | Kind::Exhausted);
    match error {
        CliError::Client(ClientError::BrokeOff { .. }) => Some(format!("it got no whole answer: {error}")),
        _ => is_refused.then(|| format!("it was refused: {error}")),
    }
}

async fn ask(args: &AuditArgs, context: &Context, store: &Store, door: &Door<'_>) -> Result<Got, CliError> {
    // Of what can't be audited, one answer is enough to count it.
    let once = args.query.as_ref().is_some_and(|sql| classify(sql) != Auditable::Yes);
    let count = if once { args.count.min(1) } else { args.count };
    let table = format!("{}.{}", door.layer(), args.dataset);
    let mut questions = vec![args.query.clone().unwrap_or_else(|| Template::by_position().sql(&table))];
    // As many ticks as questions, spread evenly.
    let mut ticks = args.while_running.map(|time| tokio::time::interval(time.div_f64(count.max(1) as f64)));
    let mut got = Got::default();
    for number in 0..usize::try_from(count).unwrap_or(usize::MAX) {
        if let Some(ticks) = &mut ticks {
            let _now = ticks.tick().await;
        }
        let sql = &questions[number % questions.len()];
        // All others follow from the answer to the first one.
        let may_lack = args.query.is_none() && number > 0;
        got.take(may_lack, door.ask(sql).await)?;
        if let (0, [first], None) = (number, got.answers.as_slice(), &args.query) {
            let more = usize::try_from(count - 1).unwrap_or(usize::MAX).min(OWN_QUESTIONS_MAX);
            questions.extend(own_questions(store, &args.dataset, &table, first, more).await?);
        }
    }
    context.remark(&got.remark());
    Ok(got)
}

/// `count` questions about `table`, by the answer to the first one.
async fn own_questions(
    store: &Store,
    dataset: &str,
    table: &str,
    first: &Answered,
    count: usize,
) -> Result<Vec<String>, CliError> {
    // The definition by which the rows were made: one that waits for a recompute may have other columns.
    let version = first.as_of.get(dataset).map(|claim| claim.definition.as_str()).unwrap_or_default();
    let Some(active) = registry::by_version(store, dataset, version).await? else {
        let (dataset, version) = (dataset.to_owned(), version.to_owned());
        return Err(AuditError::NoDefinition { dataset, version }.into());
    };
    let wrong = |error: tidemark_shared::transform::TransformError| CliError::Argument {
        message: error.to_string(),
        hint: None,
    };
    let transform = Transform::compile(&active.definition).map_err(wrong)?;
    let schema = table_schema(&transform.output_schema());
    let extents = Extent::of(first);
    let partition_columns = &active.definition.partition_columns;
    let asked = Asked { table, schema: &schema, partition_columns, extents: &extents };
    Ok(questions(&asked, count, &mut || System.random()))
}

/// An answer of the HTTP API as the audit takes it.
fn answered(sql: &str, mut answer: Value, from: &str) -> Result<Answered, ClientError> {
    if let Some(fields) = answer.as_object_mut() {
        let _none = fields.insert("sql".to_owned(), Value::from(sql));
    }
    let url = || from.to_owned();
    serde_json::from_value(answer).map_err(|error| ClientError::NotUnderstood { url: url(), reason: error.to_string() })
}

fn read(path: &PathBuf) -> Result<Vec<Answered>, CliError> {
    let failed = |source| CliError::File { action: "read", path: path.clone(), source };
    let mut file = std::io::BufReader::new(std::fs::File::open(path).map_err(failed)?);
    let (mut answers, mut line) = (Vec::new(), Vec::new());
    for index in 0.. {
        line.clear();
        let read = file.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(failed)?;
        if read == 0 {
            break;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let wrong = |what: String| CliError::Argument {
            message: format!("{}:{}: {what}", path.display(), index + 1),
            hint: Some("write one answer of `POST /v1/sql` a line, with its `sql` added".to_owned()),
        };
        if read > LINE_BYTES_MAX {
            return Err(wrong(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        answers.push(serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?);
    }
    Ok(answers)
}

fn save(path: &PathBuf, answers: &[Answered]) -> Result<(), CliError> {
    let failed = |source| CliError::File { action: "write", path: path.clone(), source };
    let mut text = Vec::new();
    for answer in answers {
        serde_json::to_writer(&mut text, answer).expect("an answer is plain data");
        text.push(b'\n');
    }
    std::fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};

    use tidemark_shared::sql::SqlError;

    use super::*;

    /// The beginning of an answer.
    const BROKEN: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n{\"rows\":\r\n";
    const WHOLE: &str =
        "HTTP/1.1 200 OK\r\ncontent-length: 35\r\nconnection: close\r\n\r\n{\"as_of\":{},\"columns\":[],\"rows\":[]}";

    /// A server that gives these replies, each on a connection that ends with it, and then is gone.
    fn server_of<const N: usize>(replies: [&'static str; N]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let _replies = std::thread::spawn(move || {
            for reply in replies {
                let (stream, _) = listener.accept().unwrap();
                take_request(&stream);
                (&stream).write_all(reply.as_bytes()).unwrap();
            }
        });
        Server::at(&url)
    }

    fn take_request(stream: &TcpStream) {
        let (mut lines, mut line, mut bytes) = (BufReader::new(stream), String::new(), 0);
        while lines.read_line(&mut line).unwrap() > "\r\n".len() {
            if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
                bytes = length.trim().parse().unwrap();
            }
            line.clear();
        }
        lines.read_exact(&mut vec![0; bytes]).unwrap();
    }

    #[tokio::test]
    async fn a_question_whose_answer_breaks_off_is_asked_again_within_bounds() {
        let server = server_of([BROKEN, BROKEN, WHOLE]);
        let answer = Door::Server(&server).ask("SELECT 1").await.unwrap();
        assert_eq!((answer.sql.as_str(), answer.rows.len()), ("SELECT 1", 0));
        // Whoever asked once more would be told that nobody is there.
        let told = || async {
            let server = server_of([BROKEN; 3]);
            Door::Server(&server).ask("SELECT 1").await
        };
        let mut got = Got::default();
        got.take(true, told().await).unwrap();
        let [reason] = got.unanswered.as_slice() else { panic!("{got:?}") };
        assert!(reason.starts_with("it got no whole answer: http://127.0.0.1:"), "{reason}");
        assert!(got.answers.is_empty(), "{got:?}");
        let ended = got.take(false, told().await);
        assert!(matches!(ended, Err(CliError::Client(ClientError::BrokeOff { .. }))), "{ended:?}");
    }

    fn refused(status: u16, code: &str) -> CliError {
        let (code, message) = (code.to_owned(), format!("{code} said"));
        ClientError::Refused { status, code, message, hint: None, retry_after_s: None }.into()
    }

    fn curated(error: SqlError) -> CliError {
        SqlCommandError::from(error).into()
    }

    #[test]
    fn a_refused_question_of_its_own_is_counted_and_any_other_failure_ends_the_audit() {
        type Case = (fn() -> CliError, Option<&'static str>);
        let errors: [Case; 9] = [
            (|| refused(422, "time_limit"), Some("it was refused: time_limit said")),
            (|| refused(422, "query_failed"), Some("it was refused: query_failed said")),
            (|| refused(429, "too_many_queries"), Some("it was refused: too_many_queries said")),
            (|| refused(401, "unauthorized"), None),
            (|| refused(500, "corrupt"), None),
            (|| refused(503, "unavailable"), None),
            (
                || curated(SqlError::TimedOut { limit_ms: 60_000 }),
                Some("it was refused: stopped after 60000 ms, the time limit"),
            ),
            (|| curated(SqlError::Syntax { message: "no".to_owned() }), None),
            (|| CliError::from(ClientError::NotRunning { data_dir: "data".to_owned() }), None),
        ];
        for (error, reason) in errors {
            let mut got = Got::default();
            let taken = got.take(true, Err(error()));
            assert_eq!(
                (taken.is_ok(), got.unanswered.first().map(String::as_str)),
                (reason.is_some(), reason),
                "{}",
                error()
            );
            assert_eq!((got.answers.len(), got.unanswered.len()), (0, usize::from(reason.is_some())), "{}", error());
            let mut got = Got::default();
            assert!(got.take(false, Err(error())).is_err() && got.unanswered.is_empty(), "{}", error());
        }
    }

    #[test]
    fn how_many_got_no_answer_is_said() {
        let answer = || Answered { sql: String::new(), as_of: BTreeMap::new(), columns: Vec::new(), rows: Vec::new() };
        let mut got = Got::default();
        got.take(true, Ok(answer())).unwrap();
        assert_eq!(got.remark(), "1 answer; deriving them again");
        got.take(true, Err(refused(422, "memory_limit"))).unwrap();
        got.take(true, Ok(answer())).unwrap();
        assert_eq!(got.remark(), "2 answers, 1 question without one; deriving them again");
    }
}
