//! `[traces]`: where spans go, and which share of them.

use std::fmt;

use super::masked;

/// Where spans go.
#[derive(Clone, PartialEq, Eq)]
pub struct TracesConfig {
    /// Address of the receiver, without the path of the signal.
    pub endpoint: String,
    /// Which share of the traces that begin here is kept.
    pub sample: Share,
}

impl fmt::Debug for TracesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold a password.
        f.debug_struct("TracesConfig").field("sample", &self.sample).finish_non_exhaustive()
    }
}

/// A number from 0 to 1, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

const WHOLE: f64 = 1_000_000.0;

impl Share {
    /// Reads `0.1`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let share: f64 = text.parse().map_err(|_| format!("`{text}` is not a number such as `0.1`"))?;
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("`{text}` is not between 0 and 1"));
        }
        Ok(Self((share * WHOLE).round() as u32))
    }

    /// The share as a number from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / WHOLE
    }
}

/// Reads the address of a receiver: a scheme of HTTP and a host, and no query.
///
/// # Errors
/// Says what is wrong with the text.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = host.ok_or_else(|| format!("`{}` begins with neither `http://` nor `https://`", masked(text)))?;
    let names_a_host = !host.is_empty() && !host.starts_with(['/', ':']);
    if !names_a_host || host.contains(['?', '#']) || reqwest::Url::parse(text).is_err() {
        return Err(format!("`{}` is no address such as `http://127.0.0.1:4318`", masked(text)));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_address_shows_no_password() {
        assert_eq!(endpoint("http://127.0.0.1:4318/"), Ok("http://127.0.0.1:4318".to_owned()));
        for text in ["grpc://u:secret@host:4317", "https://u:secret@host/?x=1", "http://"] {
            let wrong = endpoint(text).expect_err(text);
            assert!(!wrong.contains("secret"), "{wrong}");
        }
    }
}
