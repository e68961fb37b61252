//! Fault injection: an adapter that fails a chosen call, or does it and loses the answer. For tests of what is built on
//! a store.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetResult, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, UploadPart,
};
use tidemark_shared::lock;

use crate::forward::{Layer, Layered};

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A put of a whole object.
    Put,
    /// A get, head or range read.
    Get,
    /// One part of an upload.
    Part,
    /// The completion of an upload.
    Complete,
    /// The deletion of one object.
    Delete,
    /// A listing; the key is the prefix. Listings are counted, but never fail.
    List,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the call fails as if the other side were away.
    Fails,
    /// Nothing is done: the disk is full.
    NoSpace,
    /// Nothing is done, and a put does not end.
    Hangs,
    /// All is done, but the caller is told that it failed.
    AckLost,
    /// All is done, but the answer to a put is that of a retry: the object already exists.
    AckLostThenRetried,
}

/// Fails the `nth` (from 0) call of a kind whose key contains `key`.
#[derive(Debug)]
pub struct Rule {
    call: Call,
    key: String,
    nth: u64,
    fault: Fault,
    seen: AtomicU64,
}

impl Rule {
    /// A rule; an empty `key` matches every key.
    #[must_use]
    pub fn new(call: Call, key: &str, nth: u64, fault: Fault) -> Self {
        Self { call, key: key.to_owned(), nth, fault, seen: AtomicU64::new(0) }
    }
}

/// The decorator. Clones share their rules, so a test can add one while the store is in use.
#[derive(Debug, Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    rules: Arc<Mutex<Vec<Rule>>>,
    made: Arc<Mutex<Vec<(Call, Path)>>>,
    fired: Arc<AtomicU64>,
}

impl Faulty {
    /// Decorates `inner`. Use with `Store::decorated`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, rules: Vec<Rule>) -> Self {
        Self { inner, rules: Arc::new(Mutex::new(rules)), made: Arc::default(), fired: Arc::default() }
    }

    /// The store that fails.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(Layered::new(Arc::new(self.clone())))
    }

    /// Adds a rule; it counts calls from now on.
    pub fn add(&self, rule: Rule) {
        lock(&self.rules).push(rule);
    }

    /// How many calls failed, or lost their answer, by a rule so far. One that names a call that is never made does not
    /// count: a test that goes over the calls one by one knows by it when it is through.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::Relaxed)
    }

    /// All calls so far, in order, with their keys.
    #[must_use]
    pub fn made(&self) -> Vec<(Call, Path)> {
        lock(&self.made).clone()
    }

    fn fault(&self, call: Call, path: &Path) -> Option<Fault> {
        lock(&self.made).push((call, path.clone()));
        let rules = lock(&self.rules);
        let mut due = None;
        for rule in rules.iter().filter(|rule| rule.call == call && path.as_ref().contains(&rule.key)) {
            if rule.seen.fetch_add(1, Ordering::Relaxed) == rule.nth {
                due = Some(rule.fault);
            }
        }
        self.fired.fetch_add(u64::from(due.is_some()), Ordering::Relaxed);
        due
    }

    /// The error of a fault that comes before the work, if one does.
    fn before(fault: Option<Fault>) -> Result<()> {
        match fault {
            Some(Fault::Fails) => Err(injected(io::ErrorKind::ConnectionReset)),
            Some(Fault::NoSpace) => Err(injected(io::ErrorKind::StorageFull)),
            _ => Ok(()),
        }
    }

    /// The error of a fault that comes after it.
    fn after(fault: Option<Fault>, path: &Path) -> Result<()> {
        match fault {
            Some(Fault::AckLost) => Err(injected(io::ErrorKind::ConnectionReset)),
            Some(Fault::AckLostThenRetried) => {
                Err(Error::AlreadyExists { path: path.to_string(), source: "injected".into() })
            }
            _ => Ok(()),
        }
    }
}

fn injected(kind: io::ErrorKind) -> Error {
    Error::Generic { store: "faulty", source: Box::new(io::Error::new(kind, "injected")) }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl Layer for Faulty {
    fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.fault(Call::Put, location);
        if fault == Some(Fault::Hangs) {
            std::future::pending::<()>().await;
        }
        Self::before(fault)?;
        let result = self.inner.put_opts(location, payload, options).await?;
        Self::after(fault, location)?;
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultyUpload { inner, faults: self.clone(), path: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        Self::before(self.fault(Call::Get, location))?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        Self::before(self.fault(Call::Get, location))?;
        self.inner.get_ranges(location, ranges).await
    }

    fn before_delete(&self, location: &Path) -> Result<()> {
        Self::before(self.fault(Call::Delete, location))
    }

    fn before_list(&self, prefix: Option<&Path>) {
        self.fault(Call::List, prefix.unwrap_or(&Path::default()));
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faults: Faulty,
    path: Path,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.faults.fault(Call::Part, &self.path);
        if let Err(error) = Faulty::before(fault) {
            return async move { Err(error) }.boxed();
        }
        let (part, path) = (self.inner.put_part(data), self.path.clone());
        async move {
            part.await?;
            Faulty::after(fault, &path)
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.faults.fault(Call::Complete, &self.path);
        Faulty::before(fault)?;
        let result = self.inner.complete().await?;
        Faulty::after(fault, &self.path)?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
