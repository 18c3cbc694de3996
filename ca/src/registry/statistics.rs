//! How much a registry holds.

use super::Registry;

/// What can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Registered identities, the revoked ones too.
    Identities,
    /// Enrolments: certificates issued.
    Certificates,
    /// Of those, revoked.
    Revoked,
}

impl Registry {
    /// Counts rows, in an index.
    pub(crate) fn number_of(&self, what: Count) -> rusqlite::Result<u32> {
        let sql = match what {
            Count::Identities => "SELECT count(*) FROM identities",
            Count::Certificates => "SELECT count(*) FROM certificates",
            Count::Revoked => "SELECT count(*) FROM certificates WHERE revoked_at IS NOT NULL",
        };
        let connection = self.reader.lock();
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row([], |row| row.get(0))
    }

    /// Whether it can be read.
    pub(crate) fn check(&self) -> rusqlite::Result<()> {
        let connection = self.reader.lock();
        let mut statement = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM identities)")?;
        statement.query_row([], |_| Ok(()))
    }
}
