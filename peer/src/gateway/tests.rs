//! The gateway's methods, from the call to the answer.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{common, gateway, orderer};
use tonic::Code;

use super::test_world::{Second, World, world, world_with};
use super::*;
use crate::test_network::{ask, proposal};

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

    use orderer::seek_position::Type as Position;
    let events_from = async |position: Position, after: &str| {
        let request = gateway::ChaincodeEventsRequest {
            channel_id: "trade".into(),
            chaincode_id: "cc".into(),
            identity: client.creator().clone(),
            start_position: Some(orderer::SeekPosition {
                r#type: Some(position),
            }),
            after_transaction_id: after.to_owned(),
        };
        let request = Bytes::from(request.encode_to_vec());
        let signed = SignedChaincodeEventsRequest {
            signature: client.sign(&request).unwrap(),
            request,
        };
        let events = world.gateway.chaincode_events(Request::new(signed)).await;
        events.map(tonic::Response::into_inner)
    };
    let first = Position::Specified(orderer::SeekSpecified { number: 0 });
    let mut events = events_from(first, "").await.unwrap();
    // One from the past, one that comes while listening.
    let past = events.next().await.unwrap().unwrap();
    assert_eq!((past.block_number, past.events.len()), (4, 1));
    assert_eq!(past.events[0].event_name, "written");
    let (coming, _) = tokio::join!(events.next(), async {
        world.run(&client, &ask("trade", "cc", &[b"put"]), &[]).await
    });
    assert_eq!(coming.unwrap().unwrap().block_number, 5);

    // A transaction that is known says where to begin, whatever the position says.
    let oldest = || Position::Oldest(orderer::SeekOldest {});
    let after = &past.events[0].tx_id;
    let mut events = events_from(oldest(), after).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().block_number, 5);
    let Err(refused) = events_from(oldest(), "unknown").await else {
        panic!("the oldest block is no place to begin");
    };
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
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
    world.end_remote().await;
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
async fn an_endorser_that_is_a_block_behind_is_asked_again() {
    let admin_asks_both = async |world: &World| {
        let admin = world.consortium.orgs[0].admin();
        let info = ask("trade", "qscc", &[b"GetChainInfo", b"trade"]);
        world.endorse(&admin, &info, &["Org1MSP", "Org2MSP"]).await
    };
    let world = world_with(0, Second::Behind(2.into())).await;
    let endorsed = admin_asks_both(&world).await.unwrap();
    let action = selvedge_proto::transaction_action(endorsed.payload).unwrap();
    assert_eq!(action.response.unwrap().status, 200);

    let world = world_with(0, Second::Behind(usize::MAX.into())).await;
    let status = admin_asks_both(&world).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let details = details(&status);
    assert_eq!((details.len(), details[0].msp_id.as_str()), (1, "Org2MSP"));
    assert_eq!(details[0].message, "chaincode response 404, not yet");
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
    // Signed by a member, and for a channel that the orderer does not serve.
    let mut payload = common::Payload::decode(envelope.payload).unwrap();
    let header = payload.header.as_mut().unwrap();
    let mut channel_header = common::ChannelHeader::decode(header.channel_header.clone()).unwrap();
    channel_header.channel_id = "elsewhere".into();
    header.channel_header = channel_header.encode_to_vec().into();
    let payload = Bytes::from(payload.encode_to_vec());
    let bad = common::Envelope {
        signature: admin.sign(&payload).unwrap(),
        payload,
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

#[tokio::test(flavor = "multi_thread")]
async fn an_endorser_that_differs_is_named_with_the_place() {
    let world = world_with(0, Second::Lies).await;
    let admin = world.consortium.orgs[0].admin();
    let info = ask("trade", "qscc", &[b"GetChainInfo", b"trade"]);
    let status = world
        .endorse(&admin, &info, &["Org1MSP", "Org2MSP"])
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    let details = details(&status);
    assert_eq!((details.len(), details[0].msp_id.as_str()), (1, "Org2MSP"));
    let message = &details[0].message;
    assert!(
        message.starts_with("ProposalResponsePayloads do not match: peer0.org1:7051 against "),
        "{message}"
    );
    assert!(
        message.contains("response payload: ") && message.ends_with("against \"lie\""),
        "{message}"
    );
}
