//! X.509 certificates, parsed once.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use crate::curve::Curve;
use crate::keys::PublicKey;
use crate::pem;

#[cfg(test)]
mod tests;
mod wrapping;

use wrapping::{has_canonical_wrapping, low_s_der};

/// OID of the extension that carries attributes as JSON (spec 06 §4).
pub(crate) const ATTRIBUTES_OID: &str = "1.2.3.4.5.6.7.8.1";

/// Critical extensions that Go's path building understands; any other critical one makes a chain invalid.
const UNDERSTOOD_CRITICAL: [&str; 8] = [
    "2.5.29.14",
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.35",
    "2.5.29.37",
];

/// Why bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No PEM block in the text.
    #[error("could not decode the PEM structure: there is no whole BEGIN/END block")]
    NoPem,
    /// More than one block, or text behind the block, where exactly one certificate is expected.
    #[error(
        "there is more than one certificate, or text after it; put each certificate into its own element"
    )]
    ExtraData,
    /// The content is not X.509.
    #[error("could not parse the X.509 certificate: {0}")]
    Malformed(String),
}

/// A certificate with everything that the MSP rules look at. Clones share it; equality is equality of the DER bytes.
#[derive(Clone)]
pub struct Certificate {
    inner: Arc<Inner>,
}

struct Inner {
    der: Vec<u8>,
    sha256: [u8; 32],
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    subject: String,
    issuer: String,
    common_name: Option<String>,
    organizational_units: Vec<String>,
    spki_der: Vec<u8>,
    public_key: Option<PublicKey>,
    not_before: i64,
    not_after: i64,
    serial: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    basic_constraints: Option<BasicConstraints>,
    may_sign_certificates: bool,
    server_auth_allowed: bool,
    unknown_critical: Option<String>,
    dns_names: Vec<String>,
    ip_addresses: Vec<IpAddr>,
    attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy)]
struct BasicConstraints {
    ca: bool,
    path_len: Option<u32>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.inner.der == other.inner.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Certificate({}, serial {})",
            self.label(),
            hex::encode(&self.inner.serial)
        )
    }
}

impl Certificate {
    /// Reads the first PEM block, whatever its label; text around it is ignored (spec 02 §13.3).
    ///
    /// # Errors
    /// When there is no block or its content is not a certificate.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let (block, _) = pem::first_block(text).ok_or(CertificateError::NoPem)?;
        Self::from_der(&block.content)
    }

    /// As [`Self::from_pem`], but nothing may follow the block (spec 02 §13.1).
    ///
    /// # Errors
    /// Also [`CertificateError::ExtraData`].
    pub fn from_single_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let (block, rest) = pem::first_block(text).ok_or(CertificateError::NoPem)?;
        if !rest.is_empty() {
            return Err(CertificateError::ExtraData);
        }
        Self::from_der(&block.content)
    }

    /// Reads DER bytes.
    ///
    /// # Errors
    /// When they are not one X.509 certificate.
    pub fn from_der(bytes: &[u8]) -> Result<Self, CertificateError> {
        let (rest, parsed) =
            X509Certificate::from_der(bytes).map_err(|e| CertificateError::Malformed(e.to_string()))?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed(
                "bytes follow the certificate".to_owned(),
            ));
        }
        if !has_canonical_wrapping(bytes) {
            let reason = "its outer structure is not canonical DER, or names another signature algorithm than its inside";
            return Err(CertificateError::Malformed(reason.to_owned()));
        }
        let subject = parsed.subject();
        let mut inner = Inner {
            der: bytes.to_vec(),
            sha256: Sha256::digest(bytes).into(),
            subject_der: subject.as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            subject: subject.to_string(),
            issuer: parsed.issuer().to_string(),
            common_name: texts(subject, "2.5.4.3").pop(),
            organizational_units: texts(subject, "2.5.4.11"),
            spki_der: parsed.public_key().raw.to_vec(),
            public_key: PublicKey::from_spki(parsed.public_key()).ok(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            serial: strip_zeros(parsed.raw_serial()).to_vec(),
            subject_key_id: None,
            authority_key_id: None,
            basic_constraints: None,
            may_sign_certificates: true,
            server_auth_allowed: true,
            unknown_critical: None,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            attributes: BTreeMap::new(),
        };
        let mut seen = HashSet::new();
        for extension in parsed.extensions() {
            let oid = extension.oid.to_id_string();
            if !seen.insert(extension.oid.as_bytes()) {
                return Err(CertificateError::Malformed(format!(
                    "it has the extension {oid} twice"
                )));
            }
            if extension.critical && !UNDERSTOOD_CRITICAL.contains(&oid.as_str()) {
                inner.unknown_critical.get_or_insert(oid.clone());
            }
            if oid == ATTRIBUTES_OID {
                inner.attributes = attributes(extension.value);
            }
            inner.read_extension(extension.parsed_extension(), &oid)?;
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The DER bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.inner.der
    }

    /// PEM text with the label CERTIFICATE.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.inner.der)
    }

    /// The subject's (last) common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.inner.common_name.as_deref()
    }

    /// Every organizationalUnitName of the subject, in order, also those that share one RDN (spec 02 §13.4).
    #[must_use]
    pub fn organizational_units(&self) -> &[String] {
        &self.inner.organizational_units
    }

    /// The subject for reading, such as `CN=peer0, OU=peer, O=org1`.
    #[must_use]
    pub fn subject(&self) -> String {
        self.inner.subject.clone()
    }

    /// The subject for error messages: shortened, control characters escaped.
    pub(crate) fn label(&self) -> String {
        shortened(&self.inner.subject)
    }

    /// The issuer for reading.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.inner.issuer.clone()
    }

    /// The key, when it is one that signatures can be verified with.
    #[must_use]
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.inner.public_key.as_ref()
    }

    /// Start of validity, Unix seconds.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.inner.not_before
    }

    /// End of validity, Unix seconds.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.inner.not_after
    }

    /// Serial number, big endian without leading zeros.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.inner.serial
    }

    /// Subject key identifier extension.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.inner.subject_key_id.as_deref()
    }

    /// Key identifier of the authority key identifier extension.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.inner.authority_key_id.as_deref()
    }

    /// Whether Basic Constraints say CA.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.inner.basic_constraints.is_some_and(|b| b.ca)
    }

    /// Attributes that the CA put into the certificate (spec 06 §4). Empty when the extension is absent or unreadable.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.inner.attributes
    }

    /// SHA-256 of the DER bytes.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.inner.sha256
    }

    pub(crate) fn sha256_ref(&self) -> &[u8; 32] {
        &self.inner.sha256
    }

    /// DNS names among the subject alternative names.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.inner.dns_names
    }

    /// IP addresses among the subject alternative names.
    #[must_use]
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.inner.ip_addresses
    }

    /// Whether `issuer`'s key made the signature on this certificate and `issuer` is its issuer by name and allowed to
    /// sign certificates. Says nothing about time.
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        if self.inner.issuer_der != issuer.inner.subject_der
            || !issuer.is_ca()
            || !issuer.inner.may_sign_certificates
        {
            return false;
        }
        match (
            X509Certificate::from_der(self.der()),
            X509Certificate::from_der(issuer.der()),
        ) {
            (Ok((_, child)), Ok((_, parent))) => child.verify_signature(Some(parent.public_key())).is_ok(),
            _ => false,
        }
    }

    /// Longest chain of intermediates below this CA.
    pub(crate) fn path_len(&self) -> Option<u32> {
        self.inner.basic_constraints.and_then(|b| b.path_len)
    }

    /// No extended key usage, or one that includes server authentication or any.
    pub(crate) fn server_auth_allowed(&self) -> bool {
        self.inner.server_auth_allowed
    }

    pub(crate) fn unknown_critical(&self) -> Option<&str> {
        self.inner.unknown_critical.as_deref()
    }

    /// The DER SubjectPublicKeyInfo, of whatever algorithm.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.inner.spki_der
    }

    pub(crate) fn has_same_alternative_names(&self, other: &Self) -> bool {
        self.inner.dns_names == other.inner.dns_names && self.inner.ip_addresses == other.inner.ip_addresses
    }

    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.inner.subject_der
    }

    pub(crate) fn issuer_der(&self) -> &[u8] {
        &self.inner.issuer_der
    }

    /// The certificate with its own ECDSA signature brought to low S, when `issuer_curve` is the curve of the issuer's
    /// key. A certificate that is so already is returned as it is (spec 02 §13.3).
    pub(crate) fn with_low_s(self, issuer_curve: Option<Curve>) -> Self {
        issuer_curve
            .and_then(|curve| low_s_der(&self.inner.der, curve))
            .and_then(|der| Self::from_der(&der).ok())
            .unwrap_or(self)
    }
}

