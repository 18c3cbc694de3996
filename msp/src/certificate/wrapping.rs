//! The outer structure of a certificate: what the CA signed, the algorithm, the signature.

use crate::curve::{Curve, Rs};
use crate::der;

/// The part of a certificate around what the CA signed must have one form only: otherwise anybody could vary the bytes of
/// a certificate, and with them the identity that they stand for, and count as several signers.
pub(super) fn has_canonical_wrapping(certificate: &[u8]) -> bool {
    let check = || {
        let outer = der::read_tagged(certificate, der::SEQUENCE)?;
        let signed = der::read_tagged(outer.content, der::SEQUENCE)?;
        let algorithm = der::read_tagged(signed.rest, der::SEQUENCE)?;
        let signature = der::read_tagged(algorithm.rest, der::BIT_STRING)?;
        let first = der::read(signed.content)?;
        let serial = if first.tag == 0xa0 {
            der::read(first.rest)?
        } else {
            first
        };
        let inner_algorithm = der::read_tagged(serial.rest, der::SEQUENCE)?;
        let same = inner_algorithm.whole == algorithm.whole;
        Some(
            same && signature.content.first() == Some(&0)
                && signature.rest.is_empty()
                && outer.rest.is_empty(),
        )
    };
    check().unwrap_or(false)
}

/// Re-encodes a certificate whose ECDSA signature has a high S; `None` when there is nothing to change.
pub(super) fn low_s_der(certificate: &[u8], curve: Curve) -> Option<Vec<u8>> {
    /// 1.2.840.10045.4, ecdsa signature algorithms.
    const ECDSA_SIGNATURES: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let outer = der::read_tagged(certificate, der::SEQUENCE)?;
    let tbs = der::read(outer.content)?;
    let algorithm = der::read_tagged(tbs.rest, der::SEQUENCE)?;
    if !der::read_tagged(algorithm.content, der::OBJECT_ID)?
        .content
        .starts_with(ECDSA_SIGNATURES)
    {
        return None;
    }
    let signature = der::read_tagged(algorithm.rest, der::BIT_STRING)?;
    let rs = Rs::from_der(curve, signature.content.strip_prefix(&[0])?)?;
    if rs.is_low_s() {
        return None;
    }
    Some(der::sequence(&[
        tbs.whole,
        algorithm.whole,
        &der::bit_string(&rs.into_low_s().to_der()),
    ]))
}
