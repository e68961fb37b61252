//! `tidemark.toml` → texts of values with their lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tidemark_shared::document::{Document, Section};
use toml::de::DeTable;

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
        let file = path.display().to_string();
        let document = Document::new(&file, text);
        let tree = document.tree();
        let mut layer = Self { path: path.to_owned(), ..Self::default() };
        // In what is no TOML, half the keys may be missing.
        if !document.has_problems() {
            layer.take(&document, &tree);
        }
        let problems: Vec<String> = document.into_problems().iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(layer) } else { Err(ConfigError { problems }) }
    }

    /// Takes over what `tree` says; what is wrong with it becomes problems of `document`.
    fn take<'d>(&mut self, document: &'d Document<'d>, tree: &'d DeTable<'d>) {
        let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).filter(|name| !name.is_empty()).collect();
        sections.dedup();
        let outermost = sections.iter().copied().filter(|section| !section.contains('.'));
        let known: Vec<&str> = names_in("").chain(outermost).collect();
        let top = Section::new(document, "", tree, 0, &known);
        self.values.extend(names_in("").filter_map(|name| Some((name.to_owned(), top.text(name)?))));
        let mut tables: BTreeMap<&str, Section<'d>> = BTreeMap::new();
        for section in &sections {
            let later = if *section == "doors" { LATER_DOORS } else { &[] };
            let inner = sections.iter().filter_map(|other| other.strip_prefix(section)?.strip_prefix('.'));
            let known: Vec<&str> = names_in(section).chain(later.iter().copied()).chain(inner).collect();
            let table = match section.rsplit_once('.') {
                None => top.section(section, &known),
                Some((outer, name)) => tables.get(outer).and_then(|outer| outer.section(name, &known)),
            };
            let Some(table) = table else { continue };
            for name in later.iter().filter(|name| table.has(name)) {
                let (path, line) = (self.path.display(), document.line(table.place(name)));
                self.warnings.push(format!("{path}:{line}: [doors] {name} does nothing: this build lacks that door"));
            }
            let values = names_in(section).filter_map(|name| Some((format!("{section}.{name}"), table.text(name)?)));
            self.values.extend(values);
            tables.insert(section, table);
        }
    }
}

/// Names of the keys of a section; of the top, if it is empty.
fn names_in(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |key| key.section == section).map(|key| key.name)
}
