use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{common, google, kvrwset, orderer, protos, rwset};

fn go<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, GoDecodeError> {
    decode(Bytes::copy_from_slice(bytes))
}

#[test]
fn every_message_has_a_schema() {
    for (i, pair) in MESSAGES.windows(2).enumerate() {
        assert!(pair[0].name < pair[1].name, "entry {i} is out of order");
    }
    for name in [
        common::Envelope::full_name(),
        common::signature_policy::NOutOf::full_name(),
        google::rpc::Status::full_name(),
        orderer::SeekInfo::full_name(),
        "google.protobuf.Timestamp".to_owned(),
        "common.ConfigGroup.GroupsEntry".to_owned(),
    ] {
        assert!(MessageSchema::find(&name).is_some(), "{name}");
    }
}

#[test]
fn a_known_field_with_another_wire_type_is_unknown() {
    // Envelope.payload as a varint, then the signature.
    let bytes = [0x08, 0x05, 0x12, 0x01, 0xaa];
    assert!(common::Envelope::decode(&bytes[..]).is_err());
    let envelope: common::Envelope = go(&bytes).unwrap();
    assert!(envelope.payload.is_empty());
    assert_eq!(envelope.signature.as_ref(), [0xaa]);
    // The same one level down: Payload.header.channel_header as a fixed32.
    let bytes = [0x0a, 0x08, 0x0d, 1, 2, 3, 4, 0x12, 0x01, 0xbb];
    let payload: common::Payload = go(&bytes).unwrap();
    assert_eq!(payload.header.unwrap().signature_header.as_ref(), [0xbb]);
}

#[test]
fn faults_that_go_refuses() {
    for (bytes, why) in [
        (&[0x0a, 0x05, 0x01][..], "a field runs past the end"),
        (&[0x0a][..], "a varint is cut off"),
        (&[0x02, 0x00][..], "a field number is out of range"),
        (
            &[0x80, 0x80, 0x80, 0x80, 0x10, 0x00][..],
            "a field number is out of range",
        ),
        (&[0x1e][..], "a wire type does not exist"),
        (&[0x1f][..], "a wire type does not exist"),
        (&[0x1c][..], "a group ends that did not begin"),
        (&[0x1b, 0x24][..], "a group ends that did not begin"),
        (&[0x1b][..], "a varint is cut off"),
        (
            &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..],
            "a varint exceeds 64 bits",
        ),
        (
            &[0x0a, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01][..],
            "a field runs past the end",
        ),
    ] {
        assert_eq!(
            go::<common::Envelope>(bytes).unwrap_err().why,
            why,
            "{bytes:02x?}"
        );
    }
    assert_eq!(
        go::<kvrwset::KvRead>(&[0x0a, 0x01, 0xff]).unwrap_err().why,
        "a string is not UTF-8"
    );
    // A fault in a nested message is a fault; in a `bytes` field that holds a message it is not.
    assert!(go::<kvrwset::KvrwSet>(&[0x0a, 0x03, 0x0a, 0x01, 0xff]).is_err());
    assert!(go::<rwset::NsReadWriteSet>(&[0x12, 0x03, 0x0a, 0x01, 0xff]).is_ok());
}

#[test]
fn oddities_that_go_accepts() {
    // Nothing at all.
    assert_eq!(go::<common::Envelope>(&[]).unwrap(), common::Envelope::default());
    // A balanced group of an unknown number, one within another, and one in place of a known field.
    let bytes = [0x1b, 0x23, 0x08, 0x01, 0x24, 0x1c, 0x0b, 0x0c, 0x12, 0x01, 0x07];
    assert_eq!(go::<common::Envelope>(&bytes).unwrap().signature.as_ref(), [7]);
    // Wide varints are cut; a bool is any non-zero.
    let wide = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(go::<common::ChannelHeader>(&wide).unwrap().r#type, -1);
    assert!(
        go::<kvrwset::KvWrite>(&[0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01])
            .unwrap()
            .is_delete
    );
    // A varint that is longer than it needs to be, in a tag too.
    assert_eq!(
        go::<common::ChannelHeader>(&[0x88, 0x80, 0x00, 0x83, 0x80, 0x00])
            .unwrap()
            .r#type,
        3
    );
    // A singular message that occurs twice is merged.
    let twice = [0x0a, 0x03, 0x0a, 0x01, 0x01, 0x0a, 0x03, 0x12, 0x01, 0x02];
    let header = go::<common::Payload>(&twice).unwrap().header.unwrap();
    assert_eq!(
        (header.channel_header.as_ref(), header.signature_header.as_ref()),
        (&[1][..], &[2][..])
    );
    // Of a oneof the last one counts.
    let last = [0x0a, 0x00, 0x12, 0x01, b'x'];
    let policy = go::<protos::ApplicationPolicy>(&last).unwrap();
    assert_eq!(
        policy.r#type,
        Some(protos::application_policy::Type::ChannelConfigPolicyReference(
            "x".into()
        ))
    );
}

#[test]
fn deep_groups_as_in_go_and_deep_messages_bounded() {
    let mut groups = vec![0x1b; MAX_GROUP_DEPTH];
    groups.extend(vec![0x1c; MAX_GROUP_DEPTH]);
    assert!(go::<common::Envelope>(&groups).is_ok());
    groups.insert(0, 0x1b);
    groups.push(0x1c);
    assert!(go::<common::Envelope>(&groups).is_err());

    let nested = |levels: usize| {
        let mut rule = common::SignaturePolicy {
            r#type: Some(common::signature_policy::Type::SignedBy(0)),
        };
        for _ in 0..levels {
            rule = common::SignaturePolicy {
                r#type: Some(common::signature_policy::Type::NOutOf(
                    common::signature_policy::NOutOf {
                        n: 1,
                        rules: vec![rule],
                    },
                )),
            };
        }
        rule.encode_to_vec()
    };
    assert!(go::<common::SignaturePolicy>(&nested(MAX_DEPTH / 2)).is_ok());
    assert!(go::<common::SignaturePolicy>(&nested(MAX_DEPTH / 2 + 1)).is_err());
}

