//! What is written to the buffer's files: protobuf messages in framed records.
//!
//! Frame: marker (4 bytes), length (u32 LE), CRC32C over length and payload (u32 LE), payload. The marker lets a reader
//! find the next record after a damaged one. A record means something only together with the ones before it (see the
//! module text); what a damaged one may cost is told there too.

use bytes::Bytes;
use prost::Message;
use selvedge_proto::prost;

use super::request::{Priority, Template};

/// First bytes of every segment: name and version of the format.
pub(crate) const MAGIC: &[u8; 8] = b"SLVBUF03";
/// Those of the version before, which had fewer kinds of records and is read as well. It has no writer any more: a program
/// that knows this one alone must refuse what it does not know, and not take it for damage.
pub(crate) const EARLIER_MAGIC: &[u8; 8] = b"SLVBUF02";
/// First bytes of every record; unlikely in JSON or protobuf.
pub(crate) const MARKER: [u8; 4] = [0xD5, 0x5E, 0x1F, 0xED];
pub(crate) const HEADER_BYTES: usize = 12;
/// Longest payload of a record in bytes. Longer requests are refused before they get here.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 2 * 1024 * 1024;

/// No record of a request has fewer bytes: its frame, a number, a template, a nonce.
const SMALLEST_REQUEST: usize = HEADER_BYTES + 32;

/// Numbers of batches begin here, those of requests end before.
pub(crate) const FIRST_BATCH: u64 = 1 << 60;

/// One record of a file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(oneof = "Event", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(crate) event: Option<Event>,
    /// Everything before this record was durable before this record was written: damage there is no torn write.
    #[prost(bool, tag = "15")]
    pub(crate) clean: bool,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Event {
    #[prost(message, tag = "1")]
    Template(StoredTemplate),
    #[prost(message, tag = "2")]
    Accepted(Accepted),
    #[prost(message, tag = "3")]
    Settled(Settled),
    #[prost(message, tag = "4")]
    Sending(Sending),
    #[prost(message, tag = "5")]
    Batch(Batch),
    #[prost(message, tag = "6")]
    BatchCommitted(BatchCommitted),
    #[prost(message, tag = "7")]
    Apart(Apart),
    #[prost(message, tag = "8")]
    Dropped(Dropped),
    #[prost(message, tag = "9")]
    Snapshot(Snapshot),
    #[prost(message, tag = "10")]
    Rebound(Rebound),
    #[prost(message, tag = "11")]
    Redated(Redated),
    #[prost(message, tag = "12")]
    Carried(Carried),
}

/// What many requests have in common, said once a segment.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredTemplate {
    /// Its name in this segment.
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    #[prost(string, tag = "2")]
    pub(crate) channel: String,
    #[prost(string, tag = "3")]
    pub(crate) chaincode: String,
    #[prost(string, tag = "4")]
    pub(crate) function: String,
    #[prost(string, tag = "5")]
    pub(crate) source: String,
    /// SHA-256 of the serialised identity that they are sent under.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) identity: Vec<u8>,
    #[prost(bool, tag = "7")]
    pub(crate) ordered: bool,
    #[prost(bool, tag = "8")]
    pub(crate) retry_conflicts: bool,
    /// 0 (low) to 3 (critical).
    #[prost(uint32, tag = "9")]
    pub(crate) priority: u32,
    /// Seconds; 0 for none.
    #[prost(uint32, tag = "10")]
    pub(crate) max_age_s: u32,
    /// The requests tell of what was dropped; they are never dropped themselves.
    #[prost(bool, tag = "11")]
    pub(crate) tells_gaps: bool,
}

