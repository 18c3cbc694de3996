//! Fetching blocks from orderers, honest ones and others.

use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use selvedge_comm::{ClientAuth, ServerTls, client_certificate};
use selvedge_operations::Metrics;
use selvedge_peer::PeerChannel;
use selvedge_peer::pipeline::CommitPipeline;
use selvedge_peer::puller::{self, PullerOptions};
use selvedge_proto::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvedge_proto::orderer::{
    BroadcastResponse, DeliverResponse, SeekInfo, deliver_response, seek_position,
};
use selvedge_proto::{Bytes, Message, common, open_envelope};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming};

use crate::network::{CHANNEL, Network};

/// A long time for what should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Serves everything, then waits.
    Honest,
    /// Serves this many blocks, then ends the stream.
    Brief(usize),
    /// Changes a transaction of every block.
    Forging,
    /// Leaves out a block.
    Skipping,
    /// Serves the blocks in another order.
    Reordering,
    /// Numbers the blocks as asked, but in another order.
    Renumbering,
    /// Answers with a status.
    Refusing,
}

struct Asked {
    start: u64,
    creator: Bytes,
    bound: bool,
    signed: bool,
}

#[derive(Clone)]
struct Orderer {
    manner: Manner,
    blocks: Arc<Vec<common::Block>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Orderer {
    fn new(manner: Manner, blocks: &[common::Block]) -> Self {
        Self {
            manner,
            blocks: Arc::new(blocks.to_vec()),
            asked: Arc::default(),
        }
    }

    fn answers(&self, start: usize) -> Vec<DeliverResponse> {
        let answer = |value| DeliverResponse { r#type: Some(value) };
        let rest = self.blocks.iter().skip(start).cloned();
        let blocks: Vec<common::Block> = match self.manner {
            Manner::Refusing => {
                return vec![answer(deliver_response::Type::Status(
                    common::Status::ServiceUnavailable.into(),
                ))];
            }
            Manner::Honest => rest.collect(),
            Manner::Brief(count) => rest.take(count).collect(),
            Manner::Skipping => rest.skip(1).collect(),
            Manner::Reordering => rest.rev().collect(),
            Manner::Renumbering => (start as u64..)
                .zip(rest.rev())
                .map(|(number, mut block)| {
                    block.header.as_mut().unwrap().number = number;
                    block
                })
                .collect(),
            Manner::Forging => rest
                .map(|mut block| {
                    let data = &mut block.data.as_mut().unwrap().data;
                    data.push(data[0].clone());
                    let hash = selvedge_proto::block_data_hash(data);
                    block.header.as_mut().unwrap().data_hash = hash;
                    block
                })
                .collect(),
        };
        blocks
            .into_iter()
            .map(|block| answer(deliver_response::Type::Block(block)))
            .collect()
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Orderer {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<DeliverResponse>;

    async fn broadcast(
        &self,
        _: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        Err(Status::unimplemented("this orderer only delivers"))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let certificate = client_certificate(&request);
        let mut requests = request.into_inner();
        let envelope = requests.message().await?.unwrap();
        let open = open_envelope(&envelope).unwrap();
        let seek = SeekInfo::decode(open.payload.data.clone()).unwrap();
        let Some(seek_position::Type::Specified(start)) = seek.start.unwrap().r#type else {
            panic!("no start")
        };
        assert_eq!(open.channel_header.channel_id, CHANNEL);
        assert_eq!(
            open.channel_header.r#type,
            common::HeaderType::DeliverSeekInfo as i32
        );
        assert!(open.channel_header.timestamp.is_some());
        let hash = certificate
            .map(|der| Sha256::digest(&der).to_vec())
            .unwrap_or_default();
        let creator = open.signature_header.creator.clone();
        let serialised = selvedge_proto::msp::SerializedIdentity::decode(creator.clone()).unwrap();
        let certificate = selvedge_msp::Certificate::from_pem(&serialised.id_bytes).unwrap();
        let key = certificate.public_key().unwrap();
        self.asked.lock().push(Asked {
            start: start.number,
            creator,
            bound: open.channel_header.tls_cert_hash == hash,
            signed: key.verify(&open.payload_bytes, &open.signature).is_ok(),
        });
        let answers = futures::stream::iter(self.answers(start.number as usize).into_iter().map(Ok));
        if self.manner == Manner::Honest {
            // Nothing more comes, but the stream stays open.
            let forever = futures::stream::pending();
            return Ok(Response::new(Box::pin(futures::StreamExt::chain(
                answers, forever,
            ))));
        }
        Ok(Response::new(Box::pin(answers)))
    }
}

struct Setup {
    network: Network,
    listeners: Vec<TcpListener>,
    blocks: Vec<common::Block>,
    channel: Arc<PeerChannel>,
    _dir: tempfile::TempDir,
}

/// A network with this many orderers, and a chain of `blocks` blocks that the peer does not have yet.
async fn setup(orderers: usize, blocks: usize) -> Setup {
    let mut listeners = Vec::new();
    for _ in 0..orderers {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let endpoints: Vec<String> = listeners
        .iter()
        .map(|l| l.local_addr().unwrap().to_string())
        .collect();
    let network = Network::new(2, &endpoints);
    let maker = tempfile::tempdir().unwrap();
    let source = PeerChannel::create(maker.path(), network.genesis.clone()).unwrap();
    let mut made = vec![network.genesis.clone()];
    for number in 1..blocks as u64 {
        let tx = network.define(&format!("cc{number}"), "OR('Org1MSP.peer')", Default::default());
        let previous = source.ledger().blocks().last_hash().unwrap();
        let block = network.block(number, previous, vec![tx.envelope()]);
        source.process_block(block.clone()).unwrap();
        made.push(block);
    }
    let dir = tempfile::tempdir().unwrap();
    let channel = PeerChannel::create(dir.path(), network.genesis.clone()).unwrap();
    Setup {
        network,
        listeners,
        blocks: made,
        channel,
        _dir: dir,
    }
}

fn serve(
    listener: TcpListener,
    orderer: &Orderer,
    tls: Option<ServerTls>,
) -> tokio::sync::oneshot::Sender<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let routes = tonic::service::Routes::new(AtomicBroadcastServer::new(orderer.clone()));
    tokio::spawn(selvedge_comm::serve_grpc(listener, tls, routes, async {
        let _ = stopped.await;
    }));
    stop
}

fn options(setup: &Setup) -> PullerOptions {
    PullerOptions {
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(20),
        ..PullerOptions::new(setup.network.orgs[0].peer.clone())
    }
}

async fn reach(channel: &PeerChannel, height: u64) {
    let mut watch = channel.ledger().watch();
    let reached = watch.wait_for(|h| *h >= height);
    tokio::time::timeout(PATIENCE, reached)
        .await
        .expect("the blocks arrive")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_where_it_stood_with_another_orderer() {
    let mut setup = setup(3, 9).await;
    let manners = [Manner::Brief(1), Manner::Refusing, Manner::Brief(2)];
    let orderers = manners.map(|manner| Orderer::new(manner, &setup.blocks));
    let mut stops = Vec::new();
    for (listener, orderer) in setup.listeners.drain(..).zip(&orderers) {
        stops.push(serve(listener, orderer, None));
    }
    let puller = puller::start(Arc::clone(&setup.channel), options(&setup));
    reach(&setup.channel, 9).await;
    puller.stop().await;
    for orderer in &orderers {
        for asked in orderer.asked.lock().iter() {
            assert!(asked.signed && asked.bound);
            assert_eq!(&asked.creator, setup.network.orgs[0].peer.creator());
            assert!(asked.start >= 1, "the genesis block is there already");
        }
    }
    assert_eq!(setup.channel.ledger().blocks().last_hash(), {
        let header = setup.blocks[8].header.as_ref().unwrap();
        Some(selvedge_proto::block_hash(header))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_in_trouble_says_so_until_it_commits_again() {
    let setup = setup(1, 3).await;
    let pipeline = CommitPipeline::start(Arc::clone(&setup.channel)).unwrap();
    pipeline.submit(setup.blocks[2].clone()).await.unwrap();
    let failed = pipeline.finish().await.unwrap_err().to_string();
    let trouble = setup.channel.trouble().unwrap();
    assert!(trouble.ends_with(&failed), "{trouble}");
    setup.channel.process_block(setup.blocks[1].clone()).unwrap();
    assert_eq!(setup.channel.trouble(), None);
}

/// What the peer logs, by all tests of this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn watch_log() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::ERROR)
            .with_writer(|| Log)
            .init();
    });
}

/// The errors that were logged about an orderer.
fn errors_about(orderer: &str) -> Vec<serde_json::Value> {
    let log = String::from_utf8(LOG.lock().clone()).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["fields"]["orderer"] == orderer)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_reordered_blocks_are_refused_and_reported_and_the_orderer_changed() {
    watch_log();
    for (dishonest, reason) in [
        (Manner::Forging, "is not signed as the channel demands"),
        (Manner::Skipping, "expected block"),
        (Manner::Reordering, "expected block"),
        (Manner::Renumbering, "does not follow the block before it"),
    ] {
        let mut setup = setup(2, 8).await;
        // The honest one sends one block at a time, so that the other is asked in between.
        let honest = Orderer::new(Manner::Brief(1), &setup.blocks);
        let other = Orderer::new(dishonest, &setup.blocks);
        let mut listeners = setup.listeners.drain(..);
        let (good, bad) = (listeners.next().unwrap(), listeners.next().unwrap());
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let (good_address, bad_address) = (address(&good), address(&bad));
        let stops = (serve(good, &honest, None), serve(bad, &other, None));
        drop(listeners);
        let options = options(&setup);
        let (metrics, counted) = (Metrics::new(), options.metrics.clone());
        counted.register(&metrics);
        let puller = puller::start(Arc::clone(&setup.channel), options);
        reach(&setup.channel, 8).await;
        puller.stop().await;
        drop(stops);
        assert!(!other.asked.lock().is_empty(), "the dishonest orderer was asked");
        for (number, block) in (0u64..).zip(&setup.blocks).skip(1) {
            let stored = setup.channel.committed_block(number).unwrap().unwrap();
            assert_eq!(stored.block.header, block.header, "{dishonest:?}");
            assert_eq!(stored.block.data, block.data, "{dishonest:?}");
        }

        // Which orderer, which block, and why: once for every time that it sent something.
        let told = errors_about(&bad_address);
        let refused = counted.refused_blocks.value(&[CHANNEL, &bad_address]);
        assert_eq!(told.len() as u64, refused, "{dishonest:?}: {told:?}");
        let starts: Vec<u64> = other.asked.lock().iter().map(|asked| asked.start).collect();
        // When one block is left, there is nothing to put before it or to leave out.
        assert!(
            refused > 0 && refused <= starts.len() as u64,
            "{dishonest:?}: {starts:?}"
        );
        for line in &told {
            let fields = &line["fields"];
            assert_eq!(line["level"], "ERROR");
            assert_eq!(fields["channel"], CHANNEL);
            assert!(starts.contains(&fields["block"].as_u64().unwrap()), "{line}");
            assert!(fields["error"].as_str().unwrap().contains(reason), "{line}");
        }
        assert!(errors_about(&good_address).is_empty());
        let line =
            format!("selvedge_blocks_refused{{channel=\"{CHANNEL}\",orderer=\"{bad_address}\"}} {refused}");
        assert!(
            metrics.text().lines().any(|l| l == line),
            "{line} in\n{}",
            metrics.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate_and_an_address_override() {
    let mut setup = setup(1, 4).await;
    let listener = setup.listeners.remove(0);
    let configured = listener.local_addr().unwrap().to_string();
    drop(listener);
    let moved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let moved_to = moved.local_addr().unwrap().to_string();
    let org = &setup.network.orgs[0];
    let tls = ServerTls {
        identity: setup.network.orderer_org.tls_identity("127.0.0.1"),
        client_roots: vec![org.tls_root()].into(),
        client_auth: ClientAuth::Require,
    };
    let orderer = Orderer::new(Manner::Honest, &setup.blocks);
    let _stop = serve(moved, &orderer, Some(tls));
    let options = PullerOptions {
        tls: Some(org.tls_identity("127.0.0.1")),
        address_overrides: [(configured, moved_to)].into(),
        ..options(&setup)
    };
    let puller = puller::start(Arc::clone(&setup.channel), options);
    reach(&setup.channel, 4).await;
    assert!(puller.orderer().is_some());
    puller.stop().await;
    let asked = orderer.asked.lock();
    assert!(
        asked
            .iter()
            .all(|asked| asked.bound && asked.signed && asked.start == 1)
    );
    assert_eq!(asked.len(), 1);
}
