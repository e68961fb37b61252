//! Cuts text into chunks of whole records, so that they can be decoded apart and in any order.

use std::io;

use bytes::Bytes;

use super::frames::{Framing, Scanner};
use super::input::{Text, TextEnd, Window};
use super::rows::kept_bytes;
use super::{RECORD_BYTES_MAX, too_long};
use crate::reject::{REJECT_BYTES_MAX, Reason, Reject};

/// Whole records of a text, or a piece of it that is no record.
#[derive(Debug, Clone)]
pub(crate) enum TextChunk {
    /// Records with their line ends.
    Records {
        /// Offset of the first byte.
        offset: u64,
        bytes: Bytes,
        /// The text ends with these bytes; the last record may lack its line end.
        last: bool,
    },
    /// A part that can't be decoded: a record that is too long, or the end of a broken stream.
    Reject(Reject),
}

/// The sequential half of decoding text: cheap, one thread.
pub(crate) struct Cutter {
    text: Text,
    framing: Framing,
    chunk_bytes: usize,
    done: bool,
}

impl Cutter {
    /// Chunks from the current position of `text` on, of about `chunk_bytes` bytes.
    pub(crate) fn new(text: Text, framing: Framing, chunk_bytes: usize) -> Self {
        Self { text, framing, chunk_bytes: chunk_bytes.max(1), done: false }
    }

    pub(crate) fn next_chunk(&mut self) -> io::Result<Option<TextChunk>> {
        // A record that is longer than this is refused, and its line end may take two bytes more.
        let longest = RECORD_BYTES_MAX + 2;
        let mut length = self.chunk_bytes;
        loop {
            if self.done {
                return Ok(None);
            }
            let window = self.text.peek(length)?;
            if let Some(end) = &window.end {
                if let Some(chunk) = self.at_end(&window, end) {
                    return Ok(Some(chunk));
                }
                continue;
            }
            if let Some(last) = Scanner::last_end(self.framing, &window.bytes) {
                return Ok(Some(self.take(window.bytes.slice(..=last), false)));
            }
            if length >= longest {
                return self.skip_record(&window.bytes).map(Some);
            }
            length = (length * 2).min(longest);
        }
    }

    fn take(&mut self, bytes: Bytes, last: bool) -> TextChunk {
        let offset = self.text.position();
        self.text.advance(bytes.len());
        TextChunk::Records { offset, bytes, last }
    }

    fn at_end(&mut self, window: &Window, end: &TextEnd) -> Option<TextChunk> {
        match end {
            TextEnd::Whole => {
                self.done = true;
                (!window.bytes.is_empty()).then(|| self.take(window.bytes.clone(), true))
            }
            TextEnd::Broken(message) => {
                if let Some(last) = Scanner::last_end(self.framing, &window.bytes) {
                    return Some(self.take(window.bytes.slice(..=last), false));
                }
                self.done = true;
                Some(TextChunk::Reject(Reject {
                    offset: self.text.position(),
                    reason: Reason::BrokenStream,
                    column: None,
                    message: format!("the compressed stream breaks off here: {message}"),
                    bytes: kept_bytes(&window.bytes),
                }))
            }
        }
    }

    /// Passes a record whose first bytes are `start` without holding it whole.
    fn skip_record(&mut self, start: &Bytes) -> io::Result<TextChunk> {
        let offset = self.text.position();
        let kept = kept_bytes(start);
        let mut scanner = Scanner::new(self.framing);
        let mut from = start.clone();
        loop {
            if let Some(end) = scanner.next_end(&from, 0) {
                self.text.advance(end + 1);
                break;
            }
            self.text.advance(from.len());
            let window = self.text.peek(self.chunk_bytes.max(REJECT_BYTES_MAX))?;
            if window.bytes.is_empty() {
                break;
            }
            from = window.bytes;
        }
        let fault = too_long();
        Ok(TextChunk::Reject(Reject {
            offset,
            reason: fault.reason,
            column: None,
            message: fault.message,
            bytes: kept,
        }))
    }
}
