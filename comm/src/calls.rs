//! Calls of Fabric's services over one stream to a Selvedge peer (`proto/selvedge/calls.proto`).
//!
//! ```text
//! call ─┐                                  ┌────────► peer
//! call ─┼─► waiting: {7: a, 8: b, 9: c} ───┤ stream
//! call ─┘        ▲                         └────────◄ replies by ticket, in any order
//!                └─ each reply wakes the one that waits for its ticket
//! ```
//!
//! A peer of another kind does not know the service: then every call is made singly, as Fabric's clients make it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use selvedge_proto::Message;
use selvedge_proto::selvedge::calls;
use selvedge_proto::selvedge::calls::calls_client::CallsClient;
use selvedge_proto::{gateway, protos};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::MAX_MESSAGE_BYTES;
use crate::broadcast::lock;

/// Requests that may wait to be sent; further ones wait for a place.
const QUEUED: usize = 256;
/// A larger message would hold up the others: it goes singly.
const MAX_STREAMED_BYTES: usize = 1024 * 1024;
/// How long a server that does not know the service is not asked for it again.
const UNKNOWN_FOR: Duration = Duration::from_secs(600);
/// Some proxies hold back a stream until it ends: without response headers in this time calls are made singly.
const OPENING: Duration = Duration::from_secs(5);

/// A request for a single call, with the limit that the server hears of.
pub fn request_within<Q>(message: Q, limit: Option<Duration>) -> tonic::Request<Q> {
    let mut request = tonic::Request::new(message);
    if let Some(limit) = limit {
        request.set_timeout(limit);
    }
    request
}

/// A call that can go over the stream: its request, and what is answered to it.
pub trait StreamedCall: Message + Clone + Sized {
    /// The answer of the service.
    type Answer;
    /// The request on the stream.
    fn into_call(self) -> calls::request::Call;
    /// The answer on the stream; none when the peer answered something else.
    fn answer(outcome: calls::reply::Outcome) -> Option<Self::Answer>;
}

