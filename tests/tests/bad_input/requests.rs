//! Requests that are malformed, incomplete, too large, or about a channel or chaincode that is not there.

use bytes::Bytes;
use prost::Message;
use selvedge_proto::{common, gateway, orderer, protos};
use selvedge_sdk::{EventsFrom, Invocation};
use selvedge_system_tests::raw;
use selvedge_system_tests::{CHANNEL, Cases, Network, ORG1_PEER, eventually};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use super::{
    ABSOLUTE_MAX_BYTES, BUYER, assert_rpc, assert_status, channel, gateway_client, put, refused_by_orderer,
    then_alive,
};

const GARBAGE: Bytes = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);

pub(crate) async fn all(network: &Network, cases: &mut Cases) {
    cases
        .run("bytes that are no TLS", then_alive(network, no_tls(network)))
        .await;
    cases
        .run(
            "messages that do not decode",
            then_alive(network, undecodable(network)),
        )
        .await;
    cases
        .run(
            "incomplete requests to the gateway",
            then_alive(network, incomplete(network)),
        )
        .await;
    cases
        .run(
            "a channel that is not there",
            then_alive(network, wrong_channel(network)),
        )
        .await;
    cases
        .run(
            "a chaincode that is not there",
            then_alive(network, wrong_chaincode(network)),
        )
        .await;
    cases
        .run(
            "an organisation that is not there",
            then_alive(network, wrong_organisation(network)),
        )
        .await;
    cases
        .run(
            "messages that are too large",
            then_alive(network, oversize(network)),
        )
        .await;
    cases
        .run(
            "envelopes that no orderer takes",
            then_alive(network, envelopes(network)),
        )
        .await;
}

async fn no_tls(network: &Network) {
    let mut hosts = network.peers();
    hosts.extend(network.orderers());
    for host in hosts {
        let address = network.address(&host);
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0; 4096],
            &[0x16, 0x03, 0x01, 0xff, 0xff],
        ] {
            let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            // Whether it answers with an alert or hangs up is its own business, but it has to end the connection once
            // the caller has said all.
            socket.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
            assert!(
                read.is_ok(),
                "{host} keeps a connection open on which nonsense came"
            );
        }
    }
}

async fn undecodable(network: &Network) {
    for method in [
        "/gateway.Gateway/Evaluate",
        "/gateway.Gateway/Endorse",
        "/gateway.Gateway/Submit",
        "/gateway.Gateway/CommitStatus",
        "/protos.Endorser/ProcessProposal",
    ] {
        let status = raw::unary(channel(network, ORG1_PEER), method, GARBAGE)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{method}: {status:?}");
    }
    let status = raw::unary(
        channel(network, ORG1_PEER),
        "/gateway.Gateway/Nothing",
        Bytes::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status:?}");
    let ordering = network.orderers().remove(0);
    for (host, method) in [
        (ORG1_PEER, "/protos.Deliver/Deliver"),
        (ORG1_PEER, "/protos.Deliver/DeliverFiltered"),
        (ORG1_PEER, "/protos.Deliver/DeliverWithPrivateData"),
        (ordering.as_str(), "/orderer.AtomicBroadcast/Deliver"),
    ] {
        let opened = raw::streaming(channel(network, host), method, tokio_stream::iter([GARBAGE])).await;
        let status = match opened {
            Ok(mut stream) => stream.message().await,
            Err(status) => Err(status),
        };
        assert_eq!(status.unwrap_err().code(), Code::Internal, "{method}");
    }
    let method = "/orderer.AtomicBroadcast/Broadcast";
    let opened = raw::streaming(channel(network, &ordering), method, tokio_stream::iter([GARBAGE])).await;
    let answer = opened.unwrap().message().await.unwrap().expect("an answer");
    let answer = orderer::BroadcastResponse::decode(answer).unwrap();
    assert_eq!(answer.status, common::Status::BadRequest as i32, "{answer:?}");
}

