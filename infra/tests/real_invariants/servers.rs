//! What worlds are made of here. Each has names of its own on the servers, which go with the run, and what is in them too.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tidemark_batch::catalog::SqlCatalog;
use tidemark_opensearch::{OpenSearchUrl, OpenSearchView, OpenSearchViewSettings};
use tidemark_shared::ambient::{Ambient, System};
use tidemark_shared::live::LiveView;
use tidemark_shared::store::{IfMissing, Store, StoreUrl, Stores as _};
use tidemark_stores::UrlStores;
use tidemark_testing::contract::log::SteppedClock;
use tidemark_testing::faulty::Fault;

pub(crate) use tidemark_serving::merge;

pub(crate) use crate::kafka::{TestLog, skip};

/// Of cases that a test goes over one by one, each so manieth is tried: a case takes seconds here.
pub(crate) const EVERY: usize = 3;

/// Longest wait for positions.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(5);

/// How often something is done here, of `many` times.
pub(crate) fn rounds(many: u64) -> u64 {
    many.div_ceil(4)
}

/// The writes that are met by a fault, one after the other. Between them, the faults of a test meet each.
pub(crate) fn writes(fault: Fault) -> impl Iterator<Item = u64> {
    let first = match fault {
        Fault::Fails => 0,
        Fault::AckLost => 1,
        Fault::AckLostThenRetried | Fault::Hangs | Fault::NoSpace => 2,
    };
    (first..).step_by(EVERY)
}

/// The address of a test server.
pub(crate) fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names no test server"))
}

/// A name that nobody else has, of letters and digits.
pub(crate) fn unique() -> String {
    let mut name = uuid::Uuid::new_v4().simple().to_string();
    name.truncate(20);
    name
}

/// A time that records may have: a broker lets old ones go.
pub(crate) fn begun() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).expect("it is not so late yet")
}

/// A clock that stands at such a time.
pub(crate) fn clock() -> SteppedClock {
    let clock = SteppedClock::default();
    clock.pass(SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970"));
    clock
}

/// An empty log, which has a time of its own.
pub(crate) fn log(_: Arc<dyn Ambient>) -> TestLog {
    TestLog::new()
}

/// An empty store: a prefix of a bucket. The AWS variables must point to the test server too, or tests would run on somebody's
/// real buckets.
pub(crate) async fn store(_: &Path) -> Store {
    let endpoint = address("TIDEMARK_TEST_S3_ENDPOINT");
    assert_eq!(std::env::var("AWS_ENDPOINT_URL_S3").as_ref(), Ok(&endpoint), "AWS_* must point to it as well");
    let bucket = format!("invariants-{}", std::process::id());
    let url = StoreUrl::S3 { bucket, prefix: unique() };
    UrlStores.open(&url, IfMissing::Create).await.expect("the test server opens")
}

/// Views in small indices and blocks, of which there are none yet.
pub(crate) fn live() -> Arc<dyn LiveView> {
    let url = format!("opensearch+{}/i-{}", address("TIDEMARK_TEST_OPENSEARCH_URL"), unique());
    let url: OpenSearchUrl = url.parse().expect("the server's address");
    let settings = OpenSearchViewSettings {
        index_offsets: 2_048,
        block_offsets: 512,
        scan_parts: 2,
        ..OpenSearchViewSettings::default()
    };
    Arc::new(OpenSearchView::new(&url, Arc::new(System), settings).expect("a client"))
}

/// A catalog.
pub(crate) async fn catalog(folder: &Path) -> SqlCatalog {
    let url = address("TIDEMARK_TEST_POSTGRES_URL");
    SqlCatalog::open(&url, folder, true).await.expect("the test server opens")
}
