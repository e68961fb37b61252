//! Logs: to standard error, warnings and worse unless `--log` or `TIDEMARK_LOG` asks for more; as text, or a JSON object a line.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::error::CliError;

/// Environment variable that `--log` overrides.
const VARIABLE: &str = "TIDEMARK_LOG";
/// What is logged if nobody says. The Delta library calls every lost race an error, and its kernel every log that it
/// can't read, which its callers are told besides; whether it is one is ours to tell.
const DEFAULT: &str = "warn,deltalake_core::kernel::transaction=off,buoyant_kernel=off";

/// Sets the process's logger up. The first call counts: one process carries out one command.
///
/// # Errors
/// [`CliError::Argument`] if the filter is not one.
pub fn init(flag: Option<&str>, format: LogFormat) -> Result<(), CliError> {
    let variable = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let text = flag.map(str::to_owned).or(variable).unwrap_or_else(|| DEFAULT.to_owned());
    let filter = EnvFilter::builder().parse(&text).map_err(|error| CliError::Argument {
        message: format!("`{text}` is not a log filter: {error}"),
        hint: Some("write a level (`info`) or levels by part (`warn,tidemark_batch=debug`)".to_owned()),
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would tell of a line that can't be written in another line there, and panic: a full disk may hold the log file.
        .log_internal_errors(false);
    // A second command in one process (a test's) keeps the first one's logger.
    drop(match format {
        LogFormat::Text => tracing::subscriber::set_global_default(subscriber.finish()),
        LogFormat::Json => {
            let subscriber = subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false);
            tracing::subscriber::set_global_default(subscriber.with_ansi(false).finish())
        }
    });
    Ok(())
}
