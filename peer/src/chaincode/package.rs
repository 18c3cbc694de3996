//! Chaincode packages (spec 08 §6): a gzipped tar of `metadata.json` and `code.tar.gz`, the latter holding one
//! `contract.wasm`. The package id is the label and the hash of the exact bytes.

use std::io::Read;

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Largest package file that is accepted, in bytes.
pub const MAX_PACKAGE_BYTES: usize = 32 * 1024 * 1024;
/// Largest wasm module in a package, in bytes.
pub const MAX_MODULE_BYTES: u64 = 16 * 1024 * 1024;
/// Longest label: package id and suffix must fit a file name.
pub const MAX_LABEL_BYTES: usize = 128;
/// The chaincode type that this peer runs.
pub const WASM_TYPE: &str = "wasm";

const MAX_METADATA_BYTES: u64 = 64 * 1024;
const MAX_ENTRIES: usize = 64;
const MODULE_NAME: &str = "contract.wasm";

/// Why a package is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file is larger than [`MAX_PACKAGE_BYTES`].
    #[error("chaincode package of {size} bytes is too large: at most {MAX_PACKAGE_BYTES} bytes are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// An archive does not read.
    #[error("error reading {archive} as a gzipped tar: {why}")]
    Archive {
        /// Which archive.
        archive: &'static str,
        /// What the reader said.
        why: String,
    },
    /// An entry that is no plain file.
    #[error("tar entry {name} is not a regular file, type {kind}")]
    NotRegular {
        /// Name of the entry.
        name: String,
        /// Type flag of the entry.
        kind: u8,
    },
    /// A file is missing.
    #[error("did not find any {file} in {archive}: {hint}")]
    Missing {
        /// The missing file.
        file: &'static str,
        /// Where it should be.
        archive: &'static str,
        /// How packages are made.
        hint: &'static str,
    },
    /// A part is larger than allowed.
    #[error("{part} is larger than {limit} bytes")]
    PartTooLarge {
        /// Which part.
        part: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// `metadata.json` is not what it should be.
    #[error("could not unmarshal metadata.json: {0}")]
    Metadata(String),
    /// The label is malformed.
    #[error(
        "invalid label '{0}': a label is made of letters, digits and _ . + -, starts with a letter or digit, and \
         has at most {MAX_LABEL_BYTES} characters"
    )]
    Label(String),
    /// The package is for another kind of peer.
    #[error(
        "chaincode of type '{0}' cannot run on this peer: it runs type 'wasm'. Build the contract for \
         wasm32-unknown-unknown and package it with that type"
    )]
    Type(String),
    /// The module in the package is not acceptable.
    #[error("package {package_id}: {why}")]
    Module {
        /// Id of the package.
        package_id: String,
        /// What is wrong with the module.
        why: String,
    },
    /// The package is there already.
    #[error("chaincode already successfully installed (package ID '{0}')")]
    AlreadyInstalled(String),
    /// A file of the package store could not be read or written, or is damaged.
    #[error("package store: {path}: {why}")]
    Store {
        /// The file or folder.
        path: String,
        /// What failed, and what to do.
        why: String,
    },
}

/// A package whose outer form is good.
#[derive(Debug)]
pub struct Package {
    /// Label in `metadata.json`.
    pub label: String,
    /// `label:hash` (spec 02 §15).
    pub package_id: String,
    /// The wasm module.
    pub module: Vec<u8>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "type")]
    kind: String,
    label: String,
}

/// Id of a package: label, colon, lowercase hex of SHA-256 over the exact bytes of the file.
pub fn package_id(label: &str, bytes: &[u8]) -> String {
    format!("{label}:{}", hex::encode(Sha256::digest(bytes)))
}

/// True when a label is well formed (spec 08 §6).
pub fn label_is_valid(label: &str) -> bool {
    label.len() <= MAX_LABEL_BYTES
        && label.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b))
}

