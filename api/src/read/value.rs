//! Bytes of arguments, states and events as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_types::Timestamp;
use serde_json::{Value, json};

/// JSON stays JSON, text becomes a string, everything else `{"base64": ...}`. Numbers and the like stay text: `007` is a
/// name as often as a number, and digits must not get lost.
pub(super) fn readable(bytes: &[u8]) -> Value {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return json!({ "base64": STANDARD.encode(bytes) });
    };
    let first = text.trim_start().bytes().next();
    if matches!(first, Some(b'{' | b'['))
        && let Ok(value) = serde_json::from_str(text)
    {
        return value;
    }
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return json!({ "base64": STANDARD.encode(bytes) });
    }
    Value::String(text.to_owned())
}

/// Composite keys have separators that do not print; they are shown as slashes.
pub(crate) fn key(key: &str) -> String {
    key.trim_matches('\0').replace('\0', "/")
}

/// Milliseconds since 1970 of a header's time stamp; none where it is none.
pub(super) fn milliseconds(stamp: Option<&Timestamp>) -> Option<i64> {
    let stamp = stamp?;
    stamp
        .seconds
        .checked_mul(1000)?
        .checked_add(i64::from(stamp.nanos) / 1_000_000)
}

/// RFC 3339 of milliseconds since 1970.
pub(crate) fn rfc3339(milliseconds: i64) -> Option<String> {
    let since = std::time::Duration::from_millis(u64::try_from(milliseconds).ok()?);
    // Beyond the year 9999 there is no RFC 3339.
    (since.as_secs() < 253_402_300_800)
        .then(|| humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_text_and_bytes() {
        assert_eq!(readable(br#" {"a": 1}"#), json!({ "a": 1 }));
        assert_eq!(readable(b"rfq-1"), json!("rfq-1"));
        assert_eq!(readable(b"007"), json!("007"));
        assert_eq!(readable(b"{no json"), json!("{no json"));
        assert_eq!(readable(&[0xff, 0]), json!({ "base64": "/wA=" }));
        assert_eq!(readable(b"a\0b"), json!({ "base64": "YQBi" }));
    }

    #[test]
    fn composite_keys_can_be_read() {
        assert_eq!(key("\0rfq\0rfq-1\0"), "rfq/rfq-1");
        assert_eq!(key("plain"), "plain");
    }

    #[test]
    fn times_that_are_none() {
        assert_eq!(rfc3339(-1), None);
        assert_eq!(rfc3339(i64::MAX), None);
        assert_eq!(rfc3339(0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        let far = Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(milliseconds(Some(&far)), None);
    }
}
