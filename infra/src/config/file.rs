//! `tidemark.toml` → texts of values with their lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;
use tidemark_shared::dataset::nearest;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::keys::{KEYS, LATER_DOORS};

/// Name of the configuration file.
pub const CONFIG_FILE: &str = "tidemark.toml";
/// Longest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The nearest `tidemark.toml` in `folder` or a folder above it.
#[must_use]
pub fn nearest_file(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().map(|folder| folder.join(CONFIG_FILE)).find(|path| path.is_file())
}

/// What a configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileLayer {
    /// Where it is.
    pub path: PathBuf,
    /// Dotted key → text and line.
    pub values: BTreeMap<String, (String, u64)>,
    /// What it says that does nothing in this build.
    pub warnings: Vec<String>,
}

impl FileLayer {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    /// That it can't be read, or everything that is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |what: String| ConfigError { problems: vec![format!("{}: {what}", path.display())] };
        let meta = std::fs::metadata(path).map_err(|e| failed(format!("can't be read: {e}")))?;
        if meta.len() > FILE_BYTES_MAX {
            return Err(failed(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(format!("can't be read: {e}")))?;
        Self::parse(path, &text)
    }

    /// Parses `text`, the contents of the file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it: each with its line, and the nearest name for a wrong one.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut reader = Reader { path, text, layer: Self::default(), problems: Vec::new() };
        reader.layer.path = path.to_owned();
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let message = error.message().lines().next().unwrap_or_default().to_owned();
            reader.problem(error.span().map_or(0, |span| span.start), &message);
        }
        if reader.problems.is_empty() {
            reader.top(tree.get_ref());
        }
        if reader.problems.is_empty() { Ok(reader.layer) } else { Err(ConfigError { problems: reader.problems }) }
    }
}

struct Reader<'t> {
    path: &'t Path,
    text: &'t str,
    layer: FileLayer,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> u64 {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    fn problem(&mut self, at: usize, message: &str) {
        let problem = format!("{}:{}: {message}", self.path.display(), self.line(at));
        self.problems.push(problem);
    }

    fn top(&mut self, tree: &DeTable<'_>) {
        for (key, value) in tree {
            let name: &str = key.get_ref();
            let at = key.span().start;
            if KEYS.iter().any(|key| key.section.is_empty() && key.name == name) {
                self.value(at, name.to_owned(), value);
            } else if KEYS.iter().any(|key| key.section == name) {
                match value.get_ref() {
                    DeValue::Table(table) => self.section(name, table),
                    _ => self.problem(at, &format!("`{name}` is a section: write `[{name}]`")),
                }
            } else {
                let top = KEYS.iter().map(|key| if key.section.is_empty() { key.name } else { key.section });
                let known: Vec<&str> = top.collect();
                self.unknown(at, name, "", &known);
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let at = key.span().start;
            let known: Vec<&str> = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
            if section == "doors" && LATER_DOORS.contains(&name) {
                let (path, line) = (self.path.display(), self.line(at));
                let warning = format!("{path}:{line}: [doors] {name} does nothing: this build lacks that door");
                self.layer.warnings.push(warning);
            } else if known.contains(&name) {
                self.value(at, format!("{section}.{name}"), value);
            } else {
                self.unknown(at, name, &format!(" in [{section}]"), &known);
            }
        }
    }

    fn unknown(&mut self, at: usize, name: &str, place: &str, known: &[&str]) {
        let suggestion = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let mut known = known.to_vec();
                known.dedup();
                format!("known here: {}", known.join(", "))
            }
        };
        self.problem(at, &format!("unknown key `{name}`{place} ({suggestion})"));
    }

    fn value(&mut self, at: usize, path: String, value: &Spanned<DeValue<'_>>) {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            _ => return self.problem(at, &format!("`{path}` must be a text or a whole number")),
        };
        let line = self.line(at);
        self.layer.values.insert(path, (text, line));
    }
}
