//! Certificates that the authority's key signed without the authority: those that a network was set up with, or that Fabric's
//! `cryptogen` made. Their holders are taken into the registry, so that they can renew and be revoked like all others.

use std::path::Path;

use selvedge_msp::Certificate;

use super::Authority;
use crate::registry::{Identity, NewCertificate};

/// What no secret has as its hash: the holder has a certificate and needs no enrolment. A registrar can set a secret.
const NO_SECRET: &str = "!";
/// Organizational units that say what somebody is (spec 02 §13.4).
const KINDS: [&str; 4] = ["client", "peer", "orderer", "admin"];

impl Authority {
    /// Takes the holder of the certificate in `path` into the registry. A file that is missing, or holds somebody else's
    /// certificate, is passed over with a word in the log: the authority serves all the same.
    pub(super) fn take_over(&self, path: &Path) -> rusqlite::Result<()> {
        let passed_over = |why: &str| {
            tracing::warn!(authority = %self.name, file = %path.display(), why, "certificate not taken over");
            Ok(())
        };
        let Ok(text) = std::fs::read(path) else {
            return passed_over("it cannot be read");
        };
        let Ok(certificate) = Certificate::from_pem(&text) else {
            return passed_over("it holds no certificate");
        };
        if !self.issued(&certificate) {
            return passed_over("it was not issued by this authority");
        }
        let Some(id) = certificate.common_name().filter(|id| !id.is_empty()) else {
            return passed_over("it names nobody");
        };
        if self.registry.identity(id)?.is_none() {
            let units = certificate.organizational_units();
            let kind = units.iter().find(|unit| KINDS.contains(&unit.as_str()));
            let affiliation = units.iter().filter(|unit| Some(*unit) != kind);
            self.registry.insert(&Identity {
                id: id.to_owned(),
                secret_hash: NO_SECRET.to_owned(),
                kind: kind.map_or_else(|| "client".to_owned(), Clone::clone),
                affiliation: affiliation.cloned().collect::<Vec<_>>().join("."),
                attributes: Vec::new(),
                state: 0,
                max_enrollments: -1,
                wrong_attempts: 0,
            })?;
        }
        let serial = hex::encode(certificate.serial());
        let aki = certificate
            .authority_key_id()
            .map(hex::encode)
            .unwrap_or_default();
        if self.registry.certificate(&serial, &aki)?.is_none() {
            self.registry.add_certificate(&NewCertificate {
                serial: &serial,
                aki: &aki,
                id,
                pem: &certificate.to_pem(),
                not_after: certificate.not_after(),
            })?;
        }
        Ok(())
    }
}
