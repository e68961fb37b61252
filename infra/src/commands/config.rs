//! `tidemark config`: the configuration that counts.

use serde_json::{Value, json};

use crate::config::{Config, Origin};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Prints the effective configuration as TOML with the origin of each value, or as JSON.
///
/// # Errors
/// [`CliError::Output`].
pub fn run(context: &Context) -> Result<Exit, CliError> {
    context.report(&document(&context.config), |_| text(&context.config))?;
    Ok(Exit::Done)
}

fn origin(origin: &Origin, config: &Config) -> String {
    let file = config.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File { line } => format!("{file}:{line}"),
        Origin::Env { name } => name.clone(),
        Origin::Flag { name } => (*name).to_owned(),
    }
}

fn document(config: &Config) -> Value {
    let settings: Vec<Value> = config
        .effective
        .iter()
        .map(|value| json!({"key": value.key.path(), "value": value.shown, "from": origin(&value.origin, config)}))
        .collect();
    json!({"file": config.file, "settings": settings})
}

/// Reads back as a `tidemark.toml`, but for masked secrets.
fn text(config: &Config) -> String {
    let mut text = match &config.file {
        Some(file) => format!("# {}\n", file.display()),
        None => "# no tidemark.toml here or above\n".to_owned(),
    };
    let mut section = "";
    for value in &config.effective {
        if value.key.section != section {
            section = value.key.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        let shown = toml::Value::from(value.shown.clone());
        text.push_str(&format!("{} = {shown}  # {}\n", value.key.name, origin(&value.origin, config)));
    }
    text
}
