//! `POST /v1/datasets/{dataset}/records`: records into a dataset's stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tidemark_shared::dataset::{CsvOptions, Format};
use tidemark_shared::decode::{check_avro_record, text_records};
use tidemark_shared::log::{APPEND_RECORDS_MAX, IdempotencyKey};
use tidemark_shared::position::{Coverage, LogPartition};
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::Shared;
use super::backend::Taken;
use super::body;
use super::problem::{Problem, dataset_of};
use super::spans;

const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";
const CSV: &str = "text/csv";
const AVRO: &str = "application/avro";

/// Where records went.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// Number of records.
    pub accepted: usize,
    /// The position of each record, in the order of the records.
    pub positions: Vec<RecordPosition>,
    /// What a query must cover to see them: its `at_least`.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, u64>>)]
    pub at_least: BTreeMap<String, Coverage>,
    /// True if the idempotency key had been used: nothing was appended now.
    pub repeated: bool,
}

/// Where a record stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordPosition {
    /// Partition of the topic.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
}

impl Accepted {
    fn new(dataset: &str, taken: &Taken) -> Self {
        let position = |(partition, offset): &(LogPartition, u64)| RecordPosition {
            partition: partition.partition,
            offset: *offset,
        };
        Self {
            accepted: taken.positions.len(),
            positions: taken.positions.iter().map(position).collect(),
            at_least: BTreeMap::from([(dataset.to_owned(), spans::ends(taken))]),
            repeated: taken.repeated,
        }
    }
}

