//! Everything that an outsider sees of a dataset, to be compared between runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::ChaosError;
use crate::platform::Tidemark;

/// Rows, rejects and coverage of the trips, in a fixed order.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    columns: Vec<String>,
    rows: Vec<Value>,
    rejects: Vec<Value>,
    coverage: Value,
    ledger_end: Value,
    rows_by_file: BTreeMap<String, u64>,
}

impl Snapshot {
    /// Rows of the curated table.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// An undisturbed run of ~5,000 records that has no rows or no rejects would make every comparison true.
    pub(super) fn check_accounted(&self) -> Result<(), ChaosError> {
        if self.rows.len() < 4_000 || self.rejects.is_empty() {
            return Err(format!("only {} rows and {} rejects", self.rows.len(), self.rejects.len()).into());
        }
        Ok(())
    }

    /// Compares with `found`; the first difference in words.
    ///
    /// # Errors
    /// The difference.
    pub fn compare(&self, found: &Self) -> Result<(), String> {
        for (what, wanted, found) in [("rows", &self.rows, &found.rows), ("rejects", &self.rejects, &found.rejects)] {
            let at = wanted.iter().zip(found).position(|(a, b)| a != b);
            if let Some(at) = at {
                return Err(format!("{what} {at}: {} wanted, {} found", wanted[at], found[at]));
            }
            if wanted.len() != found.len() {
                return Err(format!("{} {what} wanted, {} found", wanted.len(), found.len()));
            }
        }
        if self.coverage != found.coverage || self.ledger_end != found.ledger_end {
            return Err(format!(
                "coverage {} of {} wanted, {} of {} found",
                self.coverage, self.ledger_end, found.coverage, found.ledger_end
            ));
        }
        Ok(())
    }

    /// Compares what does not depend on the order in which files came: rows without their position's file number, and
    /// the number of rejects.
    ///
    /// # Errors
    /// The difference.
    pub fn compare_any_order(&self, found: &Self) -> Result<(), String> {
        if self.columns != found.columns || self.sorted_without_file() != found.sorted_without_file() {
            return Err(format!("{} rows wanted, {} found, or other ones", self.rows.len(), found.rows.len()));
        }
        if self.rejects.len() != found.rejects.len() {
            return Err(format!("{} rejects wanted, {} found", self.rejects.len(), found.rejects.len()));
        }
        Ok(())
    }

    /// Rows as text without the number of the file that they came from, sorted.
    fn sorted_without_file(&self) -> Vec<String> {
        let file = self.columns.iter().position(|name| name == "_partition");
        let text = |row: &Value| {
            let cells = row.as_array().into_iter().flatten().enumerate();
            let kept: Vec<&Value> = cells.filter(|(at, _)| Some(*at) != file).map(|(_, cell)| cell).collect();
            format!("{kept:?}")
        };
        let mut texts: Vec<String> = self.rows.iter().map(text).collect();
        texts.sort();
        texts
    }

    /// After a killed ingest each file's rows are all there or none of them is, and no others are.
    pub(super) fn check_whole_files(&self, tidemark: &Tidemark) -> Result<(), ChaosError> {
        if status(tidemark)?["table_version"].is_null() {
            return Ok(());
        }
        for (file, rows) in rows_by_file(tidemark)? {
            if self.rows_by_file.get(&file) != Some(&rows) {
                let wanted = self.rows_by_file.get(&file);
                return Err(format!("file {file} has {rows} visible rows, {wanted:?} wanted or none").into());
            }
        }
        Ok(())
    }
}

/// Takes a snapshot of the trips.
///
/// # Errors
/// A command that fails, or an answer without the parts it must have.
pub fn snapshot(tidemark: &Tidemark) -> Result<Snapshot, ChaosError> {
    let answer = tidemark.sql("SELECT * FROM batch.trips ORDER BY _source, _partition, _offset", &[])?;
    let columns = list(&answer, "columns")?.iter().map(|column| plain(&column["name"])).collect();
    let document = tidemark.run_json(&["rejects", "trips", "--limit", "1000000", "--json"])?;
    let mut rejects = list(&document, "rejects")?;
    rejects.sort_by_key(|row| (row["partition"].as_u64(), row["offset"].as_u64()));
    let status = status(tidemark)?;
    Ok(Snapshot {
        columns,
        rows: list(&answer, "rows")?,
        rejects,
        coverage: status["coverage"].clone(),
        ledger_end: status["ledger_end"].clone(),
        rows_by_file: rows_by_file(tidemark)?,
    })
}

