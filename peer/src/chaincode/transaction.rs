//! What a chaincode may know about the transaction that it runs in.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_msp::Identity;

/// The transaction of a proposal.
#[derive(Debug, Clone)]
pub struct TxContext {
    /// Channel that the proposal names; empty when none.
    pub channel_id: String,
    /// Transaction id.
    pub tx_id: String,
    /// Seconds and nanoseconds of the proposal's timestamp: what the client says.
    pub timestamp: (i64, i32),
    /// The creator, as serialised in the proposal.
    pub creator: Bytes,
    /// The creator.
    pub identity: Arc<Identity>,
    /// The transient map: never recorded.
    pub transient: BTreeMap<String, Bytes>,
    /// The bytes of the proposal.
    pub proposal_bytes: Bytes,
    /// The creator's signature over them.
    pub signature: Bytes,
}
