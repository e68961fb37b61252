//! `tidemark status`: how datasets stand.

use clap::Args;
use serde::Serialize;
use tidemark_batch::report::DatasetStatus;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render;

/// Arguments of `tidemark status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this dataset
    pub dataset: Option<String>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Statuses {
    datasets: Vec<DatasetStatus>,
}

/// Shows how one dataset or all of them stand.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: &StatusArgs, context: &Context) -> Result<Exit, CliError> {
    let batch = context.batch_without_catalog().await?;
    let names = match &args.dataset {
        Some(name) => vec![name.clone()],
        None => batch.datasets().await?,
    };
    let mut datasets = Vec::with_capacity(names.len());
    for name in &names {
        datasets.push(batch.status(name).await?);
    }
    context.report(&Statuses { datasets }, |all| {
        if all.datasets.is_empty() {
            return "no dataset yet; `tidemark dataset apply DIR` makes one known\n".to_owned();
        }
        let texts: Vec<String> = all.datasets.iter().map(render::status).collect();
        texts.join("\n")
    })?;
    Ok(Exit::Done)
}
