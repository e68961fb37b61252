//! What every store must do, as one suite that each adapter runs in its tests. The checks panic with what was wrong.
//!
//! Each works in a folder of its own, so that a suite can be run on a store in use and many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use tidemark_shared::decode::ReadAt;
use tidemark_shared::store::{Cause, PutNew, Store, Uploaded};

use crate::faulty::{Call, Fault, Faulty, Rule};

const WRITERS: usize = 16;
const ROUNDS: usize = 20;
/// More than two pages of an S3 listing.
const KEYS: usize = 2_100;
/// Three parts and a short one.
const BIG_BYTES: usize = (25 << 20) + 123;
/// Digests of the first 100 and of all of the bytes that uploads write.
const SMALL_SHA256: &str = "9f2913bf8bd284cc99f1f85913b2218f205b8305a6af5594336ff10833b22b27";
const BIG_SHA256: &str = "e6451d18572cda73d9a4daf53d1500038bd11d49c4fbeb6ff6d8326c9f18981b";

/// Runs every check.
///
/// # Panics
/// If the store breaks the contract.
pub async fn check_all(store: &Store) {
    conditional_put_has_one_winner(store).await;
    put_new_is_idempotent(store).await;
    put_new_survives_a_lost_answer(store).await;
    missing_objects_are_none(store).await;
    lists_are_whole_and_ordered(store).await;
    ranges_are_exact(store).await;
    big_objects_round_trip(store).await;
    a_failed_upload_leaves_nothing(store).await;
    an_upload_whose_completion_was_lost_counts(store).await;
    other_bytes_than_announced_never_appear(store).await;
    an_abandoned_upload_is_found_and_removed(store).await;
}

fn folder(check: &str) -> Path {
    Path::from_iter(["contract".to_owned(), format!("{check}-{}", uuid::Uuid::new_v4().simple())])
}

/// 16 writers race for one key, 20 times: one wins, and its bytes are stored.
///
/// # Panics
/// If the store breaks the contract.
pub async fn conditional_put_has_one_winner(store: &Store) {
    let folder = folder("race");
    for round in 0..ROUNDS {
        let key = folder.clone().join(format!("{round:04}.json"));
        let barrier = Arc::new(Barrier::new(WRITERS));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (store, key, barrier) = (store.clone(), key.clone(), Arc::clone(&barrier));
            writers.spawn(async move {
                let bytes = Bytes::from(format!("writer {writer} ").repeat(100));
                barrier.wait().await;
                let outcome = store.put_new(&key, bytes.clone()).await.expect("a put neither wins nor loses");
                (bytes, outcome)
            });
        }
        let outcomes = writers.join_all().await;
        let winners: Vec<&Bytes> =
            outcomes.iter().filter(|(_, outcome)| *outcome == PutNew::Created).map(|(bytes, _)| bytes).collect();
        assert_eq!(winners.len(), 1, "round {round} has not exactly one winner");
        let stored = store.get(&key).await.expect("the winner can be read");
        assert_eq!(stored.as_ref(), Some(winners[0]), "round {round}: other bytes than the winner's are stored");
        let losers = outcomes.iter().filter(|(_, outcome)| *outcome == PutNew::Exists(winners[0].clone())).count();
        assert_eq!(losers, WRITERS - 1, "round {round}: a loser was not shown the winner");
    }
}

/// Calling again with equal bytes is created again; with other bytes it is not.
///
/// # Panics
/// If the store breaks the contract.
pub async fn put_new_is_idempotent(store: &Store) {
    let key = folder("again").join("1.json");
    let (ours, theirs) = (Bytes::from_static(b"ours"), Bytes::from_static(b"theirs"));
    for _ in 0..2 {
        assert_eq!(store.put_new(&key, ours.clone()).await.expect("put"), PutNew::Created);
    }
    assert_eq!(store.put_new(&key, theirs).await.expect("put"), PutNew::Exists(ours.clone()));
    assert_eq!(store.get(&key).await.expect("get"), Some(ours));
}

