//! The binary `tidemark`. Everything is in the library beside it.

use std::process::ExitCode;

use clap::Parser as _;
use tidemark::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    tidemark::run(&cli).into()
}
