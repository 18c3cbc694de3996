//! Transaction ids (spec 02 §1).

use sha2::{Digest, Sha256};

/// Length in bytes of the nonces that Fabric's clients draw; servers ask only that it is not empty.
pub const NONCE_LEN: usize = 24;

/// The id of a transaction: lowercase hex of SHA-256(nonce, creator), where `creator` is the serialised identity
/// exactly as it stands in the signature header.
pub fn compute_tx_id(nonce: &[u8], creator: &[u8]) -> String {
    hex::encode(Sha256::new().chain_update(nonce).chain_update(creator).finalize())
}
