//! Binary shapes of the contract ABI, version 1. All numbers are little-endian. Each direction is compiled only where
//! it is used: the peer's side for the test ledger, the contract's side for wasm.

use crate::host::HistoryEntry;
use crate::{Error, Result, Timestamp};

/// Reads little-endian fields off a buffer and refuses to run past its end.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| Error::internal("the peer handed over a truncated buffer"))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn text(&mut self) -> Result<String> {
        utf8(self.bytes()?)
    }
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Error::internal("the peer handed over text that is not UTF-8"))
}

fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes()
}

/// Encodes a list: count, then length and bytes of each item.
#[cfg(any(test, target_arch = "wasm32"))]
pub(crate) fn encode_list(items: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + items.iter().map(|item| 4 + item.len()).sum::<usize>());
    out.extend_from_slice(&length(items.len()));
    for item in items {
        out.extend_from_slice(&length(item.len()));
        out.extend_from_slice(item);
    }
    out
}

/// Decodes what [`encode_list`] wrote.
///
/// # Errors
/// Status 500 when the buffer is shorter than it says.
#[cfg(any(test, target_arch = "wasm32"))]
pub(crate) fn decode_list(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut reader = Reader::new(bytes);
    let count = reader.u32()?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(reader.bytes()?.to_vec());
    }
    Ok(items)
}

/// Decodes an item of a range iterator: key and value.
pub(crate) fn decode_range_item(bytes: &[u8]) -> Result<(String, Vec<u8>)> {
    let mut reader = Reader::new(bytes);
    let key = reader.text()?;
    Ok((key, reader.rest.to_vec()))
}

/// Decodes an item of a history iterator.
pub(crate) fn decode_history_item(bytes: &[u8]) -> Result<HistoryEntry> {
    let mut reader = Reader::new(bytes);
    let tx_id = reader.text()?;
    let seconds = i64::from_le_bytes(reader.array()?);
    let nanos = reader.u32()?;
    let [deleted] = reader.array()?;
    Ok(HistoryEntry {
        tx_id,
        timestamp: Timestamp::from_unix(seconds, nanos)?,
        is_delete: deleted != 0,
        value: reader.rest.to_vec(),
    })
}

/// Decodes the answer of another chaincode: status, message, payload.
#[cfg(any(test, target_arch = "wasm32"))]
pub(crate) fn decode_response(bytes: &[u8]) -> Result<crate::Response> {
    let mut reader = Reader::new(bytes);
    let status = i32::from_le_bytes(reader.array()?);
    let message = reader.text()?;
    Ok(crate::Response {
        status,
        message,
        payload: reader.rest.to_vec(),
    })
}

/// Encodes an item of a range iterator, for hosts.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn encode_range_item(key: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + key.len() + value.len());
    out.extend_from_slice(&length(key.len()));
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value);
    out
}

/// Encodes an item of a history iterator, for hosts.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn encode_history_item(entry: &HistoryEntry) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&length(entry.tx_id.len()));
    out.extend_from_slice(entry.tx_id.as_bytes());
    out.extend_from_slice(&entry.timestamp.seconds().to_le_bytes());
    out.extend_from_slice(&entry.timestamp.nanos().to_le_bytes());
    out.push(u8::from(entry.is_delete));
    out.extend_from_slice(&entry.value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive_the_round_trip() {
        let items: Vec<&[u8]> = vec![b"offer", b"", &[0, 255, 1]];
        assert_eq!(decode_list(&encode_list(&items)).unwrap(), items);
    }

    #[test]
    fn a_short_buffer_is_an_error_and_not_a_panic() {
        let whole = encode_list(&[b"offer", b"{}"]);
        for cut in 0..whole.len() {
            assert_eq!(decode_list(&whole[..cut]).unwrap_err().status(), 500);
        }
        assert!(decode_range_item(&[255, 255, 255, 255, 1]).is_err());
        assert!(decode_history_item(&[0, 0, 0, 0]).is_err());
    }

    #[test]
    fn responses_are_status_message_payload() {
        let mut bytes = 404_u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(&3_u32.to_le_bytes());
        bytes.extend_from_slice(b"no!{}");
        let response = decode_response(&bytes).unwrap();
        assert_eq!(
            (
                response.status,
                response.message.as_str(),
                response.payload.as_slice()
            ),
            (404, "no!", &b"{}"[..])
        );
        assert!(decode_response(&bytes[..10]).is_err());
    }

    #[test]
    fn iterator_items_survive_the_round_trip() {
        assert_eq!(
            decode_range_item(&encode_range_item("k", b"v")).unwrap(),
            ("k".to_owned(), b"v".to_vec())
        );
        let entry = HistoryEntry {
            tx_id: "ab".into(),
            timestamp: Timestamp::from_unix(-5, 7).unwrap(),
            is_delete: true,
            value: Vec::new(),
        };
        assert_eq!(decode_history_item(&encode_history_item(&entry)).unwrap(), entry);
    }
}
