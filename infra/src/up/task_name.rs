//! What background tasks are called: in logs, in the status, in metrics, and where readiness looks for those of a dataset.

use std::fmt;

use serde::{Serialize, Serializer};

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TaskKind {
    /// Archives a stream.
    Archiver,
    /// Runs the batch layer on a dataset.
    Batch,
    /// Registers a dataset's table in the catalog, after a batch run.
    Catalog,
    /// Takes up a newer definition of a stream that is open.
    Definition,
    /// Looks which datasets there are.
    Definitions,
    /// Keeps the view of a generation up.
    Indexer,
    /// Keeps the speed layer in step with what was curated: of one dataset; or the loop for all.
    Keeper,
    /// Looks for positions that other processes move.
    Positions,
    /// Opens a dataset's stream.
    Stream,
}

impl TaskKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Archiver => "archiver",
            Self::Batch => "batch",
            Self::Catalog => "catalog",
            Self::Definition => "definition",
            Self::Definitions => "definitions",
            Self::Indexer => "indexer",
            Self::Keeper => "keeper",
            Self::Positions => "positions",
            Self::Stream => "stream",
        }
    }

    /// True if it works on a dataset's stream and views.
    pub(super) fn is_of_stream(self) -> bool {
        matches!(self, Self::Archiver | Self::Indexer | Self::Keeper | Self::Stream)
    }
}

/// A task's name. Its text is for people: nothing is read from it, for a dataset may be called as anything else is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskName {
    pub(super) kind: TaskKind,
    /// The dataset that it works for; `None`: for all.
    pub(super) dataset: Option<String>,
    /// What of the dataset, where it has several tasks of the kind: a generation.
    pub(super) detail: Option<String>,
}

impl TaskName {
    /// That of a task of the whole process.
    pub(super) fn of_process(kind: TaskKind) -> Self {
        Self { kind, dataset: None, detail: None }
    }

    /// That of a dataset's task.
    pub(super) fn of(kind: TaskKind, dataset: &str) -> Self {
        Self { kind, dataset: Some(dataset.to_owned()), detail: None }
    }

    /// That of the indexer of a dataset's generation.
    pub(super) fn of_indexer(dataset: &str, generation: &str) -> Self {
        Self { detail: Some(generation.to_owned()), ..Self::of(TaskKind::Indexer, dataset) }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        for word in [&self.dataset, &self.detail].into_iter().flatten() {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

/// As its text, so that it can be a key of the status.
impl Serialize for TaskName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn people_read_what_it_does_for_whom() {
        for (name, text) in [
            (TaskName::of_process(TaskKind::Keeper), "keeper"),
            (TaskName::of(TaskKind::Catalog, "of"), "catalog of"),
            (TaskName::of_indexer("orders", "g1"), "indexer orders g1"),
        ] {
            assert_eq!(name.to_string(), text);
            let json = serde_json::to_string(&BTreeMap::from([(name, 1)])).expect("its text is a key");
            assert_eq!(json, format!("{{\"{text}\":1}}"));
        }
    }
}
