//! Composite keys, laid out as Fabric's shims do: U+0000, object type, U+0000, then each attribute and U+0000.

use crate::{Error, Result};

const SEPARATOR: char = '\0';
/// Greater than every character that an attribute may contain.
const LAST: char = char::MAX;

fn check(part: &str) -> Result<()> {
    if part.contains([SEPARATOR, LAST]) {
        return Err(Error::bad_request(
            "a part of a composite key contains U+0000 or U+10FFFF",
        ));
    }
    Ok(())
}

/// Builds a composite key (spec: U+0000 objectType U+0000 attr1 U+0000 ... attrN U+0000).
///
/// # Errors
/// Status 400 when the object type is empty or a part contains U+0000 or U+10FFFF.
pub fn composite_key(object_type: &str, attributes: &[&str]) -> Result<String> {
    if object_type.is_empty() {
        return Err(Error::bad_request("a composite key needs an object type"));
    }
    let mut key = String::from(SEPARATOR);
    for part in std::iter::once(&object_type).chain(attributes) {
        check(part)?;
        key.push_str(part);
        key.push(SEPARATOR);
    }
    Ok(key)
}

/// The range of all composite keys that begin with these parts: start (inclusive) and end (exclusive).
///
/// # Errors
/// As [`composite_key`].
pub fn composite_range(object_type: &str, attributes: &[&str]) -> Result<(String, String)> {
    let start = composite_key(object_type, attributes)?;
    let end = format!("{start}{LAST}");
    Ok((start, end))
}

/// Takes a composite key apart into object type and attributes; `None` when it is not one.
pub fn split_composite_key(key: &str) -> Option<(&str, Vec<&str>)> {
    let inner = key.strip_prefix(SEPARATOR)?.strip_suffix(SEPARATOR)?;
    let mut parts = inner.split(SEPARATOR);
    let object_type = parts.next().filter(|text| !text.is_empty())?;
    Some((object_type, parts.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_round_trip() {
        let key = composite_key("reading", &["s1", "", "7"]).unwrap();
        assert_eq!(key, "\0reading\0s1\0\x007\0");
        assert_eq!(
            split_composite_key(&key).unwrap(),
            ("reading", vec!["s1", "", "7"])
        );
        let (start, end) = composite_range("reading", &["s1"]).unwrap();
        assert!(start < key && key < end);
        assert!(!(start..end).contains(&composite_key("reading", &["s10", "7"]).unwrap()));
    }

    #[test]
    fn separators_cannot_be_smuggled_in() {
        assert!(composite_key("a\0b", &[]).is_err());
        assert!(composite_key("a", &["b\0c"]).is_err());
        assert!(composite_key("a", &["\u{10FFFF}"]).is_err());
        assert!(composite_key("", &["b"]).is_err());
        assert!(split_composite_key("plain").is_none());
        assert!(split_composite_key("\0").is_none());
    }
}
