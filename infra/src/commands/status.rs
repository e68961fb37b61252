//! `tidemark status`: how datasets stand.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tidemark_batch::report::DatasetStatus;

use crate::client::Server;
use crate::context::Context;
use crate::error::{CliError, for_people, for_programs};
use crate::exit::Exit;
use crate::render;

/// How long the running process may take to say how it stands: it asks store, log and view for 3 seconds at most.
const STATUS_MAX: Duration = Duration::from_secs(6);

/// Arguments of `tidemark status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this dataset
    pub dataset: Option<String>,
    /// Address of the server [env: TIDEMARK_SERVER] [default: the one that runs on the data directory, if one does]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Statuses {
    datasets: Vec<DatasetStatus>,
    /// Datasets whose state can't be told: one of them hides none of the others.
    failed: Vec<Failure>,
    /// What the running process says of its streams, if one runs: as `GET /v1/status`.
    server: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Failure {
    dataset: String,
    error: serde_json::Value,
    #[serde(skip)]
    text: String,
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
    let (mut datasets, mut failed) = (Vec::with_capacity(names.len()), Vec::new());
    for name in &names {
        match batch.status(name).await {
            Ok(status) => datasets.push(status),
            Err(error) if args.dataset.is_some() => return Err(error.into()),
            Err(error) => failed.push(Failure {
                dataset: name.clone(),
                error: for_programs(&error)["error"].take(),
                text: format!("{}\n  {}", render::clean(name), for_people(&error).replace('\n', "\n  ").trim_end()),
            }),
        }
    }
    let server = match Server::find(args.server.as_deref(), context)? {
        Some(server) => Some(server.get_within("/v1/status", STATUS_MAX).await?),
        None => None,
    };
    let exit = if failed.is_empty() { Exit::Done } else { Exit::Failed };
    context.report(&Statuses { datasets, failed, server }, |all| {
        if all.datasets.is_empty() && all.failed.is_empty() {
            return "no dataset yet; `tidemark dataset apply DIR` makes one known\n".to_owned();
        }
        let failed = all.failed.iter().map(|failure| format!("{}\n", failure.text));
        let server = all.server.iter().map(|server| render::server(server, args.dataset.as_deref()));
        let texts: Vec<String> = all.datasets.iter().map(render::status).chain(failed).chain(server).collect();
        texts.join("\n")
    })?;
    Ok(exit)
}
