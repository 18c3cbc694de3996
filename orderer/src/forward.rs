//! Passing envelopes to the leader: one stream a leader, many envelopes in flight on it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use selvedge_proto::common;
use selvedge_proto::selvedge::cluster as pb;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::filter::Refusal;
use crate::peers::Peers;
use crate::raft::NodeId;
use crate::sequencer::{Checked, Verdict};

/// Envelopes that may wait to be written to the stream.
const WAITING: usize = 256;

#[derive(Default)]
struct Tickets {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Verdict>>,
    /// The stream has ended; nobody may wait on it any more.
    closed: bool,
}

#[derive(Clone)]
struct Line {
    leader: NodeId,
    sequence: u64,
    requests: mpsc::Sender<pb::SubmitRequest>,
    tickets: Arc<Mutex<Tickets>>,
}

/// Forwards envelopes of one channel.
pub(crate) struct Forwarder {
    peers: Arc<Peers>,
    line: Mutex<Option<Line>>,
}

impl Forwarder {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self {
            peers,
            line: Mutex::new(None),
        }
    }

    fn line(&self, leader: NodeId, sequence: u64) -> Line {
        let mut current = self.line.lock();
        if let Some(line) = current.as_ref()
            && line.leader == leader
            && line.sequence == sequence
            && !line.requests.is_closed()
        {
            return line.clone();
        }
        let (requests, outgoing) = mpsc::channel(WAITING);
        let line = Line {
            leader,
            sequence,
            requests,
            tickets: Arc::default(),
        };
        *current = Some(line.clone());
        let tickets = Arc::clone(&line.tickets);
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            if let Err(why) = exchange(&peers, leader, outgoing, &tickets).await {
                tracing::debug!(
                    channel = peers.channel(),
                    leader,
                    why = why.message(),
                    "the way to the leader broke"
                );
            }
            let lost = {
                let mut tickets = tickets.lock();
                tickets.closed = true;
                std::mem::take(&mut tickets.waiting)
            };
            for reply in lost.into_values() {
                let _ = reply.send(Verdict::Retry);
            }
        });
        line
    }

    /// Sends an envelope to the leader. The receiver ends without a verdict when the way breaks.
    pub(crate) async fn send(&self, leader: NodeId, checked: &Checked) -> oneshot::Receiver<Verdict> {
        let (reply, verdict) = oneshot::channel();
        let line = self.line(leader, checked.sequence);
        let ticket = {
            let mut tickets = line.tickets.lock();
            if tickets.closed {
                return verdict;
            }
            tickets.next += 1;
            let ticket = tickets.next;
            tickets.waiting.insert(ticket, reply);
            ticket
        };
        let request = pb::SubmitRequest {
            channel: self.peers.channel().to_owned(),
            config_sequence: checked.sequence,
            envelope: Some(checked.envelope.clone()),
            ticket,
        };
        if line.requests.send(request).await.is_err() {
            line.tickets.lock().waiting.remove(&ticket);
        }
        verdict
    }
}

async fn exchange(
    peers: &Peers,
    leader: NodeId,
    outgoing: mpsc::Receiver<pb::SubmitRequest>,
    tickets: &Mutex<Tickets>,
) -> Result<(), tonic::Status> {
    let mut client = peers.client(leader)?;
    let mut replies = client.submit(ReceiverStream::new(outgoing)).await?.into_inner();
    while let Some(reply) = replies.message().await? {
        let waiting = tickets.lock().waiting.remove(&reply.ticket);
        let Some(waiting) = waiting else { continue };
        let status = reply.status();
        let _ = waiting.send(if reply.not_leader {
            Verdict::Retry
        } else if status == common::Status::Success {
            Verdict::Ordered
        } else {
            Verdict::Refused(Refusal::new(status, reply.info))
        });
    }
    Ok(())
}