/// A put that succeeded and is told otherwise counts as created, now (a retry inside the client) or on the next call.
///
/// # Panics
/// If the store breaks the contract.
pub async fn put_new_survives_a_lost_answer(store: &Store) {
    let folder = folder("lost");
    let bytes = Bytes::from_static(b"ours");
    let faulty =
        |fault| store.decorated(|objects| Faulty::new(objects, vec![Rule::new(Call::Put, "", 0, fault)]).store());
    let retried = folder.clone().join("retried");
    let put = faulty(Fault::AckLostThenRetried).put_new(&retried, bytes.clone()).await;
    assert_eq!(put.expect("the winner is our own bytes"), PutNew::Created);

    let lost = folder.join("lost");
    let store = faulty(Fault::AckLost);
    let error = store.put_new(&lost, bytes.clone()).await.expect_err("the answer was lost");
    assert_eq!(error.cause(), Some(Cause::Failed));
    assert_eq!(store.put_new(&lost, bytes).await.expect("the second call settles it"), PutNew::Created);
}

/// What is not there is `None`, not an error, and deleting it is no error either.
///
/// # Panics
/// If the store breaks the contract.
pub async fn missing_objects_are_none(store: &Store) {
    let folder = folder("missing");
    let key = folder.clone().join("no/such/object");
    assert_eq!(store.get(&key).await.expect("get"), None);
    assert_eq!(store.size(&key).await.expect("size"), None);
    assert!(store.list(&folder).await.expect("list").is_empty(), "a folder that is not there lists objects");
    store.delete_many(vec![key.clone()]).await.expect("deleting what is not there");
    let error = store.read_at(&key, None).await.err().expect("there is nothing to read");
    assert_eq!(error.cause(), Some(Cause::NotFound));
}

/// More keys than two pages of S3 hold: all are listed, in order, also after an offset, and deleted in bulk.
///
/// # Panics
/// If the store breaks the contract.
pub async fn lists_are_whole_and_ordered(store: &Store) {
    let folder = folder("list");
    // A folder whose name begins alike must stay out.
    let beside = Path::from(format!("{folder}-beside/0"));
    let mut keys: Vec<Path> =
        (0..KEYS).map(|n| folder.clone().join(format!("part={}", n % 3)).join(format!("{n:020}.json"))).collect();
    let puts = keys.iter().chain([&beside]).cloned().map(|key| async move {
        let bytes = PutPayload::from(key.to_string());
        store.objects().put(&key, bytes).await
    });
    stream::iter(puts).buffer_unordered(WRITERS).try_collect::<Vec<_>>().await.expect("puts");
    keys.sort();

    let listed = store.list(&folder).await.expect("list");
    assert!(listed.iter().map(|meta| &meta.location).eq(keys.iter()), "the list is not all keys in order");
    assert!(listed.iter().all(|meta| meta.size == meta.location.as_ref().len() as u64), "a size is wrong");
    let middle = KEYS / 2;
    let after = store.list_after(&folder, &keys[middle]).await.expect("list after");
    assert!(after.iter().map(|meta| &meta.location).eq(keys[middle + 1..].iter()), "the list after a key is wrong");
    assert!(store.list_after(&folder, &keys[KEYS - 1]).await.expect("list after the last").is_empty());

    store.delete_many(keys).await.expect("delete");
    assert!(store.list(&folder).await.expect("list").is_empty(), "deleted objects are listed");
    assert_eq!(store.list(&beside.parts().take(2).collect()).await.expect("list").len(), 1, "a neighbour is gone");
    store.delete_many(vec![beside]).await.expect("delete");
}

