//! Rejects: records that the decoder, the transform or a `reject` rule refused, kept with bytes, position and reason.

use bytes::Bytes;

/// Why a record was refused. The codes are part of the stored format and of every report.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The record has another number of fields than the header.
    Width,
    /// The input ends inside the record, or the record is cut off.
    Truncated,
    /// A value its column's type can't hold.
    BadValue,
    /// A required column has no value.
    Missing,
    /// Not valid UTF-8.
    BadUtf8,
    /// A quote that is opened and never closed, or text after a closing quote.
    BadQuote,
    /// Not a JSON object, or not JSON at all.
    BadJson,
    /// A record longer than the decoder's limit.
    TooLong,
    /// A compressed stream that breaks off or is damaged: the rest of the file is unreadable.
    BrokenStream,
    /// The whole file can't be opened as its format.
    BadFile,
    /// A local time that its zone skips.
    NonexistentTime,
    /// The transform failed on this record.
    Transform,
    /// A named `reject` rule of the definition.
    Rule(String),
}

impl Reason {
    /// The code as stored and reported: `bad_value`, `rule:negative_fare`.
    #[must_use]
    pub fn code(&self) -> String {
        let plain = match self {
            Self::Width => "width",
            Self::Truncated => "truncated",
            Self::BadValue => "bad_value",
            Self::Missing => "missing",
            Self::BadUtf8 => "bad_utf8",
            Self::BadQuote => "bad_quote",
            Self::BadJson => "bad_json",
            Self::TooLong => "too_long",
            Self::BrokenStream => "broken_stream",
            Self::BadFile => "bad_file",
            Self::NonexistentTime => "nonexistent_time",
            Self::Transform => "transform",
            Self::Rule(name) => return format!("rule:{name}"),
        };
        plain.to_owned()
    }

    /// The reason of a [`Reason::code`]; `None` for a text that is none.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "width" => Self::Width,
            "truncated" => Self::Truncated,
            "bad_value" => Self::BadValue,
            "missing" => Self::Missing,
            "bad_utf8" => Self::BadUtf8,
            "bad_quote" => Self::BadQuote,
            "bad_json" => Self::BadJson,
            "too_long" => Self::TooLong,
            "broken_stream" => Self::BrokenStream,
            "bad_file" => Self::BadFile,
            "nonexistent_time" => Self::NonexistentTime,
            "transform" => Self::Transform,
            _ => Self::Rule(code.strip_prefix("rule:")?.to_owned()),
        })
    }
}

/// One refused record. Its source and partition are those of the input it was decoded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Position of the record in its partition: byte offset in a text file, row number in a columnar one, log offset
    /// in a stream.
    pub offset: u64,
    /// Why.
    pub reason: Reason,
    /// The input column at fault, where one is.
    pub column: Option<String>,
    /// What exactly was wrong, for people.
    pub message: String,
    /// The record's original bytes, without the record separator; a columnar row as a JSON object; at most
    /// [`REJECT_BYTES_MAX`] of them.
    pub bytes: Bytes,
}

/// Longest record kept whole in a reject, in bytes. The raw zone has the rest.
pub const REJECT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_its_reason() {
        let plain = [
            Reason::Width,
            Reason::Truncated,
            Reason::BadValue,
            Reason::Missing,
            Reason::BadUtf8,
            Reason::BadQuote,
            Reason::BadJson,
            Reason::TooLong,
            Reason::BrokenStream,
            Reason::BadFile,
            Reason::NonexistentTime,
            Reason::Transform,
            Reason::Rule("negative_fare".to_owned()),
        ];
        for reason in plain {
            assert_eq!(Reason::from_code(&reason.code()), Some(reason));
        }
        assert_eq!(Reason::from_code("unheard_of"), None);
    }
}
