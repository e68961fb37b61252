//! The demo's second half: trips stream in while the batch layer runs every few seconds; one answer over both, once a
//! second; and an audit of the answers at the end.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tidemark_e2e::door::Door;
use tidemark_e2e::platform::Tidemark;
use tidemark_e2e::server::{Server, ServerError};
use tidemark_e2e::wait::within;

use super::print::{count, heading};

/// Trips a second.
const RATE: u64 = 2_000;
/// Trips in one request.
const REQUEST: usize = 200;
/// What is asked once a second.
const QUESTION: &str = "SELECT count(*) AS trips, sum(total_amount) AS revenue FROM merged.trips";
/// How long a server may refuse for now: real parts take their time to make topics and indices.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// Columns of times in the TLC's layouts; they are moved to now.
const TIMES: [&str; 3] = ["pickup", "dropoff", "datetime"];

/// Doors of processes that the demo has not started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running<'a> {
    /// The one that takes records and answers.
    pub(crate) server: &'a str,
    /// Those of others that keep its views up.
    pub(crate) indexers: &'a [String],
}

/// What one second of the show printed, summed up.
struct Shown {
    produced: u64,
    answers: u64,
}

/// Streams trips for `seconds` and shows what one query sees, of the server that is `running` or of one of its own. Fails if an
/// answer is wrong.
pub(crate) fn show(
    tidemark: &Tidemark,
    running: Option<Running<'_>>,
    csv: &Path,
    seconds: u64,
) -> Result<(), Box<dyn Error>> {
    heading("tidemark up: trips stream in, the batch layer runs every few seconds, one answer covers both");
    let trips = as_json(csv)?;
    let at = |url: &str| Door::at(url.to_owned(), std::env::var("TIDEMARK_TOKEN").ok());
    let (own, door) = match running {
        Some(Running { server, .. }) => (None, Arc::new(at(server))),
        None => {
            let server = Server::start(tidemark, &["--batch-interval", "3s", "--segment-age-max", "1s"])?;
            let door = server.door();
            (Some(server), door)
        }
    };
    println!(
        "  {} trips of {} are replayed with today's clock, {} a second",
        count(trips.len() as u64),
        csv.display(),
        count(RATE)
    );
    until_it_answers(&door)?;
    let mut auditor = audit(tidemark, running.map(|running| running.server), seconds)?;
    let shown = stream(&door, trips, seconds)?;
    let indexers: Vec<Door> = running.iter().flat_map(|running| running.indexers).map(|url| at(url)).collect();
    // Ages are of the last minute, and the audit takes its time.
    let fresh = freshness(&statuses(std::iter::once(door.as_ref()).chain(&indexers)));
    verdict(&mut auditor, &shown, fresh)?;
    match own.map(Server::stop).transpose()? {
        None | Some(Some(0)) => Ok(()),
        Some(code) => Err(format!("tidemark up ended with {code:?}").into()),
    }
}

/// Waits until the server knows the dataset and has a view of it.
fn until_it_answers(server: &Door) -> Result<(), ServerError> {
    patiently(|| server.sql(QUESTION), |_| true).map(drop)
}

/// Attempts something again as long as it fails only `for_now`, until [`PATIENCE`] ends; then the last failure.
fn patiently<T>(
    attempt: impl Fn() -> Result<T, ServerError>,
    for_now: impl Fn(&ServerError) -> bool,
) -> Result<T, ServerError> {
    let mut failed = None;
    let ended = within(PATIENCE, PAUSE, || match attempt() {
        Err(error) if for_now(&error) => {
            failed = Some(error);
            None
        }
        ended => Some(ended),
    });
    ended.unwrap_or_else(|| Err(failed.expect("there is one attempt at least")))
}

/// Produces on a thread of its own and asks once a second.
fn stream(server: &Arc<Door>, trips: Vec<Map<String, Value>>, seconds: u64) -> Result<Shown, Box<dyn Error>> {
    let (stop, stopped) = mpsc::channel::<()>();
    let (sent, sents) = mpsc::channel();
    let producer = {
        let server = Arc::clone(server);
        thread::spawn(move || produce(&server, &trips, &stopped, &sent))
    };
    println!(
        "\n  {:>10} {:>12} {:>12} {:>10} {:>16}  as of",
        "produced", "trips", "from batch", "from live", "revenue"
    );
    let (begun, mut produced, mut answers) = (Instant::now(), 0, 0);
    for second in 1..=seconds {
        match server.sql(QUESTION) {
            Ok(answer) => {
                print_answer(&answer, produced);
                answers += 1;
            }
            Err(ServerError::Busy(why)) => println!("  {:>10} no answer for now: {why}", count(produced)),
            Err(error) => return Err(error.into()),
        }
        let next = begun + Duration::from_secs(second);
        // Until the second is over, or the producer has failed.
        while let Ok(count) = sents.recv_timeout(next.saturating_duration_since(Instant::now())) {
            produced += count;
        }
    }
    drop(stop);
    producer.join().map_err(|_| "the producer panicked")??;
    Ok(Shown { produced: produced + sents.iter().sum::<u64>(), answers })
}

