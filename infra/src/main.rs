//! The binary `tidemark`. Everything is in the library beside it.

use std::process::ExitCode;

use clap::Parser as _;
use tidemark::cli::Cli;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => tidemark::run(&cli).into(),
        Err(error) => tidemark::refuse(&error, std::env::args_os().skip(1)).into(),
    }
}
