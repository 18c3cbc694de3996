//! Opening what a device sealed for the owner of a key; everybody on the way, this gateway included, carries it unread.

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use selvedge_msp::PrivateKey;
use selvedge_msp::seal::{self, Sealed};

use crate::EdgeError;

/// Keeps readings from being taken for messages of another kind (`info` in RFC 9180).
const PURPOSE: &[u8] = b"selvedge reading 1";
/// An uncompressed point of P-256: the sender's half of the key agreement.
const ENCAPSULATED_BYTES: usize = 65;

/// Opens a reading's `sealed` member.
///
/// # Errors
/// It is not one, was sealed to another key, or was changed.
pub(crate) fn open(key: &PrivateKey, text: &str) -> Result<Vec<u8>, String> {
    let bytes = STANDARD
        .decode(text.trim())
        .map_err(|e| format!("it is not base64: {e}"))?;
    let (encapsulated, ciphertext) = bytes
        .split_at_checked(ENCAPSULATED_BYTES)
        .ok_or("it is too short to be sealed content")?;
    let sealed = Sealed {
        encapsulated: encapsulated.to_vec(),
        ciphertext: ciphertext.to_vec(),
    };
    let content = seal::open(key, PURPOSE, b"", &sealed).map_err(|e| e.to_string())?;
    Ok(content.to_vec())
}

/// Opens what comes on the standard input with the key in a PEM file.
///
/// # Errors
/// A sentence for the person who typed the command.
pub(crate) fn open_standard_input(key: &Path) -> Result<Vec<u8>, EdgeError> {
    let bad = |path: &Path, why: String| EdgeError::Config {
        path: path.to_owned(),
        why,
    };
    let private = PrivateKey::from_file(key).map_err(|e| bad(key, e.to_string()))?;
    let input = PathBuf::from("the standard input");
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|e| bad(&input, e.to_string()))?;
    open(&private, &text).map_err(|why| bad(&input, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sealed by the reference device, with the Python package `cryptography`.
    #[test]
    fn what_a_device_sealed_is_opened_by_its_owner_only() {
        let key = PrivateKey::from_pem(
            "-----BEGIN PRIVATE KEY-----\n\
             MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgP9HNMqU8IqbzRG5T\n\
             uech6fc1qWGfWrqvsArM6Gs+p1ahRANCAARHKQCxbPv7l+igFGBtTdohSVueaLiy\n\
             lEoz6CTmiFxrOAxfjZv9gJnOjFDT4zpaQcsqauqlnZnJQmEVOYqmmzLj\n\
             -----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let sealed = "BF/1Hu/gqQSqIjEa5ihXe7Q9W/f6mayM0m71ctSNJ9epXkxCv1Bf4Fl8QitilNY3idL77L5nbuhGK7jg2iGf5n2VebWZnmLCXav5\
                      Pu0f8ewD62R3VZwTNXDhp5I=";
        assert_eq!(open(&key, sealed).unwrap(), b"for my eyes");
        let stranger = PrivateKey::generate().unwrap();
        assert!(open(&stranger, sealed).is_err());
        let changed = sealed.replace("Pu0f", "Pu0g");
        for text in ["", "AAAA", "???", changed.as_str()] {
            assert!(open(&key, text).is_err(), "{text}");
        }
    }
}
