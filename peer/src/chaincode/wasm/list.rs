//! Lists as they cross the border to a contract: u32le count, then u32le length and bytes of each item.

use bytes::Bytes;

/// Most items of a list from a contract.
const MAX_ITEMS: usize = 10_000;

fn put_length(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

/// Appends a length and the bytes.
pub(crate) fn put(out: &mut Vec<u8>, item: &[u8]) {
    put_length(out, item.len());
    out.extend_from_slice(item);
}

/// Encodes a list.
pub(crate) fn encode(items: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + items.iter().map(|i| 4 + i.len()).sum::<usize>());
    put_length(&mut out, items.len());
    for item in items {
        put(&mut out, item);
    }
    out
}

/// Decodes a list; `None` when it is cut short, has bytes left over or too many items.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<Bytes>> {
    let length = |rest: &mut &[u8]| {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        usize::try_from(u32::from_le_bytes(*head)).ok()
    };
    let count = length(&mut bytes)?;
    if count > MAX_ITEMS {
        return None;
    }
    let mut items = Vec::new();
    for _ in 0..count {
        let len = length(&mut bytes)?;
        let (item, rest) = bytes.split_at_checked(len)?;
        items.push(Bytes::copy_from_slice(item));
        bytes = rest;
    }
    bytes.is_empty().then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn round_trip(items: Vec<Vec<u8>>) {
            let items: Vec<Bytes> = items.into_iter().map(Bytes::from).collect();
            let encoded = encode(&items);
            proptest::prop_assert_eq!(decode(&encoded), Some(items));
            for cut in 0..encoded.len() {
                proptest::prop_assert_eq!(decode(&encoded[..cut]), None);
            }
        }

        #[test]
        fn junk_is_safe(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
