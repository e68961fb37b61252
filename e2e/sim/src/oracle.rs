//! What an answer must be: told from what was appended and from the ledger, by plain Rust.

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use tidemark_shared::ledger::Ledger;
use tidemark_shared::position::{Coverage, FILES_SOURCE};
use tidemark_shared::sql::DatasetAsOf;

use crate::data::{DATASET, Fate, PARTITIONS, fate, lines};
use crate::world::World;

/// The statement whose answers are checked.
pub const STATEMENT: &str = "SELECT _source, _partition, _offset, id, cents FROM merged.orders";

/// A row with its position: source, partition, offset, id, cents.
pub type Row = (String, i64, i64, String, i64);

/// Rows of an answer, in order.
///
/// # Errors
/// If it has other columns than asked for.
pub fn rows(batches: &[RecordBatch]) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for batch in batches {
        let column = |index: usize, wanted: &DataType| {
            cast(batch.column(index), wanted).map_err(|error| format!("column {index}: {error}"))
        };
        let (source, id) = (column(0, &DataType::Utf8)?, column(3, &DataType::Utf8)?);
        let numbers = [column(1, &DataType::Int64)?, column(2, &DataType::Int64)?, column(4, &DataType::Int64)?];
        let number = |index: usize, row: usize| numbers[index].as_primitive::<Int64Type>().value(row);
        for row in 0..batch.num_rows() {
            let text = |column: &arrow::array::ArrayRef| column.as_string::<i32>().value(row).to_owned();
            rows.push((text(&source), number(0, row), number(1, row), text(&id), number(2, row)));
        }
    }
    rows.sort();
    Ok(rows)
}

/// The rows of all records below `positions`, by the definition of `version`.
///
/// # Errors
/// If the version is none of the simulation's, or the ledger can't be read.
pub async fn expected(world: &World, version: &str, positions: &Coverage) -> Result<Vec<Row>, String> {
    let variant = world.variant(version).ok_or_else(|| format!("definition {version} was never applied"))?;
    let mut rows = Vec::new();
    let mut take = |source: &str, partition: u64, offset: u64, record: &[u8]| {
        if let Fate::Row(id, cents) = fate(record, variant) {
            let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            rows.push((source.to_owned(), signed(partition), signed(offset), id, cents));
        }
    };
    for number in 0..PARTITIONS {
        let end = positions.end(&world.partition(number));
        let past = world.history.past();
        for ((_, offset), record) in past.records.range((number, 0)..(number, end)) {
            take(world.source.as_str(), u64::from(number), *offset, record);
        }
    }
    let end = positions.files_end();
    if end > 0 {
        let ledger = Ledger::new(world.disk.store(None), DATASET);
        let state = ledger.state().await.map_err(|error| format!("the ledger can't be read: {error}"))?;
        let files = world.files.lock().map_err(|_| "a panic before".to_owned())?;
        for file in state.files().filter(|file| file.counts_at(end)) {
            let bytes = files.get(&file.file.name).ok_or_else(|| format!("nobody gave file {}", file.file.name))?;
            for (offset, record) in lines(bytes) {
                take(FILES_SOURCE, file.number, offset, &record);
            }
        }
    }
    rows.sort();
    Ok(rows)
}

/// Compares an answer with what it must be.
///
/// # Errors
/// What is wrong with it.
pub async fn check(world: &World, as_of: &DatasetAsOf, found: &[Row], before: &Coverage) -> Result<(), String> {
    let positions = &as_of.positions;
    if !positions.includes(&as_of.coverage) {
        return Err(format!("positions {positions:?} are below the coverage {:?}", as_of.coverage));
    }
    if !positions.includes(before) {
        return Err(format!("positions {positions:?} are below {before:?}, which was answered before"));
    }
    for number in 0..PARTITIONS {
        let (position, end) = (positions.end(&world.partition(number)), world.history.end(number));
        if position > end {
            return Err(format!("position {position} of partition {number} is above the log's end {end}"));
        }
    }
    compare(world, &as_of.definition, positions, found).await
}

/// Compares rows with those of the records below `positions`.
///
/// # Errors
/// The first rows that are too many or too few.
pub async fn compare(world: &World, version: &str, positions: &Coverage, found: &[Row]) -> Result<(), String> {
    let wanted = expected(world, version, positions).await?;
    if wanted == found {
        return Ok(());
    }
    let missing: Vec<_> = wanted.iter().filter(|row| found.binary_search(row).is_err()).take(3).collect();
    let surplus: Vec<_> = found.iter().filter(|row| wanted.binary_search(row).is_err()).take(3).collect();
    let doubled: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).take(3).collect();
    Err(format!(
        "{} rows instead of {} at {positions:?}: missing {missing:?}, not wanted {surplus:?}, doubled {doubled:?}",
        found.len(),
        wanted.len()
    ))
}
