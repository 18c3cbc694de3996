//! Calls of the endorser and the gateway, many over one stream (`proto/selvedge/calls.proto`). Each is judged and answered as
//! a single one is.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use prost::Message;
use selvedge_comm::MAX_MESSAGE_BYTES;
use selvedge_proto::selvedge::calls::calls_server::{Calls, CallsServer};
use selvedge_proto::selvedge::calls::reply::Outcome;
use selvedge_proto::selvedge::calls::request::Call;
use selvedge_proto::selvedge::calls::{Failure, Reply, Request};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use crate::endorser::EndorserService;
use crate::gateway::GatewayService;

/// Calls of one stream that are worked on at a time. More are read from it when some of them are answered and their answers
/// are taken, so that a caller who does not read costs no more memory than this many.
const IN_WORK: usize = 1024;

/// The service.
#[derive(Clone)]
pub(crate) struct CallsService {
    endorser: EndorserService,
    gateway: GatewayService,
    shutdown: CancellationToken,
}

impl CallsService {
    /// Streams of calls to these two, until the peer ends.
    pub(crate) fn server(
        endorser: EndorserService,
        gateway: GatewayService,
        shutdown: CancellationToken,
    ) -> CallsServer<Self> {
        CallsServer::new(Self {
            endorser,
            gateway,
            shutdown,
        })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The work for one call, in a box of its own size: the tasks that carry it are moved about.
    fn work(&self, call: Option<Call>, limit: Option<Duration>) -> Work {
        let gateway = self.gateway.clone();
        match call {
            Some(Call::ProcessProposal(proposal)) => {
                let endorser = self.endorser.clone();
                Box::pin(async move { endorser.process(proposal).await.map(Outcome::ProcessProposal) })
            }
            Some(Call::Evaluate(request)) => Box::pin(async move {
                let answer = gateway.evaluate_within(request, limit).await;
                answer.map(Outcome::Evaluate)
            }),
            Some(Call::Endorse(request)) => Box::pin(async move {
                let answer = gateway.endorse_within(request, limit).await;
                answer.map(Outcome::Endorse)
            }),
            Some(Call::Submit(request)) => Box::pin(async move {
                let answer = gateway.submit_within(request, limit).await;
                answer.map(Outcome::Submit)
            }),
            Some(Call::CommitStatus(request)) => Box::pin(async move {
                let answer = gateway.commit_status_within(request, limit).await;
                answer.map(Outcome::CommitStatus)
            }),
            None => Box::pin(std::future::ready(Err(Status::unimplemented(
                "this peer does not take such a call over a stream",
            )))),
        }
    }

    async fn answer(&self, request: Request) -> Reply {
        let limit = (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms));
        let outcome = self.work(request.call, limit).await;
        let mut reply = Reply {
            ticket: request.ticket,
            outcome: Some(outcome.unwrap_or_else(|status| failure(&status))),
        };
        // One answer that is too large must not end the stream of the others.
        let size = reply.encoded_len();
        if size > MAX_MESSAGE_BYTES {
            let why = format!("the answer has {size} bytes; at most {MAX_MESSAGE_BYTES} can be sent");
            reply.outcome = Some(failure(&Status::out_of_range(why)));
        }
        reply
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Outcome, Status>> + Send>>;

fn failure(status: &Status) -> Outcome {
    Outcome::Failure(Failure {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: bytes::Bytes::copy_from_slice(status.details()),
    })
}

#[tonic::async_trait]
impl Calls for CallsService {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<Reply, Status>> + Send>>;

    async fn exchange(
        &self,
        request: tonic::Request<Streaming<Request>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut requests = request.into_inner();
        let (replies, outbound) = mpsc::channel(IN_WORK);
        let this = self.clone();
        tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(IN_WORK));
            loop {
                let place = Arc::clone(&places).acquire_owned().await;
                let next = tokio::select! {
                    next = requests.message() => next,
                    () = replies.closed() => return,
                    () = this.shutdown.cancelled() => {
                        let why = Status::unavailable("the peer is shutting down");
                        let _ = replies.send(Err(why)).await;
                        return;
                    }
                };
                let (Ok(place), Ok(Some(request))) = (place, next) else {
                    return;
                };
                let (this, replies) = (this.clone(), replies.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        reply = this.answer(request) => {
                            // A caller that is gone needs no answer.
                            let _ = replies.send(Ok(reply)).await;
                        }
                        () = replies.closed() => {}
                    }
                    drop(place);
                });
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use selvedge_comm::{Calls, Endpoint, NoAnswer};
    use selvedge_proto::gateway::{
        CommitStatusRequest, EndorseRequest, EvaluateRequest, SignedCommitStatusRequest, SubmitRequest,
    };
    use selvedge_proto::protos::TxValidationCode;
    use tonic::service::Routes;

    use super::*;
    use crate::gateway::test_world::{World, serve, world};
    use crate::test_network::{ask, proposal};

    async fn calls_to(world: &World) -> Calls {
        let service = CallsService::server(
            world.consortium.endorsers[0].remote(),
            world.gateway.clone(),
            world.shutdown.clone(),
        );
        let address = serve(Routes::new(service), world.shutdown.clone()).await;
        Calls::new(Endpoint::plain(address).connect_lazy().unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_transaction_goes_all_its_way_over_one_stream() {
        let world = world(0).await;
        world.deploy().await;
        let (calls, client) = (calls_to(&world).await, world.client());
        let put = proposal(&client, &ask("trade", "cc", &[b"put"]));

        let endorsed = calls.call(put.clone(), None).await.unwrap();
        assert!(endorsed.endorsement.is_some());
        let evaluate = EvaluateRequest {
            proposed_transaction: Some(put.clone()),
            ..Default::default()
        };
        let answer = calls.call(evaluate, None).await.unwrap();
        assert_eq!(answer.result.unwrap().payload, "value");

        let endorse = EndorseRequest {
            channel_id: "trade".into(),
            proposed_transaction: Some(put),
            ..Default::default()
        };
        let limit = Some(Duration::from_secs(60));
        let mut envelope = calls
            .call(endorse, limit)
            .await
            .unwrap()
            .prepared_transaction
            .unwrap();
        envelope.signature = client.sign(&envelope.payload).unwrap();
        let request = CommitStatusRequest {
            transaction_id: selvedge_proto::channel_header(&envelope).unwrap().tx_id,
            channel_id: "trade".into(),
            identity: client.creator().clone(),
        };
        let request = Bytes::from(request.encode_to_vec());
        let status = SignedCommitStatusRequest {
            signature: client.sign(&request).unwrap(),
            request,
        };
        let submit = SubmitRequest {
            channel_id: "trade".into(),
            prepared_transaction: Some(envelope),
            ..Default::default()
        };
        let (status, submitted) = tokio::join!(calls.call(status, limit), calls.call(submit, limit));
        submitted.unwrap();
        assert_eq!(status.unwrap().result, TxValidationCode::Valid as i32);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn refusals_are_those_of_single_calls() {
        let world = world(0).await;
        world.deploy().await;
        let (calls, client) = (calls_to(&world).await, world.client());
        let refused = ask("trade", "cc", &[b"a function with a long name"]);
        let singly = world.endorse(&client, &refused, &[]).await.unwrap_err();
        let endorse = EndorseRequest {
            channel_id: "trade".into(),
            proposed_transaction: Some(proposal(&client, &refused)),
            ..Default::default()
        };
        let Err(NoAnswer::Failed(streamed)) = calls.call(endorse, None).await else {
            panic!("the contract refuses");
        };
        assert_eq!(
            (streamed.code(), streamed.message(), streamed.details()),
            (singly.code(), singly.message(), singly.details())
        );
        // The limit holds for one call and leaves the others alone.
        let request = CommitStatusRequest {
            transaction_id: "0".repeat(64),
            channel_id: "trade".into(),
            identity: client.creator().clone(),
        };
        let request = Bytes::from(request.encode_to_vec());
        let never = SignedCommitStatusRequest {
            signature: client.sign(&request).unwrap(),
            request,
        };
        let late = calls.call(never.clone(), Some(Duration::from_millis(50))).await;
        assert!(matches!(late, Err(NoAnswer::Failed(s)) if s.code() == tonic::Code::DeadlineExceeded));
        // Who waits when the peer ends is told so.
        let (waiting, ()) = tokio::join!(calls.call(never, None), async {
            let put = proposal(&client, &ask("trade", "cc", &[b"put"]));
            calls.call(put, None).await.unwrap();
            world.shutdown.cancel();
        });
        assert!(matches!(waiting, Err(NoAnswer::Failed(s)) if s.code() == tonic::Code::Unavailable));
    }
}
