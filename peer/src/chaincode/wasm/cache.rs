//! Compiled modules on disk.
//!
//! The file starts with a line that names the compiler, its configuration and the SHA-256 of what follows. A file that
//! does not match in all three is ignored and written again.

use std::hash::{Hash, Hasher};
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::{Engine, Module};

use crate::chaincode::store::write_atomically;

/// Feeds what identifies compiler and configuration into SHA-256.
#[derive(Default)]
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn header(engine: &Engine, content: &[u8]) -> String {
    let mut compiler = Fingerprint::default();
    engine.precompile_compatibility_hash().hash(&mut compiler);
    format!(
        "selvedge compiled chaincode 1 {} {}\n",
        hex::encode(compiler.0.finalize()),
        hex::encode(Sha256::digest(content))
    )
}

/// The module in the file, unless it is absent, damaged or made for another compiler or configuration.
pub(super) fn read(engine: &Engine, path: &Path) -> Option<Module> {
    let bytes = std::fs::read(path).ok()?;
    let end = bytes.iter().take(256).position(|b| *b == b'\n')? + 1;
    let (head, content) = bytes.split_at(end);
    if head != header(engine, content).as_bytes() {
        return None;
    }
    #[expect(
        unsafe_code,
        reason = "deserialising runs machine code, so the bytes must be a module that `write` stored: the file belongs \
                  to this user alone (0600), and its compiler, configuration and SHA-256 were just compared"
    )]
    // SAFETY: see the reason above; the bytes that are hashed are the bytes that are used.
    let module = unsafe { Module::deserialize(engine, content) };
    module.ok()
}

/// Stores a module for [`read`].
pub(super) fn write(engine: &Engine, path: &Path, module: &Module) -> Result<(), String> {
    let content = module.serialize().map_err(|e| format!("{e:#}"))?;
    let mut file = header(engine, &content).into_bytes();
    file.extend_from_slice(&content);
    write_atomically(path, &file).map_err(|e| e.to_string())
}
