//! RFC 3339 times as devices write them, to Unix milliseconds and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::buffer::EARLIEST;

/// Longest text looked at, in bytes.
const MAX_TEXT: usize = 64;

/// Minutes of an offset such as `+01:00`, which is taken off the end of the text.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(rest) = text.strip_suffix(['Z', 'z']) {
        return Some((rest, 0));
    }
    let at = text.len().checked_sub(6)?;
    let (rest, offset) = (text.get(..at)?, text.get(at..)?);
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if hours.len() != 2 || minutes.len() != 2 || !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some((rest, sign * (hours * 60 + minutes)))
}

/// Unix milliseconds of a time from 1970 on.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "'{}' is not a time such as 2026-01-12T06:05:00Z",
            text.chars().take(MAX_TEXT).collect::<String>()
        )
    };
    if text.len() > MAX_TEXT {
        return Err(wrong());
    }
    let (local, minutes) = split_offset(text).ok_or_else(wrong)?;
    let time = humantime::parse_rfc3339(&format!("{local}Z")).map_err(|_| wrong())?;
    let millis = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?.as_millis();
    let utc = i64::try_from(millis).map_err(|_| wrong())? - minutes * 60_000;
    u64::try_from(utc).map_err(|_| wrong())
}

/// The time with milliseconds, in UTC.
pub(crate) fn format(millis: u64) -> String {
    // humantime writes years up to 9999, which is as far as RFC 3339 goes.
    const LAST: u64 = 253_402_300_799_999;
    let time = UNIX_EPOCH + Duration::from_millis(millis.min(LAST));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Whether a clock that says this (Unix seconds) was ever set.
pub(crate) fn is_known(unix_seconds: u64) -> bool {
    unix_seconds >= u64::from(EARLIEST)
}

/// Now, by this machine's clock.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset() {
        for text in [
            "2016-01-21T09:25:51Z",
            "2016-01-21T10:25:51+01:00",
            "2016-01-21T03:55:51-05:30",
            "2016-01-21T09:25:51.000z",
        ] {
            assert_eq!(parse(text).unwrap(), 1_453_368_351_000, "{text}");
        }
        assert_eq!(parse("2016-01-21T09:25:51.25Z").unwrap(), 1_453_368_351_250);
        for text in [
            "",
            "2016-01-21",
            "2016-01-21T09:25:51",
            "2016-13-21T09:25:51Z",
            "1969-12-31T23:59:59Z",
            "2016-01-21T09:25:51+1:00",
            "2016-01-21T09:25:51+99:00",
            "1970-01-01T00:00:00+01:00",
            "é016-01-21T09:25:51+01:00",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 1_453_368_351_250, 253_402_300_799_999] {
            assert_eq!(parse(&format(millis)).unwrap(), millis);
        }
        assert!(format(u64::MAX).starts_with("9999-"));
    }
}