fn read() -> impl Strategy<Value = kvrwset::KvRead> {
    (".{0,4}", proptest::option::of((any::<u64>(), any::<u64>()))).prop_map(|(key, version)| {
        kvrwset::KvRead {
            key,
            version: version.map(|(block_num, tx_num)| kvrwset::Version { block_num, tx_num }),
        }
    })
}

fn rw_set() -> impl Strategy<Value = kvrwset::KvrwSet> {
    let write = (
        ".{0,4}",
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 0..5),
    )
        .prop_map(|(key, is_delete, value)| kvrwset::KvWrite {
            key,
            is_delete,
            value: value.into(),
        });
    let query = (
        ".{0,3}",
        any::<bool>(),
        proptest::collection::vec(read(), 0..3),
        any::<u32>(),
    )
        .prop_map(
            |(start_key, itr_exhausted, kv_reads, level)| kvrwset::RangeQueryInfo {
                end_key: start_key.clone(),
                start_key,
                itr_exhausted,
                reads_info: Some(if level % 2 == 0 {
                    kvrwset::range_query_info::ReadsInfo::RawReads(kvrwset::QueryReads { kv_reads })
                } else {
                    kvrwset::range_query_info::ReadsInfo::ReadsMerkleHashes(
                        kvrwset::QueryReadsMerkleSummary {
                            max_degree: level,
                            max_level: 1,
                            max_level_hashes: vec![Bytes::from_static(b"h")],
                        },
                    )
                }),
            },
        );
    (
        proptest::collection::vec(read(), 0..3),
        proptest::collection::vec(query, 0..3),
        proptest::collection::vec(write, 0..3),
    )
        .prop_map(|(reads, range_queries_info, writes)| kvrwset::KvrwSet {
            reads,
            range_queries_info,
            writes,
            metadata_writes: Vec::new(),
        })
}

/// A field that Go would keep as unknown within a `KVRWSet`, whose four fields are all lists of messages.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    (1u64..40, 0u8..4, any::<u64>()).prop_map(|(number, shape, value)| {
        let mut bytes = Vec::new();
        let tag = |number: u64, wire: u64, bytes: &mut Vec<u8>| {
            prost::encoding::encode_varint(number << 3 | wire, bytes)
        };
        match shape {
            0 => {
                tag(number, 0, &mut bytes);
                prost::encoding::encode_varint(value, &mut bytes);
            }
            1 => {
                tag(number, 1, &mut bytes);
                bytes.extend(value.to_le_bytes());
            }
            2 => {
                tag(number + 4, 2, &mut bytes);
                bytes.extend([2, 0xff, 0xff]);
            }
            _ => {
                tag(number, 3, &mut bytes);
                tag(1, 5, &mut bytes);
                bytes.extend([1, 2, 3, 4]);
                tag(number, 4, &mut bytes);
            }
        }
        bytes
    })
}

/// The top-level fields of a message, each with its tag.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(bytes);
    let mut found = Vec::new();
    while !cursor.done() {
        let start = cursor.at;
        let tag = cursor.varint().ok().unwrap();
        cursor.skip(tag >> 3, wire_type(tag)).ok().unwrap();
        found.push(bytes[start..cursor.at].to_vec());
    }
    found
}

proptest! {
    #[test]
    fn what_prost_writes_is_taken_unchanged(set in rw_set()) {
        let bytes = Bytes::from(set.encode_to_vec());
        let same = normalise::<kvrwset::KvrwSet>(bytes.clone()).unwrap();
        prop_assert_eq!(same.as_ptr(), bytes.as_ptr());
        prop_assert_eq!(decode::<kvrwset::KvrwSet>(bytes).unwrap(), set);
    }

    #[test]
    fn unknown_fields_between_known_ones_change_nothing(
        set in rw_set(),
        noises in proptest::collection::vec((any::<prop::sample::Index>(), noise()), 0..6),
    ) {
        let mut parts = pieces(&set.encode_to_vec());
        for (place, noise) in noises {
            let at = place.index(parts.len() + 1);
            parts.insert(at, noise);
        }
        prop_assert_eq!(go::<kvrwset::KvrwSet>(&parts.concat()).unwrap(), set);
    }

    #[test]
    fn what_prost_reads_go_reads_equally(
        set in rw_set(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = set.encode_to_vec();
        if !bytes.is_empty() {
            for (place, value) in flips {
                let at = place.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(bytes.len() - cut.index(bytes.len()) / 4);
        }
        let go = go::<kvrwset::KvrwSet>(&bytes);
        if let Ok(prost) = kvrwset::KvrwSet::decode(&bytes[..]) {
            prop_assert_eq!(go, Ok(prost));
        }
    }

    #[test]
    fn random_bytes_never_panic_and_rewriting_settles(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(once) = normalise::<common::ConfigGroup>(Bytes::from(bytes.clone())) {
            prop_assert!(common::ConfigGroup::decode(once.clone()).is_ok());
            let twice = normalise::<common::ConfigGroup>(once.clone()).unwrap();
            prop_assert_eq!(twice.as_ptr(), once.as_ptr());
        } else {
            prop_assert!(common::ConfigGroup::decode(&bytes[..]).is_err());
        }
    }
}
