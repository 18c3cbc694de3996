//! Verifying and signing blocks (spec 02 §2, §6, §8; 03 §2).

mod canonical;
mod join;
mod sign;

use std::sync::Arc;

use selvedge_msp::policy::SignedData;
use selvedge_proto::{
    Bytes, METADATA_SLOTS, Message, block_data_hash, block_header_bytes, common, go_compat, msp,
};

use crate::bundle::{Bundle, NodeRole};
use crate::error::ConfigError;
use crate::policy::PolicyRefusal;
use crate::wire;

pub use canonical::{CanonicalFault, check_envelope};
pub use join::{JoinRefusal, check_join_block};
pub use sign::sign_block;

/// The policy that the signatures on a block must satisfy.
pub const BLOCK_VALIDATION: &str = "/Channel/Orderer/BlockValidation";

/// Why a block from an ordering node is refused. The node that sent it is faulty, or was tampered with on the way.
#[derive(Debug, thiserror::Error)]
pub enum BlockRefusal {
    /// The bytes are no block.
    #[error("the block does not decode: {0}")]
    Undecodable(String),
    /// The block has no header.
    #[error("the block has no header")]
    NoHeader,
    /// Another block was asked for.
    #[error("expected block {expected}, got block {found}")]
    Number {
        /// The number that comes next.
        expected: u64,
        /// The number in the header.
        found: u64,
    },
    /// The block does not follow the one before.
    #[error(
        "block {number} does not follow the block before it: its previous_hash is {found}, the hash of block {} is \
         {expected}",
        number.saturating_sub(1)
    )]
    PreviousHash {
        /// Number of the block.
        number: u64,
        /// Hash of the block before, in hex.
        expected: String,
        /// What the header says, in hex.
        found: String,
    },
    /// The block has too few metadata entries.
    #[error(
        "block {number} does not have metadata or contains too few entries ({found} of {METADATA_SLOTS})"
    )]
    Metadata {
        /// Number of the block.
        number: u64,
        /// How many there are.
        found: usize,
    },
    /// The block holds no transaction.
    #[error("block {0} is empty")]
    Empty(u64),
    /// A transaction is not in canonical form.
    #[error("transaction {index} of block {number} is not in canonical form: {fault}")]
    Transaction {
        /// Number of the block.
        number: u64,
        /// Index of the transaction.
        index: usize,
        /// What is wrong with it.
        fault: CanonicalFault,
    },
    /// The transactions are not those the header was made for.
    #[error("data of block {number} hashes to {found}, its header says {expected}")]
    DataHash {
        /// Number of the block.
        number: u64,
        /// What the header says, in hex.
        expected: String,
        /// Hash of the data, in hex.
        found: String,
    },
    /// The signatures slot does not decode.
    #[error("the signatures of block {number} do not decode: {why}")]
    Signatures {
        /// Number of the block.
        number: u64,
        /// What the decoder said.
        why: String,
    },
    /// The signatures are not enough.
    #[error("block {number} is not signed as the channel demands: {refusal}")]
    Policy {
        /// Number of the block.
        number: u64,
        /// What the policy missed.
        refusal: PolicyRefusal,
    },
}

/// Verifies blocks as they come from the ordering service, under one configuration. After a config block, go on with a
/// verifier of the new one.
#[derive(Debug, Clone)]
pub struct BlockVerifier {
    bundle: Arc<Bundle>,
}

impl BlockVerifier {
    /// A verifier of blocks made under `bundle`.
    pub fn new(bundle: Arc<Bundle>) -> Self {
        Self { bundle }
    }

