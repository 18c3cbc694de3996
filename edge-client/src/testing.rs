//! A gateway's files for tests: identity and configuration. And a peer that answers what it is told to.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prost::Message;
use selvedge_comm::{bind, serve_grpc};
use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SigningIdentity, SubjectExtra, Usage, Validity,
};
use selvedge_proto::gateway::gateway_server::{Gateway, GatewayServer};
use selvedge_proto::protos::endorser_server::{Endorser, EndorserServer};
use selvedge_proto::{common, gateway, protos};
use tempfile::TempDir;

/// A folder with `edge.yaml` and `msp`.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    pub(crate) config: PathBuf,
}

/// Writes an MSP folder of a new identity of a new authority.
pub(crate) fn write_identity(dir: &Path) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let validity = Validity {
        not_before: now - 300,
        not_after: now + 3600,
    };
    let subject = CaSubject {
        common_name: "ca".into(),
        ..CaSubject::default()
    };
    let ca = CertificateAuthority::generate_root(&subject, &validity).unwrap();
    let key = PrivateKey::generate().unwrap();
    let certificate = ca
        .issue(&IssueRequest {
            public_key: key.public_key().clone(),
            common_name: "edge".into(),
            organizational_units: vec!["client".into()],
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            attributes: BTreeMap::new(),
            usage: Usage::Identity,
            not_before: validity.not_before,
            not_after: validity.not_after,
            subject_extra: SubjectExtra::default(),
        })
        .unwrap();
    let contents = MspDirContents {
        cacerts: vec![("ca.pem".into(), ca.certificate().clone())],
        signcert: Some(("edge.pem".into(), certificate)),
        key: Some(key),
        node_ous: true,
        ..Default::default()
    };
    write_msp_dir(dir, &contents).unwrap();
}

/// A gateway that can start and reaches nobody: its peer is on port 1, where nobody listens.
pub(crate) fn gateway_home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    write_identity(&folder.path().join("msp"));
    let config = folder.path().join("edge.yaml");
    let text = "id: edge0\nlisten: '127.0.0.1:0'\nmsp_id: Org1MSP\nmsp_dir: msp\ndata_dir: data\n\
                uplink: {peers: [{address: '127.0.0.1:1', msp_id: Org1MSP}]}\noperations: {listen: '127.0.0.1:0'}\n";
    std::fs::write(&config, text).unwrap();
    Home { folder, config }
}

/// A new identity of a new authority of `Org1MSP`.
pub(crate) fn identity() -> SigningIdentity {
    let folder = tempfile::tempdir().unwrap();
    write_identity(folder.path());
    SigningIdentity::from_msp_dir("Org1MSP", folder.path()).unwrap()
}

/// One call of a [`FakePeer`].
pub(crate) struct Called {
    pub(crate) function: String,
    /// How often this function was called, this call included.
    pub(crate) times: u64,
}

type Says = dyn Fn(&Called) -> protos::Response + Send + Sync;

/// A peer whose endorser answers with the responses of a function, without endorsement.
pub(crate) struct FakePeer {
    /// `host:port`.
    pub(crate) address: String,
    calls: Arc<Mutex<HashMap<String, u64>>>,
}

struct FakeEndorser {
    says: Box<Says>,
    calls: Arc<Mutex<HashMap<String, u64>>>,
}

impl FakePeer {
    pub(crate) async fn start(says: impl Fn(&Called) -> protos::Response + Send + Sync + 'static) -> Self {
        let calls = Arc::default();
        let endorser = FakeEndorser {
            says: Box::new(says),
            calls: Arc::clone(&calls),
        };
        let routes = tonic::service::Routes::new(EndorserServer::new(endorser));
        let address = serve(routes).await;
        Self { address, calls }
    }

    /// How often a function was called.
    pub(crate) fn calls(&self, function: &str) -> u64 {
        self.calls.lock().get(function).copied().unwrap_or_default()
    }
}

async fn serve(routes: tonic::service::Routes) -> String {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(serve_grpc(listener, None, routes, std::future::pending()));
    address
}

