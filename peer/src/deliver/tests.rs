//! Streams of blocks over a real connection.

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use selvedge_comm::Endpoint;
use selvedge_msp::SigningIdentity;
use selvedge_proto::protos::deliver_client::DeliverClient;
use selvedge_proto::protos::deliver_response::Type as Delivered;
use selvedge_proto::{common, orderer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::gateway::test_world::{serve, world};
use crate::test_network::ask;

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
