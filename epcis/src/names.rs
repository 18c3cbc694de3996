//! How things of a channel are named by URIs.

use crate::EpcisError;

/// Makes URIs from a base, and takes them apart.
///
/// A base that ends with `/` gives paths (`https://id.example.com/shipment/s1`), any other gives a URN
/// (`urn:selvedge:trade:shipment:s1`). Use a base of your own domain where the events leave the consortium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    base: String,
    separator: char,
}

impl Names {
    /// Names under `urn:selvedge:` and the channel.
    pub fn of_channel(channel: &str) -> Self {
        Self {
            base: format!("urn:selvedge:{}:", escape(channel)),
            separator: ':',
        }
    }

    /// Names under a base of one's own.
    ///
    /// # Errors
    /// [`EpcisError::Option`] when the base is not an absolute URI that ends with `/` or `:`.
    pub fn under(base: &str) -> Result<Self, EpcisError> {
        let wrong = |why: &str| EpcisError::Option(format!("the base {base} of identifiers {why}"));
        let (scheme, rest) = base
            .split_once(':')
            .ok_or_else(|| wrong("has no scheme; write for example https://id.example.com/"))?;
        let letters = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let plain = rest
            .chars()
            .all(|c| c.is_ascii_graphic() && !"<>\"{}|\\^`".contains(c));
        if !letters || rest.is_empty() || !plain {
            return Err(wrong("is not an absolute URI"));
        }
        match base.chars().last() {
            Some(separator @ ('/' | ':')) => Ok(Self {
                base: base.to_owned(),
                separator,
            }),
            _ => Err(wrong("must end with / or :")),
        }
    }

    /// The URI of a thing: its kind, and its name in as many parts as it has.
    pub(crate) fn uri(&self, kind: &str, parts: &[&str]) -> String {
        let mut uri = format!("{}{kind}", self.base);
        for part in parts {
            uri.push(self.separator);
            uri.push_str(&escape(part));
        }
        uri
    }

    /// The last part of a URI, whoever made it.
    pub(crate) fn last_part(uri: &str) -> String {
        let end = uri.trim_end_matches(['/', ':']);
        let part = end.rsplit(['/', ':', '#']).next().unwrap_or(end);
        unescape(part)
    }
}

/// Percent-encoding of everything that is not unreserved (RFC 3986 section 2.3).
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let decoded = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(decoded.unwrap_or(*byte));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_paths_or_urns() {
        let urn = Names::of_channel("trade");
        assert_eq!(urn.uri("shipment", &["s:1"]), "urn:selvedge:trade:shipment:s%3A1");
        let path = Names::under("https://id.example.com/").unwrap();
        assert_eq!(
            path.uri("device", &["Org1MSP", "t/1"]),
            "https://id.example.com/device/Org1MSP/t%2F1"
        );
        for bad in [
            "",
            "id.example.com/",
            "https://id.example.com",
            "urn:",
            "a b:/",
            "1x:/y/",
        ] {
            assert!(Names::under(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn names_come_back(name in ".{1,12}") {
            for names in [Names::of_channel("a b"), Names::under("https://id.example.com/x/").unwrap()] {
                let uri = names.uri("device", &["Org1MSP", &name]);
                prop_assert!(uri.is_ascii());
                prop_assert_eq!(Names::last_part(&uri), name.clone());
            }
        }
    }
}
