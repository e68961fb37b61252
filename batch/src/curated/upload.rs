//! One data file on its way into the store, in parts, with known bytes in memory.
//!
//! A part is sent only by whoever awaits it, so no more parts are on the way than there are encoders; what waits for a
//! part to become full is counted by [`FileUpload::waiting_bytes`], and the writer closes files when that grows too much.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, PutPayloadMut, Result};

/// Bytes of a part: above the least that S3 takes (5 MiB), and the same for all but the last, as some stores want it.
/// With S3's 10,000 parts a file ends at 78 GiB, far above any target size.
const PART_BYTES: usize = 8 << 20;

/// See the module's text.
pub(super) struct FileUpload {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl FileUpload {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { objects, path, waiting: VecDeque::new(), waiting_bytes: 0, parts: None }
    }

    /// Key of the object.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes held in memory until a part is full.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes the next bytes, and sends all parts that are full.
    pub(super) async fn put(&mut self, bytes: Bytes) -> Result<()> {
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        while self.waiting_bytes >= PART_BYTES {
            let part = self.take(PART_BYTES);
            self.send(part).await?;
        }
        Ok(())
    }

    /// Sends the rest; the object is there afterwards.
    pub(super) async fn finish(mut self) -> Result<()> {
        let rest = self.take(self.waiting_bytes);
        if self.parts.is_none() {
            return self.objects.put(&self.path, rest).await.map(drop);
        }
        if rest.content_length() > 0 {
            self.send(rest).await?;
        }
        match &mut self.parts {
            Some(parts) => parts.complete().await.map(drop),
            None => Ok(()),
        }
    }

    /// Gives the file up; parts that the store has are removed.
    pub(super) async fn abort(self) {
        if let Some(mut parts) = self.parts
            && let Err(error) = parts.abort().await
        {
            tracing::debug!(path = %self.path, %error, "parts of an abandoned data file stay behind; vacuum removes them");
        }
    }

    async fn send(&mut self, part: PutPayload) -> Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(self.objects.put_multipart(&self.path).await?),
        };
        parts.put_part(part).await
    }

    /// The first `length` of the waiting bytes.
    fn take(&mut self, length: usize) -> PutPayload {
        let mut taken = PutPayloadMut::new();
        let mut missing = length;
        while missing > 0 {
            let Some(mut bytes) = self.waiting.pop_front() else { break };
            if bytes.len() > missing {
                self.waiting.push_front(bytes.split_off(missing));
            }
            missing -= bytes.len();
            taken.push(bytes);
        }
        self.waiting_bytes -= length - missing;
        taken.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    async fn uploaded(pieces: &[usize]) -> (Bytes, usize) {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let mut upload = FileUpload::new(Arc::clone(&objects), Path::from("f"));
        let mut most = 0;
        for (byte, length) in pieces.iter().enumerate() {
            let byte = u8::try_from(byte).expect("few pieces");
            upload.put(Bytes::from(vec![byte; *length])).await.expect("memory takes everything");
            most = most.max(upload.waiting_bytes());
        }
        upload.finish().await.expect("memory takes everything");
        let read = objects.get(&Path::from("f")).await.expect("it was written");
        (read.bytes().await.expect("it is readable"), most)
    }

    #[tokio::test]
    async fn the_object_is_what_was_put_and_less_than_a_part_waits() {
        let cases: [&[usize]; 5] =
            [&[], &[10], &[PART_BYTES], &[3, 2 * PART_BYTES + 5, PART_BYTES - 8], &[PART_BYTES - 1, 1, 7]];
        for pieces in cases {
            let (bytes, most) = uploaded(pieces).await;
            let wanted: Vec<u8> =
                pieces.iter().zip(0u8..).flat_map(|(length, byte)| std::iter::repeat_n(byte, *length)).collect();
            assert!(bytes == wanted, "{pieces:?}: {} bytes instead of {}", bytes.len(), wanted.len());
            assert!(most < PART_BYTES, "{pieces:?}: {most} bytes waited");
        }
    }
}
