//! Hashing what stays at home.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::error::CliError;

fn of_reader<D: Digest>(mut from: impl Read) -> std::io::Result<String> {
    let mut hash = D::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

/// The hash of a file, in hex. Files of any size are read in pieces.
pub(super) fn of_file(path: &Path, algorithm: &str) -> Result<String, CliError> {
    let unreadable = |source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    match algorithm.to_ascii_uppercase().as_str() {
        "SHA-256" => of_reader::<Sha256>(file),
        "SHA-384" => of_reader::<Sha384>(file),
        "SHA-512" => of_reader::<Sha512>(file),
        other => {
            return Err(CliError::said(format!(
                "{other} cannot be worked out here; use SHA-256, SHA-384 or SHA-512, or hand in a hash"
            )));
        }
    }
    .map_err(unreadable)
}

/// SHA-256 of text, in hex.
pub(super) fn of_text(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}
