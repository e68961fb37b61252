//! Whether indices are those that were meant, with what was written to them.
//!
//! An index's id is not enough for that: where it is restored over itself, or its shard is allocated by force, empty or as it was
//! long ago, it keeps the id, and rows are gone. What changes then is the *history*, an id that each shard has of the documents
//! that were ever written to it: so both are compared. And an alias of ours may come to be another index's too, as where an index is
//! restored under another name: what was read by it then is of both.

use std::collections::BTreeMap;

use opensearch::http::Method;
use serde::Deserialize;
use serde_json::Value;
use tidemark_shared::backoff::Attempts;

use crate::calls::Call;
use crate::client::{Answer, BUSY};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::indices::{aliases, portions};
use crate::state::IndexRef;

/// What tells an index from another of its name, and from itself with other documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: String,
    /// `None` if no copy of it can say so at this moment.
    pub(crate) history: Option<String>,
}

/// An index that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) identity: Identity,
    /// Those of its aliases that are ours.
    pub(crate) aliases: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Stats {
    #[serde(default)]
    indices: BTreeMap<String, OfIndex>,
}

#[derive(Debug, Deserialize)]
struct OfIndex {
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    shards: BTreeMap<String, Vec<OfCopy>>,
}

#[derive(Debug, Deserialize)]
struct OfCopy {
    #[serde(default)]
    routing: Value,
    #[serde(default)]
    commit: Value,
}

impl Identity {
    /// True if it is another index than the one that was written down, or has other documents. What is not known is held against
    /// none.
    pub(crate) fn is_not(&self, index: &IndexRef) -> bool {
        let histories = self.history.as_ref().zip(index.history.as_ref());
        self.uuid != index.uuid || histories.is_some_and(|(found, known)| found != known)
    }
}

impl Present {
    /// True if it is the index that was written down, as it was. Whose it is need not be read from its mapping: by its id it is known.
    ///
    /// Without the alias that was written down with it, it is not: the alias may have led to another index for a while, and what was
    /// written by it then is there, and counts, and is not here.
    pub(crate) fn is_as(&self, index: &IndexRef) -> bool {
        !self.identity.is_not(index) && self.aliases.contains(&index.alias)
    }
}

/// The identities in an answer, by the indices' names. One that has no copy at this moment is not among them.
fn identities(answer: &Answer) -> Result<BTreeMap<String, Identity>, Failure> {
    let stats: Stats = answer.read()?;
    let one = |(name, OfIndex { uuid, shards }): (String, OfIndex)| {
        let history = history_of(shards.values().flatten());
        (name, Identity { uuid, history })
    };
    Ok(stats.indices.into_iter().map(one).collect())
}

/// The history of a shard, as its copies tell it: the primary first, and while that moves or another takes its place, any other that
/// may be read. One that is still being made may tell what its disk held long ago.
fn history_of<'a>(copies: impl Iterator<Item = &'a OfCopy>) -> Option<String> {
    let is_read = |copy: &&OfCopy| matches!(copy.routing["state"].as_str(), Some("STARTED" | "RELOCATING"));
    let (primary, others): (Vec<_>, Vec<_>) = copies.filter(is_read).partition(|copy| copy.routing["primary"] == true);
    let mut all = primary.into_iter().chain(others);
    all.find_map(|copy| copy.commit["user_data"]["history_uuid"].as_str()).map(str::to_owned)
}

/// Compares indices with what the cluster says of those that their aliases stand for.
fn compared(indices: &[IndexRef], answer: &Answer) -> Result<(), Failure> {
    let found = identities(answer)?;
    let is_meant = |name: &&String| indices.iter().any(|index| index.name == **name);
    if let Some(other) = found.keys().find(|name| !is_meant(name)) {
        let IndexRef { name, alias, .. } = &indices[0];
        return Err(Failure::AliasShared { index: name.clone(), alias: alias.clone(), other: other.clone() });
    }
    for index in indices {
        let gone = || Failure::IndexGone { index: index.name.clone() };
        let silent = || answer.incomplete(format!("no copy of `{}` says what it holds", index.name));
        let identity = found.get(&index.name).ok_or_else(silent)?;
        if identity.is_not(index) {
            return Err(gone());
        }
        if index.history.is_some() && identity.history.is_none() {
            return Err(silent());
        }
    }
    Ok(())
}

