//! The little of SQL that the catalog needs, over either database: connections, transactions, statements with text and
//! integer arguments, rows of the same.

use std::borrow::Cow;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, Postgres, Row as _, SqlSafeStr, Sqlite, SqlitePool, Transaction};
use tidemark_shared::catalog::CatalogError;

/// SQLite has one writer at a time: more connections only wait for each other.
const SQLITE_CONNECTIONS_MAX: u32 = 4;
const POSTGRES_CONNECTIONS_MAX: u32 = 8;
/// How long a call waits for a connection, or for another process's transaction.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Pause before a file that somebody else holds is opened again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

const SQLITE_MIGRATIONS: &[(i64, &str, &str)] = &[(1, "catalog", include_str!("migrations/sqlite-1.sql"))];
const POSTGRES_MIGRATIONS: &[(i64, &str, &str)] = &[(1, "catalog", include_str!("migrations/postgres-1.sql"))];

/// A pool of connections to either database.
#[derive(Debug, Clone)]
pub(super) enum Pool {
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
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// True if somebody else holds the file (`SQLITE_BUSY`, with or without an extended code).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

impl Pool {
    /// Opens a database file, creating it where `create` says so, and brings its tables up to date.
    pub(super) async fn sqlite(path: &Path, create: bool) -> Result<Self, CatalogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(WAIT_MAX);
        let pools = SqlitePoolOptions::new().max_connections(SQLITE_CONNECTIONS_MAX).acquire_timeout(WAIT_MAX);
        // Changing a new file to write-ahead logging asks for it alone, and does not wait as statements do.
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        let mut pause = tokio::time::interval(BUSY_PAUSE);
        let pool = loop {
            match pools.clone().connect_with(options.clone()).await {
                Err(error) if is_busy(&error) && tokio::time::Instant::now() < deadline => {
                    pause.tick().await;
                }
                outcome => break outcome.map_err(failed("open"))?,
            }
        };
        // SQLite has no lock for migrations: of two processes that open a new file, one would fail halfway.
        let mut writer = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("open"))?;
        migrate(SQLITE_MIGRATIONS, &mut *writer).await?;
        writer.commit().await.map_err(failed("open"))?;
        Ok(Self::Sqlite(pool))
    }

    /// Connects to a server and brings the tables up to date.
    pub(super) async fn postgres(url: &str) -> Result<Self, CatalogError> {
        let options = PgConnectOptions::from_str(url).map_err(failed("read its address"))?;
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(WAIT_MAX)
            .connect_with(options)
            .await
            .map_err(failed("connect"))?;
        let mut connection = pool.acquire().await.map_err(failed("connect"))?;
        migrate(POSTGRES_MIGRATIONS, &mut *connection).await?;
        drop(connection);
        Ok(Self::Postgres(pool))
    }

    /// Begins a transaction that only reads.
    pub(super) async fn read(&self) -> Result<Tx, CatalogError> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin().await.map_err(failed("begin"))?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await.map_err(failed("begin"))?),
        })
    }

    /// Begins a transaction that writes. SQLite takes its lock at once: one that reads first and then wants to write
    /// would fail, not wait, if another wrote in between.
    pub(super) async fn write(&self) -> Result<Tx, CatalogError> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin"))?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await.map_err(failed("begin"))?),
        })
    }

    /// Closes the connections.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
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
        Ok(match self {
            Self::Sqlite(tx) => bound!(Sqlite, sql, args).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => bound!(Postgres, sql, args).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Runs a query; all its rows.
    pub(super) async fn fetch(&mut self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(tx) => {
                bound!(Sqlite, sql, args).fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                bound!(Postgres, sql, args).fetch_all(&mut **tx).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Makes it so.
    pub(super) async fn commit(self) -> Result<(), CatalogError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
        .map_err(failed("commit"))
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
async fn migrate<C: Migrate>(steps: &[(i64, &'static str, &'static str)], target: &mut C) -> Result<(), CatalogError> {
    let migrations = steps.iter().map(|(version, name, sql)| {
        Migration::new(*version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    migrator.run_direct(None, target, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => CatalogError::NewerFormat { found },
        error => CatalogError::Backend { operation: "bring its tables up to date", source: Box::new(error) },
    })
}

/// Names what failed.
pub(super) fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> CatalogError {
    move |error| CatalogError::Backend { operation, source: Box::new(error) }
}
