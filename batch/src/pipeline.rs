//! Raw files → decoded and transformed parts, on several threads, in order.
//!
//! One blocking task reads files one after the other and cuts them into chunks; each chunk is decoded and transformed
//! on a blocking thread of its own; the consumer gets the parts in order of file and position. Reading goes on into
//! the next file while the last chunks of the one before are still in work.

use std::io;
use std::sync::Arc;

use tidemark_shared::dataset::InputSpec;
use tidemark_shared::decode::{ChunkDecoder, FileDecoder, Notes, OpenError, ReadAt};
use tidemark_shared::reject::Reject;
use tidemark_shared::transform::{Transform, Transformed};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::BatchError;

/// Opens a raw file's bytes; called on a blocking thread, when the file's turn comes.
pub(crate) type OpenRaw = Box<dyn FnOnce() -> Result<Arc<dyn ReadAt>, BatchError> + Send>;

/// A raw file to process.
pub(crate) struct RawFile {
    /// Name, for messages and as a hint for the decoder.
    pub(crate) name: String,
    /// Columns and format.
    pub(crate) spec: Arc<InputSpec>,
    /// Opens the bytes.
    pub(crate) open: OpenRaw,
}

/// What comes out, in order; a file's events end with `End` or `BadFile`.
pub(crate) enum Event {
    /// A run of records.
    Part(Part),
    /// The file can't be opened as its format.
    BadFile(Reject),
    /// All parts of the file were given.
    End {
        /// Remarks of the decoder.
        notes: Vec<String>,
    },
}

/// Decoded and transformed records, and the rejects of both, in order of offset.
pub(crate) struct Part {
    pub(crate) accepted: Vec<Transformed>,
    pub(crate) records: u64,
    pub(crate) filtered: u64,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) raw_bytes: u64,
}

enum Pending {
    Part(JoinHandle<Result<Part, BatchError>>),
    BadFile(Reject),
    /// The decoder knows all its notes only when the file's chunks are done, so they are asked for at the end.
    End(Box<FileDecoder>),
    Failed(BatchError),
}

/// The consumer's end.
pub(crate) struct Parts {
    pending: mpsc::Receiver<Pending>,
    /// Asked when the channel has run dry: a reader that panicked closes it too.
    reader: Option<JoinHandle<()>>,
}

/// Starts processing `files`; `width` chunks are in work at a time, give or take one.
pub(crate) fn start(files: Vec<RawFile>, transform: Arc<Transform>, width: usize) -> Parts {
    let (sender, pending) = mpsc::channel(width.max(1));
    let runtime = tokio::runtime::Handle::current();
    // Ends by itself: a dropped receiver makes the next send fail.
    let reader = runtime.clone().spawn_blocking(move || {
        for file in files {
            if read_file(file, &transform, &runtime, &sender).is_err() {
                return;
            }
        }
    });
    Parts { pending, reader: Some(reader) }
}

struct ConsumerGone;

fn read_file(
    file: RawFile,
    transform: &Arc<Transform>,
    runtime: &tokio::runtime::Handle,
    sender: &mpsc::Sender<Pending>,
) -> Result<(), ConsumerGone> {
    let send = |pending| sender.blocking_send(pending).map_err(|_| ConsumerGone);
    let name = file.name.clone();
    let failed = |source: io::Error| Pending::Failed(BatchError::Read { path: name.clone(), source });
    let source = match (file.open)() {
        Ok(source) => source,
        Err(error) => return send(Pending::Failed(error)).and(Err(ConsumerGone)),
    };
    let decoder = match FileDecoder::open(&file.spec, source) {
        Ok(decoder) => decoder,
        Err(OpenError::Reject(reject)) => return send(Pending::BadFile(reject)),
        Err(OpenError::Io(error)) => return send(failed(error)).and(Err(ConsumerGone)),
        Err(error) => {
            let error = BatchError::Undecodable { name: file.name.clone(), source: error };
            return send(Pending::Failed(error)).and(Err(ConsumerGone));
        }
    };
    let chunk_decoder = decoder.chunk_decoder();
    let mut chunks = match decoder.chunks() {
        Ok(chunks) => chunks,
        Err(error) => return send(failed(error)).and(Err(ConsumerGone)),
    };
    loop {
        match chunks.next_chunk() {
            Ok(Some(chunk)) => {
                let (decode, transform, name) = (Arc::clone(&chunk_decoder), Arc::clone(transform), name.clone());
                let task = runtime.spawn_blocking(move || process(&decode, &transform, chunk, &name));
                send(Pending::Part(task))?;
            }
            Ok(None) => return send(Pending::End(Box::new(decoder))),
            Err(error) => return send(failed(error)).and(Err(ConsumerGone)),
        }
    }
}

fn process(
    decoder: &ChunkDecoder,
    transform: &Transform,
    chunk: tidemark_shared::decode::Chunk,
    name: &str,
) -> Result<Part, BatchError> {
    let raw_bytes = chunk.size_bytes();
    let decoded = decoder.decode(chunk).map_err(|source| BatchError::Read { path: name.to_owned(), source })?;
    let mut part = Part { accepted: Vec::new(), records: 0, filtered: 0, rejects: Vec::new(), raw_bytes };
    for run in decoded {
        part.records += run.records();
        let mut transformed = transform.apply(&run);
        part.filtered += transformed.filtered;
        part.rejects.extend(run.rejects);
        part.rejects.append(&mut transformed.rejects);
        part.accepted.push(transformed);
    }
    part.rejects.sort_by_key(|reject| reject.offset);
    Ok(part)
}

/// The decoder's notes as lines for people.
fn remarks(notes: &Notes) -> Vec<String> {
    let mut lines = Vec::new();
    if !notes.unknown_columns.is_empty() {
        lines.push(format!("unknown columns, left out: {}", notes.unknown_columns.join(", ")));
    }
    if !notes.missing_columns.is_empty() {
        lines.push(format!("missing optional columns, null: {}", notes.missing_columns.join(", ")));
    }
    if notes.surplus_empty_records > 0 {
        lines.push(format!("{} records with surplus empty fields at their end", notes.surplus_empty_records));
    }
    lines
}

impl Parts {
    /// The next event; `None` after the last file's.
    ///
    /// # Errors
    /// The first failure of reading, decoding or transforming; nothing follows it.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, BatchError> {
        match self.pending.recv().await {
            None => {
                if let Some(reader) = self.reader.take() {
                    reader.await.map_err(|source| BatchError::Panicked { task: "read", source })?;
                }
                Ok(None)
            }
            Some(Pending::BadFile(reject)) => Ok(Some(Event::BadFile(reject))),
            Some(Pending::End(decoder)) => Ok(Some(Event::End { notes: remarks(&decoder.notes()) })),
            Some(Pending::Failed(error)) => Err(error),
            Some(Pending::Part(task)) => {
                let part = task.await.map_err(|source| BatchError::Panicked { task: "decode", source })??;
                Ok(Some(Event::Part(part)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
