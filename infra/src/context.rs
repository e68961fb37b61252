//! What every command works with: the configuration, and where its words go.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use tidemark_batch::Batch;
use tidemark_batch::catalog::SqlCatalog;
use tidemark_batch::report::Progress;
use tidemark_shared::catalog::Catalog;
use tidemark_shared::secrets::shown_url;
use tidemark_shared::store::{Cause, IfMissing, Store, StoreUrl, Stores};

use crate::config::Config;
use crate::error::CliError;
use crate::progress::progress;
use crate::telemetry::Telemetry;

/// The surroundings of a command.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// What the process tells of itself.
    pub telemetry: Telemetry,
    /// One JSON document on standard output instead of text.
    pub json: bool,
    /// Neither progress nor remarks.
    pub quiet: bool,
    /// The catalog, once a command has opened it.
    catalog: OnceLock<SqlCatalog>,
}

impl Context {
    /// The surroundings of a command that has opened nothing yet.
    #[must_use]
    pub fn new(config: Config, telemetry: Telemetry, json: bool, quiet: bool) -> Self {
        Self { config, telemetry, json, quiet, catalog: OnceLock::new() }
    }

    /// Closes what the command has opened. SQLite's file then lies alone, without those of its write-ahead log.
    pub async fn close(&self) {
        if let Some(catalog) = self.catalog.get() {
            catalog.close().await;
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// [`CliError::NoStore`] if there is none and `if_missing` does not make it; [`CliError::Store`].
    pub async fn store(&self, if_missing: IfMissing) -> Result<Store, CliError> {
        let url = StoreUrl::parse(&self.config.store_url, &self.config.data_dir)?;
        stores().open(&url, if_missing).await.map_err(|error| match error.cause() {
            Some(Cause::NotFound) => CliError::NoStore { url: shown_url(&url.to_string()) },
            _ => CliError::Store(error),
        })
    }

    /// The batch layer for a command that registers no table: one that only reads, or that only removes. The store must be
    /// there already, and the catalog is not asked.
    ///
    /// # Errors
    /// As [`Context::store`].
    pub async fn batch_without_catalog(&self) -> Result<Batch, CliError> {
        let store = self.store(IfMissing::Fail).await?;
        Ok(Batch::new(store, stores(), None, self.config.batch.clone()))
    }

    /// The batch layer for a command that adds rows, and so may register a table. A store must be there already: it holds the definition.
    ///
    /// # Errors
    /// As [`Context::store`], and [`CliError::Catalog`].
    pub async fn batch(&self) -> Result<Batch, CliError> {
        let store = self.store(IfMissing::Fail).await?;
        let catalog = self.catalog().await?;
        Ok(Batch::new(store, stores(), Some(catalog), self.config.batch.clone()))
    }

    /// Opens the catalog, and makes it if it is not there.
    ///
    /// # Errors
    /// [`CliError::Catalog`], or [`CliError::File`] if its folder can't be made.
    pub async fn catalog(&self) -> Result<Arc<dyn Catalog>, CliError> {
        let url = &self.config.catalog_url;
        if let Some(folder) = url.strip_prefix("sqlite:").and_then(|path| Path::new(path).parent()) {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|source| CliError::File { action: "create", path: folder.to_owned(), source })?;
        }
        let catalog = SqlCatalog::open(url, &self.config.data_dir, true).await?;
        Ok(Arc::new(self.catalog.get_or_init(|| catalog).clone()))
    }

    /// Progress of the command. A document for programs does not keep a person at the terminal from seeing it.
    #[must_use]
    pub fn progress(&self) -> Arc<dyn Progress> {
        let watched = io::IsTerminal::is_terminal(&io::stderr());
        progress(self.quiet || (self.json && !watched))
    }

    /// Prints a report: as one JSON document, or as `text` says it.
    ///
    /// # Errors
    /// [`CliError::Output`], [`CliError::OutputClosed`].
    pub fn report<T: Serialize>(&self, report: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        if self.json {
            let mut document = serde_json::to_string_pretty(report).expect("reports always serialise");
            document.push('\n');
            print(&document)
        } else {
            print(&text(report))
        }
    }

    /// A line for people on standard error.
    pub fn remark(&self, line: &str) {
        if !self.quiet {
            // Nobody can be told that standard error is closed.
            drop(writeln!(io::stderr(), "{line}"));
        }
    }
}

/// Opens what store URLs name.
pub(crate) fn stores() -> Arc<dyn Stores> {
    Arc::new(tidemark_stores::UrlStores)
}

/// Writes `text` to standard output.
///
/// # Errors
/// [`CliError::OutputClosed`] if the reader has gone, [`CliError::Output`] otherwise.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::OutputClosed,
        _ => CliError::Output(error),
    })
}
