//! Which format an answer has, by the request's `Accept`.

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;

/// A format of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Ndjson,
    Csv,
    Arrow,
}

impl Format {
    const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Csv, Self::Arrow];

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    fn matches(self, range: &str) -> bool {
        let range = range.to_ascii_lowercase();
        match range.split_once('/') {
            Some(("*", "*")) => true,
            Some((kind, "*")) => self.media_type().starts_with(&format!("{kind}/")),
            _ => range == self.media_type(),
        }
    }
}

/// The format that the caller likes best; JSON unless it says otherwise.
pub(super) fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let values = headers.get_all(header::ACCEPT);
    let given: Vec<&str> = values.iter().filter_map(|value| value.to_str().ok()).collect();
    let given = given.join(",");
    if given.trim().is_empty() {
        return Ok(Format::Json);
    }
    let mut best: Option<(f32, Format)> = None;
    for range in given.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        let found = Format::ALL.into_iter().find(|format| format.matches(name));
        if let Some(format) = found.filter(|_| weight > 0.0)
            && best.is_none_or(|(before, _)| weight > before)
        {
            best = Some((weight, format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| {
        let known = Format::ALL.map(Format::media_type).join("`, `");
        let detail = format!("none of `{given}` is to be had; there are `{known}`");
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_liked_formats_is_given() {
        let cases = [
            (None, Some(Format::Json)),
            (Some("*/*"), Some(Format::Json)),
            (Some("text/*"), Some(Format::Csv)),
            (Some("text/csv"), Some(Format::Csv)),
            (Some("Text/CSV; charset=utf-8"), Some(Format::Csv)),
            (Some("text/csv;q=0.5, application/vnd.apache.arrow.stream"), Some(Format::Arrow)),
            (Some("text/html, application/x-ndjson;q=0.9, */*;q=0.1"), Some(Format::Ndjson)),
            (Some("application/json;q=0"), None),
            (Some("image/png"), None),
        ];
        for (accept, wanted) in cases {
            let header = accept.map(|accept| (header::ACCEPT, accept.parse().expect("a header")));
            let found = format(&HeaderMap::from_iter(header));
            assert_eq!(found.as_ref().ok(), wanted.as_ref(), "{accept:?}");
            if let Err(problem) = found {
                assert_eq!(problem.status, 406);
            }
        }
    }
}
