//! How long private data lives: `block_to_live` of each collection, from the committed chaincode definitions.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use prost::Message;
use selvedge_proto::lifecycle::{StateData, state_data};
use selvedge_proto::protos::{CollectionConfigPackage, collection_config};

use crate::error::LedgerError;
use crate::state::StateReader;
use crate::updates::UpdateBatch;

const LIFECYCLE: &str = "_lifecycle";

/// By collection, in blocks; collections that live for ever are left out.
type Lives = BTreeMap<String, u64>;

/// Remembers what the definitions say until one of them changes.
#[derive(Debug, Default)]
pub(super) struct BlockToLive {
    known: Mutex<BTreeMap<String, Lives>>,
}

impl BlockToLive {
    /// The block at which what `block` writes to a collection goes (spec 03 §8); `None`: never. `state` is the state
    /// before `block`.
    pub(super) fn expiry(
        &self,
        state: &dyn StateReader,
        block: u64,
        ns: &str,
        collection: &str,
    ) -> Result<Option<u64>, LedgerError> {
        // Its collections are the organisations' implicit ones, which live for ever.
        if ns == LIFECYCLE {
            return Ok(None);
        }
        let mut known = self.known.lock();
        if !known.contains_key(ns) {
            known.insert(ns.to_owned(), read(state, ns)?);
        }
        let life = known.get(ns).and_then(|lives| lives.get(collection));
        Ok(life.and_then(|life| block.checked_add(*life)?.checked_add(1)))
    }

    /// To be called after each block.
    pub(super) fn forget_if_changed(&self, updates: &UpdateBatch) {
        if updates.namespaces().contains_key(LIFECYCLE) {
            self.known.lock().clear();
        }
    }
}

/// Reads `namespaces/fields/<cc>/Collections` (spec 03 §11.1).
fn read(state: &dyn StateReader, ns: &str) -> Result<Lives, LedgerError> {
    let key = format!("namespaces/fields/{ns}/Collections");
    let Some(entry) = state.get(LIFECYCLE, &key)? else {
        return Ok(Lives::new());
    };
    let package = match StateData::decode(entry.value).map(|d| d.r#type) {
        Ok(Some(state_data::Type::Bytes(bytes))) => {
            CollectionConfigPackage::decode(bytes).unwrap_or_default()
        }
        _ => CollectionConfigPackage::default(),
    };
    let lives = package
        .config
        .into_iter()
        .filter_map(|config| match config.payload {
            Some(collection_config::Payload::StaticCollectionConfig(c)) if c.block_to_live > 0 => {
                Some((c.name, c.block_to_live))
            }
            _ => None,
        });
    Ok(lives.collect())
}
