//! A channel's blocks and the configuration that the last of them leaves in force.
//!
//! Every node writes the same header and data; the metadata carries its own signature (spec 05 §3). All writing goes
//! through [`Chain::write`] and [`Chain::append_pulled`], one at a time.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use selvedge_channel::verify::{BlockVerifier, config_envelope, is_config_block, sign_block};
use selvedge_channel::{Bundle, NodeRole};
use selvedge_ledger::BlockStore;
use selvedge_msp::{Certificate, CurrentIdentity, SigningIdentity};
use selvedge_proto::{block_hash, common, etcdraft, new_block};
use tokio::sync::watch;

use crate::raft::{Applied, Batch, NodeId};

/// Why the chain cannot be read or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("block store of channel {channel}: {why}")]
    Store { channel: String, why: String },
    #[error("channel {channel} has no blocks; remove its folder and join it again")]
    Empty { channel: String },
    #[error("block {number} of channel {channel} is not usable: {why}")]
    Block {
        channel: String,
        number: u64,
        why: String,
    },
    #[error("cannot sign block {number} of channel {channel}: {why}")]
    Sign {
        channel: String,
        number: u64,
        why: String,
    },
}

/// A consenter of the channel with its Raft id.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) consenter: etcdraft::Consenter,
    /// DER of the public keys of its client certificate: callers are recognised by it.
    pub(crate) client_key: Option<Vec<u8>>,
}

impl Member {
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.consenter.host, self.consenter.port)
    }
}

/// The configuration after the last block. Immutable; replaced as a whole.
pub(crate) struct Head {
    pub(crate) bundle: Arc<Bundle>,
    /// Number of the last configuration block.
    pub(crate) last_config: u64,
    pub(crate) members: Vec<Member>,
    /// Consenters that the last configuration removed. The Raft group needs a moment more to let them go, and needs
    /// them for it when one of them leads.
    leaving: Vec<Member>,
    next_consenter_id: u64,
}

impl Head {
    /// The consenter with this TLS client certificate (DER), or one with the same public key; also one that is leaving.
    pub(crate) fn member_by_certificate(&self, leaf: &[u8]) -> Option<&Member> {
        let certificate = Certificate::from_der(leaf).ok()?;
        let key = certificate.public_key()?;
        self.members
            .iter()
            .chain(&self.leaving)
            .find(|m| m.client_key.as_deref() == Some(key.spki_der()))
    }

    pub(crate) fn member_by_address(&self, address: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.address() == address)
    }

    /// Whether the configuration lists the consenter; if not, it is on its way out.
    pub(crate) fn lists(&self, id: NodeId) -> bool {
        self.members.iter().any(|m| m.id == id)
    }

    pub(crate) fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().chain(&self.leaving).find(|m| m.id == id)
    }
}

/// The blocks of a channel on this node.
pub(crate) struct Chain {
    channel: String,
    store: BlockStore,
    signer: CurrentIdentity,
    head: RwLock<Arc<Head>>,
    /// Raft index of the last block; held while a block is written.
    raft_index: Mutex<u64>,
    config_changed: watch::Sender<u64>,
}

fn members(consenters: &[etcdraft::Consenter], ids: &[u64]) -> Vec<Member> {
    let key_of = |pem: &[u8]| {
        let certificate = Certificate::from_pem(pem).ok()?;
        Some(certificate.public_key()?.spki_der().to_vec())
    };
    consenters
        .iter()
        .zip(ids)
        .map(|(consenter, id)| Member {
            id: *id,
            consenter: consenter.clone(),
            client_key: key_of(&consenter.client_tls_cert),
        })
        .collect()
}

/// Ids for a new consenter list: who stays (same address or same certificate) keeps its id, who comes gets the next one.
fn assign_ids(old: &[Member], next: u64, consenters: &[etcdraft::Consenter]) -> (Vec<u64>, u64) {
    let mut next = next;
    let mut ids = Vec::with_capacity(consenters.len());
    for consenter in consenters {
        let same_place =
            |m: &&Member| m.consenter.host == consenter.host && m.consenter.port == consenter.port;
        let same_certificate = |m: &&Member| m.consenter.client_tls_cert == consenter.client_tls_cert;
        let known = old
            .iter()
            .find(same_place)
            .or_else(|| old.iter().find(same_certificate))
            .map(|m| m.id)
            .filter(|id| !ids.contains(id));
        ids.push(known.unwrap_or_else(|| {
            next += 1;
            next - 1
        }));
    }
    (ids, next)
}

fn consenters(bundle: &Bundle) -> &[etcdraft::Consenter] {
    bundle.orderer().map_or(&[], |o| &o.consenters)
}

/// What the Raft consenter wrote into a block (spec 02 §8); none in the genesis block.
fn raft_metadata(block: &common::Block) -> Option<etcdraft::BlockMetadata> {
    let slot = block.metadata.as_ref()?.metadata.first()?.clone();
    let signatures = common::Metadata::decode(slot).ok()?;
    let orderer = common::OrdererBlockMetadata::decode(signatures.value).ok()?;
    let inner = common::Metadata::decode(orderer.consenter_metadata).ok()?;
    etcdraft::BlockMetadata::decode(inner.value)
        .ok()
        .filter(|m| !m.consenter_ids.is_empty())
}