/// A request came in; from its durability on it is promised.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Accepted {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) template: u32,
    /// Fixes, with the identity, the transaction id of every attempt.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) nonce: Bytes,
    /// Unix seconds by this machine's clock; 0 when it did not know the time.
    #[prost(uint32, tag = "4")]
    pub(crate) accepted_s: u32,
    #[prost(string, tag = "5")]
    pub(crate) key: String,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(crate) args: Vec<Bytes>,
    /// Number of the request that this one follows after a conflict; 0 for none.
    #[prost(uint64, tag = "7")]
    pub(crate) follows: u64,
    /// Copied from a segment that goes: it is known from before.
    #[prost(bool, tag = "8")]
    pub(crate) copied: bool,
    /// An orderer may have seen it. Only in copies; otherwise a [`Sending`] says so.
    #[prost(bool, tag = "9")]
    pub(crate) maybe_sent: bool,
    /// It tells of everything that was dropped so far of this target.
    #[prost(message, optional, tag = "10")]
    pub(crate) tells: Option<Target>,
    /// Number in whose place it stands in the order of its source; 0 for its own.
    #[prost(uint64, tag = "11")]
    pub(crate) place: u64,
    /// It lost a race, and the request that follows it is on disk. Only in copies; otherwise that one says so.
    #[prost(bool, tag = "12")]
    pub(crate) followed: bool,
}

/// Where requests go.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub(crate) struct Target {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
    #[prost(string, tag = "2")]
    pub(crate) chaincode: String,
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

/// From now on an orderer may see requests of this group of [`super::slots::GROUP`] numbers.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sending {
    #[prost(uint64, tag = "1")]
    pub(crate) group: u64,
}

/// Requests that travel in one transaction.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Batch {
    /// Batches are numbered from [`FIRST_BATCH`] on.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) nonce: Bytes,
    /// Their numbers in order: first ones and lengths of runs.
    #[prost(message, repeated, tag = "3")]
    pub(crate) members: Vec<Run>,
    /// The function that takes them all.
    #[prost(string, tag = "4")]
    pub(crate) into: String,
}

/// Consecutive numbers.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Run {
    #[prost(uint64, tag = "1")]
    pub(crate) first: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

/// A batch is valid on the ledger, and with it each of its members. They are named again, since copies of them may outlive
/// the segment that names them first.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchCommitted {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) block: u64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) members: Vec<Run>,
}

/// A batch will never be valid: its members go on without it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Apart {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// How often the largest batch is halved for its members from now on.
    #[prost(uint32, tag = "2")]
    pub(crate) level: u32,
}

/// A request was given up before anybody saw it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dropped {
    /// 0 for requests of which no more is known than that they were there.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) template: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) accepted_s: u32,
    /// See [`super::gaps::DropReason`].
    #[prost(uint32, tag = "4")]
    pub(crate) reason: u32,
}

/// What a segment has to know of the ones before it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Snapshot {
    /// No number below has to be given again.
    #[prost(uint64, tag = "1")]
    pub(crate) next_number: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) next_batch: u64,
    /// What was dropped and not yet told.
    #[prost(message, repeated, tag = "2")]
    pub(crate) gaps: Vec<StoredGap>,
    /// An earlier segment that a power cut or a failed fsync ended, and where what may be torn begins; 0 for none.
    #[prost(uint32, tag = "4")]
    pub(crate) torn_segment: u32,
    #[prost(uint64, tag = "5")]
    pub(crate) torn_from: u64,
    /// An earlier segment of which everything from an offset on is void, since a write of it failed and those who waited
    /// for it were told so; 0 for none.
    #[prost(uint32, tag = "6")]
    pub(crate) void_segment: u32,
    #[prost(uint64, tag = "7")]
    pub(crate) void_from: u64,
    /// Requests lost through damage that `gaps` has counted, now or before it was told.
    #[prost(message, repeated, tag = "8")]
    pub(crate) damaged: Vec<Run>,
    /// Requests that were read from behind `torn_from` after all: damage that is found there later is no torn write.
    #[prost(message, repeated, tag = "9")]
    pub(crate) whole: Vec<Run>,
}

