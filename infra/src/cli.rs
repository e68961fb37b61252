//! The command line as clap reads it. Its help is also `docs/cli.md`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tidemark_shared::secrets::shown_url;

use crate::commands::audit::AuditArgs;
use crate::commands::batch::BatchCommand;
use crate::commands::dataset::DatasetCommand;
use crate::commands::debug::DebugCommand;
use crate::commands::files::FilesArgs;
use crate::commands::ingest::IngestArgs;
use crate::commands::produce::ProduceArgs;
use crate::commands::rejects::RejectsArgs;
use crate::commands::sql::SqlArgs;
use crate::commands::status::StatusArgs;
use crate::commands::up::UpArgs;

/// One SQL answer over files and streams: takes both into a master dataset, curates Parquet tables, shows new records at
/// once, and names for every answer the records that it covers.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, propagate_version = false, max_term_width = 100)]
#[command(after_help = "\
Exit codes:
  0  done
  1  the work failed, or a file was held or refused
  2  wrong usage; nothing was touched
  3  partly done: a whole file was rejected; with --strict, any record

First steps with a stream:
  tidemark dataset apply datasets/orders            make it known
  tidemark up                                       start everything, in another terminal
  echo '{\"id\": \"o-1\", \"cents\": 1250, \"at\": \"2026-11-24T10:00:00Z\"}' |
    tidemark produce orders -                       append records
  tidemark sql 'SELECT count(*) FROM orders'        ask over all of them

First steps with files:
  tidemark dataset init rides yellow_2019-07.csv    draft a definition from a file
  tidemark dataset apply datasets/rides             make it known
  tidemark ingest rides yellow_2019-07.csv          take files in
  tidemark status rides                             see how it stands")]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Folder of store and catalog, unless they have URLs of their own [env: TIDEMARK_DATA_DIR] [default:
    /// tidemark-data beside tidemark.toml, else here]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub data_dir: Option<String>,
    /// Object store: file:PATH or s3://BUCKET/PREFIX [env: TIDEMARK_STORE_URL] [default: the data folder's store]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub store_url: Option<String>,
    /// Catalog: sqlite:PATH or postgres://USER@HOST/DB [env: TIDEMARK_CATALOG_URL] [default: the data folder's
    /// catalog.db]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub catalog_url: Option<String>,
    /// Configuration file [default: the nearest tidemark.toml upward]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on standard output, errors too
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// No progress and no remarks
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// What to log to standard error: a level, or levels by part, such as info,buoyant_kernel=warn [env: TIDEMARK_LOG]
    /// [default: warn]
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Global options")]
    pub log: Option<String>,
    /// How log lines look: text or json [env: TIDEMARK_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Global options")]
    pub log_format: Option<String>,
}

impl Global {
    /// The settings among them, with the flags that give them.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        given(&[
            ("--data-dir", &self.data_dir),
            ("--store-url", &self.store_url),
            ("--catalog-url", &self.catalog_url),
            ("--log-format", &self.log_format),
        ])
    }
}

