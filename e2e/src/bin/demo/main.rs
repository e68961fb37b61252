//! The demo: two years of taxi trips from CSV to partitioned Parquet to SQL, by the real binary, every record accounted
//! for; then more trips as a stream, in the same answers.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use serde_json::Value;
use tidemark_e2e::platform::{Tidemark, dataset_folder, repository};
use tidemark_e2e::synthetic::{Manifest, Plan, generate};

mod print;
mod questions;
mod stream;

use print::{count, heading, percent, size};

/// Show what the batch layer does, on synthetic trips or on the TLC's own CSV files.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of TLC yellow-taxi CSV files; without it, synthetic trips are generated.
    #[arg(long)]
    trips: Option<PathBuf>,
    /// Synthetic records over 24 months.
    #[arg(long, default_value_t = 2_100_000)]
    rows: u64,
    /// Seconds for which trips stream in; 0: the batch layer is all of the demo.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Folder for all of the demo's data; what an earlier demo left there is removed first.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Address of a `tidemark up` that runs, such as that of a full stack, instead of one of the demo's own. Where its parts
    /// are is then in the environment (TIDEMARK_STORE_URL and the like), and its token in TIDEMARK_TOKEN.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Address of a process that keeps views up, where the server does not: it knows how fresh they are. May be given several
    /// times.
    #[arg(long, value_name = "URL")]
    indexer: Vec<String>,
}

/// What is ingested and what may be asked of the CSV in place.
struct Input {
    csv: PathBuf,
    year: String,
    manifest: Option<Manifest>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let out = args.out.clone().unwrap_or_else(|| repository().join("demo-data"));
    let data = out.join("tidemark");
    if data.is_dir() {
        fs::remove_dir_all(&data)?;
    }
    fs::create_dir_all(&out)?;
    let input = prepare(args, &out)?;
    let tidemark = Tidemark::new(&data)?;
    let report = ingest(&tidemark, &input)?;
    let rejected = account(&report, input.manifest.as_ref())?;
    questions::ask(&tidemark, &input.csv, &input.year, &out, input.manifest.is_some())?;
    questions::prune(&tidemark, &input.year)?;
    if args.seconds > 0 {
        let running = args.server.as_deref().map(|server| stream::Running { server, indexers: &args.indexer });
        stream::show(&tidemark, running, &plain_file(&input.csv)?, args.seconds)?;
    }
    // Commands on a stack need its environment besides; who started it says so.
    if args.server.is_none() {
        next_steps(&tidemark, &data, rejected);
    }
    Ok(())
}

fn prepare(args: &Args, out: &Path) -> Result<Input, Box<dyn Error>> {
    if let Some(csv) = &args.trips {
        heading(&format!("Real trips: the CSV files of {}", csv.display()));
        if !csv.is_dir() {
            return Err(format!("no folder {}", csv.display()).into());
        }
        return Ok(Input { csv: csv.canonicalize()?, year: fullest_year(csv)?, manifest: None });
    }
    heading("Synthetic trips (generated, not the TLC's): two years in the TLC's CSV layout, dirt included");
    let csv = out.join("synthetic-csv");
    if csv.is_dir() {
        fs::remove_dir_all(&csv)?;
    }
    let begun = Instant::now();
    let plan = Plan { records: args.rows, months: 24, seed: 20_180_101 };
    let manifest = generate(plan, &csv, &mut |_| {})?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    println!(
        "{} records in {} files, {}, made in {:.1} s; some records are broken on purpose",
        count(manifest.records),
        manifest.files.len(),
        size(bytes),
        begun.elapsed().as_secs_f64()
    );
    Ok(Input { csv, year: "2019".to_owned(), manifest: Some(manifest) })
}

/// The year that most file names tell: the one that the questions are about.
fn fullest_year(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut years = std::collections::BTreeMap::<String, u32>::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(year) = questions::year_of(&name) {
            *years.entry(year).or_default() += 1;
        }
    }
    let fullest = years.into_iter().max_by_key(|(_, files)| *files);
    fullest.map(|(year, _)| year).ok_or_else(|| format!("no file like name_2019-07.csv in {}", folder.display()).into())
}

