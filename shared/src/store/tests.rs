use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use tempfile::TempDir;

use super::*;
use crate::error::{ErrorKind, Kind};

fn local() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).unwrap();
    (folder, store)
}

#[test]
fn an_address_is_read_as_it_is_written() {
    let base = Path::new("/etc/tidemark");
    let local = |path: &str| StoreUrl::Local(PathBuf::from(path));
    let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
    for (text, expected, shown) in [
        ("file:data/store", local("/etc/tidemark/data/store"), "file:/etc/tidemark/data/store"),
        ("file:/var/store", local("/var/store"), "file:/var/store"),
        ("file:///var/store", local("/var/store"), "file:/var/store"),
        ("file://localhost/var/store", local("/var/store"), "file:/var/store"),
        ("../store/./x/", local("/etc/store/x"), "file:/etc/store/x"),
        ("/../x", local("/x"), "file:/x"),
        ("a/b:c", local("/etc/tidemark/a/b:c"), "file:/etc/tidemark/a/b:c"),
        ("s3://lake", s3("lake", ""), "s3://lake"),
        ("s3://lake/", s3("lake", ""), "s3://lake"),
        ("s3://my.lake-1/a/b/", s3("my.lake-1", "a/b"), "s3://my.lake-1/a/b"),
    ] {
        let url = StoreUrl::parse(text, base).unwrap();
        assert_eq!(url, expected, "{text}");
        assert_eq!(url.to_string(), shown, "{text}");
        assert_eq!(StoreUrl::parse(shown, base).unwrap(), url, "{shown} does not round-trip");
    }
}

#[test]
fn a_wrong_address_is_refused_with_the_reason() {
    for text in [
        "",
        "file:",
        "file://host/x",
        "http://x/y",
        "gs://bucket",
        "s3://",
        "s3://Up/x",
        "s3://ab",
        "s3://lake/a//b",
        "s3://lake/../x",
        "s3://lake/x?key=value",
    ] {
        let error = StoreUrl::parse(text, Path::new("/")).unwrap_err();
        assert!(matches!(error, StoreError::BadUrl { .. }), "{text}: {error:?}");
        assert_eq!(error.kind(), Kind::Invalid);
    }
}

#[test]
fn a_refused_address_shows_no_secret() {
    for text in [
        "s3://key:PW-s3cret@bucket/x",
        "s3://bucket/x?secret=PW-s3cret",
        "http://u:PW-s3cret@h/x",
        "file://u:PW-s3cret@h/x",
        "gs:k:PW-s3cret@bucket",
    ] {
        let error = StoreUrl::parse(text, Path::new("/")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("PW-s3cret"), "{error:?}");
    }
}

#[test]
fn an_address_splits_into_folder_and_name() {
    for (text, folder, name) in [
        ("s3://lake/a/b.csv", "s3://lake/a", "b.csv"),
        ("s3://lake/b.csv", "s3://lake", "b.csv"),
        ("/x/b", "file:/x", "b"),
    ] {
        let url = StoreUrl::parse(text, Path::new("/")).unwrap();
        let (parent, last) = url.split_last().unwrap();
        assert_eq!((parent.to_string().as_str(), last.as_str()), (folder, name));
        assert_eq!(parent.join(&last), url);
    }
    assert_eq!(StoreUrl::parse("s3://lake", Path::new("/")).unwrap().split_last(), None);
}

#[test]
fn parts_cover_the_object_within_the_limits_of_s3() {
    for length in [1, upload::SINGLE_PUT_BYTES_MAX, upload::SINGLE_PUT_BYTES_MAX + 1, 100 << 30, 5 << 40] {
        let parts: Vec<(u64, u64)> = upload::parts(length).collect();
        assert!(parts.len() <= 10_000);
        assert_eq!((parts[0].0, parts[parts.len() - 1].1), (0, length));
        assert!(parts.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert!(parts[..parts.len() - 1].iter().all(|(start, end)| end - start >= 5 << 20));
    }
}

#[test]
fn only_names_that_end_in_a_number_sign_and_digits_are_staged() {
    for (name, key) in [("a/b#1", Some("a/b")), ("b#12", Some("b")), ("b#1#2", Some("b#1"))] {
        assert_eq!(local::staged_for(name), key);
    }
    for name in ["b", "b#", "b#x", "b#1x", "#1", "a/#1"] {
        assert_eq!(local::staged_for(name), None, "{name}");
    }
}

#[test]
fn opening_a_missing_directory_creates_it_only_if_told() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/b");
    let error = Store::local(&path, IfMissing::Fail).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::NotFound));
    assert!(!path.exists(), "a failed open created the directory");
    Store::local(&path, IfMissing::Create).unwrap();
    assert!(path.is_dir());
    std::fs::write(path.join("file"), "x").unwrap();
    assert!(Store::local(&path.join("file"), IfMissing::Fail).is_err(), "a plain file was opened as a store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_notices_that_its_object_was_replaced() {
    let (_folder, store) = local();
    let memory = store.decorated(|_| Arc::new(InMemory::new()));
    let key = Key::from("a");
    memory.upload(&key, Arc::new(Bytes::from_static(b"first")), &|_| ()).await.unwrap();
    let reader = memory.read_at(&key, None).await.unwrap();
    memory.upload(&key, Arc::new(Bytes::from_static(b"other")), &|_| ()).await.unwrap();
    let read = tokio::task::spawn_blocking(move || reader.read_at(0, 5)).await.unwrap();
    let error = read.unwrap_err();
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Arc<StoreError>>()).unwrap();
    assert_eq!(error.cause(), Some(Cause::Changed));
}

#[test]
fn what_libraries_pass_on_of_a_store_in_words_is_known_for_it() {
    let said = "Kernel error: Error interacting with object store: Generic S3 error: 503 Slow Down";
    for (text, cause) in [
        (said, Some(Cause::Failed)),
        ("Parquet error: Failed to fetch metadata for file a: Object Store error: timed out", Some(Cause::Failed)),
        ("application id `tidemark/files` has version -1", None),
        ("Invalid Parquet file. Corrupt footer", None),
    ] {
        assert_eq!(Cause::said_in(text), cause, "{text}");
        assert_eq!(Cause::behind(std::io::Error::other(text).get_ref().expect("a cause")), cause, "{text}");
    }
}
