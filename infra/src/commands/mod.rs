//! The commands: each parses its own arguments, asks the layer that does the work, and renders what it says.

pub mod audit;
pub mod batch;
pub mod config;
pub mod dataset;
pub mod debug;
pub mod files;
pub mod ingest;
pub mod produce;
pub mod query;
pub mod rejects;
pub mod sql;
pub mod status;
pub mod up;

use crate::cli::Command;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Carries out `command`.
///
/// # Errors
/// [`CliError`]; what was done before is kept.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Up(_) => up::run(context).await,
        Command::Produce(args) => produce::run(args, context).await,
        Command::Audit(args) => audit::run(args, context).await,
        Command::Dataset(command) => dataset::run(command, context).await,
        Command::Ingest(args) => ingest::run(args, context).await,
        Command::Batch(command) => batch::run(command, context).await,
        Command::Sql(args) => query::run(args, context).await,
        Command::Files(args) => files::run(args, context).await,
        Command::Rejects(args) => rejects::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Config => config::run(context),
        Command::Debug(command) => debug::run(command),
    }
}
