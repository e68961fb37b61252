//! Notes that a generation has answered: objects beside the pointers, made by conditional put, of which the highest counts
//! (H9). None is ever removed: a note below the newest pointer keeps nobody from anything.

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::pointer::{parse, store_error};
use super::{CuratedError, CurrentGeneration};
use crate::error::{ErrorKind, Kind};
use crate::layout;
use crate::store::{PutNew, Store, StoreError};

/// Version of the note's JSON form.
const NOTE_FORMAT: u32 = 1;

/// What a note says. It follows from the pointer of its number: all who make one bring the same bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// [`NOTE_FORMAT`].
    format: u32,
    /// Name of the generation.
    generation: String,
}

/// Why a note could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// The store refused or failed. The note may be there or not; writing it again settles it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is there is no note, or one of a newer release.
    #[error(transparent)]
    Curated(#[from] CuratedError),
}

impl ErrorKind for NoteError {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(source) => source.kind(),
            Self::Curated(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(source) => source.hint(),
            Self::Curated(source) => source.hint(),
        }
    }
}

/// Numbers of a dataset's newest pointer and of its highest note.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heads {
    /// The pointer's.
    pub pointer: Option<u64>,
    /// The note's.
    pub noted: Option<u64>,
}

/// Both of them above `after`, as one listing shows them.
///
/// # Errors
/// [`CuratedError::Store`].
pub async fn heads(objects: &dyn ObjectStore, dataset: &str, after: Option<u64>) -> Result<Heads, CuratedError> {
    let folder = layout::currents(dataset);
    let listed = match after {
        Some(n) => objects.list_with_offset(Some(&folder), &layout::current(dataset, n)),
        None => objects.list(Some(&folder)),
    };
    let listed: Vec<_> = listed.try_collect().await.map_err(|source| store_error(&folder, source))?;
    let noted = listed.iter().filter_map(|object| layout::note_number(&object.location)).max();
    let pointer = listed.iter().filter_map(|object| layout::number_of(&object.location)).max();
    // A pointer is there before its note, though a listing that is made meanwhile may have passed its place.
    Ok(Heads { pointer: pointer.max(noted), noted })
}

/// Sees to it that note `n` is one that this release reads.
///
/// # Errors
/// [`CuratedError::Store`], [`CuratedError::BadPointer`], or [`CuratedError::Unsupported`] for a newer form.
pub async fn check_note(objects: &dyn ObjectStore, dataset: &str, n: u64) -> Result<(), CuratedError> {
    let key = layout::note(dataset, n);
    let read = async { objects.get(&key).await?.bytes().await };
    let bytes = read.await.map_err(|source| store_error(&key, source))?;
    parse::<Note>(&key, &bytes, NOTE_FORMAT, "the note").map(drop)
}

/// Notes that the generation of pointer `n` answers, unless that was done. From then on none before it does.
///
/// # Errors
/// [`NoteError`].
pub async fn note_answered(
    store: &Store,
    dataset: &str,
    n: u64,
    generation: &CurrentGeneration,
) -> Result<(), NoteError> {
    let key = layout::note(dataset, n);
    let note = Note { format: NOTE_FORMAT, generation: generation.generation.clone() };
    let text = serde_json::to_vec(&note).expect("a note is plain data");
    match store.put_new(&key, text.into()).await? {
        PutNew::Created => Ok(()),
        // A newer release says it in other words; then it is not for us to go on.
        PutNew::Exists(other) => {
            let _same: Note = parse(&key, &other, NOTE_FORMAT, "the note")?;
            Ok(())
        }
    }
}
