//! Writing an ordering node's metadata and signature on a block (spec 02 §8).

use selvedge_msp::{KeyError, SigningIdentity};
use selvedge_proto::{Bytes, Message, block_header_bytes, common, put_metadata};

use crate::update::signature_header;

/// Fills the metadata slots of a new block and signs it: SIGNATURES and LAST_CONFIG are written, the others left empty.
///
/// `last_config_index` is the number of the config block in force, for a config block its own. `consenter_metadata` are
/// the consensus protocol's own bytes (for Raft an encoded `etcdraft.BlockMetadata`); they are wrapped here, empty ones
/// are left out.
///
/// # Errors
/// The key could not sign.
pub fn sign_block(
    block: &mut common::Block,
    last_config_index: u64,
    consenter_metadata: &[u8],
    signer: &SigningIdentity,
) -> Result<(), KeyError> {
    let last_config = common::LastConfig {
        index: last_config_index,
    };
    let value: Bytes = common::OrdererBlockMetadata {
        last_config: Some(last_config),
        consenter_metadata: wrapped(Bytes::copy_from_slice(consenter_metadata)),
    }
    .encode_to_vec()
    .into();
    let signature_header = signature_header(signer);
    let header = block_header_bytes(block.header.get_or_insert_with(Default::default));
    let signed = [value.as_ref(), signature_header.as_ref(), header.as_ref()].concat();
    let signature = common::MetadataSignature {
        signature: signer.sign(&signed)?,
        signature_header,
        identifier_header: Bytes::new(),
    };
    let signatures = common::Metadata {
        value,
        signatures: vec![signature],
    };
    put_metadata(
        block,
        common::BlockMetadataIndex::Signatures,
        signatures.encode_to_vec().into(),
    );
    put_metadata(
        block,
        common::BlockMetadataIndex::LastConfig,
        wrapped(last_config.encode_to_vec().into()),
    );
    Ok(())
}

/// `Metadata` around bytes; nothing around nothing.
fn wrapped(value: Bytes) -> Bytes {
    common::Metadata {
        value,
        signatures: Vec::new(),
    }
    .encode_to_vec()
    .into()
}
