//! Addresses of clusters: `opensearch+http://user:password@host:9200/prefix`.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// What the names of all indices begin with, unless the address says otherwise.
const PREFIX: &str = "tidemark";
/// Longest prefix: index names have 255 bytes in all.
const PREFIX_MAX: usize = 32;

/// Where a cluster is, and what the names of our indices in it begin with.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenSearchUrl {
    /// Without credentials and prefix.
    pub(crate) url: Url,
    /// User and password.
    pub(crate) credentials: Option<(String, String)>,
    /// What the names of our indices begin with.
    pub(crate) prefix: String,
}

/// A text that is no address of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not `opensearch+http://host:9200` or `opensearch+https://user:password@host:9200/prefix`: {reason}")]
pub struct UrlError {
    reason: String,
}

impl FromStr for OpenSearchUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason: &str| UrlError { reason: reason.to_owned() };
        let rest = text.strip_prefix("opensearch+").ok_or_else(|| bad("another scheme"))?;
        let mut url = Url::parse(rest).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("another scheme"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it takes no `?` and no `#`"));
        }
        let decoded = |text: &str| percent_decoded(text).ok_or_else(|| bad("user or password is not UTF-8"));
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decoded(user)?, decoded(password.unwrap_or_default())?)),
        };
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| bad("it names no host"))?;
        let prefix = url.path().trim_matches('/').to_owned();
        url.set_path("/");
        let prefix = if prefix.is_empty() { PREFIX.to_owned() } else { prefix };
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let begins = prefix.starts_with(|first: char| first.is_ascii_lowercase());
        if prefix.len() > PREFIX_MAX || !begins || !prefix.bytes().all(legal) {
            return Err(bad("the prefix has at most 32 lower-case letters, digits and `-`, and begins with a letter"));
        }
        Ok(Self { url, credentials, prefix })
    }
}

/// The text that a part of a URL stands for.
fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

/// Without the password.
impl fmt::Debug for OpenSearchUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.url, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_host_credentials_and_prefix() {
        let parse = |text: &str| text.parse::<OpenSearchUrl>();
        let plain = parse("opensearch+http://127.0.0.1:9200").unwrap();
        assert_eq!((plain.url.as_str(), plain.prefix.as_str()), ("http://127.0.0.1:9200/", "tidemark"));
        assert_eq!(plain.credentials, None);
        let full = parse("opensearch+https://a%40b:s%2Fec:ret@search.example/lake-2/").unwrap();
        assert_eq!((full.url.as_str(), full.prefix.as_str()), ("https://search.example/", "lake-2"));
        assert_eq!(full.credentials, Some(("a@b".to_owned(), "s/ec:ret".to_owned())));
        assert!(!format!("{full:?}").contains("ret"), "{full:?}");
        for wrong in [
            "http://h:1",
            "opensearch+ftp://h",
            "opensearch+http://",
            "opensearch+http://h/A",
            "opensearch+http://h/1a",
            "opensearch+http://h/a/b",
            "opensearch+http://h?x=1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong} was taken");
        }
    }
}
