//! Delimited text: one record → one value a column.

use memchr::memchr;

use super::header::Matching;
use super::rows::{Fault, Sink};
use crate::dataset::CsvOptions;
use crate::reject::Reason;

/// What decides how a delimited record is read.
#[derive(Debug, Clone)]
pub(crate) struct CsvFormat {
    delimiter: u8,
    quote: Option<u8>,
    null_values: Vec<Vec<u8>>,
    matching: Matching,
}

/// A record that was read, and what was odd about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    /// It has more fields than the header; the surplus ones are empty.
    pub(crate) surplus: bool,
}

impl CsvFormat {
    pub(crate) fn new(options: &CsvOptions, matching: Matching) -> Self {
        let null_values = options.null_values.iter().map(|text| text.clone().into_bytes()).collect();
        Self { delimiter: options.delimiter, quote: options.quote, null_values, matching }
    }

    pub(crate) fn quote(&self) -> Option<u8> {
        self.quote
    }

    /// True for a line that is no record: an empty one, or one of spaces and tabs that delimit nothing. Where a record is
    /// one field, blanks are its value.
    #[inline]
    pub(crate) fn is_blank(&self, record: &[u8]) -> bool {
        is_blank(record, self.delimiter) && (record.is_empty() || self.matching.targets.len() != 1)
    }

    pub(crate) fn absent(&self) -> &[bool] {
        &self.matching.absent
    }

    /// Reads `record`, which has no line end, into the sink. `cut` says that the input ends with this record and without
    /// a line end; `quotes` that the record may hold a quote.
    #[inline]
    pub(crate) fn parse(&self, record: &[u8], quotes: bool, cut: bool, sink: &mut Sink) -> Result<Read, Fault> {
        self.parse_fields(record, quotes, cut, sink).map_err(|fault| self.narrow_or(fault, record, cut))
    }

    /// A record with too few fields is told as that, whatever the value at which it was given up.
    #[cold]
    fn narrow_or(&self, fault: Fault, record: &[u8], cut: bool) -> Fault {
        let fields = record.iter().filter(|byte| **byte == self.delimiter).count() + 1;
        let value = matches!(fault.reason, Reason::BadValue | Reason::Missing);
        if value && fields < self.matching.targets.len() { self.narrow(fields, cut) } else { fault }
    }

    fn narrow(&self, fields: usize, cut: bool) -> Fault {
        let reason = if cut { Reason::Truncated } else { Reason::Width };
        Fault::record(reason, format!("{fields} fields of {}", self.matching.targets.len()))
    }

    fn parse_fields(&self, record: &[u8], quotes: bool, cut: bool, sink: &mut Sink) -> Result<Read, Fault> {
        let quoted = quotes && self.quote.is_some_and(|quote| memchr(quote, record).is_some());
        let mut fields = 0;
        let mut surplus_text = false;
        let mut field = |text: &[u8], quoted: bool| {
            match self.matching.targets.get(fields) {
                Some(Some(column)) => self.push(*column, text, quoted, sink)?,
                Some(None) => {}
                None => surplus_text |= !text.is_empty(),
            }
            fields += 1;
            Ok::<(), Fault>(())
        };
        if quoted {
            self.split_quoted(record, cut, &mut field)?;
        } else {
            split(record, self.delimiter, |text| field(text, false))?;
        }
        let width = self.matching.targets.len();
        if fields < width {
            return Err(self.narrow(fields, cut));
        }
        if surplus_text {
            return Err(Fault::record(Reason::Width, format!("{fields} fields of {width}")));
        }
        Ok(Read { surplus: fields > width })
    }

    #[inline]
    fn push(&self, column: usize, text: &[u8], quoted: bool, sink: &mut Sink) -> Result<(), Fault> {
        if !quoted && !self.null_values.is_empty() && self.null_values.iter().any(|null| null == text) {
            return sink.push_null(column);
        }
        sink.push_field(column, text, quoted)
    }

    /// Splits a record that holds a quote. A field is quoted if the quote is its first byte; elsewhere a quote is text.
    fn split_quoted(
        &self,
        record: &[u8],
        cut: bool,
        field: &mut impl FnMut(&[u8], bool) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let quote = self.quote.expect("the caller found the quote");
        let mut unescaped = Vec::new();
        let mut start = 0;
        loop {
            let rest = &record[start..];
            let length = if rest.first() == Some(&quote) {
                let length = unquote(&rest[1..], quote, &mut unescaped).ok_or_else(|| open_quote(cut))?;
                field(&unescaped, true)?;
                length + 1
            } else {
                let length = memchr(self.delimiter, rest).unwrap_or(rest.len());
                field(&rest[..length], false)?;
                length
            };
            match rest.get(length) {
                None => return Ok(()),
                Some(byte) if *byte == self.delimiter => start += length + 1,
                Some(_) => return Err(Fault::record(Reason::BadQuote, "text after a closing quote")),
            }
        }
    }

    /// The fields of a header line, unquoted.
    pub(crate) fn header_fields(options: &CsvOptions, line: &str) -> Result<Vec<String>, Fault> {
        let format = Self::new(options, Matching::in_order(0));
        let mut fields = Vec::new();
        let mut field = |text: &[u8], _quoted: bool| {
            fields.push(String::from_utf8_lossy(text).into_owned());
            Ok(())
        };
        let line = line.as_bytes();
        if options.quote.is_some_and(|quote| memchr(quote, line).is_some()) {
            format.split_quoted(line, false, &mut field)?;
        } else {
            line.split(|byte| *byte == options.delimiter).try_for_each(|text| field(text, false))?;
        }
        Ok(fields)
    }
}

/// True for a line of nothing but spaces and tabs, neither of them the delimiter.
#[inline]
pub(crate) fn is_blank(line: &[u8], delimiter: u8) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t') && *byte != delimiter)
}

/// Calls `field` for each field of a record without quotes. Fields are a few bytes long, so eight bytes are looked at
/// together rather than each field being searched for by a call of its own.
#[inline]
fn split(record: &[u8], delimiter: u8, mut field: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let pattern = u64::from_ne_bytes([delimiter; 8]);
    let mut start = 0;
    let (words, tail) = record.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ pattern;
        // The high bit of each byte that is the delimiter; exact, no carry crosses a byte.
        let mut found = !(((differs & LOW) + LOW) | differs | LOW);
        while found != 0 {
            let end = index * 8 + (found.trailing_zeros() / 8) as usize;
            field(&record[start..end])?;
            start = end + 1;
            found &= found - 1;
        }
    }
    let base = record.len() - tail.len();
    for (index, byte) in tail.iter().enumerate() {
        if *byte == delimiter {
            field(&record[start..base + index])?;
            start = base + index + 1;
        }
    }
    field(&record[start..])
}

fn open_quote(cut: bool) -> Fault {
    let reason = if cut { Reason::Truncated } else { Reason::BadQuote };
    Fault::record(reason, "a quote is not closed")
}

/// Reads a quoted field after its opening quote into `unescaped`; the length up to and with the closing quote, or
/// `None` if there is none.
fn unquote(text: &[u8], quote: u8, unescaped: &mut Vec<u8>) -> Option<usize> {
    unescaped.clear();
    let mut position = 0;
    loop {
        let end = position + memchr(quote, &text[position..])?;
        unescaped.extend_from_slice(&text[position..end]);
        if text.get(end + 1) != Some(&quote) {
            return Some(end + 1);
        }
        unescaped.push(quote);
        position = end + 2;
    }
}
