//! Blocking random access to one object, for decoders that run off the runtime.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::{Operation, StoreError};
use crate::decode::ReadAt;

/// Bytes fetched by one request.
const BLOCK_BYTES: u64 = 4 << 20;
/// Blocks kept at least: two readers, each with the block it is in, the next one, and one to spare.
const BLOCKS_MIN: usize = 6;

/// Opens a local file for random access. What was opened is what is read, also if the name is replaced meanwhile.
///
/// # Errors
/// Whatever the file system reports; a directory is refused.
pub fn open_file(path: &FilePath) -> io::Result<Arc<dyn ReadAt>> {
    opened_file(File::open(path)?)
}

/// Random access to a file that is open already, such as a temporary one without a name.
///
/// # Errors
/// As [`open_file`].
pub fn opened_file(file: File) -> io::Result<Arc<dyn ReadAt>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    Ok(Arc::new(LocalFile { file, length: metadata.len() }))
}

struct LocalFile {
    file: File,
    length: u64,
}

impl ReadAt for LocalFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        within(offset, length, self.length)?;
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, offset)?;
        Ok(Bytes::from(buffer))
    }
}

type Block = Shared<BoxFuture<'static, Result<Bytes, Arc<StoreError>>>>;

/// An object read in blocks. A sequential reader finds its next block already on the way; several readers of one object
/// (a file split over cores) share the blocks.
pub(super) struct ObjectReader {
    source: Arc<OpenObject>,
    length: u64,
    blocks_max: usize,
    runtime: Handle,
    state: Mutex<State>,
}

struct OpenObject {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    version: Option<String>,
    e_tag: Option<String>,
}

struct State {
    /// Most recently used last.
    blocks: VecDeque<(u64, Block)>,
    /// Fetches ahead of the reader; dropping the reader aborts them.
    ahead: JoinSet<()>,
}

impl ObjectReader {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, path: Path, version: Option<String>, meta: &ObjectMeta) -> Self {
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            source: Arc::new(OpenObject { objects, path, version, e_tag: meta.e_tag.clone() }),
            length: meta.size,
            blocks_max: (2 * parallel + 2).max(BLOCKS_MIN),
            runtime: Handle::current(),
            state: Mutex::new(State { blocks: VecDeque::new(), ahead: JoinSet::new() }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // a panic inside leaves at most a block out, which is fetched again
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block's fetch, begun if need be, and, for a reader that came from the block before, that of the next one.
    fn block(&self, index: u64) -> Block {
        let mut state = self.state();
        let sequential = index == 0 || state.blocks.iter().any(|(known, _)| *known + 1 == index);
        let block = self.known_or_new(&mut state, index);
        let next = index + 1;
        let is_new = !state.blocks.iter().any(|(known, _)| *known == next);
        if sequential && is_new && next * BLOCK_BYTES < self.length {
            let ahead = self.known_or_new(&mut state, next);
            while state.ahead.try_join_next().is_some() {}
            state.ahead.spawn_on(ahead.map(drop), &self.runtime);
        }
        block
    }

    fn known_or_new(&self, state: &mut State, index: u64) -> Block {
        let known = state.blocks.iter().position(|(known, _)| *known == index);
        let block = match known.and_then(|at| state.blocks.remove(at)) {
            Some((_, block)) => block,
            None => self.fetch(index),
        };
        state.blocks.push_back((index, block.clone()));
        if state.blocks.len() > self.blocks_max {
            state.blocks.pop_front();
        }
        block
    }

    fn fetch(&self, index: u64) -> Block {
        let source = Arc::clone(&self.source);
        let start = index * BLOCK_BYTES;
        let end = (start + BLOCK_BYTES).min(self.length);
        async move {
            let options = GetOptions {
                range: Some(GetRange::Bounded(start..end)),
                if_match: source.e_tag.clone(),
                version: source.version.clone(),
                ..GetOptions::default()
            };
            let read = async { source.objects.get_opts(&source.path, options).await?.bytes().await };
            let failed = |error| Arc::new(StoreError::of(Operation::Read, &source.path, error));
            read.await.map_err(failed)
        }
        .boxed()
        .shared()
    }

    /// Forgets a fetch that failed, so that a retry asks the store again.
    fn forget(&self, index: u64) {
        let mut state = self.state();
        state.blocks.retain(|(known, _)| *known != index);
    }
}

impl ReadAt for ObjectReader {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        within(offset, length, self.length)?;
        let mut gathered = BytesMut::new();
        let end = offset + length as u64;
        let mut at = offset;
        while at < end {
            let index = at / BLOCK_BYTES;
            let bytes = self.runtime.block_on(self.block(index)).map_err(|error| {
                self.forget(index);
                io::Error::other(error)
            })?;
            let from = (at - index * BLOCK_BYTES) as usize;
            let to = (from + (end - at) as usize).min(bytes.len());
            if to <= from {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let piece = bytes.slice(from..to);
            if piece.len() == length {
                return Ok(piece);
            }
            gathered.extend_from_slice(&piece);
            at += piece.len() as u64;
        }
        Ok(gathered.freeze())
    }
}

fn within(offset: u64, length: usize, total: u64) -> io::Result<()> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= total => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}
