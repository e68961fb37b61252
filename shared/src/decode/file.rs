//! One opened file: what it is, its chunks in order, and a decoder for them.

use std::io;
use std::sync::Arc;

use arrow::datatypes::DataType;
use bytes::Bytes;

use super::avro::{AvroFile, BlockReader, Found, Run};
use super::columnar::ColumnarPlan;
use super::columns::supported;
use super::csv::{CsvFormat, is_blank};
use super::cutter::{Cutter, TextChunk};
use super::frames::{Framing, Scanner, without_cr};
use super::header::{Matching, Names};
use super::input::{Compression, Guarded, Text, TextEnd};
use super::notes::{Notes, NotesState};
use super::orc::OrcFile;
use super::parquet::ParquetFile;
use super::pieces::{self, Groups as _, Piece};
use super::rows::{Fault, kept_bytes};
use super::sniff::{LOOKED_AT_BYTES, not_text};
use super::text::{RecordFormat, TextDecoder};
use super::{CHUNK_BYTES, Decoded, OpenError, RECORD_BYTES_MAX, ReadAt};
use crate::dataset::{CsvOptions, Format, InputSpec};
use crate::reject::{Reason, Reject};

/// A file that was opened as its format: its header or footer is read, its records are not.
#[derive(Debug)]
pub struct FileDecoder {
    source: Guarded,
    decoder: Arc<ChunkDecoder>,
    chunk_bytes: usize,
}

/// A part of a file that is decoded apart from the others, by [`ChunkDecoder::decode`] of the same file.
#[derive(Debug, Clone)]
pub struct Chunk(ChunkKind);

#[derive(Debug, Clone)]
enum ChunkKind {
    Text(TextChunk),
    Piece(Piece),
    Avro(Run),
    Damage { row: u64, message: String },
}

impl Chunk {
    /// About how many bytes the chunk has: of decompressed text, or of the columnar file. For progress and memory.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match &self.0 {
            ChunkKind::Text(TextChunk::Records { bytes, .. }) => bytes.len() as u64,
            ChunkKind::Text(TextChunk::Reject(reject)) => reject.bytes.len() as u64,
            ChunkKind::Piece(piece) => piece.bytes,
            ChunkKind::Avro(run) => run.bytes.len() as u64,
            ChunkKind::Damage { .. } => 0,
        }
    }
}

/// The sequential half of decoding: reads the file in order and cuts it between records.
pub struct ChunkReader(ReaderKind);

enum ReaderKind {
    Text(Box<Cutter>),
    List(std::vec::IntoIter<Chunk>),
    Avro(BlockReader),
}

impl ReaderKind {
    fn pieces(pieces: &[Piece]) -> Self {
        let chunks: Vec<_> = pieces.iter().cloned().map(|piece| Chunk(ChunkKind::Piece(piece))).collect();
        Self::List(chunks.into_iter())
    }
}

impl ChunkReader {
    /// The next chunk; `None` at the end of the file.
    ///
    /// # Errors
    /// Failures of the store. Damage of the file is no error: it becomes a chunk that decodes to a reject.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        match &mut self.0 {
            ReaderKind::Text(cutter) => Ok(cutter.next_chunk()?.map(|chunk| Chunk(ChunkKind::Text(chunk)))),
            ReaderKind::List(chunks) => Ok(chunks.next()),
            ReaderKind::Avro(blocks) => Ok(blocks.next_found()?.map(|found| match found {
                Found::Run(run) => Chunk(ChunkKind::Avro(run)),
                Found::Damage { row, message } => Chunk(ChunkKind::Damage { row, message }),
            })),
        }
    }
}

/// The parallel half of decoding: chunk in, rows and rejects out. Chunks may come in any order, from several threads.
#[derive(Debug)]
pub struct ChunkDecoder {
    source: Guarded,
    kind: DecoderKind,
    notes: Arc<NotesState>,
}

#[derive(Debug)]
enum DecoderKind {
    Text { decoder: TextDecoder, compression: Compression, start: u64 },
    Parquet { file: ParquetFile, plan: ColumnarPlan },
    Orc { file: OrcFile, plan: ColumnarPlan },
    Avro { file: AvroFile, plan: ColumnarPlan },
}

