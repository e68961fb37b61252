//! The roles that a process takes, and whether they go with the other settings.

use std::collections::BTreeSet;
use std::fmt;

use super::{Config, ConfigError, Origin};

/// A part of the platform that a process of its own can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Writes the log's records into the raw zone.
    Archiver,
    /// Keeps the real-time views up.
    Indexer,
    /// Runs the batch layer.
    Batch,
    /// Answers questions and takes records.
    Serving,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Archiver, Self::Indexer, Self::Batch, Self::Serving];

    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Archiver => "archiver",
            Self::Indexer => "indexer",
            Self::Batch => "batch",
            Self::Serving => "serving",
        }
    }
}

/// The roles of one process: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Those that a text names: `all`, or names with commas between them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "all" {
            return Ok(Self::all());
        }
        let named = |word: &str| {
            let found = Role::ALL.into_iter().find(|role| role.name() == word.trim());
            let known = Role::ALL.map(Role::name).join(", ");
            found.ok_or_else(|| format!("`{}` is no role: {known}, or all", word.trim()))
        };
        Ok(Self(text.split(',').map(named).collect::<Result<_, _>>()?))
    }

    /// All roles.
    #[must_use]
    pub fn all() -> Self {
        Self(Role::ALL.into())
    }

    /// True if the process has all of them.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }

    /// True if the process has this one.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|role| role.name()).collect()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

impl Config {
    /// Whether the process may have a part of the roles, with what the others would share with it.
    ///
    /// # Errors
    /// The settings that forbid a part.
    pub fn check_roles(&self) -> Result<(), ConfigError> {
        let roles = &self.server.roles;
        if roles.are_all() {
            return Ok(());
        }
        let is_default =
            |path: &str| self.effective.iter().any(|value| value.key.path() == path && value.origin == Origin::Default);
        // The catalog is for who registers tables and for who asks for them.
        let asks_catalog = roles.has(Role::Batch) || roles.has(Role::Serving);
        let forbidding = [
            (self.server.own_log(), "log.url", "an embedded log is one process's: name a Kafka by --log-url"),
            (
                self.server.own_views(),
                "live.url",
                "views in memory are one process's: name an OpenSearch by --live-url",
            ),
            (
                is_default("store.url"),
                "store.url",
                "the others would have stores of their own: name the one of all by --store-url",
            ),
            (
                asks_catalog && is_default("catalog.url"),
                "catalog.url",
                "the others would have catalogs of their own: name the one of all by --catalog-url",
            ),
        ];
        let problems: Vec<String> = forbidding
            .into_iter()
            .filter(|(forbids, _, _)| *forbids)
            .map(|(_, key, reason)| format!("`{key}` forbids a process that is only {roles}: {reason}"))
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Flags, resolve};

    #[test]
    fn roles_are_named_and_counted_once() {
        let names = |text: &str| Roles::parse(text).map(|roles| roles.to_string());
        assert_eq!(names("all"), Ok("archiver, indexer, batch, serving".to_owned()));
        assert_eq!(names(" serving, archiver,serving"), Ok("archiver, serving".to_owned()));
        assert!(Roles::parse("serving,batch,indexer,archiver").is_ok_and(|roles| roles.are_all()));
        for wrong in ["", "serving,", "aws", "all,batch"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
        assert!(names("aws").is_err_and(|error| error.contains("`aws` is no role: archiver")));
    }

    #[test]
    fn a_part_of_the_roles_needs_what_several_processes_can_share() {
        let shared = [
            ("TIDEMARK_LOG_URL", "kafka://k:1"),
            ("TIDEMARK_LIVE_URL", "opensearch+http://o:1"),
            ("TIDEMARK_STORE_URL", "s3://b/p"),
            ("TIDEMARK_CATALOG_URL", "postgres://u@p/d"),
        ];
        let problems = |roles: &str, without: &str| -> Vec<String> {
            let env = |name: &str| match name {
                "TIDEMARK_ROLES" => Some(roles.to_owned()),
                _ => shared.iter().find(|(key, _)| *key == name && name != without).map(|(_, url)| (*url).to_owned()),
            };
            let config = resolve(None, &env, &Flags::default(), Path::new("/srv")).expect("valid by itself");
            config.check_roles().err().map(|error| error.problems).unwrap_or_default()
        };
        let forbidden = |roles: &str, without: &str| -> Vec<String> {
            let problems = problems(roles, without);
            problems.iter().filter_map(|problem| problem.split('`').nth(1)).map(str::to_owned).collect()
        };
        assert_eq!(forbidden("indexer", ""), Vec::<String>::new());
        for (without, key) in [
            ("TIDEMARK_LOG_URL", "log.url"),
            ("TIDEMARK_LIVE_URL", "live.url"),
            ("TIDEMARK_STORE_URL", "store.url"),
            ("TIDEMARK_CATALOG_URL", "catalog.url"),
        ] {
            assert_eq!(forbidden("batch,serving", without), [key]);
            let flag = format!(" by --{}", key.replace('.', "-"));
            assert!(problems("batch,serving", without)[0].ends_with(&flag), "{flag}");
            assert_eq!(forbidden("all", without), Vec::<String>::new());
        }
        assert_eq!(forbidden("archiver", "TIDEMARK_CATALOG_URL"), Vec::<String>::new());
    }
}
