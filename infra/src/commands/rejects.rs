//! `tidemark rejects`: the records that were refused.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use tidemark_batch::report::{RejectQuery, RejectRow};
use tidemark_shared::dataset::{nearest, registry};
use tidemark_shared::store::IfMissing;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render;
use crate::units::format_count;

/// Rejects come from the batch layer: those of records that no run has taken in yet are counted elsewhere.
const NOT_YET: &str =
    "rejects of the stream since the last batch run are not among them: `tidemark status` counts those";

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
    /// How many there are of each reason that exists, where there is none of the one asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<BTreeMap<String, u64>>,
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
    let reasons = match rejects.is_empty() && args.reason.is_some() {
        true => Some(batch.reject_reasons(&args.dataset, &query).await?),
        false => None,
    };
    let document = Rejects { dataset: &args.dataset, rejects: &rejects, more, reasons };
    context.report(&document, |document| render::rejects(document.rejects))?;
    if more {
        context.remark(&format!("the first {limit}; there are more: raise --limit"));
    } else if rejects.is_empty() {
        let reason = args.reason.as_deref().zip(document.reasons.as_ref());
        context.remark(&reason.map_or_else(|| "no reject".to_owned(), |(reason, there)| none_of(reason, there)));
    }
    if args.file.is_none() && has_stream(&args.dataset, context).await? {
        context.remark(NOT_YET);
    }
    Ok(Exit::Done)
}

/// True if the newest definition takes records of a stream.
async fn has_stream(dataset: &str, context: &Context) -> Result<bool, CliError> {
    let store = context.store(IfMissing::Fail).await?;
    let latest = registry::latest(&store, dataset).await?;
    Ok(latest.is_some_and(|latest| latest.definition.stream.is_some()))
}

/// Says which reasons there are instead of `reason`.
fn none_of(reason: &str, there: &BTreeMap<String, u64>) -> String {
    let reason = render::clean(reason);
    if there.is_empty() {
        return format!("no reject, for `{reason}` or any other reason");
    }
    let near = nearest(&reason, there.keys().map(String::as_str));
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let there: Vec<String> =
        there.iter().map(|(reason, count)| format!("{reason} ({})", format_count(*count))).collect();
    format!("no reject for `{reason}`; there are: {}{near}", there.join(", "))
}
