//! How much a registry holds.

use super::Registry;

/// Rows of a registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Registered identities, the revoked ones too.
    pub(crate) identities: u32,
    /// Enrolments: certificates issued.
    pub(crate) certificates: u32,
    /// Of those, revoked.
    pub(crate) revoked: u32,
}

impl Registry {
    /// Counts the rows.
    pub(crate) fn statistics(&self) -> rusqlite::Result<Statistics> {
        self.connection.lock().query_row(
            "SELECT (SELECT count(*) FROM identities), (SELECT count(*) FROM certificates),
                    (SELECT count(*) FROM certificates WHERE revoked_at IS NOT NULL)",
            [],
            |row| {
                Ok(Statistics {
                    identities: row.get(0)?,
                    certificates: row.get(1)?,
                    revoked: row.get(2)?,
                })
            },
        )
    }
}
