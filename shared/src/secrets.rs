//! Addresses as people may see them: in errors, log lines, `tidemark config`. Pure.

/// What stands for a secret.
const HIDDEN: &str = "***";
/// Systems whose users have names. Elsewhere a user without a password is a token as likely as a name.
const WITH_NAMES: [&str; 4] = ["postgres", "postgresql", "opensearch+http", "opensearch+https"];
/// What follows these is a path of this machine.
const PATHS: [&str; 3] = ["file:", "sqlite:", "embedded:"];
/// What ends an address's host, unless a password in front of it was not encoded as it had to be.
const ENDS: [char; 4] = ['/', '\\', '?', '#'];

/// `url`, which may be wrong, without what may be secret in it: no password (and only a database's or a search cluster's user),
/// no value of a parameter, no fragment. Names of parameters stay.
///
/// Where it is not certain what is a password and what a path, more is hidden than had to be.
#[must_use]
pub fn shown_url(url: &str) -> String {
    let Some((scheme, tail)) = url.split_once("://") else { return shown_without_host(url) };
    let authority = tail.split(ENDS).next().unwrap_or_default();
    // A password may hold `@`, and what ends a host: the last one ends it.
    let at = tail.rfind('@').filter(|_| authority.contains(['@', ':']));
    let Some(at) = at else { return format!("{scheme}://{}", without_values(tail, &ENDS)) };
    let user = match tail[..at].split_once(':') {
        Some((name, _)) => format!("{}:{HIDDEN}", named(scheme, name)),
        None => named(scheme, &tail[..at]).to_owned(),
    };
    // Nobody learns more of `***:***`.
    let user = if user.starts_with(HIDDEN) { HIDDEN } else { user.as_str() };
    format!("{scheme}://{user}@{}", without_values(&tail[at + 1..], &ENDS))
}

/// A text without `//`: a path, or an address that lacks them.
fn shown_without_host(text: &str) -> String {
    let is_path = text.starts_with(['/', '.']) || PATHS.iter().any(|scheme| text.starts_with(scheme));
    if is_path {
        // Names of files may hold `#`.
        return without_values(text, &['?']);
    }
    match text.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{}", without_values(host, &ENDS)),
        None => without_values(text, &ENDS),
    }
}

/// A user's name, where the system has such.
fn named<'a>(scheme: &str, name: &'a str) -> &'a str {
    let has_names = WITH_NAMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    if has_names && !name.contains(ENDS) && !name.contains('@') { name } else { HIDDEN }
}

/// `text` with the values of what follows its first `?` hidden, and what follows a `#`, where that is one of `ends`.
fn without_values(text: &str, ends: &[char]) -> String {
    let starts: Vec<char> = ends.iter().copied().filter(|end| matches!(end, '?' | '#')).collect();
    let Some(at) = text.find(&starts[..]) else { return text.to_owned() };
    let (before, after) = (&text[..at], &text[at + 1..]);
    if text[at..].starts_with('#') {
        return format!("{before}#{HIDDEN}");
    }
    let (query, fragment) = after.split_once('#').map_or((after, ""), |(query, _)| (query, "#***"));
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}={HIDDEN}"),
            None if pair.is_empty() => String::new(),
            // It may be a value as well as a name.
            None => HIDDEN.to_owned(),
        })
        .collect();
    format!("{before}?{}{fragment}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_secret() {
        for (url, shown) in [
            ("s3://bucket/prefix", "s3://bucket/prefix"),
            ("s3://bucket/a@b", "s3://bucket/a@b"),
            ("s3://key:PW-s3cret@bucket/x", "s3://***@bucket/x"),
            ("file:/a/b@c:d", "file:/a/b@c:d"),
            ("file:/a/c#/store", "file:/a/c#/store"),
            ("file:///a:b/c@d", "file:///a:b/c@d"),
            ("file://u:PW-s3cret@h/x", "file://***@h/x"),
            ("sqlite:a.db?key=PW-s3cret", "sqlite:a.db?key=***"),
            ("memory:", "memory:"),
            ("", ""),
            ("postgres://user:PW@s3cret@host/db", "postgres://user:***@host/db"),
            (
                "postgres://user@host/db?password=PW-s3cret&sslmode=require",
                "postgres://user@host/db?password=***&sslmode=***",
            ),
            ("POSTGRES://u:PW-s3cret@h", "POSTGRES://u:***@h"),
            ("postgres://u:PW/s3cret@h/db", "postgres://u:***@h/db"),
            ("postgres://u:1/PW-s3cret@h/db", "postgres://u:***@h/db"),
            ("postgres://u:PW?s3cret#@h/db?a=1#f", "postgres://u:***@h/db?a=***#***"),
            ("kafka://a:1,b:2", "kafka://a:1,b:2"),
            ("kafka://u:PW-s3cret@a:1,u:PW-s3cret@b:2", "kafka://***@b:2"),
            ("opensearch+https://u:PW-s3cret@h:9200/lake", "opensearch+https://u:***@h:9200/lake"),
            ("http://PW-s3cret@h", "http://***@h"),
            ("http://PW-s3cret:@h:1/x", "http://***@h:1/x"),
            ("http://h:1/x?token=PW-s3cret&PW-s3cret&a#PW-s3cret", "http://h:1/x?token=***&***&***#***"),
            ("http://h#PW-s3cret?a=b", "http://h#***"),
            ("u:PW-s3cret@h:1", "***@h:1"),
            ("s3:/k:PW-s3cret@bucket", "***@bucket"),
            ("x:?key=PW-s3cret", "x:?key=***"),
        ] {
            let told = shown_url(url);
            assert_eq!(told, shown, "{url}");
            assert!(!told.contains("s3cret"), "{told}");
            assert_eq!(shown_url(&told), told, "what is shown is shown so");
        }
    }
}