fn print_answer(answer: &Value, produced: u64) {
    let (row, stats, as_of) = (&answer["rows"][0], &answer["stats"], &answer["as_of"]["trips"]);
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let positions = as_of["positions"].as_object();
    let texts = positions.into_iter().flatten().map(|(partition, end)| format!("{partition}:{end}"));
    println!(
        "  {:>10} {:>12} {:>12} {:>10} {:>16}  {} (version {})",
        count(produced),
        count(number(&row[0])),
        count(number(&stats["rows_batch"])),
        stats["rows_live"].as_u64().map_or_else(|| "-".to_owned(), count),
        row[1].as_str().unwrap_or("-"),
        texts.collect::<Vec<_>>().join(" "),
        as_of["table_version"],
    );
}

/// Sends requests at [`RATE`] until `stopped` is closed.
fn produce(
    server: &Door,
    trips: &[Map<String, Value>],
    stopped: &mpsc::Receiver<()>,
    sent: &mpsc::Sender<u64>,
) -> Result<(), String> {
    let (begun, mut total) = (Instant::now(), 0);
    let mut next = trips.iter().cycle();
    loop {
        let mut body = Vec::new();
        let now = local_now();
        for trip in next.by_ref().take(REQUEST) {
            let mut trip = trip.clone();
            for (name, value) in &mut trip {
                if TIMES.iter().any(|part| name.to_lowercase().contains(part)) {
                    *value = Value::from(now.as_str());
                }
            }
            serde_json::to_writer(&mut body, &trip).map_err(|error| error.to_string())?;
            body.push(b'\n');
        }
        append(server, &body)?;
        total += REQUEST as u64;
        // Who shows the count may have ended.
        let _told = sent.send(REQUEST as u64);
        let due = begun + Duration::from_secs_f64(total as f64 / RATE as f64);
        if let Err(mpsc::RecvTimeoutError::Disconnected) =
            stopped.recv_timeout(due.saturating_duration_since(Instant::now()))
        {
            return Ok(());
        }
    }
}

/// Appends records, again while the server is busy. (One that fails late may have appended them: they are twice in the log then,
/// and in every answer.)
fn append(server: &Door, body: &[u8]) -> Result<(), String> {
    let appended = patiently(|| server.produce("trips", body), |error| matches!(error, ServerError::Busy(_)));
    appended.map(drop).map_err(|error| error.to_string())
}

/// Now in UTC, as the meters print their local time. Close enough for a show: which month it is decides the partition.
fn local_now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// Days since 1970 as year, month, day.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let index = (5 * of_year + 2) / 153;
    let month = if index < 10 { index + 3 } else { index - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_year - (153 * index + 2) / 5 + 1)
}

/// The audit asks its own questions while the trips stream in.
fn audit(tidemark: &Tidemark, running: Option<&str>, seconds: u64) -> Result<Child, Box<dyn Error>> {
    let (questions, time) = ((seconds * 20).to_string(), format!("{}s", seconds.saturating_sub(1).max(1)));
    let mut arguments = vec!["audit", "trips", "--count", &questions, "--while-running", &time, "--json", "--quiet"];
    arguments.extend(running.into_iter().flat_map(|url| ["--server", url]));
    Ok(tidemark.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?)
}

fn verdict(auditor: &mut Child, shown: &Shown, freshness: Option<String>) -> Result<(), Box<dyn Error>> {
    heading("tidemark audit trips: every answer derived again from the raw zone");
    let output = auditor.stdout.take().ok_or("the audit has no output")?;
    let report: Value = serde_json::from_reader(output)?;
    let ended = auditor.wait()?;
    let number = |name: &str| report[name].as_u64().unwrap_or(0);
    println!("  {} trips produced, {} answers shown", count(shown.produced), shown.answers);
    println!("  {} answers audited, {} wrong", count(number("audited")), number("wrong"));
    println!("  {}", freshness.as_deref().unwrap_or("no freshness: nobody who was asked has made rows visible lately"));
    if !ended.success() || number("wrong") > 0 || number("audited") == 0 {
        return Err(format!("the audit ended with {ended}: {report:#}").into());
    }
    Ok(())
}

