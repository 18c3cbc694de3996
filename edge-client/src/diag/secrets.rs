//! The secrets of a gateway, to be searched for in what leaves the machine.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use selvedge_msp::pem;
use zeroize::Zeroizing;

use super::redact;
use crate::config::EdgeConfig;

/// Shorter texts would be found everywhere by chance.
const SHORTEST: usize = 6;
/// Bytes of a key that are searched for on their own, so that a part of it shows as well.
const PIECE_BYTES: usize = 16;
/// A file longer than this is no key.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// All forms of all secrets; the longest first.
pub(super) struct Secrets {
    forms: Vec<Zeroizing<Vec<u8>>>,
}

impl Secrets {
    /// Of the configuration's secret settings, of every key and seed file it names or that lies in its folders.
    pub(super) fn collect(config_text: &str, config: Option<&EdgeConfig>) -> Self {
        let mut secrets = Self { forms: Vec::new() };
        for text in redact::secret_texts(config_text) {
            secrets.add_text(&text);
        }
        let mut files = Vec::new();
        if let Some(config) = config {
            for dir in [
                config.msp_dir.join("keystore"),
                config.data_dir.clone(),
                config.data_dir.join("identities"),
                config.data_dir.join("buffer"),
                config.data_dir.join("keys"),
            ] {
                files.extend(key_files(&dir));
            }
            let nodes = config.uplink.peers.iter().chain(&config.uplink.orderers);
            files.extend(nodes.filter_map(|n| n.client_key.clone()));
            let tls = config.operations.as_ref().and_then(|o| o.tls.as_ref());
            files.extend(tls.map(|t| t.key.clone()));
        }
        for file in files {
            let is_short = std::fs::metadata(&file).is_ok_and(|m| m.len() <= MAX_KEY_FILE_BYTES);
            if let (true, Ok(content)) = (is_short, std::fs::read(&file)) {
                secrets.add_file(&Zeroizing::new(content));
            }
        }
        secrets.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        secrets.forms.dedup();
        secrets
    }

    fn add(&mut self, form: Vec<u8>) {
        // What stands in a secret's place would be found in it again.
        let is_blank = memchr::memmem::find(redact::BLANK.as_bytes(), &form).is_some();
        if form.len() >= SHORTEST && !is_blank {
            self.forms.push(Zeroizing::new(form));
        }
    }

    fn add_text(&mut self, text: &str) {
        self.add(text.as_bytes().to_vec());
        self.add(STANDARD_NO_PAD.encode(text).into_bytes());
    }

    /// Raw bytes in the forms in which a log could show them: as they are, hex, base64, a list of numbers.
    fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.to_vec());
        for piece in bytes.chunks(PIECE_BYTES).filter(|p| p.len() >= SHORTEST) {
            let hex = hex::encode(piece);
            self.add(hex.to_uppercase().into_bytes());
            self.add(hex.into_bytes());
            let numbers: Vec<String> = piece.iter().map(u8::to_string).collect();
            self.add(numbers.join(", ").into_bytes());
            self.add(numbers.join(",").into_bytes());
        }
        self.add(STANDARD.encode(bytes).into_bytes());
        self.add(STANDARD_NO_PAD.encode(bytes).into_bytes());
        self.add(URL_SAFE_NO_PAD.encode(bytes).into_bytes());
    }

    /// A key file: PEM line by line and as the bytes inside, or bytes as they are.
    fn add_file(&mut self, content: &[u8]) {
        let blocks = pem::all_blocks(content);
        if blocks.is_empty() {
            self.add_bytes(content);
            if let Ok(text) = std::str::from_utf8(content) {
                for line in text.lines() {
                    self.add_text(line.trim());
                }
            }
            return;
        }
        for block in blocks.iter().filter(|b| b.label.contains("PRIVATE KEY")) {
            self.add_bytes(&block.content);
            for scalar in scalars(&block.content) {
                self.add_bytes(scalar);
            }
        }
        let mut inside = false;
        for line in String::from_utf8_lossy(content).lines() {
            if line.starts_with("-----") {
                inside = line.contains("BEGIN") && line.contains("PRIVATE KEY");
            } else if inside {
                self.add_text(line.trim());
            }
        }
    }

    /// Blanks every secret in `content`; returns how many were there.
    pub(super) fn blank(&self, content: &mut Vec<u8>) -> usize {
        let mut found = 0;
        for form in &self.forms {
            let places: Vec<usize> = memchr::memmem::find_iter(content, form.as_slice()).collect();
            if places.is_empty() {
                continue;
            }
            found += places.len();
            let mut rest = content.as_slice();
            let mut clean = Vec::with_capacity(content.len());
            let mut read = 0;
            for place in places {
                let (before, after) = rest.split_at(place - read);
                clean.extend_from_slice(before);
                clean.extend_from_slice(redact::BLANK.as_bytes());
                rest = &after[form.len()..];
                read = place + form.len();
            }
            clean.extend_from_slice(rest);
            *content = clean;
        }
        found
    }
}

/// The 32-byte octet strings inside a key's DER: the secret number of a P-256 key.
fn scalars(der: &[u8]) -> impl Iterator<Item = &[u8]> {
    der.windows(34)
        .filter(|w| w.starts_with(&[0x04, 0x20]))
        .map(|w| &w[2..])
}

/// Files of a folder that hold keys by their name or by being in a keystore.
fn key_files(dir: &Path) -> Vec<PathBuf> {
    let is_keystore = dir.ends_with("keystore") || dir.ends_with("keys");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| e.path())
        .filter(|path| {
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            path.is_file() && (is_keystore || ["key", "seed", "secret", "psk"].contains(&extension))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &[u8]) -> Secrets {
        let mut secrets = Secrets { forms: Vec::new() };
        secrets.add_file(file);
        secrets.forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        secrets
    }

    #[test]
    fn a_key_is_found_in_every_form() {
        let key = selvedge_msp::PrivateKey::generate().unwrap().to_pkcs8_pem();
        let block = pem::all_blocks(key.as_bytes()).remove(0);
        let scalar = scalars(&block.content).next().unwrap().to_vec();
        let secrets = of(key.as_bytes());
        let numbers: Vec<String> = scalar.iter().map(u8::to_string).collect();
        for text in [
            key.as_bytes().to_vec(),
            key.replace('\n', "\\n").into_bytes(),
            hex::encode(&scalar).into_bytes(),
            hex::encode_upper(&scalar[..16]).into_bytes(),
            STANDARD.encode(&scalar).into_bytes(),
            format!("[{}]", numbers.join(", ")).into_bytes(),
            scalar.clone(),
        ] {
            let mut log = [b"before ".as_slice(), &text, b" after"].concat();
            assert!(secrets.blank(&mut log) > 0);
            assert_eq!(secrets.blank(&mut log), 0, "nothing is left");
            assert!(log.starts_with(b"before ") && log.ends_with(b" after"));
        }
        let mut harmless = b"-----BEGIN CERTIFICATE----- 1, 2, 3".to_vec();
        assert_eq!(secrets.blank(&mut harmless), 0);
    }

    #[test]
    fn a_word_of_the_blank_itself_is_left() {
        let mut secrets = Secrets { forms: Vec::new() };
        secrets.add_text("blanked");
        let mut text = b"a (blanked) thing".to_vec();
        assert_eq!(secrets.blank(&mut text), 0);
    }
}