async fn incomplete(network: &Network) {
    let mut client = gateway_client(network);
    let nothing = client
        .evaluate(gateway::EvaluateRequest::default())
        .await
        .unwrap_err();
    assert_status(
        "evaluate nothing",
        &nothing,
        Code::InvalidArgument,
        "an evaluate request is required",
    );
    let nothing = client
        .endorse(gateway::EndorseRequest::default())
        .await
        .unwrap_err();
    let text = "the proposed transaction must contain a signed proposal";
    assert_status("endorse nothing", &nothing, Code::InvalidArgument, text);

    let garbled = protos::SignedProposal {
        proposal_bytes: GARBAGE,
        signature: Bytes::from_static(b"s"),
    };
    let headless = protos::Proposal {
        header: Bytes::new(),
        payload: GARBAGE,
        ..Default::default()
    };
    let headless = protos::SignedProposal {
        proposal_bytes: headless.encode_to_vec().into(),
        signature: Bytes::from_static(b"s"),
    };
    for proposal in [garbled, headless] {
        let text = "failed to unpack transaction proposal: ";
        let request = gateway::EvaluateRequest {
            proposed_transaction: Some(proposal.clone()),
            ..Default::default()
        };
        let status = client.evaluate(request).await.unwrap_err();
        assert_status("evaluate", &status, Code::InvalidArgument, text);
        let request = gateway::EndorseRequest {
            proposed_transaction: Some(proposal),
            ..Default::default()
        };
        let status = client.endorse(request).await.unwrap_err();
        assert_status("endorse", &status, Code::InvalidArgument, text);
    }

    let nothing = client
        .submit(gateway::SubmitRequest::default())
        .await
        .unwrap_err();
    assert_status(
        "submit nothing",
        &nothing,
        Code::InvalidArgument,
        "a prepared transaction is required",
    );
    let unsigned = common::Envelope {
        payload: GARBAGE,
        signature: Bytes::new(),
    };
    let request = gateway::SubmitRequest {
        channel_id: CHANNEL.to_owned(),
        prepared_transaction: Some(unsigned),
        ..Default::default()
    };
    let status = client.submit(request).await.unwrap_err();
    assert_status(
        "submit unsigned",
        &status,
        Code::InvalidArgument,
        "prepared transaction must be signed",
    );

    commit_status_requests(network).await;
    events_requests(network).await;
}

async fn commit_status_requests(network: &Network) {
    let user = network.identity(BUYER);
    let mut client = gateway_client(network);
    let mut ask = async |request: Bytes, signature: Bytes| {
        client
            .commit_status(gateway::SignedCommitStatusRequest { request, signature })
            .await
            .unwrap_err()
    };
    let status = ask(Bytes::new(), Bytes::new()).await;
    assert_status(
        "no request",
        &status,
        Code::InvalidArgument,
        "a commit status request is required",
    );
    let status = ask(GARBAGE, Bytes::new()).await;
    assert_status(
        "garbled request",
        &status,
        Code::InvalidArgument,
        "invalid status request: ",
    );

    let whole = gateway::CommitStatusRequest {
        transaction_id: "00".repeat(32),
        channel_id: CHANNEL.to_owned(),
        identity: user.creator().clone(),
    };
    for (request, text) in [
        (
            gateway::CommitStatusRequest {
                identity: Bytes::new(),
                ..whole.clone()
            },
            "no identity provided",
        ),
        (
            gateway::CommitStatusRequest {
                channel_id: String::new(),
                ..whole.clone()
            },
            "no channel ID provided",
        ),
        (
            gateway::CommitStatusRequest {
                transaction_id: String::new(),
                ..whole.clone()
            },
            "transaction ID should not be empty",
        ),
    ] {
        let request = Bytes::from(request.encode_to_vec());
        let signature = user.sign(&request).unwrap();
        assert_status(text, &ask(request, signature).await, Code::InvalidArgument, text);
    }
    let request = Bytes::from(whole.encode_to_vec());
    let forged = user.sign(b"something else").unwrap();
    let status = ask(request, forged).await;
    assert_status(
        "forged request",
        &status,
        Code::PermissionDenied,
        "permission denied",
    );
}

