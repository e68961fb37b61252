//! What is wrong with a definition: all of it at once, each thing with its place.

use std::fmt;

use crate::error::{ErrorKind, Kind};

/// One thing that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file: its path as it was loaded, or its name within the definition.
    pub file: String,
    /// Line, from 1.
    pub line: Option<u64>,
    /// Column in the line, from 1.
    pub column: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " ({suggestion})"),
            None => Ok(()),
        }
    }
}

/// A definition that can't be used: everything that is wrong with it, in order of file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl DefinitionError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        problems.dedup();
        Self { problems }
    }

    /// The same problems, with `folder` before each file name.
    pub(super) fn in_folder(mut self, folder: &str) -> Self {
        for problem in &mut self.problems {
            problem.file = format!("{}/{}", folder.trim_end_matches('/'), problem.file);
        }
        self
    }
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DefinitionError {}

impl ErrorKind for DefinitionError {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }
}
