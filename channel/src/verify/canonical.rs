//! The canonical form of an envelope inside a block, judged on its raw bytes (spec 02 §6).
//!
//! A Fabric peer decodes each envelope, encodes it again and wants the same bytes. Its codec keeps unknown fields and
//! puts them behind the known ones, so the accepted form is: field 1, field 2, each once, not empty and with minimal
//! lengths, then any well-formed fields that are not fields 1 or 2 of wire type "length-delimited".

/// How an envelope departs from the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalFault {
    /// The payload is missing or empty.
    #[error("it has no payload")]
    NoPayload,
    /// The signature is missing or empty.
    #[error("it has no signature")]
    NoSignature,
    /// A length is not written in the shortest way, or reaches beyond the end.
    #[error("the length of its {0} is not encoded minimally or reaches beyond its end")]
    Length(&'static str),
    /// Something behind the signature is no field.
    #[error("at byte {0} begins something that is no field of a message")]
    Malformed(usize),
    /// Payload or signature come again.
    #[error("at byte {0} its payload or signature comes a second time")]
    Repeated(usize),
}

const PAYLOAD_TAG: u8 = 0x0a;
const SIGNATURE_TAG: u8 = 0x12;
/// Deepest nesting of groups among unknown fields; deeper ones are refused as malformed.
const MAX_GROUPS: usize = 96;

/// Checks one entry of a block's data.
///
/// # Errors
/// Says how it departs from the canonical form.
pub fn check_envelope(entry: &[u8]) -> Result<(), CanonicalFault> {
    let rest = known_field(entry, PAYLOAD_TAG, "payload", CanonicalFault::NoPayload)?;
    let rest = known_field(rest, SIGNATURE_TAG, "signature", CanonicalFault::NoSignature)?;
    let mut at = entry.len() - rest.len();
    while at < entry.len() {
        let field = skip_field(entry, at).ok_or(CanonicalFault::Malformed(at))?;
        if matches!(field.number, 1 | 2) && field.wire_type == LENGTH_DELIMITED {
            return Err(CanonicalFault::Repeated(at));
        }
        at = field.end;
    }
    Ok(())
}

/// Takes a non-empty field with the given tag off the front.
fn known_field<'a>(
    bytes: &'a [u8],
    tag: u8,
    name: &'static str,
    absent: CanonicalFault,
) -> Result<&'a [u8], CanonicalFault> {
    if bytes.first() != Some(&tag) {
        return Err(absent);
    }
    let (length, end) = varint(bytes, 1).ok_or(CanonicalFault::Length(name))?;
    // The last byte of a minimal varint is never zero, except for the number zero.
    if end > 2 && bytes.get(end - 1) == Some(&0) {
        return Err(CanonicalFault::Length(name));
    }
    if length == 0 {
        return Err(absent);
    }
    usize::try_from(length)
        .ok()
        .and_then(|length| end.checked_add(length))
        .and_then(|end| bytes.get(end..))
        .ok_or(CanonicalFault::Length(name))
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const FIXED32: u64 = 5;
const MAX_FIELD_NUMBER: u64 = (1 << 29) - 1;

struct Field {
    number: u64,
    wire_type: u64,
    end: usize,
}

/// Reads over one field, groups as a whole; `None` when there is none that Go's decoder would accept.
fn skip_field(bytes: &[u8], at: usize) -> Option<Field> {
    let (number, wire_type, mut end) = tag(bytes, at)?;
    let mut open = Vec::new();
    let mut current = (number, wire_type);
    loop {
        match current.1 {
            VARINT => end = varint(bytes, end)?.1,
            FIXED64 => end = end.checked_add(8)?,
            FIXED32 => end = end.checked_add(4)?,
            LENGTH_DELIMITED => {
                let (length, start) = varint(bytes, end)?;
                end = start.checked_add(usize::try_from(length).ok()?)?;
            }
            START_GROUP if open.len() < MAX_GROUPS => open.push(current.0),
            END_GROUP if open.pop() == Some(current.0) => {}
            _ => return None,
        }
        if end > bytes.len() {
            return None;
        }
        if open.is_empty() {
            return Some(Field {
                number,
                wire_type,
                end,
            });
        }
        let (inner_number, inner_type, next) = tag(bytes, end)?;
        current = (inner_number, inner_type);
        end = next;
    }
}

fn tag(bytes: &[u8], at: usize) -> Option<(u64, u64, usize)> {
    let (tag, end) = varint(bytes, at)?;
    let number = tag >> 3;
    (1..=MAX_FIELD_NUMBER)
        .contains(&number)
        .then_some((number, tag & 7, end))
}

