//! A definition's folder → its texts.

use std::fs;
use std::io::Read;
use std::path::Path;

use super::check::{DATASET_FILE, FILE_MISSING, SOURCE_BYTES_MAX, TRANSFORM_FILE, check};
use super::{Definition, DefinitionError, Problem, Sources};

/// Most views, and most alerts, of one definition.
const NAMED_MAX: usize = 1_000;

/// A definition and the texts it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The definition.
    pub definition: Definition,
    /// Its files: name within the folder → text.
    pub sources: Sources,
    /// What could not be checked, and why: a view that reads another dataset's table.
    pub notes: Vec<String>,
}

/// Reads and validates the folder `datasets/<name>/`. Blocking.
///
/// # Errors
/// Everything that is wrong with it, files that can't be read included.
pub fn load(folder: &Path) -> Result<Loaded, DefinitionError> {
    let shown = folder.display().to_string();
    let mut problems = Vec::new();
    let mut sources = Sources::new();
    let mut names = vec![DATASET_FILE.to_owned(), TRANSFORM_FILE.to_owned()];
    for part in ["views", "alerts"] {
        names.extend(sql_files(folder, part, &mut problems));
    }
    for name in names {
        match read(&folder.join(&name)) {
            Ok(text) => drop(sources.insert(name, text)),
            Err(message) => problems.push(problem(&name, message)),
        }
    }
    let mut notes = Vec::new();
    let definition =
        checked(&sources, problems, &mut notes).map_err(|problems| DefinitionError::new(problems).in_folder(&shown))?;
    let absolute = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let folder_name = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if folder_name != definition.name {
        let message = format!("the dataset is named `{}` and its folder `{folder_name}`", definition.name);
        let mut problem = problem(DATASET_FILE, message);
        problem.suggestion = Some("give both the same name".to_owned());
        return Err(DefinitionError::new(vec![problem]).in_folder(&shown));
    }
    Ok(Loaded { definition, sources, notes })
}

/// The definition, if all of it could be read (`unread` is empty) and is right. What could be read is checked in any case.
fn checked(sources: &Sources, unread: Vec<Problem>, notes: &mut Vec<String>) -> Result<Definition, Vec<Problem>> {
    let mut problems = match check(sources, Some(notes)) {
        Ok(definition) if unread.is_empty() => return Ok(definition),
        Ok(_) => Vec::new(),
        Err(error) => error.problems,
    };
    // A file that is there but can't be read is not missing.
    problems.retain(|problem| problem.message != FILE_MISSING || unread.iter().all(|other| other.file != problem.file));
    problems.extend(unread);
    Err(problems)
}

fn problem(file: &str, message: String) -> Problem {
    Problem { file: file.to_owned(), line: None, column: None, message, suggestion: None }
}

fn read(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FILE_MISSING.to_owned(),
        _ => format!("can't be read: {error}"),
    })?;
    let mut bytes = Vec::new();
    let limit = SOURCE_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
    if bytes.len() > SOURCE_BYTES_MAX {
        return Err(format!("larger than {SOURCE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "not valid UTF-8".to_owned())
}

fn sql_files(folder: &Path, part: &str, problems: &mut Vec<Problem>) -> Vec<String> {
    let entries = match fs::read_dir(folder.join(part)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(problem(part, format!("can't be read: {error}")));
            return Vec::new();
        }
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".sql")).map(|name| format!("{part}/{name}")).collect();
    names.sort();
    if names.len() > NAMED_MAX {
        problems.push(problem(part, format!("more than {NAMED_MAX} files")));
        names.truncate(NAMED_MAX);
    }
    names
}