impl Cluster {
    /// What the copies of indices say of themselves. Their nodes have that in memory.
    async fn said_by(&self, indices: &str) -> Result<Answer, Failure> {
        let of_copies = "indices.*.shards.*.routing,indices.*.shards.*.commit.user_data.history_uuid";
        // Of the figures that there are, the least: none can't be asked for.
        let path = format!("{indices}/_stats/flush?level=shards&filter_path=indices.*.uuid,{of_copies}");
        self.send(Call::Other, Method::Get, &path, None).await
    }

    /// Checks that indices are the ones that they were when their ids were written down, with what was written to them, and that no
    /// other one is addressed with them. To be called after they were read.
    ///
    /// # Errors
    /// [`Failure::IndexGone`] if one is gone, or another, or has lost what it held; [`Failure::AliasShared`];
    /// [`Failure::Incomplete`] if that can't be told.
    pub(crate) async fn check_identity(&self, indices: &[IndexRef]) -> Result<(), Failure> {
        for some in portions(indices) {
            let mut attempts = Attempts::new(BUSY);
            let outcome = loop {
                let outcome = compared(some, &self.said_by(&aliases(some)).await?);
                // Where a node went, another has not said yet that it took its place.
                let is_silent = matches!(outcome, Err(Failure::Incomplete { .. }));
                if !is_silent || !attempts.again(self.ambient.random()).await {
                    break outcome;
                }
            };
            match (outcome, some) {
                (Err(failure), [one]) => return Err(failure.about(&one.name)),
                // The one of them that it is about is the one to name.
                (Err(failure), [_, _, ..])
                    if failure.is_missing() || matches!(failure, Failure::AliasShared { .. }) =>
                {
                    for one in some {
                        Box::pin(self.check_identity(std::slice::from_ref(one))).await?;
                    }
                    return Err(failure);
                }
                (outcome, _) => outcome?,
            }
        }
        Ok(())
    }

    /// What an index holds at this moment: asked before anything is written to it, so that it is known to be there afterwards.
    ///
    /// # Errors
    /// [`Failure::IndexGone`] if it is not the one of that id; [`Failure::Incomplete`] if no copy can say so yet.
    pub(crate) async fn history(&self, name: &str, uuid: &str) -> Result<String, Failure> {
        let gone = || Failure::IndexGone { index: name.to_owned() };
        let mut attempts = Attempts::new(BUSY);
        loop {
            let answer = self.said_by(name).await?;
            let found = identities(&answer).map_err(|failure| failure.about(name))?.remove(name);
            match found {
                Some(identity) if identity.uuid != uuid => return Err(gone()),
                Some(Identity { history: Some(history), .. }) => return Ok(history),
                _ => {}
            }
            if !attempts.again(self.ambient.random()).await {
                return Err(answer.incomplete(format!("no copy of `{name}` says what it holds")));
            }
        }
    }