    /// The configuration in use.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// Decodes a block and verifies it.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify_bytes(
        &self,
        bytes: Bytes,
        expected_number: u64,
        previous_hash: Option<&[u8]>,
    ) -> Result<common::Block, BlockRefusal> {
        let block: common::Block =
            go_compat::decode(bytes).map_err(|e| BlockRefusal::Undecodable(e.to_string()))?;
        self.verify(&block, expected_number, previous_hash)?;
        Ok(block)
    }

    /// Verifies a block: number, previous hash (when known), metadata, form of its transactions, data hash, signatures, in
    /// this order (spec 03 §2).
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        &self,
        block: &common::Block,
        expected_number: u64,
        previous_hash: Option<&[u8]>,
    ) -> Result<(), BlockRefusal> {
        let header = block.header.as_ref().ok_or(BlockRefusal::NoHeader)?;
        let number = header.number;
        if number != expected_number {
            return Err(BlockRefusal::Number {
                expected: expected_number,
                found: number,
            });
        }
        if let Some(previous) = previous_hash.filter(|previous| *previous != header.previous_hash) {
            return Err(BlockRefusal::PreviousHash {
                number,
                expected: hex::encode(previous),
                found: hex::encode(&header.previous_hash),
            });
        }
        check_content(block, header)?;
        self.check_signatures(block, header)
    }

    fn check_signatures(
        &self,
        block: &common::Block,
        header: &common::BlockHeader,
    ) -> Result<(), BlockRefusal> {
        let number = header.number;
        let unreadable = |why: String| BlockRefusal::Signatures { number, why };
        let slot = block
            .metadata
            .as_ref()
            .and_then(|m| m.metadata.first())
            .cloned()
            .unwrap_or_default();
        let metadata: common::Metadata = go_compat::decode(slot).map_err(|e| unreadable(e.to_string()))?;
        let header_bytes = block_header_bytes(header);
        let mut signed = Vec::with_capacity(metadata.signatures.len());
        for signature in metadata.signatures {
            let (signer_header, identity) = self.block_signer(&signature).map_err(unreadable)?;
            signed.push(SignedData {
                data: vec![metadata.value.clone(), signer_header, header_bytes.clone()],
                identity,
                signature: signature.signature,
            });
        }
        self.bundle
            .evaluate_signed(BLOCK_VALIDATION, &signed)
            .map_err(|refusal| BlockRefusal::Policy { number, refusal })
    }

    /// The header that a signature covers, and the identity of its signer: out of the signature header, or, in a BFT
    /// channel, the consenter that the identifier header names (spec 02 §2). An unknown consenter has no identity.
    fn block_signer(&self, signature: &common::MetadataSignature) -> Result<(Bytes, Bytes), String> {
        if !signature.signature_header.is_empty() || signature.identifier_header.is_empty() {
            let header: common::SignatureHeader =
                go_compat::decode(signature.signature_header.clone()).map_err(|e| e.to_string())?;
            return Ok((signature.signature_header.clone(), header.creator));
        }
        let header: common::IdentifierHeader =
            go_compat::decode(signature.identifier_header.clone()).map_err(|e| e.to_string())?;
        let consenter = self
            .bundle
            .orderer()
            .and_then(|orderer| orderer.bft_consenters.iter().find(|c| c.id == header.identifier));
        let identity = consenter.map_or_else(Bytes::new, |c| {
            let identity = msp::SerializedIdentity {
                mspid: c.msp_id.clone(),
                id_bytes: c.identity.clone(),
            };
            identity.encode_to_vec().into()
        });
        Ok((signature.identifier_header.clone(), identity))
    }
}

/// Checks of a block that need no configuration: metadata slots, form of the transactions, data hash.
///
/// # Errors
/// The first check that fails.
pub fn check_block_content(block: &common::Block) -> Result<(), BlockRefusal> {
    check_content(block, block.header.as_ref().ok_or(BlockRefusal::NoHeader)?)
}

fn check_content(block: &common::Block, header: &common::BlockHeader) -> Result<(), BlockRefusal> {
    let number = header.number;
    let slots = block.metadata.as_ref().map_or(0, |m| m.metadata.len());
    if slots < METADATA_SLOTS {
        return Err(BlockRefusal::Metadata { number, found: slots });
    }
    let data = block.data.as_ref().map_or(&[][..], |d| d.data.as_slice());
    if data.is_empty() {
        return Err(BlockRefusal::Empty(number));
    }
    if !is_config_block(block) {
        for (index, entry) in data.iter().enumerate() {
            check_envelope(entry).map_err(|fault| BlockRefusal::Transaction { number, index, fault })?;
        }
    }
    let found = block_data_hash(data);
    if found != header.data_hash {
        return Err(BlockRefusal::DataHash {
            number,
            expected: hex::encode(&header.data_hash),
            found: hex::encode(&found),
        });
    }
    Ok(())
}

/// Whether a block holds exactly one transaction, of type CONFIG. Its content may still be unusable.
pub fn is_config_block(block: &common::Block) -> bool {
    single_config(block).is_some()
}

fn single_config(block: &common::Block) -> Option<(common::ChannelHeader, Bytes)> {
    let [entry] = block.data.as_ref()?.data.as_slice() else {
        return None;
    };
    let envelope: common::Envelope = go_compat::decode(entry.clone()).ok()?;
    let (header, data) = wire::open(&envelope).ok()?;
    (header.r#type == common::HeaderType::Config as i32).then_some((header, data))
}

/// Channel id and content of a config block.
pub(crate) fn config_envelope_of(
    block: &common::Block,
) -> Result<(String, common::ConfigEnvelope), ConfigError> {
    let number = block.header.as_ref().map_or(0, |h| h.number);
    let not = |why: String| ConfigError::NotAConfigBlock { number, why };
    let (header, data) = single_config(block)
        .ok_or_else(|| not("it does not hold exactly one transaction of type CONFIG".to_owned()))?;
    let envelope =
        go_compat::decode(data).map_err(|e| not(format!("its ConfigEnvelope does not decode: {e}")))?;
    Ok((header.channel_id, envelope))
}

/// The configuration that a block brings, under which the blocks after it are verified; `None` where it brings none. A
/// config transaction without content is refused by itself (INVALID_CONFIG_TRANSACTION) and changes nothing.
///
/// # Errors
/// The block brings a configuration that cannot be used.
pub fn brought_config(role: NodeRole, block: &common::Block) -> Result<Option<Bundle>, ConfigError> {
    match single_config(block) {
        Some((_, data)) if !data.is_empty() => Bundle::from_config_block_as(role, block).map(Some),
        _ => Ok(None),
    }
}

/// Content of a config block.
///
/// # Errors
/// The block is no config block.
pub fn config_envelope(block: &common::Block) -> Result<common::ConfigEnvelope, ConfigError> {
    config_envelope_of(block).map(|(_, envelope)| envelope)
}
