//! S3 as a store: `object_store` for objects, the AWS SDK for buckets, versioning and unfinished uploads.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::types::{BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, MultipartUpload};
use chrono::{DateTime, Utc};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use tidemark_shared::secrets::shown_url;
use tidemark_shared::store::{Cause, IfMissing, Leftover, Operation, Rooted, Store, StoreError, StoreUrl, Upkeep};

use crate::credentials::SdkCredentials;

const DEFAULT_REGION: &str = "us-east-1";
/// One request, also that of a part of some MiB on a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Within this the client retries what may be retried; then the caller is told.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES_MAX: usize = 8;

/// Opens a bucket at a prefix.
pub(crate) async fn open(
    url: &StoreUrl,
    bucket: &str,
    prefix: &str,
    if_missing: IfMissing,
) -> Result<Store, StoreError> {
    let settings = Settings::load(url).await?;
    let client = settings.sdk_client();
    ensure_bucket(&client, bucket, &settings.region, if_missing).await?;

    let objects = settings.objects(url, bucket)?;
    let prefix =
        Path::parse(prefix).map_err(|source| StoreError::because(Operation::Open, url, Cause::BadName, source))?;
    let upkeep = S3Upkeep { client, bucket: bucket.to_owned(), prefix: prefix.clone() };
    let rooted: Arc<dyn ObjectStore> = if prefix.is_root() { objects } else { Arc::new(Rooted::new(objects, prefix)) };
    Ok(Store::new(url.clone(), rooted, Arc::new(upkeep)))
}

/// What both clients must agree on.
struct Settings {
    sdk: aws_config::SdkConfig,
    region: String,
    endpoint: Option<String>,
    /// The endpoint speaks plain HTTP, and may.
    plain_http: bool,
}

impl Settings {
    async fn load(url: &StoreUrl) -> Result<Self, StoreError> {
        let loader = aws_config::defaults(BehaviorVersion::latest());
        let loader = if is_set("AWS_SKIP_SIGNATURE") { loader.no_credentials() } else { loader };
        let sdk = loader.load().await;
        let region = sdk.region().map_or(DEFAULT_REGION, |region| region.as_ref()).to_owned();
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| sdk.endpoint_url().map(str::to_owned));
        let plain_http = match &endpoint {
            Some(endpoint) => plain_http(endpoint, is_set("AWS_ALLOW_HTTP"))
                .map_err(|reason| StoreError::because(Operation::Open, url, Cause::Denied, reason))?,
            None => false,
        };
        Ok(Self { sdk, region, endpoint, plain_http })
    }

    fn sdk_client(&self) -> Client {
        let mut config = aws_sdk_s3::config::Builder::from(&self.sdk);
        if self.sdk.region().is_none() {
            config = config.region(aws_sdk_s3::config::Region::new(self.region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            // Only AWS resolves a bucket's own host name.
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        Client::from_conf(config.build())
    }

    fn objects(&self, url: &StoreUrl, bucket: &str) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let options = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(self.plain_http);
        let retry =
            RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, backoff: BackoffConfig::default() };
        let mut builder = AmazonS3Builder::from_env()
            .with_client_options(options)
            .with_retry(retry)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_region(&self.region)
            .with_bucket_name(bucket);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(provider) = self.sdk.credentials_provider() {
            builder = builder.with_credentials(Arc::new(SdkCredentials::new(provider)));
        }
        let store = builder.build().map_err(|error| StoreError::of(Operation::Open, url, error))?;
        Ok(Arc::new(store))
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
}

/// True if the endpoint speaks plain HTTP. Keys are never in the clear, but data would be: only this machine's own
/// addresses may, or any if `allowed`.
fn plain_http(endpoint: &str, allowed: bool) -> Result<bool, String> {
    let shown = shown_url(endpoint);
    let parsed = url::Url::parse(endpoint).map_err(|error| format!("the endpoint `{shown}` is no URL: {error}"))?;
    // Keys sign requests; what is in an address would only stand in errors of the clients.
    let has_secrets = !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some();
    if has_secrets {
        return Err(format!("the endpoint `{shown}` holds a user, a password or a query, which are not sent"));
    }
    let loopback = match parsed.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(format!("the endpoint `{shown}` names no host")),
    };
    match parsed.scheme() {
        "https" => Ok(false),
        "http" if loopback || allowed => Ok(true),
        "http" => Err(format!("the endpoint `{shown}` is not encrypted; AWS_ALLOW_HTTP=true permits it")),
        _ => Err(format!("the endpoint `{shown}` is neither http nor https")),
    }
}

