//! Raft's messages to the other consenters of a channel.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode};
use selvedge_proto::selvedge::cluster as pb;
use tokio::task::JoinHandle;
use tonic::Status;

use super::codec::{Malformed, entry_out, log_id_in, log_id_out, snapshot_meta_out, vote_in, vote_out};
use super::{LogId, NodeId, TypeConfig, Vote};
use crate::peers::Peers;

type RpcError<E = openraft::error::Infallible> = RPCError<NodeId, BasicNode, RaftError<NodeId, E>>;

/// Makes connections for one channel.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
}

/// What an AppendEntries request is about; a repetition of the same is not sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Subject {
    vote: Vote,
    previous: Option<LogId>,
    last: Option<LogId>,
}

/// The way to one consenter.
pub(crate) struct Connection {
    target: NodeId,
    peers: Arc<Peers>,
    /// A large append may take longer than Raft waits (one heartbeat). It goes on by itself, and the repetition that
    /// Raft sends then joins it.
    in_flight: Option<(Subject, JoinHandle<Result<pb::AppendReply, Status>>)>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, _node: &BasicNode) -> Connection {
        Connection {
            target,
            peers: Arc::clone(&self.peers),
            in_flight: None,
        }
    }
}

/// Raft backs off from a target it calls unreachable, and repeats other failed calls without a pause; none of ours is
/// mended by that.
fn failed<E: std::error::Error>(status: &Status) -> RpcError<E> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(status.message())))
}

fn malformed<E: std::error::Error>(why: Malformed) -> RpcError<E> {
    RPCError::Unreachable(Unreachable::new(&why))
}

impl Connection {
    fn append(
        &self,
        request: pb::AppendRequest,
    ) -> impl Future<Output = Result<pb::AppendReply, Status>> + use<> {
        let client = self.peers.client(self.target);
        async move { Ok(client?.append(request).await?.into_inner()) }
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RpcError> {
        let request = pb::AppendRequest {
            channel: self.peers.channel().to_owned(),
            vote: Some(vote_out(&rpc.vote)),
            previous: rpc.prev_log_id.as_ref().map(log_id_out),
            entries: rpc.entries.iter().map(entry_out).collect(),
            leader_commit: rpc.leader_commit.as_ref().map(log_id_out),
        };
        let reply = if rpc.entries.is_empty() {
            self.append(request).await
        } else {
            let subject = Subject {
                vote: rpc.vote,
                previous: rpc.prev_log_id,
                last: rpc.entries.last().map(|e| e.log_id),
            };
            let running = match self.in_flight.take() {
                Some((same, running)) if same == subject => running,
                _ => tokio::spawn(self.append(request)),
            };
            let (_, running) = self.in_flight.insert((subject, running));
            let reply = running.await;
            self.in_flight = None;
            reply.unwrap_or_else(|e| Err(Status::internal(e.to_string())))
        };
        let reply = reply.map_err(|e| failed(&e))?;
        match reply.outcome {
            Some(pb::append_reply::Outcome::Success(_)) => Ok(AppendEntriesResponse::Success),
            Some(pb::append_reply::Outcome::Conflict(_)) => Ok(AppendEntriesResponse::Conflict),
            Some(pb::append_reply::Outcome::HigherVote(vote)) => {
                let vote = vote_in(Some(&vote)).map_err(malformed)?;
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
            None => Err(malformed(Malformed("outcome"))),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, RpcError<InstallSnapshotError>> {
        let request = pb::SnapshotRequest {
            channel: self.peers.channel().to_owned(),
            vote: Some(vote_out(&rpc.vote)),
            meta: Some(snapshot_meta_out(&rpc.meta)),
            offset: rpc.offset,
            data: rpc.data.into(),
            done: rpc.done,
        };
        let mut client = self.peers.client(self.target).map_err(|e| failed(&e))?;
        let reply = client
            .snapshot(request)
            .await
            .map_err(|e| failed(&e))?
            .into_inner();
        Ok(InstallSnapshotResponse {
            vote: vote_in(reply.vote.as_ref()).map_err(malformed)?,
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RpcError> {
        let request = pb::VoteRequest {
            channel: self.peers.channel().to_owned(),
            vote: Some(vote_out(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(log_id_out),
        };
        let mut client = self.peers.client(self.target).map_err(|e| failed(&e))?;
        let reply = client.vote(request).await.map_err(|e| failed(&e))?.into_inner();
        Ok(VoteResponse {
            vote: vote_in(reply.vote.as_ref()).map_err(malformed)?,
            vote_granted: reply.granted,
            last_log_id: reply.last.as_ref().map(log_id_in),
        })
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(200)))
    }
}