impl ChunkDecoder {
    /// Rows and rejects of a chunk of this decoder's file, in order of position, in batches of at most
    /// [`super::BATCH_ROWS_MAX`] records. Records = rows + rejects (H8).
    ///
    /// # Errors
    /// Failures of the store, and defects of ours; never anything about the file's content.
    pub fn decode(&self, chunk: Chunk) -> io::Result<Vec<Decoded>> {
        match (chunk.0, &self.kind) {
            (ChunkKind::Text(chunk), DecoderKind::Text { decoder, .. }) => {
                decoder.decode(chunk).map_err(io::Error::other)
            }
            (ChunkKind::Piece(piece), DecoderKind::Parquet { file, plan }) => {
                pieces::decode(file, &self.source.fresh(), plan, &piece)
            }
            (ChunkKind::Piece(piece), DecoderKind::Orc { file, plan }) => {
                pieces::decode(file, &self.source.fresh(), plan, &piece)
            }
            (ChunkKind::Avro(run), DecoderKind::Avro { file, plan }) => Ok(file.decode(plan, &run)),
            (ChunkKind::Damage { row, message }, DecoderKind::Avro { plan, .. }) => {
                Ok(vec![plan.unreadable(row, message)])
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the chunk is of another file")),
        }
    }
}

impl FileDecoder {
    /// Opens a file: reads its header or footer and matches its columns. Compression and format are
    /// told by the bytes; nothing depends on the file's name, so that a recompute gives equal rejects.
    ///
    /// # Errors
    /// [`OpenError::Reject`] if the file as a whole is none of its format, [`OpenError::Io`] if the store fails,
    /// [`OpenError::Unsupported`] if the definition asks for what the format can't give.
    pub fn open(spec: &InputSpec, source: Arc<dyn ReadAt>) -> Result<Self, OpenError> {
        Self::open_with(spec, source, CHUNK_BYTES)
    }

    /// As [`FileDecoder::open`], with chunks of about `chunk_bytes` bytes. Rows and rejects do not depend on it.
    ///
    /// # Errors
    /// As [`FileDecoder::open`].
    pub fn open_with(spec: &InputSpec, source: Arc<dyn ReadAt>, chunk_bytes: usize) -> Result<Self, OpenError> {
        let opening = Opening { spec, source: Guarded::new(source) };
        let start = opening.start()?;
        let (kind, notes) = match &spec.format {
            Format::Csv(options) => opening.text(Some(options), &start, chunk_bytes)?,
            Format::Json => opening.text(None, &start, chunk_bytes)?,
            Format::Parquet | Format::Orc | Format::Avro => opening.columnar()?,
        };
        let decoder = Arc::new(ChunkDecoder { source: opening.source.clone(), kind, notes });
        Ok(Self { source: opening.source, decoder, chunk_bytes })
    }

    /// A reader of the file's chunks, from its first record on.
    ///
    /// # Errors
    /// Failures of the store.
    pub fn chunks(&self) -> io::Result<ChunkReader> {
        let kind = match &self.decoder.kind {
            DecoderKind::Text { decoder, compression, start } => {
                let mut text = Text::open(self.source.fresh(), *compression)?;
                skip(&mut text, *start)?;
                ReaderKind::Text(Box::new(Cutter::new(text, decoder.framing, self.chunk_bytes)))
            }
            DecoderKind::Parquet { file, .. } => ReaderKind::pieces(file.pieces()),
            DecoderKind::Orc { file, .. } => ReaderKind::pieces(file.pieces()),
            DecoderKind::Avro { file, .. } => ReaderKind::Avro(file.blocks(self.source.fresh(), self.chunk_bytes)),
        };
        Ok(ChunkReader(kind))
    }

    /// The decoder of this file's chunks.
    #[must_use]
    pub fn chunk_decoder(&self) -> Arc<ChunkDecoder> {
        Arc::clone(&self.decoder)
    }

    /// What was noticed about the file so far.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.decoder.notes.snapshot()
    }
}

/// Passes the header, which was read when the file was opened.
fn skip(text: &mut Text, length: u64) -> io::Result<()> {
    while text.position() < length {
        let left = usize::try_from(length - text.position()).map_err(io::Error::other)?;
        let seen = text.peek(left)?.bytes.len();
        if seen == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has changed since it was opened"));
        }
        text.advance(seen);
    }
    Ok(())
}

/// A file that is being opened.
struct Opening<'a> {
    spec: &'a InputSpec,
    source: Guarded,
}