/// Removes all orphans, whatever their age; returns how many there were.
///
/// # Errors
/// A command that fails.
pub fn vacuum(tidemark: &Tidemark) -> Result<u64, ChaosError> {
    let report = tidemark.run_json(&["batch", "vacuum", "trips", "--older-than", "0s", "--force", "--json"])?;
    Ok(list(&report, "removed")?.len() as u64)
}

/// Objects that no version of the dataset refers to: what a further vacuum would remove, and, where the store is a local
/// folder, what a walk through it finds that neither the Delta log nor the ledger names.
///
/// # Errors
/// A command that fails, or a store that can't be read.
pub fn orphans(tidemark: &Tidemark, local: bool) -> Result<Vec<String>, ChaosError> {
    let args = ["batch", "vacuum", "trips", "--older-than", "0s", "--force", "--dry-run", "--json"];
    let report = tidemark.run_json(&args)?;
    let mut found: Vec<String> = list(&report, "removed")?.iter().map(ToString::to_string).collect();
    if local {
        found.extend(unreferenced(&tidemark.data_dir().join("store"))?);
    }
    Ok(found)
}

fn unreferenced(store: &Path) -> Result<Vec<String>, ChaosError> {
    let mut found = Vec::new();
    let generation = current_generation(store)?;
    for entry in fs::read_dir(store.join("curated/trips"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A folder without files is no object: deleting the last one leaves it behind on a local directory.
        let files = files_below(&store.join("curated/trips").join(&name))?;
        if name != "current" && name != generation && !files.is_empty() {
            found.push(format!("curated/trips/{name}"));
        }
    }
    let table = store.join("curated/trips").join(&generation).join("table");
    let live = live_files(&table.join("_delta_log"))?;
    for path in files_below(&table)? {
        let name = relative(&path, &table);
        if !name.starts_with("_delta_log/") && !live.contains(&name) {
            found.push(format!("table file {name}"));
        }
    }
    let rejects = store.join("curated/trips").join(&generation).join("rejects/files");
    let entries = files_below(&store.join("raw/trips/files/ledger"))?.len() as u64;
    for path in files_below(&rejects)? {
        let name = relative(&path, &rejects);
        let number = name.strip_suffix(".parquet").and_then(|number| number.parse::<u64>().ok());
        if number.is_none_or(|number| number >= entries) {
            found.push(format!("rejects {name}"));
        }
    }
    let raw = store.join("raw/trips/files");
    let mut named = BTreeSet::new();
    for path in files_below(&raw.join("ledger"))? {
        let entry: Value = serde_json::from_slice(&fs::read(&path)?)?;
        collect_keys(&entry, &mut named);
    }
    for path in files_below(&raw.join("data"))? {
        let key = relative(&path, store);
        if !named.contains(&key) {
            found.push(key);
        }
    }
    Ok(found)
}

/// The generation that the highest pointer names.
fn current_generation(store: &Path) -> Result<String, ChaosError> {
    let pointers = files_below(&store.join("curated/trips/current"))?;
    let last = pointers.last().ok_or("no pointer to a current generation")?;
    let pointer: Value = serde_json::from_slice(&fs::read(last)?)?;
    Ok(pointer["generation"].as_str().ok_or("a pointer without a generation")?.to_owned())
}

/// The data files that the table's newest version has: what the log's entries add and do not remove.
fn live_files(log: &Path) -> Result<BTreeSet<String>, ChaosError> {
    let mut live = BTreeSet::new();
    for path in files_below(log)? {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for line in fs::read_to_string(&path)?.lines() {
            let action: Value = serde_json::from_str(line)?;
            if let Some(added) = action["add"]["path"].as_str() {
                live.insert(unescape(added));
            }
            if let Some(removed) = action["remove"]["path"].as_str() {
                live.remove(&unescape(removed));
            }
        }
    }
    Ok(live)
}

/// Paths in a Delta log are URLs: `%20` is a blank.
fn unescape(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn collect_keys(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(key) if name == "key" => drop(keys.insert(key.clone())),
                    other => collect_keys(other, keys),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

/// All files below a folder, sorted; none where the folder is missing.
fn files_below(folder: &Path) -> Result<Vec<std::path::PathBuf>, ChaosError> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

fn rows_by_file(tidemark: &Tidemark) -> Result<BTreeMap<String, u64>, ChaosError> {
    let rows = tidemark.rows("SELECT _partition, count(*) FROM batch.trips GROUP BY _partition")?;
    let pair = |row: &Value| (plain(&row[0]), plain(&row[1]).parse::<u64>().unwrap_or(0));
    Ok(rows.iter().map(pair).collect())
}

fn status(tidemark: &Tidemark) -> Result<Value, ChaosError> {
    let document = tidemark.run_json(&["status", "trips", "--json"])?;
    document["datasets"].get(0).cloned().ok_or_else(|| format!("no status of the trips: {document}").into())
}

fn list(document: &Value, name: &str) -> Result<Vec<Value>, ChaosError> {
    document[name].as_array().cloned().ok_or_else(|| format!("no list of {name}: {document}").into())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(rows: Vec<Value>) -> Snapshot {
        let rows_by_file = BTreeMap::new();
        let columns = ["n", "_source", "_partition", "_offset"].map(str::to_owned).to_vec();
        Snapshot {
            columns,
            rows,
            rejects: vec![json!({"offset": 1})],
            coverage: json!(1),
            ledger_end: json!(1),
            rows_by_file,
        }
    }

    #[test]
    fn a_missing_a_doubled_and_a_changed_row_differ() {
        let wanted = of(vec![json!([1, "files", 0, 7]), json!([2, "files", 0, 9])]);
        assert_eq!(wanted.compare(&wanted.clone()), Ok(()));
        let missing = of(vec![json!([1, "files", 0, 7])]);
        assert!(wanted.compare(&missing).unwrap_err().contains("2 rows wanted, 1 found"));
        assert!(missing.compare(&wanted).unwrap_err().contains("1 rows wanted, 2 found"));
        let changed = of(vec![json!([1, "files", 0, 7]), json!([3, "files", 0, 9])]);
        assert!(wanted.compare(&changed).unwrap_err().contains("rows 1"));
        assert!(wanted.compare_any_order(&changed).is_err());
    }

    #[test]
    fn the_order_of_files_may_differ() {
        let wanted = of(vec![json!([1, "files", 0, 7]), json!([2, "files", 1, 7])]);
        let swapped = of(vec![json!([2, "files", 0, 7]), json!([1, "files", 1, 7])]);
        assert_eq!(wanted.compare_any_order(&swapped), Ok(()));
        assert!(wanted.compare(&swapped).is_err());
    }

    #[test]
    fn what_the_log_removes_and_nobody_names_is_an_orphan() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("curated/trips/g1/table");
        fs::create_dir_all(table.join("_delta_log")).unwrap();
        fs::create_dir_all(folder.path().join("curated/trips/current")).unwrap();
        fs::write(folder.path().join("curated/trips/current/00000000.json"), r#"{"generation":"g1"}"#).unwrap();
        for name in ["a b.parquet", "b.parquet", "c.parquet"] {
            fs::write(table.join(name), "").unwrap();
        }
        let log = concat!(r#"{"add":{"path":"a%20b.parquet"}}"#, "\n", r#"{"add":{"path":"b.parquet"}}"#);
        fs::write(table.join("_delta_log/00000000000000000000.json"), log).unwrap();
        fs::write(table.join("_delta_log/00000000000000000001.json"), r#"{"remove":{"path":"b.parquet"}}"#).unwrap();
        let raw = folder.path().join("raw/trips/files");
        fs::create_dir_all(raw.join("ledger")).unwrap();
        fs::create_dir_all(raw.join("data/ab")).unwrap();
        fs::write(raw.join("data/ab/x.csv"), "").unwrap();
        fs::write(raw.join("data/ab/y.csv"), "").unwrap();
        fs::write(raw.join("ledger/0.json"), r#"{"add":{"location":{"key":"raw/trips/files/data/ab/x.csv"}}}"#)
            .unwrap();
        let found = unreferenced(folder.path()).unwrap();
        assert_eq!(found, ["table file b.parquet", "table file c.parquet", "raw/trips/files/data/ab/y.csv"]);
    }
}
