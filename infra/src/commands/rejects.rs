//! `tidemark rejects`: the records that were refused.

use clap::Args;
use serde::Serialize;
use tidemark_batch::report::{RejectQuery, RejectRow};

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render;

/// Arguments of `tidemark rejects`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemark rejects trips --limit 20
  tidemark rejects trips --reason width --file yellow_2019-07.csv
  tidemark rejects trips --held        also those of files that the gate holds")]
pub struct RejectsArgs {
    /// Dataset
    pub dataset: String,
    /// Only this reason, as reports name it
    #[arg(long)]
    pub reason: Option<String>,
    /// Only this file, by its name in the ledger
    #[arg(long, value_name = "NAME")]
    pub file: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Also those of files that the gate holds
    #[arg(long)]
    pub held: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Rejects<'a> {
    dataset: &'a str,
    rejects: &'a [RejectRow],
    /// True if there are more than `--limit` allows.
    more: bool,
}

/// Shows rejects.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: &RejectsArgs, context: &Context) -> Result<Exit, CliError> {
    let limit = usize::try_from(args.limit).expect("32 bits fit a size");
    let query = RejectQuery {
        reason: args.reason.clone(),
        file: args.file.clone(),
        // One more than is shown tells whether there are more.
        limit: Some(limit.saturating_add(1)),
        held: args.held,
    };
    let batch = context.batch_without_catalog().await?;
    let mut rejects = batch.rejects(&args.dataset, &query).await?;
    let more = rejects.len() > limit;
    rejects.truncate(limit);
    let document = Rejects { dataset: &args.dataset, rejects: &rejects, more };
    context.report(&document, |document| render::rejects(document.rejects))?;
    if more {
        context.remark(&format!("the first {limit}; there are more: raise --limit"));
    } else if rejects.is_empty() {
        context.remark("no such reject");
    }
    Ok(Exit::Done)
}
