//! What the fuzz targets check: on their corpora, and on arbitrary bytes.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tidemark_testing::fuzzing;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is in the repository")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    files
}

#[test]
fn the_fuzzers_corpora_pass() {
    type Target = (&'static str, fn(&[u8]));
    let targets: [Target; 4] = [
        ("csv", fuzzing::csv),
        ("columnar", fuzzing::columnar),
        ("json", fuzzing::json),
        ("definition", fuzzing::definition),
    ];
    for (target, check) in targets {
        let files = files(&format!("fuzz/corpus/{target}"));
        assert!(!files.is_empty(), "{target}");
        files.iter().for_each(|file| check(&std::fs::read(file).unwrap()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::csv(&bytes);
        fuzzing::json(&bytes);
    }

    #[test]
    fn arbitrary_text_is_no_panic(choice: u8, text in "[0-9a-z\",.\r\n\t{}\\[\\]: -]{0,200}") {
        fuzzing::csv(&[&[choice][..], text.as_bytes()].concat());
        fuzzing::json(text.as_bytes());
    }
}
