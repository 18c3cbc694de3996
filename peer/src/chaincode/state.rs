//! The state of a channel as simulations read it: a snapshot, and the history behind it.

use std::sync::Arc;

use selvedge_ledger::{
    HistoryEntry, KeyRef, LedgerError, RangeIter, StateReader, StateSnapshot, Version, VersionedValue,
};

use super::simulator::SimulationState;
use crate::channel::PeerChannel;

/// One height of a channel.
pub(crate) struct ChannelState {
    channel: Arc<PeerChannel>,
    snapshot: Arc<StateSnapshot>,
}

impl ChannelState {
    /// The state after the last committed block.
    pub(crate) fn latest(channel: &Arc<PeerChannel>) -> Result<Self, LedgerError> {
        Ok(Self {
            channel: channel.clone(),
            snapshot: channel.ledger().snapshot()?,
        })
    }
}

impl StateReader for ChannelState {
    fn get_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<VersionedValue>>, LedgerError> {
        self.snapshot.get_many(keys)
    }

    fn range(&self, ns: &str, start: &str, end: &str) -> RangeIter<'_> {
        self.snapshot.range(ns, start, end)
    }

    fn get_one(&self, key: KeyRef<'_>) -> Result<Option<VersionedValue>, LedgerError> {
        self.snapshot.get_one(key)
    }
}

impl SimulationState for ChannelState {
    fn height(&self) -> u64 {
        self.snapshot.height()
    }

    fn history(
        &self,
        namespace: &str,
        key: &str,
        before: Option<Version>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, LedgerError> {
        // The index may have run ahead of the snapshot.
        let height = self.snapshot.height();
        let snapshot_end = Version { block: height, tx: 0 };
        let before = Some(before.map_or(snapshot_end, |b| b.min(snapshot_end)));
        self.channel
            .ledger()
            .history_before(namespace, key, before, limit)
    }
}
