//! Databases and tables.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemark_shared::catalog::{
    Catalog, CatalogError, Database, DatabaseInput, Page, PageRequest, Partition, PartitionFilter, PartitionInput,
    Table, TableInput, normalised,
};
use tidemark_shared::secrets::shown_url;

use super::partitions;
use super::sql::{Arg, Pool, Row, Tx};
use Arg::{Int, Text};

/// A catalog in SQLite or PostgreSQL.
#[derive(Debug, Clone)]
pub struct SqlCatalog {
    pub(super) pool: Pool,
}

impl SqlCatalog {
    /// Opens `sqlite:path` (relative to `base`; `create` makes a file that is not there) or `postgres://…`, and brings
    /// its tables up to date.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`] for another scheme, [`CatalogError::NewerFormat`] if a newer release wrote it,
    /// [`CatalogError::Backend`] if it can't be opened.
    pub async fn open(url: &str, base: &Path, create: bool) -> Result<Self, CatalogError> {
        let pool = match address(url, base)? {
            Address::Sqlite(path) => Pool::sqlite(&path, create).await?,
            Address::Postgres => Pool::postgres(url).await?,
        };
        Ok(Self { pool })
    }

    /// Opens the catalog at `url` to read it, as it is: nothing is created, and tables of another release stay as they
    /// are. `None` if there is no catalog yet: no file, or a database without the catalog's tables. Writing through it
    /// fails on a file and is not to be tried.
    ///
    /// # Errors
    /// As [`Self::open`], and [`CatalogError::OlderFormat`] if a writing command has to bring it up to date first.
    pub async fn open_for_reading(url: &str, base: &Path) -> Result<Option<Self>, CatalogError> {
        let pool = match address(url, base)? {
            Address::Sqlite(path) if !path.exists() => return Ok(None),
            Address::Sqlite(path) => Pool::sqlite_as_it_is(&path).await?,
            Address::Postgres => Pool::postgres_as_it_is(url).await?,
        };
        if pool.has_this_format().await? {
            return Ok(Some(Self { pool }));
        }
        pool.close().await;
        Ok(None)
    }

    /// Closes all connections; SQLite then folds its write-ahead file into the database.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

enum Address {
    Sqlite(PathBuf),
    Postgres,
}

/// Which database `url` names; a file's path is relative to `base`.
fn address(url: &str, base: &Path) -> Result<Address, CatalogError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        if path.is_empty() || path.contains('?') || path.contains(":memory:") {
            let reason = "`sqlite:` is followed by the path of a file".to_owned();
            return Err(CatalogError::Invalid { what: shown_url(url), reason });
        }
        return Ok(Address::Sqlite(base.join(path)));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Address::Postgres);
    }
    let reason = "a catalog's address begins with `sqlite:` or `postgres://`".to_owned();
    Err(CatalogError::Invalid { what: shown_url(url), reason })
}

#[async_trait]
impl Catalog for SqlCatalog {
    async fn create_database(&self, mut input: DatabaseInput) -> Result<Database, CatalogError> {
        input.name = normalised(&input.name)?;
        let what = format!("database `{}`", input.name);
        let (body, now) = (encoded(&what, &input)?, now());
        let mut tx = self.pool.write().await?;
        let sql = "INSERT INTO databases (name, body, created) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let args = [Text(&input.name), Text(&body), Int(now.timestamp_millis())];
        if tx.execute(sql, &args).await.map_err(tx.failed("create a database"))? == 0 {
            return Err(CatalogError::AlreadyExists { what });
        }
        tx.commit().await?;
        Ok(Database { input, create_time: now })
    }

    async fn get_database(&self, name: &str) -> Result<Database, CatalogError> {
        let name = normalised(name)?;
        let mut tx = self.pool.read().await?;
        let sql = "SELECT name, body, created FROM databases WHERE name = $1";
        let rows = tx.fetch(sql, &[Text(&name)]).await.map_err(tx.failed("read a database"))?;
        rows.first().map(database).transpose()?.ok_or_else(|| no_database(&name))
    }

