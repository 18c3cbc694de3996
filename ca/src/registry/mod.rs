//! Identities, affiliations and issued certificates in SQLite: one database an authority.

mod affiliations;
mod certificates;
mod identities;
mod statistics;

use std::path::Path;

use parking_lot::Mutex;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::CaServerError;

pub(crate) use certificates::{CertificateFilter, NewCertificate, Period, StoredCertificate, normal_hex};
pub(crate) use identities::Limits;
pub(crate) use statistics::Count;

/// An attribute of an identity; `ecert` ones go into certificates unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) ecert: bool,
}

/// A registered identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) secret_hash: String,
    pub(crate) kind: String,
    pub(crate) affiliation: String,
    pub(crate) attributes: Vec<Attribute>,
    /// -1 revoked, otherwise the enrolments so far.
    pub(crate) state: i64,
    /// -1 for no limit.
    pub(crate) max_enrollments: i64,
    pub(crate) wrong_attempts: u32,
}

impl Identity {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|a| a.name == name)
            .map(|a| a.value.as_str())
    }

    /// Whether a boolean attribute is true, in any of the spellings that Go takes.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name)
            .is_some_and(|value| matches!(value.to_lowercase().as_str(), "true" | "t" | "1"))
    }

    /// Sets, adds or (with an empty value) deletes an attribute.
    pub(crate) fn set_attribute(&mut self, attribute: Attribute) {
        let position = self.attributes.iter().position(|a| a.name == attribute.name);
        match position {
            Some(at) if attribute.value.is_empty() => drop(self.attributes.remove(at)),
            Some(at) => self.attributes[at] = attribute,
            None if attribute.value.is_empty() => {}
            None => self.attributes.push(attribute),
        }
    }
}

/// What became of an attempt to register.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    Exists,
}

/// The database of one authority. Writers wait for the disk; readers have a connection of their own and do not wait for
/// them.
#[derive(Debug)]
pub(crate) struct Registry {
    connection: Mutex<Connection>,
    reader: Mutex<Connection>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS identities (
    id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, kind TEXT NOT NULL, affiliation TEXT NOT NULL,
    attributes TEXT NOT NULL, state INTEGER NOT NULL, max_enrollments INTEGER NOT NULL,
    wrong_attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS identities_by_affiliation ON identities (affiliation, id);
DROP INDEX IF EXISTS identities_of_affiliation;
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT NOT NULL, aki TEXT NOT NULL, id TEXT NOT NULL, pem TEXT NOT NULL, not_after INTEGER NOT NULL,
    revoked_at INTEGER, reason INTEGER, PRIMARY KEY (serial, aki)
) STRICT;
CREATE INDEX IF NOT EXISTS certificates_of_id ON certificates (id);
CREATE INDEX IF NOT EXISTS certificates_revoked ON certificates (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS affiliations (name TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
";

/// Serial numbers are kept without leading zeros, as callers give them; the first registries had them as encoded.
const SERIALS_WITHOUT_ZEROS: &str = "
UPDATE certificates SET serial = ltrim(serial, '0') WHERE serial LIKE '0%';
PRAGMA user_version = 1;
";

impl Registry {
    /// Opens or makes a registry.
    pub(crate) fn open(path: &Path) -> Result<Self, CaServerError> {
        let failed = |source| CaServerError::Registry {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        // FULL: a registration or revocation that was answered must survive a power cut.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
            )
            .map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        if version < 1 {
            let transaction = connection.transaction().map_err(failed)?;
            transaction.execute_batch(SERIALS_WITHOUT_ZEROS).map_err(failed)?;
            transaction.commit().map_err(failed)?;
        }
        let reader = Connection::open(path).map_err(failed)?;
        reader
            .execute_batch("PRAGMA query_only = ON; PRAGMA busy_timeout = 5000;")
            .map_err(failed)?;
        Ok(Self {
            connection: Mutex::new(connection),
            reader: Mutex::new(reader),
        })
    }

    /// The next value of a counter that starts at 1.
    pub(crate) fn count(&self, name: &str) -> rusqlite::Result<u64> {
        let value: i64 = self.connection.lock().query_row(
            "INSERT INTO counters (name, value) VALUES (?1, 1)
             ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
            [name],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(value).unwrap_or(0))
    }
}

/// The end of the names that begin with an affiliation's: `/` is the character after `.`.
fn end_of_scope(scope: &str) -> String {
    format!("{scope}/")
}

/// SQL that is true when the affiliation in `column` is the one in parameter `scope` or below it; an empty scope covers
/// all. A range, so that the index is used: `/` is the character after `.`.
fn in_scope(column: &str, scope: &str) -> String {
    format!(
        "({scope} = '' OR {column} = {scope} OR ({column} > {scope} || '.' AND {column} < {scope} || '/'))"
    )
}

#[cfg(test)]
mod tests;
