//! Addresses of stores: `file:path`, `s3://bucket/prefix`, or a plain path.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use object_store::path::Path as Key;

use super::StoreError;
use crate::secrets::shown_url;

/// Where a store is, or an object in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A local directory (or file), always absolute.
    Local(PathBuf),
    /// A bucket and the keys below a prefix.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Without a slash at either end; empty for the whole bucket.
        prefix: String,
    },
}

impl StoreUrl {
    /// Reads `file:path`, `file:///path`, `s3://bucket/prefix` or a plain path. Relative paths are relative to `base`:
    /// the folder of the file that the address stands in.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] for an unknown scheme, an empty path, or a bucket or prefix that S3 would refuse.
    pub fn parse(text: &str, base: &Path) -> Result<Self, StoreError> {
        let bad = |reason: &'static str| StoreError::BadUrl { text: shown_url(text), reason };
        if let Some(rest) = text.strip_prefix("s3://") {
            return parse_s3(rest).map_err(bad);
        }
        let path = match text.strip_prefix("file:") {
            Some(rest) => file_path(rest).ok_or_else(|| bad("a file URL names no other host"))?,
            None if has_scheme(text) => return Err(bad("the scheme is neither `file:` nor `s3://`")),
            None => text,
        };
        if path.is_empty() {
            return Err(bad("the path is empty"));
        }
        let base = std::path::absolute(base).map_err(|_| bad("the current directory is unknown"))?;
        Ok(Self::Local(without_dots(&base.join(path))))
    }

    /// The address of what lies at `relative` (segments parted by `/`) below this one.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        let relative = relative.trim_matches('/');
        match self {
            Self::Local(path) => Self::Local(path.join(relative)),
            Self::S3 { bucket, prefix } if prefix.is_empty() => {
                Self::S3 { bucket: bucket.clone(), prefix: relative.to_owned() }
            }
            Self::S3 { bucket, prefix } => Self::S3 { bucket: bucket.clone(), prefix: format!("{prefix}/{relative}") },
        }
    }

    /// The address of the enclosing folder and the last name; `None` where there is no name (a bucket, the root).
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, String)> {
        match self {
            Self::Local(path) => {
                let name = path.file_name()?.to_str()?.to_owned();
                Some((Self::Local(path.parent()?.to_owned()), name))
            }
            Self::S3 { prefix, .. } if prefix.is_empty() => None,
            Self::S3 { bucket, prefix } => {
                let (folder, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
                Some((Self::S3 { bucket: bucket.clone(), prefix: folder.to_owned() }, name.to_owned()))
            }
        }
    }

    /// The directory, if this is a local store.
    #[must_use]
    pub fn local_path(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::S3 { .. } => None,
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "file:{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// `scheme:` as URLs have it, except a single letter, and only where no slash comes before the colon.
fn has_scheme(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    let mut characters = scheme.chars();
    scheme.len() > 1
        && characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The path of `file:` + `rest`: `x`, `/x`, `///x` and `//localhost/x` are paths, `//host/x` is not.
fn file_path(rest: &str) -> Option<&str> {
    let Some(authority) = rest.strip_prefix("//") else { return Some(rest) };
    let authority = authority.strip_prefix("localhost").unwrap_or(authority);
    authority.starts_with('/').then_some(authority)
}

fn parse_s3(rest: &str) -> Result<StoreUrl, &'static str> {
    // What comes after `?` may be meant to be secret, and would be part of every key that is shown.
    if rest.contains('?') {
        return Err("it takes no `?`");
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(allowed) {
        return Err("a bucket's name has 3 to 63 lower-case letters, digits, dots or dashes");
    }
    let prefix = prefix.trim_matches('/');
    if Key::parse(prefix).is_err() || prefix.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("the prefix has an empty segment, `.`, `..` or a control character");
    }
    Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// Resolves `.` and `..` by name alone, so that one store has one address whether or not it exists yet.
fn without_dots(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                // At the root there is no parent, and `/..` is `/`.
                let _at_root = !resolved.pop();
            }
            other => resolved.push(other),
        }
    }
    resolved
}
