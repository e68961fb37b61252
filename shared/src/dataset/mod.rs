//! Dataset definitions: one folder with `dataset.toml`, `transform.sql`, `views/*.sql`, `alerts/*.sql`.
//!
//! [`load`] reads and validates a folder, [`parse`] its texts; both report all problems at once. [`registry`] keeps the
//! applied ones in the store. [`definition_version`] tells two definitions apart by the rows and rejects they yield.

mod check;
mod draft;
mod known;
mod load;
pub mod model;
mod nearest;
mod parse;
mod problem;
pub mod registry;
mod types;
mod version;

use std::collections::BTreeMap;

pub use check::{DATASET_FILE, SOURCE_BYTES_MAX, TRANSFORM_FILE, parse};
pub use draft::{DraftError, draft};
pub use known::KnownDefinitions;
pub use load::{Loaded, load};
pub use model::*;
pub use nearest::nearest;
pub use problem::{DefinitionError, Problem};
pub use version::{DefinitionVersion, SEMANTICS, definition_version, surroundings_version};

/// The texts of a definition: file name within its folder → text.
pub type Sources = BTreeMap<String, String>;

/// Longest name of a dataset, column, rule or view, in bytes.
const NAME_MAX: usize = 128;

/// True for what can name a dataset, column, rule or view: lower-case letters, digits and `_`, starting with a letter.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests;
