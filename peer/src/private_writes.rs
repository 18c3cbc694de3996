//! From the waiting room to the ledger: the private data of a block that this peer holds (spec 03 §8).

use selvedge_ledger::private::PrivateWrites;
use selvedge_proto::protos::TxValidationCode as Code;

use crate::transient::TransientStore;
use crate::validation::PreparedBlock;

/// The plaintext that fits the hashes of valid transactions. What this peer does not hold is left out.
pub(crate) fn collect(
    block: &PreparedBlock,
    codes: &[Code],
    transient: &TransientStore,
) -> Vec<PrivateWrites> {
    let mut found = Vec::new();
    for (index, (tx, _)) in (0u64..)
        .zip(block.txs.iter().zip(codes))
        .filter(|(_, (_, c))| **c == Code::Valid)
    {
        let Some(rwset) = tx.rwset() else { continue };
        let kept = transient.get(&tx.open.tx_id);
        for namespace in &rwset.namespaces {
            for entry in namespace
                .collections
                .iter()
                .filter(|c| !c.pvt_rwset_hash.is_empty())
            {
                let candidates = kept.iter().flat_map(|private| &private.ns_pvt_rwset);
                let candidates = candidates
                    .filter(|ns| ns.namespace == namespace.namespace)
                    .flat_map(|ns| &ns.collection_pvt_rwset)
                    .filter(|collection| collection.collection_name == entry.collection);
                let writes = candidates.map(|candidate| PrivateWrites {
                    tx: index,
                    namespace: namespace.namespace.clone(),
                    collection: entry.collection.clone(),
                    rwset: candidate.rwset.clone(),
                });
                found.extend(
                    writes
                        .filter(|writes| writes.matches(&entry.pvt_rwset_hash))
                        .take(1),
                );
            }
        }
    }
    found
}
