//! Points in time as contracts need them: read from RFC 3339, ordered, and written in one canonical form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result};

const DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z, what RFC 3339 can write.
const EARLIEST: i64 = -62_167_219_200;
const LATEST: i64 = 253_402_300_799;

/// A point in time in UTC, nanoseconds exact, between the years 0 and 9999. Written as RFC 3339 with `Z` and only as
/// many fraction digits as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// Why a text is not a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampError;

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not an RFC 3339 time such as 2026-03-01T08:15:00Z")
    }
}

impl std::error::Error for TimestampError {}

impl Timestamp {
    /// From seconds since 1970-01-01 UTC and nanoseconds.
    ///
    /// # Errors
    /// Status 400 outside the years 0 to 9999 or for 10^9 nanoseconds and more.
    pub fn from_unix(seconds: i64, nanos: u32) -> Result<Self> {
        if !(EARLIEST..=LATEST).contains(&seconds) || nanos >= 1_000_000_000 {
            return Err(Error::bad_request(format!(
                "{seconds}.{nanos} is not a time in the years 0 to 9999"
            )));
        }
        Ok(Self { seconds, nanos })
    }

    /// Whole seconds since 1970-01-01 UTC.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    pub fn nanos(self) -> u32 {
        self.nanos
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, by counting in eras of 400 years that start in March.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Walks over the text, one fixed piece at a time.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn literal(&mut self, allowed: &[u8]) -> Option<u8> {
        self.byte().filter(|byte| allowed.contains(byte))
    }

    fn number(&mut self, digits: usize, low: i64, high: i64) -> Option<i64> {
        let mut value = 0;
        for _ in 0..digits {
            value = value * 10 + i64::from(self.byte().filter(u8::is_ascii_digit)? - b'0');
        }
        (low..=high).contains(&value).then_some(value)
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let mut scan = Scanner(text.as_bytes());
    let year = scan.number(4, 0, 9999)?;
    scan.literal(b"-")?;
    let month = scan.number(2, 1, 12)?;
    scan.literal(b"-")?;
    let day = scan.number(2, 1, month_length(year, month))?;
    scan.literal(b"Tt ")?;
    let hour = scan.number(2, 0, 23)?;
    scan.literal(b":")?;
    let minute = scan.number(2, 0, 59)?;
    scan.literal(b":")?;
    let second = scan.number(2, 0, 59)?;
    let mut zone = scan.literal(b".,Zz+-")?;
    let mut nanos = 0;
    if matches!(zone, b'.' | b',') {
        let mut unit = 100_000_000;
        let mut digits = 0;
        zone = loop {
            let byte = scan.byte()?;
            if !byte.is_ascii_digit() {
                break byte;
            }
            // Digits beyond a nanosecond could not be kept, and cutting them would make two readings one.
            if unit == 0 && byte != b'0' {
                return None;
            }
            nanos += u32::from(byte - b'0') * unit;
            unit /= 10;
            digits += 1;
        };
        if digits == 0 {
            return None;
        }
    }
    let offset = match zone {
        b'Z' | b'z' => 0,
        b'+' | b'-' => {
            let hours = scan.number(2, 0, 23)?;
            scan.literal(b":")?;
            let minutes = scan.number(2, 0, 59)?;
            let offset = hours * 3600 + minutes * 60;
            if zone == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    if !scan.0.is_empty() {
        return None;
    }
    let seconds = days_from_date(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    Timestamp::from_unix(seconds, nanos).ok()
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        parse(text).ok_or(TimestampError)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_from_days(self.seconds.div_euclid(DAY));
        let second = self.seconds.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if self.nanos != 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse()
            .map_err(|why| de::Error::custom(format_args!("{text} {why}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times() {
        for (text, seconds, canonical) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2016-01-21T09:25:51Z", 1_453_368_351, "2016-01-21T09:25:51Z"),
            ("2016-02-29T23:59:59+01:00", 1_456_786_799, "2016-02-29T22:59:59Z"),
            ("1969-12-31 23:30:00-00:30", 0, "1970-01-01T00:00:00Z"),
            ("0000-01-01T00:00:00Z", EARLIEST, "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", LATEST, "9999-12-31T23:59:59Z"),
            (
                "2000-03-01T00:00:00.500000000000Z",
                951_868_800,
                "2000-03-01T00:00:00.5Z",
            ),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(
                (time.seconds(), time.to_string().as_str()),
                (seconds, canonical),
                "{text}"
            );
        }
    }

    #[test]
    fn impossible_times_are_refused() {
        for text in [
            "",
            "2016-01-21",
            "2016-13-01T00:00:00Z",
            "2015-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2016-01-21T24:00:00Z",
            "2016-01-21T09:25:51",
            "2016-01-21T09:25:51.Z",
            "2016-01-21T09:25:51.1234567891Z",
            "2016-01-21T09:25:51Zx",
            "0000-01-01T00:00:00+01:00",
            "2016-1-21T09:25:51Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_time_agree(seconds in EARLIEST..=LATEST, nanos in 0u32..1_000_000_000) {
            let time = Timestamp::from_unix(seconds, nanos).unwrap();
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,60}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
