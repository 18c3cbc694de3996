//! Hashes: of bytes that a contract works on, and of documents that stay elsewhere.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::json::Object;
use crate::{Error, Result};

/// SHA-256 of bytes, in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(*DIGITS.get(usize::from(value & 15)).unwrap_or(&b'0'));
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// How a document was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub enum HashAlgorithm {
    /// SHA-256, the one that is meant when none is named.
    #[default]
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-384.
    #[serde(rename = "SHA-384")]
    Sha384,
    /// SHA-512.
    #[serde(rename = "SHA-512")]
    Sha512,
    /// SHA3-256.
    #[serde(rename = "SHA3-256")]
    Sha3_256,
    /// SHA3-512.
    #[serde(rename = "SHA3-512")]
    Sha3_512,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha3_256,
        Self::Sha3_512,
    ];

    /// The name as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
            Self::Sha3_256 => "SHA3-256",
            Self::Sha3_512 => "SHA3-512",
        }
    }

    /// Hex digits that a hash has.
    pub fn digits(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha3_256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 | Self::Sha3_512 => 128,
        }
    }

    /// Reads a name, whatever its case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(name))
    }

    /// Reads the optional field `algorithm`.
    ///
    /// # Errors
    /// Status 400 for one that is not known, naming those that are.
    pub fn read(object: &mut Object<'_>) -> Result<Option<Self>> {
        let Some(field) = object.optional("algorithm") else {
            return Ok(None);
        };
        let name = field.text(16)?;
        Self::named(&name).map(Some).ok_or_else(|| {
            Error::bad_request(format!(
                "{} must be one of {}, not {name}",
                field.path(),
                Self::ALL.map(Self::as_str).join(", ")
            ))
        })
    }
}

/// The hash of a document: lower-case hex and how it was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DocumentHash {
    /// Lower-case hex.
    pub hash: String,
    /// How it was made.
    pub algorithm: HashAlgorithm,
}

impl DocumentHash {
    /// Reads the fields `hash` (hex in any case) and `algorithm` of an object; `None` when there is no hash.
    ///
    /// # Errors
    /// Status 400 when the hash does not have the digits of its algorithm.
    pub fn read(object: &mut Object<'_>) -> Result<Option<Self>> {
        Self::read_with(object, None)
    }

    /// As [`DocumentHash::read`], with the algorithm that counts when the object names none.
    ///
    /// # Errors
    /// As [`DocumentHash::read`].
    pub fn read_with(object: &mut Object<'_>, common: Option<HashAlgorithm>) -> Result<Option<Self>> {
        let algorithm = HashAlgorithm::read(object)?.or(common).unwrap_or_default();
        object
            .optional("hash")
            .map(|field| {
                let hash = field.name(128)?.to_ascii_lowercase();
                check(&hash, algorithm, field.path())?;
                Ok(Self { hash, algorithm })
            })
            .transpose()
    }
}

/// Checks that a text is a hash of this kind; `place` is what the error calls it.
fn check(hash: &str, algorithm: HashAlgorithm, place: &str) -> Result<()> {
    let digits = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits && hash.len() == algorithm.digits() {
        return Ok(());
    }
    let found = if digits {
        format!("{} of them", hash.len())
    } else {
        let start: String = hash.chars().take(20).collect();
        format!("text such as {start}")
    };
    Err(Error::bad_request(format!(
        "{place} must be {} hex digits for {}, not {found}",
        algorithm.digits(),
        algorithm.as_str()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_hash_has_the_digits_of_its_algorithm() {
        let read = |text: &str| DocumentHash::read(&mut Object::parse(text, "doc").unwrap());
        let short = "AB".repeat(32);
        let found = read(&format!(r#"{{"hash":"{short}"}}"#)).unwrap().unwrap();
        assert_eq!(
            (found.hash, found.algorithm),
            ("ab".repeat(32), HashAlgorithm::Sha256)
        );
        assert!(read(&format!(r#"{{"hash":"{short}","algorithm":"sha3-256"}}"#)).is_ok());
        for bad in [
            format!(r#"{{"hash":"{short}","algorithm":"SHA-512"}}"#),
            format!(r#"{{"hash":"{short}","algorithm":"MD5"}}"#),
            r#"{"hash":"zz"}"#.to_owned(),
            r#"{"hash":7}"#.to_owned(),
        ] {
            assert_eq!(read(&bad).unwrap_err().status(), 400, "{bad}");
        }
        assert_eq!(read(r#"{"hash":""}"#).unwrap(), None);
    }
}