/// See [`super::gaps::Gap`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoredGap {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
    #[prost(string, tag = "2")]
    pub(crate) chaincode: String,
    #[prost(string, tag = "3")]
    pub(crate) source: String,
    #[prost(uint32, tag = "4")]
    pub(crate) reason: u32,
    #[prost(uint64, tag = "5")]
    pub(crate) count: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) first: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) last: u64,
    #[prost(uint32, tag = "8")]
    pub(crate) from_s: u32,
    #[prost(uint32, tag = "9")]
    pub(crate) to_s: u32,
}

/// Requests that nobody has seen are sent under another identity.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Rebound {
    #[prost(message, repeated, tag = "1")]
    pub(crate) members: Vec<Run>,
    #[prost(uint32, tag = "2")]
    pub(crate) template: u32,
}

/// The copies before this are of these requests: so it is known which one a damaged copy was of.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Carried {
    #[prost(message, repeated, tag = "1")]
    pub(crate) members: Vec<Run>,
}

/// The machine's clock was set: what was taken before came in so much later, or earlier, than its records say.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Redated {
    /// The first request that this is said of, and the first of which it is not.
    #[prost(uint64, tag = "1")]
    pub(crate) first: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) next: u64,
    /// Seconds.
    #[prost(sint64, tag = "3")]
    pub(crate) by: i64,
}

impl StoredTemplate {
    pub(crate) fn of(id: u32, template: &Template) -> Self {
        Self {
            id,
            channel: template.channel.clone(),
            chaincode: template.chaincode.clone(),
            function: template.function.clone(),
            source: template.source.clone(),
            identity: template.identity.to_vec(),
            ordered: template.ordered,
            retry_conflicts: template.retry_conflicts,
            priority: template.priority as u32,
            max_age_s: template.max_age_s,
            tells_gaps: template.tells_gaps,
        }
    }

    /// None if it names no usable identity.
    pub(crate) fn read(self) -> Option<Template> {
        Some(Template {
            identity: self.identity.as_slice().try_into().ok()?,
            channel: self.channel,
            chaincode: self.chaincode,
            function: self.function,
            source: self.source,
            ordered: self.ordered,
            retry_conflicts: self.retry_conflicts,
            priority: Priority::from_number(self.priority),
            max_age_s: self.max_age_s,
            tells_gaps: self.tells_gaps,
        })
    }
}

/// Runs of consecutive numbers in a list.
pub(crate) fn runs_of(numbers: impl IntoIterator<Item = u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.first + run.count == number => run.count += 1,
            _ => runs.push(Run {
                first: number,
                count: 1,
            }),
        }
    }
    runs
}

/// Numbers in runs; absurd lengths from a damaged file are cut by the caller's limit.
pub(crate) fn numbers_of(runs: &[Run], most: usize) -> Vec<u64> {
    runs.iter()
        .flat_map(|run| run.first..run.first.saturating_add(run.count))
        .take(most)
        .collect()
}

/// Appends a framed record to `out`; gives its length. For `clean` see [`Record`].
pub(crate) fn encode_into(event: Event, clean: bool, out: &mut Vec<u8>) -> usize {
    let record = Record {
        event: Some(event),
        clean,
    };
    let start = out.len();
    out.extend_from_slice(&MARKER);
    // Requests are bounded far below 4 GiB.
    let length = u32::try_from(record.encoded_len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[0; 4]);
    // A Vec grows as needed.
    record.encode_raw(out);
    let payload = start + HEADER_BYTES;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), &out[payload..]);
    out[start + 8..payload].copy_from_slice(&crc.to_le_bytes());
    out.len() - start
}

/// A stretch of a segment that holds no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    /// Good records were found after it.
    pub(crate) inside: bool,
}

/// A good record and where it is.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) clean: bool,
    pub(crate) event: Event,
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Decodes the record at `at`.
pub(crate) fn decode_at(bytes: &Bytes, at: usize) -> Option<Found> {
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
    let record = Record::decode(bytes.slice(at + HEADER_BYTES..end)).ok()?;
    Some(Found {
        offset: at,
        length: end - at,
        clean: record.clean,
        event: record.event?,
    })
}

