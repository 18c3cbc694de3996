//! The affiliations' table: names such as `org1.department1`, one row each.

use rusqlite::{OptionalExtension, params};

use super::identities::{attributes_text, of_affiliation, remove};
use super::{Attribute, Identity, Registry, in_scope};

/// What went with an affiliation.
#[derive(Debug, Default)]
pub(crate) struct RemovedAffiliation {
    /// The affiliation and those below it.
    pub(crate) affiliations: Vec<String>,
    pub(crate) identities: Vec<Identity>,
}

/// `name`, which is `old` or below it, as it is called when `old` becomes `new`.
fn renamed(name: &str, old: &str, new: &str) -> String {
    format!("{new}{}", name.strip_prefix(old).unwrap_or_default())
}

impl Registry {
    pub(crate) fn add_affiliation(&self, name: &str) -> rusqlite::Result<()> {
        self.add_affiliations(&[name.to_owned()])
    }

    /// Adds those of the names that are missing, all or none.
    pub(crate) fn add_affiliations(&self, names: &[String]) -> rusqlite::Result<()> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        for name in names {
            transaction.execute("INSERT OR IGNORE INTO affiliations (name) VALUES (?1)", [name])?;
        }
        transaction.commit()
    }

    pub(crate) fn has_affiliation(&self, name: &str) -> rusqlite::Result<bool> {
        self.reader
            .lock()
            .query_row("SELECT 1 FROM affiliations WHERE name = ?1", [name], |_| Ok(()))
            .optional()
            .map(|found| found.is_some())
    }

    /// An affiliation and those below it, in order; all for an empty name.
    pub(crate) fn affiliations(&self, scope: &str) -> rusqlite::Result<Vec<String>> {
        let sql = format!(
            "SELECT name FROM affiliations WHERE {} ORDER BY name",
            in_scope("name", "?1")
        );
        let connection = self.reader.lock();
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map([scope], |row| row.get(0))?;
        rows.collect()
    }

    /// Whether an identity belongs to an affiliation or one below it.
    pub(crate) fn affiliation_is_used(&self, name: &str) -> rusqlite::Result<bool> {
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM identities WHERE {})",
            in_scope("affiliation", "?1")
        );
        self.reader.lock().query_row(&sql, [name], |row| row.get(0))
    }

    /// Renames an affiliation, those below it, and the affiliation of the identities in them, whom it returns as they
    /// are now. `parents` are added where they are missing.
    pub(crate) fn rename_affiliation(
        &self,
        old: &str,
        new: &str,
        parents: &[String],
    ) -> rusqlite::Result<Vec<Identity>> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        for parent in parents {
            transaction.execute("INSERT OR IGNORE INTO affiliations (name) VALUES (?1)", [parent])?;
        }
        let sql = format!("SELECT name FROM affiliations WHERE {}", in_scope("name", "?1"));
        let names: Vec<String> = transaction
            .prepare(&sql)?
            .query_map([old], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for name in names {
            transaction.execute(
                "UPDATE affiliations SET name = ?2 WHERE name = ?1",
                [&name, &renamed(&name, old, new)],
            )?;
        }
        let mut identities = of_affiliation(&transaction, old)?;
        for identity in &mut identities {
            identity.affiliation = renamed(&identity.affiliation, old, new);
            identity.set_attribute(Attribute {
                name: "hf.Affiliation".to_owned(),
                value: identity.affiliation.clone(),
                ecert: true,
            });
            transaction.execute(
                "UPDATE identities SET affiliation = ?2, attributes = ?3 WHERE id = ?1",
                params![
                    identity.id,
                    identity.affiliation,
                    attributes_text(&identity.attributes)?
                ],
            )?;
        }
        transaction.commit()?;
        Ok(identities)
    }

    /// Removes an affiliation, those below it, and their identities, whose certificates are revoked.
    pub(crate) fn remove_affiliation(
        &self,
        name: &str,
        now: i64,
        reason: u8,
    ) -> rusqlite::Result<RemovedAffiliation> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        let identities = of_affiliation(&transaction, name)?;
        for identity in &identities {
            remove(&transaction, &identity.id, now, reason)?;
        }
        let sql = format!(
            "DELETE FROM affiliations WHERE {} RETURNING name",
            in_scope("name", "?1")
        );
        let mut affiliations: Vec<String> = transaction
            .prepare(&sql)?
            .query_map([name], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        affiliations.sort();
        transaction.commit()?;
        Ok(RemovedAffiliation {
            affiliations,
            identities,
        })
    }
}