/// How processes are. One that does not answer says nothing of freshness, and makes no answer wrong.
fn statuses<'a>(doors: impl Iterator<Item = &'a Door>) -> Vec<Value> {
    let asked = |door: &Door| match door.get("/v1/status") {
        Ok(status) => Some(status),
        Err(error) => {
            println!("  {}: no status: {error}", door.url);
            None
        }
    };
    doors.filter_map(asked).collect()
}

/// Produce to visible, as those measured it who keep the view up. Of several with a share each, the highest of each figure: that
/// of all of them together is no higher.
fn freshness(statuses: &[Value]) -> Option<String> {
    let measured = |status: &Value| {
        let trips = status["datasets"].as_array()?.iter().find(|dataset| dataset["dataset"] == "trips")?;
        let fresh = &trips["freshness"];
        let _some = fresh["count"].as_u64().filter(|count| *count > 0)?;
        Some((fresh["p50_ms"].as_u64()?, fresh["p99_ms"].as_u64()?))
    };
    let measured: Vec<(u64, u64)> = statuses.iter().filter_map(measured).collect();
    let (p50, p99) = measured.iter().copied().reduce(|one, other| (one.0.max(other.0), one.1.max(other.1)))?;
    let at_most = if measured.len() > 1 { "at most " } else { "" };
    Some(format!("freshness (produced to visible): p50 {at_most}{p50} ms, p99 {at_most}{p99} ms"))
}

/// The records of the first plain CSV file, as JSON objects by their header; those that are broken are left out.
fn as_json(csv: &Path) -> Result<Vec<Map<String, Value>>, Box<dyn Error>> {
    const TRIPS_MAX: usize = 20_000;
    let mut lines = BufReader::new(File::open(csv)?).lines();
    let header = lines.next().ok_or("an empty file")??;
    let names: Vec<&str> = header.trim_end().split(',').map(str::trim).collect();
    let mut trips = Vec::new();
    for line in lines.take(TRIPS_MAX) {
        let Ok(line) = line else { continue };
        let fields: Vec<&str> = line.trim_end().split(',').collect();
        if fields.len() != names.len() {
            continue;
        }
        let object = names.iter().zip(fields).filter(|(_, field)| !field.is_empty());
        trips.push(object.map(|(name, field)| ((*name).to_owned(), value(field))).collect());
    }
    if trips.is_empty() { Err(format!("no trip in {}", csv.display()).into()) } else { Ok(trips) }
}

/// A number where the field is one.
fn value(field: &str) -> Value {
    let number = field.parse::<u64>().map(Value::from).or_else(|_| field.parse::<f64>().map(Value::from));
    number.unwrap_or_else(|_| Value::from(field))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use serde_json::json;

    use super::*;

    #[test]
    fn who_keeps_the_view_up_tells_how_fresh_it_is() {
        let status = |fresh: Value| json!({"datasets": [{"dataset": "trips", "freshness": fresh}]});
        let measured = |count: u64, p50: u64, p99: u64| status(json!({"count": count, "p50_ms": p50, "p99_ms": p99}));
        let line = |text: &str| Some(format!("freshness (produced to visible): {text}"));
        for (statuses, wanted) in [
            (vec![], None),
            (vec![json!({"datasets": []}), status(Value::Null)], None),
            (vec![measured(0, 0, 0)], None),
            (vec![measured(9, 63, 239)], line("p50 63 ms, p99 239 ms")),
            (vec![status(Value::Null), measured(9, 63, 239)], line("p50 63 ms, p99 239 ms")),
            (vec![measured(9, 63, 239), measured(4, 70, 90)], line("p50 at most 70 ms, p99 at most 239 ms")),
        ] {
            assert_eq!(freshness(&statuses), wanted, "{statuses:?}");
        }
    }

    #[test]
    fn only_what_fails_for_now_is_attempted_again() {
        let busy = |error: &ServerError| matches!(error, ServerError::Busy(_));
        for (failures, ended, attempts) in [
            (vec![], Ok(()), 1),
            (vec![ServerError::Busy("full".to_owned())], Ok(()), 2),
            (vec![ServerError::Asked("no such dataset".to_owned())], Err("no such dataset".to_owned()), 1),
        ] {
            let (left, count) = (RefCell::new(failures), Cell::new(0));
            let attempt = || {
                count.set(count.get() + 1);
                left.borrow_mut().pop().map_or(Ok(()), Err)
            };
            assert_eq!(patiently(attempt, busy).map_err(|error| error.to_string()), ended);
            assert_eq!(count.get(), attempts);
        }
    }

    #[test]
    fn days_are_dates() {
        for (days, date) in [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_781, (2026, 11, 24))] {
            assert_eq!(civil(days), date, "{days}");
        }
    }

    #[test]
    fn fields_keep_their_kind() {
        assert_eq!([value("5"), value("1.5"), value("N")], [Value::from(5), Value::from(1.5), Value::from("N")]);
    }
}
