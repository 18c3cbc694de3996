//! The development network (all roles in one process), and what Deliver does for every kind of seek (spec 05 §4).
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;
use selvedge_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_proto::orderer::seek_info::SeekBehavior;
use selvedge_proto::orderer::seek_position::Type;
use selvedge_proto::protos::deliver_client::DeliverClient;
use selvedge_proto::{common, orderer, protos};
use selvedge_sdk::{ClientIdentity, Invocation};
use selvedge_system_tests::crooked::{Wish, rogue_authority};
use selvedge_system_tests::{CHANNEL, Network, ORG1_PEER, Options, case, checker, within};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

const USER: &str = "User1@org1.example.com";
const BAD_REQUEST: i32 = common::Status::BadRequest as i32;
const FORBIDDEN: i32 = common::Status::Forbidden as i32;
const NOT_FOUND: i32 = common::Status::NotFound as i32;
const SUCCESS: i32 = common::Status::Success as i32;

/// One kind of node that delivers.
#[derive(Debug, Clone)]
enum Source {
    Orderer(String),
    Peer(String),
}

/// What a stream gave: block numbers, then a status.
type Delivered = (Vec<u64>, Option<i32>);

#[derive(Debug)]
enum Part {
    Block(u64),
    Status(i32),
}

fn position(kind: Type) -> Option<orderer::SeekPosition> {
    Some(orderer::SeekPosition { r#type: Some(kind) })
}

fn at(number: u64) -> Option<orderer::SeekPosition> {
    position(Type::Specified(orderer::SeekSpecified { number }))
}

fn oldest() -> Option<orderer::SeekPosition> {
    position(Type::Oldest(orderer::SeekOldest {}))
}

fn newest() -> Option<orderer::SeekPosition> {
    position(Type::Newest(orderer::SeekNewest {}))
}

fn next_commit() -> Option<orderer::SeekPosition> {
    position(Type::NextCommit(orderer::SeekNextCommit {}))
}

fn seek(start: Option<orderer::SeekPosition>, stop: Option<orderer::SeekPosition>) -> orderer::SeekInfo {
    let behavior = SeekBehavior::FailIfNotReady as i32;
    orderer::SeekInfo {
        start,
        stop,
        behavior,
        ..Default::default()
    }
}

fn waiting(info: orderer::SeekInfo) -> orderer::SeekInfo {
    orderer::SeekInfo {
        behavior: SeekBehavior::BlockUntilReady as i32,
        ..info
    }
}

/// A signed request for blocks; `time` none leaves the time stamp out.
fn envelope(who: &ClientIdentity, channel: &str, data: Bytes, time: Option<SystemTime>) -> common::Envelope {
    let model = selvedge_sdk::seek_payload(
        who.creator(),
        channel,
        selvedge_sdk::Seek::newest(),
        time.unwrap_or(SystemTime::UNIX_EPOCH),
        None,
    );
    let mut payload = common::Payload::decode(model).unwrap();
    payload.data = data;
    if time.is_none() {
        let header = payload.header.as_mut().unwrap();
        let mut channel_header = common::ChannelHeader::decode(header.channel_header.clone()).unwrap();
        channel_header.timestamp = None;
        header.channel_header = channel_header.encode_to_vec().into();
    }
    let payload = Bytes::from(payload.encode_to_vec());
    common::Envelope {
        signature: who.sign(&payload).unwrap(),
        payload,
    }
}

fn request(who: &ClientIdentity, info: orderer::SeekInfo) -> common::Envelope {
    envelope(who, CHANNEL, info.encode_to_vec().into(), Some(SystemTime::now()))
}

struct Stream {
    requests: tokio::sync::mpsc::Sender<common::Envelope>,
    answers: std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<Part, tonic::Status>> + Send>>,
}

impl Source {
    async fn open(&self, network: &Network) -> Stream {
        let (requests, receiver) = tokio::sync::mpsc::channel(4);
        let requests_stream = ReceiverStream::new(receiver);
        match self {
            Source::Orderer(host) => {
                let channel = network.endpoint(host).connect_lazy().unwrap();
                let answers = AtomicBroadcastClient::new(channel)
                    .deliver(requests_stream)
                    .await
                    .unwrap()
                    .into_inner();
                let answers = answers.map(|m| {
                    m.map(|m| match m.r#type.unwrap() {
                        orderer::deliver_response::Type::Block(b) => Part::Block(b.header.unwrap().number),
                        orderer::deliver_response::Type::Status(s) => Part::Status(s),
                    })
                });
                Stream {
                    requests,
                    answers: Box::pin(answers),
                }
            }
            Source::Peer(host) => {
                let channel = network.endpoint(host).connect_lazy().unwrap();
                let answers = DeliverClient::new(channel)
                    .deliver(requests_stream)
                    .await
                    .unwrap()
                    .into_inner();
                let answers = answers.map(|m| {
                    m.map(|m| match m.r#type.unwrap() {
                        protos::deliver_response::Type::Block(b) => Part::Block(b.header.unwrap().number),
                        protos::deliver_response::Type::Status(s) => Part::Status(s),
                        other => panic!("not asked for: {other:?}"),
                    })
                });
                Stream {
                    requests,
                    answers: Box::pin(answers),
                }
            }
        }
    }

    /// Sends one request and reads up to the status that ends its answer.
    async fn ask(&self, network: &Network, request: common::Envelope) -> Delivered {
        let mut stream = self.open(network).await;
        stream.requests.send(request).await.unwrap();
        let delivered = stream.until_status().await;
        if delivered.1 != Some(SUCCESS) {
            let end = within(
                "the end of a refused stream",
                Duration::from_secs(5),
                stream.answers.next(),
            )
            .await;
            assert!(
                end.is_none(),
                "{self:?}: a refused stream ends in good order, not with {end:?}"
            );
        }
        delivered
    }
}

