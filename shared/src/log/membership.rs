//! Groups whose members share the partitions of a topic, so that several processes do one work side by side.
//!
//! Who has a partition is a matter of speed alone. A member that was stopped may go on with partitions that others have had
//! for long: whatever members write must be safe against that by itself (conditional puts, epochs), and where a member goes on
//! is what its own output says (H10). A group keeps no positions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::watch;

use super::LogError;

/// Longest name of a group, in bytes.
const GROUP_BYTES_MAX: usize = 400;

/// A group's name: 1 to 400 letters, digits, `.`, `_`, `~` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if no group can be called so.
    pub fn new(name: &str) -> Result<Self, LogError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
        let reason = match name.len() {
            0 => "it is empty",
            length if length > GROUP_BYTES_MAX => "it has more than 400 characters",
            _ if !name.bytes().all(legal) => "only letters, digits, `.`, `_`, `~` and `-` are allowed",
            _ => return Ok(Self(Arc::from(name))),
        };
        Err(LogError::Invalid { what: format!("group name `{name}`"), reason: reason.to_owned() })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Partitions {
    /// All, those that the topic gets later too.
    All,
    /// These.
    Only(BTreeSet<u32>),
}

impl Partitions {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// True if the partition is among them.
    #[must_use]
    pub fn has(&self, partition: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(&partition),
        }
    }
}

/// What a member works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Counts the changes.
    pub number: u64,
    /// True if the group has given the member a share, if only an empty one: there may be more members than partitions.
    pub joined: bool,
    /// The share.
    pub partitions: Partitions,
    /// What went wrong since, if something did.
    pub trouble: Option<String>,
}

/// A place in a group. Whoever has it works on the partitions of the newest assignment and on no others, and
/// [settles](Self::settle) each assignment once nothing is done any more on partitions that it took away. Dropping it leaves
/// the group, sooner or later; [`Self::leave`] does so now.
#[async_trait]
pub trait Membership: Send + Sync + fmt::Debug {
    /// The newest assignment, and those after it.
    fn assignments(&self) -> watch::Receiver<Assignment>;

    /// Says that the assignment of this number, or a later one, is what is worked on: nothing that earlier ones had and it has
    /// not is read or written any more. The group waits for that, for some seconds, before it gives the partition to another
    /// member.
    fn settle(&self, number: u64);

    /// Leaves the group, so that others have the partitions at once. To be called when nothing is done on any of them any more.
    /// Leaving twice is no error.
    async fn leave(&self);
}

/// A place in a group that nobody else can be in: of logs that one process has.
#[derive(Debug)]
pub struct Alone(watch::Sender<Assignment>);

impl Default for Alone {
    fn default() -> Self {
        let all = Assignment { number: 1, joined: true, partitions: Partitions::All, trouble: None };
        Self(watch::Sender::new(all))
    }
}

#[async_trait]
impl Membership for Alone {
    fn assignments(&self) -> watch::Receiver<Assignment> {
        self.0.subscribe()
    }

    fn settle(&self, _number: u64) {}

    async fn leave(&self) {}
}

/// A place in a group as those have it who work by it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Share {
    membership: Arc<dyn Membership>,
    assignments: watch::Receiver<Assignment>,
}

impl Default for Share {
    /// Everything, for ever.
    fn default() -> Self {
        Self::of(Arc::new(Alone::default()))
    }
}

impl Share {
    /// What a member works on.
    #[must_use]
    pub fn of(membership: Arc<dyn Membership>) -> Self {
        Self { assignments: membership.assignments(), membership }
    }

    /// The newest assignment. It stays unseen: see [`Self::take`].
    #[must_use]
    pub fn assignment(&self) -> Assignment {
        self.assignments.borrow().clone()
    }

    /// The newest assignment, which is seen from now on.
    pub fn take(&mut self) -> Assignment {
        self.assignments.borrow_and_update().clone()
    }

    /// True if there is an assignment that this one has not seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.assignments.has_changed().unwrap_or(false)
    }

    /// Returns when there is an assignment that was not seen; it stays unseen.
    pub async fn changed(&self) {
        let mut assignments = self.assignments.clone();
        if assignments.changed().await.is_err() {
            // nobody will ever give another one
            std::future::pending::<()>().await;
        }
    }

    /// See [`Membership::settle`].
    pub fn settle(&self, assignment: &Assignment) {
        self.membership.settle(assignment.number);
    }

    /// See [`Membership::leave`].
    pub async fn leave(&self) {
        self.membership.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups_are_checked() {
        for name in ["a", "tidemark-indexer-trips-0001-ab.c_d~2"] {
            assert_eq!(GroupName::new(name).map(|name| name.to_string()).ok().as_deref(), Some(name));
        }
        for name in ["", "a b", "a/b", "ü", &"x".repeat(401)] {
            assert!(GroupName::new(name).is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_change_is_unseen_until_it_is_taken() {
        let alone = Alone::default();
        let assignments = alone.0.clone();
        let mut share = Share::of(Arc::new(alone));
        assert!(!share.has_changed());
        let none = Assignment { number: 2, joined: true, partitions: Partitions::none(), trouble: None };
        assignments.send_replace(none.clone());
        share.changed().await;
        assert!(share.has_changed() && share.clone().has_changed());
        assert_eq!(share.assignment(), none);
        assert!(share.has_changed());
        assert_eq!(share.take(), none);
        assert!(!share.has_changed());
    }
}
