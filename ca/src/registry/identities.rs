//! The identities' table.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::certificates::add_certificate;
use super::{Attribute, Identity, Inserted, NewCertificate, Registry, end_of_scope, in_scope};

const COLUMNS: &str =
    "id, secret_hash, kind, affiliation, attributes, state, max_enrollments, wrong_attempts";

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Identity> {
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
}

pub(super) fn attributes_text(attributes: &[Attribute]) -> rusqlite::Result<String> {
    serde_json::to_string(attributes).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// Every identity of an affiliation and of those below it.
pub(super) fn of_affiliation(
    transaction: &Transaction<'_>,
    affiliation: &str,
) -> rusqlite::Result<Vec<Identity>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM identities WHERE {} ORDER BY id",
        in_scope("affiliation", "?1")
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    statement.query_map([affiliation], from_row)?.collect()
}

/// The authority's own limits of an identity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// -1 for none.
    pub(crate) enrollments: i64,
    /// Wrong secrets in a row before it is locked.
    pub(crate) wrong_attempts: u32,
}

impl Registry {
    pub(crate) fn identity(&self, id: &str) -> rusqlite::Result<Option<Identity>> {
        let sql = format!("SELECT {COLUMNS} FROM identities WHERE id = ?1");
        let connection = self.reader.lock();
        let mut statement = connection.prepare_cached(&sql)?;
        statement.query_row([id], from_row).optional()
    }

    /// The next identities after one, at most `limit`, of an affiliation and those below it, or of all for an empty one.
    /// In the order of the index that finds them: by name, or by affiliation and name.
    pub(crate) fn identities_after(
        &self,
        after: Option<&Identity>,
        scope: &str,
        limit: u32,
    ) -> rusqlite::Result<Vec<Identity>> {
        let connection = self.reader.lock();
        let id = after.map_or("", |i| i.id.as_str());
        if scope.is_empty() {
            let sql = format!("SELECT {COLUMNS} FROM identities WHERE id > ?1 ORDER BY id LIMIT ?2");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![id, limit], from_row)?;
            return rows.collect();
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM identities
             WHERE (affiliation, id) > (?1, ?2) AND affiliation < ?3 AND {}
             ORDER BY affiliation, id LIMIT ?5",
            in_scope("affiliation", "?4")
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let affiliation = after.map_or(scope, |i| i.affiliation.as_str());
        let rows = statement.query_map(
            params![affiliation, id, end_of_scope(scope), scope, limit],
            from_row,
        )?;
        rows.collect()
    }

    pub(crate) fn insert(&self, identity: &Identity) -> rusqlite::Result<Inserted> {
        let rows = self.connection.lock().execute(
            "INSERT OR IGNORE INTO identities (id, secret_hash, kind, affiliation, attributes, state, max_enrollments)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                identity.id,
                identity.secret_hash,
                identity.kind,
                identity.affiliation,
                attributes_text(&identity.attributes)?,
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

    /// Writes what a directory says of an identity; what the authority itself counts stays.
    pub(crate) fn mirror(&self, identity: &Identity) -> rusqlite::Result<()> {
        self.connection
            .lock()
            .execute(
                "UPDATE identities SET kind = ?2, affiliation = ?3, attributes = ?4, max_enrollments = ?5 WHERE id = ?1",
                params![
                    identity.id,
                    identity.kind,
                    identity.affiliation,
                    attributes_text(&identity.attributes)?,
                    identity.max_enrollments
                ],
            )
            .map(drop)
    }

    /// Writes everything but name and state, and forgets wrong attempts; false when the identity is gone.
    pub(crate) fn update(&self, identity: &Identity) -> rusqlite::Result<bool> {
        let rows = self.connection.lock().execute(
            "UPDATE identities SET secret_hash = ?2, kind = ?3, affiliation = ?4, attributes = ?5,
             max_enrollments = ?6, wrong_attempts = 0 WHERE id = ?1",
            params![
                identity.id,
                identity.secret_hash,
                identity.kind,
                identity.affiliation,
                attributes_text(&identity.attributes)?,
                identity.max_enrollments
            ],
        )?;
        Ok(rows == 1)
    }

    /// Removes an identity and revokes its certificates; false when it is gone already.
    pub(crate) fn remove_identity(&self, id: &str, now: i64, reason: u8) -> rusqlite::Result<bool> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        let removed = remove(&transaction, id, now, reason)?;
        transaction.commit()?;
        Ok(removed)
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

    /// Counts an enrolment if one is left and the identity is not locked, and keeps the certificate that was issued for
    /// it: both or none. False when no enrolment is left, or the identity was locked or revoked meanwhile.
    pub(crate) fn enroll(&self, certificate: &NewCertificate<'_>, limits: Limits) -> rusqlite::Result<bool> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        let rows = transaction
            .prepare_cached(
                "UPDATE identities SET state = state + 1, wrong_attempts = 0
                 WHERE id = ?1 AND state >= 0 AND wrong_attempts < ?2
                 AND (max_enrollments = -1 OR state < max_enrollments) AND (?3 = -1 OR state < ?3)",
            )?
            .execute(params![certificate.id, limits.wrong_attempts, limits.enrollments])?;
        if rows == 1 {
            add_certificate(&transaction, certificate)?;
            transaction.commit()?;
        }
        Ok(rows == 1)
    }
}

pub(super) fn remove(
    transaction: &Transaction<'_>,
    id: &str,
    now: i64,
    reason: u8,
) -> rusqlite::Result<bool> {
    transaction.execute(
        "UPDATE certificates SET revoked_at = ?2, reason = ?3 WHERE id = ?1 AND revoked_at IS NULL",
        params![id, now, reason],
    )?;
    Ok(transaction.execute("DELETE FROM identities WHERE id = ?1", [id])? == 1)
}
