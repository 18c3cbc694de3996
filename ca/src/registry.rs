//! Identities and issued certificates in SQLite: one database an authority.

use std::path::Path;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::CaServerError;

/// Wrong secrets in a row before an identity is locked (spec 06 §2).
pub(crate) const PASSWORD_ATTEMPTS: u32 = 10;

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
}

/// What became of an attempt to register.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    Exists,
}

/// The database of one authority.
#[derive(Debug)]
pub(crate) struct Registry {
    connection: Mutex<Connection>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS identities (
    id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, kind TEXT NOT NULL, affiliation TEXT NOT NULL,
    attributes TEXT NOT NULL, state INTEGER NOT NULL, max_enrollments INTEGER NOT NULL,
    wrong_attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT NOT NULL, aki TEXT NOT NULL, id TEXT NOT NULL, pem TEXT NOT NULL, not_after INTEGER NOT NULL,
    revoked_at INTEGER, reason INTEGER, PRIMARY KEY (serial, aki)
) STRICT;
CREATE INDEX IF NOT EXISTS certificates_of_id ON certificates (id);
CREATE TABLE IF NOT EXISTS affiliations (name TEXT PRIMARY KEY) STRICT;
";

impl Registry {
    /// Opens or makes a registry.
    pub(crate) fn open(path: &Path) -> Result<Self, CaServerError> {
        let failed = |source| CaServerError::Registry {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(failed)?;
        // FULL: a registration or revocation that was answered must survive a power cut.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
            )
            .map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    pub(crate) fn identity(&self, id: &str) -> rusqlite::Result<Option<Identity>> {
        self.connection
            .lock()
            .query_row(
                "SELECT id, secret_hash, kind, affiliation, attributes, state, max_enrollments, wrong_attempts
                 FROM identities WHERE id = ?1",
                [id],
                |row| {
                    let attributes: String = row.get(4)?;
                    let attributes = serde_json::from_str(&attributes).map_err(|e| {
                        rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Text, Box::new(e))
                    })?;
                    Ok(Identity {
                        id: row.get(0)?,
                        secret_hash: row.get(1)?,
                        kind: row.get(2)?,
                        affiliation: row.get(3)?,
                        attributes,
                        state: row.get(5)?,
                        max_enrollments: row.get(6)?,
                        wrong_attempts: row.get(7)?,
                    })
                },
            )
            .optional()
    }

    pub(crate) fn insert(&self, identity: &Identity) -> rusqlite::Result<Inserted> {
        let attributes = serde_json::to_string(&identity.attributes)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        let rows = self.connection.lock().execute(
            "INSERT OR IGNORE INTO identities (id, secret_hash, kind, affiliation, attributes, state, max_enrollments)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                identity.id,
                identity.secret_hash,
                identity.kind,
                identity.affiliation,
                attributes,
                identity.state,
                identity.max_enrollments
            ],
        )?;
        Ok(if rows == 1 {
            Inserted::New
        } else {
            Inserted::Exists
        })
    }

    pub(crate) fn count_wrong_attempt(&self, id: &str) -> rusqlite::Result<()> {
        self.connection
            .lock()
            .execute(
                "UPDATE identities SET wrong_attempts = wrong_attempts + 1 WHERE id = ?1",
                [id],
            )
            .map(drop)
    }

    /// Counts an enrolment if one is left; false when the last one was used meanwhile.
    pub(crate) fn use_enrollment(&self, id: &str) -> rusqlite::Result<bool> {
        let rows = self.connection.lock().execute(
            "UPDATE identities SET state = state + 1, wrong_attempts = 0
             WHERE id = ?1 AND state >= 0 AND (max_enrollments = -1 OR state < max_enrollments)",
            [id],
        )?;
        Ok(rows == 1)
    }

    pub(crate) fn add_certificate(
        &self,
        serial: &str,
        aki: &str,
        id: &str,
        pem: &str,
        not_after: i64,
    ) -> rusqlite::Result<()> {
        self.connection
            .lock()
            .execute(
                "INSERT INTO certificates (serial, aki, id, pem, not_after) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![serial, aki, id, pem, not_after],
            )
            .map(drop)
    }

    pub(crate) fn is_revoked(&self, serial: &str, aki: &str) -> rusqlite::Result<bool> {
        self.connection
            .lock()
            .query_row(
                "SELECT revoked_at IS NOT NULL FROM certificates WHERE serial = ?1 AND aki = ?2",
                [serial, aki],
                |row| row.get(0),
            )
            .optional()
            .map(|found| found.unwrap_or(false))
    }

    pub(crate) fn add_affiliation(&self, name: &str) -> rusqlite::Result<()> {
        self.connection
            .lock()
            .execute("INSERT OR IGNORE INTO affiliations (name) VALUES (?1)", [name])
            .map(drop)
    }

    pub(crate) fn has_affiliation(&self, name: &str) -> rusqlite::Result<bool> {
        self.connection
            .lock()
            .query_row("SELECT 1 FROM affiliations WHERE name = ?1", [name], |_| Ok(()))
            .optional()
            .map(|found| found.is_some())
    }
}
