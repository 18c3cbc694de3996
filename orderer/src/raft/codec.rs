//! Raft's types as protobuf messages (`proto/selvedge/cluster.proto`), for the wire and for the disk.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, EntryPayload, LeaderId};
use selvedge_proto::selvedge::cluster as pb;

use super::{Batch, Entry, LogId, Membership, SnapshotMeta, StoredMembership, Vote};

/// Bytes that are no message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Raft message lacks its {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn log_id_out(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id_in(id: &pb::LogId) -> LogId {
    LogId::new(LeaderId::new(id.term, id.node), id.index)
}

pub(crate) fn vote_out(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: Option<&pb::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("vote"))?;
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.node)
    } else {
        Vote::new(vote.term, vote.node)
    })
}

pub(crate) fn membership_out(membership: &Membership) -> pb::Membership {
    pb::Membership {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|set| pb::VoterSet {
                nodes: set.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, node)| pb::Member {
                node: *id,
                address: node.addr.clone(),
            })
            .collect(),
    }
}

pub(crate) fn membership_in(membership: pb::Membership) -> Membership {
    let voters: Vec<BTreeSet<u64>> = membership
        .voters
        .into_iter()
        .map(|set| set.nodes.into_iter().collect())
        .collect();
    let nodes: BTreeMap<u64, BasicNode> = membership
        .members
        .into_iter()
        .map(|m| (m.node, BasicNode { addr: m.address }))
        .collect();
    Membership::new(voters, nodes)
}

pub(crate) fn stored_membership_out(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        id: stored.log_id().as_ref().map(log_id_out),
        membership: Some(membership_out(stored.membership())),
    }
}

pub(crate) fn stored_membership_in(stored: Option<pb::StoredMembership>) -> StoredMembership {
    let stored = stored.unwrap_or_default();
    StoredMembership::new(
        stored.id.as_ref().map(log_id_in),
        membership_in(stored.membership.unwrap_or_default()),
    )
}

pub(crate) fn snapshot_meta_out(meta: &SnapshotMeta) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(log_id_out),
        membership: Some(stored_membership_out(&meta.last_membership)),
        id: meta.snapshot_id.clone(),
    }
}

pub(crate) fn snapshot_meta_in(meta: Option<pb::SnapshotMeta>) -> Result<SnapshotMeta, Malformed> {
    let meta = meta.ok_or(Malformed("snapshot description"))?;
    Ok(SnapshotMeta {
        last_log_id: meta.last.as_ref().map(log_id_in),
        last_membership: stored_membership_in(meta.membership),
        snapshot_id: meta.id,
    })
}

pub(crate) fn entry_out(entry: &Entry) -> pb::Entry {
    pb::Entry {
        id: Some(log_id_out(&entry.log_id)),
        payload: match &entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(batch) => Some(pb::entry::Payload::Batch(pb::Batch {
                config_sequence: batch.config_sequence,
                config: batch.config,
                envelopes: batch.envelopes.clone(),
            })),
            EntryPayload::Membership(m) => Some(pb::entry::Payload::Membership(membership_out(m))),
        },
    }
}

pub(crate) fn entry_in(entry: pb::Entry) -> Result<Entry, Malformed> {
    let id = entry.id.ok_or(Malformed("log position"))?;
    Ok(Entry {
        log_id: log_id_in(&id),
        payload: match entry.payload {
            None => EntryPayload::Blank,
            Some(pb::entry::Payload::Batch(batch)) => EntryPayload::Normal(Batch {
                config_sequence: batch.config_sequence,
                config: batch.config,
                envelopes: batch.envelopes,
            }),
            Some(pb::entry::Payload::Membership(m)) => EntryPayload::Membership(membership_in(m)),
        },
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;

    fn round_trip(entry: &Entry) {
        let bytes = entry_out(entry).encode_to_vec();
        let back = entry_in(pb::Entry::decode(Bytes::from(bytes)).unwrap()).unwrap();
        assert_eq!(*entry, back);
    }

    #[test]
    fn every_kind_of_entry_survives() {
        let id = LogId::new(LeaderId::new(3, 2), 17);
        round_trip(&Entry {
            log_id: id,
            payload: EntryPayload::Blank,
        });
        round_trip(&Entry {
            log_id: id,
            payload: EntryPayload::Normal(Batch {
                config_sequence: 4,
                config: true,
                envelopes: vec![Bytes::from_static(b"a"), Bytes::new()],
            }),
        });
        let nodes: BTreeMap<u64, BasicNode> = [1, 2, 3]
            .map(|n| (n, BasicNode::new(format!("o{n}:7050"))))
            .into();
        round_trip(&Entry {
            log_id: id,
            payload: EntryPayload::Membership(Membership::new(vec![[1, 2].into(), [2, 3].into()], nodes)),
        });
    }

    #[test]
    fn votes_survive() {
        for vote in [Vote::new(7, 3), Vote::new_committed(8, 1)] {
            assert_eq!(vote_in(Some(&vote_out(&vote))), Ok(vote));
        }
        assert_eq!(vote_in(None), Err(Malformed("vote")));
    }
}
