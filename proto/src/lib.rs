//! Fabric's messages, and how they nest and hash.
//!
//! The modules below [`common`], [`protos`] and so on carry the names of the proto packages (spec 01 A.1). Fields of
//! type `bytes` are [`bytes::Bytes`]: decoding from a `Bytes` borrows slices of it and copies nothing, so a block is
//! decoded once and everything in it points into it.
//!
//! ```text
//! Block ── data[i] ─► Envelope ── payload ─► Payload ── header ─► ChannelHeader, SignatureHeader
//!                                               └────── data ───► Transaction | ConfigEnvelope | SeekInfo
//! ```

mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        rust_2018_idioms,
        clippy::all,
        clippy::unwrap_used,
        reason = "made by tonic-prost-build from fabric/*.proto; the meaning of each field is in the spec"
    )]
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use generated::{
    common, discovery, etcdraft, gateway, google, gossip, kvrwset, lifecycle, msp, orderer, protos,
    queryresult, rwset, selvedge, transientstore, txmgr,
};

pub use bytes::Bytes;
pub use prost;
pub use prost::Message;

mod block;
mod difference;
mod envelope;
pub mod go_compat;
mod transaction;
mod tx_id;

pub use block::{
    BlockError, METADATA_SLOTS, block_data_hash, block_hash, block_header_bytes, block_last_config_index,
    new_block, put_metadata,
};
pub use difference::{Difference, MAX_DIFFERENCES, payload_differences};
pub use envelope::{
    EnvelopeError, OpenEnvelope, channel_header, open_envelope, open_payload, proposal_hash,
    stripped_proposal_payload,
};
pub use transaction::{chaincode_action, transaction_action, transaction_payload};
pub use tx_id::{NONCE_LEN, compute_tx_id};
