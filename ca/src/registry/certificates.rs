//! The certificates' table: what was issued, and what was revoked.

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::{Registry, in_scope};

/// Hexadecimal as callers write it, made comparable: lower case, no colons, no leading zeros.
pub(crate) fn normal_hex(text: &str) -> String {
    let plain: String = text.chars().filter(|c| *c != ':').collect();
    plain.to_lowercase().trim_start_matches('0').to_owned()
}

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredCertificate {
    /// Hexadecimal without leading zeros.
    pub(crate) serial: String,
    pub(crate) aki: String,
    pub(crate) id: String,
    /// Unix seconds; none while it is not revoked.
    pub(crate) revoked_at: Option<i64>,
    /// RFC 5280 reason code; 0 while it is not revoked.
    pub(crate) reason: u8,
}

/// A certificate that was just issued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCertificate<'a> {
    /// Hexadecimal in any spelling.
    pub(crate) serial: &'a str,
    /// Hexadecimal of the authority's key.
    pub(crate) aki: &'a str,
    /// Whose it is.
    pub(crate) id: &'a str,
    pub(crate) pem: &'a str,
    /// Unix seconds.
    pub(crate) not_after: i64,
}

pub(super) fn add_certificate(
    connection: &Connection,
    certificate: &NewCertificate<'_>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO certificates (serial, aki, id, pem, not_after) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            normal_hex(certificate.serial),
            certificate.aki,
            certificate.id,
            certificate.pem,
            certificate.not_after
        ])
        .map(drop)
}

/// A stretch of time in Unix seconds; an absent end is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) start: Option<i64>,
    pub(crate) end: Option<i64>,
}

/// Which certificates a caller wants to see. Empty texts and absent values filter nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct CertificateFilter {
    /// Affiliation of the caller: only certificates of identities in it or below.
    pub(crate) scope: String,
    pub(crate) id: String,
    /// As [`normal_hex`] gives it.
    pub(crate) serial: String,
    /// As [`normal_hex`] gives it.
    pub(crate) aki: String,
    pub(crate) revoked: Period,
    pub(crate) expires: Period,
    pub(crate) not_revoked: bool,
}

impl Registry {
    /// Keeps a certificate that used up no enrolment.
    pub(crate) fn add_certificate(&self, certificate: &NewCertificate<'_>) -> rusqlite::Result<()> {
        add_certificate(&self.connection.lock(), certificate)
    }

    /// A certificate by serial number and authority key, both hexadecimal in any spelling.
    pub(crate) fn certificate(&self, serial: &str, aki: &str) -> rusqlite::Result<Option<StoredCertificate>> {
        self.reader
            .lock()
            .query_row(
                "SELECT serial, aki, id, revoked_at, coalesce(reason, 0) FROM certificates
                 WHERE serial = ?1 AND ltrim(aki, '0') = ?2",
                [normal_hex(serial), normal_hex(aki)],
                |row| {
                    Ok(StoredCertificate {
                        serial: row.get(0)?,
                        aki: row.get(1)?,
                        id: row.get(2)?,
                        revoked_at: row.get(3)?,
                        reason: row.get(4)?,
                    })
                },
            )
            .optional()
    }

    pub(crate) fn is_revoked(&self, serial: &str, aki: &str) -> rusqlite::Result<bool> {
        let found = self.certificate(serial, aki)?;
        Ok(found.is_some_and(|c| c.revoked_at.is_some()))
    }

    /// Revokes one certificate; false when it was revoked already.
    pub(crate) fn revoke_certificate(
        &self,
        certificate: &StoredCertificate,
        now: i64,
        reason: u8,
    ) -> rusqlite::Result<bool> {
        let rows = self.connection.lock().execute(
            "UPDATE certificates SET revoked_at = ?3, reason = ?4
             WHERE serial = ?1 AND aki = ?2 AND revoked_at IS NULL",
            params![certificate.serial, certificate.aki, now, reason],
        )?;
        Ok(rows == 1)
    }

