//! Definitions by version, read once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::model::Definition;
use super::registry::{self, RegistryError};
use crate::store::Store;

/// Definitions kept; a dataset has few that answer.
const KEPT_MAX: usize = 1_000;

type Known = HashMap<(String, String), Arc<Definition>>;

/// Definitions that were asked for, by dataset and version. A version is a digest of what decides rows, so that what was
/// read once stays true; to read one means to list the dataset's definitions and to plan a transform.
#[derive(Debug)]
pub struct KnownDefinitions {
    store: Store,
    known: Mutex<Known>,
}

impl KnownDefinitions {
    /// Those in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // a panic inside leaves at most definitions out, which are read again
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest of the dataset's definitions with this version; `None` if none has it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn get(&self, dataset: &str, version: &str) -> Result<Option<Arc<Definition>>, RegistryError> {
        let key = (dataset.to_owned(), version.to_owned());
        if let Some(known) = self.known().get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(registered) = registry::by_version(&self.store, dataset, version).await? else { return Ok(None) };
        let definition = Arc::new(registered.definition);
        let mut known = self.known();
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&definition));
        Ok(Some(definition))
    }
}
