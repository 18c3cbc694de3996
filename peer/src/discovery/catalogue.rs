//! Which organisations' peers have which chaincodes.
//!
//! Of this peer it is known. Of another organisation the ledger tells whether it approved the committed definition with a
//! package: what a peer of it can be expected to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_channel::Bundle;
use selvedge_ledger::StateReader;
use selvedge_proto::gossip::Chaincode;
use selvedge_proto::protos;
use sha2::{Digest, Sha256};

use super::members::Member;
use crate::chaincode::{ChaincodeRuntime, approval_hash};
use crate::channel::PeerChannel;
use crate::definition::{ChaincodeDefinition, LIFECYCLE, field_key, metadata_key, read_definition};
use crate::gateway::interest::{self, Needs};
use crate::scc;
use crate::scc::lifecycle::parameters::Parameters;

/// Definitions of a channel, and who can run them.
pub(super) struct Catalogue {
    definitions: BTreeMap<String, Arc<ChaincodeDefinition>>,
    /// Names of chaincodes by MSP id of the organisations whose peers have them.
    approved: BTreeMap<String, Vec<String>>,
    /// Names of those that this peer can run.
    own: Vec<String>,
}

impl Catalogue {
    /// Reads the channel's state. Blocks.
    ///
    /// # Errors
    /// The state cannot be read; the text is for the client.
    pub(super) fn read(
        channel: &PeerChannel,
        runtime: &ChaincodeRuntime,
        own_msp: &str,
    ) -> Result<Self, String> {
        let state = channel.ledger().snapshot().map_err(|e| e.to_string())?;
        let definitions = definitions(&*state)?;
        let bundle = channel.bundle();
        let mut approved: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for msp_id in bundle.application().map(|a| a.msp_ids()).unwrap_or_default() {
            let names = approved.entry(msp_id.to_owned()).or_default();
            for definition in definitions.values() {
                if approves(&*state, definition, msp_id)? {
                    names.push(definition.name.clone());
                }
            }
        }
        let own = definitions
            .keys()
            .filter(|name| runtime.find_on(&state, channel.id(), name, own_msp).is_ok())
            .cloned()
            .collect();
        Ok(Self {
            definitions,
            approved,
            own,
        })
    }

    fn names(&self, member: &Member) -> &[String] {
        if member.is_local {
            return &self.own;
        }
        self.approved.get(&member.msp_id).map_or(&[], Vec::as_slice)
    }

    /// The chaincodes of a peer as its StateInfo lists them. Every peer has `_lifecycle`.
    pub(super) fn of(&self, member: &Member) -> Vec<Chaincode> {
        let entry = |name: &str, version: &str| Chaincode {
            name: name.to_owned(),
            version: version.to_owned(),
            ..Default::default()
        };
        let defined = self.names(member).iter().filter_map(|name| {
            let definition = self.definitions.get(name)?;
            Some(entry(name, &definition.version))
        });
        std::iter::once(entry(LIFECYCLE, scc::VERSION))
            .chain(defined)
            .collect()
    }

    /// Whether a peer has all chaincodes of an interest.
    pub(super) fn has_all(&self, member: &Member, interest: &protos::ChaincodeInterest) -> bool {
        let has = |name: &str| scc::is_system(name) || self.names(member).iter().any(|n| n == name);
        interest.chaincodes.iter().all(|call| has(&call.name))
    }

    /// The policies that a transaction of this interest must meet, as the gateway works them out.
    ///
    /// # Errors
    /// Why there can be no plan.
    pub(super) fn needs(
        &self,
        bundle: &Bundle,
        interest: &protos::ChaincodeInterest,
    ) -> Result<Needs, String> {
        interest::needs(bundle, interest, &|name| Ok(self.definitions.get(name).cloned()))
    }
}

fn definitions(state: &dyn StateReader) -> Result<BTreeMap<String, Arc<ChaincodeDefinition>>, String> {
    let prefix = metadata_key("");
    // The character after the slash at the end of the prefix.
    let end = format!("{}0", prefix.trim_end_matches('/'));
    let mut found = BTreeMap::new();
    for entry in state.range(LIFECYCLE, &prefix, &end) {
        let (key, _) = entry.map_err(|e| e.to_string())?;
        let Some(name) = key.strip_prefix(&prefix) else {
            continue;
        };
        if let Some(definition) = read_definition(state, name).map_err(|e| e.to_string())? {
            found.insert(name.to_owned(), Arc::new(definition));
        }
    }
    Ok(found)
}

/// Whether an organisation approved exactly the committed definition, with a package: by the hashes in its implicit
/// collection, which all peers have (spec 03 §11).
fn approves(state: &dyn StateReader, definition: &ChaincodeDefinition, msp_id: &str) -> Result<bool, String> {
    let collection = format!("_implicit_org_{msp_id}");
    let hashed = |key: String| {
        let found = state.get_hashed(LIFECYCLE, &collection, &Sha256::digest(key.as_bytes()));
        found.map(|f| f.map(|f| f.value)).map_err(|e| e.to_string())
    };
    let private_name = format!("{}#{}", definition.name, definition.sequence);
    for (field, value) in Parameters::of(definition).fields() {
        if hashed(field_key(&private_name, field))?.as_deref() != Some(Sha256::digest(&value).as_slice()) {
            return Ok(false);
        }
    }
    let source = hashed(format!("chaincode-sources/fields/{private_name}/PackageID"))?;
    Ok(source.is_some_and(|source| source != approval_hash("")[..]))
}
