mod private;
mod state;

use std::fs;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use selvedge_proto::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvMetadataWriteHash, KvWrite, KvWriteHash, KvrwSet,
};
use selvedge_proto::{common, lifecycle, new_block, protos, rwset};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::mvcc::{self, TxInput};
use crate::rwset::ParsedRwset;
use crate::{HistoryEntry, KeyRef, StateReader, UpdateBatch, Version, VersionedValue};

fn sha(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(bytes))
}

/// A serialised envelope of the given type.
fn envelope(kind: common::HeaderType, tx_id: &str, data: Vec<u8>) -> Bytes {
    let channel_header = common::ChannelHeader {
        r#type: kind as i32,
        channel_id: "trade".into(),
        tx_id: tx_id.into(),
        timestamp: Some(prost_types::Timestamp {
            seconds: 77,
            nanos: 5,
        }),
        ..Default::default()
    };
    let signature_header = common::SignatureHeader {
        creator: Bytes::from_static(b"creator"),
        nonce: Bytes::from_static(b"nonce"),
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: data.into(),
    };
    let envelope = common::Envelope {
        payload: payload.encode_to_vec().into(),
        signature: Bytes::from_static(b"signature"),
    };
    envelope.encode_to_vec().into()
}

/// One private collection in a transaction: plain writes, and metadata for key hashes.
#[derive(Default)]
struct Private {
    writes: Vec<KvWrite>,
    purge: bool,
    metadata: Vec<&'static str>,
}

fn results(public: &KvrwSet, private: Option<&Private>) -> Bytes {
    let collections = private.map(|p| {
        let hashed = HashedRwSet {
            hashed_writes: p
                .writes
                .iter()
                .map(|w| KvWriteHash {
                    key_hash: sha(&w.key),
                    is_delete: w.is_delete,
                    value_hash: if w.is_delete { Bytes::new() } else { sha(&w.value) },
                    is_purge: p.purge,
                })
                .collect(),
            metadata_writes: p
                .metadata
                .iter()
                .map(|key| KvMetadataWriteHash {
                    key_hash: sha(key),
                    entries: vec![KvMetadataEntry {
                        name: "M".into(),
                        value: Bytes::from_static(b"m"),
                    }],
                })
                .collect(),
            ..Default::default()
        };
        rwset::CollectionHashedReadWriteSet {
            collection_name: "coll".into(),
            hashed_rwset: hashed.encode_to_vec().into(),
            pvt_rwset_hash: if p.writes.is_empty() {
                Bytes::new()
            } else {
                sha(plain(p))
            },
        }
    });
    let set = rwset::TxReadWriteSet {
        data_model: 0,
        ns_rwset: vec![rwset::NsReadWriteSet {
            namespace: "cc".into(),
            rwset: public.encode_to_vec().into(),
            collection_hashed_rwset: collections.into_iter().collect(),
        }],
    };
    set.encode_to_vec().into()
}

fn plain(private: &Private) -> Vec<u8> {
    KvrwSet {
        writes: private.writes.clone(),
        ..Default::default()
    }
    .encode_to_vec()
}

fn endorsed(tx_id: &str, results: Bytes) -> Bytes {
    let action = protos::ChaincodeAction {
        results,
        ..Default::default()
    };
    let response = protos::ProposalResponsePayload {
        extension: action.encode_to_vec().into(),
        ..Default::default()
    };
    let payload = protos::ChaincodeActionPayload {
        action: Some(protos::ChaincodeEndorsedAction {
            proposal_response_payload: response.encode_to_vec().into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let transaction = protos::Transaction {
        actions: vec![protos::TransactionAction {
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        }],
    };
    envelope(
        common::HeaderType::EndorserTransaction,
        tx_id,
        transaction.encode_to_vec(),
    )
}

fn put(key: &str, value: &str) -> KvWrite {
    KvWrite {
        key: key.into(),
        is_delete: value.is_empty(),
        value: value.to_owned().into(),
    }
}

fn writes(pairs: &[(&str, &str)]) -> KvrwSet {
    KvrwSet {
        writes: pairs.iter().map(|(k, v)| put(k, v)).collect(),
        ..Default::default()
    }
}

fn tx(id: &str, pairs: &[(&str, &str)]) -> Bytes {
    endorsed(id, results(&writes(pairs), None))
}

fn genesis() -> common::Block {
    let config = envelope(common::HeaderType::Config, "genesis", b"the config".to_vec());
    new_block(0, Bytes::new(), vec![config])
}

fn next_block(ledger: &Ledger, data: Vec<Bytes>) -> common::Block {
    new_block(ledger.height(), ledger.blocks().last_hash().unwrap(), data)
}

/// Judges and commits a block; `bad` transactions come with that code.
fn commit(ledger: &Ledger, data: Vec<Bytes>, bad: &[usize], private: Vec<PrivateWrites>) {
    let (block, updates) = judged(ledger, data, bad);
    ledger.commit(block, updates, private).unwrap();
}

fn judged(ledger: &Ledger, data: Vec<Bytes>, bad: &[usize]) -> (common::Block, UpdateBatch) {
    let mut block = next_block(ledger, data);
    let envelopes = contents::envelopes(&block).to_vec();
    let number = ledger.height();
    let sets: Vec<Option<ParsedRwset>> = envelopes
        .iter()
        .enumerate()
        .map(|(i, e)| match contents::body(number, i, e) {
            Ok(contents::Body::Endorser(rwset)) => Some(rwset),
            _ => None,
        })
        .collect();
    let inputs: Vec<TxInput<'_>> = sets
        .iter()
        .map(|s| TxInput {
            rwset: s.as_ref(),
            config: None,
        })
        .collect();
    let mut codes = vec![TxValidationCode::Valid; envelopes.len()];
    bad.iter()
        .for_each(|i| codes[*i] = TxValidationCode::EndorsementPolicyFailure);
    let (updates, _) = mvcc::judge(number, &inputs, &mut codes, &ledger.state()).unwrap();
    ledger.prepare(&mut block, &codes, &updates);
    (block, updates)
}

fn new_ledger() -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::create(dir.path(), &genesis()).unwrap();
    (dir, ledger)
}

fn everything(ledger: &Ledger) -> Vec<(String, Bytes, VersionedValue)> {
    ledger.snapshot().unwrap().entries().map(Result::unwrap).collect()
}

fn value(ledger: &Ledger, key: &str) -> Option<Bytes> {
    ledger.state().get("cc", key).unwrap().map(|e| e.value)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
