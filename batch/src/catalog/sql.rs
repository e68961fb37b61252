//! The little of SQL that the catalog needs, over either database: connections, transactions, statements with text and
//! integer arguments, rows of the same.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    ConnectOptions as _, Connection as _, PgPool, Postgres, Row as _, SqlSafeStr, Sqlite, SqlitePool, Transaction,
};
use tidemark_shared::catalog::CatalogError;

use super::{failure, postgres_url};

/// SQLite has one writer at a time: more connections only wait for each other.
const SQLITE_CONNECTIONS_MAX: u32 = 4;
const POSTGRES_CONNECTIONS_MAX: u32 = 8;
/// How long a call waits for a connection, or for another process's transaction.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Pause before a file that somebody else holds is opened again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

const UP_TO_DATE: &str = "bring its tables up to date";

const SQLITE_MIGRATIONS: &[(i64, &str, &str)] = &[(1, "catalog", include_str!("migrations/sqlite-1.sql"))];
const POSTGRES_MIGRATIONS: &[(i64, &str, &str)] = &[(1, "catalog", include_str!("migrations/postgres-1.sql"))];

/// A pool of connections to either database.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    /// The catalog's address as errors show it: no password.
    name: Arc<str>,
    connections: Connections,
}

#[derive(Debug, Clone)]
enum Connections {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// An argument of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arg<'a> {
    Text(&'a str),
    Int(i64),
}

/// A row: columns by number.
pub(super) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

/// A transaction; dropped without [`Tx::commit`] it is rolled back.
pub(super) struct Tx {
    name: Arc<str>,
    running: Running,
}

enum Running {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// True if somebody else holds the file.
fn is_busy(error: &sqlx::Error) -> bool {
    failure::sqlite_code(error) == Some(failure::SQLITE_BUSY)
}

impl Pool {
    /// Opens a database file, creating it where `create` says so, and brings its tables up to date.
    pub(super) async fn sqlite(path: &Path, create: bool) -> Result<Self, CatalogError> {
        let name = sqlite_name(path);
        let options = sqlite_options(path)
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        // Changing a new file to write-ahead logging asks for it alone, and does not wait as statements do.
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        let mut pause = tokio::time::interval(BUSY_PAUSE);
        let pool = loop {
            match sqlite_pools().connect_with(options.clone()).await {
                Err(error) if is_busy(&error) && tokio::time::Instant::now() < deadline => {
                    pause.tick().await;
                }
                outcome => break outcome.map_err(failed(&name, "open"))?,
            }
        };
        // SQLite has no lock for migrations: of two processes that open a new file, one would fail halfway.
        let mut writer = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed(&name, "open"))?;
        migrate(&name, SQLITE_MIGRATIONS, &mut *writer).await?;
        writer.commit().await.map_err(failed(&name, "open"))?;
        Ok(Self { name, connections: Connections::Sqlite(pool) })
    }

    /// Opens a database file as it is. Its connections refuse to write, but are not opened read-only: closing such a
    /// one would leave the write-ahead files behind that opening it makes.
    pub(super) async fn sqlite_as_it_is(path: &Path) -> Result<Self, CatalogError> {
        let name = sqlite_name(path);
        let options = sqlite_options(path).create_if_missing(false).pragma("query_only", "ON");
        let pool = sqlite_pools().connect_with(options).await.map_err(failed(&name, "open"))?;
        Ok(Self { name, connections: Connections::Sqlite(pool) })
    }

    /// Connects to a server and brings the tables up to date.
    pub(super) async fn postgres(url: &str) -> Result<Self, CatalogError> {
        let (pool, name) = postgres_pool(url).await?;
        let mut connection = pool.acquire().await.map_err(failed(&name, "connect"))?;
        migrate(&name, POSTGRES_MIGRATIONS, &mut *connection).await?;
        drop(connection);
        Ok(Self { name, connections: Connections::Postgres(pool) })
    }

    /// Connects to a server and leaves its tables as they are.
    pub(super) async fn postgres_as_it_is(url: &str) -> Result<Self, CatalogError> {
        let (pool, name) = postgres_pool(url).await?;
        Ok(Self { name, connections: Connections::Postgres(pool) })
    }

    /// True if a catalog of this release's format is there, false if there is none at all.
    pub(super) async fn has_this_format(&self) -> Result<bool, CatalogError> {
        let (exists, steps) = match self.connections {
            Connections::Sqlite(_) => {
                ("SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'", SQLITE_MIGRATIONS)
            }
            Connections::Postgres(_) => (
                "SELECT count(*) FROM (SELECT to_regclass('_sqlx_migrations') AS r) AS t WHERE r IS NOT NULL",
                POSTGRES_MIGRATIONS,
            ),
        };
        let mut tx = self.read().await?;
        if tx.number(exists).await? == 0 {
            return Ok(false);
        }
        let found = tx.number("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success").await?;
        let needed = steps.last().map_or(0, |(version, ..)| *version);
        let catalog = || self.name.to_string();
        match found.cmp(&needed) {
            std::cmp::Ordering::Equal => Ok(true),
            std::cmp::Ordering::Less => Err(CatalogError::OlderFormat { catalog: catalog(), found, needed }),
            std::cmp::Ordering::Greater => Err(CatalogError::NewerFormat { catalog: catalog(), found }),
        }
    }