/// Text from outside made fit for a message: at most 200 characters, control characters escaped.
pub(crate) fn shortened(text: &str) -> String {
    const LIMIT: usize = 200;
    let mut out: String = text
        .chars()
        .take(LIMIT)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().nth(LIMIT).is_some() {
        out.push_str("...");
    }
    out
}

impl Inner {
    fn read_extension(&mut self, parsed: &ParsedExtension<'_>, oid: &str) -> Result<(), CertificateError> {
        match parsed {
            ParsedExtension::BasicConstraints(b) => {
                self.basic_constraints = Some(BasicConstraints {
                    ca: b.ca,
                    path_len: b.path_len_constraint,
                });
            }
            ParsedExtension::KeyUsage(usage) => self.may_sign_certificates = usage.key_cert_sign(),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.server_auth_allowed = usage.any || usage.server_auth
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|k| k.0.to_vec());
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                let (dns_names, ip_addresses) = hosts(&names.general_names);
                self.dns_names = dns_names;
                self.ip_addresses = ip_addresses;
            }
            ParsedExtension::ParseError { error } => {
                return Err(CertificateError::Malformed(format!("extension {oid}: {error}")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// DNS names and IP addresses of a list of alternative names.
pub(crate) fn hosts(names: &[GeneralName<'_>]) -> (Vec<String>, Vec<IpAddr>) {
    let (mut dns_names, mut ip_addresses) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                    ip_addresses.push(IpAddr::from(v4));
                } else if let Ok(v6) = <[u8; 16]>::try_from(*bytes) {
                    ip_addresses.push(IpAddr::from(v6));
                }
            }
            _ => {}
        }
    }
    (dns_names, ip_addresses)
}

/// Values of one attribute type in a name, in order, from single- and multi-valued RDNs alike.
pub(crate) fn texts(name: &X509Name<'_>, oid: &str) -> Vec<String> {
    name.iter_attributes()
        .filter(|a| a.attr_type().to_id_string() == oid)
        .filter_map(|a| a.as_str().ok().map(str::to_owned))
        .collect()
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    &bytes[skip..]
}

fn attributes(value: &[u8]) -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    }
    serde_json::from_slice::<Document>(value)
        .map(|d| d.attrs)
        .unwrap_or_default()
}