    async fn list_databases(&self, page: PageRequest) -> Result<Page<Database>, CatalogError> {
        let after = page.token.as_deref().unwrap_or_default();
        let mut tx = self.pool.read().await?;
        let sql = "SELECT name, body, created FROM databases WHERE name > $1 ORDER BY name LIMIT $2";
        let rows = tx.fetch(sql, &[Text(after), one_more(&page)]).await.map_err(tx.failed("list databases"))?;
        let items = rows.iter().map(database).collect::<Result<_, _>>()?;
        Ok(paged(items, &page, |database| database.input.name.clone()))
    }

    async fn update_database(&self, mut input: DatabaseInput) -> Result<Database, CatalogError> {
        input.name = normalised(&input.name)?;
        let body = encoded("database", &input)?;
        let mut tx = self.pool.write().await?;
        let sql = "UPDATE databases SET body = $2 WHERE name = $1 RETURNING name, body, created";
        let rows = tx.fetch(sql, &[Text(&input.name), Text(&body)]).await.map_err(tx.failed("update a database"))?;
        let updated = rows.first().map(database).transpose()?.ok_or_else(|| no_database(&input.name))?;
        tx.commit().await?;
        Ok(updated)
    }

    async fn delete_database(&self, name: &str) -> Result<(), CatalogError> {
        let name = normalised(name)?;
        let mut tx = self.pool.write().await?;
        let deleted = tx.execute("DELETE FROM databases WHERE name = $1", &[Text(&name)]).await;
        if deleted.map_err(tx.failed("delete a database"))? == 0 {
            return Err(no_database(&name));
        }
        tx.commit().await
    }

