//! `days`: days of a steady stream in minutes, and what there is of each kind of object after each hour.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tidemark_sim::STACK_BYTES;
use tidemark_sim::day::{Plan, Sample, work};

/// Works through days of a steady stream at a simulated clock, and counts objects each hour.
#[derive(Debug, Parser)]
struct Args {
    /// Hours to work through.
    #[arg(long, default_value_t = 72)]
    hours: u64,
    /// Seconds between two batch runs.
    #[arg(long, default_value_t = 60)]
    run_every: u64,
    /// Records between two batch runs.
    #[arg(long, default_value_t = 20)]
    records: u64,
    /// Hours between two changes of the definition.
    #[arg(long, default_value_t = 25)]
    change_every: u64,
    /// A cluster for the real-time views, such as `http://127.0.0.1:9200`; else they are in memory.
    #[arg(long)]
    opensearch: Option<String>,
}

fn main() -> ExitCode {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| run(&Args::parse()));
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(error))) => {
            eprintln!("days: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("days: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(told)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    let plan = Plan {
        hours: args.hours.max(1),
        run_every_s: args.run_every.clamp(1, 3_600),
        records_per_run: args.records,
        change_every_h: args.change_every.max(1),
    };
    println!(
        "{:>5} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>10} {:>8} {:>8} {:>10} {:>6} {:>7}",
        "hour",
        "records",
        "in log",
        "segments",
        "packed",
        "files",
        "named",
        "delta log",
        "rejects",
        "objects",
        "bytes",
        "live",
        "indices"
    );
    let show = |at: &Sample| {
        println!(
            "{:>5} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7} {:>10} {:>8} {:>8} {:>10} {:>6} {:>7}",
            at.hour,
            at.records,
            at.log_records,
            at.segments,
            at.packed,
            at.data_files,
            at.named_files,
            at.delta_log,
            at.rejects,
            at.objects,
            at.bytes,
            at.live_rows,
            at.indices
        );
    };
    runtime.block_on(Box::pin(work(plan, folder.path(), args.opensearch.as_deref(), &show))).map(drop)
}
