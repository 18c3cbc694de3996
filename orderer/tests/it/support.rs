//! A consortium with its certificates, and nodes to start and stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use selvedge_channel::genesis::{ChannelProfile, OrgProfile, genesis_block};
use selvedge_comm::{ClientTls, Endpoint, TlsIdentity};
use selvedge_msp::dir::{MspDirContents, read_msp_config, write_msp_dir};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SigningIdentity, SubjectExtra, Usage, Validity,
};
use selvedge_orderer::{
    AdminConfig, ClientAuthConfig, ClusterConfig, Orderer, OrdererConfig, RaftConfig, TlsConfig,
};
use selvedge_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_proto::{block_hash, common, etcdraft, orderer};
use tonic::transport::Channel;

pub(crate) const CHANNEL: &str = "trade";

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}

pub(crate) struct Org {
    pub(crate) msp_id: String,
    pub(crate) ca: CertificateAuthority,
    pub(crate) tls_ca: CertificateAuthority,
    dir: PathBuf,
}

impl Org {
    pub(crate) fn new(root: &Path, msp_id: &str) -> Self {
        let authority = |name: &str| {
            let subject = CaSubject {
                common_name: format!("{name}.{msp_id}"),
                ..CaSubject::default()
            };
            let validity = Validity {
                not_before: now() - 1_000_000,
                not_after: now() + 1_000_000,
            };
            CertificateAuthority::generate_root(&subject, &validity).unwrap()
        };
        let org = Self {
            msp_id: msp_id.to_owned(),
            ca: authority("ca"),
            tls_ca: authority("tlsca"),
            dir: root.join(msp_id),
        };
        write_msp_dir(&org.dir, &org.contents(None)).unwrap();
        org
    }

    fn contents(&self, holder: Option<(selvedge_msp::Certificate, PrivateKey)>) -> MspDirContents {
        let (certificate, key) = holder.unzip();
        MspDirContents {
            cacerts: vec![("ca.pem".into(), self.ca.certificate().clone())],
            intermediatecerts: vec![],
            tlscacerts: vec![("tlsca.pem".into(), self.tls_ca.certificate().clone())],
            tlsintermediatecerts: vec![],
            admincerts: vec![],
            crls: vec![],
            signcert: certificate.map(|c| ("cert.pem".into(), c)),
            key,
            node_ous: true,
        }
    }

    pub(crate) fn profile(&self, endpoints: Vec<String>) -> OrgProfile {
        OrgProfile {
            name: self.msp_id.clone(),
            msp_id: self.msp_id.clone(),
            msp: read_msp_config(&self.dir, &self.msp_id).unwrap(),
            endpoints,
            anchor_peers: vec![],
        }
    }

    fn issue(
        &self,
        name: &str,
        unit: &str,
        usage: Usage,
        seconds: i64,
    ) -> (selvedge_msp::Certificate, PrivateKey) {
        let key = PrivateKey::generate().unwrap();
        let request = IssueRequest {
            public_key: key.public_key().clone(),
            common_name: name.to_owned(),
            organizational_units: vec![unit.to_owned()],
            dns_names: vec![name.to_owned()],
            ip_addresses: vec![],
            attributes: BTreeMap::new(),
            usage,
            not_before: now() - 500_000,
            not_after: now() + seconds,
            subject_extra: SubjectExtra::default(),
        };
        let ca = if usage == Usage::Tls {
            &self.tls_ca
        } else {
            &self.ca
        };
        (ca.issue(&request).unwrap(), key)
    }

    pub(crate) fn identity(&self, name: &str, unit: &str, seconds: i64) -> SigningIdentity {
        let (certificate, key) = self.issue(name, unit, Usage::Identity, seconds);
        SigningIdentity::new(&self.msp_id, certificate.to_pem().as_bytes(), key).unwrap()
    }

    pub(crate) fn client(&self) -> SigningIdentity {
        self.identity("client", "client", 100_000)
    }
}

