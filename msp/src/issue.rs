//! Issuing X.509 certificates and revocation lists (spec 06 §4). Signatures are low-S, so that Fabric's normalisation of
//! certificates changes nothing (spec 02 §13.3).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::certificate::{Certificate, CertificateError};
use crate::der;
use crate::keys::{KeyError, PrivateKey, PublicKey};
use crate::pem;

mod encode;
#[cfg(test)]
mod tests;

use encode::{
    CERT_SIGN, CRL_SIGN, DIGITAL_SIGNATURE, KEY_AGREEMENT, KEY_ENCIPHERMENT, attributes_json,
    basic_constraints, extension, key_usage, oid, signature_algorithm, subject_key_id, to_be_signed,
};
pub(crate) use encode::{alternative_names, name, signed};

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The CA's key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The CA's own certificate cannot be read.
    #[error("the CA's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// Certificate and key of the CA are not a pair.
    #[error("the private key does not belong to the CA certificate '{0}'")]
    KeyMismatch(String),
    /// The certificate is not one of a CA.
    #[error("'{0}' is not a CA certificate")]
    NotCa(String),
    /// The validity cannot be written, or ends before it begins.
    #[error(
        "the validity from {not_before} to {not_after} (Unix seconds) is not a period between the years 0 and 9999"
    )]
    Validity {
        /// Start.
        not_before: i64,
        /// End.
        not_after: i64,
    },
    /// A name for the certificate that cannot be written.
    #[error("'{value}' cannot be {field} of a certificate: {reason}")]
    Name {
        /// Which field.
        field: &'static str,
        /// The value.
        value: String,
        /// Why.
        reason: &'static str,
    },
}

/// Period of validity, Unix seconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Start.
    pub not_before: i64,
    /// End.
    pub not_after: i64,
}

/// Fields of a subject besides CN and OU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectExtra {
    /// C, two letters.
    pub country: Option<String>,
    /// ST.
    pub province: Option<String>,
    /// L.
    pub locality: Option<String>,
    /// O.
    pub organization: Option<String>,
    /// serialNumber.
    pub serial_number: Option<String>,
}

/// Name of a new CA.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaSubject {
    /// CN, such as `ca.org1.example.com`.
    pub common_name: String,
    /// OUs; usually none.
    pub organizational_units: Vec<String>,
    /// The other fields.
    pub extra: SubjectExtra,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Signing transactions, endorsements and blocks: digitalSignature, no extended usage.
    Identity,
    /// TLS servers and clients.
    Tls,
    /// An intermediate CA that issues end certificates only (path length 0).
    Ca,
}

/// What [`CertificateAuthority::issue`] is asked for.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    /// The holder's key.
    pub public_key: PublicKey,
    /// CN: the enrollment id.
    pub common_name: String,
    /// OUs in order, the role first. They go into one multi-valued RDN, as Fabric CA writes them.
    pub organizational_units: Vec<String>,
    /// Subject alternative names.
    pub dns_names: Vec<String>,
    /// Subject alternative addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Attributes for access control; none: no extension.
    pub attributes: BTreeMap<String, String>,
    /// What the certificate is for.
    pub usage: Usage,
    /// Start of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds. Cut to the end of the CA's own.
    pub not_after: i64,
    /// Other fields of the subject.
    pub subject_extra: SubjectExtra,
}

/// One entry of a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Serial number, big endian.
    pub serial: Vec<u8>,
    /// When, Unix seconds.
    pub revoked_at: i64,
    /// RFC 5280 reason code; 0 (unspecified) is not written.
    pub reason: u8,
}

/// A CA: certificate and key. `Debug` shows no key.
#[derive(Debug, Clone)]
pub struct CertificateAuthority {
    certificate: Certificate,
    key: PrivateKey,
    subject_key_id: Vec<u8>,
}

impl CertificateAuthority {
    /// Makes a key and a self-signed root certificate.
    ///
    /// # Errors
    /// Without randomness, or for a name or period that cannot be written.
    pub fn generate_root(subject: &CaSubject, validity: &Validity) -> Result<Self, IssueError> {
        let key = PrivateKey::generate()?;
        let name = name(
            &subject.common_name,
            &subject.organizational_units,
            &subject.extra,
        )?;
        let key_id = key.public_key().ski();
        let extensions = vec![
            key_usage(CERT_SIGN | CRL_SIGN | DIGITAL_SIGNATURE),
            basic_constraints(true, None),
            subject_key_id(&key_id),
        ];
        let to_be_signed = to_be_signed(&name, &name, validity, key.public_key(), &extensions)?;
        let certificate = Certificate::from_der(&signed(&to_be_signed, &key)?)?;
        Ok(Self {
            certificate,
            key,
            subject_key_id: key_id.to_vec(),
        })
    }

