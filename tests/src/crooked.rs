//! Identities and signatures as they must not be, made with the network's own authorities.

use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, RevokedCertificate, SubjectExtra, Usage,
    Validity,
};
use selvedge_sdk::ClientIdentity;

const DAY: i64 = 24 * 60 * 60;

/// Now, in Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a clock before the end of time")
}

/// What is special about a certificate.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Organisation that the identity claims.
    pub msp_id: String,
    /// Common name.
    pub name: String,
    /// Organisational units; one of them is the role (spec 02 §13.4).
    pub units: Vec<String>,
    /// Start and end of its validity, in seconds from now. An authority counts from five minutes before it was made, and
    /// what it issues must not begin earlier (spec 02 §13.4).
    pub seconds: (i64, i64),
}

impl Wish {
    /// A good client certificate.
    pub fn client(msp_id: &str, name: &str) -> Self {
        Self {
            msp_id: msp_id.to_owned(),
            name: name.to_owned(),
            units: vec!["client".to_owned()],
            seconds: (-60, 30 * DAY),
        }
    }

    /// Has it issued by `authority`.
    pub fn issue(&self, authority: &CertificateAuthority) -> ClientIdentity {
        let key = PrivateKey::generate().expect("a key");
        let request = IssueRequest {
            public_key: key.public_key().clone(),
            common_name: self.name.clone(),
            organizational_units: self.units.clone(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            attributes: std::collections::BTreeMap::new(),
            usage: Usage::Identity,
            not_before: now() + self.seconds.0,
            not_after: now() + self.seconds.1,
            subject_extra: SubjectExtra::default(),
        };
        let certificate = authority.issue(&request).expect("a certificate");
        ClientIdentity::new(&self.msp_id, certificate.to_pem().as_bytes(), key).expect("an identity")
    }
}

/// An authority that nobody trusts.
pub fn rogue_authority() -> CertificateAuthority {
    let subject = CaSubject {
        common_name: "ca.rogue.example.com".to_owned(),
        ..CaSubject::default()
    };
    let validity = Validity {
        not_before: now() - 10 * DAY,
        not_after: now() + 1000 * DAY,
    };
    CertificateAuthority::generate_root(&subject, &validity).expect("an authority")
}

/// A revocation list of `authority` with one certificate, as PEM.
pub fn revocation_list(authority: &CertificateAuthority, revoked: &ClientIdentity) -> String {
    let entry = RevokedCertificate {
        serial: revoked.certificate().serial().to_vec(),
        revoked_at: now(),
        reason: 1,
    };
    authority
        .crl(&[entry], 1, now() - 60, now() + DAY)
        .expect("a revocation list")
}

/// Order of the group of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// Half of it, rounded down (spec 02 §3).
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde,
    0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// `r` and `s` of a DER signature over P-256, left-padded; none when it is not in DER's minimal form.
pub fn open_signature(der: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let body = der.strip_prefix(&[0x30])?;
    let (&len, body) = body.split_first()?;
    if usize::from(len) != body.len() {
        return None;
    }
    let (r, rest) = integer(body)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then_some((r, s))
}

fn integer(bytes: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (&len, rest) = bytes.strip_prefix(&[0x02])?.split_first()?;
    let (value, rest) = rest.split_at_checked(usize::from(len))?;
    let minimal = match value {
        [] => return None,
        [0, next, ..] => *next >= 0x80,
        [first, ..] => *first < 0x80,
    };
    let value = value.strip_prefix(&[0]).unwrap_or(value);
    if !minimal || value.len() > 32 {
        return None;
    }
    let mut padded = [0; 32];
    padded[32 - value.len()..].copy_from_slice(value);
    Some((padded, rest))
}

/// Whether a signature is in DER's minimal form with the lower `s` (spec 02 §3).
pub fn is_low_s(der: &[u8]) -> bool {
    open_signature(der).is_some_and(|(_, s)| s <= HALF_ORDER)
}

fn put_integer(value: &[u8; 32], out: &mut Vec<u8>) {
    let start = value.iter().position(|b| *b != 0).unwrap_or(31);
    let digits = &value[start..];
    let padding = usize::from(digits[0] >= 0x80);
    out.extend([
        0x02,
        u8::try_from(digits.len() + padding).expect("33 bytes at most"),
    ]);
    out.extend(std::iter::repeat_n(0, padding));
    out.extend(digits);
}

/// The same signature with the higher `s`: mathematically good, refused by Fabric.
pub fn with_high_s(der: &[u8]) -> Vec<u8> {
    let (r, s) = open_signature(der).expect("a signature of our own");
    let mut high = [0; 32];
    let mut borrow = 0;
    for i in (0..32).rev() {
        let (first, under) = ORDER[i].overflowing_sub(s[i]);
        let (digit, again) = first.overflowing_sub(borrow);
        high[i] = digit;
        borrow = u8::from(under || again);
    }
    let mut body = Vec::new();
    put_integer(&r, &mut body);
    put_integer(&high, &mut body);
    let mut der = vec![0x30, u8::try_from(body.len()).expect("70 bytes at most")];
    der.extend(body);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_s_is_the_other_solution() {
        let key = PrivateKey::generate().unwrap();
        for n in 0..50_u8 {
            let good = key.sign(&[n]).unwrap();
            assert!(is_low_s(&good));
            let high = with_high_s(&good);
            assert!(!is_low_s(&high));
            assert!(key.public_key().verify(&[n], &high).is_err());
            assert_eq!(with_high_s(&high), good);
        }
    }
}
