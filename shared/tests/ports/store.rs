//! The store port's contract on a local directory, seen from a prefix, and what its errors say.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path as Key;
use tempfile::TempDir;
use tidemark_shared::error::{ErrorKind as _, Kind};
use tidemark_shared::store::{IfMissing, Rooted, Store};
use tidemark_testing::contract::store as contract;
use tidemark_testing::faulty::{Call, Fault, Faulty, Rule};

fn local() -> (TempDir, Store) {
    let folder = TempDir::new().expect("a temporary folder");
    let store = Store::local(&folder.path().join("store"), IfMissing::Create).expect("a folder of our own");
    (folder, store)
}

macro_rules! contract_on_a_local_directory {
    ($($check:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $check() {
                let (_folder, store) = local();
                contract::$check(&store).await;
            }
        )+
    };
}

contract_on_a_local_directory!(
    conditional_put_has_one_winner,
    put_new_is_idempotent,
    put_new_survives_a_lost_answer,
    missing_objects_are_none,
    lists_are_whole_and_ordered,
    ranges_are_exact,
    big_objects_round_trip,
    a_failed_upload_leaves_nothing,
    an_upload_whose_completion_was_lost_counts,
    other_bytes_than_announced_never_appear,
    an_abandoned_upload_is_found_and_removed,
);

#[tokio::test]
async fn errors_name_object_and_cause_and_a_full_disk_is_told_apart() {
    let (_folder, store) = local();
    let key = Key::from("a/b");
    for (fault, message, kind) in [
        (Fault::NoSpace, "can't write `a/b`: no space left", Kind::Exhausted),
        (Fault::Fails, "can't write `a/b`: the store failed", Kind::Retryable),
    ] {
        let rules = vec![Rule::new(Call::Put, "a/", 0, fault)];
        let faulty = store.decorated(|objects| Faulty::new(objects, rules).store());
        let error = faulty.put_new(&key, Bytes::new()).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (message, kind));
        assert_eq!(store.get(&key).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rooted_store_keeps_the_contract_and_its_prefix_to_itself() {
    let (_folder, outer) = local();
    let rooted = outer.decorated(|objects| Arc::new(Rooted::new(objects, Key::from("lake/a"))));
    rooted.put_new(&Key::from("x/1"), Bytes::from_static(b"1")).await.unwrap();
    outer.put_new(&Key::from("lake/ab/2"), Bytes::from_static(b"2")).await.unwrap();
    assert_eq!(outer.get(&Key::from("lake/a/x/1")).await.unwrap(), Some(Bytes::from_static(b"1")));
    let listed = rooted.list(&Key::default()).await.unwrap();
    assert_eq!(listed.iter().map(|meta| meta.location.as_ref()).collect::<Vec<_>>(), ["x/1"]);
    assert_eq!(rooted.head(&Key::from("x/1"), None).await.unwrap().unwrap().location.as_ref(), "x/1");
    let delimited = rooted.objects().list_with_delimiter(None).await.unwrap();
    assert_eq!(delimited.common_prefixes, [Key::from("x")]);
    contract::ranges_are_exact(&rooted).await;
    contract::lists_are_whole_and_ordered(&rooted).await;
    contract::big_objects_round_trip(&rooted).await;
}
