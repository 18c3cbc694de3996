//! The parts of certificates, CRLs and CSRs, encoded.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::der;
use crate::issue::{IssueError, SubjectExtra, Validity};
use crate::keys::{KeyError, PrivateKey, PublicKey};

pub(super) mod oid {
    //! Encoded object identifiers.
    pub(in crate::issue) const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    pub(in crate::issue) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    pub(in crate::issue) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub(in crate::issue) const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];
    pub(in crate::issue) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    pub(in crate::issue) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
    pub(in crate::issue) const CRL_REASON: &[u8] = &[0x55, 0x1d, 21];
    pub(in crate::issue) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    pub(in crate::issue) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    pub(in crate::issue) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    pub(in crate::issue) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
    pub(in crate::issue) const ATTRIBUTES: &[u8] = &[0x2a, 3, 4, 5, 6, 7, 8, 1];
    pub(in crate::issue) const COUNTRY: &[u8] = &[0x55, 4, 6];
    pub(in crate::issue) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    pub(in crate::issue) const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 4, 11];
    pub(in crate::issue) const LOCALITY: &[u8] = &[0x55, 4, 7];
    pub(in crate::issue) const PROVINCE: &[u8] = &[0x55, 4, 8];
    pub(in crate::issue) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(in crate::issue) const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];
}

pub(super) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(super) const KEY_ENCIPHERMENT: u8 = 0x20;
pub(super) const KEY_AGREEMENT: u8 = 0x08;
pub(super) const CERT_SIGN: u8 = 0x04;
pub(super) const CRL_SIGN: u8 = 0x02;

/// Signs encoded content and puts content, algorithm and signature together: certificates, CRLs and CSRs alike.
pub(crate) fn signed(content: &[u8], key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
    let signature = key.sign(content)?;
    Ok(der::sequence(&[
        content,
        &signature_algorithm(),
        &der::bit_string(&signature),
    ]))
}

/// AlgorithmIdentifier of ECDSA with SHA-256.
pub(super) fn signature_algorithm() -> Vec<u8> {
    der::sequence(&[der::object_id(oid::ECDSA_WITH_SHA256)])
}

/// TBSCertificate of version 3 with a random serial number.
pub(super) fn to_be_signed(
    issuer: &[u8],
    subject: &[u8],
    validity: &Validity,
    key: &PublicKey,
    extensions: &[Vec<u8>],
) -> Result<Vec<u8>, IssueError> {
    if validity.not_after < validity.not_before {
        return Err(validity.unwritable());
    }
    let time = |at| der::time(at).ok_or_else(|| validity.unwritable());
    let period = der::sequence(&[time(validity.not_before)?, time(validity.not_after)?]);
    Ok(der::sequence(&[
        &der::context(0, &[der::unsigned(&[2])]),
        &der::unsigned(&random_serial()?),
        &signature_algorithm(),
        issuer,
        &period,
        subject,
        key.spki_der(),
        &der::context(3, &[der::sequence(extensions)]),
    ]))
}

fn random_serial() -> Result<[u8; 20], IssueError> {
    let mut serial = [0; 20];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| KeyError::Generate("the system gave no randomness".to_owned()))?;
    // RFC 5280: positive and at most 20 bytes.
    serial[0] &= 0x7f;
    serial[19] |= 1;
    Ok(serial)
}

/// A name in the order in which Go writes it; the OUs share one RDN.
pub(crate) fn name(common_name: &str, units: &[String], extra: &SubjectExtra) -> Result<Vec<u8>, IssueError> {
    let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
    let parts: [(&'static str, &[u8], Vec<String>, usize); 7] = [
        ("the country", oid::COUNTRY, one(&extra.country), 2),
        (
            "the organization",
            oid::ORGANIZATION,
            one(&extra.organization),
            64,
        ),
        (
            "an organizational unit",
            oid::ORGANIZATIONAL_UNIT,
            units.to_vec(),
            64,
        ),
        ("the locality", oid::LOCALITY, one(&extra.locality), 128),
        ("the province", oid::PROVINCE, one(&extra.province), 128),
        (
            "the common name",
            oid::COMMON_NAME,
            vec![common_name.to_owned()],
            64,
        ),
        (
            "the serial number",
            oid::SERIAL_NUMBER,
            one(&extra.serial_number),
            64,
        ),
    ];
    let mut rdns = Vec::new();
    for (field, oid, values, limit) in parts {
        if values.is_empty() {
            continue;
        }
        let mut attributes = Vec::with_capacity(values.len());
        for value in values {
            let reason = if value.is_empty() {
                Some("it is empty")
            } else if value.chars().count() > limit {
                Some("it is too long (RFC 5280: CN, O, OU 64 characters, L, ST 128, C 2)")
            } else {
                None
            };
            if let Some(reason) = reason {
                return Err(IssueError::Name { field, value, reason });
            }
            attributes.push(der::sequence(&[der::object_id(oid), der::text(&value)]));
        }
        rdns.push(der::set_of(attributes));
    }
    Ok(der::sequence(&rdns))
}

/// One extension around its encoded value.
pub(super) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::object_id(oid)];
    if critical {
        parts.push(der::boolean_true());
    }
    parts.push(der::octet_string(value));
    der::sequence(&parts)
}

/// The keyUsage extension.
pub(super) fn key_usage(bits: u8) -> Vec<u8> {
    extension(oid::KEY_USAGE, true, &der::named_bits(bits))
}

/// The basicConstraints extension.
pub(super) fn basic_constraints(ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let mut parts = Vec::new();
    if ca {
        parts.push(der::boolean_true());
    }
    if let Some(length) = path_len {
        parts.push(der::unsigned(&[length]));
    }
    extension(oid::BASIC_CONSTRAINTS, true, &der::sequence(&parts))
}

/// The subjectKeyIdentifier extension.
pub(super) fn subject_key_id(id: &[u8]) -> Vec<u8> {
    extension(oid::SUBJECT_KEY_ID, false, &der::octet_string(id))
}

/// The subjectAltName extension.
pub(crate) fn alternative_names(dns_names: &[String], addresses: &[IpAddr]) -> Result<Vec<u8>, IssueError> {
    let mut names = Vec::new();
    for name in dns_names {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            let reason = "host names are written in visible ASCII characters";
            return Err(IssueError::Name {
                field: "a host name",
                value: name.clone(),
                reason,
            });
        }
        names.push(der::element(0x82, name.as_bytes()));
    }
    for address in addresses {
        names.push(match address {
            IpAddr::V4(v4) => der::element(0x87, &v4.octets()),
            IpAddr::V6(v6) => der::element(0x87, &v6.octets()),
        });
    }
    Ok(extension(oid::ALTERNATIVE_NAMES, false, &der::sequence(&names)))
}

/// `{"attrs":{...}}` with sorted keys, escaped as Go's JSON encoder does.
pub(super) fn attributes_json(attributes: &BTreeMap<String, String>) -> String {
    let object = serde_json::json!({ "attrs": attributes }).to_string();
    let mut out = String::with_capacity(object.len());
    // Outside of strings JSON has none of these characters.
    for c in object.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}