pub(crate) struct Network {
    pub(crate) root: tempfile::TempDir,
    pub(crate) orderers: Org,
    pub(crate) members: Org,
    pub(crate) configs: Vec<OrdererConfig>,
    pub(crate) consenters: Vec<etcdraft::Consenter>,
    pub(crate) genesis: common::Block,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn host(index: usize) -> String {
    format!("orderer{index}.example.com")
}

impl Network {
    /// Certificates and settings for `nodes` nodes, the first `consenting` of them in the consenter list.
    pub(crate) fn new(nodes: usize, consenting: usize, shape: impl FnOnce(&mut ChannelProfile)) -> Self {
        // RUST_LOG=selvedge_orderer=debug shows what the nodes do.
        let logs =
            tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env());
        drop(logs.try_init());
        let root = tempfile::tempdir().unwrap();
        let orderers = Org::new(root.path(), "OrdererMSP");
        let members = Org::new(root.path(), "Org1MSP");
        let ports: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let addresses: BTreeMap<String, String> = ports
            .iter()
            .enumerate()
            .map(|(i, port)| (format!("{}:7050", host(i)), format!("127.0.0.1:{port}")))
            .collect();
        let tls_ca = root.path().join("tlsca.pem");
        std::fs::write(&tls_ca, orderers.tls_ca.certificate().to_pem()).unwrap();
        let mut configs = Vec::new();
        let mut consenters = Vec::new();
        for (i, port) in ports.iter().enumerate() {
            let dir = root.path().join(host(i));
            let holder = orderers.issue(&host(i), "orderer", Usage::Identity, 100_000);
            write_msp_dir(&dir.join("msp"), &orderers.contents(Some(holder))).unwrap();
            let (certificate, key) = orderers.issue(&host(i), "orderer", Usage::Tls, 100_000);
            let pem = certificate.to_pem();
            std::fs::write(dir.join("tls.crt"), &pem).unwrap();
            std::fs::write(dir.join("tls.key"), key.to_pkcs8_pem().as_bytes()).unwrap();
            let tls = TlsConfig {
                certificate: dir.join("tls.crt"),
                key: dir.join("tls.key"),
                roots: vec![],
                client_roots: vec![tls_ca.clone()],
                client_auth: ClientAuthConfig::Request,
            };
            consenters.push(etcdraft::Consenter {
                host: host(i),
                port: 7050,
                client_tls_cert: Bytes::from(pem.clone()),
                server_tls_cert: Bytes::from(pem),
            });
            configs.push(OrdererConfig {
                id: host(i),
                msp_id: orderers.msp_id.clone(),
                msp_dir: dir.join("msp"),
                listen: format!("127.0.0.1:{port}"),
                external_address: format!("{}:7050", host(i)),
                tls: Some(tls),
                cluster: ClusterConfig {
                    tls: None,
                    addresses: addresses.clone(),
                },
                admin: Some(AdminConfig {
                    listen: "127.0.0.1:0".into(),
                    tls: None,
                }),
                data_dir: dir.join("data"),
                joined_dir: None,
                operations: None,
                raft: RaftConfig {
                    heartbeat: Duration::from_millis(100),
                    election: Duration::from_millis(400),
                    submit_timeout: Duration::from_secs(20),
                    ..RaftConfig::default()
                },
                renewal: None,
            });
        }
        let mut profile = ChannelProfile::new(CHANNEL);
        let endpoints = (0..nodes).map(|i| format!("{}:7050", host(i))).collect();
        profile.orderer_orgs = vec![orderers.profile(endpoints)];
        profile.application_orgs = vec![members.profile(vec![])];
        profile.consenters = consenters[..consenting].to_vec();
        shape(&mut profile);
        Self {
            genesis: genesis_block(&profile).unwrap(),
            root,
            orderers,
            members,
            configs,
            consenters,
        }
    }

    pub(crate) async fn start(&self, index: usize) -> Orderer {
        Orderer::start(self.configs[index].clone()).await.unwrap()
    }

    pub(crate) async fn start_joined(&self, index: usize) -> Orderer {
        let node = self.start(index).await;
        node.join(self.genesis.clone()).await.unwrap();
        node
    }

    pub(crate) fn tls(&self, index: usize, identity: Option<TlsIdentity>) -> ClientTls {
        ClientTls {
            roots: vec![self.orderers.tls_ca.certificate().to_pem().into_bytes()],
            server_name: Some(host(index)),
            identity,
            only_tls13: true,
        }
    }

    pub(crate) fn endpoint(&self, index: usize) -> Endpoint {
        Endpoint::tls(self.configs[index].listen.clone(), self.tls(index, None))
    }

    pub(crate) fn broadcaster(&self, index: usize) -> AtomicBroadcastClient<Channel> {
        AtomicBroadcastClient::new(self.endpoint(index).connect_lazy().unwrap())
            .max_decoding_message_size(selvedge_comm::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(selvedge_comm::MAX_MESSAGE_BYTES)
    }

    /// Blocks `0..=last` as a node delivers them.
    pub(crate) async fn blocks(&self, index: usize, last: u64) -> Vec<common::Block> {
        let mut seek = seek(specified(0), specified(last));
        seek.error_response = orderer::seek_info::SeekErrorResponse::BestEffort as i32;
        let envelope = seek_envelope(&self.members.client(), CHANNEL, &seek, Some(now()), Bytes::new());
        let mut answers = self.deliver(index, vec![envelope]).await;
        let mut blocks = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.r#type.unwrap() {
                orderer::deliver_response::Type::Block(block) => blocks.push(block),
                orderer::deliver_response::Type::Status(status) => {
                    assert_eq!(status, 200);
                    break;
                }
            }
        }
        blocks
    }

    pub(crate) async fn deliver(
        &self,
        index: usize,
        envelopes: Vec<common::Envelope>,
    ) -> tonic::Streaming<orderer::DeliverResponse> {
        let open = futures::StreamExt::chain(futures::stream::iter(envelopes), futures::stream::pending());
        self.broadcaster(index).deliver(open).await.unwrap().into_inner()
    }
}

