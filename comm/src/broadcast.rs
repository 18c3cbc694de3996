//! One long-lived `Broadcast` stream to one orderer, shared by everyone who submits.
//!
//! An orderer answers the envelopes of a stream in their order (spec 05 §1), so many can be on their way at once:
//!
//! ```text
//! submit ─┐                       ┌──────────► orderer
//! submit ─┼─► waiting: [a, b, c] ─┤ stream
//! submit ─┘        ▲              └──────────◄ answers, in order
//!                  └─ each answer wakes the first of the waiting
//! ```
//!
//! After an answer other than SUCCESS the orderer ends the stream. Those who wait behind the refused envelope were not
//! refused: they are sent again on a new stream. Sending an envelope twice does no harm, its transaction id is admitted
//! once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use selvedge_proto::{common, orderer};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::grpc::causes;
use crate::{CommError, Endpoint, MAX_MESSAGE_BYTES};

/// Envelopes that may wait in one stream; further ones wait for a place.
const IN_FLIGHT: usize = 256;

/// Why an orderer gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("orderer {address} gave no answer: {why}")]
pub struct BroadcastError {
    /// `host:port` of the orderer.
    pub address: String,
    /// What happened to the stream.
    pub why: String,
}

/// What became of one envelope on one stream.
type Answer = Result<orderer::BroadcastResponse, Lost>;

#[derive(Debug, Clone)]
enum Lost {
    /// The orderer ended the stream because of another envelope.
    Behind,
    /// The stream broke.
    Broken(String),
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<oneshot::Sender<Answer>>,
    /// Set when the stream has ended; no one may join the queue any more.
    closed: Option<Lost>,
}

/// The sending side of one stream.
#[derive(Debug, Clone)]
struct Stream {
    envelopes: mpsc::Sender<common::Envelope>,
    waiting: Arc<Mutex<Waiting>>,
    // Taking a place in the queue and in the stream is one step, or answers would go to the wrong ones.
    order: Arc<tokio::sync::Mutex<()>>,
}

/// Submits envelopes to one orderer. Cheap to share in an `Arc`; connects on first use and again after a loss.
#[derive(Debug)]
pub struct Broadcaster {
    address: String,
    channel: Channel,
    stream: Mutex<Option<Stream>>,
}

/// For data that are changed in single steps, which a panic elsewhere leaves whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broadcaster {
    /// Prepares to submit to the orderer at `endpoint`.
    ///
    /// # Errors
    /// The address or the TLS settings are not usable.
    pub fn new(endpoint: &Endpoint) -> Result<Self, CommError> {
        Ok(Self {
            address: endpoint.address.clone(),
            channel: endpoint.connect_lazy()?,
            stream: Mutex::new(None),
        })
    }

    /// `host:port` of the orderer.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends an envelope and waits for the orderer's answer to it. The caller sets the time limit; giving up leaves it
    /// open whether the orderer took the envelope.
    ///
    /// # Errors
    /// The stream broke before the answer came.
    pub async fn submit(
        &self,
        envelope: common::Envelope,
    ) -> Result<orderer::BroadcastResponse, BroadcastError> {
        loop {
            match self.attempt(envelope.clone()).await {
                Ok(answer) => return Ok(answer),
                // The orderer is alive and answered others before us, so this makes progress.
                Err(Lost::Behind) => {}
                Err(Lost::Broken(why)) => {
                    return Err(BroadcastError {
                        address: self.address.clone(),
                        why,
                    });
                }
            }
        }
    }

    async fn attempt(&self, envelope: common::Envelope) -> Answer {
        let stream = self.stream();
        let answer = {
            let _order = stream.order.lock().await;
            let place = stream.envelopes.reserve().await;
            let mut waiting = lock(&stream.waiting);
            if let Some(lost) = &waiting.closed {
                return Err(lost.clone());
            }
            let Ok(place) = place else {
                return Err(Lost::Broken("the stream was closed".to_owned()));
            };
            let (wake, answer) = oneshot::channel();
            waiting.queue.push_back(wake);
            place.send(envelope);
            answer
        };
        answer
            .await
            .unwrap_or_else(|_| Err(Lost::Broken("the stream was closed".to_owned())))
    }

    /// The stream in use, or a new one when there is none or it has ended.
    fn stream(&self) -> Stream {
        let mut slot = lock(&self.stream);
        if let Some(stream) = slot.as_ref()
            && lock(&stream.waiting).closed.is_none()
        {
            return stream.clone();
        }
        let (envelopes, outgoing) = mpsc::channel(IN_FLIGHT);
        let stream = Stream {
            envelopes,
            waiting: Arc::default(),
            order: Arc::default(),
        };
        tokio::spawn(run(self.channel.clone(), outgoing, Arc::clone(&stream.waiting)));
        *slot = Some(stream.clone());
        stream
    }
}

/// Drives one stream to its end and wakes those who wait.
async fn run(channel: Channel, outgoing: mpsc::Receiver<common::Envelope>, waiting: Arc<Mutex<Waiting>>) {
    let lost = answers(channel, outgoing, &waiting).await;
    let mut waiting = lock(&waiting);
    waiting.closed = Some(lost.clone());
    for wake in waiting.queue.drain(..) {
        // A submitter that gave up is no longer listening.
        let _ = wake.send(Err(lost.clone()));
    }
}

