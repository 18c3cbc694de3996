//! Private and public keys: ECDSA P-256 for signing, P-256, P-384 and Ed25519 for verifying (spec 02 §3).
//!
//! A private key is in this process's memory, or somewhere that signs for it, such as a PKCS#11 token ([`Signer`]).
//! Whoever holds a [`PrivateKey`] need not know which.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use ring::rand::SystemRandom;
use ring::signature::{self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::curve::{Curve, Rs};
use crate::files;
use crate::held::{self, Signer};
use crate::pem;

/// Why a key cannot be made, read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system gave no randomness, or the key pair was refused by the cryptography library.
    #[error("no key could be generated: {0}")]
    Generate(String),
    /// The text holds no key that can be read.
    #[error("this is not a P-256 private key in PEM (PKCS#8 or SEC1): {0}")]
    Malformed(String),
    /// A public key of a kind that signatures cannot be verified with.
    #[error("the public key is not ECDSA P-256, ECDSA P-384 or Ed25519: {0}")]
    UnsupportedPublicKey(String),
    /// The library refused to sign, for lack of randomness.
    #[error("signing failed, the system gave no randomness")]
    Sign,
    /// What holds the key refused, or cannot be reached.
    #[error("{place}: {reason}")]
    Held {
        /// Where the key is.
        place: String,
        /// What went wrong.
        reason: String,
    },
    /// The key's bytes are needed, but what holds it never gives them away.
    #[error("{0} does not give its private key away; use a key in a file for this")]
    NotHere(String),
    /// A key file cannot be read or written.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not SEQUENCE{INTEGER r, INTEGER s} in the form that spec 02 §3 asks for.
    #[error("the signature is not a DER encoded ECDSA signature")]
    Malformed,
    /// The larger of the two possible s values; only the smaller one is accepted.
    #[error("the signature has a high S value; the signer must use the lower one of S and order - S")]
    HighS,
    /// The signature belongs to other bytes or to another key.
    #[error("the signature does not match the signed bytes and the signer's certificate")]
    Mismatch,
    /// The certificate's key is of a kind that cannot verify.
    #[error("the signer's certificate has a key that is neither ECDSA P-256, P-384 nor Ed25519")]
    UnsupportedKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Ecdsa(Curve),
    Ed25519,
}

