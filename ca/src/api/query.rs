//! The parts of a request line: names in paths, query parameters, points in time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Refusal;

/// Undoes percent encoding; none when it is broken or what comes out is not UTF-8.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let digits = after.get(..2)?;
                bytes.push(*hex::decode(digits).ok()?.first()?);
                rest = after.get(2..)?;
            }
            b'+' if plus_is_space => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a query string, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name, true)?, decode(value, true)?))
        });
        pairs
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| Refusal::new(400, 50, "the query is not percent-encoded UTF-8"))
    }

    /// A parameter; empty if absent, and also for the `undefined` that JavaScript makes of an absent one.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        match found.map(|(_, value)| value.as_str()) {
            None | Some("undefined") => "",
            Some(value) => value,
        }
    }

    /// A boolean as Go reads it; false if absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            "" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(Refusal::new(
                400,
                57,
                format!("the query parameter '{name}' is true or false, not '{other}'"),
            )),
        }
    }
}

fn seconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok(),
        Err(before) => i64::try_from(before.duration().as_secs()).ok().map(|s| -s),
    }
}

/// RFC 3339 with any offset, in Unix seconds; none when it is not that.
pub(super) fn rfc3339(text: &str) -> Option<i64> {
    let utc = |text: &str| seconds(humantime::parse_rfc3339(text).ok()?);
    if let Some(at) = utc(text) {
        return Some(at);
    }
    let split = text.len().checked_sub(6)?;
    let (local, offset) = (text.get(..split)?, text.get(split..)?);
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset_seconds = i64::from(hours * 3600 + minutes * 60);
    let local = utc(&format!("{local}Z"))?;
    match offset.as_bytes().first()? {
        b'+' => Some(local - offset_seconds),
        b'-' => Some(local + offset_seconds),
        _ => None,
    }
}

/// A point in time as Fabric CA's clients write it: RFC 3339, a date, `now`, or an offset from now such as `+30d` or
/// `-12h`. Unix seconds; none when it is none of these.
pub(super) fn point_in_time(text: &str, now: i64) -> Option<i64> {
    if text.eq_ignore_ascii_case("now") {
        return Some(now);
    }
    // A bare + in a query is a space when it arrives.
    for (signs, sign) in [(['+', ' '], 1), (['-', '-'], -1)] {
        if let Some(length) = text.strip_prefix(signs) {
            let length = humantime::parse_duration(length).ok()?.as_secs();
            return now.checked_add(i64::try_from(length).ok()?.checked_mul(sign)?);
        }
    }
    rfc3339(text).or_else(|| rfc3339(&format!("{text}T00:00:00Z")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("ca=a%20b&Force=True&x=%2B1&y=a+b&ca2=undefined&flag").unwrap();
        assert_eq!(query.text("ca"), "a b");
        assert!(query.flag("force").unwrap());
        assert_eq!((query.text("x"), query.text("y")), ("+1", "a b"));
        assert_eq!((query.text("ca2"), query.text("none")), ("", ""));
        assert_eq!(Query::parse("a=%2").unwrap_err().code, 50);
        assert_eq!(Query::parse("a=%ff").unwrap_err().code, 50);
        assert_eq!(
            Query::parse("force=perhaps")
                .unwrap()
                .flag("force")
                .unwrap_err()
                .code,
            57
        );
    }

    #[test]
    fn points_in_time() {
        let noon = 1_700_049_600;
        for text in [
            "2023-11-15T12:00:00Z",
            "2023-11-15T12:00:00.5Z",
            "2023-11-15T14:00:00+02:00",
            "2023-11-15T06:30:00-05:30",
        ] {
            assert_eq!(point_in_time(text, 0), Some(noon), "{text}");
        }
        assert_eq!(point_in_time("2023-11-15", 0), Some(noon - 43_200));
        assert_eq!(point_in_time("now", 7), Some(7));
        assert_eq!(point_in_time("+1d", 7), Some(86_407));
        assert_eq!(point_in_time(" 1h", 7), Some(3607));
        assert_eq!(point_in_time("-7s", 7), Some(0));
        for text in [
            "",
            "soon",
            "-",
            "+9999999999999999y",
            "2023-13-01",
            "2023-11-15T12:00:00+99:99",
        ] {
            assert_eq!(point_in_time(text, 0), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_come(text in "\\PC*") {
            let _ = (Query::parse(&text), point_in_time(&text, i64::MAX), decode(&text, false));
        }
    }
}
