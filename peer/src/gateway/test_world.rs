//! For tests: the gateway of one peer, with a second peer behind gRPC and an orderer that makes a block of every envelope.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prost::Message;
use selvedge_comm::{bind, serve_grpc};
use selvedge_msp::SigningIdentity;
use selvedge_proto::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::protos::endorser_server::EndorserServer;
use selvedge_proto::{common, gateway, lifecycle, orderer, protos, transaction_action};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::deliver::DeliverService;
use crate::endorser::EndorseOutcome;
use crate::test_network::{Ask, Consortium, ask, proposal};

/// Writes `key`, emits the event `written`, answers `value`; refuses when its input is longer than 20 bytes.
const CONTRACT: &str = r#"(module
  (import "selvedge_v1" "input" (func $input (result i32)))
  (import "selvedge_v1" "put_state" (func $put (param i32 i32 i32 i32) (result i32)))
  (import "selvedge_v1" "set_event" (func $event (param i32 i32 i32 i32) (result i32)))
  (import "selvedge_v1" "respond" (func $respond (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "key") (data (i32.const 16) "value") (data (i32.const 32) "written")
  (data (i32.const 48) "no such thing")
  (func (export "selvedge_abi_v1") (result i32) (i32.const 1))
  (func (export "selvedge_invoke")
    (if (i32.gt_u (call $input) (i32.const 20))
      (then (call $respond (i32.const 404) (i32.const 48) (i32.const 13) (i32.const 0) (i32.const 0)))
      (else
        (drop (call $put (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 5)))
        (drop (call $event (i32.const 32) (i32.const 7) (i32.const 16) (i32.const 5)))
        (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 5))))))"#;

struct Orderer {
    consortium: Arc<Consortium>,
    /// Answers 503 so many times before it takes anything.
    electing: AtomicUsize,
}