impl Opening<'_> {
    fn bad(&self, fault: Fault, bytes: &Bytes) -> OpenError {
        OpenError::Reject(Reject {
            offset: 0,
            reason: fault.reason,
            column: fault.column.map(|index| self.spec.columns[index].name.clone()),
            message: fault.message,
            bytes: kept_bytes(bytes),
        })
    }

    fn bad_file(&self, message: impl Into<String>, bytes: &Bytes) -> OpenError {
        self.bad(Fault::record(Reason::BadFile, message), bytes)
    }

    /// The first bytes, after the check that there are any.
    fn start(&self) -> Result<Bytes, OpenError> {
        let length = self.source.len().min(16);
        if length == 0 {
            return Err(self.bad_file("the file is empty", &Bytes::new()));
        }
        let bytes = self.source.read(0, usize::try_from(length).expect("at most 16"));
        self.source.check()?;
        Ok(bytes?)
    }

    fn columnar(&self) -> Result<(DecoderKind, Arc<NotesState>), OpenError> {
        let schema = self.spec.schema();
        let mut notes = Notes::default();
        let name = self.spec.format.name();
        let no_file = |message: String| self.bad_file(format!("not readable as {name}: {message}"), &Bytes::new());
        let mut plan = |file: &arrow::datatypes::Schema| {
            ColumnarPlan::new(file, &self.spec.columns, &schema, &mut notes)
                .map_err(|fault| self.bad(fault, &Bytes::new()))
        };
        // Where not a single row can be read, the file as a whole is the reject, not a hole in it.
        let readable = |fault: Option<String>| fault.map_or(Ok(()), |message| Err(no_file(message)));
        let kind = match &self.spec.format {
            Format::Parquet => {
                let file = ParquetFile::open(&self.source)?.map_err(no_file)?;
                let plan = plan(file.metadata.schema())?;
                readable(pieces::nothing_readable(&file, &self.source, &plan)?)?;
                DecoderKind::Parquet { file, plan }
            }
            Format::Orc => {
                let file = OrcFile::open(&self.source)?.map_err(no_file)?;
                let plan = plan(&file.schema)?;
                readable(pieces::nothing_readable(&file, &self.source, &plan)?)?;
                DecoderKind::Orc { file, plan }
            }
            _ => {
                let file = AvroFile::open(&self.source)?.map_err(no_file)?;
                let plan = plan(&file.schema)?;
                readable(file.nothing_readable(self.source.fresh(), &plan)?)?;
                DecoderKind::Avro { file, plan }
            }
        };
        Ok((kind, Arc::new(NotesState::new(notes))))
    }

    fn text(
        &self,
        csv: Option<&CsvOptions>,
        start: &Bytes,
        chunk_bytes: usize,
    ) -> Result<(DecoderKind, Arc<NotesState>), OpenError> {
        supported_types(self.spec, csv.is_some())?;
        let compression = Compression::sniff(start);
        let mut text = Text::open(self.source.clone(), compression)?;
        let window = text.peek(LOOKED_AT_BYTES)?;
        match (&window.end, window.bytes.is_empty()) {
            (Some(TextEnd::Broken(message)), true) => {
                return Err(self.bad_file(format!("the compressed stream can't be read: {message}"), start));
            }
            (_, true) => return Err(self.bad_file("the file is empty", start)),
            _ => {}
        }
        let own = csv.map_or(Vec::new(), |options| options.quote.into_iter().chain([options.delimiter]).collect());
        if let Some(looks) = not_text(&window.bytes, &own) {
            let name = self.spec.format.name();
            return Err(self.bad_file(format!("not readable as {name}: {looks}"), &window.bytes));
        }
        if window.bytes.starts_with(b"\xef\xbb\xbf") {
            text.advance(3);
        }
        let mut notes = Notes::default();
        let columns = self.spec.columns.len();
        let (framing, format) = match csv {
            None => (Framing::Lines, RecordFormat::Json(Arc::new(Names::new(&self.spec.columns)))),
            Some(options) => {
                let framing = framing(options);
                let matching = if options.header {
                    self.header(&mut text, options, framing, chunk_bytes, &mut notes)?
                } else {
                    Matching::in_order(columns)
                };
                (framing, RecordFormat::Csv(CsvFormat::new(options, matching)))
            }
        };
        if compression != Compression::None {
            self.first_record(&mut text, framing)?;
        }
        let notes = Arc::new(NotesState::new(notes));
        let (columns, schema) = (self.spec.columns.clone(), self.spec.schema());
        let decoder = TextDecoder { columns, schema, format, framing, notes: Arc::clone(&notes) };
        Ok((DecoderKind::Text { decoder, compression, start: text.position() }, notes))
    }

    /// Where a compressed stream breaks off before its first record ends, nothing of the file can be read.
    fn first_record(&self, text: &mut Text, framing: Framing) -> Result<(), OpenError> {
        let longest = RECORD_BYTES_MAX + 2;
        let mut length = LOOKED_AT_BYTES;
        loop {
            let window = text.peek(length)?;
            let whole = Scanner::new(framing).next_end(&window.bytes, 0).is_some();
            match &window.end {
                Some(TextEnd::Broken(message)) if !whole => {
                    let message = format!("the compressed stream breaks off before its first record ends: {message}");
                    return Err(self.bad_file(message, &window.bytes));
                }
                None if !whole && length < longest => length = (length * 2).min(longest),
                _ => return Ok(()),
            }
        }
    }

    /// Reads the header line, the first that is not blank, and moves past it.
    fn header(
        &self,
        text: &mut Text,
        options: &CsvOptions,
        framing: Framing,
        chunk_bytes: usize,
        notes: &mut Notes,
    ) -> Result<Matching, OpenError> {
        let longest = RECORD_BYTES_MAX + 2;
        let mut length = chunk_bytes.clamp(1, longest);
        loop {
            let window = text.peek(length)?;
            let end = Scanner::new(framing).next_end(&window.bytes, 0);
            let line = match (end, &window.end) {
                (Some(end), _) => window.bytes.slice(..end),
                (None, Some(TextEnd::Whole)) => window.bytes.clone(),
                (None, Some(TextEnd::Broken(message))) => {
                    let message = format!("the compressed stream breaks off in the header: {message}");
                    return Err(self.bad_file(message, &window.bytes));
                }
                (None, None) if length == longest => {
                    return Err(self.bad_file("the header line is too long", &window.bytes));
                }
                (None, None) => {
                    length = (length * 2).min(longest);
                    continue;
                }
            };
            text.advance(end.map_or(line.len(), |end| end + 1));
            let shown = without_cr(&line);
            if memchr::memchr(b'\r', shown).is_some() {
                let message = "the header holds a bare carriage return: lines must end in LF or CRLF";
                return Err(self.bad_file(message, &line));
            }
            if !is_blank(shown, options.delimiter) {
                return self.match_header(shown, options, &line, notes);
            }
            if end.is_none() {
                return Err(self.bad_file("the file has no header line", &line));
            }
        }
    }

    fn match_header(
        &self,
        shown: &[u8],
        options: &CsvOptions,
        line: &Bytes,
        notes: &mut Notes,
    ) -> Result<Matching, OpenError> {
        let text = std::str::from_utf8(shown).map_err(|_| self.bad_file("the header is not valid UTF-8", line))?;
        if text.contains('\0') {
            return Err(self.bad_file("the header holds a zero byte", line));
        }
        let fields = CsvFormat::header_fields(options, text);
        let fields = fields.map_err(|fault| self.bad_file(format!("header: {}", fault.message), line))?;
        notes.header = Some(text.to_owned());
        Matching::by_name(&fields, &self.spec.columns, notes).map_err(|fault| self.bad(fault, line))
    }
}

/// Where records of delimited text end.
pub(crate) fn framing(options: &CsvOptions) -> Framing {
    match options.quote {
        Some(quote) if options.multiline => Framing::Quoted { delimiter: options.delimiter, quote },
        _ => Framing::Lines,
    }
}

/// Checks that text of this format can fill every column.
pub(crate) fn supported_types(spec: &InputSpec, csv: bool) -> Result<(), OpenError> {
    let unfit = |data_type: &DataType| !supported(data_type) || csv && data_type.is_nested();
    match spec.columns.iter().find(|column| unfit(&column.data_type)) {
        None => Ok(()),
        Some(column) => Err(OpenError::Unsupported {
            column: column.name.clone(),
            data_type: column.data_type.clone(),
            format: spec.format.name(),
        }),
    }
}
