//! The small part of DER that Fabric's rules are about: ECDSA signatures, certificates re-encoded with a low-S
//! signature, and the structures that `issue` writes. Reading of whole certificates is left to `x509-parser`.

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;

/// One element: its tag, its content, all of its bytes, and what follows it.
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// Splits the first element off `input`. Only one-byte tags and definite lengths in their shortest form, at most four
/// length bytes, are accepted; that is what Go's decoder takes for the structures met here.
pub(crate) fn read(input: &[u8]) -> Option<Element<'_>> {
    let (&tag, after_tag) = input.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, after_length) = after_tag.split_first()?;
    let (length, body) = if first < 0x80 {
        (usize::from(first), after_length)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || after_length.len() < count {
            return None;
        }
        let (digits, body) = after_length.split_at(count);
        let length = digits
            .iter()
            .try_fold(0usize, |n, d| n.checked_mul(256)?.checked_add(usize::from(*d)))?;
        if digits[0] == 0 || length < 0x80 {
            return None;
        }
        (length, body)
    };
    if body.len() < length {
        return None;
    }
    let (content, rest) = body.split_at(length);
    Some(Element {
        tag,
        content,
        whole: &input[..input.len() - rest.len()],
        rest,
    })
}

/// As [`read`], when the element must carry `tag`.
pub(crate) fn read_tagged(input: &[u8], tag: u8) -> Option<Element<'_>> {
    read(input).filter(|e| e.tag == tag)
}

/// The magnitude of a minimally encoded, positive INTEGER's content, without a leading zero.
pub(crate) fn positive_integer(content: &[u8]) -> Option<&[u8]> {
    match content {
        [] | [0] => None,
        [first, ..] if first & 0x80 != 0 => None,
        [0, second, ..] if second & 0x80 == 0 => None,
        [0, magnitude @ ..] => Some(magnitude),
        magnitude => Some(magnitude),
    }
}

/// Tag, shortest length, content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let skip = bytes.iter().take_while(|b| **b == 0).count();
            let digits = &bytes[skip..];
            // A usize has at most 8 bytes, so the count always fits.
            out.push(0x80 | digits.iter().fold(0u8, |n, _| n + 1));
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
    out
}

/// SEQUENCE of already encoded parts.
pub(crate) fn sequence<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    element(SEQUENCE, &joined(parts))
}

/// SET OF already encoded parts, in DER's order (by their bytes).
pub(crate) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    element(0x31, &joined(&parts))
}

/// Context tag `number`, constructed, around already encoded parts.
pub(crate) fn context<P: AsRef<[u8]>>(number: u8, parts: &[P]) -> Vec<u8> {
    element(0xa0 | number, &joined(parts))
}

fn joined<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    let mut content = Vec::with_capacity(parts.iter().map(|p| p.as_ref().len()).sum());
    for part in parts {
        content.extend_from_slice(part.as_ref());
    }
    content
}

/// INTEGER from an unsigned big-endian number of any length.
pub(crate) fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let skip = magnitude.iter().take_while(|b| **b == 0).count();
    let digits = &magnitude[skip..];
    let mut content = Vec::with_capacity(digits.len() + 1);
    if digits.first().is_none_or(|b| b & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(digits);
    element(INTEGER, &content)
}

/// BIT STRING of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(bytes.len() + 1);
    content.push(0);
    content.extend_from_slice(bytes);
    element(BIT_STRING, &content)
}

/// BIT STRING of named bits (bit 0 is the most significant one), trailing zero bits removed as DER demands.
pub(crate) fn named_bits(bits: u8) -> Vec<u8> {
    let unused = if bits == 0 { 0 } else { bits.trailing_zeros() };
    let unused = u8::try_from(unused).unwrap_or(0);
    if bits == 0 {
        element(BIT_STRING, &[0])
    } else {
        element(BIT_STRING, &[unused, bits])
    }
}

/// OCTET STRING.
pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    element(OCTET_STRING, bytes)
}

/// OBJECT IDENTIFIER from its encoded content.
pub(crate) fn object_id(content: &[u8]) -> Vec<u8> {
    element(OBJECT_ID, content)
}

/// BOOLEAN TRUE.
pub(crate) fn boolean_true() -> Vec<u8> {
    element(0x01, &[0xff])
}

/// PrintableString where its alphabet suffices, else UTF8String, as Go writes names.
pub(crate) fn text(value: &str) -> Vec<u8> {
    let printable = value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
    element(if printable { 0x13 } else { 0x0c }, value.as_bytes())
}

/// Time in UTC: UTCTime for the years 1950 to 2049, GeneralizedTime for the others (RFC 5280 §4.1.2.5); `None` outside
/// of the years 0 to 9999.
pub(crate) fn time(unix_seconds: i64) -> Option<Vec<u8>> {
    let days = unix_seconds.div_euclid(86_400);
    let second = unix_seconds.rem_euclid(86_400);
    // Days to a civil date, counted from 0000-03-01 so that the leap day ends the year.
    let z = days.checked_add(719_468)?;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let clock = format!("{:02}{:02}{:02}", second / 3_600, second / 60 % 60, second % 60);
    match year {
        1950..=2049 => Some(element(
            0x17,
            format!("{:02}{month:02}{day:02}{clock}Z", year % 100).as_bytes(),
        )),
        0..=9999 => Some(element(
            0x18,
            format!("{year:04}{month:02}{day:02}{clock}Z").as_bytes(),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_be_short_and_definite() {
        assert!(read(&[0x30, 0x80, 0, 0]).is_none(), "indefinite");
        assert!(
            read(&[0x30, 0x81, 0x01, 0x00]).is_none(),
            "long form for a short length"
        );
        assert!(read(&[0x30, 0x82, 0x00, 0x80]).is_none(), "leading zero");
        assert!(read(&[0x30, 0x02, 0x00]).is_none(), "longer than the input");
        assert!(read(&[0x1f, 0x01, 0x00]).is_none(), "long tag");
        let e = read(&[0x04, 0x01, 0xaa, 0xbb]).unwrap();
        assert_eq!(
            (e.content, e.whole, e.rest),
            (&[0xaa][..], &[0x04, 0x01, 0xaa][..], &[0xbb][..])
        );
    }

    #[test]
    fn long_content_round_trips() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7u8; length];
            let encoded = element(OCTET_STRING, &content);
            let e = read_tagged(&encoded, OCTET_STRING).unwrap();
            assert_eq!(e.content, content);
            assert!(e.rest.is_empty());
        }
    }

    #[test]
    fn integers_are_minimal_and_positive() {
        assert_eq!(unsigned(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(positive_integer(&[0, 0x80]), Some(&[0x80][..]));
        for bad in [&[][..], &[0], &[0x80], &[0, 1], &[0xff, 0xff]] {
            assert_eq!(positive_integer(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times_follow_the_calendar() {
        let text = |t: i64| String::from_utf8(time(t).unwrap()[2..].to_vec()).unwrap();
        assert_eq!(text(0), "700101000000Z");
        assert_eq!(text(951_782_400), "000229000000Z");
        assert_eq!(text(1_700_000_000), "231114221320Z");
        assert_eq!(text(2_524_607_999), "491231235959Z");
        assert_eq!(text(2_524_608_000), "20500101000000Z");
        assert_eq!(text(-631_152_001), "19491231235959Z");
        assert!(time(i64::MAX).is_none());
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(0x80), [3, 2, 7, 0x80]);
        assert_eq!(named_bits(0x06), [3, 2, 1, 0x06]);
        assert_eq!(named_bits(0), [3, 1, 0]);
    }
}