async fn events_requests(network: &Network) {
    let user = network.identity(BUYER);
    let mut client = gateway_client(network);
    let mut ask = async |request: Bytes, signature: Bytes| {
        let signed = gateway::SignedChaincodeEventsRequest { request, signature };
        match client.chaincode_events(signed).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        }
    };
    let status = ask(Bytes::new(), Bytes::new()).await;
    assert_status(
        "no request",
        &status,
        Code::InvalidArgument,
        "a chaincode events request is required",
    );
    let status = ask(GARBAGE, Bytes::new()).await;
    assert_status(
        "garbled request",
        &status,
        Code::InvalidArgument,
        "invalid chaincode events request: ",
    );
    let oldest = orderer::seek_position::Type::Oldest(orderer::SeekOldest {});
    let request = gateway::ChaincodeEventsRequest {
        channel_id: CHANNEL.to_owned(),
        chaincode_id: "probe".to_owned(),
        identity: user.creator().clone(),
        start_position: Some(orderer::SeekPosition { r#type: Some(oldest) }),
        ..Default::default()
    };
    let request = Bytes::from(request.encode_to_vec());
    let status = ask(request.clone(), user.sign(&request).unwrap()).await;
    assert_status(
        "an odd start",
        &status,
        Code::InvalidArgument,
        "invalid start position type",
    );
    let status = ask(request, user.sign(b"something else").unwrap()).await;
    assert_status(
        "forged request",
        &status,
        Code::PermissionDenied,
        "permission denied",
    );
}

async fn wrong_channel(network: &Network) {
    let gateway = network.gateway(BUYER);
    let call = Invocation::new("elsewhere", "probe", "get").arg("k");
    let error = gateway.evaluate(&call).await.unwrap_err();
    assert_rpc("evaluate", &error, Code::Unavailable, "elsewhere", None);
    let error = gateway
        .endorse(&gateway.propose(&call).unwrap())
        .await
        .unwrap_err();
    assert_rpc("endorse", &error, Code::FailedPrecondition, "elsewhere", None);
    let error = gateway
        .commit_status("elsewhere", &"00".repeat(32))
        .await
        .unwrap_err();
    assert_rpc(
        "commit status",
        &error,
        Code::PermissionDenied,
        "permission denied",
        None,
    );
    // Whether the check of the right or the look-up says it first is Fabric's version's business (spec 04 §2.7).
    let events = match gateway
        .chaincode_events("elsewhere", "probe", EventsFrom::Now)
        .await
    {
        Ok(mut events) => events.next().await.map(drop),
        Err(error) => Err(error),
    };
    let text = events.unwrap_err().to_string();
    assert!(
        text.contains("PermissionDenied") || text.contains("NotFound"),
        "{text}"
    );
    // The endorser itself: an answer with status 500 and no gRPC error (spec 08 §1).
    let proposal = gateway.propose(&call).unwrap();
    let response = network
        .peer(ORG1_PEER)
        .process_proposal(&proposal)
        .await
        .unwrap()
        .response
        .unwrap();
    assert_eq!(
        (response.status, response.message.as_str()),
        (500, "channel 'elsewhere' not found")
    );

    // An envelope made for another channel, submitted for it: the orderer does not know it.
    let user = network.identity(BUYER);
    let payload = selvedge_sdk::seek_payload(
        user.creator(),
        "elsewhere",
        selvedge_sdk::Seek::newest(),
        std::time::SystemTime::now(),
        None,
    );
    let envelope = common::Envelope {
        signature: user.sign(&payload).unwrap(),
        payload,
    };
    refused_by_orderer(
        network,
        "unknown channel",
        envelope,
        common::Status::BadRequest,
        "channel does not exist",
    )
    .await;
}

async fn wrong_chaincode(network: &Network) {
    let gateway = network.gateway(BUYER);
    let call = Invocation::new(CHANNEL, "nothing", "f").arg("1");
    let error = gateway.evaluate(&call).await.unwrap_err();
    let text = format!("no peers available to evaluate chaincode nothing in channel {CHANNEL}");
    assert_rpc("evaluate", &error, Code::FailedPrecondition, &text, None);
    let error = gateway
        .endorse(&gateway.propose(&call).unwrap())
        .await
        .unwrap_err();
    let text = "no combination of peers can be derived which satisfy the endorsement policy";
    assert_rpc("endorse", &error, Code::FailedPrecondition, text, None);
    let proposal = gateway.propose(&call).unwrap();
    let response = network
        .peer(ORG1_PEER)
        .process_proposal(&proposal)
        .await
        .unwrap()
        .response
        .unwrap();
    let text = format!(
        "make sure the chaincode nothing has been successfully defined on channel {CHANNEL} and try again"
    );
    assert_eq!(response.status, 500);
    assert!(response.message.starts_with(&text), "{}", response.message);
}

async fn wrong_organisation(network: &Network) {
    let gateway = network.gateway(BUYER);
    let call = put().endorsing_orgs(["Org9MSP", "Org1MSP"]);
    let error = gateway
        .endorse(&gateway.propose(&call).unwrap())
        .await
        .unwrap_err();
    let text = "failed to find any endorsing peers for org(s): Org9MSP";
    assert_rpc("endorse", &error, Code::Unavailable, text, None);
}

async fn oversize(network: &Network) {
    // Beyond what a message may be (spec 01 A.3): gRPC itself refuses it.
    let huge = protos::SignedProposal {
        proposal_bytes: Bytes::from(vec![0x0a; 101 * 1024 * 1024]),
        signature: Bytes::from_static(b"s"),
    };
    let request = gateway::EvaluateRequest {
        proposed_transaction: Some(huge),
        ..Default::default()
    };
    let status = gateway_client(network).evaluate(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange),
        "a message of 101 MiB is refused as too large, not with {status:?}"
    );

    // Beyond what a block may hold: endorsed, and refused by the orderer.
    let gateway = network.gateway(BUYER);
    let value = vec![b'x'; ABSOLUTE_MAX_BYTES as usize + 1];
    let call = Invocation::new(CHANNEL, "probe", "put").arg("large").arg(value);
    let transaction = gateway.endorse(&gateway.propose(&call).unwrap()).await.unwrap();
    let error = gateway.submit(&transaction).await.unwrap_err();
    let text = "received unsuccessful response from orderer: status=BAD_REQUEST, info=message payload is ";
    assert_rpc("submit", &error, Code::Aborted, text, None);
    let text = format!("exceeds maximum allowed {ABSOLUTE_MAX_BYTES} bytes");
    assert!(error.to_string().contains(&text), "{error}");
    let get = Invocation::new(CHANNEL, "probe", "get").arg("large");
    assert_eq!(
        gateway
            .evaluate(&get)
            .await
            .unwrap_err()
            .contract_refusal()
            .unwrap()
            .0,
        404
    );
}