/// Ranges by the adapter and by [`Store::read_at`] are exact; outside of the object there is nothing.
///
/// # Panics
/// If the store breaks the contract.
pub async fn ranges_are_exact(store: &Store) {
    let key = folder("range").join("bytes.bin");
    let bytes: Bytes = (0..=255_u8).collect::<Vec<_>>().into();
    store.put_new(&key, bytes.clone()).await.expect("put");
    let objects = store.objects();
    assert_eq!(objects.get_range(&key, 0..4).await.expect("range"), bytes.slice(0..4));
    assert_eq!(objects.get_range(&key, 250..256).await.expect("range"), bytes.slice(250..256));
    let several = object_store::ObjectStore::get_ranges(objects.as_ref(), &key, &[3..5, 100..101]).await;
    assert_eq!(several.expect("ranges"), [bytes.slice(3..5), bytes.slice(100..101)]);
    assert_eq!(objects.head(&key).await.expect("head").location, key, "head reports another key");

    let reader = store.read_at(&key, None).await.expect("open");
    assert_eq!(reader.len(), 256);
    assert_eq!(blocking(&reader, 7, 9).await.expect("read"), bytes.slice(7..16));
    assert_eq!(blocking(&reader, 256, 0).await.expect("an empty read at the end"), Bytes::new());
    blocking(&reader, 250, 7).await.expect_err("past the end");
    store.delete_many(vec![key]).await.expect("delete");
}

/// An object of several parts is uploaded, with progress, and read back in pieces that cross blocks.
///
/// # Panics
/// If the store breaks the contract.
pub async fn big_objects_round_trip(store: &Store) {
    let key = folder("big").join("data.bin");
    let bytes = big();
    let told = AtomicU64::new(0);
    let progress = |more| {
        told.fetch_add(more, Ordering::Relaxed);
    };
    // Twice: writing the same content again replaces it.
    for _ in 0..2 {
        told.store(0, Ordering::Relaxed);
        let written = store.upload(&key, Arc::new(bytes.clone()), &progress).await.expect("upload");
        assert_eq!((written, told.load(Ordering::Relaxed)), (BIG_BYTES as u64, BIG_BYTES as u64));
    }
    assert_eq!(store.size(&key).await.expect("size"), Some(BIG_BYTES as u64));

    let reader = store.read_at(&key, None).await.expect("open");
    let mut at = 0;
    while at < BIG_BYTES {
        let length = (3 << 20).min(BIG_BYTES - at);
        let read = blocking(&reader, at as u64, length).await.expect("read");
        assert!(read == bytes.slice(at..at + length), "other bytes at {at}");
        at += length;
    }
    let whole = blocking(&reader, 0, BIG_BYTES).await.expect("read");
    assert!(whole == bytes, "read in one piece, the bytes differ");
    store.delete_many(vec![key]).await.expect("delete");
}

/// An upload whose third part fails leaves no object, no key and no parts.
///
/// # Panics
/// If the store breaks the contract.
pub async fn a_failed_upload_leaves_nothing(store: &Store) {
    let folder = folder("abort");
    let key = folder.clone().join("data.bin");
    let rules = vec![Rule::new(Call::Part, "", 2, Fault::NoSpace)];
    let faulty = store.decorated(|objects| Faulty::new(objects, rules).store());
    let error = faulty.upload(&key, Arc::new(big()), &|_| ()).await.expect_err("a part failed");
    assert_eq!(error.cause(), Some(Cause::NoSpace), "{error}");
    assert_eq!(store.get(&key).await.expect("get"), None);
    assert!(store.list(&folder).await.expect("list").is_empty(), "an aborted upload is listed");
    assert_eq!(leftovers(store, &folder, Duration::ZERO).await, 0, "an aborted upload left parts");
}

/// An upload that was completed and is told otherwise counts as done.
///
/// # Panics
/// If the store breaks the contract.
pub async fn an_upload_whose_completion_was_lost_counts(store: &Store) {
    let key = folder("completion").join("data.bin");
    let rules = vec![Rule::new(Call::Complete, "", 0, Fault::AckLost)];
    let faulty = store.decorated(|objects| Faulty::new(objects, rules).store());
    let bytes = big();
    let written = faulty.upload(&key, Arc::new(bytes.clone()), &|_| ()).await.expect("it was completed");
    assert_eq!(written, BIG_BYTES as u64);
    assert!(store.get(&key).await.expect("get").is_some_and(|stored| stored == bytes), "other bytes are stored");
    store.delete_many(vec![key]).await.expect("delete");
}

