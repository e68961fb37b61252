//! The launcher: what a person types, and what they see.

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod context;
pub mod endpoints;
pub mod error;
pub mod exit;
pub mod output;
pub mod progress;
pub mod render;
pub mod signals;
pub mod telemetry;
pub mod units;
pub mod up;

use std::ffi::OsString;
use std::io::Write as _;
use std::time::Duration;

use tidemark_shared::error::ErrorKind as _;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use cli::{Cli, Command};
use config::{Config, Flags};
use context::Context;
use error::CliError;
use exit::Exit;
use telemetry::Telemetry;

/// Stack of each thread.
const STACK_BYTES: usize = 16 << 20;
/// How long work that was cut short may take to end. What it leaves half-done, the next run finishes.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// The same for a statement, which leaves nothing half-done: what it spilled goes with its engine.
const STATEMENT_SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// Carries out one invocation and tells how it ended.
#[must_use]
pub fn run(cli: &Cli) -> Exit {
    let ended = prepare(cli).and_then(|context| {
        let runtime = runtime()?;
        let interrupted = match cli.command {
            // A prompt goes on after Ctrl-C, a server drains: they watch for themselves.
            Command::Sql(_) | Command::Up(_) => CancellationToken::new(),
            _ => signals::watch().map_err(failed_to_start)?,
        };
        let ended = runtime.block_on(async {
            signals::survive_full_files().map_err(failed_to_start)?;
            let ended = tokio::select! {
                ended = Box::pin(commands::run(&cli.command, &context)) => ended,
                () = interrupted.cancelled() => Err(CliError::Interrupted),
            };
            // What a process leaves open, the next one that opens it cleans up.
            drop(tokio::time::timeout(SHUTDOWN_MAX, context.close()).await);
            ended
        });
        let within = match cli.command {
            Command::Sql(_) => STATEMENT_SHUTDOWN_MAX,
            _ => SHUTDOWN_MAX,
        };
        runtime.shutdown_timeout(within);
        context.telemetry.finish();
        ended
    });
    ended.unwrap_or_else(|error| tell(&error, cli.global.json))
}

fn runtime() -> Result<Runtime, CliError> {
    // As many threads as cores; the decoding and encoding of the batch layer run on threads of their own.
    // A statement as deep as is allowed is taken apart by recursion, on any of them.
    Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build().map_err(failed_to_start)
}

pub(crate) fn failed_to_start(source: std::io::Error) -> CliError {
    CliError::File { action: "start threads in", path: "this process".into(), source }
}

fn prepare(cli: &Cli) -> Result<Context, CliError> {
    let global = &cli.global;
    let cwd = std::env::current_dir();
    let cwd = cwd.map_err(|source| CliError::File { action: "read", path: ".".into(), source })?;
    let flags: Flags = global.settings().into_iter().chain(cli.command.settings()).collect();
    let config: Config = config::load(global.config.as_deref(), &flags, &cwd).map_err(CliError::Config)?;
    // What answers at once, or a person's questions, has none.
    let has_traces = matches!(cli.command, Command::Up(_) | Command::Ingest(_) | Command::Batch(_));
    let traces = config.traces.as_ref().filter(|_| has_traces);
    let telemetry = Telemetry::start(global.log.as_deref(), config.log_format, traces)?;
    let context = Context::new(config, telemetry, global.json, global.quiet);
    for warning in &context.config.warnings {
        context.remark(&format!("warning: {warning}"));
    }
    Ok(context)
}

/// Ends an invocation whose arguments could not be parsed, or that asks for help or the version.
///
/// A program that asked for `--json` gets a wrong command line as it gets every other error: as one document on standard
/// output.
#[must_use]
pub fn refuse(error: &clap::Error, args: impl IntoIterator<Item = OsString>) -> Exit {
    if !error.use_stderr() {
        // Help and version: whoever does not read them to the end has all they wanted.
        drop(error.print());
        return Exit::Done;
    }
    let args: Vec<OsString> = args.into_iter().collect();
    let said = error.render().to_string();
    let shown = cli::without_secrets(&said, &args);
    if cli::asks_for_json(&args) {
        return tell(&CliError::usage(&shown), true);
    }
    // In colour, unless something of it is not to be shown.
    match shown == said {
        true => drop(error.print()),
        false => drop(write!(std::io::stderr(), "{shown}")),
    }
    Exit::Usage
}

/// Says what went wrong, once, and how the process ends.
fn tell(error: &CliError, json: bool) -> Exit {
    match error {
        // The reader has all it wanted.
        CliError::OutputClosed => return Exit::Done,
        CliError::Interrupted => {
            drop(writeln!(std::io::stderr(), "interrupted"));
            return Exit::Interrupted;
        }
        _ => {}
    }
    let told = if json {
        context::print(&format!("{:#}\n", error::for_programs(error)))
    } else {
        write!(std::io::stderr(), "{}", error::for_people(error)).map_err(CliError::Output)
    };
    // Where neither stream takes it, the exit code still says that it failed.
    drop(told);
    Exit::of_kind(error.kind())
}