    /// The indices that a pattern matches, by name.
    pub(crate) async fn present(&self, pattern: &str) -> Result<BTreeMap<String, Present>, Failure> {
        let described = self.describe(pattern).await?;
        let mut said = identities(&self.said_by(pattern).await?)?;
        // One without a copy, as one that is red, is there all the same.
        let all = described.into_iter().map(|index| {
            let history = said.remove(&index.name).filter(|said| said.uuid == index.uuid).and_then(|said| said.history);
            (index.name, Present { identity: Identity { uuid: index.uuid, history }, aliases: index.aliases })
        });
        Ok(all.collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(indices: Value) -> Answer {
        let body = json!({ "indices": indices }).to_string();
        Answer { request: "GET /i/_stats/flush".to_owned(), status: 200, body }
    }

    /// What is said of an index as [`IndexRef::named`] has it, but for its history.
    fn said(name: &str, history: Value) -> Value {
        let copies = [copy(false, "INITIALIZING", json!("a replica's")), copy(true, "STARTED", history)];
        json!({"uuid": format!("id {name}"), "shards": {"0": copies}})
    }

    fn copy(primary: bool, state: &str, history: Value) -> Value {
        json!({"routing": {"primary": primary, "state": state}, "commit": {"user_data": {"history_uuid": history}}})
    }

    #[test]
    fn what_a_shard_holds_is_said_by_any_copy_that_is_read_and_by_the_primary_first() {
        let (primary, replica) = (|| json!("the primary's"), || json!("a replica's"));
        let stateless = json!({"routing": {"primary": true}, "commit": {"user_data": {"history_uuid": "a"}}});
        for (copies, wanted) in [
            (vec![copy(false, "STARTED", replica()), copy(true, "STARTED", primary())], Some("the primary's")),
            (vec![copy(false, "STARTED", replica()), copy(true, "RELOCATING", primary())], Some("the primary's")),
            (vec![copy(false, "STARTED", replica())], Some("a replica's")),
            (vec![copy(true, "INITIALIZING", primary()), copy(false, "STARTED", replica())], Some("a replica's")),
            (vec![copy(true, "STARTED", Value::Null), copy(false, "STARTED", replica())], Some("a replica's")),
            (vec![copy(true, "INITIALIZING", primary()), copy(false, "INITIALIZING", replica())], None),
            (vec![copy(true, "UNASSIGNED", primary())], None),
            (vec![stateless], None),
            (vec![], None),
        ] {
            let found = identities(&answer(json!({"i": {"uuid": "1", "shards": {"0": copies}}}))).unwrap();
            assert_eq!(found["i"].history.as_deref(), wanted, "{copies:?}");
        }
    }

    #[test]
    fn indices_are_those_that_were_meant_with_what_they_held_or_it_is_an_error() {
        let (a, b) = (said("a", json!("history of a")), said("b", json!("history of b")));
        let mut another = a.clone();
        another["uuid"] = json!("another");
        for (of_a, wanted) in [
            (json!({"a": a, "b": b}), ""),
            (json!({"a": another, "b": b}), "index `a` is gone"),
            (json!({"a": said("a", json!("restored")), "b": b}), "index `a` is gone"),
            (json!({"a": said("a", Value::Null), "b": b}), "no copy of `a`"),
            (json!({"b": b}), "no copy of `a`"),
            (json!({}), "no copy of `a`"),
            (json!({"a": a, "b": b, "c": said("c", json!("history of c"))}), "`c`"),
        ] {
            let outcome = compared(&["a", "b"].map(IndexRef::named), &answer(of_a.clone()));
            let told = outcome.err().map(|failure| failure.to_string()).unwrap_or_default();
            assert!(told.contains(wanted) && told.is_empty() == wanted.is_empty(), "{of_a}: {told}");
        }
        // As a release before this one wrote it down.
        let earlier = IndexRef { history: None, ..IndexRef::named("a") };
        for (said_of_it, is_it) in [(said("a", json!("any")), true), (said("a", Value::Null), true), (another, false)] {
            assert_eq!(compared(std::slice::from_ref(&earlier), &answer(json!({ "a": said_of_it }))).is_ok(), is_it);
        }
    }

    #[test]
    fn what_is_not_known_is_held_against_no_index() {
        let index = IndexRef::named("a");
        let is_as = |uuid: &str, history: Option<&str>, aliases: &[&str]| {
            let identity = Identity { uuid: uuid.to_owned(), history: history.map(str::to_owned) };
            let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
            Present { identity, aliases }.is_as(&index)
        };
        let none: &[&str] = &[];
        for (history, wanted) in [(Some("history of a"), true), (None, true), (Some("another"), false)] {
            assert_eq!(is_as("id a", history, &["a.0", "a.1"]), wanted, "{history:?}");
            assert!(!is_as("another", history, &["a.1"]), "{history:?}");
            // By no alias, or by one that was given to it since: nobody knows where the one that it had has led meanwhile.
            for aliases in [none, &["a.2"]] {
                assert!(!is_as("id a", history, aliases), "{history:?} {aliases:?}");
            }
        }
    }
}
