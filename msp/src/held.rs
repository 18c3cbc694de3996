//! Keys that are not in this process's memory: who signs with them, and how a key file finds them.

use std::sync::OnceLock;

use crate::keys::{KeyError, PrivateKey, PublicKey};

/// Something that signs with an ECDSA P-256 key that it keeps to itself, such as a PKCS#11 token. Several threads may ask
/// at a time.
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs SHA-256 of `message`: r and s, big endian, 32 bytes each, one behind the other.
    ///
    /// # Errors
    /// What holds the key refuses or cannot be reached.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// What a key file says so that the key is found again, such as a `pkcs11:` URI (RFC 7512). No secret.
    fn reference(&self) -> &str;
}

type Opener = fn(&str) -> Result<PrivateKey, KeyError>;

/// What a reference begins with.
const SCHEME: &str = "pkcs11:";

static OPENER: OnceLock<Opener> = OnceLock::new();

/// Says once a process what opens the references that key files may hold instead of a key. Those who read key files need
/// not know about tokens then, and programs without tokens carry no code for them. A second call changes nothing.
pub fn open_references_with(opener: Opener) {
    // The first one stays.
    let _ = OPENER.set(opener);
}

pub(crate) fn is_reference(key_file: &str) -> bool {
    key_file.trim_start().starts_with(SCHEME)
}

pub(crate) fn open(reference: &str) -> Result<PrivateKey, KeyError> {
    let Some(opener) = OPENER.get() else {
        return Err(KeyError::Held {
            place: reference.to_owned(),
            reason: "this program was built without PKCS#11; build it with the feature pkcs11".to_owned(),
        });
    };
    opener(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key in memory that plays one held elsewhere.
    struct Elsewhere(p256::ecdsa::SigningKey, PublicKey);

    impl Signer for Elsewhere {
        fn public_key(&self) -> &PublicKey {
            &self.1
        }

        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
            use p256::ecdsa::signature::Signer as _;
            let signature: p256::ecdsa::Signature = self.0.sign(message);
            Ok(signature.to_bytes().to_vec())
        }

        fn reference(&self) -> &'static str {
            "pkcs11:object=x"
        }
    }

    #[test]
    fn a_held_key_signs_like_any_other_and_files_hold_its_reference() {
        let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let point = secret.verifying_key().to_sec1_point(false);
        let public = PublicKey::from_p256_point(point.as_bytes()).unwrap();
        let key = PrivateKey::held_by(Elsewhere(secret, public));
        for i in 0..32u8 {
            let signature = key.sign(&[i]).unwrap();
            // Low S is asked for, whatever the holder gives.
            assert_eq!(key.public_key().verify(&[i], &signature), Ok(()));
        }
        let request = crate::csr::create(&key, "x", &[]).unwrap();
        assert_eq!(
            &crate::csr::parse(request.as_bytes()).unwrap().public_key,
            key.public_key()
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        key.write_file(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "pkcs11:object=x\n");
        let error = PrivateKey::from_file(&file).unwrap_err().to_string();
        assert!(error.contains("feature pkcs11"), "{error}");
        assert!(matches!(key.scalar(), Err(KeyError::NotHere(_))));
    }
}
