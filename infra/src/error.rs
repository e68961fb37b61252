//! What can go wrong in a command, and how it is told.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use tidemark_batch::BatchError;
use tidemark_serving::audit::AuditError;
use tidemark_shared::catalog::CatalogError;
use tidemark_shared::dataset::registry::RegistryError;
use tidemark_shared::dataset::{DefinitionError, DraftError, nearest};
use tidemark_shared::error::{ErrorKind, Kind, chain};
use tidemark_shared::store::StoreError;

use crate::client::ClientError;
use crate::commands::sql::SqlCommandError;
use crate::config::ConfigError;
use crate::units::counted;
use crate::up::UpError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error("the configuration is not valid:\n{0}")]
    Config(ConfigError),
    /// A definition is wrong.
    #[error("the definition is not valid:\n{0}")]
    Definition(DefinitionError),
    /// No definition could be drafted.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// Applied definitions can't be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The batch layer failed.
    #[error(transparent)]
    Batch(Box<BatchError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// SQL failed.
    #[error(transparent)]
    Sql(Box<SqlCommandError>),
    /// The running process could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Some of a file's records were appended, then it went wrong.
    #[error(
        "{} appended, up to line {} of the file; then, lines counted from line {line}: {source}",
        counted(*accepted, "record"), line - 1
    )]
    Appended {
        /// Records that were.
        accepted: u64,
        /// The token for them.
        at_least: String,
        /// The first line that was not.
        line: u64,
        /// What went wrong.
        source: Box<CliError>,
    },
    /// The process can't start.
    #[error(transparent)]
    Up(Box<UpError>),
    /// The audit could not be made.
    #[error(transparent)]
    Audit(Box<AuditError>),
    /// There is no store yet, and the command does not make one.
    #[error("there is no store at {url}")]
    NoStore {
        /// Its address.
        url: String,
    },
    /// No definition of this name was applied.
    #[error("dataset `{dataset}` is unknown")]
    UnknownDataset {
        /// The name asked for.
        dataset: String,
        /// The nearest known one.
        nearest: Option<String>,
        /// All known ones.
        known: Vec<String>,
    },
    /// No definition of the dataset has this version.
    #[error("dataset `{dataset}` has no definition `{version}`")]
    UnknownVersion {
        /// The dataset.
        dataset: String,
        /// The version asked for.
        version: String,
        /// The versions that there are.
        known: Vec<String>,
    },
    /// An argument is wrong.
    #[error("{message}")]
    Argument {
        /// What is wrong.
        message: String,
        /// How to go on.
        hint: Option<String>,
    },
    /// A local file or folder can't be read or written.
    #[error("can't {action} {}", path.display())]
    File {
        /// `read`, `create`.
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output can't be written.
    #[error("can't write to standard output")]
    Output(#[source] io::Error),
    /// Whoever read standard output has gone; nothing is left to be said.
    #[error("standard output was closed")]
    OutputClosed,
    /// Ctrl-C, or a termination signal.
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    /// There is no `dataset`, but those that are `known`.
    #[must_use]
    pub fn unknown_dataset(dataset: &str, known: &[String]) -> Self {
        let nearest = nearest(dataset, known.iter().map(String::as_str)).map(str::to_owned);
        Self::UnknownDataset { dataset: dataset.to_owned(), nearest, known: known.to_vec() }
    }

    /// A command line that clap refuses, in its words: what is wrong, and where it says how to go on.
    #[must_use]
    pub fn usage(text: &str) -> Self {
        // Its paragraphs: the mistake, then tips and the usage.
        let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let message = message.strip_prefix("error: ").unwrap_or(message).trim().to_owned();
        let hint: Vec<&str> = rest.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self::Argument { message, hint: (!hint.is_empty()).then(|| hint.join("; ")) }
    }
}

impl From<BatchError> for CliError {
    fn from(error: BatchError) -> Self {
        Self::Batch(Box::new(error))
    }
}

impl From<UpError> for CliError {
    fn from(error: UpError) -> Self {
        Self::Up(Box::new(error))
    }
}

impl From<AuditError> for CliError {
    fn from(error: AuditError) -> Self {
        Self::Audit(Box::new(error))
    }
}

impl From<SqlCommandError> for CliError {
    fn from(error: SqlCommandError) -> Self {
        Self::Sql(Box::new(error))
    }
}

impl ErrorKind for CliError {
    fn kind(&self) -> Kind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Definition(error) => error.kind(),
            Self::Draft(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Batch(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Sql(error) => error.kind(),
            Self::Client(error) => error.kind(),
            // Something was touched, so that this is no wrong usage any more.
            Self::Appended { source, .. } => match source.kind() {
                Kind::Invalid | Kind::NotFound => Kind::Unprocessable,
                kind => kind,
            },
            Self::Up(error) => error.kind(),
            Self::Audit(error) => error.kind(),
            Self::NoStore { .. } | Self::UnknownDataset { .. } | Self::UnknownVersion { .. } => Kind::NotFound,
            Self::Argument { .. } => Kind::Invalid,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Kind::Invalid,
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => Kind::Exhausted,
            Self::File { .. } | Self::Output(_) | Self::OutputClosed | Self::Interrupted => Kind::Retryable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Definition(error) => error.hint(),
            Self::Draft(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Batch(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::Sql(error) => error.hint(),
            Self::Client(error) => error.hint(),
            Self::Appended { at_least, line, .. } => Some(format!(
                "send the rest once it is right, `tail -n +{line} FILE | tidemark produce DATASET -`; the token of what was \
                 appended is {at_least}"
            )),
            Self::Up(error) => error.hint(),
            Self::Audit(error) => error.hint(),
            Self::NoStore { .. } => Some(
                "`tidemark dataset apply DIR` makes it; for one elsewhere give --data-dir or --store-url".to_owned(),
            ),
            Self::UnknownDataset { nearest: Some(near), known, .. } if known.len() == 1 => {
                Some(format!("did you mean `{near}`?"))
            }
            Self::UnknownDataset { nearest: Some(near), known, .. } => {
                Some(format!("did you mean `{near}`? there are {}", listed(known)))
            }
            Self::UnknownDataset { nearest: None, known, .. } if !known.is_empty() => {
                Some(format!("there are {}; `tidemark dataset apply DIR` makes one known", listed(known)))
            }
            Self::UnknownDataset { .. } => {
                Some("no dataset is known yet; `tidemark dataset apply DIR` makes one known".to_owned())
            }
            Self::UnknownVersion { known, .. } => Some(format!("there are {}", known.join(", "))),
            Self::Argument { hint, .. } => hint.clone(),
            Self::File { .. } | Self::Output(_) | Self::OutputClosed | Self::Interrupted => None,
        }
    }
}

/// Names, and no more of them than a person reads.
fn listed(names: &[String]) -> String {
    const SHOWN_MAX: usize = 20;
    let shown = names.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(SHOWN_MAX);
    if more == 0 { shown } else { format!("{shown} and {more} more (`tidemark dataset list` shows all)") }
}

/// A stable word for a kind, for programs.
#[must_use]
pub fn code_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid",
        Kind::NotFound => "not_found",
        Kind::Conflict => "conflict",
        Kind::Retryable => "retryable",
        Kind::Unprocessable => "unprocessable",
        Kind::Corrupt => "corrupt",
        Kind::Unsupported => "unsupported",
        Kind::Exhausted => "exhausted",
        Kind::Internal => "internal",
    }
}

/// For people: `error: …` and, where there is something to say, `hint: …`.
#[must_use]
pub fn for_people(error: &dyn ErrorKind) -> String {
    let mut text = format!("error: {}\n", chain(error));
    if let Some(hint) = error.hint() {
        writeln!(text, "hint: {hint}").expect("a string takes all text");
    }
    text
}

/// For programs: `{"error": {"code", "message", "hint"}}`.
#[must_use]
pub fn for_programs(error: &dyn ErrorKind) -> Value {
    json!({"error": {"code": code_of(error.kind()), "message": chain(error), "hint": error.hint()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable() -> CliError {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        CliError::File { action: "read", path: PathBuf::from("a.csv"), source }
    }

    #[test]
    fn causes_are_said_once_and_a_hint_follows() {
        assert_eq!(for_people(&unreadable()), "error: can't read a.csv: no such file\n");
        let hint = |dataset: &str, known: &[&str]| {
            let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            for_people(&CliError::unknown_dataset(dataset, &known))
        };
        for (dataset, known, wanted) in [
            ("trip", &["trips"] as &[&str], "did you mean `trips`?"),
            ("trip", &["orders", "trips"], "did you mean `trips`? there are orders, trips"),
            ("parrots", &["orders"], "there are orders; `tidemark dataset apply DIR` makes one known"),
            ("trip", &[], "no dataset is known yet; `tidemark dataset apply DIR` makes one known"),
        ] {
            let wanted = format!("error: dataset `{dataset}` is unknown\nhint: {wanted}\n");
            assert_eq!(hint(dataset, known), wanted, "{known:?}");
        }
        let repeated = CliError::Output(io::Error::other("can't write"));
        assert_eq!(chain(&repeated), "can't write to standard output");
    }

    #[test]
    fn programs_get_one_document() {
        let document =
            json!({"error": {"code": "not_found", "message": "can't read a.csv: no such file", "hint": null}});
        assert_eq!(for_programs(&unreadable()), document);
    }
}
