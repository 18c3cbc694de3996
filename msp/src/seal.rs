//! Sealing a short secret to somebody's public key: HPKE (RFC 9180), base mode, with DHKEM(P-256, HKDF-SHA256),
//! HKDF-SHA256 and ChaCha20-Poly1305, which is fast and free of timing leaks on small machines without AES instructions.
//!
//! Base mode says nothing about who sealed: anybody may. What is sealed must therefore do no harm when it is a stranger's.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _, single_shot_open, single_shot_seal,
};
use zeroize::Zeroizing;

use crate::curve::Curve;
use crate::keys::{KeyError, PrivateKey, PublicKey};

/// The ciphers by their names in RFC 9180 §7, for envelopes that say what they are.
pub const SUITE: &str = "DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305";

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The recipient's key cannot be sealed to.
    #[error("only ECDSA P-256 keys can be sealed to")]
    Recipient,
    /// The cipher refused, such as for a text that is longer than it takes.
    #[error("sealing failed: {0}")]
    Seal(String),
    /// The key is not at hand.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Another key's, or changed on the way.
    #[error("it was sealed to another key, or was changed on the way")]
    Open,
}

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The sender's half of the key agreement (`enc` in RFC 9180): an uncompressed point.
    pub encapsulated: Vec<u8>,
    /// The text, encrypted and authenticated.
    pub ciphertext: Vec<u8>,
}

/// Encrypts `text` so that only the holder of `recipient` reads it. `purpose` keeps messages of one kind from being taken
/// for another's (`info` in RFC 9180); `beside` is what travels in clear with the message and must not be changed (`aad`).
///
/// # Errors
/// The key is no P-256 key, or the text is too long.
///
/// # Panics
/// When the operating system gives no randomness.
pub fn seal(recipient: &PublicKey, purpose: &[u8], beside: &[u8], text: &[u8]) -> Result<Sealed, SealError> {
    if recipient.curve() != Some(Curve::P256) {
        return Err(SealError::Recipient);
    }
    let key = <DhP256HkdfSha256 as Kem>::PublicKey::from_bytes(recipient.point())
        .map_err(|_| SealError::Recipient)?;
    let (encapsulated, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, DhP256HkdfSha256>(
        &OpModeS::Base,
        &key,
        purpose,
        text,
        beside,
    )
    .map_err(|e| SealError::Seal(e.to_string()))?;
    Ok(Sealed {
        encapsulated: encapsulated.to_bytes().to_vec(),
        ciphertext,
    })
}

/// Decrypts what was sealed to the public half of `key`, with the same `purpose` and `beside`.
///
/// # Errors
/// [`SealError::Open`] when it was sealed to another key or for another purpose, or was changed; [`SealError::Key`] when
/// the key is in a token, which does not give it away.
pub fn open(
    key: &PrivateKey,
    purpose: &[u8],
    beside: &[u8],
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let secret = <DhP256HkdfSha256 as Kem>::PrivateKey::from_bytes(&key.scalar()?)
        .map_err(|e| KeyError::Malformed(e.to_string()))?;
    let encapsulated = <DhP256HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed.encapsulated)
        .map_err(|_| SealError::Open)?;
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, DhP256HkdfSha256>(
        &OpModeR::Base,
        &secret,
        &encapsulated,
        purpose,
        &sealed.ciphertext,
        beside,
    )
    .map(Zeroizing::new)
    .map_err(|_| SealError::Open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pem_of(scalar: &str) -> PrivateKey {
        use p256::pkcs8::EncodePrivateKey as _;
        let secret = p256::SecretKey::from_slice(&hex::decode(scalar).unwrap()).unwrap();
        let der = secret.to_pkcs8_der().unwrap();
        PrivateKey::from_pem(&crate::pem::encode("PRIVATE KEY", der.as_bytes())).unwrap()
    }

    /// RFC 9180 appendix A.5.1, first encryption.
    #[test]
    fn the_rfcs_vector_opens() {
        let key = pem_of("a4d1c55836aa30f9b3fbb6ac98d338c877c2867dd3a77396d13f68d3ab150d3b");
        let hex = |text: &str| hex::decode(text).unwrap();
        let sealed = Sealed {
            encapsulated: hex(
                "04c07836a0206e04e31d8ae99bfd549380b072a1b1b82e563c935c095827824fc1559eac6fb9e3c70cd3193968994e7fe9781aa\
                 103f5b50e934b5b2f387e381291",
            ),
            ciphertext: hex(
                "6469c41c5c81d3aa85432531ecf6460ec945bde1eb428cb2fedf7a29f5a685b4ccb0d057f03ea2952a27bb458b",
            ),
        };
        let opened = open(&key, b"Ode on a Grecian Urn", b"Count-0", &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"Beauty is truth, truth beauty");
    }

    #[test]
    fn only_the_recipient_opens_and_only_as_meant() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let sealed = seal(key.public_key(), b"for", b"beside", b"the secret").unwrap();
        assert_eq!(
            open(&key, b"for", b"beside", &sealed).unwrap().as_slice(),
            b"the secret"
        );
        for wrong in [
            open(&other, b"for", b"beside", &sealed),
            open(&key, b"else", b"beside", &sealed),
            open(&key, b"for", b"changed", &sealed),
        ] {
            assert!(matches!(wrong, Err(SealError::Open)));
        }
        let again = seal(key.public_key(), b"for", b"beside", b"the secret").unwrap();
        assert_ne!(again.ciphertext, sealed.ciphertext, "fresh every time");
    }

    #[test]
    fn other_kinds_of_keys_cannot_be_sealed_to() {
        let ed25519 = hex::decode(format!("302a300506032b6570032100{}", "11".repeat(32))).unwrap();
        let key = PublicKey::from_spki_der(&ed25519).unwrap();
        assert!(matches!(seal(&key, b"", b"", b"x"), Err(SealError::Recipient)));
        // A point that is not on the curve.
        let mut point = PrivateKey::generate().unwrap().public_key().point().to_vec();
        point[40] ^= 1;
        let key = PublicKey::from_p256_point(&point).unwrap();
        assert!(matches!(seal(&key, b"", b"", b"x"), Err(SealError::Recipient)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_survived_and_not_opened(
            encapsulated in proptest::collection::vec(any::<u8>(), 0..80),
            ciphertext in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let key = PrivateKey::generate().unwrap();
            let opened = open(&key, b"", b"", &Sealed { encapsulated, ciphertext });
            prop_assert!(opened.is_err());
        }

        #[test]
        fn a_changed_bit_is_seen(at in any::<prop::sample::Index>(), bit in 0..8u8, text in "[ -~]{0,60}") {
            let key = PrivateKey::generate().unwrap();
            let mut sealed = seal(key.public_key(), b"p", b"b", text.as_bytes()).unwrap();
            let first = sealed.encapsulated.len();
            let at = at.index(first + sealed.ciphertext.len());
            let byte = if at < first { &mut sealed.encapsulated[at] } else { &mut sealed.ciphertext[at - first] };
            *byte ^= 1 << bit;
            prop_assert!(open(&key, b"p", b"b", &sealed).is_err());
        }
    }
}
