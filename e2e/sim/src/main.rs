//! `sim`: runs simulations, one a seed, on all cores, and says which seeds found something.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use tidemark_sim::run::{Outcome, Wanted};
use tidemark_sim::seeds::FOUND;
use tidemark_sim::{STACK_BYTES, run_seed};

/// Simulates the platform; every seed is another order of calls and faults.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Run each seed twice, and compare the order of its calls.
    #[arg(long)]
    twice: bool,
    /// Show every call.
    #[arg(long)]
    verbose: bool,
    /// Threads; as many as there are cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Stop after so many seeds that found something.
    #[arg(long, default_value_t = 10)]
    findings: u64,
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    steps: u64,
    tally: BTreeMap<String, u64>,
    findings: Vec<(u64, String)>,
}

struct Work {
    args: Args,
    /// Run before the others.
    first: Vec<u64>,
    seeds: std::ops::Range<u64>,
    next: AtomicU64,
    sum: Mutex<Sum>,
}

impl Work {
    fn run(&self) -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let wanted = Wanted { verbose: self.args.verbose, plant: None };
        loop {
            let at = usize::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some(seed) = self.first.iter().copied().chain(self.seeds.clone()).nth(at) else { return Ok(()) };
            let mut outcome = run_seed(seed, folder.path(), wanted)?;
            if self.args.twice {
                let again = run_seed(seed, folder.path(), wanted)?;
                if again.trace.hash() != outcome.trace.hash() {
                    outcome.findings.push(format!("it does not replay{}", first_difference(&outcome, &again)));
                }
            }
            self.take(outcome);
        }
    }

    fn take(&self, outcome: Outcome) {
        let Ok(mut sum) = self.sum.lock() else { return };
        for line in outcome.trace.lines.iter().flatten() {
            println!("{line}");
        }
        for finding in outcome.findings {
            println!("seed {}: {finding}", outcome.seed);
            sum.findings.push((outcome.seed, finding));
        }
        sum.seeds += 1;
        sum.steps += outcome.trace.steps;
        for (what, times) in outcome.tally {
            *sum.tally.entry(what).or_default() += times;
        }
        if sum.findings.len() as u64 >= self.args.findings {
            self.next.store(u64::MAX / 2, Ordering::Relaxed);
        }
    }
}

fn first_difference(one: &Outcome, other: &Outcome) -> String {
    let (Some(one), Some(other)) = (&one.trace.lines, &other.trace.lines) else { return String::new() };
    let at = one.iter().zip(other).position(|(one, other)| one != other).unwrap_or(one.len().min(other.len()));
    let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "the end".to_owned());
    format!(": step {at} is `{}`, then `{}`", line(one), line(other))
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> io::Result<bool> {
    let (from, count) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores);
    let begun = Instant::now();
    let first = if args.seed.is_some() { Vec::new() } else { FOUND.iter().map(|(seed, _)| *seed).collect() };
    let work = Work { args, first, seeds: from..from + count, next: AtomicU64::default(), sum: Mutex::default() };
    let ended: Vec<io::Result<()>> = std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || work.run());
        let started: io::Result<Vec<_>> = (0..threads).map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, io::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a simulation panicked")))
        };
        started.map_or_else(|error| vec![Err(error)], |threads| threads.into_iter().map(join).collect())
    });
    ended.into_iter().collect::<io::Result<()>>()?;
    let sum = work.sum.into_inner().map_err(|_| io::Error::other("a simulation panicked"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let done: Vec<String> = sum.tally.iter().map(|(what, times)| format!("{times} {what}")).collect();
    println!("sim: {}", done.join(", "));
    println!(
        "sim: seeds {from} to {}, and those that found something once: {} run, {} calls, {} findings, {seconds:.0} s ({:.1} seeds a second)",
        from + count - 1,
        sum.seeds,
        sum.steps,
        sum.findings.len(),
        sum.seeds as f64 / seconds
    );
    Ok(sum.findings.is_empty())
}
