//! What to do with the files given to `ingest`: a pure decision over the ledger's state.

use std::collections::{BTreeMap, BTreeSet};

use super::{LedgerState, Standing};

/// A file that somebody wants in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name in the ledger.
    pub name: String,
    /// SHA-256 of its bytes, lower-case hex.
    pub sha256: String,
}

/// What the caller allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Changed content under a known name replaces the old file.
    pub replace: bool,
    /// Known content under a new name is a file of its own.
    pub allow_duplicate: bool,
}

/// What happens to a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Enters as a new file.
    Add,
    /// Enters in the place of file `number`.
    Replace {
        /// The file that goes.
        number: u64,
    },
    /// Is there already, as file `number`: nothing to do.
    AlreadyThere {
        /// The file's entry.
        number: u64,
        /// True if the gate held it.
        held: bool,
    },
    /// Refused: the name is known with other content, and `replace` was not given.
    ContentChanged {
        /// The file's entry.
        number: u64,
        /// Digest of the content that is there.
        known_sha256: String,
    },
    /// Refused: the content is known under another name, and `allow_duplicate` was not given.
    DuplicateContent {
        /// Name under which the content is known: in the ledger, or earlier in the same request.
        known_name: String,
    },
    /// Refused: two files of one request have the same name.
    DuplicateName,
}

/// Decides for every candidate, in order. Later candidates see the earlier ones as if they were in the ledger.
#[must_use]
pub fn decide(state: &LedgerState, candidates: &[Candidate], options: PlanOptions) -> Vec<Decision> {
    let mut names = BTreeSet::new();
    let mut contents: BTreeMap<&str, &str> = BTreeMap::new();
    candidates
        .iter()
        .map(|candidate| {
            if !names.insert(candidate.name.as_str()) {
                return Decision::DuplicateName;
            }
            let earlier = contents.get(candidate.sha256.as_str()).copied();
            let decision = decide_one(state, candidate, earlier, options);
            contents.entry(&candidate.sha256).or_insert(&candidate.name);
            decision
        })
        .collect()
}

fn decide_one(state: &LedgerState, candidate: &Candidate, earlier: Option<&str>, options: PlanOptions) -> Decision {
    if let Some(known) = state.by_name(&candidate.name) {
        if known.file.sha256 == candidate.sha256 {
            return Decision::AlreadyThere { number: known.number, held: known.standing == Standing::Held };
        }
        if options.replace {
            return Decision::Replace { number: known.number };
        }
        return Decision::ContentChanged { number: known.number, known_sha256: known.file.sha256.clone() };
    }
    if options.allow_duplicate {
        return Decision::Add;
    }
    let known_name = state.by_sha256(&candidate.sha256).map(|known| known.file.name.as_str()).or(earlier);
    known_name.map_or(Decision::Add, |name| Decision::DuplicateContent { known_name: name.to_owned() })
}
