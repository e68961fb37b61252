//! Request bodies within their bounds: bytes, time, form.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::problem::Problem;

/// The whole body.
pub(super) async fn read(body: Body, bytes_max: usize, within: Duration) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(within, Limited::new(body, bytes_max).collect()).await;
    let collected = collected.map_err(|_| {
        let detail = format!("the body did not come within {} ms", within.as_millis());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_body", detail)
    })?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let detail = format!("a body has at most {bytes_max} bytes here");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
        Err(_) => Err(Problem::bad_request("broken_body", "the body broke off")),
    }
}

/// `bytes` as text.
pub(super) fn text(bytes: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        Problem::bad_request("not_utf8", format!("the body is not UTF-8 at byte {}", error.valid_up_to()))
    })
}

/// The media type of the body, without parameters; refused if it is none of `allowed`. A browser asks before it sends one
/// of these to another site, so no page elsewhere can.
pub(super) fn media_type<'a>(headers: &HeaderMap, allowed: &[&'a str]) -> Result<&'a str, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = given.split(';').next().unwrap_or_default().trim();
    let found = allowed.iter().find(|allowed| name.eq_ignore_ascii_case(allowed));
    found.copied().ok_or_else(|| {
        let detail = format!("expected `Content-Type: {}`, found `{given}`", allowed.join("` or `"));
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    })
}
