//! Organisations and nodes for tests.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use prost::Message;
use selvedge_comm::{Endpoint, bind, serve_grpc};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, Msp, MspManager, MspVersion, PrivateKey, SigningIdentity,
    SubjectExtra, Usage, Validity,
};
use selvedge_proto::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvedge_proto::protos::deliver_server::{Deliver, DeliverServer};
use selvedge_proto::protos::endorser_server::{Endorser, EndorserServer};
use selvedge_proto::{common, msp, orderer, protos};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

const YEAR: i64 = 365 * 24 * 3600;
const NOW: i64 = 1_700_000_000;

/// An organisation with a CA of its own.
pub(crate) struct Org {
    pub(crate) msp_id: &'static str,
    ca: CertificateAuthority,
}

impl Org {
    pub(crate) fn new(msp_id: &'static str) -> Self {
        let subject = CaSubject {
            common_name: format!("ca.{msp_id}"),
            ..Default::default()
        };
        let validity = Validity {
            not_before: NOW,
            not_after: NOW + 10 * YEAR,
        };
        Self {
            msp_id,
            ca: CertificateAuthority::generate_root(&subject, &validity).unwrap(),
        }
    }

    pub(crate) fn identity(&self, name: &str, role: &str) -> SigningIdentity {
        let key = PrivateKey::generate().unwrap();
        let certificate = self
            .ca
            .issue(&IssueRequest {
                public_key: key.public_key().clone(),
                common_name: name.to_owned(),
                organizational_units: vec![role.to_owned()],
                dns_names: Vec::new(),
                ip_addresses: Vec::new(),
                attributes: Default::default(),
                usage: Usage::Identity,
                not_before: NOW,
                not_after: NOW + YEAR,
                subject_extra: SubjectExtra::default(),
            })
            .unwrap();
        SigningIdentity::new(self.msp_id, certificate.to_pem().as_bytes(), key).unwrap()
    }

    pub(crate) fn msp_config(&self) -> msp::MspConfig {
        let unit = |name: &str| {
            Some(msp::FabricOuIdentifier {
                certificate: Bytes::new(),
                organizational_unit_identifier: name.to_owned(),
            })
        };
        let root = Bytes::from(self.ca.certificate().to_pem());
        let fabric = msp::FabricMspConfig {
            name: self.msp_id.to_owned(),
            root_certs: vec![root.clone()],
            tls_root_certs: vec![root],
            fabric_node_ous: Some(msp::FabricNodeOUs {
                enable: true,
                client_ou_identifier: unit("client"),
                peer_ou_identifier: unit("peer"),
                admin_ou_identifier: unit("admin"),
                orderer_ou_identifier: unit("orderer"),
            }),
            ..Default::default()
        };
        msp::MspConfig {
            r#type: 0,
            config: fabric.encode_to_vec().into(),
        }
    }
}

pub(crate) fn manager(orgs: &[&Org]) -> Arc<MspManager> {
    let msps = orgs
        .iter()
        .map(|org| Msp::new(&org.msp_config(), MspVersion::V1_4_3).unwrap())
        .collect();
    Arc::new(MspManager::new(msps))
}

/// What a [`FakePeer`] answers a proposal with.
pub(crate) enum Says {
    Endorses(Box<protos::ProposalResponse>),
    Refuses(i32, &'static str),
    /// It is not in the channel: nothing is run, and no block is sent.
    NotHere,
}

/// A peer's endorser and filtered blocks.
pub(crate) struct FakePeer {
    says: Says,
    proposals: AtomicUsize,
    streams: AtomicUsize,
    /// A transaction in the block after the newest, once there is one.
    commits: watch::Sender<Option<&'static str>>,
}

/// Number of the newest block of every [`FakePeer`] before it commits.
pub(crate) const NEWEST: u64 = 5;

impl FakePeer {
    pub(crate) async fn start(says: Says) -> (Arc<Self>, Endpoint) {
        let peer = Arc::new(Self {
            says,
            proposals: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            commits: watch::Sender::new(None),
        });
        let routes = tonic::service::Routes::new(EndorserServer::from_arc(Arc::clone(&peer)))
            .add_service(DeliverServer::from_arc(Arc::clone(&peer)));
        let endpoint = serve(routes).await;
        (peer, endpoint)
    }

