//! The catalog port, with the model of AWS Glue: databases, tables with versions, partitions. Field names serialise as
//! Glue's JSON has them, so that a Glue door only has to pass them on.
//!
//! Names of databases and tables are lower-cased. Updates are optimistic: whoever names the version it read learns when
//! another was faster. Lists are paged, ordered by name (partitions by their values), and a page never repeats or skips
//! what existed throughout.

mod error;
mod model;
mod name;

#[cfg(test)]
mod tests;

pub use error::CatalogError;
pub use model::{
    Column, Database, DatabaseInput, Order, Parameters, Partition, PartitionInput, SerdeInfo, StorageDescriptor, Table,
    TableInput,
};
pub use name::{NAME_BYTES_MAX, normalised};

use async_trait::async_trait;

/// Most items of a page.
pub const PAGE_MAX: usize = 1_000;
/// Most partitions in one call of [`Catalog::create_partitions`] or [`Catalog::delete_partitions`].
pub const BATCH_MAX: usize = 10_000;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items wanted, between 1 and [`PAGE_MAX`]; other values are brought into that range.
    pub limit: usize,
    /// [`Page::next`] of the page before, or `None` for the first.
    pub token: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: PAGE_MAX, token: None }
    }
}

impl PageRequest {
    /// The limit within its bounds.
    #[must_use]
    pub fn bounded_limit(&self) -> usize {
        self.limit.clamp(1, PAGE_MAX)
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Token of the next page; `None` if this is the last. Opaque to callers.
    pub next: Option<String>,
}

/// Restricts a list of partitions: for each partition key, the exact value, or `None` for any.
pub type PartitionFilter = Vec<Option<String>>;

/// A catalog. Every call is one transaction: it happens whole or not at all.
///
/// All methods fail with [`CatalogError`]: `Invalid` for a name or value that can't be, `NotFound` for a database, table
/// or partition that is not there, `AlreadyExists` for one that is, `Conflict` for an update that came too late, and
/// `Backend` if the database behind the catalog fails.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Creates a database.
    async fn create_database(&self, input: DatabaseInput) -> Result<Database, CatalogError>;
    /// One database.
    async fn get_database(&self, name: &str) -> Result<Database, CatalogError>;
    /// Databases by name.
    async fn list_databases(&self, page: PageRequest) -> Result<Page<Database>, CatalogError>;
    /// Replaces a database's description, location and parameters; the last writer wins.
    async fn update_database(&self, input: DatabaseInput) -> Result<Database, CatalogError>;
    /// Deletes a database with all its tables.
    async fn delete_database(&self, name: &str) -> Result<(), CatalogError>;

    /// Creates a table, at version 0.
    async fn create_table(&self, database: &str, input: TableInput) -> Result<Table, CatalogError>;
    /// One table, at its newest version.
    async fn get_table(&self, database: &str, name: &str) -> Result<Table, CatalogError>;
    /// Tables of a database by name.
    async fn list_tables(&self, database: &str, page: PageRequest) -> Result<Page<Table>, CatalogError>;
    /// Replaces a table by its next version. With `expected_version`, only if that is still the newest.
    async fn update_table(
        &self,
        database: &str,
        input: TableInput,
        expected_version: Option<u64>,
    ) -> Result<Table, CatalogError>;
    /// Deletes a table with its versions and partitions.
    async fn delete_table(&self, database: &str, name: &str) -> Result<(), CatalogError>;
    /// Versions of a table, newest first.
    async fn list_table_versions(
        &self,
        database: &str,
        name: &str,
        page: PageRequest,
    ) -> Result<Page<Table>, CatalogError>;
    /// One version of a table.
    async fn get_table_version(&self, database: &str, name: &str, version: u64) -> Result<Table, CatalogError>;

    /// Creates partitions, at most [`BATCH_MAX`]. Those that exist already stay as they are, and their values are
    /// returned.
    async fn create_partitions(
        &self,
        database: &str,
        table: &str,
        inputs: Vec<PartitionInput>,
    ) -> Result<Vec<Vec<String>>, CatalogError>;
    /// One partition.
    async fn get_partition(&self, database: &str, table: &str, values: &[String]) -> Result<Partition, CatalogError>;
    /// Partitions of a table that match `filter`, if there is one.
    async fn list_partitions(
        &self,
        database: &str,
        table: &str,
        filter: Option<PartitionFilter>,
        page: PageRequest,
    ) -> Result<Page<Partition>, CatalogError>;
    /// Replaces a partition's storage descriptor and parameters; the last writer wins.
    async fn update_partition(
        &self,
        database: &str,
        table: &str,
        input: PartitionInput,
    ) -> Result<Partition, CatalogError>;
    /// Deletes partitions, at most [`BATCH_MAX`]. One that is not there counts as deleted.
    async fn delete_partitions(
        &self,
        database: &str,
        table: &str,
        values: Vec<Vec<String>>,
    ) -> Result<(), CatalogError>;
}
