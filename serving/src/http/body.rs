//! Request bodies within their bounds: bytes, time, form.

use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::problem::Problem;

/// Bytes beyond the bound that are read and dropped: who still sends does not read, and a connection that closes under it
/// would take the answer along.
const DROPPED_MAX: usize = 64 << 20;

/// The whole body.
pub(super) async fn read(body: Body, bytes_max: usize, within: Duration) -> Result<Bytes, Problem> {
    // What a request says of its length is the least that comes.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max.saturating_add(DROPPED_MAX) {
        return Err(too_large(bytes_max));
    }
    let collected = tokio::time::timeout(within, collect(body, bytes_max)).await;
    collected.map_err(|_| {
        if announced > bytes_max {
            return too_large(bytes_max);
        }
        let detail = format!("the body did not come within {} ms", within.as_millis());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_body", detail)
    })?
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let (mut kept, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::bad_request("broken_body", "the body broke off");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= bytes_max {
            kept.extend_from_slice(&data);
        } else if length > bytes_max.saturating_add(DROPPED_MAX) {
            break;
        } else {
            kept = BytesMut::new();
        }
    }
    if length <= bytes_max {
        return Ok(kept.freeze());
    }
    Err(too_large(bytes_max))
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
