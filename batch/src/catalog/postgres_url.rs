//! `postgres://…` → how to connect. What is refused shows no secret, and neither does a log line.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use tidemark_shared::catalog::CatalogError;
use tidemark_shared::secrets::shown_url;

/// Parameters that the client knows. Of another one it would log the value.
const KNOWN: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// How to connect to the server at `url`; parameters that are not known are left out, with a warning.
///
/// # Errors
/// [`CatalogError::Invalid`].
pub(super) fn options(url: &str) -> Result<PgConnectOptions, CatalogError> {
    // What the client says of a wrong address repeats values.
    let bad = |reason: &str| CatalogError::Invalid { what: shown_url(url), reason: reason.to_owned() };
    let (known, unknown) = with_known_parameters(url);
    let wrong = "it is not `postgres://USER@HOST:PORT/DATABASE`, or a parameter after `?` has a value that can't be";
    let options = PgConnectOptions::from_str(&known).map_err(|_| bad(wrong))?;
    if options.get_database().is_some_and(|name| name.contains('@')) || options.get_host().contains('@') {
        return Err(bad("a password's `/`, `?`, `#` and `@` are written as `%2F`, `%3F`, `%23` and `%40`"));
    }
    if !unknown.is_empty() {
        tracing::warn!(
            parameters = unknown.join(","),
            "parameters of `catalog.url` that are not known count for nothing"
        );
    }
    Ok(options)
}

/// `url` without parameters that are not known, and the names of these.
fn with_known_parameters(url: &str) -> (String, Vec<String>) {
    let Some((address, query)) = url.split_once('?') else { return (url.to_owned(), Vec::new()) };
    let is_known = |name: &str| KNOWN.contains(&name) || name.starts_with("options");
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some((name, _)) if is_known(name) => known.push(pair),
            Some((name, _)) => unknown.push(name.to_owned()),
            // It may be a value as well as a name.
            None => unknown.push("***".to_owned()),
        }
    }
    let query = if known.is_empty() { String::new() } else { format!("?{}", known.join("&")) };
    (format!("{address}{query}"), unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_not_known_are_left_out() {
        for (url, wanted, left_out) in [
            ("postgres://u@h/d", "postgres://u@h/d", ""),
            ("postgres://u@h/d?sslmode=require&options[x]=1", "postgres://u@h/d?sslmode=require&options[x]=1", ""),
            ("postgres://u@h/d?token=PW&user=b&PW", "postgres://u@h/d?user=b", "token,***"),
            ("postgres://u@h/d?connect_timeout=3&", "postgres://u@h/d", "connect_timeout"),
        ] {
            let (known, unknown) = with_known_parameters(url);
            assert_eq!((known.as_str(), unknown.join(",").as_str()), (wanted, left_out), "{url}");
        }
    }

    #[test]
    fn a_refused_address_shows_no_secret() {
        for url in [
            "postgres://u:1/PW-s3cret@h/db",
            "postgres://u:PW/s3cret@h/db",
            "postgres://u@h/db?sslmode=PW-s3cret",
            "postgres://u@h/db?port=PW-s3cret&password=PW-s3cret",
        ] {
            let refused = options(url).expect_err(url);
            assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{refused:?}");
        }
    }
}