fn ingest(tidemark: &Tidemark, input: &Input) -> Result<Value, Box<dyn Error>> {
    heading("tidemark dataset apply datasets/trips; tidemark ingest trips");
    tidemark.run(&["dataset".as_ref(), "apply".as_ref(), dataset_folder("trips").as_os_str()])?.expect_code(0)?;
    let files = csv_files(&input.csv)?;
    let mut args = vec!["ingest".into(), "trips".into()];
    args.extend(files.iter().map(|path| path.as_os_str().to_owned()));
    args.push("--json".into());
    // the report is read from standard output; progress goes to the terminal
    let child = tidemark.command(&args).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let output = child.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("ingest ended with {} and no report: {error}", output.status))?;
    if !output.status.success() {
        return Err(format!("ingest ended with {}: {report:#}", output.status).into());
    }
    Ok(report)
}

fn csv_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if [".csv", ".csv.gz", ".csv.zst"].iter().any(|end| name.ends_with(end)) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("no CSV file in {}", folder.display()).into());
    }
    Ok(files)
}

/// The newest file that is not compressed.
fn plain_file(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let mut plain = csv_files(folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "csv"));
    plain.next_back().ok_or_else(|| format!("no uncompressed CSV file in {}", folder.display()).into())
}

/// Prints what became of the records, and checks that it adds up, and for synthetic trips that it is what was made.
/// Returns how many were rejected.
fn account(report: &Value, manifest: Option<&Manifest>) -> Result<u64, Box<dyn Error>> {
    let counts = &report["counts"];
    let number = |name: &str| counts[name].as_u64().unwrap_or(0);
    let rejected: Vec<(String, u64)> = counts["rejected"]
        .as_object()
        .map(|map| map.iter().map(|(reason, n)| (reason.clone(), n.as_u64().unwrap_or(0))).collect())
        .unwrap_or_default();
    let rejected_total: u64 = rejected.iter().map(|(_, n)| n).sum();
    heading("Every record is accounted for");
    println!("  records   {:>12}", count(number("records")));
    println!("  accepted  {:>12}", count(number("accepted")));
    println!("  filtered  {:>12}", count(number("filtered")));
    println!("  rejected  {:>12}", count(rejected_total));
    for (reason, n) in &rejected {
        println!("    {reason:<20} {:>12}", count(*n));
    }
    if number("records") != number("accepted") + number("filtered") + rejected_total {
        return Err("accepted + filtered + rejected is not the number of records".into());
    }
    println!("  accepted + filtered + rejected = records: adds up");
    if let Some(manifest) = manifest {
        let same = manifest.records == number("records")
            && manifest.accepted == number("accepted")
            && rejected.iter().cloned().collect::<std::collections::BTreeMap<_, _>>() == manifest.rejected;
        if !same {
            return Err(format!("the generator made something else: {manifest:?}").into());
        }
        println!("  and these are the figures that the generator wrote into its manifest");
    }
    let (raw, curated) = (report["raw_bytes"].as_u64().unwrap_or(0), report["curated_bytes"].as_u64().unwrap_or(0));
    let seconds = std::time::Duration::from_millis(report["elapsed_ms"].as_u64().unwrap_or(0)).as_secs_f64();
    println!("\n  CSV {} -> Parquet {} ({} of it), in {seconds:.1} s", size(raw), size(curated), percent(curated, raw));
    Ok(rejected_total)
}

fn next_steps(tidemark: &Tidemark, data: &Path, rejected: u64) {
    heading("What to try next");
    let (here, binary) = (data.display(), tidemark.binary().display());
    for (what, command) in steps(rejected) {
        println!("  # {what}\n  {binary} --data-dir {here} {command}");
    }
    println!("  # the same with the TLC's own files\n  make demo TRIPS=<folder of yellow_tripdata_*.csv>");
}

/// Commands to try, with what they do. Only where records were rejected is there something to see of that.
fn steps(rejected: u64) -> Vec<(&'static str, &'static str)> {
    let mut steps = vec![
        ("ask something else (without a statement: a prompt)", "sql 'SELECT count(*) FROM batch.trips' --stats"),
        ("build the table anew from the raw files, and switch to it", "batch recompute trips"),
        ("see how the dataset stands", "status"),
    ];
    if rejected > 0 {
        steps.insert(1, ("see the records that were rejected, and why", "rejects trips --limit 5"));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::steps;

    #[test]
    fn rejects_are_offered_where_there_are_some() {
        let offered = |rejected| steps(rejected).iter().any(|(_, command)| command.starts_with("rejects"));
        assert_eq!([offered(0), offered(1)], [false, true]);
    }
}