    async fn create_table(&self, database: &str, mut input: TableInput) -> Result<Table, CatalogError> {
        let database = normalised(database)?;
        input.name = normalised(&input.name)?;
        let what = table_name(&database, &input.name);
        let (body, now) = (encoded(&what, &input)?, now());
        let mut tx = self.pool.write().await?;
        require_database(&mut tx, &database).await?;
        let sql = "INSERT INTO tables (database, name, version, body, created, updated) VALUES ($1, $2, 0, $3, $4, $4) \
                   ON CONFLICT DO NOTHING";
        let args = [Text(&database), Text(&input.name), Text(&body), Int(now.timestamp_millis())];
        let created =
            tx.execute(sql, &args).await.map_err(|error| gone_or_failed(&tx, error, || no_database(&database)))?;
        if created == 0 {
            return Err(CatalogError::AlreadyExists { what });
        }
        keep_version(&mut tx, &database, &input.name).await?;
        tx.commit().await?;
        Ok(Table { database, input, version: 0, create_time: now, update_time: now })
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<Table, CatalogError> {
        let (database, name) = (normalised(database)?, normalised(name)?);
        let mut tx = self.pool.read().await?;
        find_table(&mut tx, &database, &name).await
    }

    async fn list_tables(&self, database: &str, page: PageRequest) -> Result<Page<Table>, CatalogError> {
        let database = normalised(database)?;
        let after = page.token.as_deref().unwrap_or_default();
        let mut tx = self.pool.read().await?;
        require_database(&mut tx, &database).await?;
        let sql = "SELECT database, name, version, body, created, updated FROM tables \
                   WHERE database = $1 AND name > $2 ORDER BY name LIMIT $3";
        let args = [Text(&database), Text(after), one_more(&page)];
        let rows = tx.fetch(sql, &args).await.map_err(tx.failed("list tables"))?;
        let items = rows.iter().map(table).collect::<Result<_, _>>()?;
        Ok(paged(items, &page, |table| table.input.name.clone()))
    }

    async fn update_table(
        &self,
        database: &str,
        mut input: TableInput,
        expected_version: Option<u64>,
    ) -> Result<Table, CatalogError> {
        let database = normalised(database)?;
        input.name = normalised(&input.name)?;
        let what = table_name(&database, &input.name);
        let body = encoded(&what, &input)?;
        // A version beyond the signed range never existed; -1 stands for any.
        let expected = expected_version.map_or(-1, |version| i64::try_from(version).unwrap_or(i64::MAX));
        let mut tx = self.pool.write().await?;
        let sql = "UPDATE tables SET version = version + 1, body = $3, updated = $4 \
                   WHERE database = $1 AND name = $2 AND ($5 < 0 OR version = $5) \
                   RETURNING database, name, version, body, created, updated";
        let args = [Text(&database), Text(&input.name), Text(&body), Int(now().timestamp_millis()), Int(expected)];
        let rows = tx.fetch(sql, &args).await.map_err(tx.failed("update a table"))?;
        let Some(updated) = rows.first().map(table).transpose()? else {
            let actual = find_table(&mut tx, &database, &input.name).await?.version;
            return Err(CatalogError::Conflict { what, expected: expected_version.unwrap_or(actual), actual });
        };
        keep_version(&mut tx, &database, &input.name).await?;
        tx.commit().await?;
        Ok(updated)
    }

    async fn delete_table(&self, database: &str, name: &str) -> Result<(), CatalogError> {
        let (database, name) = (normalised(database)?, normalised(name)?);
        let mut tx = self.pool.write().await?;
        let sql = "DELETE FROM tables WHERE database = $1 AND name = $2";
        if tx.execute(sql, &[Text(&database), Text(&name)]).await.map_err(tx.failed("delete a table"))? == 0 {
            return Err(no_table(&database, &name));
        }
        tx.commit().await
    }

    async fn list_table_versions(
        &self,
        database: &str,
        name: &str,
        page: PageRequest,
    ) -> Result<Page<Table>, CatalogError> {
        let (database, name) = (normalised(database)?, normalised(name)?);
        let bad_token = |what: &str| CatalogError::Invalid { what: what.to_owned(), reason: "no such page".to_owned() };
        let before = match page.token.as_deref() {
            Some(token) => token.parse().map_err(|_| bad_token(token))?,
            None => i64::MAX,
        };
        let mut tx = self.pool.read().await?;
        find_table(&mut tx, &database, &name).await?;
        let sql = "SELECT database, name, version, body, created, updated FROM table_versions \
                   WHERE database = $1 AND name = $2 AND version < $3 ORDER BY version DESC LIMIT $4";
        let args = [Text(&database), Text(&name), Int(before), one_more(&page)];
        let rows = tx.fetch(sql, &args).await.map_err(tx.failed("list versions"))?;
        let items = rows.iter().map(table).collect::<Result<_, _>>()?;
        Ok(paged(items, &page, |table| table.version.to_string()))
    }

    async fn get_table_version(&self, database: &str, name: &str, version: u64) -> Result<Table, CatalogError> {
        let (database, name) = (normalised(database)?, normalised(name)?);
        let missing =
            || CatalogError::NotFound { what: format!("version {version} of {}", table_name(&database, &name)) };
        let number = i64::try_from(version).map_err(|_| missing())?;
        let mut tx = self.pool.read().await?;
        let sql = "SELECT database, name, version, body, created, updated FROM table_versions \
                   WHERE database = $1 AND name = $2 AND version = $3";
        let args = [Text(&database), Text(&name), Int(number)];
        let rows = tx.fetch(sql, &args).await.map_err(tx.failed("read a version"))?;
        rows.first().map(table).transpose()?.ok_or_else(missing)
    }

    async fn create_partitions(
        &self,
        database: &str,
        table: &str,
        inputs: Vec<PartitionInput>,
    ) -> Result<Vec<Vec<String>>, CatalogError> {
        partitions::create(&self.pool, &normalised(database)?, &normalised(table)?, inputs).await
    }

    async fn get_partition(&self, database: &str, table: &str, values: &[String]) -> Result<Partition, CatalogError> {
        partitions::get(&self.pool, &normalised(database)?, &normalised(table)?, values).await
    }

    async fn list_partitions(
        &self,
        database: &str,
        table: &str,
        filter: Option<PartitionFilter>,
        page: PageRequest,
    ) -> Result<Page<Partition>, CatalogError> {
        partitions::list(&self.pool, &normalised(database)?, &normalised(table)?, filter, page).await
    }

    async fn update_partition(
        &self,
        database: &str,
        table: &str,
        input: PartitionInput,
    ) -> Result<Partition, CatalogError> {
        partitions::update(&self.pool, &normalised(database)?, &normalised(table)?, input).await
    }

    async fn delete_partitions(
        &self,
        database: &str,
        table: &str,
        values: Vec<Vec<String>>,
    ) -> Result<(), CatalogError> {
        partitions::delete(&self.pool, &normalised(database)?, &normalised(table)?, values).await
    }
}

/// The newest version of a table.
pub(super) async fn find_table(tx: &mut Tx, database: &str, name: &str) -> Result<Table, CatalogError> {
    let sql = "SELECT database, name, version, body, created, updated FROM tables WHERE database = $1 AND name = $2";
    let rows = tx.fetch(sql, &[Text(database), Text(name)]).await.map_err(tx.failed("read a table"))?;
    rows.first().map(table).transpose()?.ok_or_else(|| no_table(database, name))
}

async fn require_database(tx: &mut Tx, name: &str) -> Result<(), CatalogError> {
    let rows = tx.fetch("SELECT name FROM databases WHERE name = $1", &[Text(name)]).await;
    if rows.map_err(tx.failed("read a database"))?.is_empty() { Err(no_database(name)) } else { Ok(()) }
}

/// Copies the newest state of a table to its versions.
async fn keep_version(tx: &mut Tx, database: &str, name: &str) -> Result<(), CatalogError> {
    let sql = "INSERT INTO table_versions (database, name, version, body, created, updated) \
               SELECT database, name, version, body, created, updated FROM tables WHERE database = $1 AND name = $2";
    let kept = tx.execute(sql, &[Text(database), Text(name)]).await;
    kept.map(drop).map_err(tx.failed("keep a version"))
}

/// What a row refers to was deleted since it was looked up: then that is what is missing.
pub(super) fn gone_or_failed(tx: &Tx, error: sqlx::Error, missing: impl FnOnce() -> CatalogError) -> CatalogError {
    let gone = error.as_database_error().is_some_and(|error| error.is_foreign_key_violation());
    if gone { missing() } else { tx.failed("write")(error) }
}

pub(super) fn no_table(database: &str, name: &str) -> CatalogError {
    CatalogError::NotFound { what: table_name(database, name) }
}

fn no_database(name: &str) -> CatalogError {
    CatalogError::NotFound { what: format!("database `{name}`") }
}

fn table_name(database: &str, name: &str) -> String {
    format!("table `{database}.{name}`")
}

fn database(row: &Row) -> Result<Database, CatalogError> {
    let read = || Ok((row.text(0)?, row.text(1)?, row.int(2)?));
    let (name, body, created) = read().map_err(|error: sqlx::Error| corrupt("a row".to_owned(), error))?;
    let what = || format!("database `{name}`");
    Ok(Database { input: decoded(what, &body)?, create_time: time(what, created)? })
}

fn table(row: &Row) -> Result<Table, CatalogError> {
    let read = || Ok((row.text(0)?, row.text(1)?, row.int(2)?, row.text(3)?, row.int(4)?, row.int(5)?));
    let (database, name, version, body, created, updated) =
        read().map_err(|error: sqlx::Error| corrupt("a row".to_owned(), error))?;
    let what = || table_name(&database, &name);
    let version = u64::try_from(version).map_err(|error| corrupt(what(), error))?;
    let (input, create_time, update_time) = (decoded(what, &body)?, time(what, created)?, time(what, updated)?);
    Ok(Table { database, input, version, create_time, update_time })
}

/// The page's items, and the token of the next page if there was one more than asked for.
pub(super) fn paged<T>(mut items: Vec<T>, page: &PageRequest, token: impl Fn(&T) -> String) -> Page<T> {
    let limit = page.bounded_limit();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(token);
    Page { items, next }
}

fn one_more(page: &PageRequest) -> Arg<'static> {
    Int(i64::try_from(page.bounded_limit() + 1).expect("a page is small"))
}

pub(super) fn encoded(what: &str, body: &impl Serialize) -> Result<String, CatalogError> {
    let encoded = serde_json::to_string(body);
    let encoded = encoded.map_err(|error| corrupt(what.to_owned(), error))?;
    // PostgreSQL can't store it in a text; refused by both alike.
    if encoded.contains("\\u0000") {
        return Err(CatalogError::Invalid { what: what.to_owned(), reason: "it has a NUL character".to_owned() });
    }
    Ok(encoded)
}

pub(super) fn decoded<T: DeserializeOwned>(what: impl Fn() -> String, body: &str) -> Result<T, CatalogError> {
    serde_json::from_str(body).map_err(|error| corrupt(what(), error))
}

pub(super) fn time(what: impl Fn() -> String, millis: i64) -> Result<DateTime<Utc>, CatalogError> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| corrupt(what(), format!("{millis} ms is no time")))
}

pub(super) fn corrupt(what: String, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CatalogError {
    CatalogError::Corrupt { what, source: source.into() }
}

/// The time in the precision that is stored.
pub(super) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}
