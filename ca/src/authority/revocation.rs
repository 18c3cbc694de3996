//! Revoking identities and certificates, and revocation lists (spec 06 §3).

use selvedge_msp::{Certificate, CertificateAuthority, RevokedCertificate};

use super::{Authority, unix_now};
use crate::attributes::{check_has, check_manages};
use crate::auth::Caller;
use crate::error::Refusal;
use crate::registry::{Identity, Period, StoredCertificate, normal_hex};

/// RFC 5280's reasons by their names, without regard to case; an absent one is "unspecified".
pub(crate) fn reason_code(name: &str) -> Result<u8, Refusal> {
    let code = match name.to_lowercase().as_str() {
        "" | "unspecified" => 0,
        "keycompromise" => 1,
        "cacompromise" => 2,
        "affiliationchange" | "affiliationchanged" => 3,
        "superseded" => 4,
        "cessationofoperation" => 5,
        "certificatehold" => 6,
        "removefromcrl" => 8,
        "privilegewithdrawn" => 9,
        "aacompromise" => 10,
        _ => {
            return Err(Refusal::new(
                400,
                12,
                format!("'{name}' is no reason of RFC 5280, such as keycompromise or superseded"),
            ));
        }
    };
    Ok(code)
}

/// What to revoke: an identity, or one certificate by serial number and authority key.
#[derive(Debug, Clone, Default)]
pub(crate) struct RevocationRequest {
    pub(crate) id: String,
    pub(crate) serial: String,
    pub(crate) aki: String,
    /// RFC 5280 code.
    pub(crate) reason: u8,
    pub(crate) with_crl: bool,
}

/// What was revoked.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    /// Serial number and authority key of each certificate, hexadecimal.
    pub(crate) certificates: Vec<(String, String)>,
    /// PEM.
    pub(crate) crl: Option<String>,
}

/// Which revoked certificates a list is to have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CrlRequest {
    pub(crate) revoked: Period,
    pub(crate) expires: Period,
}

impl Authority {
    /// Revokes an identity with all its certificates, or one certificate.
    pub(crate) fn revoke(&self, caller: &Caller, request: &RevocationRequest) -> Result<Revocation, Refusal> {
        check_has(&caller.identity, "hf.Revoker")?;
        let certificates = if !normal_hex(&request.serial).is_empty() && !normal_hex(&request.aki).is_empty()
        {
            self.revoke_one(caller, request)?
        } else if request.id.is_empty() {
            return Err(Refusal::new(
                400,
                15,
                "Either Name or Serial and AKI are required for a revoke request",
            ));
        } else {
            self.revoke_all(&caller.identity, request)?
        };
        let crl = if request.with_crl && !certificates.is_empty() {
            Some(self.crl(CrlRequest::default())?)
        } else {
            None
        };
        Ok(Revocation { certificates, crl })
    }

    fn revoke_all(
        &self,
        caller: &Identity,
        request: &RevocationRequest,
    ) -> Result<Vec<(String, String)>, Refusal> {
        let identity = self.revocable(&request.id)?;
        if identity.id != caller.id {
            check_manages(caller, &identity)?;
        }
        self.registry
            .revoke_identity(&identity.id, unix_now(), request.reason)
            .map_err(|e| Refusal::internal(13, e))
    }