macro_rules! streamed {
    ($($request:ty => $answer:ty, $variant:ident;)*) => {$(
        impl StreamedCall for $request {
            type Answer = $answer;
            fn into_call(self) -> calls::request::Call {
                calls::request::Call::$variant(self)
            }
            fn answer(outcome: calls::reply::Outcome) -> Option<Self::Answer> {
                match outcome {
                    calls::reply::Outcome::$variant(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    )*};
}

streamed! {
    protos::SignedProposal => protos::ProposalResponse, ProcessProposal;
    gateway::EvaluateRequest => gateway::EvaluateResponse, Evaluate;
    gateway::EndorseRequest => gateway::EndorseResponse, Endorse;
    gateway::SubmitRequest => gateway::SubmitResponse, Submit;
    gateway::SignedCommitStatusRequest => gateway::CommitStatusResponse, CommitStatus;
}

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub enum NoAnswer {
    /// The peer does not take calls over a stream, or not this one: make it singly.
    MakeSingly,
    /// What the status of a single call would be.
    Failed(Status),
}

type Answer = Result<calls::reply::Outcome, NoAnswer>;

#[derive(Default)]
struct Waiting {
    by_ticket: HashMap<u64, oneshot::Sender<Answer>>,
    last_ticket: u64,
    /// Set when the stream has ended; no one may join any more.
    closed: Option<NoAnswer>,
}

#[derive(Clone)]
struct Stream {
    requests: mpsc::Sender<calls::Request>,
    waiting: Arc<Mutex<Waiting>>,
}

enum State {
    Idle,
    Open(Stream),
    Unknown(Instant),
}

/// Calls to one peer. Cheap to share in an `Arc`; opens its stream on first use and again after a loss.
pub struct Calls {
    channel: Channel,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

/// A caller that has given up waits no longer.
struct Place<'a> {
    waiting: &'a Mutex<Waiting>,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.waiting).by_ticket.remove(&self.ticket);
    }
}

impl Calls {
    /// Calls over this connection.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            state: Arc::new(Mutex::new(State::Idle)),
        }
    }

    /// Makes a call and waits for its answer: over the stream, or by `singly` where that cannot be. The peer hears of the limit
    /// either way; the caller keeps it.
    ///
    /// # Errors
    /// The call failed.
    pub async fn call_or_singly<C, F, Fut>(
        &self,
        call: C,
        limit: Option<Duration>,
        singly: F,
    ) -> Result<C::Answer, Status>
    where
        C: StreamedCall,
        F: FnOnce(tonic::Request<C>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<C::Answer>, Status>>,
    {
        match self.call(call.clone(), limit).await {
            Ok(answer) => Ok(answer),
            Err(NoAnswer::Failed(status)) => Err(status),
            Err(NoAnswer::MakeSingly) => {
                let answer = singly(request_within(call, limit)).await;
                answer.map(tonic::Response::into_inner)
            }
        }
    }

    /// Makes a call over the stream and waits for its answer. The peer hears of the limit; the caller keeps it.
    ///
    /// # Errors
    /// The call is to be made singly, or it failed.
    pub async fn call<C: StreamedCall>(
        &self,
        call: C,
        limit: Option<Duration>,
    ) -> Result<C::Answer, NoAnswer> {
        if call.encoded_len() > MAX_STREAMED_BYTES {
            return Err(NoAnswer::MakeSingly);
        }
        let Some((stream, ticket, answer)) = self.place() else {
            return Err(NoAnswer::MakeSingly);
        };
        let _place = Place {
            waiting: &stream.waiting,
            ticket,
        };
        let request = calls::Request {
            ticket,
            timeout_ms: limit.map_or(0, |limit| {
                u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1)
            }),
            call: Some(call.into_call()),
        };
        // When the stream has ended meanwhile, whoever ended it answers.
        let _ = stream.requests.send(request).await;
        let outcome = answer.await.unwrap_or_else(|_| {
            Err(NoAnswer::Failed(Status::unavailable(
                "the stream of calls has ended",
            )))
        })?;
        if let calls::reply::Outcome::Failure(failure) = outcome {
            return Err(NoAnswer::Failed(Status::with_details(
                Code::from(failure.code),
                failure.message,
                failure.details,
            )));
        }
        C::answer(outcome).ok_or_else(|| {
            NoAnswer::Failed(Status::internal(
                "the peer answered another call than the one that was made",
            ))
        })
    }

    /// A place in a stream that has not ended; none while the peer is taken not to know the service.
    fn place(&self) -> Option<(Stream, u64, oneshot::Receiver<Answer>)> {
        loop {
            let stream = self.stream()?;
            let mut waiting = lock(&stream.waiting);
            if waiting.closed.is_some() {
                // It has ended since it was looked up, and nothing of this call was sent.
                continue;
            }
            let (wake, answer) = oneshot::channel();
            waiting.last_ticket += 1;
            let ticket = waiting.last_ticket;
            waiting.by_ticket.insert(ticket, wake);
            drop(waiting);
            return Some((stream, ticket, answer));
        }
    }

    /// The stream in use, or a new one; none while the peer is taken not to know the service.
    fn stream(&self) -> Option<Stream> {
        let mut state = lock(&self.state);
        match &*state {
            State::Open(stream) if lock(&stream.waiting).closed.is_none() => return Some(stream.clone()),
            State::Unknown(since) if since.elapsed() < UNKNOWN_FOR => return None,
            _ => {}
        }
        let (requests, outgoing) = mpsc::channel(QUEUED);
        let stream = Stream {
            requests,
            waiting: Arc::default(),
        };
        let (channel, waiting) = (self.channel.clone(), Arc::clone(&stream.waiting));
        let known = Arc::clone(&self.state);
        tokio::spawn(async move {
            let why = replies(channel, outgoing, &waiting).await;
            if matches!(why, NoAnswer::MakeSingly) {
                *lock(&known) = State::Unknown(Instant::now());
            }
            let mut waiting = lock(&waiting);
            waiting.closed = Some(why.clone());
            for (_, wake) in waiting.by_ticket.drain() {
                // A caller that gave up is no longer listening.
                let _ = wake.send(Err(why.clone()));
            }
        });
        *state = State::Open(stream.clone());
        Some(stream)
    }
}

/// Drives one stream to its end, and says what those get who still wait.
async fn replies(
    channel: Channel,
    outgoing: mpsc::Receiver<calls::Request>,
    waiting: &Mutex<Waiting>,
) -> NoAnswer {
    let mut client = CallsClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let opening = client.exchange(ReceiverStream::new(outgoing));
    let mut inbound = match tokio::time::timeout(OPENING, opening).await {
        Ok(Ok(response)) => response.into_inner(),
        // These are of the connection, and would be those of a single call.
        Ok(Err(status)) if matches!(status.code(), Code::Unavailable | Code::Cancelled) => {
            return NoAnswer::Failed(status);
        }
        Ok(Err(_)) | Err(_) => return NoAnswer::MakeSingly,
    };
    loop {
        let reply = match inbound.message().await {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                return NoAnswer::Failed(Status::unavailable("the peer ended the stream of calls"));
            }
            Err(status) => return NoAnswer::Failed(status),
        };
        let wake = lock(waiting).by_ticket.remove(&reply.ticket);
        if let (Some(wake), Some(outcome)) = (wake, reply.outcome) {
            // A caller that gave up is no longer listening.
            let _ = wake.send(Ok(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use selvedge_proto::selvedge::calls::calls_server::{Calls as CallsRpc, CallsServer};
    use tonic::service::Routes;

    use super::*;
    use crate::{Endpoint, bind, serve_grpc};

    /// Answers a proposal with its own bytes, refuses "bad", and ends the stream on "end"; two at a time, the later one first.
    #[derive(Default)]
    struct Peer {
        streams: Arc<AtomicUsize>,
    }

    type Replies = std::pin::Pin<Box<dyn futures::Stream<Item = Result<calls::Reply, Status>> + Send>>;

    fn reply(request: calls::Request) -> Option<calls::Reply> {
        let Some(calls::request::Call::ProcessProposal(proposal)) = request.call else {
            return Some(calls::Reply {
                ticket: request.ticket,
                outcome: Some(calls::reply::Outcome::Submit(gateway::SubmitResponse {})),
            });
        };
        let outcome = match proposal.proposal_bytes.as_ref() {
            b"end" => return None,
            b"bad" => calls::reply::Outcome::Failure(calls::Failure {
                code: Code::Aborted as i32,
                message: "no".into(),
                details: Bytes::from_static(b"why"),
            }),
            _ => calls::reply::Outcome::ProcessProposal(protos::ProposalResponse {
                payload: proposal.proposal_bytes,
                version: i32::try_from(request.timeout_ms).unwrap(),
                ..Default::default()
            }),
        };
        Some(calls::Reply {
            ticket: request.ticket,
            outcome: Some(outcome),
        })
    }

    #[tonic::async_trait]
    impl CallsRpc for Peer {
        type ExchangeStream = Replies;

        async fn exchange(
            &self,
            request: tonic::Request<tonic::Streaming<calls::Request>>,
        ) -> Result<tonic::Response<Self::ExchangeStream>, Status> {
            self.streams.fetch_add(1, Ordering::SeqCst);
            let mut inbound = request.into_inner();
            let (answers, outbound) = mpsc::channel(16);
            tokio::spawn(async move {
                let mut held = None;
                while let Ok(Some(request)) = inbound.message().await {
                    let Some(reply) = reply(request) else { return };
                    let Some(earlier) = held.take() else {
                        held = Some(reply);
                        continue;
                    };
                    for reply in [reply, earlier] {
                        let _ = answers.send(Ok(reply)).await;
                    }
                }
            });
            Ok(tonic::Response::new(Box::pin(ReceiverStream::new(outbound))))
        }
    }

    async fn serve(routes: Routes) -> (Calls, oneshot::Sender<()>) {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve_grpc(listener, None, routes, async move {
            let _ = stopped.await;
        }));
        let channel = Endpoint::plain(address).connect_lazy().unwrap();
        (Calls::new(channel), stop)
    }

    fn peer() -> (Routes, Arc<AtomicUsize>) {
        let peer = Peer::default();
        let streams = Arc::clone(&peer.streams);
        (Routes::new(CallsServer::new(peer)), streams)
    }

    fn proposal(bytes: impl Into<Bytes>) -> protos::SignedProposal {
        protos::SignedProposal {
            proposal_bytes: bytes.into(),
            signature: Bytes::new(),
        }
    }

    #[tokio::test]
    async fn every_caller_gets_its_own_answer_over_one_stream() {
        let (routes, streams) = peer();
        let (calls, _stop) = serve(routes).await;
        let calls = Arc::new(calls);
        let callers: Vec<_> = (0..200u32)
            .map(|i| {
                let calls = Arc::clone(&calls);
                tokio::spawn(async move {
                    let limit = Some(Duration::from_millis(60_000 + u64::from(i)));
                    let answer = calls.call(proposal(i.to_string()), limit).await.unwrap();
                    (i, answer)
                })
            })
            .collect();
        for caller in callers {
            let (i, answer) = caller.await.unwrap();
            assert_eq!(answer.payload, i.to_string());
            assert_eq!(answer.version, 60_000 + i32::try_from(i).unwrap());
        }
        assert_eq!(streams.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_refusal_is_the_status_of_a_single_call() {
        let (routes, _) = peer();
        let (calls, _stop) = serve(routes).await;
        let (bad, good) = tokio::join!(
            calls.call(proposal("bad"), None),
            calls.call(proposal("good"), None)
        );
        let NoAnswer::Failed(status) = bad.unwrap_err() else {
            panic!("the peer knows the service");
        };
        assert_eq!((status.code(), status.message()), (Code::Aborted, "no"));
        assert_eq!(status.details(), b"why");
        assert_eq!(good.unwrap().payload, "good");
        // An answer to something else is not taken for one.
        let evaluate = gateway::EvaluateRequest::default();
        let (other, _) = tokio::join!(calls.call(evaluate, None), calls.call(proposal("pair"), None));
        assert!(matches!(other, Err(NoAnswer::Failed(status)) if status.code() == Code::Internal));
    }

    #[tokio::test]
    async fn a_stream_that_ends_fails_who_waits_and_the_next_call_opens_another() {
        let (routes, streams) = peer();
        let (calls, _stop) = serve(routes).await;
        let (one, end) = tokio::join!(
            calls.call(proposal("one"), None),
            calls.call(proposal("end"), None)
        );
        for lost in [one, end] {
            assert!(matches!(lost, Err(NoAnswer::Failed(status)) if status.code() == Code::Unavailable));
        }
        let (a, b) = tokio::join!(calls.call(proposal("a"), None), calls.call(proposal("b"), None));
        assert_eq!((a.unwrap().payload, b.unwrap().payload), ("a".into(), "b".into()));
        assert_eq!(streams.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_leaves_no_place_behind() {
        let (routes, _) = peer();
        let (calls, _stop) = serve(routes).await;
        // The peer holds the first of a pair back.
        let call = calls.call(proposal("one"), None);
        let given_up = tokio::time::timeout(Duration::from_millis(20), call).await;
        assert!(given_up.is_err());
        let State::Open(stream) = &*lock(&calls.state) else {
            panic!("the stream is open");
        };
        assert!(lock(&stream.waiting).by_ticket.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_go_over_the_stream_is_to_be_made_singly() {
        let (routes, streams) = peer();
        let (calls, _stop) = serve(routes).await;
        let large = calls.call(proposal(vec![0; MAX_STREAMED_BYTES]), None).await;
        assert!(matches!(large, Err(NoAnswer::MakeSingly)));
        assert_eq!(streams.load(Ordering::SeqCst), 0);

        let (calls, _stop) = serve(Routes::default()).await;
        for _ in 0..2 {
            let unknown = calls.call(proposal("x"), None).await;
            assert!(matches!(unknown, Err(NoAnswer::MakeSingly)));
        }
        assert!(matches!(*lock(&calls.state), State::Unknown(_)));
    }

    #[tokio::test]
    async fn a_dead_peer_is_unavailable() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let calls = Calls::new(Endpoint::plain(address).connect_lazy().unwrap());
        let dead = calls.call(proposal("x"), None).await;
        assert!(matches!(dead, Err(NoAnswer::Failed(status)) if status.code() == Code::Unavailable));
    }
}
