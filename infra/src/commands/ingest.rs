//! `tidemark ingest`: files into the master dataset, and their rows into the curated table.

use clap::Args;
use tidemark_batch::IngestRequest;

use super::batch::BatchFlags;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, exit_of};
use crate::render;

/// Arguments of `tidemark ingest`.
#[derive(Debug, Args)]
#[command(after_help = "\
A file is known by its name, the path below the PATH given, and by its content: the same file again does nothing.
A file that breaks the dataset's gate is entered but held: its rows do not count until it is accepted.

Examples:
  tidemark ingest trips yellow/                             all files below a folder
  tidemark ingest trips s3://bucket/2019/                   all objects below a prefix
  tidemark ingest trips new.csv --as 2019-07.csv --replace  changed content under a known name
  tidemark ingest trips --accept 2019-07.csv                let the rows of a held file count
  tidemark ingest trips --withdraw 2019-07.csv              take a file's rows out")]
pub struct IngestArgs {
    /// Dataset
    pub dataset: String,
    /// Files, folders or s3:// URLs; with --accept also, with --withdraw only, names in the ledger
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,
    /// Name in the ledger instead of the path's; for exactly one file
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// Let changed content under a known name replace the old file
    #[arg(long)]
    pub replace: bool,
    /// Let known content under a new name be a file of its own
    #[arg(long)]
    pub allow_duplicate: bool,
    /// Let the rows of files count that the gate holds, now or before
    #[arg(long)]
    pub accept: bool,
    /// Take the rows of the named files out
    #[arg(long, conflicts_with_all = ["name", "replace", "allow_duplicate", "accept", "in_place", "verify", "strict"])]
    pub withdraw: bool,
    /// Leave remote files where they are and read them there; the bucket must keep versions
    #[arg(long)]
    pub in_place: bool,
    /// Compare what is stored of known files with their digests, and put back what changed
    #[arg(long)]
    pub verify: bool,
    /// Exit with 3 if any record was rejected
    #[arg(long)]
    pub strict: bool,
    /// Settings of the batch layer.
    #[command(flatten)]
    pub batch: BatchFlags,
}

/// Takes files in, accepts held ones, or takes files out.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: &IngestArgs, context: &Context) -> Result<Exit, CliError> {
    if args.name.is_some() && args.paths.len() != 1 {
        return Err(CliError::Argument {
            message: format!("--as names one file, and {} paths are given", args.paths.len()),
            hint: None,
        });
    }
    let batch = context.batch().await?;
    let progress = context.progress();
    let report = if args.withdraw {
        Box::pin(batch.withdraw(&args.dataset, &args.paths, &progress)).await
    } else {
        Box::pin(batch.ingest(&args.dataset, &request(args), &progress)).await
    };
    // The bar goes before the report comes.
    drop(progress);
    let report = report?;
    context.report(&report, render::ingest)?;
    Ok(exit_of(&report, args.strict))
}

fn request(args: &IngestArgs) -> IngestRequest {
    IngestRequest {
        paths: args.paths.clone(),
        name: args.name.clone(),
        replace: args.replace,
        allow_duplicate: args.allow_duplicate,
        accept: args.accept,
        in_place: args.in_place,
        verify: args.verify,
    }
}