    /// Begins a transaction that only reads.
    pub(super) async fn read(&self) -> Result<Tx, CatalogError> {
        let began = match &self.connections {
            Connections::Sqlite(pool) => pool.begin().await.map(Running::Sqlite),
            Connections::Postgres(pool) => pool.begin().await.map(Running::Postgres),
        };
        self.tx(began)
    }

    /// Begins a transaction that writes. SQLite takes its lock at once: one that reads first and then wants to write
    /// would fail, not wait, if another wrote in between.
    pub(super) async fn write(&self) -> Result<Tx, CatalogError> {
        let began = match &self.connections {
            Connections::Sqlite(pool) => pool.begin_with("BEGIN IMMEDIATE").await.map(Running::Sqlite),
            Connections::Postgres(pool) => pool.begin().await.map(Running::Postgres),
        };
        self.tx(began)
    }

    fn tx(&self, began: Result<Running, sqlx::Error>) -> Result<Tx, CatalogError> {
        let running = began.map_err(failed(&self.name, "begin a transaction"))?;
        Ok(Tx { name: Arc::clone(&self.name), running })
    }

    /// Closes the connections.
    pub(super) async fn close(&self) {
        match &self.connections {
            Connections::Sqlite(pool) => pool.close().await,
            Connections::Postgres(pool) => pool.close().await,
        }
    }
}

fn sqlite_name(path: &Path) -> Arc<str> {
    format!("sqlite:{}", path.display()).into()
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(WAIT_MAX)
}

fn sqlite_pools() -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(SQLITE_CONNECTIONS_MAX).acquire_timeout(WAIT_MAX)
}

/// Connections to a server, and its address without the password.
async fn postgres_pool(url: &str) -> Result<(PgPool, Arc<str>), CatalogError> {
    let options = postgres_url::options(url)?;
    let database = options.get_database().unwrap_or(options.get_username());
    let (user, host, port) = (options.get_username(), options.get_host(), options.get_port());
    let name: Arc<str> = format!("postgres://{user}@{host}:{port}/{database}").into();
    // A pool would try for half a minute to reach a server that is not there.
    let first = options.connect().await.map_err(failed(&name, "connect"))?;
    first.close().await.map_err(failed(&name, "connect"))?;
    let pools = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS_MAX).acquire_timeout(WAIT_MAX);
    let pool = pools.connect_with(options).await.map_err(failed(&name, "connect"))?;
    Ok((pool, name))
}

/// Binds `args` to `sql` in order.
macro_rules! bound {
    ($database:ty, $sql:expr, $args:expr) => {
        $args.iter().fold(sqlx::query::<$database>($sql), |query, arg| match arg {
            Arg::Text(text) => query.bind((*text).to_owned()),
            Arg::Int(int) => query.bind(*int),
        })
    };
}

impl Tx {
    /// Runs a statement; the number of rows it touched.
    pub(super) async fn execute(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<u64, sqlx::Error> {
        Ok(match &mut self.running {
            Running::Sqlite(tx) => bound!(Sqlite, sql, args).execute(&mut **tx).await?.rows_affected(),
            Running::Postgres(tx) => bound!(Postgres, sql, args).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Runs a query; all its rows.
    pub(super) async fn fetch(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match &mut self.running {
            Running::Sqlite(tx) => {
                bound!(Sqlite, sql, args).fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()
            }
            Running::Postgres(tx) => {
                bound!(Postgres, sql, args).fetch_all(&mut **tx).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The one number that a query yields.
    async fn number(&mut self, sql: &'static str) -> Result<i64, CatalogError> {
        let read = self.fetch(sql, &[]).await.and_then(|rows| rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0));
        read.map_err(self.failed("read its format"))
    }

    /// Names what failed.
    pub(super) fn failed(&self, operation: &'static str) -> impl FnOnce(sqlx::Error) -> CatalogError + use<> {
        failed(&self.name, operation)
    }

    /// Makes it so.
    pub(super) async fn commit(self) -> Result<(), CatalogError> {
        match self.running {
            Running::Sqlite(tx) => tx.commit().await,
            Running::Postgres(tx) => tx.commit().await,
        }
        .map_err(failed(&self.name, "commit"))
    }
}

impl Row {
    pub(super) fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    pub(super) fn int(&self, column: usize) -> Result<i64, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// Brings the tables up to date. Steps that this release does not know mean that a newer one wrote them.
async fn migrate<C: Migrate>(
    name: &str,
    steps: &[(i64, &'static str, &'static str)],
    target: &mut C,
) -> Result<(), CatalogError> {
    let migrations = steps.iter().map(|(version, name, sql)| {
        Migration::new(*version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    migrator.run_direct(None, target, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => CatalogError::NewerFormat { catalog: name.to_owned(), found },
        MigrateError::Execute(error) => failed(name, UP_TO_DATE)(error),
        error => {
            CatalogError::Backend { catalog: name.to_owned(), operation: UP_TO_DATE, hint: None, source: error.into() }
        }
    })
}

/// Names what failed in which catalog.
fn failed(name: &str, operation: &'static str) -> impl FnOnce(sqlx::Error) -> CatalogError + use<> {
    let catalog = name.to_owned();
    move |error| CatalogError::Backend { hint: failure::hint(&error), catalog, operation, source: error.into() }
}
