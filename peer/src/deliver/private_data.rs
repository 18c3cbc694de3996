//! Blocks together with the private data that the reader's organisation is a member of (spec 04 §4).
//!
//! Who is a member of a collection may change with its definition. What counts is the definition below the block, not the
//! one of now: who joins later does not get to see what was written before, and who leaves keeps what it could see.

use std::collections::{BTreeMap, HashMap};

use selvedge_msp::{Identity, SignaturePolicy, Signers};
use selvedge_proto::protos::BlockAndPrivateData;
use selvedge_proto::{protos, rwset};

use crate::channel::PeerChannel;
use crate::committed::CommittedBlock;
use crate::definition::{collection_of, collections_below};

const IMPLICIT: &str = "_implicit_org_";

/// Blocks the thread while it reads.
///
/// # Errors
/// The ledger cannot be read.
pub(crate) fn with_private_data(
    channel: &PeerChannel,
    reader: &[u8],
    block: &CommittedBlock,
) -> Result<BlockAndPrivateData, String> {
    let writes = channel
        .ledger()
        .private_writes(block.number)
        .map_err(|e| e.to_string())?;
    let mut by_tx: BTreeMap<u64, BTreeMap<String, Vec<rwset::CollectionPvtReadWriteSet>>> = BTreeMap::new();
    if !writes.is_empty() {
        let bundle = channel.bundle();
        let identity = bundle.msps().deserialize(reader).map_err(|e| e.to_string())?;
        let mut known: HashMap<(String, String), bool> = HashMap::new();
        for write in writes {
            let key = (write.namespace.clone(), write.collection.clone());
            let may_see = match known.get(&key) {
                Some(may_see) => *may_see,
                None => {
                    let may_see = is_member(channel, block.number, &identity, &key.0, &key.1)?;
                    known.insert(key, may_see);
                    may_see
                }
            };
            if may_see {
                let namespaces = by_tx.entry(write.tx).or_default();
                namespaces
                    .entry(write.namespace)
                    .or_default()
                    .push(rwset::CollectionPvtReadWriteSet {
                        collection_name: write.collection,
                        rwset: write.rwset,
                    });
            }
        }
    }
    Ok(BlockAndPrivateData {
        block: Some(block.block.clone()),
        private_data_map: by_tx
            .into_iter()
            .map(|(tx, namespaces)| (tx, private_set(namespaces)))
            .collect(),
    })
}

fn private_set(
    namespaces: BTreeMap<String, Vec<rwset::CollectionPvtReadWriteSet>>,
) -> rwset::TxPvtReadWriteSet {
    rwset::TxPvtReadWriteSet {
        ns_pvt_rwset: namespaces
            .into_iter()
            .map(|(namespace, collection_pvt_rwset)| rwset::NsPvtReadWriteSet {
                namespace,
                collection_pvt_rwset,
            })
            .collect(),
        ..Default::default()
    }
}

/// Whether the reader satisfies the member policy that a collection had for a block; unknown collections have no members.
fn is_member(
    channel: &PeerChannel,
    block: u64,
    reader: &std::sync::Arc<Identity>,
    namespace: &str,
    collection: &str,
) -> Result<bool, String> {
    if let Some(msp_id) = collection.strip_prefix(IMPLICIT) {
        return Ok(reader.msp_id() == msp_id);
    }
    let collections = collections_below(channel.ledger(), namespace, block).map_err(|e| e.to_string())?;
    let policy = collections
        .as_ref()
        .and_then(|package| collection_of(package, collection))
        .and_then(|c| c.member_orgs_policy.as_ref())
        .and_then(|p| p.payload.as_ref());
    let Some(protos::collection_policy_config::Payload::SignaturePolicy(policy)) = policy else {
        return Ok(false);
    };
    let Ok(policy) = SignaturePolicy::compile(policy) else {
        return Ok(false);
    };
    let bundle = channel.bundle();
    let signers = Signers::from_verified(vec![std::sync::Arc::clone(reader)]);
    Ok(policy.evaluate(bundle.msps(), &signers).is_ok())
}
