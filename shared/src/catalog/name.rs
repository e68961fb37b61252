//! Names of databases and tables.

use super::CatalogError;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The name as the catalog stores it: lower-cased.
///
/// # Errors
/// [`CatalogError::Invalid`] for an empty name, one of more than [`NAME_BYTES_MAX`] bytes, or one with a control
/// character, a slash, or white space at either end.
pub fn normalised(name: &str) -> Result<String, CatalogError> {
    let lowered = name.to_lowercase();
    let reason = if lowered.is_empty() {
        "it is empty"
    } else if lowered.len() > NAME_BYTES_MAX {
        "it is longer than 255 bytes"
    } else if lowered.trim() != lowered {
        "it begins or ends with white space"
    } else if lowered.chars().any(|c| c.is_control() || c == '/') {
        "it has a control character or a slash"
    } else {
        return Ok(lowered);
    };
    Err(CatalogError::Invalid { what: name.to_owned(), reason: reason.to_owned() })
}
