//! `tidemark files`: what was taken in, and what became of it.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
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
    #[arg(long, value_parser = standings())]
    pub standing: Option<FileStanding>,
}

fn standings() -> impl TypedValueParser<Value = FileStanding> {
    let words = FileStanding::ALL.map(|standing| {
        let (word, meaning) = standing.told();
        PossibleValue::new(word).help(meaning)
    });
    let standing = |word: String| FileStanding::ALL.into_iter().find(|standing| standing.as_str() == word);
    PossibleValuesParser::new(words).map(move |word| standing(word).expect("one of those words"))
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
    if let Some(wanted) = args.standing {
        files.retain(|file| file.standing == wanted);
    }
    let document = Files { dataset: &args.dataset, files: &files };
    context.report(&document, |document| render::files(document.files))?;
    if files.is_empty() {
        context.remark("no file");
    }
    Ok(Exit::Done)
}