#[tonic::async_trait]
impl Endorser for FakeEndorser {
    async fn process_proposal(
        &self,
        request: tonic::Request<protos::SignedProposal>,
    ) -> Result<tonic::Response<protos::ProposalResponse>, tonic::Status> {
        let proposal = protos::Proposal::decode(request.into_inner().proposal_bytes).unwrap();
        let payload = protos::ChaincodeProposalPayload::decode(proposal.payload).unwrap();
        let invoked = protos::ChaincodeInvocationSpec::decode(payload.input).unwrap();
        let input = invoked.chaincode_spec.and_then(|spec| spec.input).unwrap();
        let function = String::from_utf8(input.args[0].to_vec()).unwrap();
        let times = {
            let mut calls = self.calls.lock();
            let times = calls.entry(function.clone()).or_default();
            *times += 1;
            *times
        };
        Ok(tonic::Response::new(protos::ProposalResponse {
            response: Some((self.says)(&Called { function, times })),
            ..Default::default()
        }))
    }
}

/// What a [`FakeGateway`] does with a transaction.
pub(crate) enum Fate {
    /// It gets this verdict.
    Judged(protos::TxValidationCode),
    /// It is endorsed, and the orderers cannot be reached.
    NotOrdered,
}

/// A peer's gateway, by what it does with every transaction.
pub(crate) struct FakeGateway(Fate);

impl FakeGateway {
    /// Starts one; gives its `host:port`.
    pub(crate) async fn start(fate: Fate) -> String {
        serve(tonic::service::Routes::new(GatewayServer::new(Self(fate)))).await
    }
}

#[tonic::async_trait]
impl Gateway for FakeGateway {
    type ChaincodeEventsStream =
        futures::stream::Pending<Result<gateway::ChaincodeEventsResponse, tonic::Status>>;

    async fn endorse(
        &self,
        request: tonic::Request<gateway::EndorseRequest>,
    ) -> Result<tonic::Response<gateway::EndorseResponse>, tonic::Status> {
        let signed = request.into_inner().proposed_transaction.unwrap();
        let proposal = protos::Proposal::decode(signed.proposal_bytes).unwrap();
        let action = protos::ChaincodeAction {
            response: Some(protos::Response::default()),
            ..Default::default()
        };
        let answered = protos::ProposalResponsePayload {
            extension: action.encode_to_vec().into(),
            ..Default::default()
        };
        let payload =
            selvedge_proto::transaction_payload(&proposal, answered.encode_to_vec().into(), Vec::new());
        Ok(tonic::Response::new(gateway::EndorseResponse {
            prepared_transaction: Some(common::Envelope {
                payload: payload.unwrap(),
                ..Default::default()
            }),
        }))
    }

    async fn submit(
        &self,
        _: tonic::Request<gateway::SubmitRequest>,
    ) -> Result<tonic::Response<gateway::SubmitResponse>, tonic::Status> {
        match self.0 {
            Fate::Judged(_) => Ok(tonic::Response::new(gateway::SubmitResponse::default())),
            Fate::NotOrdered => Err(tonic::Status::failed_precondition("no orderer is known")),
        }
    }

    async fn commit_status(
        &self,
        _: tonic::Request<gateway::SignedCommitStatusRequest>,
    ) -> Result<tonic::Response<gateway::CommitStatusResponse>, tonic::Status> {
        match self.0 {
            Fate::Judged(code) => Ok(tonic::Response::new(gateway::CommitStatusResponse {
                result: code as i32,
                block_number: 4,
            })),
            Fate::NotOrdered => Err(tonic::Status::unavailable("nothing was ordered")),
        }
    }

    async fn evaluate(
        &self,
        _: tonic::Request<gateway::EvaluateRequest>,
    ) -> Result<tonic::Response<gateway::EvaluateResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("not part of the tests"))
    }

    async fn chaincode_events(
        &self,
        _: tonic::Request<gateway::SignedChaincodeEventsRequest>,
    ) -> Result<tonic::Response<Self::ChaincodeEventsStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("not part of the tests"))
    }
}