    fn revoke_one(
        &self,
        caller: &Caller,
        request: &RevocationRequest,
    ) -> Result<Vec<(String, String)>, Refusal> {
        let which = format!(
            "with serial {} and AKI {}",
            normal_hex(&request.serial),
            normal_hex(&request.aki)
        );
        let certificate = self
            .registry
            .certificate(&request.serial, &request.aki)
            .map_err(|e| Refusal::internal(67, e))?
            .ok_or_else(|| Refusal::new(404, 8, format!("there is no certificate {which}")))?;
        let again = || Refusal::new(404, 66, format!("the certificate {which} was revoked already"));
        if certificate.revoked_at.is_some() {
            return Err(again());
        }
        if !request.id.is_empty() && request.id != certificate.id {
            return Err(Refusal::new(
                400,
                9,
                format!("the certificate {which} does not belong to {}", request.id),
            ));
        }
        let own = certificate.serial == normal_hex(&caller.serial)
            && normal_hex(&certificate.aki) == normal_hex(&caller.aki);
        if !own {
            check_manages(&caller.identity, &self.revocable(&certificate.id)?)?;
        }
        let revoked = self
            .registry
            .revoke_certificate(&certificate, unix_now(), request.reason)
            .map_err(|e| Refusal::internal(12, e))?;
        if revoked {
            Ok(vec![(certificate.serial, certificate.aki)])
        } else {
            Err(again())
        }
    }

    fn revocable(&self, id: &str) -> Result<Identity, Refusal> {
        let found = self.identities.find(id)?;
        found.ok_or_else(|| Refusal::new(404, 10, format!("Identity {id} was not found")))
    }

    /// A signed revocation list of certificates that have not expired, unless the request says otherwise, as PEM.
    pub(crate) fn crl(&self, request: CrlRequest) -> Result<String, Refusal> {
        let backwards = |period: Period| matches!((period.start, period.end), (Some(s), Some(e)) if s > e);
        if backwards(request.revoked) {
            return Err(Refusal::new(
                400,
                36,
                "the 'revokedafter' time must be before the 'revokedbefore' time",
            ));
        }
        if backwards(request.expires) {
            return Err(Refusal::new(
                400,
                37,
                "the 'expireafter' time must be before the 'expirebefore' time",
            ));
        }
        let now = unix_now();
        let expires = Period {
            start: request.expires.start.or(Some(now)),
            end: request.expires.end,
        };
        let revoked = self
            .registry
            .revoked(request.revoked, expires)
            .map_err(|e| Refusal::internal(38, e))?;
        let number = self.registry.count("crl").map_err(|e| Refusal::internal(41, e))?;
        let expiry = i64::try_from(self.crl_expiry.as_secs()).unwrap_or(i64::MAX);
        let list = |signer: &CertificateAuthority, of: &dyn Fn(&str) -> bool| {
            let entries = revoked
                .iter()
                .filter(|c| of(&c.aki))
                .map(entry)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| Refusal::internal(38, e))?;
            let signed = signer.crl(&entries, number, now, now.saturating_add(expiry));
            signed.map_err(|e| Refusal::internal(41, e))
        };
        let key_of = |certificate: &Certificate| {
            normal_hex(&certificate.subject_key_id().map(hex::encode).unwrap_or_default())
        };
        let previous: Vec<String> = self.previous.iter().map(|p| key_of(&p.certificate)).collect();
        let mut text = list(&self.signer, &|aki| !previous.contains(&normal_hex(aki)))?;
        // A list counts for the authority that signed it, so those that came before have their own.
        for old in &self.previous {
            let key = key_of(&old.certificate);
            let has = revoked.iter().any(|c| normal_hex(&c.aki) == key);
            if let Some(signer) = old.signer.as_ref().filter(|_| has) {
                text.push_str(&list(signer, &|aki| normal_hex(aki) == key)?);
            }
        }
        Ok(text)
    }
}

fn entry(certificate: &StoredCertificate) -> Result<RevokedCertificate, hex::FromHexError> {
    let padded = format!(
        "{:0>width$}",
        certificate.serial,
        width = certificate.serial.len().next_multiple_of(2)
    );
    Ok(RevokedCertificate {
        serial: hex::decode(padded)?,
        revoked_at: certificate.revoked_at.unwrap_or_default(),
        reason: certificate.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_by_name() {
        assert_eq!(reason_code("").unwrap(), 0);
        assert_eq!(reason_code("KeyCompromise").unwrap(), 1);
        assert_eq!(reason_code("removeFromCRL").unwrap(), 8);
        assert_eq!(reason_code("bored").unwrap_err().status, 400);
    }
}
