//! The contract on a real S3 server. `infra/servers/test-real.sh` starts one and runs this; a plain `cargo test` leaves
//! it out, and without a server it fails.

use tidemark_shared::store::{Cause, IfMissing, Store, StoreUrl, Stores};
use tidemark_stores::UrlStores;
use tidemark_testing::contract::store as contract;

/// Opens a prefix in a bucket of its own at the test server. The AWS variables must point there too, or the suite would
/// run on somebody's real buckets.
async fn open(prefix: &str) -> Store {
    let endpoint = std::env::var("TIDEMARK_TEST_S3_ENDPOINT").expect("TIDEMARK_TEST_S3_ENDPOINT names the test server");
    assert_eq!(
        std::env::var("AWS_ENDPOINT_URL_S3").as_deref(),
        Ok(endpoint.as_str()),
        "AWS_* must point to it as well"
    );
    let bucket = format!("contract-{}", std::process::id());
    let url = StoreUrl::S3 { bucket, prefix: prefix.to_owned() };
    UrlStores.open(&url, IfMissing::Create).await.expect("the test server opens")
}

macro_rules! real_s3_keeps_the_contract {
    ($($name:ident = $check:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                contract::$check(&open("lake/a").await).await;
            }
        )+
    };
}

real_s3_keeps_the_contract!(
    real_s3_conditional_put_has_one_winner = conditional_put_has_one_winner,
    real_s3_put_new_is_idempotent = put_new_is_idempotent,
    real_s3_put_new_survives_a_lost_answer = put_new_survives_a_lost_answer,
    real_s3_missing_objects_are_none = missing_objects_are_none,
    real_s3_lists_are_whole_and_ordered = lists_are_whole_and_ordered,
    real_s3_ranges_are_exact = ranges_are_exact,
    real_s3_big_objects_round_trip = big_objects_round_trip,
    real_s3_a_failed_upload_leaves_nothing = a_failed_upload_leaves_nothing,
    real_s3_an_upload_whose_completion_was_lost_counts = an_upload_whose_completion_was_lost_counts,
    real_s3_other_bytes_than_announced_never_appear = other_bytes_than_announced_never_appear,
);

/// MinIO shows an unfinished upload only to who names its exact key, and removes it by itself after a day.
async fn abandoned_uploads_keep_the_contract(store: &Store) {
    match std::env::var("TIDEMARK_TEST_S3_SERVER").as_deref() {
        Ok("minio") => contract::an_abandoned_upload_is_no_object(store).await,
        _ => contract::an_abandoned_upload_is_found_and_removed(store).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_s3_an_abandoned_upload_is_found_and_removed() {
    abandoned_uploads_keep_the_contract(&open("lake/a").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_s3_a_whole_bucket_keeps_the_contract() {
    let store = open("").await;
    contract::put_new_is_idempotent(&store).await;
    contract::lists_are_whole_and_ordered(&store).await;
    abandoned_uploads_keep_the_contract(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_s3_a_missing_bucket_is_not_created_unless_told() {
    let store = open("").await;
    assert!(!store.upkeep().is_versioned().await.unwrap(), "a new bucket keeps versions");
    let StoreUrl::S3 { bucket, .. } = store.url() else { panic!("opened by an S3 address") };
    let url = StoreUrl::S3 { bucket: format!("{bucket}-missing"), prefix: String::new() };
    for _ in 0..2 {
        let error = UrlStores.open(&url, IfMissing::Fail).await.unwrap_err();
        assert_eq!(error.cause(), Some(Cause::NotFound), "{error}");
    }
}