/// A signed envelope with this content.
pub(crate) fn envelope(
    signer: &SigningIdentity,
    header: common::ChannelHeader,
    data: Bytes,
) -> common::Envelope {
    let nonce: [u8; 24] = rand::random();
    let signature_header = common::SignatureHeader {
        creator: signer.creator().clone(),
        nonce: nonce.to_vec().into(),
    };
    let payload: Bytes = common::Payload {
        header: Some(common::Header {
            channel_header: header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data,
    }
    .encode_to_vec()
    .into();
    common::Envelope {
        signature: signer.sign(&payload).unwrap(),
        payload,
    }
}

pub(crate) fn transaction(signer: &SigningIdentity, content: &[u8]) -> common::Envelope {
    let header = common::ChannelHeader {
        r#type: common::HeaderType::EndorserTransaction as i32,
        channel_id: CHANNEL.to_owned(),
        ..Default::default()
    };
    envelope(signer, header, Bytes::copy_from_slice(content))
}

pub(crate) fn specified(number: u64) -> orderer::seek_position::Type {
    orderer::seek_position::Type::Specified(orderer::SeekSpecified { number })
}

pub(crate) fn seek(
    start: orderer::seek_position::Type,
    stop: orderer::seek_position::Type,
) -> orderer::SeekInfo {
    let position = |at| Some(orderer::SeekPosition { r#type: Some(at) });
    orderer::SeekInfo {
        start: position(start),
        stop: position(stop),
        ..Default::default()
    }
}

pub(crate) fn seek_envelope(
    signer: &SigningIdentity,
    channel: &str,
    seek: &orderer::SeekInfo,
    seconds: Option<i64>,
    tls_cert_hash: Bytes,
) -> common::Envelope {
    let header = common::ChannelHeader {
        r#type: common::HeaderType::DeliverSeekInfo as i32,
        channel_id: channel.to_owned(),
        timestamp: seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        tls_cert_hash,
        ..Default::default()
    };
    envelope(signer, header, seek.encode_to_vec().into())
}

pub(crate) fn clock() -> i64 {
    now()
}

/// Sends envelopes on one stream and collects the answers until the orderer ends it or all are answered.
pub(crate) async fn broadcast(
    client: &mut AtomicBroadcastClient<Channel>,
    envelopes: Vec<common::Envelope>,
) -> Vec<(common::Status, String)> {
    let count = envelopes.len();
    let open = futures::StreamExt::chain(futures::stream::iter(envelopes), futures::stream::pending());
    let mut stream = client.broadcast(open).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while answers.len() < count {
        let Some(answer) = stream.message().await.unwrap() else {
            break;
        };
        answers.push((answer.status(), answer.info));
    }
    answers
}

/// Number of the node that leads, once one does.
pub(crate) async fn leader(nodes: &[Option<Orderer>]) -> usize {
    until("a leader", || {
        nodes
            .iter()
            .position(|n| n.as_ref().is_some_and(|n| n.leads(CHANNEL)))
    })
    .await
}

/// Looks again and again until `found` finds something; the test fails after a generous time.
pub(crate) async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), looking).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within a minute"),
    }
}

pub(crate) fn height(node: &Orderer) -> u64 {
    node.channels()
        .iter()
        .find(|c| c.name == CHANNEL)
        .map_or(0, |c| c.height)
}

pub(crate) fn hashes(blocks: &[common::Block]) -> Vec<Bytes> {
    blocks
        .iter()
        .map(|b| block_hash(b.header.as_ref().unwrap()))
        .collect()
}

/// The contents of all transactions in the blocks after the genesis block.
pub(crate) fn contents(blocks: &[common::Block]) -> Vec<Bytes> {
    let mut all = Vec::new();
    for block in blocks.iter().skip(1) {
        for data in &block.data.as_ref().unwrap().data {
            let envelope = common::Envelope::decode(data.clone()).unwrap();
            let payload = common::Payload::decode(envelope.payload).unwrap();
            all.push(payload.data);
        }
    }
    all
}
