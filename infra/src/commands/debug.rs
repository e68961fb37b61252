//! `tidemark debug`: what the project's own tests ask.

use clap::Subcommand;
use tidemark_batch::failpoint::FAILPOINTS;

use crate::context::print;
use crate::error::CliError;
use crate::exit::Exit;

/// Questions of the project's own tests.
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// List the places where TIDEMARK_FAILPOINT=NAME[:N] aborts the process
    Failpoints,
}

/// Carries out `command`.
///
/// # Errors
/// [`CliError::Output`].
pub fn run(command: &DebugCommand) -> Result<Exit, CliError> {
    match command {
        DebugCommand::Failpoints => print(&format!("{}\n", FAILPOINTS.join("\n")))?,
    }
    Ok(Exit::Done)
}
