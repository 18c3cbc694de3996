//! Bags of certificates as EST sends them: PKCS#7 (CMS) SignedData without signatures and content, "certs-only"
//! (RFC 5652 §5, RFC 7030 §4.1.3).

use crate::certificate::{Certificate, CertificateError};
use crate::der;

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SET: u8 = 0x31;
/// `[0]`, constructed: the content of a ContentInfo, and the certificates of a SignedData.
const CONTEXT_0: u8 = 0xa0;
/// Certificates in a bag at most, so that a bad one costs little.
const MAX_CERTIFICATES: usize = 100;

/// Why a bag cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BagError {
    /// Not a SignedData in DER.
    #[error("this is not a PKCS#7 bag of certificates")]
    Malformed,
    /// More than anybody needs.
    #[error("the bag holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    /// One of the certificates cannot be read.
    #[error("certificate {index} of the bag: {source}")]
    Certificate {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: CertificateError,
    },
}

/// Puts certificates into a bag, DER. Their order is kept, though receivers must not rely on it.
#[must_use]
pub fn encode<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Vec<u8> {
    let certificates: Vec<&[u8]> = certificates.into_iter().map(Certificate::der).collect();
    let signed_data = der::sequence(&[
        der::unsigned(&[1]),
        der::element(SET, &[]),
        der::sequence(&[der::object_id(DATA)]),
        der::context(0, &certificates),
        der::element(SET, &[]),
    ]);
    der::sequence(&[der::object_id(SIGNED_DATA), der::context(0, &[signed_data])])
}

/// Takes the certificates out of a bag. Signatures and content in it count for nothing.
///
/// # Errors
/// It is no bag, has too many certificates, or one of them cannot be read.
pub fn decode(bag: &[u8]) -> Result<Vec<Certificate>, BagError> {
    let mut certificates = Vec::new();
    let mut rest = certificate_elements(bag).ok_or(BagError::Malformed)?;
    while !rest.is_empty() {
        let element = der::read(rest).ok_or(BagError::Malformed)?;
        rest = element.rest;
        // Attribute certificates and other formats carry context tags.
        if element.tag != der::SEQUENCE {
            continue;
        }
        let index = certificates.len();
        if index == MAX_CERTIFICATES {
            return Err(BagError::TooMany);
        }
        let certificate =
            Certificate::from_der(element.whole).map_err(|source| BagError::Certificate { index, source })?;
        certificates.push(certificate);
    }
    Ok(certificates)
}

/// The content of the `certificates` field; empty when the field is absent.
fn certificate_elements(bag: &[u8]) -> Option<&[u8]> {
    let info = der::read_tagged(bag, der::SEQUENCE)?;
    let kind = der::read_tagged(info.content, der::OBJECT_ID)?;
    if kind.content != SIGNED_DATA {
        return None;
    }
    let content = der::read_tagged(kind.rest, CONTEXT_0)?;
    let signed_data = der::read_tagged(content.content, der::SEQUENCE)?;
    let version = der::read_tagged(signed_data.content, der::INTEGER)?;
    let digests = der::read_tagged(version.rest, SET)?;
    let encapsulated = der::read_tagged(digests.rest, der::SEQUENCE)?;
    let next = der::read(encapsulated.rest)?;
    Some(if next.tag == CONTEXT_0 { next.content } else { &[] })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::issue::{CaSubject, CertificateAuthority, Validity};

    fn authority(name: &str) -> Certificate {
        let validity = Validity {
            not_before: 0,
            not_after: 1_000_000,
        };
        let subject = CaSubject {
            common_name: name.into(),
            ..CaSubject::default()
        };
        let made = CertificateAuthority::generate_root(&subject, &validity).unwrap();
        made.certificate().clone()
    }

    #[test]
    fn bags_give_back_what_was_put_in() {
        let both = [authority("a"), authority("b")];
        assert_eq!(decode(&encode(&both)).unwrap(), both);
        assert!(decode(&encode([])).unwrap().is_empty());
    }

    /// `openssl crl2pkcs7 -nocrl` makes bags that end without the field for CRLs, as ours do; one with CRLs has `[1]`.
    #[test]
    fn what_follows_the_certificates_counts_for_nothing() {
        let one = authority("a");
        let signed_data = der::sequence(&[
            der::unsigned(&[1]),
            der::element(SET, &[]),
            der::sequence(&[der::object_id(DATA)]),
            der::context(0, &[one.der()]),
            der::context(1, &[der::sequence::<&[u8]>(&[])]),
            der::element(SET, &[]),
        ]);
        let bag = der::sequence(&[der::object_id(SIGNED_DATA), der::context(0, &[signed_data])]);
        assert_eq!(decode(&bag).unwrap(), [one]);
    }

    #[test]
    fn too_many_are_refused() {
        let one = authority("a");
        let bag = encode(std::iter::repeat_n(&one, MAX_CERTIFICATES + 1));
        assert!(matches!(decode(&bag), Err(BagError::TooMany)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_bags_are_survived(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bag = encode(&[authority("a"), authority("b")]);
            let place = at.index(bag.len());
            bag[place] = to;
            bag.truncate(cut.index(bag.len()) + 1);
            let _ = decode(&bag);
        }
    }
}
