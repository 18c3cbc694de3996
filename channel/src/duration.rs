//! Durations as text in Go's notation (`2s`, `400ms`, `1m30s`), the form in which the configuration holds them.

use std::time::Duration;

/// Reads a non-negative duration: decimal numbers, each with a unit out of `h m s ms us µs ns`, or plain `0`.
/// `None` when the text is something else, or longer than 2^63-1 nanoseconds as Go would refuse it.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let scale: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            // Both Unicode spellings of micro, as Go accepts them.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(number, scale)?)?;
        rest = next;
    }
    let nanos = u64::try_from(nanos).ok().filter(|n| i64::try_from(*n).is_ok())?;
    Some(Duration::from_nanos(nanos))
}

fn scaled(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        u128::from(whole.parse::<u64>().ok()?)
    };
    // A unit has at most 13 decimal digits of nanoseconds, so digits further right cannot make one.
    let digits = &fraction[..fraction.len().min(15)];
    let exponent = u32::try_from(digits.len()).ok()?;
    let part: u128 = if digits.is_empty() {
        0
    } else {
        u128::from(digits.parse::<u64>().ok()?)
    };
    let part = part * scale / 10_u128.pow(exponent);
    whole.checked_mul(scale)?.checked_add(part)
}

/// Writes a duration so that Go reads it back: the largest unit in which it is a whole number.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, scale) in [("s", 1_000_000_000_u128), ("ms", 1_000_000), ("us", 1_000)] {
        if nanos.is_multiple_of(scale) {
            return format!("{}{unit}", nanos / scale);
        }
    }
    format!("{nanos}ns")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_notation() {
        for (text, millis) in [
            ("2s", 2000),
            ("400ms", 400),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1000),
            ("0", 0),
            ("+1s", 1000),
            ("1000us", 1),
            ("1000\u{b5}s", 1),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "2",
            "s",
            "-1s",
            "1x",
            "1..2s",
            ".s",
            "1 s",
            "9999999999h",
            "99999999999999999999999s",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn written_durations_read_back(nanos in 0..i64::MAX.unsigned_abs()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }

        #[test]
        fn any_text_is_judged(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
