//! The catalog's adapters: SQLite (embedded) and PostgreSQL. One body of SQL serves both; they differ in the migrations
//! and in how a transaction begins.

mod failure;
mod partitions;
mod postgres_url;
mod sql;
mod store;

#[cfg(test)]
mod tests;

pub use store::SqlCatalog;