    /// Revokes an identity with all its certificates; serial and authority key of those that were good until now.
    pub(crate) fn revoke_identity(
        &self,
        id: &str,
        now: i64,
        reason: u8,
    ) -> rusqlite::Result<Vec<(String, String)>> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        transaction.execute("UPDATE identities SET state = -1 WHERE id = ?1", [id])?;
        let revoked = transaction
            .prepare(
                "UPDATE certificates SET revoked_at = ?2, reason = ?3 WHERE id = ?1 AND revoked_at IS NULL
                 RETURNING serial, aki",
            )?
            .query_map(params![id, now, reason], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        transaction.commit()?;
        Ok(revoked)
    }

    /// Revoked certificates for a CRL, in the order of their revocation: both periods include their ends.
    pub(crate) fn revoked(
        &self,
        revoked: Period,
        expires: Period,
    ) -> rusqlite::Result<Vec<StoredCertificate>> {
        let connection = self.reader.lock();
        let mut statement = connection.prepare_cached(
            "SELECT serial, aki, id, revoked_at, coalesce(reason, 0) FROM certificates
             WHERE revoked_at IS NOT NULL AND revoked_at >= ?1 AND revoked_at <= ?2
             AND not_after >= ?3 AND not_after <= ?4 ORDER BY revoked_at, serial",
        )?;
        let ends = params![
            revoked.start.unwrap_or(i64::MIN),
            revoked.end.unwrap_or(i64::MAX),
            expires.start.unwrap_or(i64::MIN),
            expires.end.unwrap_or(i64::MAX)
        ];
        let rows = statement.query_map(ends, |row| {
            Ok(StoredCertificate {
                serial: row.get(0)?,
                aki: row.get(1)?,
                id: row.get(2)?,
                revoked_at: row.get(3)?,
                reason: row.get(4)?,
            })
        })?;
        rows.collect()
    }

    /// The next certificates after row `after` (0 at the start), at most `limit`: row and PEM.
    pub(crate) fn certificates_after<'f>(
        &self,
        after: i64,
        filter: &'f CertificateFilter,
        limit: u32,
    ) -> rusqlite::Result<Vec<(i64, String)>> {
        let mut sql = "SELECT c.rowid, c.pem FROM certificates c".to_owned();
        let mut parameters: Vec<(&str, &dyn ToSql)> = vec![(":after", &after), (":limit", &limit)];
        if !filter.scope.is_empty() {
            sql.push_str(" JOIN identities i ON i.id = c.id");
        }
        sql.push_str(" WHERE c.rowid > :after");
        // Only what is asked for, so that the indexes of names and serial numbers are used.
        let mut add = |wanted: bool, name: &'static str, value: &'f dyn ToSql, condition: &str| {
            if wanted {
                parameters.push((name, value));
                sql.push_str(" AND ");
                sql.push_str(condition);
            }
        };
        let (revoked, expires) = (&filter.revoked, &filter.expires);
        let scope = in_scope("i.affiliation", ":scope");
        add(!filter.scope.is_empty(), ":scope", &filter.scope, &scope);
        add(!filter.id.is_empty(), ":id", &filter.id, "c.id = :id");
        add(
            !filter.serial.is_empty(),
            ":serial",
            &filter.serial,
            "c.serial = :serial",
        );
        add(
            !filter.aki.is_empty(),
            ":aki",
            &filter.aki,
            "ltrim(c.aki, '0') = :aki",
        );
        for (wanted, name, value, condition) in [
            (
                revoked.start.is_some(),
                ":from",
                &revoked.start,
                "c.revoked_at >= :from",
            ),
            (revoked.end.is_some(), ":to", &revoked.end, "c.revoked_at <= :to"),
            (
                expires.start.is_some(),
                ":expires_from",
                &expires.start,
                "c.not_after >= :expires_from",
            ),
            (
                expires.end.is_some(),
                ":expires_to",
                &expires.end,
                "c.not_after <= :expires_to",
            ),
        ] {
            add(wanted, name, value, condition);
        }
        if filter.not_revoked {
            sql.push_str(" AND c.revoked_at IS NULL");
        }
        sql.push_str(" ORDER BY c.rowid LIMIT :limit");
        let connection = self.reader.lock();
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(parameters.as_slice(), |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }
}
