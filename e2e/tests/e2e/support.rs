//! What the tests share: a platform in a temporary folder, and trips to ingest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tidemark_e2e::chaos::apply_trips;
use tidemark_e2e::platform::{Tidemark, real_trips, repository};
use tidemark_e2e::synthetic::{MANIFEST, Manifest, Plan, generate};

/// The header of 2019.
pub(crate) const HEADER: &str = "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,\
    RatecodeID,store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,\
    tolls_amount,improvement_surcharge,total_amount,congestion_surcharge";

/// A platform of its own, gone with the test.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    pub(crate) tidemark: Tidemark,
}

impl Home {
    /// Without any dataset.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tidemark = Tidemark::new(&folder.path().join("data")).unwrap();
        Self { folder, tidemark }
    }

    /// With the repository's trips applied.
    pub(crate) fn with_trips() -> Self {
        let home = Self::empty();
        apply_trips(&home.tidemark).unwrap();
        home
    }

    /// Writes a file to ingest.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// The folder of the trips' Delta table.
    pub(crate) fn table(&self) -> PathBuf {
        self.table_of("trips")
    }

    /// The folder of a dataset's Delta table.
    pub(crate) fn table_of(&self, dataset: &str) -> PathBuf {
        let status = self.status_of(dataset);
        let generation = status["generation"].as_str().expect("a generation answers");
        self.tidemark.data_dir().join("store/curated").join(dataset).join(generation).join("table")
    }

    /// The trips' status.
    pub(crate) fn status(&self) -> Value {
        self.status_of("trips")
    }

    fn status_of(&self, dataset: &str) -> Value {
        let document = self.tidemark.run_json(&["status", dataset, "--json"]).unwrap();
        document["datasets"][0].clone()
    }

    /// One number out of a query with one row.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        let rows = self.tidemark.rows(sql).unwrap();
        let text = rows[0][0].to_string();
        text.trim_matches('"').parse().unwrap_or_else(|_| panic!("{sql}: {text} is no number"))
    }
}

/// A line of [`HEADER`]'s layout with a pickup at `time` on a July day of 2019.
pub(crate) fn trip_line(time: &str) -> String {
    format!("1,2019-07-04 {time},2019-07-04 23:59:59,1,1.50,1,N,151,239,1,7,0.5,0.5,1.65,0,0.3,9.95,2.5")
}

/// `n` trips with the header, each line ended.
pub(crate) fn small_csv(n: u32) -> String {
    let lines = (0..n).map(|i| trip_line(&format!("{:02}:{:02}:{:02}", i / 3_600, i / 60 % 60, i % 60)));
    std::iter::once(HEADER.to_owned()).chain(lines).map(|line| line + "\n").collect()
}

/// Trips in CSV and what is known of them.
pub(crate) struct Trips {
    pub(crate) csv: PathBuf,
    pub(crate) csv_bytes: u64,
    pub(crate) manifest: Option<Manifest>,
    _generated: Option<TempDir>,
}

/// The real trips where they are at hand, else synthetic ones.
pub(crate) fn trips() -> Trips {
    if let Some(folder) = real_trips() {
        let csv = folder.join("yellow");
        return Trips { csv_bytes: bytes_below(&csv), csv, manifest: None, _generated: None };
    }
    println!("no real trips at hand (TIDEMARK_TRIPS_DIR): synthetic ones stand in");
    synthetic(300_000)
}

/// Synthetic trips over 24 months, and their manifest.
pub(crate) fn synthetic(records: u64) -> Trips {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("csv");
    let manifest = generate(Plan { records, months: 24, seed: 42 }, &csv, &mut |_| {}).unwrap();
    fs::rename(csv.join(MANIFEST), folder.path().join(MANIFEST)).unwrap();
    let csv_bytes = manifest.files.iter().map(|file| file.text_bytes).sum();
    Trips { csv, csv_bytes, manifest: Some(manifest), _generated: Some(folder) }
}

impl Trips {
    /// Where the manifest is, if these are synthetic.
    pub(crate) fn manifest_file(&self) -> Option<PathBuf> {
        self._generated.as_ref().map(|folder| folder.path().join(MANIFEST))
    }
}

/// A Python program of the virtual environment; missing is a failure, with what to do.
pub(crate) fn python() -> Command {
    let path = repository().join(".venv/bin/python");
    assert!(path.is_file(), "no {}: run `make setup-python`", path.display());
    let mut command = Command::new(path);
    command.current_dir(repository());
    command
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { folders.push(entry.path()) } else { bytes += metadata.len() }
        }
    }
    bytes
}