/// A varint of at most 64 bits, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (i, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        if i == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, at + i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use selvedge_proto::{Bytes, Message, common};

    use super::*;

    fn bytes(hex_text: &str) -> Vec<u8> {
        hex::decode(hex_text.replace(' ', "")).unwrap()
    }

    #[test]
    fn accepted_forms() {
        for good in [
            "0a 01 aa 12 01 bb",
            // unknown fields of each wire type
            "0a 01 aa 12 01 bb 18 05",
            "0a 01 aa 12 01 bb 1a 00",
            "0a 01 aa 12 01 bb 19 0000000000000000 1d 00000000",
            "0a 01 aa 12 01 bb 1b 08 01 1c",
            // field 1 and 2 of another wire type are unknown fields
            "0a 01 aa 12 01 bb 08 07 10 07",
            // an unknown field may be written in a roundabout way
            "0a 01 aa 12 01 bb 98 00 85 00",
        ] {
            assert_eq!(check_envelope(&bytes(good)), Ok(()), "{good}");
        }
    }

    #[test]
    fn refused_forms() {
        for (bad, fault) in [
            ("", CanonicalFault::NoPayload),
            ("12 01 bb", CanonicalFault::NoPayload),
            ("0a 00 12 01 bb", CanonicalFault::NoPayload),
            ("0a 01 aa", CanonicalFault::NoSignature),
            ("0a 01 aa 12 00", CanonicalFault::NoSignature),
            ("12 01 bb 0a 01 aa", CanonicalFault::NoPayload),
            ("8a 00 01 aa 12 01 bb", CanonicalFault::NoPayload),
            ("0a 81 00 aa 12 01 bb", CanonicalFault::Length("payload")),
            ("0a 01 aa 12 81 00 bb", CanonicalFault::Length("signature")),
            ("0a 7f aa", CanonicalFault::Length("payload")),
            ("0a ffffffffffffffffff01", CanonicalFault::Length("payload")),
            ("0a ffffffffffffffffff02", CanonicalFault::Length("payload")),
            ("0a 01 aa 12 01 bb 0a 01 aa", CanonicalFault::Repeated(6)),
            ("0a 01 aa 12 01 bb 12 00", CanonicalFault::Repeated(6)),
            ("0a 01 aa 12 01 bb 00", CanonicalFault::Malformed(6)),
            ("0a 01 aa 12 01 bb ff", CanonicalFault::Malformed(6)),
            ("0a 01 aa 12 01 bb 1a 05 00", CanonicalFault::Malformed(6)),
            ("0a 01 aa 12 01 bb 1b 08 01", CanonicalFault::Malformed(6)),
            ("0a 01 aa 12 01 bb 1b 24", CanonicalFault::Malformed(6)),
            ("0a 01 aa 12 01 bb 1c", CanonicalFault::Malformed(6)),
            ("0a 01 aa 12 01 bb 1e", CanonicalFault::Malformed(6)),
        ] {
            assert_eq!(check_envelope(&bytes(bad)), Err(fault), "{bad}");
        }
    }

    #[test]
    fn groups_nest_only_so_deep() {
        let nested = |depth: usize| {
            let mut all = bytes("0a 01 aa 12 01 bb");
            all.extend(std::iter::repeat_n(0x1b, depth));
            all.extend(std::iter::repeat_n(0x1c, depth));
            check_envelope(&all)
        };
        assert_eq!(nested(MAX_GROUPS), Ok(()));
        assert!(nested(MAX_GROUPS + 1).is_err());
    }

    proptest! {
        #[test]
        fn what_we_encode_is_canonical(
            payload in proptest::collection::vec(any::<u8>(), 1..300),
            signature in proptest::collection::vec(any::<u8>(), 1..80),
        ) {
            let envelope = common::Envelope { payload: payload.into(), signature: signature.into() };
            prop_assert_eq!(check_envelope(&envelope.encode_to_vec()), Ok(()));
        }

        /// Without unknown fields the rule is the same as encoding again.
        #[test]
        fn agrees_with_encoding_again(entry in proptest::collection::vec(
            prop_oneof![Just(0x0a_u8), Just(0x12), Just(0x01), Just(0x00), any::<u8>()], 0..12,
        )) {
            if let Ok(envelope) = common::Envelope::decode(Bytes::from(entry.clone())) {
                let again = envelope.encode_to_vec();
                let whole = !envelope.payload.is_empty() && !envelope.signature.is_empty();
                if again == entry && whole {
                    prop_assert_eq!(check_envelope(&entry), Ok(()));
                }
                if check_envelope(&entry).is_ok() {
                    prop_assert!(entry.starts_with(&again));
                }
            }
        }
    }
}