/// A public key that verifies signatures. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// The uncompressed point, or the 32 bytes of an Ed25519 key.
    point: Arc<[u8]>,
    spki: Arc<[u8]>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({:?}, ski {})",
            self.algorithm,
            hex::encode(self.ski())
        )
    }
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`KeyError::UnsupportedPublicKey`] when it is malformed or of another algorithm or curve.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok((_, info)) => Self::from_spki(&info),
            Err(e) => Err(KeyError::UnsupportedPublicKey(e.to_string())),
        }
    }

    pub(crate) fn from_spki(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        let algorithm = info.algorithm.algorithm.to_id_string();
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|p| p.as_oid().ok())
            .map(|o| o.to_id_string());
        let point = info.subject_public_key.data.as_ref();
        let (kind, expected) = match (algorithm.as_str(), curve.as_deref()) {
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => (Algorithm::Ecdsa(Curve::P256), 65),
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => (Algorithm::Ecdsa(Curve::P384), 97),
            ("1.3.101.112", None) => (Algorithm::Ed25519, 32),
            (algorithm, Some(curve)) => {
                return Err(KeyError::UnsupportedPublicKey(format!(
                    "algorithm {algorithm}, curve {curve}"
                )));
            }
            (algorithm, None) => {
                return Err(KeyError::UnsupportedPublicKey(format!("algorithm {algorithm}")));
            }
        };
        let uncompressed = kind == Algorithm::Ed25519 || point.first() == Some(&4);
        if point.len() != expected || !uncompressed {
            return Err(KeyError::UnsupportedPublicKey(
                "its point is not in uncompressed form".to_owned(),
            ));
        }
        Ok(Self {
            algorithm: kind,
            point: point.into(),
            spki: info.raw.into(),
        })
    }

    /// Checks `signature` over `message`: ECDSA over SHA-256 for both curves with low S, Ed25519 over the message itself
    /// (spec 02 §3).
    ///
    /// # Errors
    /// The reason why the signature does not count.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let checked = match self.algorithm {
            Algorithm::Ed25519 => {
                UnparsedPublicKey::new(&signature::ED25519, &self.point).verify(message, signature)
            }
            Algorithm::Ecdsa(curve) => {
                let rs = Rs::from_der(curve, signature).ok_or(SignatureError::Malformed)?;
                if !rs.is_low_s() {
                    return Err(SignatureError::HighS);
                }
                match curve {
                    Curve::P256 => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &self.point)
                        .verify(message, &rs.to_fixed()),
                    Curve::P384 => UnparsedPublicKey::new(&signature::ECDSA_P384_SHA256_ASN1, &self.point)
                        .verify(message, &rs.to_der()),
                }
            }
        };
        checked.map_err(|_| SignatureError::Mismatch)
    }

    /// Subject key identifier as Fabric's keystore names files by: SHA-256 of the uncompressed point (spec 02 §13.6).
    #[must_use]
    pub fn ski(&self) -> [u8; 32] {
        Sha256::digest(&self.point).into()
    }

    /// The DER SubjectPublicKeyInfo that the key was read from.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Reads PEM: a block labelled `PUBLIC KEY`, or the key of a `CERTIFICATE`.
    ///
    /// # Errors
    /// There is no such block, or its key is of a kind that is not supported.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        for block in pem::all_blocks(text) {
            match block.label.as_str() {
                "PUBLIC KEY" => return Self::from_spki_der(&block.content),
                "CERTIFICATE" => {
                    let certificate = crate::Certificate::from_der(&block.content)
                        .map_err(|e| KeyError::UnsupportedPublicKey(e.to_string()))?;
                    return certificate.public_key().cloned().ok_or_else(|| {
                        KeyError::UnsupportedPublicKey("the certificate's key is of another kind".to_owned())
                    });
                }
                _ => {}
            }
        }
        Err(KeyError::UnsupportedPublicKey(
            "there is no PEM block labelled PUBLIC KEY".to_owned(),
        ))
    }

    /// The key as PEM, labelled `PUBLIC KEY`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki)
    }

    /// A P-256 key from its uncompressed point (SEC 1): 4, then both coordinates.
    ///
    /// # Errors
    /// [`KeyError::UnsupportedPublicKey`] when it is not 65 bytes that begin with a 4.
    pub fn from_p256_point(point: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki_der(&crate::der::sequence(&[
            crate::der::sequence(&[
                crate::der::object_id(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]),
                crate::der::object_id(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
            ]),
            crate::der::bit_string(point),
        ]))
    }

    /// The uncompressed point, or the bytes of an Ed25519 key.
    pub(crate) fn point(&self) -> &[u8] {
        &self.point
    }

    pub(crate) fn curve(&self) -> Option<Curve> {
        match self.algorithm {
            Algorithm::Ecdsa(curve) => Some(curve),
            Algorithm::Ed25519 => None,
        }
    }

    pub(crate) fn is_ed25519(&self) -> bool {
        self.algorithm == Algorithm::Ed25519
    }
}

/// An ECDSA P-256 private key, in memory or held by a [`Signer`]. Clones share it; `Debug` shows only the public part.
#[derive(Clone)]
pub struct PrivateKey {
    inner: Arc<PrivateInner>,
}

enum PrivateInner {
    Memory {
        pair: Box<EcdsaKeyPair>,
        pkcs8: Zeroizing<Vec<u8>>,
        public: PublicKey,
        random: SystemRandom,
    },
    Held(Box<dyn Signer>),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.public_key())
    }
}

