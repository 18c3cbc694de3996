//! Keys in PKCS#11 tokens (smart cards, HSMs, TPMs behind a module), named by URIs (RFC 7512):
//!
//! ```text
//! pkcs11:token=truck-17;object=selvedge?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/selvedge/pin
//! ```
//!
//! A key file whose content is such a URI stands for the token's key wherever a key file is read. The PIN is in a file of
//! its own: a URI with `pin-value` is refused, since URIs end up in logs and lists of processes.
//!
//! [`install`] is called once, at the start of a program.

use std::path::PathBuf;

use selvedge_msp::{KeyError, PrivateKey};

mod token;

/// What such a URI begins with.
pub const SCHEME: &str = "pkcs11:";
/// URIs beyond this length name nothing sensible.
const MAX_URI_BYTES: usize = 4096;

/// Which key of which token, and how to get at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Uri {
    /// As given, for messages and key files.
    text: String,
    token: Option<String>,
    serial: Option<String>,
    manufacturer: Option<String>,
    model: Option<String>,
    slot: Option<u64>,
    object: Option<String>,
    id: Option<Vec<u8>>,
    module: PathBuf,
    pin_file: Option<PathBuf>,
}

fn malformed(why: impl std::fmt::Display) -> KeyError {
    KeyError::Malformed(format!("the pkcs11 URI: {why}"))
}

/// Percent-decoding of RFC 3986.
fn decoded(text: &str) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
        let value = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(value.ok_or_else(|| malformed("a % must be followed by two hexadecimal digits"))?);
    }
    Ok(bytes)
}

fn decoded_text(name: &str, value: &str) -> Result<String, KeyError> {
    String::from_utf8(decoded(value)?).map_err(|_| malformed(format!("'{name}' is not UTF-8")))
}

fn pairs(text: &str, separator: char) -> impl Iterator<Item = Result<(&str, &str), KeyError>> {
    let parts = text.split(separator).filter(|part| !part.is_empty());
    parts.map(|part| {
        part.split_once('=')
            .ok_or_else(|| malformed(format!("'{part}' is not of the form name=value")))
    })
}

impl Uri {
    fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_URI_BYTES || text.contains(char::is_control) {
            return Err(malformed(format!(
                "it must be one line of at most {MAX_URI_BYTES} bytes"
            )));
        }
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| malformed("it must begin with 'pkcs11:'"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        for pair in pairs(path, ';') {
            let (name, value) = pair?;
            match name {
                "token" => uri.token = Some(decoded_text(name, value)?),
                "serial" => uri.serial = Some(decoded_text(name, value)?),
                "manufacturer" => uri.manufacturer = Some(decoded_text(name, value)?),
                "model" => uri.model = Some(decoded_text(name, value)?),
                "object" => uri.object = Some(decoded_text(name, value)?),
                "id" => uri.id = Some(decoded(value)?),
                "slot-id" => {
                    uri.slot = Some(
                        value
                            .parse()
                            .map_err(|_| malformed("'slot-id' must be a number"))?,
                    )
                }
                "type" if value == "private" => {}
                "type" => return Err(malformed(format!("'type={value}' is not a private key"))),
                "library-manufacturer"
                | "library-description"
                | "library-version"
                | "slot-description"
                | "slot-manufacturer" => {}
                other => return Err(malformed(format!("'{other}' is not known before the '?'"))),
            }
        }
        for pair in pairs(query, '&') {
            let (name, value) = pair?;
            match name {
                "module-path" => uri.module = decoded_text(name, value)?.into(),
                "pin-source" => {
                    let source = decoded_text(name, value)?;
                    uri.pin_file = Some(source.strip_prefix("file:").unwrap_or(&source).into());
                }
                "pin-value" => {
                    return Err(malformed(
                        "'pin-value' would show the PIN in logs; write it into a file and name that as 'pin-source'",
                    ));
                }
                other => return Err(malformed(format!("'{other}' is not known behind the '?'"))),
            }
        }
        if !uri.module.is_absolute() {
            return Err(malformed(
                "it must end in '?module-path=' and the whole path of the token's PKCS#11 library",
            ));
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(malformed("it must name the key by 'object' (its label) or 'id'"));
        }
        Ok(uri)
    }
}

/// Lets key files hold `pkcs11:` URIs, in this process.
pub fn install() {
    selvedge_msp::open_references_with(open);
}

/// Opens the key that a URI names.
///
/// # Errors
/// The URI is malformed, the token or the key is not there, or the token refuses the PIN.
pub fn open(uri: &str) -> Result<PrivateKey, KeyError> {
    token::Token::open(Uri::parse(uri)?).map(PrivateKey::held_by)
}

/// Makes a new P-256 key pair in the token, under the label or id that the URI names. It cannot be taken out of it.
///
/// # Errors
/// As [`open`], or there is such a key already.
pub fn generate(uri: &str) -> Result<PrivateKey, KeyError> {
    let uri = Uri::parse(uri)?;
    token::generate(&uri)?;
    token::Token::open(uri).map(PrivateKey::held_by)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uris_name_token_key_and_library() {
        let text = "pkcs11:token=my%20token;object=key;id=%01%ff;slot-id=3;type=private?module-path=/lib/x.so&pin-source=file:/etc/pin";
        let uri = Uri::parse(text).unwrap();
        assert_eq!(uri.token.as_deref(), Some("my token"));
        assert_eq!(uri.object.as_deref(), Some("key"));
        assert_eq!(uri.id.as_deref(), Some(&[1, 0xff][..]));
        assert_eq!((uri.slot, uri.module), (Some(3), PathBuf::from("/lib/x.so")));
        assert_eq!(uri.pin_file, Some(PathBuf::from("/etc/pin")));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("pkcs11:object=a", "module-path"),
            ("pkcs11:object=a?module-path=x.so", "module-path"),
            ("pkcs11:token=a?module-path=/x.so", "object"),
            ("pkcs11:object=a?module-path=/x.so&pin-value=1234", "pin-source"),
            ("pkcs11:object=%4?module-path=/x.so", "hexadecimal"),
            ("pkcs11:colour=red?module-path=/x.so", "colour"),
            ("pkcs11:object?module-path=/x.so", "name=value"),
            ("pkcs11:object=a;type=cert?module-path=/x.so", "private"),
            ("pkcs11:object=a\n?module-path=/x.so", "one line"),
        ] {
            let error = Uri::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains("1234"), "{error}");
        }
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = open("pkcs11:object=a?module-path=/nowhere/none.so").unwrap_err();
        assert!(error.to_string().contains("/nowhere/none.so"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,120}", tail in "[a-z=;?&%0-9/-]{0,120}") {
            let _ = Uri::parse(&text);
            let _ = Uri::parse(&format!("pkcs11:{tail}"));
        }
    }
}