impl Chain {
    /// Starts a chain with its genesis block.
    pub(crate) fn create(
        dir: &Path,
        channel: &str,
        genesis: &common::Block,
        signer: CurrentIdentity,
    ) -> Result<Self, ChainError> {
        let store = Self::open_store(dir, channel)?;
        if store.height() == 0 {
            store.append(genesis).map_err(|e| ChainError::Store {
                channel: channel.to_owned(),
                why: e.to_string(),
            })?;
        }
        drop(store);
        Self::open(dir, channel, signer)
    }

    fn open_store(dir: &Path, channel: &str) -> Result<BlockStore, ChainError> {
        BlockStore::open(dir).map_err(|e| ChainError::Store {
            channel: channel.to_owned(),
            why: e.to_string(),
        })
    }

    /// Opens a chain that has at least its genesis block.
    pub(crate) fn open(dir: &Path, channel: &str, signer: CurrentIdentity) -> Result<Self, ChainError> {
        let store = Self::open_store(dir, channel)?;
        let height = store.height();
        if height == 0 {
            return Err(ChainError::Empty {
                channel: channel.to_owned(),
            });
        }
        let read = |number: u64| -> Result<common::Block, ChainError> {
            store
                .block(number)
                .map_err(|e| ChainError::Store {
                    channel: channel.to_owned(),
                    why: e.to_string(),
                })?
                .ok_or_else(|| ChainError::Block {
                    channel: channel.to_owned(),
                    number,
                    why: "it is missing".into(),
                })
        };
        let unusable = |number: u64, why: String| ChainError::Block {
            channel: channel.to_owned(),
            number,
            why,
        };
        let last = read(height - 1)?;
        let last_config = selvedge_proto::block_last_config_index(&last)
            .map_err(|e| unusable(height - 1, e.to_string()))?;
        let bundle = Bundle::from_config_block_as(NodeRole::Orderer, &read(last_config)?)
            .map_err(|e| unusable(last_config, e.to_string()))?;
        let (head, raft_index) = match raft_metadata(&last) {
            Some(raft) => (
                Head {
                    members: members(consenters(&bundle), &raft.consenter_ids),
                    leaving: Vec::new(),
                    next_consenter_id: raft.next_consenter_id,
                    last_config,
                    bundle: Arc::new(bundle),
                },
                raft.raft_index,
            ),
            None => (Self::first_head(bundle), 0),
        };
        let sequence = head.bundle.sequence();
        Ok(Self {
            channel: channel.to_owned(),
            store,
            signer,
            head: RwLock::new(Arc::new(head)),
            raft_index: Mutex::new(raft_index),
            config_changed: watch::Sender::new(sequence),
        })
    }

