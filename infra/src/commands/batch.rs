//! `tidemark batch`: the batch layer by hand.

use std::time::Duration;

use clap::{Args, Subcommand};
use tidemark_batch::VacuumRequest;

use crate::cli::given;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, exit_of};
use crate::render;
use crate::units::{format_duration, parse_duration};

/// Objects younger than this may belong to a run that is still going on.
const SAFE_AGE_MIN: Duration = Duration::from_secs(3_600);

/// The batch layer's commands.
#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// Take in what the ledger holds above the coverage, such as after an interrupted ingest
    Run(RunArgs),
    /// Rebuild the table from the raw files with the newest definition, then switch to it
    Recompute(RecomputeArgs),
    /// Merge small data files of the curated table
    Compact(CompactArgs),
    /// Put small segments of the archived stream into larger ones
    Pack(PackArgs),
    /// Remove objects that interrupted runs left behind and nothing names
    Vacuum(VacuumArgs),
}

/// Settings of the batch layer, for one command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings of the batch layer")]
pub struct BatchFlags {
    /// Threads that decode, transform and encode [env: TIDEMARK_BATCH_THREADS] [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// Rows held in memory before row groups are written early [env: TIDEMARK_BATCH_BUFFER_BYTES_MAX]
    #[arg(long, value_name = "BYTES")]
    pub buffer_bytes_max: Option<String>,
    /// Raw bytes after which a run commits and goes on [env: TIDEMARK_BATCH_COMMIT_BYTES]
    #[arg(long, value_name = "BYTES")]
    pub commit_bytes: Option<String>,
    /// Size that a data file should reach [env: TIDEMARK_BATCH_FILE_BYTES_TARGET]
    #[arg(long, value_name = "BYTES")]
    pub file_bytes_target: Option<String>,
}

impl BatchFlags {
    /// Those that are given.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        given(&[
            ("--threads", &self.threads),
            ("--buffer-bytes-max", &self.buffer_bytes_max),
            ("--commit-bytes", &self.commit_bytes),
            ("--file-bytes-target", &self.file_bytes_target),
        ])
    }
}

impl BatchCommand {
    /// The settings among the command's flags.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Run(args) => args.batch.settings(),
            Self::Recompute(args) => args.batch.settings(),
            Self::Compact(args) => args.batch.settings(),
            Self::Pack(_) => Vec::new(),
            Self::Vacuum(args) => given(&[("--grace", &args.grace)]),
        }
    }
}

/// Arguments of `tidemark batch run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Dataset
    pub dataset: String,
    /// Exit with 3 if any record was rejected
    #[arg(long)]
    pub strict: bool,
    /// Settings of the batch layer.
    #[command(flatten)]
    pub batch: BatchFlags,
}

/// Arguments of `tidemark batch recompute`.
#[derive(Debug, Args)]
pub struct RecomputeArgs {
    /// Dataset
    pub dataset: String,
    /// Settings of the batch layer.
    #[command(flatten)]
    pub batch: BatchFlags,
}

/// Arguments of `tidemark batch compact`.
#[derive(Debug, Args)]
pub struct CompactArgs {
    /// Dataset
    pub dataset: String,
    /// Settings.
    #[command(flatten)]
    pub batch: BatchFlags,
}

/// Arguments of `tidemark batch pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// Dataset
    pub dataset: String,
}

/// Arguments of `tidemark batch vacuum`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemark batch vacuum trips --dry-run
  tidemark batch vacuum trips --older-than 2d")]
pub struct VacuumArgs {
    /// Dataset
    pub dataset: String,
    /// Leave younger objects alone: a run that is still going on may have written them. What queries may still read is
    /// kept for `batch.grace` at least
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = parse_duration)]
    pub older_than: Duration,
    /// How long what queries may still read is kept at least [env: TIDEMARK_BATCH_GRACE]
    #[arg(long, value_name = "TIME")]
    pub grace: Option<String>,
    /// Only name them
    #[arg(long)]
    pub dry_run: bool,
    /// Nothing else runs on the dataset, neither a command nor a query: the age may be below one hour, and `batch.grace`
    /// does not count
    #[arg(long)]
    pub force: bool,
}

/// Carries out `command`.
///
/// # Errors
/// [`CliError`].
pub async fn run(command: &BatchCommand, context: &Context) -> Result<Exit, CliError> {
    match command {
        BatchCommand::Run(args) => {
            let batch = context.batch().await?;
            let report = Box::pin(batch.run(&args.dataset, &context.progress())).await?;
            context.report(&report, render::ingest)?;
            Ok(exit_of(&report, args.strict))
        }
        BatchCommand::Recompute(args) => {
            let batch = context.batch().await?;
            let report = Box::pin(batch.recompute(&args.dataset, &context.progress())).await?;
            context.report(&report, render::recompute)?;
            let is_whole = report.counts.adds_up() && report.catalog_error.is_none();
            Ok(if is_whole { Exit::Done } else { Exit::Failed })
        }
        BatchCommand::Compact(args) => {
            let batch = context.batch_without_catalog().await?;
            let report = Box::pin(batch.compact(&args.dataset)).await?;
            context.report(&report, render::compact)?;
            Ok(Exit::Done)
        }
        BatchCommand::Pack(args) => {
            let batch = context.batch_without_catalog().await?;
            let report = Box::pin(batch.pack(&args.dataset)).await?;
            context.report(&report, render::pack)?;
            Ok(Exit::Done)
        }
        BatchCommand::Vacuum(args) => {
            check_age(args)?;
            let batch = context.batch_without_catalog().await?;
            let request = VacuumRequest { older_than: args.older_than, dry_run: args.dry_run, force: args.force };
            let report = Box::pin(batch.vacuum(&args.dataset, &request)).await?;
            context.report(&report, render::vacuum)?;
            Ok(Exit::Done)
        }
    }
}

fn check_age(args: &VacuumArgs) -> Result<(), CliError> {
    if args.older_than >= SAFE_AGE_MIN || args.force {
        return Ok(());
    }
    let (age, least) = (format_duration(args.older_than), format_duration(SAFE_AGE_MIN));
    Err(CliError::Argument {
        message: format!("--older-than {age} is below {least}: it could remove what a running command needs"),
        hint: Some("add --force if no other command runs on the dataset".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_age_needs_force_even_for_a_dry_run() {
        for (seconds, force, allowed) in
            [(86_400, false, true), (3_600, false, true), (3_599, false, false), (0, true, true)]
        {
            let older_than = Duration::from_secs(seconds);
            let args = VacuumArgs { dataset: "trips".to_owned(), older_than, grace: None, dry_run: true, force };
            assert_eq!(check_age(&args).is_ok(), allowed, "{args:?}");
        }
    }
}
