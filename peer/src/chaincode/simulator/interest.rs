//! What a gateway must know to choose endorsers for a transaction (spec 04 §2.5).

use prost::Message;
use selvedge_proto::{common, protos};

use super::{SimulationError, Simulator, key_policy};

impl Simulator {
    /// The chaincodes, collections and key policies whose endorsement the transaction needs. Namespaces for which
    /// `is_system` says yes are left out unless they were written.
    ///
    /// # Errors
    /// The ledger fails.
    pub fn interest(
        &self,
        is_system: impl Fn(&str) -> bool,
    ) -> Result<protos::ChaincodeInterest, SimulationError> {
        let mut chaincodes = Vec::new();
        for (namespace, set) in &self.namespaces {
            let mut key_policies = Vec::new();
            let mut written = false;
            let mut unguarded = false;
            for key in set
                .writes
                .keys()
                .chain(set.metadata.keys().filter(|k| !set.writes.contains_key(*k)))
            {
                written = true;
                let policy = match set.reads.get(key) {
                    Some(seen) => seen.as_ref().and_then(|s| s.policy.clone()),
                    None => self.state.get(namespace, key)?.as_ref().and_then(key_policy),
                };
                // A policy that does not parse protects its key from everybody; no plan can meet it.
                match policy {
                    Some(policy) => {
                        if let Ok(policy) = common::SignaturePolicyEnvelope::decode(policy) {
                            key_policies.push(policy);
                        }
                    }
                    None => unguarded = true,
                }
            }
            let collections: Vec<_> = set
                .collections
                .iter()
                .filter(|(_, c)| !c.writes.is_empty() || c.plaintext_read)
                .collect();
            let only_read = !written && collections.is_empty();
            if written || (only_read && !is_system(namespace)) {
                chaincodes.push(protos::ChaincodeCall {
                    name: namespace.clone(),
                    disregard_namespace_policy: written && !unguarded,
                    key_policies,
                    ..Default::default()
                });
            }
            for (name, collection) in collections {
                chaincodes.push(protos::ChaincodeCall {
                    name: namespace.clone(),
                    collection_names: vec![name.clone()],
                    no_private_reads: !collection.plaintext_read,
                    ..Default::default()
                });
            }
        }
        Ok(protos::ChaincodeInterest { chaincodes })
    }
}
