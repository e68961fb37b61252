//! The names that a statement can use, and the tables behind them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, RwLock};

use crate::error::AnyError;
use crate::{read, write};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};

use super::files::FileTable;

/// A table of the catalog, with its version there.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogTable {
    /// Its files.
    pub files: FileTable,
    /// Its version in the catalog.
    pub version: String,
}

/// The tables, besides datasets, that statements can name: `<schema>.<table>`.
#[async_trait]
pub trait CatalogTables: fmt::Debug + Send + Sync {
    /// All schemas (the catalog's databases) with the names of their tables. A schema named as one of the engine's own
    /// (`batch`, `merged`, `live`, `information_schema`) is hidden.
    ///
    /// # Errors
    /// Whatever the catalog reports.
    async fn names(&self) -> std::result::Result<BTreeMap<String, Vec<String>>, AnyError>;

    /// One table; `None` if it does not exist (any more).
    ///
    /// # Errors
    /// Whatever the catalog reports, and a table that can't be read in place.
    async fn table(&self, schema: &str, table: &str) -> std::result::Result<Option<CatalogTable>, AnyError>;
}

/// A catalog that knows no table: datasets and files in place are still there.
#[derive(Debug, Clone, Copy)]
pub struct NoCatalogTables;

#[async_trait]
impl CatalogTables for NoCatalogTables {
    async fn names(&self) -> std::result::Result<BTreeMap<String, Vec<String>>, AnyError> {
        Ok(BTreeMap::new())
    }

    async fn table(&self, _: &str, _: &str) -> std::result::Result<Option<CatalogTable>, AnyError> {
        Ok(None)
    }
}

/// Tables that `CREATE EXTERNAL TABLE` made, or that were given to the engine by name.
#[derive(Debug, Default)]
pub(super) struct SessionTables(RwLock<BTreeMap<String, SessionTable>>);

#[derive(Debug, Clone)]
pub(super) struct SessionTable {
    pub(super) provider: Arc<dyn TableProvider>,
    pub(super) location: String,
}

impl SessionTables {
    pub(super) fn get(&self, name: &str) -> Option<SessionTable> {
        read(&self.0).get(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        read(&self.0).keys().cloned().collect()
    }

    pub(super) fn insert(&self, name: String, table: SessionTable) -> Option<SessionTable> {
        write(&self.0).insert(name, table)
    }
}

/// One schema of one statement's session: the tables that the statement was found to need, and once somebody asked for
/// them, the names of all. Tables are opened before planning, so that each is of one moment and a failure keeps its own
/// error.
#[derive(Debug, Default)]
pub(super) struct OpenedSchema {
    names: OnceLock<Vec<String>>,
    opened: RwLock<BTreeMap<String, Arc<dyn TableProvider>>>,
}

impl OpenedSchema {
    /// Names all tables there are; the first time counts.
    pub(super) fn name(&self, names: Vec<String>) {
        let _names = self.names.get_or_init(|| names);
    }

    /// All names, if they were asked for.
    pub(super) fn names(&self) -> &[String] {
        self.names.get().map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn open(&self, name: &str, table: Arc<dyn TableProvider>) {
        let _previous = write(&self.opened).insert(name.to_owned(), table);
    }

    pub(super) fn opened(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        read(&self.opened).get(name).cloned()
    }
}

#[async_trait]
impl SchemaProvider for OpenedSchema {
    fn table_names(&self) -> Vec<String> {
        self.names().to_vec()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.opened(name))
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        self.open(&name, table);
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names().iter().any(|known| known == name) || self.opened(name).is_some()
    }
}
