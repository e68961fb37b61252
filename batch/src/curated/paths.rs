//! Where a data file of some partition lies: Hive folders, escaped as Hive and Spark do it.

use std::fmt::Write as _;

use object_store::path::Path;
use sha2::{Digest as _, Sha256};

/// Values of the partition columns, in their order; null where the row has none.
pub(crate) type PartitionKey = Vec<Option<String>>;

/// Folder name of null, as in Hive.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest folder name; file systems end at 255 bytes. A longer value goes by its digest: the Delta log has the value.
const FOLDER_BYTES_MAX: usize = 200;

/// Path of a data file relative to the table's root: `pickup_year=2019/pickup_month=07/<name>`.
pub(crate) fn data_file(columns: &[String], key: &PartitionKey, name: &str) -> Path {
    let mut text = String::new();
    for (column, value) in columns.iter().zip(key) {
        let folder = match value {
            None => format!("{}={NULL_PARTITION}", escape(column)),
            Some(value) => format!("{}={}", escape(column), escape(value)),
        };
        if folder.len() <= FOLDER_BYTES_MAX {
            text.push_str(&folder);
        } else {
            let digest = Sha256::digest(folder.as_bytes());
            let hex: String = tidemark_shared::hex(&digest[..16]);
            text.push_str(&format!("~{hex}"));
        }
        text.push('/');
    }
    text.push_str(name);
    Path::parse(&text).expect("escaped folders and a plain name make a path")
}

/// Everything but letters, digits, `_`, `-` and `.` as `%XX`; a text of dots alone would be a path step.
fn escape(text: &str) -> String {
    let dots = text.bytes().all(|b| b == b'.');
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && !dots) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hive_folders_are_escaped() {
        let columns = ["a b".to_owned(), "c".to_owned()];
        let key = vec![Some("x/y=%é".to_owned()), None];
        let path = data_file(&columns, &key, "part.parquet");
        assert_eq!(path.as_ref(), "a%20b=x%2Fy%3D%25%C3%A9/c=__HIVE_DEFAULT_PARTITION__/part.parquet");
    }

    #[test]
    fn a_long_value_goes_by_its_digest() {
        let key = vec![Some("v".repeat(1_000))];
        let path = data_file(&["c".to_owned()], &key, "p");
        assert!(path.as_ref().len() < 100, "{path}");
    }
}
