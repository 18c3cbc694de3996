//! What is written to the buffer's files: protobuf messages in framed records.
//!
//! Frame: marker (4 bytes), length (u32 LE), CRC32C over length and payload (u32 LE), payload. The marker lets a reader
//! find the next record after a damaged one.

use bytes::Bytes;
use prost::Message;
use selvedge_proto::prost;

/// First bytes of every record; unlikely in JSON or protobuf.
pub(crate) const MARKER: [u8; 4] = [0xD5, 0x5E, 0x1F, 0xED];
pub(crate) const HEADER_BYTES: usize = 12;
/// Longest payload of a record in bytes. Longer requests are refused before they get here.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 2 * 1024 * 1024;

/// A request for a transaction, as a device made it.
#[derive(Clone, PartialEq, Message)]
pub struct TransactionRequest {
    /// Channel.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// Chaincode name.
    #[prost(string, tag = "2")]
    pub chaincode: String,
    /// Function.
    #[prost(string, tag = "3")]
    pub function: String,
    /// Arguments.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub args: Vec<Bytes>,
    /// The device's own name for this request; the same name is the same request, for ever. Empty if it gave none.
    #[prost(string, tag = "5")]
    pub idempotency_key: String,
    /// Who made it, as far as known.
    #[prost(string, tag = "6")]
    pub source: String,
    /// Requests of one source that ask for order are sent one after the other.
    #[prost(bool, tag = "7")]
    pub ordered: bool,
    /// Whether a transaction that lost a race (MVCC or phantom conflict) is followed by a new one.
    #[prost(bool, tag = "8")]
    pub retry_conflicts: bool,
}

/// One record of a file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(oneof = "Event", tags = "1, 2")]
    pub(crate) event: Option<Event>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Event {
    #[prost(message, tag = "1")]
    Accepted(Accepted),
    #[prost(message, tag = "2")]
    Settled(Settled),
}

/// A request came in; from its durability on it is promised.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Accepted {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(message, required, tag = "2")]
    pub(crate) request: TransactionRequest,
    /// Fixes, with the identity, the transaction id of every attempt.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) nonce: Vec<u8>,
    /// SHA-256 of the serialised identity it is sent under.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) identity: Vec<u8>,
    /// Unix milliseconds by this machine's clock.
    #[prost(uint64, tag = "5")]
    pub(crate) accepted_at: u64,
    /// Number of the request that this one follows after a conflict; 0 for none.
    #[prost(uint64, tag = "6")]
    pub(crate) follows: u64,
}

/// The fate of a request is known.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Settled {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// Whether it is valid on the ledger.
    #[prost(bool, tag = "2")]
    pub(crate) committed: bool,
    #[prost(uint64, tag = "3")]
    pub(crate) block: u64,
    /// Why it was refused.
    #[prost(string, tag = "4")]
    pub(crate) reason: String,
}

/// Frames a record.
pub(crate) fn encode(event: Event) -> Vec<u8> {
    let record = Record { event: Some(event) };
    let mut out = Vec::with_capacity(HEADER_BYTES + record.encoded_len());
    out.extend_from_slice(&MARKER);
    // Requests are bounded far below 4 GiB.
    let length = u32::try_from(record.encoded_len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[0; 4]);
    // A Vec grows as needed.
    record.encode_raw(&mut out);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), &out[HEADER_BYTES..]);
    out[8..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    out
}

/// What a scan of a file found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The good records with the offset where each begins.
    pub(crate) events: Vec<(u64, Event)>,
    /// Where the last good record ends: everything after it is a torn tail.
    pub(crate) good_end: usize,
    /// Damaged stretches in the middle: offset and length.
    pub(crate) damaged: Vec<(usize, usize)>,
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Decodes the record at `at`; its end too.
fn decode_at(bytes: &[u8], at: usize) -> Option<(Event, usize)> {
    if bytes.get(at..at + 4)? != MARKER {
        return None;
    }
    let length = usize::try_from(number(bytes, at + 4)?).ok()?;
    if length > MAX_PAYLOAD_BYTES {
        return None;
    }
    let end = at + HEADER_BYTES + length;
    let payload = bytes.get(at + HEADER_BYTES..end)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[at + 4..at + 8]), payload);
    if crc != number(bytes, at + 8)? {
        return None;
    }
    Some((Record::decode(payload).ok()?.event?, end))
}

/// Reads all records of a file from `start` on, stepping over damage.
pub(crate) fn scan(bytes: &[u8], start: usize) -> Scan {
    let mut found = Scan {
        good_end: start,
        ..Scan::default()
    };
    let mut at = start;
    while at < bytes.len() {
        if let Some((event, end)) = decode_at(bytes, at) {
            if at > found.good_end {
                found.damaged.push((found.good_end, at - found.good_end));
            }
            found.events.push((u64::try_from(at).unwrap_or(u64::MAX), event));
            at = end;
            found.good_end = end;
        } else {
            let rest = &bytes[at + 1..];
            match rest.windows(MARKER.len()).position(|w| w == MARKER) {
                Some(step) => at += 1 + step,
                None => break,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settled(number: u64) -> Event {
        Event::Settled(Settled {
            number,
            committed: true,
            block: 3,
            reason: String::new(),
        })
    }

    fn file(count: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for n in 1..=count {
            bytes.extend(encode(settled(n)));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn numbers(scan: &Scan) -> Vec<u64> {
        scan.events
            .iter()
            .map(|(_, e)| if let Event::Settled(s) = e { s.number } else { 0 })
            .collect()
    }

    #[test]
    fn a_file_cut_anywhere_keeps_all_whole_records() {
        let (bytes, ends) = file(4);
        for cut in 0..=bytes.len() {
            let found = scan(&bytes[..cut], 0);
            let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
            assert_eq!(found.events.len(), whole, "cut at {cut}");
            assert_eq!(found.good_end, ends[whole]);
            assert!(found.damaged.is_empty());
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_costs_one_record(record in 0_usize..4, at in 0_usize..1000, bit in 0_u8..8) {
            let (mut bytes, ends) = file(4);
            let length = ends[record + 1] - ends[record];
            bytes[ends[record] + at % length] ^= 1 << bit;
            let found = scan(&bytes, 0);
            let expected: Vec<u64> = (1..=4).filter(|n| *n != record as u64 + 1).collect();
            prop_assert_eq!(numbers(&found), expected);
            if record < 3 {
                prop_assert_eq!(found.damaged, vec![(ends[record], length)]);
            }
        }

        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let found = scan(&bytes, 0);
            prop_assert!(found.good_end <= bytes.len());
        }
    }
}
