//! What differs between the answers of two endorsers to one proposal.
//!
//! Endorsements count only together when their payloads are the same byte for byte. When they are not, the bytes alone
//! help nobody: this module names the keys.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{chaincode_action, kvrwset, protos, rwset};

/// At most so many differences are listed: the first ones tell the story.
pub const MAX_DIFFERENCES: usize = 16;

/// One place at which two answers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs, e.g. `write of shipment/S-1` or `event`.
    pub place: String,
    /// What the first answer has there.
    pub first: String,
    /// What the second answer has there.
    pub second: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} against {}", self.place, self.first, self.second)
    }
}

/// Lists what differs between two `ProposalResponsePayload`s: reads with their versions, writes, queries, private hashes,
/// event, response and chaincode version. Empty exactly when the bytes are equal; at most [`MAX_DIFFERENCES`] long.
pub fn payload_differences(first: &Bytes, second: &Bytes) -> Vec<Difference> {
    if first == second {
        return Vec::new();
    }
    let (one, two) = (Facts::of(first), Facts::of(second));
    let absent = || "absent".to_owned();
    let mut places: Vec<&String> = one.0.keys().chain(two.0.keys()).collect();
    places.sort();
    places.dedup();
    let mut found: Vec<Difference> = places
        .into_iter()
        .filter_map(|place| {
            let (a, b) = (one.0.get(place), two.0.get(place));
            (a != b).then(|| Difference {
                place: place.clone(),
                first: a.cloned().unwrap_or_else(absent),
                second: b.cloned().unwrap_or_else(absent),
            })
        })
        .take(MAX_DIFFERENCES)
        .collect();
    if found.is_empty() {
        // Same content, other bytes: order of entries, or fields that this version does not know.
        found.push(Difference {
            place: "encoding".to_owned(),
            first: short_hash(first),
            second: short_hash(second),
        });
    }
    found
}

/// The content of an answer as place -> printable value.
struct Facts(BTreeMap<String, String>);

impl Facts {
    fn of(payload: &Bytes) -> Self {
        let mut facts = Self(BTreeMap::new());
        match protos::ProposalResponsePayload::decode(payload.clone()) {
            Ok(decoded) => facts.put("proposal hash", hex::encode(&decoded.proposal_hash)),
            Err(why) => facts.put("payload", format!("not readable ({why})")),
        }
        match chaincode_action(payload.clone()) {
            Ok(action) => facts.action(action),
            Err(why) => facts.put("chaincode action", format!("not readable ({why})")),
        }
        facts
    }

    fn put(&mut self, place: impl Into<String>, value: String) {
        // A place that comes twice keeps both values: a doubled write is a difference, too.
        self.0
            .entry(place.into())
            .and_modify(|old| {
                old.push_str(", ");
                old.push_str(&value);
            })
            .or_insert(value);
    }

    fn action(&mut self, action: protos::ChaincodeAction) {
        if let Some(id) = &action.chaincode_id {
            self.put("chaincode", format!("{} version {}", id.name, id.version));
        }
        if let Some(response) = &action.response {
            self.put("response status", response.status.to_string());
            self.put("response message", format!("{:?}", response.message));
            self.put("response payload", value(&response.payload));
        }
        if !action.events.is_empty() {
            self.put("event", value(&action.events));
        }
        match rwset::TxReadWriteSet::decode(action.results) {
            Ok(sets) => {
                for set in sets.ns_rwset {
                    self.namespace(set);
                }
            }
            Err(why) => self.put("read/write set", format!("not readable ({why})")),
        }
    }

    fn namespace(&mut self, set: rwset::NsReadWriteSet) {
        let ns = set.namespace;
        match kvrwset::KvrwSet::decode(set.rwset) {
            Ok(kv) => self.public(&ns, kv),
            Err(why) => self.put(format!("read/write set of {ns}"), format!("not readable ({why})")),
        }
        for collection in set.collection_hashed_rwset {
            self.put(
                format!("private data of {ns}, collection {}", collection.collection_name),
                format!(
                    "reads and writes {}, content {}",
                    short_hash(&collection.hashed_rwset),
                    hex::encode(&collection.pvt_rwset_hash)
                ),
            );
        }
    }

