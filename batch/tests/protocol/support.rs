//! A small dataset, its files, and a look at what is published.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use tempfile::TempDir;
use tidemark_batch::report::{RejectQuery, quiet};
use tidemark_batch::{Batch, BatchError, BatchSettings, IngestRequest, VacuumRequest};
use tidemark_shared::catalog::Catalog;
use tidemark_shared::curated::{CuratedTable, CuratedVersion};
use tidemark_shared::dataset::registry;
use tidemark_shared::store::{IfMissing, Store, StoreError, StoreUrl, Stores};
use tidemark_testing::faulty::{Faulty, Rule};

use super::hooked::Hooked;
use super::parts;

const DEFINITION: &str = r#"
name = "events"
columns = [
    { name = "id", type = "int64", required = true },
    { name = "kind", type = "string" },
    { name = "cents", type = "int64" },
]
partition_columns = ["kind"]

[files]
format = "csv"

[gate]
max_reject_ratio = 0.5
"#;

/// Filters `kind = 'skip'`.
pub(crate) const TRANSFORM: &str = "SELECT id, cents, kind FROM input WHERE kind <> 'skip' OR kind IS NULL";
/// Another definition version: cents doubled.
pub(crate) const DOUBLED: &str = "SELECT id, cents * 2 AS cents, kind FROM input WHERE kind <> 'skip' OR kind IS NULL";

/// Only local stores.
struct Local;

#[async_trait]
impl Stores for Local {
    async fn open(&self, url: &StoreUrl, if_missing: IfMissing) -> Result<Store, StoreError> {
        Store::local(url.local_path().expect("tests name folders only"), if_missing)
    }
}

/// A store in a temporary folder, and files to ingest.
pub(crate) struct Home {
    folder: TempDir,
    store: Store,
}

/// What counts: rows with their positions, rejects, and the covered ledger prefix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) rows: String,
    pub(crate) rejects: Vec<(String, u64, String)>,
    pub(crate) files_end: u64,
}

impl Home {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = parts::store(&folder.path().join("store")).await;
        let home = Self { folder, store };
        home.apply(TRANSFORM).await;
        for (name, rows) in [("a.csv", 0..40), ("b.csv", 40..70), ("c.csv", 70..100)] {
            home.file(name, rows);
        }
        home
    }

    pub(crate) async fn apply(&self, transform: &str) {
        self.apply_definition(DEFINITION, transform).await;
    }

    pub(crate) async fn apply_definition(&self, definition: &str, transform: &str) {
        let sources = BTreeMap::from([
            ("dataset.toml".to_owned(), definition.to_owned()),
            ("transform.sql".to_owned(), transform.to_owned()),
        ]);
        registry::apply(&self.store, &sources).await.expect("a valid definition");
    }

    /// Writes a CSV file: every 7th record is cut, every 5th filtered; kinds alternate.
    pub(crate) fn file(&self, name: &str, ids: std::ops::Range<u32>) -> String {
        let mut text = "id,kind,cents\n".to_owned();
        for id in ids {
            let kind = if id % 5 == 0 { "skip" } else { ["x", "y", ""][id as usize % 3] };
            if id % 7 == 0 {
                text.push_str(&format!("{id},{kind}\n"));
            } else {
                text.push_str(&format!("{id},{kind},{}\n", id * 10));
            }
        }
        let path = self.path(name);
        std::fs::write(&path, text).expect("a writable folder");
        path.to_string_lossy().into_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn batch(&self) -> Batch {
        self.batch_on(self.store.clone())
    }

    pub(crate) fn batch_with(&self, settings: BatchSettings) -> Batch {
        Batch::new(self.store.clone(), Arc::new(Local), None, settings)
    }

    pub(crate) fn batch_with_catalog(&self, catalog: Arc<dyn Catalog>) -> Batch {
        let settings = BatchSettings { threads: 2, ..BatchSettings::default() };
        Batch::new(self.store.clone(), Arc::new(Local), Some(catalog), settings)
    }

    fn batch_on(&self, store: Store) -> Batch {
        let settings = BatchSettings { threads: 2, ..BatchSettings::default() };
        Batch::new(store, Arc::new(Local), None, settings)
    }

    /// The batch layer on a store that lets `act` happen before the first put of a key that ends with `key`.
    pub(crate) fn hooked(&self, key: &str, act: BoxFuture<'static, ()>) -> Batch {
        self.batch_on(self.store.decorated(|inner| Hooked::store(inner, key, act)))
    }

    /// The batch layer on a store that fails as `rules` say.
    pub(crate) fn faulty(&self, rules: Vec<Rule>) -> Batch {
        self.observed(rules).0
    }

    /// The same, and the store that tells which calls were made and which of them failed.
    pub(crate) fn observed(&self, rules: Vec<Rule>) -> (Batch, Faulty) {
        self.observed_with(rules, BatchSettings { threads: 2, ..BatchSettings::default() })
    }

    /// The same with other settings.
    pub(crate) fn observed_with(&self, rules: Vec<Rule>, settings: BatchSettings) -> (Batch, Faulty) {
        let faulty = Faulty::new(self.store.objects(), rules);
        let store = self.store.decorated(|_| faulty.store());
        (Batch::new(store, Arc::new(Local), None, settings), faulty)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn request(&self, names: &[&str]) -> IngestRequest {
        let paths = names.iter().map(|name| self.path(name).to_string_lossy().into_owned()).collect();
        IngestRequest { paths, ..IngestRequest::default() }
    }

    pub(crate) async fn ingest(&self, batch: &Batch, names: &[&str]) -> Result<(), BatchError> {
        let report = batch.ingest("events", &self.request(names), &quiet()).await?;
        assert!(report.counts.adds_up(), "{:?}", report.counts);
        Ok(())
    }

    pub(crate) async fn published(&self) -> Published {
        let objects = self.store.objects();
        let version = CuratedVersion::open(objects, "events").await.expect("opens").expect("a generation");
        let files_end = version.coverage.files_end();
        let context = SessionContext::new();
        let table = CuratedTable::try_new(Arc::new(version)).expect("a table");
        context.register_table("events", Arc::new(table)).expect("registers");
        let sql = "SELECT id, cents, kind, _source, _partition, _offset FROM events ORDER BY _source, _partition, _offset, id";
        let rows = context.sql(sql).await.expect("plans").collect().await.expect("reads");
        let rejects = self.batch().rejects("events", &RejectQuery::default()).await.expect("reads");
        Published {
            rows: pretty_format_batches(&rows).expect("renders").to_string(),
            rejects: rejects
                .into_iter()
                .map(|r| (r.file.unwrap_or_else(|| format!("{}/{}", r.source, r.partition)), r.offset, r.reason))
                .collect(),
            files_end,
        }
    }

    /// Removes all orphans, and asserts that nothing that counts went with them.
    pub(crate) async fn vacuum(&self) {
        let before = self.published().await;
        let mut request = VacuumRequest { force: true, ..VacuumRequest::default() };
        self.batch().vacuum("events", &request).await.expect("vacuums");
        assert_eq!(before, self.published().await, "vacuum took something that counts");
        request.dry_run = true;
        let rest = self.batch().vacuum("events", &request).await.expect("looks");
        assert_eq!((rest.removed, rest.leftovers), (Vec::<String>::new(), Vec::<String>::new()));
    }
}