/// Those of `flags` that have a value.
pub(crate) fn given(flags: &[(&'static str, &Option<String>)]) -> Vec<(&'static str, String)> {
    flags.iter().filter_map(|(flag, text)| Some((*flag, text.as_ref()?.clone()))).collect()
}

/// True if `args`, which can't be parsed, ask for JSON.
pub(crate) fn asks_for_json(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

/// `said`, which may repeat some of `args`, with addresses among them as people may see them.
pub(crate) fn without_secrets(said: &str, args: &[OsString]) -> String {
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let mut said = said.to_owned();
    for arg in args {
        let arg = arg.to_string_lossy();
        let url = match arg.split_once("://") {
            // `--flag=s3://…`, `name=s3://…`
            Some((before, _)) => &arg[before.trim_end_matches(in_scheme).len()..],
            None if arg.split_once('@').is_some_and(|(before, _)| before.contains(':')) => &arg[..],
            None => continue,
        };
        said = said.replace(url, &shown_url(url));
    }
    said
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything in one process, or a part of it: archiver, indexer, batch runs, the HTTP door
    Up(Box<UpArgs>),
    /// Draft, check, register and show dataset definitions
    #[command(subcommand)]
    Dataset(DatasetCommand),
    /// Put files into the raw zone and the ledger, and their rows into the curated table
    Ingest(IngestArgs),
    /// Append records to a dataset's stream
    Produce(ProduceArgs),
    /// Run the batch layer: take in what waits, rebuild, clean up
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Ask curated tables, and files in place, in SQL
    Sql(Box<SqlArgs>),
    /// Show the files that were taken in, how they stand, and what became of their records
    Files(FilesArgs),
    /// Show rejected records with position, reason and bytes
    Rejects(RejectsArgs),
    /// Derive answers again from the master dataset, and compare
    Audit(AuditArgs),
    /// Show how datasets stand
    Status(StatusArgs),
    /// Show the configuration that counts, secrets masked, and where each value comes from
    Config,
    /// What the project's own tests ask
    #[command(subcommand, hide = true)]
    Debug(DebugCommand),
}

impl Command {
    /// The settings among the command's own flags.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Ingest(args) => args.batch.settings(),
            Self::Batch(command) => command.settings(),
            Self::Sql(args) => args.settings(),
            Self::Up(args) => args.settings(),
            Self::Produce(_)
            | Self::Audit(_)
            | Self::Dataset(_)
            | Self::Files(_)
            | Self::Rejects(_)
            | Self::Status(_)
            | Self::Config
            | Self::Debug(_) => Vec::new(),
        }
    }
}

/// Width of the help in `docs/cli.md`, in characters.
const DOCUMENTATION_WIDTH: usize = 100;

/// The text of `docs/cli.md`: the help of every command that is shown.
#[must_use]
pub fn documentation() -> String {
    let mut root = Cli::command().term_width(DOCUMENTATION_WIDTH);
    root.build();
    let mut text = String::from(
        "# Commands\n\n<!-- Made from infra/src/cli.rs and the commands' arguments; bless with \
         TIDEMARK_BLESS=1 cargo test --workspace --test cli -->\n",
    );
    describe(&mut root, "tidemark", &mut text);
    text
}

fn describe(command: &mut clap::Command, path: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("\n## {path}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    for below in command.get_subcommands_mut() {
        if !below.is_hide_set() && below.get_name() != "help" {
            let path = format!("{path} {}", below.get_name());
            describe(below, &path, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KEYS;

    #[test]
    fn what_is_said_of_arguments_shows_no_secret() {
        for (arg, shown) in [
            ("s3://k:PW-s3cret@bucket/x", "s3://***@bucket/x"),
            ("--catalog-ur=postgres://u:PW-s3cret@h/db", "--catalog-ur=postgres://u:***@h/db"),
            ("trips=http://h/?key=PW-s3cret", "trips=http://h/?key=***"),
            ("u:PW-s3cret@h", "***@h"),
            ("a@b.csv", "a@b.csv"),
        ] {
            let said = without_secrets(&format!("unexpected argument '{arg}' found"), &[arg.into()]);
            assert_eq!(said, format!("unexpected argument '{shown}' found"));
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    /// As docs/config.md says.
    #[test]
    fn up_takes_every_flag_of_a_setting() {
        for flag in KEYS.iter().filter_map(|key| key.flag) {
            let cli = Cli::try_parse_from(["tidemark", "up", flag, "7"]);
            let Ok(cli) = cli else { panic!("`up` has no {flag}") };
            let settings = [cli.global.settings(), cli.command.settings()].concat();
            assert_eq!(settings, [(flag, "7".to_owned())], "what is given with {flag} counts for nothing");
        }
    }

    #[test]
    fn options_of_every_command_may_come_last() {
        let cli = Cli::parse_from(["tidemark", "sql", "SELECT 1", "--json", "--data-dir", "d", "--quiet"]);
        assert!(cli.global.json && cli.global.quiet);
        assert_eq!(cli.global.data_dir.as_deref(), Some("d"));
    }
}
