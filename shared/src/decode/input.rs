//! Sequential text from a file: plain, gzip or Zstandard. Failures of the store and damage of the file are kept apart.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};

use super::ReadAt;

/// Bytes asked from the store at once where a reader goes through a file in order.
const READ_BYTES: usize = 1 << 20;

/// A source that remembers the store's failures, because the decoders in between report every error as damage.
#[derive(Clone)]
pub(crate) struct Guarded {
    source: Arc<dyn ReadAt>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Guarded {
    pub(crate) fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { source, failure: Arc::default() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// The same source with a memory of its own: one for each thread that reads.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(Arc::clone(&self.source))
    }

    /// `length` bytes from `offset` on. A range outside the file is damage, not a failure of the store.
    pub(crate) fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let inside = offset.checked_add(length as u64).is_some_and(|end| end <= self.source.len());
        if !inside {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file refers to bytes beyond its end"));
        }
        self.source.read_at(offset, length).map_err(|error| {
            let told = io::Error::new(error.kind(), "the store failed");
            *self.failure.lock().expect("no holder panics") = Some(error);
            told
        })
    }

    /// The store's failure, if it is what an error came from.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.failure.lock().expect("no holder panics").take().map_or(Ok(()), Err)
    }

    /// A sequential reader from `position` on.
    pub(crate) fn reader(&self, position: u64) -> GuardedReader {
        GuardedReader { source: self.clone(), position, buffer: Bytes::new() }
    }
}

/// [`Read`] over a [`Guarded`] source.
#[derive(Clone)]
pub(crate) struct GuardedReader {
    source: Guarded,
    position: u64,
    buffer: Bytes,
}

impl GuardedReader {
    /// With bytes in its buffer, which its clones share, unless the source ends here.
    pub(crate) fn filled(mut self) -> io::Result<Self> {
        self.fill()?;
        Ok(self)
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            let left = self.source.len().saturating_sub(self.position);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
            if length > 0 {
                self.buffer = self.source.read(self.position, length)?;
                self.position += length as u64;
            }
        }
        Ok(())
    }
}

impl Read for GuardedReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let length = self.buffer.len().min(into.len());
        self.buffer.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// How a text file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes of the file. Names lie.
    pub(crate) fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // Parallel and seekable compressors may begin with a skippable frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// How a text ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextEnd {
    /// Properly.
    Whole,
    /// The compressed stream breaks off or is damaged.
    Broken(String),
}

/// A look at the text from the current position on.
pub(crate) struct Window {
    pub(crate) bytes: Bytes,
    /// Set if the text ends with `bytes`.
    pub(crate) end: Option<TextEnd>,
}

enum Unpacking {
    Plain,
    Stream { reader: Box<dyn Read + Send>, buffer: Vec<u8>, start: usize, end: Option<TextEnd> },
}

/// The (decompressed) text of a file, read in order.
pub(crate) struct Text {
    guarded: Guarded,
    source: Unpacking,
    position: u64,
}

impl Text {
    pub(crate) fn open(guarded: Guarded, compression: Compression) -> io::Result<Self> {
        let reader = BufReader::with_capacity(READ_BYTES / 4, guarded.reader(0));
        let reader: Option<Box<dyn Read + Send>> = match compression {
            Compression::None => None,
            Compression::Gzip => Some(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Compression::Zstd => Some(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)),
        };
        let source = match reader {
            None => Unpacking::Plain,
            Some(reader) => Unpacking::Stream { reader, buffer: Vec::new(), start: 0, end: None },
        };
        Ok(Self { guarded, source, position: 0 })
    }

    /// Offset in the text of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next `length` bytes, or fewer at the end of the text. Does not move.
    pub(crate) fn peek(&mut self, length: usize) -> io::Result<Window> {
        match &mut self.source {
            Unpacking::Plain => {
                let left = self.guarded.len().saturating_sub(self.position);
                let available = usize::try_from(left).unwrap_or(usize::MAX).min(length);
                let read = self.guarded.read(self.position, available);
                self.guarded.check()?;
                let end = (available as u64 == left).then_some(TextEnd::Whole);
                Ok(Window { bytes: read?, end })
            }
            Unpacking::Stream { reader, buffer, start, end } => {
                if buffer.len() - *start < length && end.is_none() {
                    buffer.drain(..*start);
                    *start = 0;
                    *end = fill(reader, buffer, length);
                    self.guarded.check()?;
                }
                let available = (buffer.len() - *start).min(length);
                let bytes = Bytes::copy_from_slice(&buffer[*start..*start + available]);
                let end = if *start + available == buffer.len() { end.clone() } else { None };
                Ok(Window { bytes, end })
            }
        }
    }

    /// Moves on by `length` bytes, which a [`Text::peek`] showed.
    pub(crate) fn advance(&mut self, length: usize) {
        self.position += length as u64;
        if let Unpacking::Stream { buffer, start, .. } = &mut self.source {
            *start = (*start + length).min(buffer.len());
        }
    }
}

/// Reads until `buffer` holds `length` bytes; how the text ends, if it does.
fn fill(reader: &mut Box<dyn Read + Send>, buffer: &mut Vec<u8>, length: usize) -> Option<TextEnd> {
    while buffer.len() < length {
        let filled = buffer.len();
        buffer.resize(length.min(filled + READ_BYTES), 0);
        match reader.read(&mut buffer[filled..]) {
            Ok(read) => {
                buffer.truncate(filled + read);
                if read == 0 {
                    return Some(TextEnd::Whole);
                }
            }
            Err(error) => {
                buffer.truncate(filled);
                if error.kind() != io::ErrorKind::Interrupted {
                    return Some(TextEnd::Broken(error.to_string()));
                }
            }
        }
    }
    None
}
