//! The gateway of one peer with a second peer behind gRPC and an orderer that makes a block of every envelope.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use selvedge_comm::{Endpoint, bind, serve_grpc};
use selvedge_msp::SigningIdentity;
use selvedge_proto::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::protos::deliver_client::DeliverClient;
use selvedge_proto::protos::deliver_response::Type as Delivered;
use selvedge_proto::{common, gateway, lifecycle, orderer, transaction_action};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;
use crate::deliver::DeliverService;
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
    electing: std::sync::atomic::AtomicUsize,
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
        let electing = self.electing.fetch_update(
            std::sync::atomic::Ordering::SeqCst,
            std::sync::atomic::Ordering::SeqCst,
            |n| n.checked_sub(1),
        );
        tokio::spawn(async move {
            while let Ok(Some(envelope)) = inbound.message().await {
                let status = if electing.is_ok() {
                    common::Status::ServiceUnavailable
                } else if envelope.signature == "bad" {
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

struct World {
    consortium: Arc<Consortium>,
    gateway: GatewayService,
    deliver: DeliverService,
    shutdown: CancellationToken,
    remote: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.remote.cancel();
    }
}

async fn serve(routes: tonic::service::Routes, stop: CancellationToken) -> String {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve_grpc(listener, None, routes, stop.cancelled_owned()));
    address
}

async fn world(electing: usize) -> World {
    let consortium = tokio::task::spawn_blocking(|| Arc::new(Consortium::new()))
        .await
        .unwrap();
    let (shutdown, remote) = (CancellationToken::new(), CancellationToken::new());
    let orderer = AtomicBroadcastServer::new(Orderer {
        consortium: Arc::clone(&consortium),
        electing: electing.into(),
    });
    let orderer = serve(tonic::service::Routes::new(orderer), shutdown.clone()).await;
    let peer1 = serve(
        tonic::service::Routes::new(consortium.endorsers[1].service()),
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
    }
}

impl World {
    async fn endorse(
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

    async fn submit(&self, envelope: &common::Envelope) -> Result<(), Status> {
        let request = SubmitRequest {
            channel_id: self.consortium.channel.clone(),
            prepared_transaction: Some(envelope.clone()),
            ..Default::default()
        };
        self.gateway.submit(Request::new(request)).await.map(drop)
    }

    async fn status(
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

    async fn run(&self, signer: &SigningIdentity, ask: &Ask, orgs: &[&str]) -> (Bytes, CommitStatusResponse) {
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

    async fn deploy(&self) {
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

    fn client(&self) -> SigningIdentity {
        self.consortium.orgs[0].client("user", &[])
    }
}

fn details(status: &Status) -> Vec<gateway::ErrorDetail> {
    let rpc = selvedge_proto::google::rpc::Status::decode(status.details()).unwrap();
    rpc.details
        .into_iter()
        .map(|any| gateway::ErrorDetail::decode(any.value.as_slice()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_deployment_to_events() {
    let world = world(0).await;
    world.deploy().await;
    let client = world.client();

    let (result, status) = world.run(&client, &ask("trade", "cc", &[b"put"]), &[]).await;
    assert_eq!(result, "value");
    assert_eq!(
        (status.result, status.block_number),
        (TxValidationCode::Valid as i32, 4)
    );

    let request = EvaluateRequest {
        proposed_transaction: Some(proposal(&client, &ask("trade", "cc", &[b"put"]))),
        ..Default::default()
    };
    let answer = world
        .gateway
        .evaluate(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.result.unwrap().payload, "value");

    let request = gateway::ChaincodeEventsRequest {
        channel_id: "trade".into(),
        chaincode_id: "cc".into(),
        identity: client.creator().clone(),
        start_position: Some(orderer::SeekPosition {
            r#type: Some(orderer::seek_position::Type::Specified(orderer::SeekSpecified {
                number: 0,
            })),
        }),
        after_transaction_id: String::new(),
    };
    let request = Bytes::from(request.encode_to_vec());
    let signed = SignedChaincodeEventsRequest {
        signature: client.sign(&request).unwrap(),
        request,
    };
    let mut events = world
        .gateway
        .chaincode_events(Request::new(signed))
        .await
        .unwrap()
        .into_inner();
    // One from the past, one that comes while listening.
    let past = events.next().await.unwrap().unwrap();
    assert_eq!((past.block_number, past.events.len()), (4, 1));
    assert_eq!(past.events[0].event_name, "written");
    let (coming, _) = tokio::join!(events.next(), async {
        world.run(&client, &ask("trade", "cc", &[b"put"]), &[]).await
    });
    assert_eq!(coming.unwrap().unwrap().block_number, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_contract_is_quoted() {
    let world = world(0).await;
    world.deploy().await;
    let refused = ask("trade", "cc", &[b"a function with a long name"]);
    let status = world.endorse(&world.client(), &refused, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let details = details(&status);
    assert_eq!(details.len(), 1);
    assert_eq!(details[0].address, "peer0.org1:7051");
    assert_eq!(details[0].msp_id, "Org1MSP");
    assert_eq!(details[0].message, "chaincode response 404, no such thing");

    let request = EvaluateRequest {
        proposed_transaction: Some(proposal(&world.client(), &refused)),
        ..Default::default()
    };
    let status = world.gateway.evaluate(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(
        status.message(),
        "evaluate call to endorser returned error: chaincode response 404, no such thing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endorser_that_is_away_is_named() {
    let world = world(0).await;
    world.deploy().await;
    world.remote.cancel();
    let put = ask("trade", "cc", &[b"put"]);
    let status = world.endorse(&world.client(), &put, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        status.message(),
        "failed to collect enough transaction endorsements, see attached details for more info"
    );
    assert_eq!(details(&status)[0].msp_id, "Org2MSP");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_said_so() {
    let world = world(0).await;
    let client = world.client();
    let nowhere = world
        .endorse(&client, &ask("elsewhere", "cc", &[b"put"]), &[])
        .await;
    assert_eq!(nowhere.unwrap_err().code(), Code::FailedPrecondition);
    let nothing = world.endorse(&client, &ask("trade", "cc", &[b"put"]), &[]).await;
    let nothing = nothing.unwrap_err();
    assert_eq!(nothing.code(), Code::FailedPrecondition);
    assert!(
        nothing
            .message()
            .contains("No metadata was found for chaincode cc in channel trade"),
        "{nothing}"
    );
    let request = EvaluateRequest {
        proposed_transaction: Some(proposal(&client, &ask("trade", "cc", &[b"get"]))),
        ..Default::default()
    };
    let nothing = world.gateway.evaluate(Request::new(request)).await.unwrap_err();
    assert_eq!(nothing.code(), Code::FailedPrecondition);
    assert_eq!(
        nothing.message(),
        "no peers available to evaluate chaincode cc in channel trade"
    );
    let nobody = world
        .endorse(&client, &ask("trade", "cc", &[b"put"]), &["Org9MSP"])
        .await;
    assert_eq!(
        nobody.unwrap_err().message(),
        "failed to find any endorsing peers for org(s): Org9MSP"
    );
    let stranger = crate::test_network::Org::new("StrangerMSP", "stranger").client("x", &[]);
    let envelope = world
        .endorse(&client, &ask("trade", "qscc", &[b"GetChainInfo", b"trade"]), &[])
        .await
        .unwrap();
    let denied = world.status(&stranger, &envelope).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_is_waited_out_and_a_refusal_is_final() {
    let world = world(2).await;
    let admin = world.consortium.orgs[0].admin();
    let envelope = world
        .endorse(&admin, &ask("trade", "qscc", &[b"GetChainInfo", b"trade"]), &[])
        .await
        .unwrap();
    world.submit(&envelope).await.unwrap();

    let unsigned = common::Envelope {
        signature: Bytes::new(),
        ..envelope.clone()
    };
    assert_eq!(
        world.submit(&unsigned).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let bad = common::Envelope {
        signature: Bytes::from_static(b"bad"),
        ..envelope
    };
    let status = world.submit(&bad).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(
        status.message(),
        "received unsuccessful response from orderer: status=BAD_REQUEST, info=said so"
    );
    assert_eq!(details(&status)[0].msp_id, "OrdererMSP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_wait_for_a_commit() {
    let world = world(0).await;
    let client = world.client();
    let request = gateway::CommitStatusRequest {
        transaction_id: "0".repeat(64),
        channel_id: "trade".into(),
        identity: client.creator().clone(),
    };
    let request = Bytes::from(request.encode_to_vec());
    let mut call = Request::new(SignedCommitStatusRequest {
        signature: client.sign(&request).unwrap(),
        request,
    });
    call.set_timeout(Duration::from_millis(50));
    let status = world.gateway.commit_status(call).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "context deadline exceeded");
}

fn seek(
    signer: &SigningIdentity,
    channel: &str,
    start: orderer::seek_position::Type,
    stop: u64,
) -> common::Envelope {
    let position = |r#type| Some(orderer::SeekPosition { r#type: Some(r#type) });
    let seek = orderer::SeekInfo {
        start: position(start),
        stop: position(orderer::seek_position::Type::Specified(orderer::SeekSpecified {
            number: stop,
        })),
        ..Default::default()
    };
    let channel_header = common::ChannelHeader {
        r#type: common::HeaderType::DeliverSeekInfo as i32,
        timestamp: Some(prost_types::Timestamp {
            seconds: crate::test_network::now(),
            nanos: 0,
        }),
        channel_id: channel.into(),
        ..Default::default()
    };
    let signature_header = common::SignatureHeader {
        creator: signer.creator().clone(),
        nonce: Bytes::new(),
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: seek.encode_to_vec().into(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    common::Envelope {
        signature: signer.sign(&payload).unwrap(),
        payload,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_delivered_from_the_past_into_the_future() {
    use orderer::seek_position::Type;
    let world = world(0).await;
    let routes = tonic::service::Routes::new(world.deliver.server());
    let address = serve(routes, world.shutdown.clone()).await;
    let mut deliver = DeliverClient::new(Endpoint::plain(address).connect().await.unwrap());
    let client = world.client();
    let oldest = || Type::Oldest(orderer::SeekOldest {});

    // The request side stays open, as the official clients leave it.
    let (requests, outgoing) = mpsc::channel(4);
    let request = seek(&client, "trade", oldest(), 1);
    requests.send(request).await.unwrap();
    let stream = deliver
        .deliver_filtered(ReceiverStream::new(outgoing))
        .await
        .unwrap();
    let mut stream = stream.into_inner();
    let mut next = async || stream.message().await.unwrap().map(|m| m.r#type.unwrap());
    let Some(Delivered::FilteredBlock(genesis)) = next().await else {
        panic!("block 0 is there");
    };
    assert_eq!((genesis.number, genesis.filtered_transactions.len()), (0, 1));

    let admin = world.consortium.orgs[0].admin();
    let info = ask("trade", "qscc", &[b"GetChainInfo", b"trade"]);
    let envelope = world.endorse(&admin, &info, &[]).await.unwrap();
    world.submit(&envelope).await.unwrap();
    let Some(Delivered::FilteredBlock(first)) = next().await else {
        panic!("block 1 has come");
    };
    assert_eq!(first.number, 1);
    assert_eq!(
        first.filtered_transactions[0].txid,
        selvedge_proto::channel_header(&envelope).unwrap().tx_id
    );
    assert_eq!(next().await, Some(Delivered::Status(200)));
    // After the last block, the same stream takes another request.
    let unknown = seek(&client, "elsewhere", oldest(), 1);
    requests.send(unknown).await.unwrap();
    assert_eq!(next().await, Some(Delivered::Status(404)));
    assert_eq!(next().await, None);

    let stranger = crate::test_network::Org::new("StrangerMSP", "stranger").client("x", &[]);
    for (request, expected) in [
        (seek(&stranger, "trade", oldest(), 1), 403),
        (common::Envelope::default(), 400),
    ] {
        let requests = futures::stream::iter([request]).chain(futures::stream::pending());
        let mut stream = deliver.deliver(requests).await.unwrap().into_inner();
        let answer = stream.message().await.unwrap().unwrap().r#type;
        assert_eq!(answer, Some(Delivered::Status(expected)));
    }
}
