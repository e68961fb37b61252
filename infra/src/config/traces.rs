//! `[traces]`: where spans go, and which share of them.

use tidemark_shared::secrets::shown_url;

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracesConfig {
    /// Address of the receiver, without credentials and the path of the signal.
    pub endpoint: String,
    /// Which share of the traces that begin here is kept.
    pub sample: Fraction,
}

/// A number from 0 to 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction(u32);

const MILLIONTHS: f64 = 1_000_000.0;

impl Fraction {
    /// Reads `0.1`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let share: f64 = text.parse().map_err(|_| format!("`{text}` is not a number such as `0.1`"))?;
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("`{text}` is not between 0 and 1"));
        }
        Ok(Self((share * MILLIONTHS).round() as u32))
    }

    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / MILLIONTHS
    }
}

/// Reads the address of a receiver: a scheme of HTTP and a host, and neither credentials nor a query.
///
/// # Errors
/// Says what is wrong with the text, and shows no credentials that are in it.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = host.ok_or_else(|| format!("`{}` begins with neither `http://` nor `https://`", shown_url(text)))?;
    // The sender of spans asks receivers by headers alone: a user and a password in the address would never reach one.
    if host.split(['/', '\\', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
        return Err(format!(
            "`{}` holds a user or a password, which are not sent: leave them out, and name a header that says who you are \
             in `OTEL_EXPORTER_OTLP_HEADERS`, such as `authorization=Bearer …`",
            shown_url(text)
        ));
    }
    let names_a_host = !host.is_empty() && !host.starts_with(['/', ':']);
    if !names_a_host || host.contains(['?', '#']) || reqwest::Url::parse(text).is_err() {
        return Err(format!("`{}` is no address such as `http://127.0.0.1:4318`", shown_url(text)));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_and_a_host_and_what_is_wrong_with_it_shows_no_credentials() {
        assert_eq!(endpoint("http://127.0.0.1:4318/"), Ok("http://127.0.0.1:4318".to_owned()));
        assert_eq!(endpoint("https://host/a@b"), Ok("https://host/a@b".to_owned()), "no user, but a path");
        let (neither, credentials, no_address) =
            ("begins with neither", "`OTEL_EXPORTER_OTLP_HEADERS`", "is no address");
        for (text, wanted) in [
            ("grpc://u:secret@host:4317", neither),
            ("u:secret@host:4318", neither),
            ("grpc://u:se/secret@host", neither),
            ("http://u:secret@host:4318", credentials),
            ("https://u:secret@host/?x=1", credentials),
            ("https://secret@host", credentials),
            ("https://u:a@secret@host", credentials),
            ("http://:secret@host", credentials),
            ("http://u:se/secret@host", no_address),
            ("http://host/?token=secret", no_address),
            ("http://", no_address),
        ] {
            let wrong = endpoint(text).expect_err(text);
            assert!(wrong.contains(wanted), "{text}: {wrong}");
            assert!(!wrong.contains("secret"), "{wrong}");
        }
    }
}