/// How many requests a damaged stretch may have held, by its size.
pub(crate) fn most_requests(bytes: &Bytes, damage: &Damage) -> u64 {
    let hole = bytes
        .get(damage.offset..damage.offset + damage.length)
        .unwrap_or_default();
    let payload = hole
        .get(MARKER.len()..MARKER.len() + 4)
        .and_then(|length| length.try_into().ok())
        .and_then(|length| usize::try_from(u32::from_le_bytes(length)).ok());
    let is_one = payload.and_then(|payload| payload.checked_add(HEADER_BYTES)) == Some(hole.len());
    if is_one && hole.starts_with(&MARKER) {
        return 1;
    }
    (hole.len() / SMALLEST_REQUEST).max(1) as u64
}

/// Reads the records of a segment from `start` on, stepping over damage; `each` sees records and damage in their order.
pub(crate) fn scan(bytes: &Bytes, start: usize, mut each: impl FnMut(Result<Found, Damage>)) {
    let mut at = start;
    let mut good_end = start;
    while at < bytes.len() {
        if let Some(found) = decode_at(bytes, at) {
            if at > good_end {
                each(Err(Damage {
                    offset: good_end,
                    length: at - good_end,
                    inside: true,
                }));
            }
            at += found.length;
            good_end = at;
            each(Ok(found));
        } else {
            let rest = &bytes[at + 1..];
            match rest.windows(MARKER.len()).position(|w| w == MARKER) {
                Some(next) => at += 1 + next,
                None => break,
            }
        }
    }
    if good_end < bytes.len() {
        each(Err(Damage {
            offset: good_end,
            length: bytes.len() - good_end,
            inside: false,
        }));
    }
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

    fn read(bytes: Vec<u8>) -> (Vec<Event>, Vec<Damage>) {
        let (mut events, mut damage) = (Vec::new(), Vec::new());
        scan(&Bytes::from(bytes), 0, |found| match found {
            Ok(found) => events.push(found.event),
            Err(what) => damage.push(what),
        });
        (events, damage)
    }

    proptest! {
        #[test]
        fn one_flipped_bit_costs_one_record(
            count in 2_u64..12,
            at in 0_usize..4096,
            bit in 0_u8..8,
        ) {
            let mut bytes = Vec::new();
            let mut ends = Vec::new();
            for n in 0..count {
                encode_into(settled(n), n == 0, &mut bytes);
                ends.push(bytes.len());
            }
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let hit = ends.iter().position(|end| at < *end).unwrap() as u64;
            let (events, damage) = read(bytes);
            let expected: Vec<Event> = (0..count).filter(|n| *n != hit).map(settled).collect();
            prop_assert_eq!(events, expected);
            prop_assert_eq!(damage.len(), 1);
            prop_assert_eq!(damage[0].inside, hit + 1 < count);
        }

        #[test]
        fn a_torn_tail_costs_what_is_torn(count in 1_u64..8, cut in 1_usize..20) {
            let mut bytes = Vec::new();
            for n in 0..count {
                encode_into(settled(n), n == 0, &mut bytes);
            }
            bytes.truncate(bytes.len() - cut);
            let (events, damage) = read(bytes);
            prop_assert_eq!(events.len() as u64, count - 1);
            prop_assert!(damage.len() <= 1 && damage.iter().all(|d| !d.inside));
        }

        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..300)) {
            read(junk);
        }

        #[test]
        fn runs_say_what_the_list_said(numbers in proptest::collection::btree_set(0_u64..200, 0..60)) {
            let list: Vec<u64> = numbers.into_iter().collect();
            prop_assert_eq!(numbers_of(&runs_of(list.iter().copied()), 1000), list);
        }
    }
}
