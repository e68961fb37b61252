//! Request bodies within their bounds: bytes, time, form.

use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;

/// Bytes beyond the bound that are read and dropped: who still sends does not read, and a connection that closes under it
/// would take the answer along.
const DROPPED_MAX: usize = 64 << 20;

/// Unit of [`Bodies`]' account, in bytes.
const UNIT: usize = 1024;

/// How bodies come: within a time each, and within a bound for all that are under way together.
#[derive(Debug)]
pub(super) struct Bodies {
    room: Semaphore,
    within: Duration,
}

/// A body, and its share of the bound for as long as it is held.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) bytes: Bytes,
    _room: SemaphorePermit<'a>,
}

impl Bodies {
    pub(super) fn new(all_bytes_max: usize, within: Duration) -> Self {
        Self { room: Semaphore::new((all_bytes_max / UNIT).clamp(1, Semaphore::MAX_PERMITS)), within }
    }

    /// The whole body.
    pub(super) async fn read(&self, body: Body, bytes_max: usize) -> Result<Held<'_>, Problem> {
        // What a request says of its length is the least that comes.
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > bytes_max.saturating_add(DROPPED_MAX) {
            return Err(too_large(bytes_max));
        }
        let collected = tokio::time::timeout(self.within, self.collect(body, bytes_max)).await;
        collected.map_err(|_| {
            if announced > bytes_max {
                return too_large(bytes_max);
            }
            let detail = format!("the body did not come within {} ms", self.within.as_millis());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_body", detail)
        })?
    }

    async fn collect(&self, mut body: Body, bytes_max: usize) -> Result<Held<'_>, Problem> {
        let (mut kept, mut length) = (BytesMut::new(), 0_usize);
        let mut room = self.room(0)?;
        while let Some(frame) = body.frame().await {
            let broken = |_| Problem::bad_request("broken_body", "the body broke off");
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            length = length.saturating_add(data.len());
            if length <= bytes_max {
                room.merge(self.room(length.div_ceil(UNIT).saturating_sub(room.num_permits()))?);
                kept.extend_from_slice(&data);
            } else if length > bytes_max.saturating_add(DROPPED_MAX) {
                break;
            } else {
                kept = BytesMut::new();
            }
        }
        if length <= bytes_max {
            return Ok(Held { bytes: kept.freeze(), _room: room });
        }
        Err(too_large(bytes_max))
    }

    fn room(&self, units: usize) -> Result<SemaphorePermit<'_>, Problem> {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.room.try_acquire_many(units).map_err(|_| {
            let detail = "the bodies of other requests take all the memory that there is for them";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail).retry_after(1)
        })
    }
}

fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("a body has at most {bytes_max} bytes here");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

/// `bytes` as text.
pub(super) fn text(bytes: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        Problem::bad_request("not_utf8", format!("the body is not UTF-8 at byte {}", error.valid_up_to()))
    })
}

/// The media type of the body, without parameters; refused if it is none of `allowed`, in another charset than UTF-8, or
/// packed. A browser asks before it sends one of these to another site, so no page elsewhere can.
pub(super) fn media_type<'a>(headers: &HeaderMap, allowed: &[&'a str]) -> Result<&'a str, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = given.split(';').next().unwrap_or_default().trim();
    let found = allowed.iter().find(|allowed| name.eq_ignore_ascii_case(allowed));
    let found = found.copied().ok_or_else(|| {
        let detail = format!("expected `Content-Type: {}`, found `{given}`", allowed.join("` or `"));
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    })?;
    let unread = |detail: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail);
    if let Some(charset) = parameter(headers, "charset")
        && !["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    {
        return Err(unread(format!("a body is UTF-8 here, not `{charset}`")));
    }
    let packed = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut packed = packed.flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim);
    match packed.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")) {
        Some(coding) => Err(unread(format!(
            "a body comes as it is here (`Content-Encoding: identity`, or none), not as `{coding}`"
        ))),
        None => Ok(found),
    }
}

/// A parameter of the media type, without quotes.
pub(super) fn parameter(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let given = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let mut parameters = given.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[tokio::test]
    async fn bodies_share_a_bound() {
        let bodies = Bodies::new(4 * UNIT, Duration::from_secs(10));
        let body = |bytes: usize| Body::from(vec![b'x'; bytes]);
        let first = bodies.read(body(3 * UNIT), 8 * UNIT).await.expect("there is room");
        let second = bodies.read(body(2 * UNIT), 8 * UNIT).await.map(drop);
        assert_eq!(second.map_err(|problem| (problem.code, problem.retry_after_s)), Err(("busy", Some(1))));
        let small = bodies.read(body(1), 8 * UNIT).await.expect("a unit is left");
        assert_eq!((first.bytes.len(), small.bytes.len()), (3 * UNIT, 1));
        drop((first, small));
        assert_eq!(bodies.read(body(4 * UNIT), 8 * UNIT).await.map(|held| held.bytes.len()).ok(), Some(4 * UNIT));
        let large = bodies.read(body(9 * UNIT), 8 * UNIT).await.map(drop);
        assert_eq!(large.map_err(|problem| problem.code), Err("too_large"));
    }

    #[test]
    fn a_body_is_plain_utf8_of_a_known_type() {
        type Given<'a> = &'a [(HeaderName, &'a str)];
        let cases: [(Given<'_>, Result<&str, &str>); 10] = [
            (&[(header::CONTENT_TYPE, "application/json")], Ok("application/json")),
            (&[(header::CONTENT_TYPE, "Application/JSON ; charset=\"UTF-8\"")], Ok("application/json")),
            (&[(header::CONTENT_TYPE, "text/csv; header=present; charset=us-ascii")], Ok("text/csv")),
            (&[(header::CONTENT_TYPE, "text/csv"), (header::CONTENT_ENCODING, "identity")], Ok("text/csv")),
            (&[(header::CONTENT_TYPE, "text/plain")], Err("unsupported_media_type")),
            (&[], Err("unsupported_media_type")),
            (&[(header::CONTENT_TYPE, "application/json; charset=utf-16")], Err("unsupported_encoding")),
            (&[(header::CONTENT_TYPE, "text/csv; Charset = ISO-8859-1")], Err("unsupported_encoding")),
            (&[(header::CONTENT_TYPE, "text/csv"), (header::CONTENT_ENCODING, "gzip")], Err("unsupported_encoding")),
            (
                &[(header::CONTENT_TYPE, "text/csv"), (header::CONTENT_ENCODING, "identity, zstd")],
                Err("unsupported_encoding"),
            ),
        ];
        for (given, wanted) in cases {
            let headers = given.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header")));
            let found = media_type(&headers.collect(), &["application/json", "text/csv"]);
            assert_eq!(found.map_err(|problem| problem.code), wanted, "{given:?}");
        }
    }
}