    /// How often it was asked to endorse.
    pub(crate) fn proposals(&self) -> usize {
        self.proposals.load(Ordering::SeqCst)
    }

    /// How often it was asked for blocks.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    pub(crate) fn commit(&self, transaction_id: &'static str) {
        self.commits.send_replace(Some(transaction_id));
    }
}

async fn serve(routes: tonic::service::Routes) -> Endpoint {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve_grpc(listener, None, routes, std::future::pending()));
    Endpoint::plain(address)
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Endorser for FakePeer {
    async fn process_proposal(
        &self,
        _: Request<protos::SignedProposal>,
    ) -> Result<Response<protos::ProposalResponse>, Status> {
        self.proposals.fetch_add(1, Ordering::SeqCst);
        let refusal = |status, message: &str| protos::ProposalResponse {
            response: Some(protos::Response {
                status,
                message: message.to_owned(),
                payload: Bytes::new(),
            }),
            ..Default::default()
        };
        Ok(Response::new(match &self.says {
            Says::Endorses(response) => (**response).clone(),
            Says::Refuses(status, message) => refusal(*status, message),
            Says::NotHere => refusal(500, "channel 'trade' not found"),
        }))
    }
}

#[tonic::async_trait]
impl Deliver for FakePeer {
    type DeliverStream = Answers<protos::DeliverResponse>;
    type DeliverFilteredStream = Answers<protos::DeliverResponse>;
    type DeliverWithPrivateDataStream = Answers<protos::DeliverResponse>;

    async fn deliver(
        &self,
        _: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        Err(Status::unimplemented("not part of the tests"))
    }

    async fn deliver_filtered(
        &self,
        _: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::DeliverFilteredStream>, Status> {
        use protos::deliver_response::Type;
        self.streams.fetch_add(1, Ordering::SeqCst);
        let message = |r#type| Ok(protos::DeliverResponse { r#type: Some(r#type) });
        if matches!(self.says, Says::NotHere) {
            let status = Type::Status(common::Status::NotFound as i32);
            return Ok(Response::new(Box::pin(stream::iter([message(status)]))));
        }
        let block = |number, ids: &[&str]| {
            Type::FilteredBlock(protos::FilteredBlock {
                channel_id: "trade".to_owned(),
                number,
                filtered_transactions: ids
                    .iter()
                    .map(|id| protos::FilteredTransaction {
                        txid: (*id).to_owned(),
                        ..Default::default()
                    })
                    .collect(),
            })
        };
        let newest = stream::iter([message(block(NEWEST, &[]))]);
        let mut commits = self.commits.subscribe();
        let next = stream::once(async move {
            let committed = commits.wait_for(Option::is_some).await.ok().and_then(|id| *id);
            message(block(NEWEST + 1, committed.as_slice()))
        });
        Ok(Response::new(Box::pin(
            newest.chain(next).chain(stream::pending()),
        )))
    }

    async fn deliver_with_private_data(
        &self,
        _: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::DeliverWithPrivateDataStream>, Status> {
        Err(Status::unimplemented("not part of the tests"))
    }
}

/// An orderer that answers every envelope with this status.
pub(crate) struct FakeOrderer(common::Status);

impl FakeOrderer {
    pub(crate) async fn start(status: common::Status) -> Endpoint {
        serve(tonic::service::Routes::new(AtomicBroadcastServer::new(Self(
            status,
        ))))
        .await
    }
}

#[tonic::async_trait]
impl AtomicBroadcast for FakeOrderer {
    type BroadcastStream = Answers<orderer::BroadcastResponse>;
    type DeliverStream = Answers<orderer::DeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        let answer = orderer::BroadcastResponse {
            status: self.0 as i32,
            info: String::new(),
        };
        let answers = request
            .into_inner()
            .map(move |envelope| envelope.map(|_| answer.clone()));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn deliver(
        &self,
        _: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        Err(Status::unimplemented("not part of the tests"))
    }
}