    fn public(&mut self, ns: &str, kv: kvrwset::KvrwSet) {
        for read in kv.reads {
            let at = match read.version {
                Some(v) => format!("version {}:{}", v.block_num, v.tx_num),
                None => "not there".to_owned(),
            };
            self.put(format!("read of {ns}/{}", printable(&read.key)), at);
        }
        for write in kv.writes {
            let what = if write.is_delete {
                "deleted".to_owned()
            } else {
                value(&write.value)
            };
            self.put(format!("write of {ns}/{}", printable(&write.key)), what);
        }
        for write in kv.metadata_writes {
            let entries: Vec<String> = write
                .entries
                .iter()
                .map(|e| format!("{}={}", e.name, short_hash(&e.value)))
                .collect();
            self.put(
                format!("metadata of {ns}/{}", printable(&write.key)),
                entries.join(" "),
            );
        }
        for query in kv.range_queries_info {
            self.put(
                format!(
                    "range query of {ns} from {:?} to {:?}",
                    printable(&query.start_key),
                    printable(&query.end_key)
                ),
                short_hash(&query.encode_to_vec()),
            );
        }
    }
}

/// Composite keys hold U+0000 and U+10FFFF: shown as `~` and `^`, so that a line of log stays one.
fn printable(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\0' => '~',
            '\u{10ffff}' => '^',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

fn short_hash(bytes: &[u8]) -> String {
    let digest = hex::encode(Sha256::digest(bytes));
    format!("sha256 {}", digest.get(..16).unwrap_or(&digest))
}

/// Short text as it is; anything else by length and hash.
fn value(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 80 && !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => format!("{} bytes, {}", bytes.len(), short_hash(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reads: &[(&str, Option<(u64, u64)>)], writes: &[(&str, &str)], result: &str) -> Bytes {
        let kv = kvrwset::KvrwSet {
            reads: reads
                .iter()
                .map(|(key, version)| kvrwset::KvRead {
                    key: (*key).to_owned(),
                    version: version.map(|(block_num, tx_num)| kvrwset::Version { block_num, tx_num }),
                })
                .collect(),
            writes: writes
                .iter()
                .map(|(key, value)| kvrwset::KvWrite {
                    key: (*key).to_owned(),
                    is_delete: false,
                    value: Bytes::copy_from_slice(value.as_bytes()),
                })
                .collect(),
            ..Default::default()
        };
        let sets = rwset::TxReadWriteSet {
            data_model: 0,
            ns_rwset: vec![rwset::NsReadWriteSet {
                namespace: "cc".to_owned(),
                rwset: kv.encode_to_vec().into(),
                collection_hashed_rwset: Vec::new(),
            }],
        };
        let action = protos::ChaincodeAction {
            results: sets.encode_to_vec().into(),
            response: Some(protos::Response {
                status: 200,
                message: String::new(),
                payload: Bytes::copy_from_slice(result.as_bytes()),
            }),
            ..Default::default()
        };
        protos::ProposalResponsePayload {
            proposal_hash: Bytes::from_static(b"h"),
            extension: action.encode_to_vec().into(),
        }
        .encode_to_vec()
        .into()
    }

    #[test]
    fn equal_answers_do_not_differ() {
        let a = answer(&[("k", None)], &[("k", "1")], "ok");
        assert!(payload_differences(&a, &a.clone()).is_empty());
    }

    #[test]
    fn names_every_key_that_differs_and_no_other() {
        let a = answer(
            &[("k", Some((4, 0))), ("same", None)],
            &[("k", "1"), ("x", "9")],
            "ok",
        );
        let b = answer(&[("k", Some((5, 2))), ("same", None)], &[("k", "2")], "ok");
        let texts: Vec<String> = payload_differences(&a, &b)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "read of cc/k: version 4:0 against version 5:2",
                "write of cc/k: \"1\" against \"2\"",
                "write of cc/x: \"9\" against absent",
            ]
        );
    }

    #[test]
    fn order_alone_is_a_difference_of_encoding() {
        let a = answer(&[], &[("k", "1"), ("l", "2")], "ok");
        let b = answer(&[], &[("l", "2"), ("k", "1")], "ok");
        let found = payload_differences(&a, &b);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "encoding");
    }

    #[test]
    fn junk_is_a_difference_and_no_panic() {
        let found = payload_differences(&Bytes::from_static(&[0xff]), &answer(&[], &[], "ok"));
        assert!(!found.is_empty());
    }

    #[test]
    fn the_list_is_bounded_and_keys_are_printable() {
        let keys: Vec<String> = (0..100).map(|i| format!("\0t\0{i:03}\0")).collect();
        let writes: Vec<(&str, &str)> = keys.iter().map(|k| (k.as_str(), "v")).collect();
        let found = payload_differences(&answer(&[], &writes, "ok"), &answer(&[], &[], "ok"));
        assert_eq!(found.len(), MAX_DIFFERENCES);
        assert_eq!(found[0].place, "write of cc/~t~000~");
    }
}