/// Appends records to a dataset's stream.
#[utoipa::path(
    post, path = "/v1/datasets/{dataset}/records", tag = "records",
    description = "Records in the format of the dataset's stream. JSON: one object a line (`application/x-ndjson`), or an array (`application/json`). CSV: `text/csv`, with the definition's options; a first line of names is passed over if the media type says `header=present`. Avro: one object container of one row (`application/avro`). They are durable when the answer comes. A request with an `Idempotency-Key` that is repeated within a day gets the first one's positions and appends nothing.",
    params(
        ("dataset" = String, Path, description = "Name of the dataset"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request: 1 to 255 bytes"),
    ),
    request_body(content((Vec<Object> = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"), (String = "application/avro"))),
    responses(
        (status = 200, description = "All of them are durable", body = Accepted),
        (status = 400, description = "Malformed; nothing was appended"),
        (status = 404, description = "`unknown_dataset`"),
        (status = 408, description = "The body came too slowly"),
        (status = 409, description = "`no_stream`"),
        (status = 413, description = "The body, a record or their number is too large"),
        (status = 415, description = "Not of the stream's format, packed, or in another charset than UTF-8"),
        (status = 422, description = "`idempotency_key_reused` with other records"),
        (status = 429, description = "More comes than can be taken in: see `Retry-After`"),
        (status = 503, description = "The log takes nothing now"),
    )
)]
pub(super) async fn append(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Accepted>, Problem> {
    let dataset = dataset_of(path)?;
    let (parts, incoming) = request.into_parts();
    let format = shared.backend.stream_format(&dataset).await?;
    let media_type = body::media_type(&parts.headers, media_types(&format)?)?;
    let key = idempotency_key(&parts.headers)?;
    // Until the log has them: what is made of a body is part of its share.
    let held = shared.bodies.read(incoming, shared.limits.records_bytes_max).await?;
    let bytes = held.bytes.clone();
    let values = match &format {
        Format::Csv(options) => {
            let named = body::parameter(&parts.headers, "header").is_some_and(|header| header == "present");
            of_text(options, &bytes, named)?
        }
        Format::Avro => of_container(bytes)?,
        _ => records(&bytes, media_type == JSON)?,
    };
    let span = spans::append(&dataset, values.len());
    // Records name the span that they came from only if somebody asked for a trace that is kept.
    let origin = spans::caller(&parts.headers).and_then(|_| shared.traces.kept(&span));
    let taken = shared.backend.append(&dataset, values, key.as_ref(), origin).instrument(span.clone()).await;
    let taken = taken.map_err(Problem::from);
    spans::appended(&span, &taken);
    Ok(Json(Accepted::new(&dataset, &taken?)))
}

/// What records of a stream of this format come as.
fn media_types(format: &Format) -> Result<&'static [&'static str], Problem> {
    match format {
        Format::Json => Ok(&[NDJSON, JSON]),
        Format::Csv(_) => Ok(&[CSV]),
        Format::Avro => Ok(&[AVRO]),
        Format::Parquet | Format::Orc => {
            let detail = format!("records of a stream can't be {}", format.name());
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(value) = given.next() else { return Ok(None) };
    let bad = |reason: String| Problem::bad_request("bad_idempotency_key", reason);
    // One of them would count, and who sent the other would not know.
    if given.next().is_some() {
        return Err(bad("a request has one idempotency key".to_owned()));
    }
    let text = value.to_str().map_err(|_| bad("an idempotency key is printable ASCII".to_owned()))?;
    IdempotencyKey::new(text).map(Some).map_err(|error| bad(error.to_string()))
}

/// The records in a body, each as it stands there.
fn records(bytes: &Bytes, is_array: bool) -> Result<Vec<Bytes>, Problem> {
    let text = body::text(bytes)?;
    let found = if is_array { of_array(text)? } else { of_lines(text)? };
    counted(found.into_iter().map(|record| bytes.slice_ref(record.as_bytes())).collect())
}

/// `records`, if they are neither none nor too many.
fn counted(records: Vec<Bytes>) -> Result<Vec<Bytes>, Problem> {
    match records.len() {
        0 => Err(Problem::bad_request("no_records", "the body holds no record")),
        1..=APPEND_RECORDS_MAX => Ok(records),
        count => {
            let detail = format!("{count} records in one request, at most {APPEND_RECORDS_MAX}");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
    }
}

/// The records of delimited text; the first line is passed over if it is `named` columns.
fn of_text(options: &CsvOptions, bytes: &Bytes, named: bool) -> Result<Vec<Bytes>, Problem> {
    let _text = body::text(bytes)?;
    let mut records = text_records(options, bytes);
    if named && !records.is_empty() {
        drop(records.remove(0));
    }
    counted(records)
}

/// The one record that an Avro container is.
fn of_container(bytes: Bytes) -> Result<Vec<Bytes>, Problem> {
    let malformed =
        |reason| Problem::bad_request("malformed", format!("expected an Avro object container of one row: {reason}"));
    check_avro_record(&bytes).map_err(malformed)?;
    counted(vec![bytes])
}

fn of_array(text: &str) -> Result<Vec<&str>, Problem> {
    let malformed =
        |error: serde_json::Error| Problem::bad_request("malformed", format!("expected an array of objects: {error}"));
    if text.trim_start().starts_with('{') {
        let detail = "expected an array of objects, found an object: send objects as `Content-Type: application/x-ndjson`, one a line";
        return Err(Problem::bad_request("malformed", detail));
    }
    let values: Vec<&RawValue> = serde_json::from_str(text).map_err(malformed)?;
    let mut records = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let record = value.get();
        if !record.starts_with('{') {
            return Err(Problem::bad_request("malformed", format!("element {index} of the array is no object")));
        }
        records.push(record);
    }
    Ok(records)
}

fn of_lines(text: &str) -> Result<Vec<&str>, Problem> {
    let mut records = Vec::new();
    for (number, whole) in (1..).zip(text.lines()) {
        let line = whole.trim();
        if line.is_empty() {
            continue;
        }
        let malformed = |reason: String| Problem::bad_request("malformed", format!("line {number} is no {reason}"));
        let no_json = |error: serde_json::Error| {
            let before = whole.len() - whole.trim_start().len();
            malformed(format!("JSON: {} at column {}", what_is_wrong(&error), before + error.column()))
        };
        let value: &RawValue = serde_json::from_str(line).map_err(no_json)?;
        if !value.get().starts_with('{') {
            return Err(malformed("JSON object, as a record is".to_owned()));
        }
        records.push(line);
    }
    Ok(records)
}

/// What an error says, without the place: its line is always the first, as each line is read by itself.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    match what {
        // Of `true`, `false` or `null`, the parser means.
        "expected ident" => "unknown word".to_owned(),
        what => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_json_is_told_with_its_place() {
        for (text, wanted) in [
            ("{\"a\":1}\nnothing\n", "line 2 is no JSON: unknown word at column 2"),
            ("\n  {broken\n", "line 2 is no JSON: key must be a string at column 4"),
            ("{\"a\":1}\n{\"a\":1}\n17\n", "line 3 is no JSON object, as a record is"),
        ] {
            let Err(problem) = of_lines(text) else { panic!("{text} was taken") };
            assert_eq!((problem.code, problem.detail.as_str()), ("malformed", wanted), "{text}");
        }
    }

    #[test]
    fn an_object_that_is_no_array_is_told_the_media_type_of_objects() {
        for text in ["{\"a\":1}", "\n {\"a\":1}\n{\"a\":2}\n"] {
            let problem = of_array(text).expect_err("no array");
            assert_eq!(problem.code, "malformed");
            assert!(problem.detail.contains("application/x-ndjson"), "{}", problem.detail);
        }
        let other = of_array("17").expect_err("no array");
        assert!(!other.detail.contains("ndjson"), "{}", other.detail);
    }

    #[test]
    fn records_are_lines_or_elements_as_they_stand_there() {
        type Found<'a> = Result<Vec<&'a str>, (u16, &'a str)>;
        let cases: [(&str, bool, Found<'_>); 12] = [
            ("{\"a\":1}\n\n {\"b\": 2}\r\n", false, Ok(vec!["{\"a\":1}", "{\"b\": 2}"])),
            ("[{\"a\":1}, {\"b\": [2]}]", true, Ok(vec!["{\"a\":1}", "{\"b\": [2]}"])),
            ("{\"a\":12345678901234567890.10}", false, Ok(vec!["{\"a\":12345678901234567890.10}"])),
            ("", false, Err((400, "no_records"))),
            ("[]", true, Err((400, "no_records"))),
            ("{\"a\":1}\n{\"a\":", false, Err((400, "malformed"))),
            ("{\"a\":1} {\"a\":2}", false, Err((400, "malformed"))),
            ("17", false, Err((400, "malformed"))),
            ("[1]", true, Err((400, "malformed"))),
            ("{\"a\":1}", true, Err((400, "malformed"))),
            ("[{\"a\":1}] x", true, Err((400, "malformed"))),
            ("null", true, Err((400, "malformed"))),
        ];
        for (text, is_array, wanted) in cases {
            let found = records(&Bytes::copy_from_slice(text.as_bytes()), is_array);
            let found = found.map_err(|problem| (problem.status, problem.code));
            let found =
                found.as_ref().map(|records| records.iter().map(|r| std::str::from_utf8(r).expect("text")).collect());
            let found = found.map_err(|(status, code)| (*status, *code));
            assert_eq!(found, wanted, "{text}");
        }
        let broken = records(&Bytes::from_static(b"{\"a\":\"\xff\"}"), false).expect_err("not UTF-8");
        assert_eq!(broken.code, "not_utf8");
    }

    #[test]
    fn delimited_text_is_records_and_perhaps_their_names() {
        let options = CsvOptions { header: false, delimiter: b';', ..CsvOptions::default() };
        let text = Bytes::from_static(b"id;n\na;1\n\nb;2\n");
        assert_eq!(of_text(&options, &text, false).expect("three").len(), 3);
        assert_eq!(of_text(&options, &text, true).expect("two"), [&b"a;1"[..], b"b;2"]);
        for (bytes, code) in [(&b"\n\n"[..], "no_records"), (b"a;\xff", "not_utf8")] {
            assert_eq!(of_text(&options, &Bytes::from_static(bytes), false).expect_err("refused").code, code);
        }
        assert_eq!(of_container(Bytes::from_static(b"Obj")).expect_err("refused").code, "malformed");
    }

    #[test]
    fn the_token_is_the_end_of_what_was_taken_in_each_partition() {
        let at = |partition: &str, offset| (partition.parse().expect("a partition"), offset);
        let taken = Taken { positions: vec![at("t/0", 9), at("t/3", 7), at("t/0", 10)], repeated: false };
        let json = serde_json::to_value(Accepted::new("trips", &taken)).expect("plain data");
        let wanted = serde_json::json!({
            "accepted": 3,
            "positions": [{"partition": 0, "offset": 9}, {"partition": 3, "offset": 7}, {"partition": 0, "offset": 10}],
            "at_least": {"trips": {"t/0": 11, "t/3": 8}},
            "repeated": false,
        });
        assert_eq!(json, wanted);
    }
}
