//! `tidemark files`: what was taken in, and what became of it.

use clap::{Args, ValueEnum};
use serde::Serialize;
use tidemark_batch::report::{FileRow, FileStanding};

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::render;

/// Arguments of `tidemark files`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidemark files trips                         all that the ledger ever named
  tidemark files trips --standing held         what the gate holds: --accept or --withdraw it
  tidemark files trips --json | jq '.files[].location'")]
pub struct FilesArgs {
    /// Dataset
    pub dataset: String,
    /// Only files that stand so
    #[arg(long, value_enum)]
    pub standing: Option<Wanted>,
}

/// [`FileStanding`], as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Wanted {
    /// Their rows count
    Included,
    /// Their rows will count once the batch layer has run
    Waiting,
    /// The gate holds them
    Held,
    /// They were withdrawn
    Withdrawn,
    /// Other files of their names took their places
    Replaced,
}

impl Wanted {
    fn standing(self) -> FileStanding {
        match self {
            Self::Included => FileStanding::Included,
            Self::Waiting => FileStanding::Waiting,
            Self::Held => FileStanding::Held,
            Self::Withdrawn => FileStanding::Withdrawn,
            Self::Replaced => FileStanding::Replaced,
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Files<'a> {
    dataset: &'a str,
    files: &'a [FileRow],
}

/// Shows files.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: &FilesArgs, context: &Context) -> Result<Exit, CliError> {
    let batch = context.batch_without_catalog().await?;
    let mut files = batch.files(&args.dataset).await?;
    if let Some(wanted) = args.standing.map(Wanted::standing) {
        files.retain(|file| file.standing == wanted);
    }
    let document = Files { dataset: &args.dataset, files: &files };
    context.report(&document, |document| render::files(document.files))?;
    if files.is_empty() {
        context.remark("no file");
    }
    Ok(Exit::Done)
}