/// Reads a package. The module is not looked at here.
///
/// # Errors
/// See [`PackageError`].
pub fn read_package(bytes: &[u8]) -> Result<Package, PackageError> {
    const OUTER: &str = "the chaincode package";
    const HINT: &str = "a package holds metadata.json and code.tar.gz";
    if bytes.len() > MAX_PACKAGE_BYTES {
        return Err(PackageError::TooLarge { size: bytes.len() });
    }
    let mut metadata = None;
    let mut code = None;
    for_each_file(bytes, OUTER, |name, file| {
        match name {
            "metadata.json" => metadata = Some(read_bounded(file, name, MAX_METADATA_BYTES, OUTER)?),
            "code.tar.gz" => code = Some(read_bounded(file, name, MAX_PACKAGE_BYTES as u64, OUTER)?),
            other => tracing::warn!(file = other, "ignoring an unknown file in a chaincode package"),
        }
        Ok(())
    })?;
    let metadata = metadata.ok_or(PackageError::Missing {
        file: "metadata.json",
        archive: OUTER,
        hint: HINT,
    })?;
    let code = code.ok_or(PackageError::Missing {
        file: "code.tar.gz",
        archive: OUTER,
        hint: HINT,
    })?;
    let metadata: Metadata =
        serde_json::from_slice(&metadata).map_err(|e| PackageError::Metadata(e.to_string()))?;
    if !label_is_valid(&metadata.label) {
        return Err(PackageError::Label(metadata.label));
    }
    if !metadata.kind.eq_ignore_ascii_case(WASM_TYPE) {
        return Err(PackageError::Type(metadata.kind));
    }
    let package_id = package_id(&metadata.label, bytes);
    Ok(Package {
        module: read_module(&code)?,
        package_id,
        label: metadata.label,
    })
}

fn read_module(code: &[u8]) -> Result<Vec<u8>, PackageError> {
    const INNER: &str = "code.tar.gz";
    let mut module = None;
    for_each_file(code, INNER, |name, file| {
        if name.rsplit('/').next() == Some(MODULE_NAME) && module.is_none() {
            module = Some(read_bounded(file, name, MAX_MODULE_BYTES, INNER)?);
        }
        Ok(())
    })?;
    module.ok_or(PackageError::Missing {
        file: MODULE_NAME,
        archive: INNER,
        hint: "the code of a wasm chaincode is one file of that name",
    })
}

/// Calls `visit` with the name and reader of each file of a gzipped tar. What one archive may unpack to in all is
/// bounded, so that a small file cannot keep the peer busy.
fn for_each_file(
    bytes: &[u8],
    archive: &'static str,
    mut visit: impl FnMut(&str, &mut dyn Read) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    let unreadable = |e: std::io::Error| PackageError::Archive {
        archive,
        why: e.to_string(),
    };
    let unpacked_limit = 2 * MAX_PACKAGE_BYTES as u64;
    let mut tar = tar::Archive::new(GzDecoder::new(bytes).take(unpacked_limit));
    for (count, entry) in tar.entries().map_err(unreadable)?.enumerate() {
        if count >= MAX_ENTRIES {
            return Err(PackageError::Archive {
                archive,
                why: format!("it has more than {MAX_ENTRIES} entries"),
            });
        }
        let mut entry = entry.map_err(unreadable)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            if archive == "code.tar.gz" && kind.is_dir() {
                continue;
            }
            return Err(PackageError::NotRegular {
                name,
                kind: kind.as_byte(),
            });
        }
        visit(name.strip_prefix("./").unwrap_or(&name), &mut entry)?;
    }
    Ok(())
}

fn read_bounded(
    file: &mut dyn Read,
    name: &str,
    limit: u64,
    archive: &'static str,
) -> Result<Vec<u8>, PackageError> {
    let mut out = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|e| PackageError::Archive {
            archive,
            why: e.to_string(),
        })?;
    if out.len() as u64 > limit {
        return Err(PackageError::PartTooLarge {
            part: name.to_owned(),
            limit,
        });
    }
    Ok(out)
}