async fn envelopes(network: &Network) {
    use common::Status::{BadRequest, Forbidden};
    let user = network.identity(BUYER);
    let gateway = network.gateway(BUYER);
    let good = gateway
        .endorse(&gateway.propose(&put()).unwrap())
        .await
        .unwrap()
        .envelope()
        .clone();
    let of_type = |kind: common::HeaderType| {
        let mut payload = common::Payload::decode(good.payload.clone()).unwrap();
        let header = payload.header.as_mut().unwrap();
        let mut channel_header = common::ChannelHeader::decode(header.channel_header.clone()).unwrap();
        channel_header.r#type = kind as i32;
        header.channel_header = channel_header.encode_to_vec().into();
        let payload = Bytes::from(payload.encode_to_vec());
        common::Envelope {
            signature: user.sign(&payload).unwrap(),
            payload,
        }
    };
    let forged = common::Envelope {
        signature: user.sign(b"something else").unwrap(),
        ..good.clone()
    };
    let unsigned = common::Envelope {
        signature: Bytes::new(),
        ..good.clone()
    };
    let garbled = common::Envelope {
        payload: GARBAGE,
        signature: GARBAGE,
    };
    for (what, envelope, status, text) in [
        ("nothing", common::Envelope::default(), BadRequest, ""),
        ("garbage", garbled, BadRequest, ""),
        ("a wrong signature", forged, Forbidden, "permission denied"),
        ("no signature", unsigned, Forbidden, "permission denied"),
        (
            "a configuration",
            of_type(common::HeaderType::Config),
            BadRequest,
            "cannot be processed directly",
        ),
        (
            "an outdated type",
            of_type(common::HeaderType::OrdererTransaction),
            BadRequest,
            "no longer supported",
        ),
        (
            "an update that is none",
            of_type(common::HeaderType::ConfigUpdate),
            BadRequest,
            "",
        ),
    ] {
        refused_by_orderer(network, what, envelope, status, text).await;
    }
    not_canonical(network, &good).await;
}

/// An envelope whose fields come in another order is the same to a reader; the orderer puts it into the block in the
/// canonical form (spec 02 §6), or else every peer would refuse the block.
async fn not_canonical(network: &Network, good: &common::Envelope) {
    let mut swapped = Vec::new();
    swapped.extend(
        common::Envelope {
            payload: Bytes::new(),
            signature: good.signature.clone(),
        }
        .encode_to_vec(),
    );
    swapped.extend(
        common::Envelope {
            payload: good.payload.clone(),
            signature: Bytes::new(),
        }
        .encode_to_vec(),
    );
    let host = network.orderers().remove(0);
    let method = "/orderer.AtomicBroadcast/Broadcast";
    let stream = raw::streaming(
        channel(network, &host),
        method,
        tokio_stream::iter([Bytes::from(swapped)]),
    )
    .await;
    let answer = stream.unwrap().message().await.unwrap().expect("an answer");
    let answer = orderer::BroadcastResponse::decode(answer).unwrap();
    assert_eq!(answer.status, common::Status::Success as i32, "{answer:?}");
    let id = selvedge_proto::channel_header(good).unwrap().tx_id;
    let status = network.gateway(BUYER).commit_status(CHANNEL, &id).await.unwrap();
    assert!(status.is_valid(), "{status:?}");
    eventually("the network goes on", Duration::from_secs(10), || {
        network.peer_height(ORG1_PEER)
    })
    .await;
}