async fn answers(
    channel: Channel,
    outgoing: mpsc::Receiver<common::Envelope>,
    waiting: &Mutex<Waiting>,
) -> Lost {
    let mut client = orderer::atomic_broadcast_client::AtomicBroadcastClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let mut inbound = match client.broadcast(ReceiverStream::new(outgoing)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Lost::Broken(describe(&status)),
    };
    let mut refused = false;
    loop {
        match inbound.message().await {
            Ok(Some(answer)) => {
                refused = answer.status != common::Status::Success as i32;
                let Some(wake) = lock(waiting).queue.pop_front() else {
                    return Lost::Broken("the orderer answered more than it was asked".to_owned());
                };
                // A submitter that gave up is no longer listening.
                let _ = wake.send(Ok(answer));
                if refused {
                    return Lost::Behind;
                }
            }
            Ok(None) if refused => return Lost::Behind,
            Ok(None) => return Lost::Broken("the orderer ended the stream".to_owned()),
            Err(status) => return Lost::Broken(describe(&status)),
        }
    }
}

fn describe(status: &tonic::Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    if let Some(source) = std::error::Error::source(status) {
        text.push_str(": ");
        text.push_str(&causes(source));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use selvedge_proto::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};

    use super::*;
    use crate::{bind, serve_grpc};

    /// Refuses envelopes with payload "bad", takes all others; counts streams.
    #[derive(Default)]
    struct Orderer {
        streams: Arc<AtomicUsize>,
    }

    type Answers<T> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, tonic::Status>> + Send>>;

    #[tonic::async_trait]
    impl AtomicBroadcast for Orderer {
        type BroadcastStream = Answers<orderer::BroadcastResponse>;
        type DeliverStream = Answers<orderer::DeliverResponse>;

        async fn broadcast(
            &self,
            request: tonic::Request<tonic::Streaming<common::Envelope>>,
        ) -> Result<tonic::Response<Self::BroadcastStream>, tonic::Status> {
            self.streams.fetch_add(1, Ordering::SeqCst);
            let mut inbound = request.into_inner();
            let (answers, outbound) = mpsc::channel(16);
            tokio::spawn(async move {
                while let Ok(Some(envelope)) = inbound.message().await {
                    let bad = envelope.payload == "bad";
                    let status = if bad {
                        common::Status::BadRequest
                    } else {
                        common::Status::Success
                    };
                    let info = String::from_utf8(envelope.payload.to_vec()).unwrap();
                    let answer = orderer::BroadcastResponse {
                        status: status as i32,
                        info,
                    };
                    if answers.send(Ok(answer)).await.is_err() || bad {
                        return;
                    }
                }
            });
            Ok(tonic::Response::new(Box::pin(ReceiverStream::new(outbound))))
        }

        async fn deliver(
            &self,
            _: tonic::Request<tonic::Streaming<common::Envelope>>,
        ) -> Result<tonic::Response<Self::DeliverStream>, tonic::Status> {
            Err(tonic::Status::unimplemented("not part of this test"))
        }
    }

    async fn serve() -> (Broadcaster, Arc<AtomicUsize>, oneshot::Sender<()>) {
        let orderer = Orderer::default();
        let streams = Arc::clone(&orderer.streams);
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = tonic::service::Routes::new(AtomicBroadcastServer::new(orderer));
        tokio::spawn(serve_grpc(listener, None, routes, async move {
            let _ = stopped.await;
        }));
        (
            Broadcaster::new(&Endpoint::plain(address)).unwrap(),
            streams,
            stop,
        )
    }

    fn envelope(payload: impl Into<String>) -> common::Envelope {
        common::Envelope {
            payload: Bytes::from(payload.into()),
            signature: Bytes::new(),
        }
    }

    #[tokio::test]
    async fn every_submitter_gets_its_own_answer_over_one_stream() {
        let (broadcaster, streams, _stop) = serve().await;
        let broadcaster = Arc::new(broadcaster);
        let calls: Vec<_> = (0..200)
            .map(|i| {
                let broadcaster = Arc::clone(&broadcaster);
                tokio::spawn(async move { (i, broadcaster.submit(envelope(i.to_string())).await.unwrap()) })
            })
            .collect();
        for call in calls {
            let (i, answer) = call.await.unwrap();
            assert_eq!((answer.status, answer.info), (200, i.to_string()));
        }
        assert_eq!(streams.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_refused_envelope_hurts_nobody_else() {
        let (broadcaster, streams, _stop) = serve().await;
        let broadcaster = Arc::new(broadcaster);
        let calls: Vec<_> = (0..100)
            .map(|i| {
                let broadcaster = Arc::clone(&broadcaster);
                let payload = if i % 10 == 3 {
                    "bad".to_owned()
                } else {
                    i.to_string()
                };
                tokio::spawn(async move {
                    let answer = broadcaster.submit(envelope(payload.clone())).await.unwrap();
                    (payload, answer)
                })
            })
            .collect();
        for call in calls {
            let (payload, answer) = call.await.unwrap();
            assert_eq!(answer.info, payload);
            assert_eq!(answer.status, if payload == "bad" { 400 } else { 200 });
        }
        assert!(streams.load(Ordering::SeqCst) > 1);
    }

    #[tokio::test]
    async fn a_dead_orderer_is_named() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let broadcaster = Broadcaster::new(&Endpoint::plain(address.clone())).unwrap();
        let error = broadcaster.submit(envelope("x")).await.unwrap_err();
        assert_eq!(error.address, address);
        assert!(error.why.contains("refused"), "{}", error.why);
    }
}