/// An upload of bytes that have not the announced digest makes no object and leaves no parts, big or small.
///
/// # Panics
/// If the store breaks the contract.
pub async fn other_bytes_than_announced_never_appear(store: &Store) {
    let folder = folder("verified");
    for (name, bytes, sha256) in [("small", big().slice(..100), SMALL_SHA256), ("big", big(), BIG_SHA256)] {
        let key = folder.clone().join(name);
        let wrong = store.upload_verified(&key, Arc::new(bytes.clone()), "00", &|_| ()).await.expect("reads");
        assert_eq!(wrong, Uploaded::Differs { found: sha256.to_owned() });
        assert_eq!(store.size(&key).await.expect("size"), None, "other bytes than announced appeared");
        assert_eq!(leftovers(store, &folder, Duration::ZERO).await, 0, "a refused upload left parts");
        let right = store.upload_verified(&key, Arc::new(bytes.clone()), sha256, &|_| ()).await.expect("uploads");
        assert_eq!(right, Uploaded::Stored);
        assert!(store.get(&key).await.expect("get").is_some_and(|stored| stored == bytes), "other bytes are stored");
        store.delete_many(vec![key]).await.expect("delete");
    }
}

/// What a killed process leaves of an upload is never listed, is found once it is old, and can be removed.
///
/// # Panics
/// If the store breaks the contract.
pub async fn an_abandoned_upload_is_found_and_removed(store: &Store) {
    let (folder, key) = abandoned_upload(store).await;
    assert_eq!(leftovers(store, &folder, Duration::from_secs(3600)).await, 0, "a young one may still go on");

    let found = store.upkeep().leftovers(Duration::ZERO).await.expect("leftovers");
    let ours: Vec<_> = found.iter().filter(|leftover| leftover.key == key.as_ref()).collect();
    assert_eq!(ours.len(), 1, "the unfinished upload is not found");
    for _ in 0..2 {
        store.upkeep().remove_leftover(ours[0]).await.expect("remove; the second time it is already gone");
    }
    assert_eq!(leftovers(store, &folder, Duration::ZERO).await, 0, "it is still there");
}

/// What a killed process leaves of an upload is no object, whether the store tells of it or not.
///
/// # Panics
/// If the store breaks the contract.
pub async fn an_abandoned_upload_is_no_object(store: &Store) {
    let (_, key) = abandoned_upload(store).await;
    assert!(store.get(&key).await.expect("get").is_none(), "an unfinished upload can be read");
    store.upkeep().leftovers(Duration::ZERO).await.expect("asking is no error");
}

/// Begins an upload and forgets it, as a killed process does; its folder and key.
async fn abandoned_upload(store: &Store) -> (Path, Path) {
    let folder = folder("killed");
    let key = folder.clone().join("data.bin");
    let mut upload = store.objects().put_multipart(&key).await.expect("begin");
    upload.put_part(PutPayload::from_bytes(big().slice(..6 << 20))).await.expect("a part");
    std::mem::forget(upload);
    assert!(store.list(&folder).await.expect("list").is_empty(), "an unfinished upload is listed");
    (folder, key)
}

async fn leftovers(store: &Store, folder: &Path, older_than: Duration) -> usize {
    let found = store.upkeep().leftovers(older_than).await.expect("leftovers");
    found.iter().filter(|leftover| leftover.key.starts_with(folder.as_ref())).count()
}

async fn blocking(reader: &Arc<dyn ReadAt>, offset: u64, length: usize) -> std::io::Result<Bytes> {
    let reader = Arc::clone(reader);
    tokio::task::spawn_blocking(move || reader.read_at(offset, length)).await.expect("a read does not panic")
}

/// Bytes in which no two blocks are alike.
fn big() -> Bytes {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(BIG_BYTES).collect::<Vec<u8>>().into()
}
