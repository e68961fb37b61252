//! A store that lets somebody else act at the worst moment: right before a chosen object is put.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, PutOptions, PutPayload, PutResult, Result};
use tidemark_testing::forward::{Layer, Layered};

/// Runs `act` once, before the first put whose key ends with `key`.
pub(crate) struct Hooked {
    inner: Arc<dyn ObjectStore>,
    key: String,
    act: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Hooked {
    /// The store on top of `inner` that does so.
    pub(crate) fn store(inner: Arc<dyn ObjectStore>, key: &str, act: BoxFuture<'static, ()>) -> Arc<dyn ObjectStore> {
        Arc::new(Layered::new(Arc::new(Self { inner, key: key.to_owned(), act: Mutex::new(Some(act)) })))
    }

    async fn act(&self, key: &Path) {
        let due = key.as_ref().ends_with(&self.key);
        let act = if due { self.act.lock().expect("no holder panics").take() } else { None };
        if let Some(act) = act {
            act.await;
        }
    }
}

impl fmt::Display for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with a hook at {}", self.inner, self.key)
    }
}

#[async_trait]
impl Layer for Hooked {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.act(location).await;
        self.inner.put_opts(location, payload, options).await
    }
}
