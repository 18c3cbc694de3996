//! The service that other consenters call. A caller is who its TLS certificate says: it must be the one of a consenter of
//! the channel, or have the same public key (spec 05 §5.1).

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest};
use prost::Message;
use selvedge_comm::client_certificate;
use selvedge_proto::selvedge::cluster as pb;
use selvedge_proto::selvedge::cluster::cluster_server::Cluster;
use selvedge_proto::{common, open_envelope};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::channel::OrdererChannel;
use crate::consensus::Consensus;
use crate::filter::{self, Refusal};
use crate::raft::TypeConfig;
use crate::raft::codec::{Malformed, entry_in, log_id_in, log_id_out, snapshot_meta_in, vote_in, vote_out};
use crate::registrar::Registrar;
use crate::sequencer::{Checked, Verdict};

/// Envelopes of one forwarding consenter that wait for their verdicts.
const FORWARDED: usize = 1024;

pub(crate) struct ClusterService {
    pub(crate) registrar: Arc<Registrar>,
    pub(crate) stop: CancellationToken,
}

type Reply<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn malformed(why: Malformed) -> Status {
    Status::invalid_argument(why.to_string())
}

impl ClusterService {
    /// The channel, if the caller is one of its consenters.
    fn channel(&self, leaf: Option<&[u8]>, id: &str) -> Result<Arc<OrdererChannel>, Status> {
        let leaf =
            leaf.ok_or_else(|| Status::unauthenticated("consenters must show their TLS client certificate"))?;
        // One answer for both: who is no consenter must not learn which channels there are.
        let refused = || {
            Status::permission_denied(format!(
                "channel '{id}' is not served by this orderer, or the TLS certificate shown is not the client_tls_cert of \
                 one of its consenters"
            ))
        };
        // While a channel is being onboarded nobody knows yet who its consenters are.
        let channel = self.registrar.get(id).ok_or_else(refused)?;
        let chain = channel.chain().ok_or_else(refused)?;
        let head = chain.head();
        let known = head.member_by_certificate(leaf).is_some_and(|member| {
            head.lists(member.id) || channel.consensus().is_some_and(|c| c.still_counts(member.id))
        });
        if !known {
            return Err(refused());
        }
        Ok(channel)
    }

    fn consensus(&self, leaf: Option<&[u8]>, id: &str) -> Result<Arc<Consensus>, Status> {
        self.channel(leaf, id)?.consensus().ok_or_else(|| {
            Status::unavailable(format!(
                "this node does not take part in channel '{id}' at the moment"
            ))
        })
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn append(&self, request: Request<pb::AppendRequest>) -> Reply<pb::AppendReply> {
        let leaf = client_certificate(&request);
        let request = request.into_inner();
        let consensus = self.consensus(leaf.as_deref(), &request.channel)?;
        let entries = request
            .entries
            .into_iter()
            .map(entry_in)
            .collect::<Result<Vec<_>, _>>();
        let rpc = AppendEntriesRequest::<TypeConfig> {
            vote: vote_in(request.vote.as_ref()).map_err(malformed)?,
            prev_log_id: request.previous.as_ref().map(log_id_in),
            entries: entries.map_err(malformed)?,
            leader_commit: request.leader_commit.as_ref().map(log_id_in),
        };
        // Raft takes consecutive entries for granted; what comes from outside is checked.
        let first = rpc.prev_log_id.map_or(0, |id| id.index.saturating_add(1));
        if (first..)
            .zip(&rpc.entries)
            .any(|(expected, entry)| entry.log_id.index != expected)
        {
            return Err(Status::invalid_argument("the entries are not consecutive"));
        }
        let last = rpc.entries.last().map(|e| e.log_id).or(rpc.prev_log_id);
        let committed = rpc.leader_commit;
        let answer = consensus
            .raft
            .append_entries(rpc)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let outcome = match answer {
            AppendEntriesResponse::Success => {
                consensus.caught_up(last, committed);
                pb::append_reply::Outcome::Success(true)
            }
            AppendEntriesResponse::Conflict | AppendEntriesResponse::PartialSuccess(_) => {
                pb::append_reply::Outcome::Conflict(true)
            }
            AppendEntriesResponse::HigherVote(vote) => pb::append_reply::Outcome::HigherVote(vote_out(&vote)),
        };
        Ok(Response::new(pb::AppendReply {
            outcome: Some(outcome),
        }))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Reply<pb::VoteReply> {
        let leaf = client_certificate(&request);
        let request = request.into_inner();
        let consensus = self.consensus(leaf.as_deref(), &request.channel)?;
        if !consensus.gate.is_open() {
            return Err(Status::unavailable(
                "this consenter lost its Raft state, or has none yet, and does not vote before it has caught up",
            ));
        }
        let rpc = VoteRequest {
            vote: vote_in(request.vote.as_ref()).map_err(malformed)?,
            last_log_id: request.last.as_ref().map(log_id_in),
        };
        let answer = consensus
            .raft
            .vote(rpc)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(pb::VoteReply {
            vote: Some(vote_out(&answer.vote)),
            granted: answer.vote_granted,
            last: answer.last_log_id.as_ref().map(log_id_out),
        }))
    }

    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Reply<pb::SnapshotReply> {
        let leaf = client_certificate(&request);
        let request = request.into_inner();
        let consensus = self.consensus(leaf.as_deref(), &request.channel)?;
        let rpc = InstallSnapshotRequest::<TypeConfig> {
            vote: vote_in(request.vote.as_ref()).map_err(malformed)?,
            meta: snapshot_meta_in(request.meta).map_err(malformed)?,
            offset: request.offset,
            data: request.data.to_vec(),
            done: request.done,
        };
        let answer = consensus
            .raft
            .install_snapshot(rpc)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(pb::SnapshotReply {
            vote: Some(vote_out(&answer.vote)),
        }))
    }

