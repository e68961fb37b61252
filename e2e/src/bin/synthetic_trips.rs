//! Generates synthetic yellow-taxi trips in the TLC's CSV layout, with a manifest of what a correct reader finds.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tidemark_e2e::synthetic::{Plan, generate};

/// Generate synthetic taxi trips (clearly labelled; the same seed gives the same bytes).
#[derive(Debug, Parser)]
struct Args {
    /// Records over all months.
    #[arg(long, default_value_t = 2_100_000)]
    rows: u64,
    /// Months, one file each, from January 2018 on.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=120))]
    months: u32,
    /// Seed.
    #[arg(long, default_value_t = 20_180_101)]
    seed: u64,
    /// Folder for the files and `manifest.json`.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let plan = Plan { records: args.rows, months: args.months, seed: args.seed };
    match generate(plan, &args.out, &mut |file| println!("{:>9} records  {}", file.records, file.name)) {
        Ok(manifest) => {
            let rejected: u64 = manifest.rejected.values().sum();
            println!("{} records, of which {rejected} are to be rejected; manifest.json says more", manifest.records);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: writing to {}: {error}", args.out.display());
            ExitCode::FAILURE
        }
    }
}