impl Stream {
    async fn next(&mut self) -> Part {
        let next = within(
            "a message of Deliver",
            Duration::from_secs(15),
            self.answers.next(),
        )
        .await;
        next.expect("the stream goes on").expect("no gRPC error")
    }

    async fn until_status(&mut self) -> Delivered {
        let mut blocks = Vec::new();
        loop {
            match self.next().await {
                Part::Block(number) => blocks.push(number),
                Part::Status(status) => return (blocks, Some(status)),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliver_and_the_network_in_one_process() {
    let options = Options {
        orderers: 1,
        one_process: true,
        authorities: true,
        ..Options::default()
    };
    let network = Network::up(options).await;
    let user = network.identity(USER);
    for host in network.peers() {
        network
            .gateway_at(USER, &host)
            .evaluate(&Invocation::new(CHANNEL, "rfq", "list"))
            .await
            .unwrap();
    }
    network.still_works().await;
    network.settled().await;

    let sources = [
        Source::Orderer(network.orderers().remove(0)),
        Source::Peer(ORG1_PEER.to_owned()),
    ];
    for source in &sources {
        case(
            &format!("places to seek: {source:?}"),
            places(&network, source, &user),
        )
        .await;
        case(
            &format!("blocks that are yet to come: {source:?}"),
            to_come(&network, source, &user),
        )
        .await;
        case(
            &format!("several requests on one stream: {source:?}"),
            several(&network, source, &user),
        )
        .await;
        case(
            &format!("requests that are refused: {source:?}"),
            refused(&network, source, &user),
        )
        .await;
    }
    case("a restart of the process", async {
        network.kill(ORG1_PEER);
        network.bring_up().await;
        network.still_works().await;
    })
    .await;
    checker::check(&network).await;
    network.down().await;
}

async fn places(network: &Network, source: &Source, user: &ClientIdentity) {
    let height = network.settled().await;
    let last = height - 1;
    let expect = |blocks: std::ops::RangeInclusive<u64>| (blocks.collect::<Vec<_>>(), Some(SUCCESS));
    for (name, info, expected) in [
        ("all", seek(oldest(), newest()), expect(0..=last)),
        ("the oldest", seek(oldest(), oldest()), expect(0..=0)),
        ("the newest", seek(newest(), newest()), expect(last..=last)),
        ("a span", seek(at(1), at(2)), expect(1..=2)),
        (
            "from a place to the newest",
            seek(at(2), newest()),
            expect(2..=last),
        ),
        (
            "beyond the end, not waiting",
            seek(at(last), at(height)),
            (vec![last], Some(NOT_FOUND)),
        ),
        (
            "the next, not waiting",
            seek(next_commit(), at(u64::MAX)),
            (vec![], Some(NOT_FOUND)),
        ),
        (
            "far beyond the end",
            waiting(seek(at(height + 5), at(u64::MAX))),
            (vec![], Some(NOT_FOUND)),
        ),
        (
            "an end before the start",
            seek(at(2), at(1)),
            (vec![], Some(BAD_REQUEST)),
        ),
        ("no start", seek(None, at(1)), (vec![], Some(BAD_REQUEST))),
        ("no stop", seek(at(0), None), (vec![], Some(BAD_REQUEST))),
    ] {
        assert_eq!(source.ask(network, request(user, info)).await, expected, "{name}");
    }
}

async fn to_come(network: &Network, source: &Source, user: &ClientIdentity) {
    let height = network.settled().await;
    for start in [at(height), next_commit()] {
        let height = network.settled().await.max(height);
        let start = if matches!(start.as_ref().unwrap().r#type, Some(Type::Specified(_))) {
            at(height)
        } else {
            start
        };
        let mut stream = source.open(network).await;
        stream
            .requests
            .send(request(user, waiting(seek(start, at(height)))))
            .await
            .unwrap();
        // The request is being served once an answer to a later one on another stream has come.
        source.ask(network, request(user, seek(newest(), newest()))).await;
        network.still_works().await;
        assert_eq!(stream.until_status().await, (vec![height], Some(SUCCESS)));
    }
}

async fn several(network: &Network, source: &Source, user: &ClientIdentity) {
    let mut stream = source.open(network).await;
    for number in [2, 0, 1] {
        stream
            .requests
            .send(request(user, seek(at(number), at(number))))
            .await
            .unwrap();
        assert_eq!(stream.until_status().await, (vec![number], Some(SUCCESS)));
    }
}

async fn refused(network: &Network, source: &Source, user: &ClientIdentity) {
    let all = Bytes::from(seek(oldest(), newest()).encode_to_vec());
    let now = Some(SystemTime::now());
    let hour = Duration::from_secs(3600);
    let stranger = Wish::client("Org1MSP", "stranger").issue(&rogue_authority());
    let nobody = Wish::client("NobodyMSP", "nobody").issue(&rogue_authority());
    let expired = Wish {
        seconds: (-120, -30),
        ..Wish::client("Org1MSP", "late")
    };
    let expired = expired.issue(&network.authority("org1.example.com"));
    let mut forged = envelope(user, CHANNEL, all.clone(), now);
    forged.signature = user.sign(b"something else").unwrap();
    let garbage = Bytes::from_static(&[0xff, 0xff, 0xff]);
    for (name, envelope, status) in [
        (
            "an unknown channel",
            envelope(user, "elsewhere", all.clone(), now),
            NOT_FOUND,
        ),
        (
            "a certificate of nobody's authority",
            envelope(&stranger, CHANNEL, all.clone(), now),
            FORBIDDEN,
        ),
        (
            "an unknown organisation",
            envelope(&nobody, CHANNEL, all.clone(), now),
            FORBIDDEN,
        ),
        (
            "an expired certificate",
            envelope(&expired, CHANNEL, all.clone(), now),
            FORBIDDEN,
        ),
        ("a wrong signature", forged, FORBIDDEN),
        (
            "a clock that is late",
            envelope(user, CHANNEL, all.clone(), now.map(|t| t - hour)),
            BAD_REQUEST,
        ),
        (
            "a clock that is early",
            envelope(user, CHANNEL, all.clone(), now.map(|t| t + hour)),
            BAD_REQUEST,
        ),
        ("no time", envelope(user, CHANNEL, all.clone(), None), BAD_REQUEST),
        (
            "no SeekInfo",
            envelope(user, CHANNEL, garbage.clone(), now),
            BAD_REQUEST,
        ),
        ("an empty envelope", common::Envelope::default(), BAD_REQUEST),
        (
            "no payload",
            common::Envelope {
                payload: garbage.clone(),
                signature: garbage,
            },
            BAD_REQUEST,
        ),
    ] {
        assert_eq!(
            source.ask(network, envelope).await,
            (vec![], Some(status)),
            "{name}"
        );
    }
    network.still_works().await;
}