    type SubmitStream = Answers<pb::SubmitReply>;

    async fn submit(&self, request: Request<Streaming<pb::SubmitRequest>>) -> Reply<Self::SubmitStream> {
        let leaf = client_certificate(&request);
        let mut requests = request.into_inner();
        let (replies, outgoing) = mpsc::channel(FORWARDED);
        let service = Self {
            registrar: Arc::clone(&self.registrar),
            stop: self.stop.clone(),
        };
        tokio::spawn(async move {
            let waiting = Arc::new(tokio::sync::Semaphore::new(FORWARDED));
            let stopped = service.stop.clone();
            while let Some(Ok(Some(request))) = stopped.run_until_cancelled(requests.message()).await {
                let Ok(place) = Arc::clone(&waiting).acquire_owned().await else {
                    return;
                };
                let ticket = request.ticket;
                let accepted = service.accept(leaf.as_deref(), request).await;
                let replies = replies.clone();
                tokio::spawn(async move {
                    let verdict = match accepted {
                        Ok(verdict) => verdict.await.unwrap_or(Verdict::Retry),
                        Err(verdict) => verdict,
                    };
                    drop(replies.send(Ok(reply(ticket, verdict))).await);
                    drop(place);
                });
            }
        });
        let stopped = self.stop.clone().cancelled_owned();
        Ok(Response::new(
            ReceiverStream::new(outgoing).take_until(stopped).boxed(),
        ))
    }

    type BlocksStream = Answers<common::Block>;

    async fn blocks(&self, request: Request<pb::BlocksRequest>) -> Reply<Self::BlocksStream> {
        let leaf = client_certificate(&request);
        let request = request.into_inner();
        let channel = self.channel(leaf.as_deref(), &request.channel)?;
        let chain = channel
            .chain()
            .ok_or_else(|| Status::unavailable("the channel is being onboarded"))?;
        let end = request.end.min(chain.height());
        let (blocks, outgoing) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            for number in request.start..end {
                let block = match chain.store().get(number) {
                    Ok(Some(bytes)) => {
                        common::Block::decode(bytes).map_err(|e| Status::data_loss(e.to_string()))
                    }
                    Ok(None) => Err(Status::not_found(format!("block {number} is not here"))),
                    Err(e) => Err(Status::internal(e.to_string())),
                };
                let failed = block.is_err();
                if blocks.blocking_send(block).is_err() || failed {
                    return;
                }
            }
        });
        let stopped = self.stop.clone().cancelled_owned();
        Ok(Response::new(
            ReceiverStream::new(outgoing).take_until(stopped).boxed(),
        ))
    }

    async fn state(&self, request: Request<pb::StateRequest>) -> Reply<pb::StateReply> {
        let leaf = client_certificate(&request);
        let request = request.into_inner();
        let channel = self.channel(leaf.as_deref(), &request.channel)?;
        let consensus = channel
            .consensus()
            .ok_or_else(|| Status::unavailable("this node is starting its part in the channel"))?;
        Ok(Response::new(pb::StateReply {
            has_history: consensus.has_history(),
            height: channel.chain().map_or(0, |c| c.height()),
        }))
    }
}

impl ClusterService {
    /// Queues a forwarded envelope. It was checked by a consenter under the configuration it names; the sequencer checks
    /// again if that is not the one in force.
    async fn accept(
        &self,
        leaf: Option<&[u8]>,
        request: pb::SubmitRequest,
    ) -> Result<tokio::sync::oneshot::Receiver<Verdict>, Verdict> {
        let refused = |info: String| Verdict::Refused(Refusal::bad(info));
        // Whoever may not forward, for example since it is no consenter any more, is told to look for another way: its
        // client did nothing wrong, and another orderer takes the envelope.
        let consensus = self
            .consensus(leaf, &request.channel)
            .map_err(|_| Verdict::Retry)?;
        if !consensus.is_leader() {
            return Err(Verdict::Retry);
        }
        let envelope = request.envelope.ok_or_else(|| refused("no envelope".into()))?;
        let open = open_envelope(&envelope).map_err(|e| refused(e.to_string()))?;
        if open.channel_header.channel_id != request.channel {
            return Err(refused("the envelope is for another channel".into()));
        }
        let kind = filter::route(&open.channel_header).map_err(Verdict::Refused)?;
        Ok(consensus
            .enqueue_here(Checked {
                envelope,
                kind,
                sequence: request.config_sequence,
            })
            .await)
    }
}

fn reply(ticket: u64, verdict: Verdict) -> pb::SubmitReply {
    let (status, info, not_leader) = match verdict {
        Verdict::Ordered => (common::Status::Success, String::new(), false),
        Verdict::Retry => (common::Status::ServiceUnavailable, String::new(), true),
        Verdict::Refused(refusal) => (refusal.status, refusal.info, false),
    };
    pb::SubmitReply {
        status: status as i32,
        info,
        ticket,
        not_leader,
    }
}