/// Makes a package of a wasm module. The same label and module give the same bytes, and so the same package id,
/// on every machine: times, owners and modes are fixed.
///
/// # Errors
/// The label is malformed or the module too large.
pub fn write_package(label: &str, module: &[u8]) -> Result<Vec<u8>, PackageError> {
    if !label_is_valid(label) {
        return Err(PackageError::Label(label.to_owned()));
    }
    if module.len() as u64 > MAX_MODULE_BYTES {
        return Err(PackageError::PartTooLarge {
            part: MODULE_NAME.to_owned(),
            limit: MAX_MODULE_BYTES,
        });
    }
    let metadata = serde_json::json!({ "path": "", "type": WASM_TYPE, "label": label }).to_string();
    let unwritable = |e: std::io::Error| PackageError::Archive {
        archive: "the chaincode package",
        why: e.to_string(),
    };
    let code = gzipped_tar(&[(MODULE_NAME, module)]).map_err(unwritable)?;
    gzipped_tar(&[("metadata.json", metadata.as_bytes()), ("code.tar.gz", &code)]).map_err(unwritable)
}

fn gzipped_tar(files: &[(&str, &[u8])]) -> std::io::Result<Vec<u8>> {
    let gzip = flate2::GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(gzip);
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, name, *bytes)?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_package_reads_back_and_is_reproducible() {
        let bytes = write_package("shipment_1.0", b"\0asm-module").unwrap();
        assert_eq!(bytes, write_package("shipment_1.0", b"\0asm-module").unwrap());
        let package = read_package(&bytes).unwrap();
        assert_eq!(package.label, "shipment_1.0");
        assert_eq!(package.module, b"\0asm-module");
        assert_eq!(
            package.package_id,
            format!("shipment_1.0:{}", hex::encode(Sha256::digest(&bytes)))
        );
    }

    #[test]
    fn labels() {
        for good in ["a", "shipment_1.0", "9+x-y"] {
            assert!(label_is_valid(good), "{good}");
        }
        for bad in ["", "_a", "a b", "a/b", "ä", &"x".repeat(MAX_LABEL_BYTES + 1)] {
            assert!(!label_is_valid(bad), "{bad}");
        }
    }

    fn package(metadata: &str, code: &[u8]) -> Vec<u8> {
        gzipped_tar(&[("metadata.json", metadata.as_bytes()), ("code.tar.gz", code)]).unwrap()
    }

    #[test]
    fn each_fault_is_named() {
        let code = gzipped_tar(&[(MODULE_NAME, b"x")]).unwrap();
        let text = |bytes: &[u8]| read_package(bytes).unwrap_err().to_string();
        assert!(text(b"junk").contains("gzipped tar"));
        assert!(
            text(&gzipped_tar(&[("metadata.json", b"{}")]).unwrap()).contains("did not find any code.tar.gz")
        );
        assert!(text(&package("{", &code)).contains("could not unmarshal metadata.json"));
        let golang = r#"{"path":"p","type":"golang","label":"l"}"#;
        assert!(text(&package(golang, &code)).contains("type 'golang' cannot run on this peer"));
        let label = r#"{"path":"","type":"wasm","label":"a b"}"#;
        assert!(text(&package(label, &code)).contains("invalid label 'a b'"));
        let good = r#"{"path":"","type":"wasm","label":"l"}"#;
        let empty = gzipped_tar(&[("other", b"x")]).unwrap();
        assert!(text(&package(good, &empty)).contains("did not find any contract.wasm in code.tar.gz"));
        assert!(read_package(&package(good, &code)).is_ok());
    }

    #[test]
    fn only_plain_files_are_accepted() {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "metadata.json", "/etc/passwd")
            .unwrap();
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        assert_eq!(
            read_package(&bytes).unwrap_err().to_string(),
            "tar entry metadata.json is not a regular file, type 50"
        );
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; usize::try_from(MAX_MODULE_BYTES).unwrap() + 1];
        let code = gzipped_tar(&[(MODULE_NAME, &zeros)]).unwrap();
        let bytes = package(r#"{"path":"","type":"wasm","label":"l"}"#, &code);
        assert!(matches!(
            read_package(&bytes),
            Err(PackageError::PartTooLarge { .. })
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_safe(bytes: Vec<u8>) {
            let _ = read_package(&bytes);
        }
    }
}