async fn ensure_bucket(client: &Client, bucket: &str, region: &str, if_missing: IfMissing) -> Result<(), StoreError> {
    let address = format!("s3://{bucket}");
    let missing = match client.head_bucket().bucket(bucket).send().await {
        Ok(_) => return Ok(()),
        Err(error) => sdk_error(Operation::Open, &address, error),
    };
    if missing.cause() != Some(Cause::NotFound) || if_missing == IfMissing::Fail {
        return Err(missing);
    }
    let mut create = client.create_bucket().bucket(bucket);
    if region != DEFAULT_REGION {
        let location = BucketLocationConstraint::from(region);
        create = create
            .create_bucket_configuration(CreateBucketConfiguration::builder().location_constraint(location).build());
    }
    match create.send().await {
        Ok(_) => Ok(()),
        // Somebody of ours was faster.
        Err(error) if error.as_service_error().is_some_and(|e| e.is_bucket_already_owned_by_you()) => Ok(()),
        Err(error) => Err(sdk_error(Operation::Open, &address, error)),
    }
}

/// Unfinished uploads and versioning. MinIO lists an unfinished upload only under its exact key, so there none is
/// found; it removes them itself after a day.
#[derive(Debug)]
struct S3Upkeep {
    client: Client,
    bucket: String,
    prefix: Path,
}

impl S3Upkeep {
    fn full_key(&self, key: &str) -> String {
        if self.prefix.is_root() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    /// One of our uploads as a leftover; `None` for another prefix's or a young one's.
    fn leftover(&self, upload: &MultipartUpload, before: SystemTime) -> Option<Leftover> {
        let key = upload.key()?;
        let folder = self.full_key("");
        let key = key.strip_prefix(&folder)?;
        let since = SystemTime::try_from(*upload.initiated()?).ok()?;
        (since <= before).then(|| Leftover {
            key: key.to_owned(),
            handle: upload.upload_id().unwrap_or_default().to_owned(),
            since: DateTime::<Utc>::from(since),
            bytes: None,
        })
    }
}

#[async_trait]
impl Upkeep for S3Upkeep {
    async fn leftovers(&self, older_than: Duration) -> Result<Vec<Leftover>, StoreError> {
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        let (mut key_marker, mut id_marker) = (None, None);
        let mut found = Vec::new();
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(self.full_key(""));
            let request = request.set_key_marker(key_marker).set_upload_id_marker(id_marker);
            let page = request.send().await;
            let page = page.map_err(|error| sdk_error(Operation::Upkeep, &self.full_key(""), error))?;
            found.extend(page.uploads().iter().filter_map(|upload| self.leftover(upload, before)));
            key_marker = page.next_key_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
            id_marker = page.next_upload_id_marker().filter(|marker| !marker.is_empty()).map(str::to_owned);
            if page.is_truncated() != Some(true) || key_marker.is_none() {
                return Ok(found);
            }
        }
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<(), StoreError> {
        let key = self.full_key(&leftover.key);
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(&key).upload_id(&leftover.handle);
        match abort.send().await {
            Ok(_) => Ok(()),
            Err(error) => match sdk_error(Operation::Upkeep, &key, error) {
                error if error.cause() == Some(Cause::NotFound) => Ok(()),
                error => Err(error),
            },
        }
    }

    async fn is_versioned(&self) -> Result<bool, StoreError> {
        match self.client.get_bucket_versioning().bucket(&self.bucket).send().await {
            Ok(versioning) => Ok(versioning.status() == Some(&BucketVersioningStatus::Enabled)),
            Err(error) => match sdk_error(Operation::Upkeep, &format!("s3://{}", self.bucket), error) {
                // A server that does not know versioning has none.
                error if error.cause() == Some(Cause::Unsupported) => Ok(false),
                error => Err(error),
            },
        }
    }
}

fn sdk_error<E>(operation: Operation, object: &str, error: SdkError<E>) -> StoreError
where
    E: std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let cause = match status {
        Some(404) => Cause::NotFound,
        Some(401 | 403) => Cause::Denied,
        Some(405 | 501) => Cause::Unsupported,
        Some(507) => Cause::NoSpace,
        _ => Cause::Failed,
    };
    StoreError::because(operation, object, cause, error)
}

#[cfg(test)]
mod tests {
    use super::plain_http;

    #[test]
    fn plain_http_is_for_this_machine_unless_permitted() {
        for endpoint in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000", "http://s3.localhost"] {
            assert_eq!(plain_http(endpoint, false), Ok(true), "{endpoint}");
        }
        assert_eq!(plain_http("https://s3.example.com", false), Ok(false));
        assert!(plain_http("http://minio:9000", false).is_err());
        assert_eq!(plain_http("http://minio:9000", true), Ok(true));
        assert!(plain_http("ftp://minio", true).is_err());
        assert!(plain_http("minio:9000", true).is_err());
        for endpoint in [
            "http://u:PW-s3cret@localhost:9000",
            "https://PW-s3cret@s3.example.com",
            "https://s3.example.com/?key=PW-s3cret",
            "http://u:PW/PW-s3cret@localhost",
            "ftp://u:PW-s3cret@minio",
            "u:PW-s3cret@minio:9000",
        ] {
            let refused = plain_http(endpoint, true).expect_err(endpoint);
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }
}
