//! Exact decimal numbers: prices, quantities and measurements as they were written, never through a float.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

/// Longest text that is looked at, and longest integer or fraction part after an exponent is written out.
const MAX_TEXT: usize = 128;
const MAX_DIGITS: usize = 64;

/// A decimal number of up to 64 digits before and after the point, kept in its one canonical form: no leading or
/// trailing zeros, no exponent, no `-0`. So `"20.0"`, `20` and `2e1` are the same value and the same bytes, on
/// every peer.
///
/// It is read from a JSON number or a JSON string (only with `serde_json`) and written as a JSON string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal(String);

/// Why a text is not a [`Decimal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecimalError(&'static str);

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for DecimalError {}

impl Decimal {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True below zero.
    pub fn is_negative(&self) -> bool {
        self.0.starts_with('-')
    }

    /// True for zero.
    pub fn is_zero(&self) -> bool {
        self.0 == "0"
    }

    /// Sign, integer digits, fraction digits.
    fn parts(&self) -> (bool, &str, &str) {
        let (negative, magnitude) = match self.0.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, self.0.as_str()),
        };
        let (integer, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
        (negative, integer, fraction)
    }
}

fn parse(text: &str) -> Result<String, DecimalError> {
    if text.len() > MAX_TEXT {
        return Err(DecimalError("is too long for a number"));
    }
    let text = text.trim_ascii();
    let (negative, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut digits: Vec<u8> = Vec::with_capacity(rest.len());
    let mut point: Option<usize> = None;
    let mut exponent: i64 = 0;
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' => digits.push(*byte),
            b'.' if point.is_none() => point = Some(digits.len()),
            b'e' | b'E' if !digits.is_empty() => {
                exponent = std::str::from_utf8(rest.get(at + 1..).unwrap_or_default())
                    .ok()
                    .and_then(|text| text.parse::<i16>().ok())
                    .ok_or(DecimalError("is not a decimal number"))?
                    .into();
                break;
            }
            _ => return Err(DecimalError("is not a decimal number")),
        }
    }
    if digits.is_empty() {
        return Err(DecimalError("is not a decimal number"));
    }
    let mut point = i64::try_from(point.unwrap_or(digits.len())).unwrap_or(i64::MAX) + exponent;
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..leading);
    point -= i64::try_from(leading).unwrap_or(i64::MAX);
    if digits.is_empty() {
        return Ok("0".to_owned());
    }
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let limit = i64::try_from(MAX_DIGITS).unwrap_or(i64::MAX);
    if point > limit || count - point > limit {
        return Err(DecimalError("has more than 64 digits before or after the point"));
    }
    let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or(0));
    let split = usize::try_from(point).unwrap_or(0).min(digits.len());
    let digits: String = digits.into_iter().map(char::from).collect();
    let (integer, fraction) = digits.split_at(split);
    let sign = if negative { "-" } else { "" };
    let integer = if integer.is_empty() { "0" } else { integer };
    Ok(if fraction.is_empty() {
        format!("{sign}{integer}{}", zeros(point - count))
    } else {
        format!("{sign}{integer}.{}{fraction}", zeros(-point))
    })
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        parse(text).map(Self)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(value.to_string())
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left_negative, left_integer, left_fraction) = self.parts();
        let (right_negative, right_integer, right_fraction) = other.parts();
        if left_negative != right_negative {
            return if left_negative {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        // Without leading and trailing zeros, more integer digits are more, and digits compare as text.
        let magnitude = left_integer
            .len()
            .cmp(&right_integer.len())
            .then_with(|| left_integer.cmp(right_integer))
            .then_with(|| left_fraction.cmp(right_fraction));
        if left_negative {
            magnitude.reverse()
        } else {
            magnitude
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let parsed = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inner) => parse(inner),
            None => parse(text),
        };
        parsed
            .map(Self)
            .map_err(|why| de::Error::custom(format_args!("{text} {why}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_has_one_form() {
        for (text, canonical) in [
            ("20", "20"),
            ("20.0", "20"),
            ("2e1", "20"),
            ("200E-1", "20"),
            ("+0020.00", "20"),
            (" 20 ", "20"),
            ("-0", "0"),
            ("-0.00", "0"),
            ("0e99", "0"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-12.50", "-12.5"),
            ("1e-3", "0.001"),
            ("12.3456e2", "1234.56"),
            ("12.3456e4", "123456"),
            ("12.3456e6", "12345600"),
            ("0.00012e2", "0.012"),
            ("0.1", "0.1"),
            (
                "123456789012345678901234567890.123456789",
                "123456789012345678901234567890.123456789",
            ),
        ] {
            assert_eq!(decimal(text).as_str(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let long = "1".repeat(200);
        for text in [
            "", "-", ".", "e5", "1e", "1.2.3", "12a", "0x10", "NaN", "inf", "1 2", "1,5", "1e65", "1e-65",
            "1e99999", &long,
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }

    #[test]
    fn json_numbers_and_strings_keep_all_digits() {
        for text in [
            "0.1000000000000000055511151231257827",
            "\"9007199254740993\"",
            "9007199254740993",
        ] {
            let value: Decimal = serde_json::from_str(text).unwrap();
            assert_eq!(value.as_str(), text.trim_matches('"'));
        }
        assert_eq!(serde_json::to_string(&decimal("1.50")).unwrap(), "\"1.5\"");
        assert!(serde_json::from_str::<Decimal>("true").is_err());
        assert!(serde_json::from_str::<Decimal>("\"a\\\"b\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,140}") {
            if let Ok(value) = text.parse::<Decimal>() {
                prop_assert_eq!(value.as_str().parse::<Decimal>().unwrap(), value);
            }
        }

        #[test]
        fn no_digit_is_lost(negative: bool, integer in "[1-9][0-9]{0,60}", fraction in "[0-9]{0,60}[1-9]", shift in 0usize..4) {
            let sign = if negative { "-" } else { "" };
            let canonical = format!("{sign}{integer}.{fraction}");
            prop_assert_eq!(decimal(&canonical).to_string(), canonical.clone());
            let shifted = format!("{sign}{integer}{fraction}e-{}", fraction.len());
            prop_assert_eq!(decimal(&shifted).to_string(), canonical.clone());
            let padded = format!("{sign}00{integer}.{fraction}{}", "0".repeat(shift));
            prop_assert_eq!(decimal(&padded).to_string(), canonical.clone());
        }

        #[test]
        fn order_agrees_with_integers(a in any::<i64>(), b in any::<i64>(), places in 0usize..20) {
            let left = decimal(&format!("{a}e-{places}"));
            let right = decimal(&format!("{b}e-{places}"));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        }
    }
}
