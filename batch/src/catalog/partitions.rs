//! Partitions of a table.

use tidemark_shared::catalog::{
    BATCH_MAX, CatalogError, PAGE_MAX, Page, PageRequest, Partition, PartitionFilter, PartitionInput,
};

use super::sql::{Arg, Pool, Row, Tx};
use super::store::{corrupt, decoded, encoded, find_table, gone_or_failed, no_table, now, paged, time};
use Arg::{Int, Text};

pub(super) async fn create(
    pool: &Pool,
    database: &str,
    table: &str,
    inputs: Vec<PartitionInput>,
) -> Result<Vec<Vec<String>>, CatalogError> {
    require_batch(inputs.len())?;
    let now = Int(now().timestamp_millis());
    let mut tx = pool.write().await?;
    let arity = arity(&mut tx, database, table).await?;
    let mut rows = Vec::with_capacity(inputs.len());
    for input in inputs {
        let key = key(&input.values, arity)?;
        let body = encoded(&key, &input)?;
        rows.push((key, body, input.values));
    }
    // Two batches that overlap wait for each other's rows; in one order they can't wait in a circle.
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let sql = "INSERT INTO partitions (database, table_name, key, body, created) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT DO NOTHING";
    let mut there = Vec::new();
    for (key, body, values) in rows {
        let args = [Text(database), Text(table), Text(&key), Text(&body), now];
        let created = tx.execute(sql, &args).await;
        if created.map_err(|error| gone_or_failed(&tx, error, || no_table(database, table)))? == 0 {
            there.push(values);
        }
    }
    tx.commit().await?;
    Ok(there)
}

pub(super) async fn get(
    pool: &Pool,
    database: &str,
    table: &str,
    values: &[String],
) -> Result<Partition, CatalogError> {
    let mut tx = pool.read().await?;
    let key = key(values, arity(&mut tx, database, table).await?)?;
    let sql = "SELECT key, body, created FROM partitions WHERE database = $1 AND table_name = $2 AND key = $3";
    let rows =
        tx.fetch(sql, &[Text(database), Text(table), Text(&key)]).await.map_err(tx.failed("read a partition"))?;
    rows.first().map(partition).transpose()?.ok_or_else(|| missing(database, table, &key))
}

pub(super) async fn list(
    pool: &Pool,
    database: &str,
    table: &str,
    filter: Option<PartitionFilter>,
    page: PageRequest,
) -> Result<Page<Partition>, CatalogError> {
    let mut tx = pool.read().await?;
    let arity = arity(&mut tx, database, table).await?;
    let filter = filter.unwrap_or_else(|| vec![None; arity]);
    if filter.len() != arity {
        return Err(wrong_arity(&format!("{filter:?}"), filter.len(), arity));
    }
    let sql = "SELECT key, body, created FROM partitions WHERE database = $1 AND table_name = $2 AND key > $3 \
               ORDER BY key LIMIT $4";
    let mut after = page.token.clone().unwrap_or_default();
    let mut found = Vec::new();
    // One more than the page tells whether another follows.
    while found.len() <= page.bounded_limit() {
        let chunk = Int(i64::try_from(PAGE_MAX).expect("a page is small"));
        let args = [Text(database), Text(table), Text(&after), chunk];
        let rows = tx.fetch(sql, &args).await.map_err(tx.failed("list partitions"))?;
        let last =
            rows.last().map(|row| row.text(0)).transpose().map_err(|error| corrupt("a row".to_owned(), error))?;
        for row in &rows {
            let partition = partition(row)?;
            if matches(&filter, &partition.input.values) {
                found.push(partition);
            }
        }
        match last {
            Some(last) if rows.len() == PAGE_MAX => after = last,
            _ => break,
        }
    }
    Ok(paged(found, &page, |partition| key_text(&partition.input.values)))
}

pub(super) async fn update(
    pool: &Pool,
    database: &str,
    table: &str,
    input: PartitionInput,
) -> Result<Partition, CatalogError> {
    let mut tx = pool.write().await?;
    let key = key(&input.values, arity(&mut tx, database, table).await?)?;
    let body = encoded(&key, &input)?;
    let sql = "UPDATE partitions SET body = $4 WHERE database = $1 AND table_name = $2 AND key = $3 \
               RETURNING key, body, created";
    let args = [Text(database), Text(table), Text(&key), Text(&body)];
    let rows = tx.fetch(sql, &args).await.map_err(tx.failed("update a partition"))?;
    let updated = rows.first().map(partition).transpose()?.ok_or_else(|| missing(database, table, &key))?;
    tx.commit().await?;
    Ok(updated)
}

pub(super) async fn delete(
    pool: &Pool,
    database: &str,
    table: &str,
    values: Vec<Vec<String>>,
) -> Result<(), CatalogError> {
    require_batch(values.len())?;
    let mut tx = pool.write().await?;
    let arity = arity(&mut tx, database, table).await?;
    let mut keys = values.iter().map(|values| key(values, arity)).collect::<Result<Vec<_>, _>>()?;
    keys.sort();
    for key in &keys {
        let sql = "DELETE FROM partitions WHERE database = $1 AND table_name = $2 AND key = $3";
        tx.execute(sql, &[Text(database), Text(table), Text(key)]).await.map_err(tx.failed("delete a partition"))?;
    }
    tx.commit().await
}

/// Number of partition keys of a table.
async fn arity(tx: &mut Tx, database: &str, table: &str) -> Result<usize, CatalogError> {
    Ok(find_table(tx, database, table).await?.input.partition_keys.len())
}

fn require_batch(length: usize) -> Result<(), CatalogError> {
    if length <= BATCH_MAX {
        return Ok(());
    }
    let reason = format!("a call takes at most {BATCH_MAX}");
    Err(CatalogError::Invalid { what: format!("{length} partitions"), reason })
}

/// The stored key of a partition's values.
fn key(values: &[String], arity: usize) -> Result<String, CatalogError> {
    let key = key_text(values);
    if values.len() != arity {
        return Err(wrong_arity(&key, values.len(), arity));
    }
    Ok(key)
}

fn key_text(values: &[String]) -> String {
    serde_json::to_string(values).expect("texts serialise")
}

fn wrong_arity(what: &str, values: usize, keys: usize) -> CatalogError {
    let reason = format!("it has {values} values, the table has {keys} partition keys");
    CatalogError::Invalid { what: what.to_owned(), reason }
}

fn missing(database: &str, table: &str, key: &str) -> CatalogError {
    CatalogError::NotFound { what: format!("partition {key} of table `{database}.{table}`") }
}

fn matches(filter: &[Option<String>], values: &[String]) -> bool {
    filter.iter().zip(values).all(|(wanted, value)| wanted.as_ref().is_none_or(|wanted| wanted == value))
}

fn partition(row: &Row) -> Result<Partition, CatalogError> {
    let read = || Ok((row.text(0)?, row.text(1)?, row.int(2)?));
    let (key, body, created) = read().map_err(|error: sqlx::Error| corrupt("a row".to_owned(), error))?;
    let what = || format!("partition {key}");
    Ok(Partition { input: decoded(what, &body)?, create_time: time(what, created)? })
}
