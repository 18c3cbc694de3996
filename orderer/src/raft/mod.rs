//! Agreement on the order of batches: one `openraft` group a channel.

pub(crate) mod codec;
#[cfg(test)]
mod conformance;
pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod record;
pub(crate) mod segments;
pub(crate) mod state_machine;

use std::io::Cursor;

use bytes::Bytes;

/// Raft id of a consenter: its entry in `consenter_ids` of the block metadata (spec 05 §5.1).
pub(crate) type NodeId = u64;

/// What the leader proposes: the envelopes of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Sequence of the configuration that the envelopes were checked under. A batch that reaches the state machine
    /// under another one is not written.
    pub(crate) config_sequence: u64,
    /// The one envelope is a CONFIG transaction.
    pub(crate) config: bool,
    /// The envelopes in canonical encoding (spec 02 §6).
    pub(crate) envelopes: Vec<Bytes>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is in this block.
    Block(u64),
    /// The configuration had moved on: the batch was dropped, on every node alike.
    Stale,
    /// The entry held no batch, or its block was there already.
    Nothing,
}

openraft::declare_raft_types!(
    /// The types of a channel's Raft group.
    pub(crate) TypeConfig:
        D = Batch,
        R = Applied,
        NodeId = NodeId,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type Membership = openraft::Membership<NodeId, openraft::BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, openraft::BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, openraft::BasicNode>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIOError = openraft::StorageIOError<NodeId>;
