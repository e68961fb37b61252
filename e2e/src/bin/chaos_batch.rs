//! Kills ingest and recompute at random moments and compares what is left with undisturbed runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tidemark_e2e::chaos::{ChaosError, ChaosPlan, Range, Site, Victim, trips};

/// Kill `tidemark ingest` and `tidemark batch recompute` at random moments (SIGKILL after a random time, and
/// failpoints at which the process aborts), let the next run finish, and compare rows, rejects and coverage with an
/// undisturbed run; then vacuum, and look for objects that nothing refers to.
#[derive(Debug, Parser)]
struct Args {
    /// Kills a command and store.
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// Seed of the moments; a new one without it.
    #[arg(long)]
    seed: Option<u64>,
    /// Store below which each scenario has a prefix of its own, `s3://bucket/prefix`, instead of a local folder.
    #[arg(long)]
    store_url: Option<String>,
    /// Folder for the scenarios; without it, a temporary one. A scenario that fails stays there.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    let seed = args.seed.unwrap_or(clock);
    match run(&args, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: seed {seed}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, seed: u64) -> Result<(), ChaosError> {
    let temporary = tempfile::tempdir()?;
    let folder = match &args.out {
        Some(out) => out.join(format!("seed-{seed}")),
        None => temporary.path().to_owned(),
    };
    let csv = trips(&folder)?;
    let site = args.store_url.clone().map_or(Site::Local, |url| Site::Remote(format!("{url}/seed-{seed}")));
    let place = args.store_url.as_deref().unwrap_or("a local folder");
    println!("chaos: seed {seed}, {} kills a command, store {place}", args.kills);
    for victim in [Victim::Ingest, Victim::Recompute] {
        let begun = Instant::now();
        let plan = ChaosPlan { kills: args.kills, seed, site: site.clone() };
        let fired = Range::new(victim, plan, &folder, &csv).fire();
        let tally = match fired {
            Ok(tally) => tally,
            Err(error) => {
                drop(temporary.keep());
                return Err(format!("{}: {error} (data in {})", victim.name(), folder.display()).into());
            }
        };
        println!(
            "  {:<10} {} killed, {} done before, {} scenarios equal the undisturbed run, {} orphans removed, {:.0} s",
            victim.name(),
            tally.kills,
            tally.escaped,
            tally.compared,
            tally.orphans,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
