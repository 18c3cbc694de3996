//! The state machine is the chain: applying a batch writes a block.
//!
//! Beside the blocks it keeps one small file, `applied`: the last applied position and the membership. It is written when
//! the membership changes and when a snapshot is taken; after a crash the position may be behind the blocks, and entries
//! that already have a block are skipped (the last block carries its Raft index).
//!
//! A snapshot is the height and last hash of the chain; who installs one pulls the blocks from the other consenters.

#![expect(
    clippy::result_large_err,
    reason = "the error type is the one that openraft's traits ask for"
)]

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use parking_lot::Mutex;
use prost::Message;
use selvedge_proto::selvedge::cluster as pb;

use super::codec::{
    log_id_in, log_id_out, snapshot_meta_in, snapshot_meta_out, stored_membership_in, stored_membership_out,
};
use super::log_store::LogStore;
use super::record::{read_record, write_record};
use super::segments::LogError;
use super::{
    Applied, Entry, LogId, SnapshotMeta, StorageError, StorageIOError, StoredMembership, TypeConfig,
};
use crate::chain::Chain;
use crate::puller::Puller;

#[derive(Debug, Clone, Default)]
struct Progress {
    last: Option<LogId>,
    membership: StoredMembership,
}

struct Shared {
    dir: PathBuf,
    chain: Arc<Chain>,
    /// Held while entries are applied, so that a snapshot sees position and height of the same moment.
    progress: Mutex<Progress>,
}

/// The replicated state of one channel. Clones share it.
#[derive(Clone)]
pub(crate) struct StateMachine {
    shared: Arc<Shared>,
    puller: Arc<Puller>,
}

impl Shared {
    fn save(&self, progress: &Progress) -> Result<(), LogError> {
        write_record(
            &self.dir.join("applied"),
            &pb::AppliedState {
                last: progress.last.as_ref().map(log_id_out),
                membership: Some(stored_membership_out(&progress.membership)),
            },
        )
    }

    fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Applied>, StorageError> {
        let mut progress = self.progress.lock();
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = entry.log_id;
            let failed = |e: AnyError| StorageError::from(StorageIOError::apply(id, e));
            let applied = match entry.payload {
                EntryPayload::Blank => Applied::Nothing,
                EntryPayload::Normal(batch) => self
                    .chain
                    .write(id.index, batch)
                    .map_err(|e| failed(AnyError::new(&e)))?,
                EntryPayload::Membership(membership) => {
                    progress.membership = StoredMembership::new(Some(id), membership);
                    progress.last = Some(id);
                    self.save(&progress).map_err(|e| failed(AnyError::new(&e)))?;
                    Applied::Nothing
                }
            };
            progress.last = Some(id);
            results.push(applied);
        }
        Ok(results)
    }

    fn snapshot(&self) -> Result<Snapshot<TypeConfig>, LogError> {
        let progress = self.progress.lock();
        self.save(&progress)?;
        let tip = pb::ChainTip {
            height: self.chain.height(),
            last_hash: self.chain.last_hash(),
        };
        let meta = SnapshotMeta {
            last_log_id: progress.last,
            last_membership: progress.membership.clone(),
            snapshot_id: format!(
                "{}-{}",
                tip.height,
                progress.last.map_or_else(String::new, |l| l.to_string())
            ),
        };
        let data = tip.encode_to_vec();
        self.remember(&meta, &data)?;
        Ok(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data)),
        })
    }

    fn remember(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), LogError> {
        write_record(
            &self.dir.join("snapshot"),
            &pb::SnapshotRequest {
                meta: Some(snapshot_meta_out(meta)),
                data: data.to_vec().into(),
                ..Default::default()
            },
        )
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| StorageIOError::write_state_machine(AnyError::new(&e)))?
}

impl StateMachine {
    /// Opens the state beside the log in `dir`.
    pub(crate) fn open(
        dir: PathBuf,
        chain: Arc<Chain>,
        log: &LogStore,
        puller: Arc<Puller>,
    ) -> Result<Self, LogError> {
        let stored: Option<pb::AppliedState> = read_record(&dir.join("applied"))?;
        let stored = stored.unwrap_or_default();
        let mut progress = Progress {
            last: stored.last.as_ref().map(log_id_in),
            membership: stored_membership_in(stored.membership),
        };
        // Memberships are stored when applied, so all that lies between the file and the last block is in the blocks.
        let of_block = log.log_id(chain.raft_index());
        if chain.raft_index() > 0 && of_block > progress.last {
            progress.last = of_block;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                dir,
                chain,
                progress: Mutex::new(progress),
            }),
            puller,
        })
    }

    /// Stores the position, which saves the next start from reading the log again.
    pub(crate) fn save(&self) -> Result<(), LogError> {
        let progress = self.shared.progress.lock();
        self.shared.save(&progress)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared
                .snapshot()
                .map_err(|e| StorageIOError::write_snapshot(None, AnyError::new(&e)).into())
        })
        .await
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let progress = self.shared.progress.lock();
        Ok((progress.last, progress.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.apply(entries)).await
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let data = snapshot.into_inner();
        let failed =
            |e: AnyError| StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), e));
        let tip = pb::ChainTip::decode(data.as_slice()).map_err(|e| failed(AnyError::new(&e)))?;
        self.puller
            .catch_up(&self.shared.chain, &tip)
            .await
            .map_err(|e| failed(AnyError::new(&e)))?;
        let shared = Arc::clone(&self.shared);
        let meta = meta.clone();
        blocking(move || {
            let mut progress = shared.progress.lock();
            progress.last = meta.last_log_id;
            progress.membership = meta.last_membership.clone();
            shared
                .save(&progress)
                .and_then(|()| shared.remember(&meta, &data))
                .map_err(|e| StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&e)).into())
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let path = self.shared.dir.join("snapshot");
        let failed = |e: AnyError| StorageError::from(StorageIOError::read_snapshot(None, e));
        let stored: Option<pb::SnapshotRequest> =
            read_record(&path).map_err(|e| failed(AnyError::new(&e)))?;
        stored
            .map(|stored| {
                Ok(Snapshot {
                    meta: snapshot_meta_in(stored.meta).map_err(|e| failed(AnyError::new(&e)))?,
                    snapshot: Box::new(Cursor::new(stored.data.to_vec())),
                })
            })
            .transpose()
    }
}
