//! One chain of credentials for both clients: what the AWS SDK finds (variables, profiles, web identity, instance) signs
//! the object store's requests as well.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::config::{ProvideCredentials, SharedCredentialsProvider};
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error, Result};
use tokio::sync::Mutex;

/// Credentials are renewed this long before they expire, so that none expires under way.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Hands the SDK's credentials on, asking again only when they are about to expire.
#[derive(Debug)]
pub(crate) struct SdkCredentials {
    provider: SharedCredentialsProvider,
    cached: Mutex<Option<Cached>>,
}

#[derive(Debug)]
struct Cached {
    credential: Arc<AwsCredential>,
    expiry: Option<SystemTime>,
}

impl SdkCredentials {
    pub(crate) fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, cached: Mutex::new(None) }
    }
}

#[async_trait]
impl CredentialProvider for SdkCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        // Held while asking: of many requests that find the credentials expired, one renews them.
        let mut cached = self.cached.lock().await;
        if let Some(known) = cached.as_ref().filter(|known| is_fresh(known.expiry, SystemTime::now())) {
            return Ok(Arc::clone(&known.credential));
        }
        let found = self.provider.provide_credentials().await;
        let found = found.map_err(|error| Error::Generic { store: "S3", source: Box::new(error) })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *cached = Some(Cached { credential: Arc::clone(&credential), expiry: found.expiry() });
        Ok(credential)
    }
}

fn is_fresh(expiry: Option<SystemTime>, now: SystemTime) -> bool {
    expiry.is_none_or(|expiry| now + RENEW_BEFORE < expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_renewed_before_they_expire() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(is_fresh(None, now));
        assert!(is_fresh(Some(now + RENEW_BEFORE + Duration::from_secs(1)), now));
        assert!(!is_fresh(Some(now + RENEW_BEFORE), now));
        assert!(!is_fresh(Some(now - Duration::from_secs(1)), now));
    }
}
