//! Entry point of the fuzz target for definitions, and of the test that replays its corpus.

use tidemark_shared::dataset::{DATASET_FILE, Sources, TRANSFORM_FILE, definition_version, parse};
use tidemark_shared::transform::Transform;

/// Parses `data`, the text of `dataset.toml` and, after a zero byte, that of `transform.sql`. A definition that is valid
/// compiles, and has the same version each time.
///
/// # Panics
/// If parsing breaks one of its promises.
pub fn definition(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (toml, sql) = text.split_once('\0').unwrap_or((&text, "SELECT * FROM input"));
    let sources =
        Sources::from([(DATASET_FILE.to_owned(), toml.to_owned()), (TRANSFORM_FILE.to_owned(), sql.to_owned())]);
    match parse(&sources) {
        Err(error) => assert!(!error.problems.is_empty(), "refused without a reason"),
        Ok(definition) => {
            let again = parse(&sources).expect("valid a moment ago");
            assert_eq!(definition_version(&definition), definition_version(&again));
            Transform::compile(&definition).expect("a valid definition compiles");
        }
    }
}
