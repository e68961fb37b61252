//! Who may come in: bearer tokens from a file; without them, only programs on this machine.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::Shared;
use super::problem::Problem;

/// Shortest token: what is shorter can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// What everybody may ask: it tells nothing of the data.
pub(super) const OPEN: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/docs"];

/// Tokens that open the door. Only their digests are kept.
#[derive(Clone)]
pub struct Tokens(Arc<[[u8; 32]]>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file can't be read.
    #[error("the token file {} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("the token file {} holds no token", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A token that is easily guessed.
    #[error("line {line} of the token file {} is shorter than {TOKEN_BYTES_MIN} characters", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Tokens {
    /// The tokens in a file: one a line; empty lines and such that begin with `#` are none.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(TokensError::Unreadable { path, source }),
        };
        let mut digests = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            match line.len() {
                0 => {}
                _ if line.starts_with('#') => {}
                1..TOKEN_BYTES_MIN => return Err(TokensError::Short { path, line: index + 1 }),
                _ => digests.push(digest(line)),
            }
        }
        if digests.is_empty() {
            return Err(TokensError::Empty { path });
        }
        Ok(Self(digests.into()))
    }

    /// True if `token` is one of them. Takes as long whichever it is, and if it is none.
    #[must_use]
    pub fn admit(&self, token: &str) -> bool {
        let asked = digest(token);
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&asked));
        found.into()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A door that anybody on the network could walk through.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} can be reached from other machines, and no token guards the door: name a token file, or bind to 127.0.0.1"
)]
pub struct Unguarded {
    /// The address.
    pub address: SocketAddr,
}

/// Whether the door may be at `address`.
///
/// # Errors
/// [`Unguarded`].
pub fn check_address(address: SocketAddr, tokens: Option<&Tokens>) -> Result<(), Unguarded> {
    if tokens.is_some() || address.ip().is_loopback() { Ok(()) } else { Err(Unguarded { address }) }
}

/// Turns away who has no token. Without tokens, who comes by another name than this machine's: a web page elsewhere
/// whose name was made to lead here.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    // HTTP/1.1 wants exactly one; without it nobody can tell which of several doors behind one address is meant.
    if request.version() == Version::HTTP_11 && request.headers().get_all(header::HOST).iter().count() != 1 {
        let detail = "a request by HTTP/1.1 has one `Host` header";
        return Problem::bad_request("no_host", detail).into_response();
    }
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let refused = match &shared.tokens {
        Some(tokens) if bearer(request.headers()).is_some_and(|token| tokens.admit(token)) => None,
        Some(_) => {
            let detail = "this door asks for `Authorization: Bearer <token>`";
            Some(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail))
        }
        None if is_local(request.headers(), request.uri().host()) => None,
        None => {
            let detail = "without tokens, this door answers to `localhost` and loopback addresses only";
            Some(Problem::new(StatusCode::FORBIDDEN, "host_not_allowed", detail))
        }
    };
    let refused = refused.or_else(|| {
        let detail = "a web page of another site asks nothing here";
        is_foreign(request.headers()).then(|| Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail))
    });
    match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

/// True for what a browser sends for a page that was not served here.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or_default());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let of_origin = origin.split_once("://").map(|(_, authority)| authority);
    of_origin.is_none() || of_origin != text(header::HOST)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn is_local(headers: &HeaderMap, of_uri: Option<&str>) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).or(of_uri);
    let Some(host) = host else { return true };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        std::fs::write(&path, text).expect("writes");
        (folder, path)
    }

    #[test]
    fn a_page_of_another_site_is_told_from_our_own() {
        for (origin, host, foreign) in [
            (None, "localhost:8410", false),
            (Some("http://localhost:8410"), "localhost:8410", false),
            (Some("http://localhost:3000"), "localhost:8410", true),
            (Some("https://example.org"), "localhost:8410", true),
            (Some("null"), "localhost:8410", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a host"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
            }
            assert_eq!(is_foreign(&headers), foreign, "{origin:?}");
        }
    }

    #[test]
    fn tokens_are_lines_and_compared_whole() {
        let (_folder, path) = file("# the demo's\n\n 0123456789abcdef-one \n0123456789abcdef-two\n");
        let tokens = Tokens::read(&path).expect("two tokens");
        let cases = [
            ("0123456789abcdef-one", true),
            ("0123456789abcdef-two", true),
            ("0123456789abcdef-", false),
            ("0123456789abcdef-one ", false),
            ("", false),
            ("# the demo's", false),
        ];
        for (token, admitted) in cases {
            assert_eq!(tokens.admit(token), admitted, "{token}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn a_file_that_guards_nothing_is_refused() {
        let (_folder, path) = file("# nothing\n");
        assert!(matches!(Tokens::read(&path), Err(TokensError::Empty { .. })));
        let (_folder, path) = file("\nshort\n");
        assert!(matches!(Tokens::read(&path), Err(TokensError::Short { line: 2, .. })));
        assert!(matches!(Tokens::read(&path.join("gone")), Err(TokensError::Unreadable { .. })));
    }

    #[test]
    fn without_tokens_only_loopback_is_bound_and_only_local_names_are_answered() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        for (text, allowed) in [("127.0.0.1:0", true), ("[::1]:0", true), ("0.0.0.0:0", false), ("10.0.0.1:80", false)]
        {
            assert_eq!(check_address(address(text), None).is_ok(), allowed, "{text}");
        }
        let hosts = [
            ("localhost:8410", true),
            ("127.0.0.1:8410", true),
            ("127.0.0.1", true),
            ("[::1]:8410", true),
            ("evil.example:8410", false),
            ("127.0.0.1.evil.example", false),
        ];
        for (host, allowed) in hosts {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().expect("a header"))]);
            assert_eq!(is_local(&headers, None), allowed, "{host}");
        }
    }
}