    fn first_head(bundle: Bundle) -> Head {
        let (ids, next) = assign_ids(&[], 1, consenters(&bundle));
        Head {
            members: members(consenters(&bundle), &ids),
            leaving: Vec::new(),
            next_consenter_id: next,
            last_config: 0,
            bundle: Arc::new(bundle),
        }
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    pub(crate) fn store(&self) -> &BlockStore {
        &self.store
    }

    pub(crate) fn signer(&self) -> SigningIdentity {
        self.signer.get()
    }

    pub(crate) fn height(&self) -> u64 {
        self.store.height()
    }

    /// Hash of the last block's header.
    pub(crate) fn last_hash(&self) -> Bytes {
        self.next_position().1
    }

    /// The configuration after the last block.
    pub(crate) fn head(&self) -> Arc<Head> {
        Arc::clone(&self.head.read())
    }

    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.head.read().bundle)
    }

    /// Sequence of the configuration in force, as it changes.
    pub(crate) fn config_changes(&self) -> watch::Receiver<u64> {
        self.config_changed.subscribe()
    }

    /// Raft index of the last block; 0 when there is only the genesis block.
    pub(crate) fn raft_index(&self) -> u64 {
        *self.raft_index.lock()
    }

    fn block_error(&self, number: u64, why: impl ToString) -> ChainError {
        ChainError::Block {
            channel: self.channel.clone(),
            number,
            why: why.to_string(),
        }
    }

    fn store_error(&self, why: impl ToString) -> ChainError {
        ChainError::Store {
            channel: self.channel.clone(),
            why: why.to_string(),
        }
    }

    /// Number and previous hash of the next block.
    fn next_position(&self) -> (u64, Bytes) {
        let number = self.store.height();
        let previous = self
            .store
            .last_header()
            .map_or_else(Bytes::new, |h| block_hash(&h));
        (number, previous)
    }

    /// Makes the next block of a batch that Raft has committed at `index`, signs it and stores it durably. A batch whose
    /// block is there already (the node crashed before Raft knew) changes nothing.
    pub(crate) fn write(&self, index: u64, batch: Batch) -> Result<Applied, ChainError> {
        let mut raft_index = self.raft_index.lock();
        if index <= *raft_index {
            return Ok(Applied::Nothing);
        }
        let head = self.head();
        if batch.config_sequence != head.bundle.sequence() || batch.envelopes.is_empty() {
            return Ok(Applied::Stale);
        }
        let (number, previous) = self.next_position();
        let mut block = new_block(number, previous, batch.envelopes);
        let new_head = if batch.config {
            // Every node judges the same bytes under the same configuration and so comes to the same answer.
            match self.next_head(&head, &block, number) {
                Ok(next) => Some(next),
                Err(why) => {
                    tracing::warn!(channel = %self.channel, %why, "a configuration transaction was dropped");
                    return Ok(Applied::Stale);
                }
            }
        } else {
            None
        };
        let effective = new_head.as_ref().unwrap_or(&head);
        let consenter_metadata = etcdraft::BlockMetadata {
            consenter_ids: effective.members.iter().map(|m| m.id).collect(),
            next_consenter_id: effective.next_consenter_id,
            raft_index: index,
        };
        sign_block(
            &mut block,
            effective.last_config,
            &consenter_metadata.encode_to_vec(),
            &self.signer.get(),
        )
        .map_err(|e| ChainError::Sign {
            channel: self.channel.clone(),
            number,
            why: e.to_string(),
        })?;
        self.store.append(&block).map_err(|e| self.store_error(e))?;
        *raft_index = index;
        if let Some(next) = new_head {
            self.adopt(next);
        }
        Ok(Applied::Block(number))
    }

    fn next_head(&self, head: &Head, block: &common::Block, number: u64) -> Result<Arc<Head>, String> {
        let config = config_envelope(block).map_err(|e| e.to_string())?;
        let bundle = head
            .bundle
            .validate_config_tx(&config)
            .map_err(|e| e.to_string())?;
        let (ids, next_consenter_id) = assign_ids(&head.members, head.next_consenter_id, consenters(&bundle));
        let left = head.members.iter().filter(|m| !ids.contains(&m.id));
        Ok(Arc::new(Head {
            leaving: left.cloned().collect(),
            members: members(consenters(&bundle), &ids),
            next_consenter_id,
            last_config: number,
            bundle: Arc::new(bundle),
        }))
    }

    fn adopt(&self, head: Arc<Head>) {
        let sequence = head.bundle.sequence();
        tracing::info!(channel = %self.channel, sequence, block = head.last_config, "configuration changed");
        *self.head.write() = head;
        self.config_changed.send_replace(sequence);
    }

    /// Stores a block that another consenter made, after checking that it continues the chain and that the orderers'
    /// signatures satisfy `/Channel/Orderer/BlockValidation`.
    pub(crate) fn append_pulled(&self, block: &common::Block) -> Result<(), ChainError> {
        let mut raft_index = self.raft_index.lock();
        let (expected, previous) = self.next_position();
        let head = self.head();
        BlockVerifier::new(Arc::clone(&head.bundle))
            .verify(block, expected, Some(&previous))
            .map_err(|e| self.block_error(expected, e))?;
        let next = if is_config_block(block) {
            let next = self.next_head(&head, block, expected);
            Some(next.map_err(|why| self.block_error(expected, why))?)
        } else {
            None
        };
        self.store.append(block).map_err(|e| self.store_error(e))?;
        if let Some(raft) = raft_metadata(block) {
            *raft_index = raft.raft_index;
        }
        if let Some(next) = next {
            self.adopt(next);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consenter(host: &str, certificate: &'static str) -> etcdraft::Consenter {
        etcdraft::Consenter {
            host: host.into(),
            port: 7050,
            client_tls_cert: Bytes::from_static(certificate.as_bytes()),
            server_tls_cert: Bytes::from_static(certificate.as_bytes()),
        }
    }

    #[test]
    fn consenters_keep_their_ids() {
        let genesis = [consenter("a", "A"), consenter("b", "B"), consenter("c", "C")];
        let (ids, next) = assign_ids(&[], 1, &genesis);
        assert_eq!((ids.as_slice(), next), ([1, 2, 3].as_slice(), 4));
        let old = members(&genesis, &ids);
        // b leaves, d comes, c has a new certificate, a has a new host.
        let changed = [consenter("d", "D"), consenter("c", "C2"), consenter("a2", "A")];
        let (ids, next) = assign_ids(&old, next, &changed);
        assert_eq!((ids.as_slice(), next), ([4, 3, 1].as_slice(), 5));
    }

    #[test]
    fn a_certificate_that_moved_to_a_new_place_is_not_counted_twice() {
        let old = members(&[consenter("a", "A"), consenter("b", "B")], &[1, 2]);
        let (ids, next) = assign_ids(&old, 3, &[consenter("a", "A"), consenter("x", "A")]);
        assert_eq!((ids.as_slice(), next), ([1, 3].as_slice(), 4));
    }
}