type Answers<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Orderer {
    type BroadcastStream = Answers<orderer::BroadcastResponse>;
    type DeliverStream = Answers<orderer::DeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<tonic::Streaming<common::Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        let mut inbound = request.into_inner();
        let (answers, outbound) = mpsc::channel(4);
        let consortium = Arc::clone(&self.consortium);
        let electing = self
            .electing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        tokio::spawn(async move {
            while let Ok(Some(envelope)) = inbound.message().await {
                let status = if electing.is_ok() {
                    common::Status::ServiceUnavailable
                } else if selvedge_proto::channel_header(&envelope)
                    .is_ok_and(|header| header.channel_id != consortium.channel)
                {
                    common::Status::BadRequest
                } else {
                    let (consortium, data) = (Arc::clone(&consortium), Bytes::from(envelope.encode_to_vec()));
                    tokio::task::spawn_blocking(move || consortium.commit(vec![data]))
                        .await
                        .unwrap();
                    common::Status::Success
                };
                let answer = orderer::BroadcastResponse {
                    status: status as i32,
                    info: "said so".into(),
                };
                if answers.send(Ok(answer)).await.is_err() || status != common::Status::Success {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }

    async fn deliver(
        &self,
        _: Request<tonic::Streaming<common::Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }
}

/// What the second peer answers.
pub(crate) enum Second {
    /// What it computed.
    Honest,
    /// Another result than it computed, properly signed.
    Lies,
    /// So often, that it does not know of what the proposal builds on.
    Behind(AtomicUsize),
}

struct Remote {
    consortium: Arc<Consortium>,
    answers: Second,
}

#[tonic::async_trait]
impl protos::endorser_server::Endorser for Remote {
    async fn process_proposal(
        &self,
        request: Request<protos::SignedProposal>,
    ) -> Result<Response<protos::ProposalResponse>, Status> {
        let outcome = self.consortium.endorsers[1]
            .process_proposal(request.into_inner())
            .await;
        let EndorseOutcome::Answered(mut answer) = outcome else {
            return Err(Status::unknown("refused"));
        };
        if let Second::Behind(times) = &self.answers
            && times
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        {
            return Ok(Response::new(protos::ProposalResponse {
                response: Some(protos::Response {
                    status: 404,
                    message: "not yet".into(),
                    payload: Bytes::new(),
                }),
                ..Default::default()
            }));
        }
        if matches!(self.answers, Second::Lies) && answer.endorsement.is_some() {
            let mut payload = protos::ProposalResponsePayload::decode(answer.payload).unwrap();
            let mut action = protos::ChaincodeAction::decode(payload.extension).unwrap();
            action.response.as_mut().unwrap().payload = Bytes::from_static(b"lie");
            payload.extension = action.encode_to_vec().into();
            answer.payload = payload.encode_to_vec().into();
            let identity = self.consortium.peers[1].identity();
            let endorser = identity.creator().clone();
            let signature = identity
                .sign(&[answer.payload.as_ref(), &endorser].concat())
                .unwrap();
            answer.endorsement = Some(protos::Endorsement { endorser, signature });
        }
        Ok(Response::new(*answer))
    }
}

pub(crate) struct World {
    pub(crate) consortium: Arc<Consortium>,
    pub(crate) gateway: GatewayService,
    pub(crate) deliver: DeliverService,
    pub(crate) shutdown: CancellationToken,
    remote: CancellationToken,
    remote_ended: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.remote.cancel();
    }
}

pub(crate) async fn serve(routes: tonic::service::Routes, stop: CancellationToken) -> String {
    serve_noting(routes, stop).await.0
}

/// As [`serve`], with a token that is cancelled when the server has ended.
async fn serve_noting(
    routes: tonic::service::Routes,
    stop: CancellationToken,
) -> (String, CancellationToken) {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ended = CancellationToken::new();
    let end = ended.clone();
    tokio::spawn(async move {
        let served = serve_grpc(listener, None, routes, stop.cancelled_owned()).await;
        end.cancel();
        served
    });
    (address, ended)
}

/// `electing`: how often the orderer says that it has no leader.
pub(crate) async fn world(electing: usize) -> World {
    world_with(electing, Second::Honest).await
}

/// As [`world`], where the second peer answers so.
pub(crate) async fn world_with(electing: usize, answers: Second) -> World {
    let consortium = tokio::task::spawn_blocking(|| Arc::new(Consortium::new()))
        .await
        .unwrap();
    let (shutdown, remote) = (CancellationToken::new(), CancellationToken::new());
    let orderer = AtomicBroadcastServer::new(Orderer {
        consortium: Arc::clone(&consortium),
        electing: electing.into(),
    });
    let orderer = serve(tonic::service::Routes::new(orderer), shutdown.clone()).await;
    let (peer1, remote_ended) = serve_noting(
        tonic::service::Routes::new(EndorserServer::new(Remote {
            consortium: Arc::clone(&consortium),
            answers,
        })),
        remote.clone(),
    )
    .await;
    let text = format!(
        "id: p0\nmsp_id: Org1MSP\nmsp_dir: m\nlisten: 127.0.0.1:0\nexternal_address: peer0.org1:7051\ndata_dir: d\n\
         gateway: {{peers: [{{address: '{peer1}', msp_id: Org2MSP}}]}}\n\
         address_overrides: {{'127.0.0.1:7050': '{orderer}'}}\n"
    );
    let config = PeerConfig::from_yaml(&text, std::path::Path::new("/")).unwrap();
    let context: Arc<dyn PeerContext> = Arc::clone(&consortium.peers[0]) as Arc<dyn PeerContext>;
    let endorser = consortium.endorsers[0].clone();
    let gateway = GatewayService::new(
        &config,
        GatewayParts {
            context: Arc::clone(&context),
            runtime: Arc::clone(endorser.runtime()),
            endorser,
            dialling: Dialling {
                identity: None,
                overrides: config.address_overrides.clone(),
            },
            shutdown: shutdown.clone(),
        },
    );
    let deliver = DeliverService::new(context, false, 10, shutdown.clone());
    World {
        consortium,
        gateway,
        deliver,
        shutdown,
        remote,
        remote_ended,
    }
}

impl World {
    /// Ends the second peer.
    pub(crate) async fn end_remote(&self) {
        self.remote.cancel();
        self.remote_ended.cancelled().await;
    }

    pub(crate) async fn endorse(
        &self,
        signer: &SigningIdentity,
        ask: &Ask,
        orgs: &[&str],
    ) -> Result<common::Envelope, Status> {
        let request = EndorseRequest {
            channel_id: ask.channel.clone(),
            proposed_transaction: Some(proposal(signer, ask)),
            endorsing_organizations: orgs.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        };
        let endorsed = self.gateway.endorse(Request::new(request)).await?.into_inner();
        let mut envelope = endorsed.prepared_transaction.unwrap();
        envelope.signature = signer.sign(&envelope.payload).unwrap();
        Ok(envelope)
    }

    pub(crate) async fn submit(&self, envelope: &common::Envelope) -> Result<(), Status> {
        let request = SubmitRequest {
            channel_id: self.consortium.channel.clone(),
            prepared_transaction: Some(envelope.clone()),
            ..Default::default()
        };
        self.gateway.submit(Request::new(request)).await.map(drop)
    }

    pub(crate) async fn status(
        &self,
        signer: &SigningIdentity,
        envelope: &common::Envelope,
    ) -> Result<CommitStatusResponse, Status> {
        let request = gateway::CommitStatusRequest {
            transaction_id: selvedge_proto::channel_header(envelope).unwrap().tx_id,
            channel_id: self.consortium.channel.clone(),
            identity: signer.creator().clone(),
        };
        let request = Bytes::from(request.encode_to_vec());
        let signed = SignedCommitStatusRequest {
            signature: signer.sign(&request).unwrap(),
            request,
        };
        let status = self.gateway.commit_status(Request::new(signed)).await?;
        Ok(status.into_inner())
    }

    pub(crate) async fn run(
        &self,
        signer: &SigningIdentity,
        ask: &Ask,
        orgs: &[&str],
    ) -> (Bytes, CommitStatusResponse) {
        let envelope = self.endorse(signer, ask, orgs).await.unwrap();
        // Waiting begins before the transaction is on its way.
        let (submitted, status) = tokio::join!(self.submit(&envelope), self.status(signer, &envelope));
        submitted.unwrap();
        let result = transaction_action(envelope.payload)
            .unwrap()
            .response
            .unwrap()
            .payload;
        (result, status.unwrap())
    }

    pub(crate) async fn deploy(&self) {
        let package_id = self
            .consortium
            .install("cc_1", &wat::parse_str(CONTRACT).unwrap());
        let approve = lifecycle::ApproveChaincodeDefinitionForMyOrgArgs {
            sequence: 1,
            name: "cc".into(),
            version: "1".into(),
            source: Some(lifecycle::ChaincodeSource {
                r#type: Some(lifecycle::chaincode_source::Type::LocalPackage(
                    lifecycle::chaincode_source::Local { package_id },
                )),
            }),
            ..Default::default()
        };
        let approve = approve.encode_to_vec();
        let approve = ask(
            "trade",
            "_lifecycle",
            &[b"ApproveChaincodeDefinitionForMyOrg", &approve],
        );
        // The own organisation's approval needs no hint: its implicit collection says who endorses.
        let (_, own) = self.run(&self.consortium.orgs[0].admin(), &approve, &[]).await;
        assert_eq!(own.result, TxValidationCode::Valid as i32);
        let (_, other) = self
            .run(&self.consortium.orgs[1].admin(), &approve, &["Org2MSP"])
            .await;
        assert_eq!(other.result, TxValidationCode::Valid as i32);
        let commit = lifecycle::CommitChaincodeDefinitionArgs {
            sequence: 1,
            name: "cc".into(),
            version: "1".into(),
            ..Default::default()
        };
        let commit = ask(
            "trade",
            "_lifecycle",
            &[b"CommitChaincodeDefinition", &commit.encode_to_vec()],
        );
        let (_, committed) = self.run(&self.consortium.orgs[0].admin(), &commit, &[]).await;
        assert_eq!(committed.result, TxValidationCode::Valid as i32);
        assert_eq!(committed.block_number, 3);
    }

    pub(crate) fn client(&self) -> SigningIdentity {
        self.consortium.orgs[0].client("user", &[])
    }
}