    /// From PEM texts of certificate and key.
    ///
    /// # Errors
    /// When one cannot be read, they are not a pair, or the certificate is not one of a CA.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IssueError> {
        Self::new(
            Certificate::from_pem(certificate.as_bytes())?,
            PrivateKey::from_pem(key)?,
        )
    }

    /// From certificate and key.
    ///
    /// # Errors
    /// When they are not a pair, or the certificate is not one of a CA.
    pub fn new(certificate: Certificate, key: PrivateKey) -> Result<Self, IssueError> {
        if certificate.public_key() != Some(key.public_key()) {
            return Err(IssueError::KeyMismatch(certificate.subject()));
        }
        if !certificate.is_ca() {
            return Err(IssueError::NotCa(certificate.subject()));
        }
        let subject_key_id = certificate
            .subject_key_id()
            .map_or_else(|| key.public_key().ski().to_vec(), <[u8]>::to_vec);
        Ok(Self {
            certificate,
            key,
            subject_key_id,
        })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA's key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Issues a certificate with a random serial number of 160 bits at most.
    ///
    /// # Errors
    /// Without randomness, or for a name or period that cannot be written.
    pub fn issue(&self, request: &IssueRequest) -> Result<Certificate, IssueError> {
        let subject = name(
            &request.common_name,
            &request.organizational_units,
            &request.subject_extra,
        )?;
        let validity = Validity {
            not_before: request.not_before,
            not_after: request.not_after.min(self.certificate.not_after()),
        };
        let usage = match request.usage {
            Usage::Identity => DIGITAL_SIGNATURE,
            Usage::Tls => DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT,
            Usage::Ca => CERT_SIGN | CRL_SIGN,
        };
        let mut extensions = vec![key_usage(usage)];
        if request.usage == Usage::Tls {
            let purposes = [der::object_id(oid::SERVER_AUTH), der::object_id(oid::CLIENT_AUTH)];
            extensions.push(extension(
                oid::EXTENDED_KEY_USAGE,
                false,
                &der::sequence(&purposes),
            ));
        }
        extensions.push(match request.usage {
            Usage::Ca => basic_constraints(true, Some(0)),
            Usage::Identity | Usage::Tls => basic_constraints(false, None),
        });
        extensions.push(subject_key_id(&request.public_key.ski()));
        extensions.push(self.authority_key_id());
        if !request.dns_names.is_empty() || !request.ip_addresses.is_empty() {
            extensions.push(alternative_names(&request.dns_names, &request.ip_addresses)?);
        }
        if !request.attributes.is_empty() {
            extensions.push(extension(
                oid::ATTRIBUTES,
                false,
                attributes_json(&request.attributes).as_bytes(),
            ));
        }
        let issuer = self.certificate.subject_der();
        let to_be_signed = to_be_signed(issuer, &subject, &validity, &request.public_key, &extensions)?;
        Ok(Certificate::from_der(&signed(&to_be_signed, &self.key)?)?)
    }

    /// Signs a revocation list and returns it as PEM. Times are Unix seconds.
    ///
    /// # Errors
    /// Without randomness, or for a time that cannot be written.
    pub fn crl(
        &self,
        revoked: &[RevokedCertificate],
        number: u64,
        this_update: i64,
        next_update: i64,
    ) -> Result<String, IssueError> {
        let validity = Validity {
            not_before: this_update,
            not_after: next_update,
        };
        let time = |at| der::time(at).ok_or_else(|| validity.unwritable());
        let mut entries = Vec::with_capacity(revoked.len());
        for entry in revoked {
            let mut parts = vec![der::unsigned(&entry.serial), time(entry.revoked_at)?];
            if entry.reason != 0 {
                let reason = extension(oid::CRL_REASON, false, &der::element(0x0a, &[entry.reason]));
                parts.push(der::sequence(&[reason]));
            }
            entries.push(der::sequence(&parts));
        }
        let extensions = [
            self.authority_key_id(),
            extension(oid::CRL_NUMBER, false, &der::unsigned(&number.to_be_bytes())),
        ];
        let mut list = vec![
            der::unsigned(&[1]),
            signature_algorithm(),
            self.certificate.subject_der().to_vec(),
            time(this_update)?,
            time(next_update)?,
        ];
        if !entries.is_empty() {
            list.push(der::sequence(&entries));
        }
        list.push(der::context(0, &[der::sequence(&extensions)]));
        Ok(pem::encode(
            "X509 CRL",
            &signed(&der::sequence(&list), &self.key)?,
        ))
    }

    fn authority_key_id(&self) -> Vec<u8> {
        let value = der::sequence(&[der::element(0x80, &self.subject_key_id)]);
        extension(oid::AUTHORITY_KEY_ID, false, &value)
    }
}

impl Validity {
    fn unwritable(&self) -> IssueError {
        IssueError::Validity {
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }
}