impl PrivateKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| KeyError::Generate("the system gave no randomness".to_owned()))?;
        let secret = p256::SecretKey::from_pkcs8_der(document.as_ref())
            .map_err(|e| KeyError::Generate(e.to_string()))?;
        Self::from_secret(&secret)
    }

    /// A key that something else holds.
    #[must_use]
    pub fn held_by(signer: impl Signer + 'static) -> Self {
        Self {
            inner: Arc::new(PrivateInner::Held(Box::new(signer))),
        }
    }

    /// Reads what a key file holds: a PEM key, PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`), where other blocks such
    /// as `EC PARAMETERS` are passed over; or a reference to a key that is held elsewhere, such as a `pkcs11:` URI
    /// (see [`crate::open_references_with`]).
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when there is no P-256 key in it, [`KeyError::Held`] when what holds it does not give it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if held::is_reference(text) {
            return held::open(text.trim());
        }
        let mut last = "it has no PEM block labelled PRIVATE KEY or EC PRIVATE KEY".to_owned();
        for block in pem::all_blocks(text.as_bytes()) {
            let content = Zeroizing::new(block.content);
            let parsed = match block.label.as_str() {
                "PRIVATE KEY" => p256::SecretKey::from_pkcs8_der(&content).map_err(|e| e.to_string()),
                "EC PRIVATE KEY" => p256::SecretKey::from_sec1_der(&content).map_err(|e| e.to_string()),
                "ENCRYPTED PRIVATE KEY" => {
                    Err("it is encrypted; store it decrypted with mode 0600".to_owned())
                }
                _ => continue,
            };
            match parsed {
                Ok(secret) => return Self::from_secret(&secret),
                Err(reason) => last = reason,
            }
        }
        Err(KeyError::Malformed(last))
    }

    /// Reads a PEM key file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no P-256 key.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|source| KeyError::File {
                path: path.display().to_string(),
                source,
            })?;
        Self::from_pem(&text)
    }

    fn from_secret(secret: &p256::SecretKey) -> Result<Self, KeyError> {
        let malformed = |e: String| KeyError::Malformed(e);
        let document = secret.to_pkcs8_der().map_err(|e| malformed(e.to_string()))?;
        let scalar = Zeroizing::new(secret.to_bytes());
        let point = secret.public_key().to_sec1_point(false);
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar.as_slice(),
            point.as_bytes(),
            &random,
        )
        .map_err(|e| malformed(e.to_string()))?;
        let public = PublicKey::from_p256_point(point.as_bytes())?;
        let pkcs8 = Zeroizing::new(document.as_bytes().to_vec());
        Ok(Self {
            inner: Arc::new(PrivateInner::Memory {
                pair: Box::new(pair),
                pkcs8,
                public,
                random,
            }),
        })
    }

    /// The key as PKCS#8 PEM text; for a key that is held elsewhere, what finds it again. [`Self::from_pem`] takes both.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(match &*self.inner {
            PrivateInner::Memory { pkcs8, .. } => pem::encode("PRIVATE KEY", pkcs8),
            PrivateInner::Held(signer) => format!("{}\n", signer.reference()),
        })
    }

    /// The key's number, for operations other than signing.
    pub(crate) fn scalar(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match &*self.inner {
            PrivateInner::Memory { pkcs8, .. } => {
                let secret =
                    p256::SecretKey::from_pkcs8_der(pkcs8).map_err(|e| KeyError::Malformed(e.to_string()))?;
                Ok(Zeroizing::new(secret.to_bytes().to_vec()))
            }
            PrivateInner::Held(signer) => Err(KeyError::NotHere(signer.reference().to_owned())),
        }
    }

    /// Writes [`Self::to_pkcs8_pem`] with mode 0600: whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_file(&self, path: &Path) -> Result<(), KeyError> {
        files::write_secret(path, self.to_pkcs8_pem().as_bytes()).map_err(|source| KeyError::File {
            path: path.display().to_string(),
            source,
        })
    }

    /// Signs SHA-256 of `message`: DER with low S (spec 02 §3).
    ///
    /// # Errors
    /// [`KeyError::Sign`] when the system gives no randomness, [`KeyError::Held`] when what holds the key does not sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let rs = match &*self.inner {
            PrivateInner::Memory { pair, random, .. } => {
                let fixed = pair.sign(random, message).map_err(|_| KeyError::Sign)?;
                Rs::from_fixed(Curve::P256, fixed.as_ref()).ok_or(KeyError::Sign)?
            }
            PrivateInner::Held(signer) => {
                let fixed = signer.sign(message)?;
                Rs::from_fixed(Curve::P256, &fixed).ok_or_else(|| KeyError::Held {
                    place: signer.reference().to_owned(),
                    reason: format!("a P-256 signature has 64 bytes, this one {}", fixed.len()),
                })?
            }
        };
        Ok(rs.into_low_s().to_der())
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        match &*self.inner {
            PrivateInner::Memory { public, .. } => public,
            PrivateInner::Held(signer) => signer.public_key(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_verify_and_are_low_s() {
        let key = PrivateKey::generate().unwrap();
        let other = PrivateKey::generate().unwrap();
        for i in 0..64u8 {
            let message = [i; 40];
            let signature = key.sign(&message).unwrap();
            assert!(Rs::from_der(Curve::P256, &signature).unwrap().is_low_s());
            assert_eq!(key.public_key().verify(&message, &signature), Ok(()));
            assert_eq!(
                key.public_key().verify(b"other", &signature),
                Err(SignatureError::Mismatch)
            );
            assert_eq!(
                other.public_key().verify(&message, &signature),
                Err(SignatureError::Mismatch)
            );
        }
    }

    #[test]
    fn the_other_s_is_refused_and_trailing_bytes_are_not() {
        let key = PrivateKey::generate().unwrap();
        let mut signature = key.sign(b"m").unwrap();
        let mut rs = Rs::from_der(Curve::P256, &signature).unwrap();
        signature.extend_from_slice(&[1, 2, 3]);
        assert_eq!(key.public_key().verify(b"m", &signature), Ok(()));
        // order - s, by subtracting from the order as the high value is beyond the half.
        let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
        let mut borrow = 0i32;
        for i in (0..32).rev() {
            let d = i32::from(order[i]) - i32::from(rs.s[i]) - borrow;
            borrow = i32::from(d < 0);
            rs.s[i] = u8::try_from(d.rem_euclid(256)).unwrap();
        }
        assert_eq!(
            key.public_key().verify(b"m", &rs.to_der()),
            Err(SignatureError::HighS)
        );
        assert_eq!(key.public_key().verify(b"m", b""), Err(SignatureError::Malformed));
    }

    #[test]
    fn keys_survive_pem_and_files_and_stay_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub").join("key_sk");
        let key = PrivateKey::generate().unwrap();
        key.write_file(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let back = PrivateKey::from_file(&path).unwrap();
        assert_eq!(back.public_key(), key.public_key());
        assert_eq!(back.public_key().verify(b"x", &key.sign(b"x").unwrap()), Ok(()));
        let shown = format!("{key:?}");
        assert!(
            shown.contains(&hex::encode(key.public_key().ski())) && shown.len() < 120,
            "{shown}"
        );
        let missing = PrivateKey::from_file(&dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("none"), "{missing}");
    }

    #[test]
    fn sec1_keys_with_parameters_are_read() {
        // openssl ecparam -name prime256v1 -genkey: EC PARAMETERS comes first.
        let key = PrivateKey::generate().unwrap();
        let pkcs8 = key.to_pkcs8_pem();
        let secret = {
            use p256::pkcs8::DecodePrivateKey as _;
            p256::SecretKey::from_pkcs8_pem(&pkcs8).unwrap()
        };
        let sec1 = pem::encode("EC PRIVATE KEY", &secret.to_sec1_der().unwrap());
        let text =
            format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}");
        assert_eq!(
            PrivateKey::from_pem(&text).unwrap().public_key(),
            key.public_key()
        );
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        for text in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(
                matches!(PrivateKey::from_pem(text), Err(KeyError::Malformed(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn p384_keys_verify_over_sha256() {
        // openssl ecparam -name secp384r1 -genkey; openssl dgst -sha256 -sign; its S happens to be the high one.
        let spki = "3076301006072a8648ce3d020106052b81040022036200043fdf53cdaaa2fcecabc3fca2729bb8d32173c45c6068b1db52dd\
                    09d3e62dd07be0811b6dd4f903413a89d0544986d72d80affe1c9544d8d154a90f001d8888dd542aca3c9db009e8305b092f\
                    189c007f53630f02f5aac13f122906d209edff6f";
        let signature = "30660231009c48d189bee26ea4cc71df3a33c4491b46d26d8426cfecfa8f19856ddc4b74df18c658ac329e7c9afde262\
                         d05c74aed90231009d5c3b03456e3e2a62da9c66686dc06a3343fb5bcc76a11441a81d79982433429728e2a0690d70ab\
                         70c7b5b96baa8fbe";
        let key = PublicKey::from_spki_der(&hex::decode(spki).unwrap()).unwrap();
        let high = hex::decode(signature).unwrap();
        assert_eq!(key.verify(b"a message", &high), Err(SignatureError::HighS));
        let mut low = Rs::from_der(Curve::P384, &high).unwrap().into_low_s().to_der();
        assert_eq!(key.verify(b"a message", &low), Ok(()));
        assert_eq!(
            key.verify(b"another message", &low),
            Err(SignatureError::Mismatch)
        );
        low.extend_from_slice(b"trailing");
        assert_eq!(key.verify(b"a message", &low), Ok(()));
    }

    #[test]
    fn other_kinds_of_public_keys_are_refused() {
        let p256 = PrivateKey::generate().unwrap().public_key().spki_der().to_vec();
        let mut compressed = p256.clone();
        *compressed.get_mut(26).unwrap() = 2;
        let mut other_curve = p256.clone();
        *other_curve.get_mut(22).unwrap() = 9;
        for bad in [&compressed, &other_curve, &p256[..40].to_vec(), &Vec::new()] {
            assert!(
                matches!(
                    PublicKey::from_spki_der(bad),
                    Err(KeyError::UnsupportedPublicKey(_))
                ),
                "{bad:?}"
            );
        }
    }
}
