use std::sync::atomic::{AtomicU64, Ordering};

use tidemark_shared::dataset::{self, Sources};

use super::*;

/// The first bytes of a file, and then a fault of the program.
struct Broken(AtomicU64);

impl ReadAt for Broken {
    fn len(&self) -> u64 {
        1 << 30
    }

    fn read_at(&self, _offset: u64, length: usize) -> io::Result<bytes::Bytes> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < 3, "a fault on purpose");
        Ok(bytes::Bytes::from(b"a\n".repeat(length / 2 + 1)).slice(..length))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_panics_is_no_end_of_the_file() {
    let toml = "name = \"d\"\ncolumns = [{ name = \"a\", type = \"string\" }]\n[files]\nformat = \"csv\"\n";
    let texts = [("dataset.toml", toml), ("transform.sql", "SELECT a FROM input")];
    let sources: Sources = texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    let definition = dataset::parse(&sources).expect("valid");
    let spec = Arc::new(definition.file_input().expect("it has files"));
    let transform = Arc::new(Transform::compile(&definition).expect("valid"));
    let file = RawFile {
        name: "broken.csv".to_owned(),
        spec,
        open: Box::new(|| Ok(Arc::new(Broken(AtomicU64::new(0))) as Arc<dyn ReadAt>)),
    };
    let mut parts = start(vec![file], transform, 2);
    let error = loop {
        match parts.next().await {
            Ok(Some(Event::Part(_))) => {}
            Ok(_) => panic!("the file came to an end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BatchError::Panicked { task: "read", .. }), "{error:?}");
}
