//! Text framing: where records end. One rule serves the reader that cuts text into chunks and the decoder that cuts a
//! chunk into records, so that the place of a cut never changes what a record is.

use memchr::{memchr, memrchr};

/// How records are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A newline ends a record, whatever stands before it.
    Lines,
    /// A newline inside a quoted field is part of it.
    Quoted {
        /// Field delimiter.
        delimiter: u8,
        /// Quote.
        quote: u8,
    },
}

/// Where a scan stands within a record; only [`Framing::Quoted`] needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    FieldStart,
    Plain,
    InQuotes,
    AfterQuote,
}

/// Finds record ends in text that may come in pieces.
#[derive(Debug, Clone)]
pub(crate) struct Scanner {
    framing: Framing,
    at: At,
}

impl Scanner {
    /// A scan that starts at the first byte of a record.
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, at: At::FieldStart }
    }

    /// Index of the newline that ends the record at or after `from`, or `None` if `text` ends first; the scan then goes
    /// on in the next piece.
    #[inline]
    pub(crate) fn next_end(&mut self, text: &[u8], from: usize) -> Option<usize> {
        match self.framing {
            Framing::Lines => memchr(b'\n', &text[from..]).map(|at| from + at),
            Framing::Quoted { delimiter, quote } => self.next_quoted_end(text, from, delimiter, quote),
        }
    }

    fn next_quoted_end(&mut self, text: &[u8], from: usize, delimiter: u8, quote: u8) -> Option<usize> {
        let mut position = from;
        while position < text.len() {
            if self.at == At::InQuotes {
                position += memchr(quote, &text[position..])? + 1;
                self.at = At::AfterQuote;
                continue;
            }
            let byte = text[position];
            self.at = match (self.at, byte) {
                (_, b'\n') => {
                    self.at = At::FieldStart;
                    return Some(position);
                }
                // A doubled quote goes on inside the quotes.
                (At::FieldStart | At::AfterQuote, byte) if byte == quote => At::InQuotes,
                (_, byte) if byte == delimiter => At::FieldStart,
                _ => At::Plain,
            };
            position += 1;
        }
        None
    }

    /// Index of the last newline of `text`, whose first byte starts a record, that ends one.
    pub(crate) fn last_end(framing: Framing, text: &[u8]) -> Option<usize> {
        if framing == Framing::Lines {
            return memrchr(b'\n', text);
        }
        let mut scanner = Self::new(framing);
        let mut last = None;
        while let Some(end) = scanner.next_end(text, last.map_or(0, |at: usize| at + 1)) {
            last = Some(end);
        }
        last
    }
}

/// A record without the carriage return of a CRLF line end.
#[inline]
pub(crate) fn without_cr(record: &[u8]) -> &[u8] {
    record.strip_suffix(b"\r").unwrap_or(record)
}
