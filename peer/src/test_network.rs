//! A small consortium for tests: organisations with real certificates, peers with real ledgers, blocks without an orderer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use selvedge_channel::genesis::{ChannelProfile, OrgProfile, genesis_block};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, Msp, MspManager, MspVersion, PrivateKey, SigningIdentity,
    SubjectExtra, Usage, Validity,
};
use selvedge_proto::{common, etcdraft, msp, protos};

use crate::chaincode::{ChaincodeRuntime, PackageStore, RuntimeConfig, package};
use crate::channel::PeerChannel;
use crate::context::{JoinError, PeerContext};
use crate::endorser::{EndorseOutcome, Endorser, EndorserConfig};

const DAY: i64 = 86_400;

pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// An organisation with one CA and NodeOUs.
pub(crate) struct Org {
    pub(crate) msp_id: String,
    pub(crate) group: String,
    ca: CertificateAuthority,
}

impl Org {
    pub(crate) fn new(msp_id: &str, group: &str) -> Self {
        let subject = CaSubject {
            common_name: format!("ca.{group}"),
            ..Default::default()
        };
        let validity = Validity {
            not_before: now() - 100 * DAY,
            not_after: now() + 100 * DAY,
        };
        let ca = CertificateAuthority::generate_root(&subject, &validity).unwrap();
        Self {
            msp_id: msp_id.into(),
            group: group.into(),
            ca,
        }
    }

    pub(crate) fn msp_config(&self) -> msp::MspConfig {
        let root = Bytes::from(self.ca.certificate().to_pem());
        let unit = |name: &str| {
            Some(msp::FabricOuIdentifier {
                certificate: root.clone(),
                organizational_unit_identifier: name.into(),
            })
        };
        let config = msp::FabricMspConfig {
            name: self.msp_id.clone(),
            root_certs: vec![root.clone()],
            tls_root_certs: vec![root.clone()],
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
            config: config.encode_to_vec().into(),
        }
    }

    pub(crate) fn holder(
        &self,
        name: &str,
        role: &str,
        attributes: &[(&str, &str)],
        not_after: i64,
    ) -> SigningIdentity {
        let key = PrivateKey::generate().unwrap();
        let certificate = self
            .ca
            .issue(&IssueRequest {
                public_key: key.public_key().clone(),
                common_name: name.into(),
                organizational_units: vec![role.into()],
                dns_names: Vec::new(),
                ip_addresses: Vec::new(),
                attributes: attributes
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
                usage: Usage::Identity,
                not_before: now() - 50 * DAY,
                not_after,
                subject_extra: SubjectExtra::default(),
            })
            .unwrap();
        SigningIdentity::new(&self.msp_id, certificate.to_pem().as_bytes(), key).unwrap()
    }

    pub(crate) fn client(&self, name: &str, attributes: &[(&str, &str)]) -> SigningIdentity {
        self.holder(name, "client", attributes, now() + DAY)
    }

    pub(crate) fn admin(&self) -> SigningIdentity {
        self.holder("admin", "admin", &[], now() + DAY)
    }

    fn profile(&self, endpoints: Vec<String>) -> OrgProfile {
        OrgProfile {
            name: self.group.clone(),
            msp_id: self.msp_id.clone(),
            msp: self.msp_config(),
            endpoints,
            anchor_peers: Vec::new(),
        }
    }
}

/// The genesis block of a channel of two organisations.
pub(crate) fn genesis(channel: &str, orderer: &Org, orgs: &[&Org]) -> common::Block {
    let certificate = Bytes::from(orderer.ca.certificate().to_pem());
    let mut profile = ChannelProfile::new(channel);
    profile.orderer_orgs = vec![orderer.profile(vec!["127.0.0.1:7050".into()])];
    profile.application_orgs = orgs.iter().map(|org| org.profile(Vec::new())).collect();
    profile.consenters = vec![etcdraft::Consenter {
        host: "127.0.0.1".into(),
        port: 7050,
        client_tls_cert: certificate.clone(),
        server_tls_cert: certificate,
    }];
    genesis_block(&profile).unwrap()
}

/// A peer without network.
pub(crate) struct TestPeer {
    identity: SigningIdentity,
    local_msp: Arc<MspManager>,
    channels: RwLock<BTreeMap<String, Arc<PeerChannel>>>,
    dir: tempfile::TempDir,
}

impl TestPeer {
    pub(crate) fn new(org: &Org) -> Arc<Self> {
        let local = Msp::new(&org.msp_config(), MspVersion::LATEST).unwrap();
        Arc::new(Self {
            identity: org.holder("peer0", "peer", &[], now() + DAY),
            local_msp: Arc::new(MspManager::new(vec![local])),
            channels: RwLock::default(),
            dir: tempfile::tempdir().unwrap(),
        })
    }

    /// An endorser over this peer.
    pub(crate) fn endorser(self: &Arc<Self>, config: &RuntimeConfig) -> Endorser {
        let packages = PackageStore::open(&self.dir.path().join("packages")).unwrap();
        let runtime = Arc::new(ChaincodeRuntime::new(config, packages).unwrap());
        Endorser::new(self.clone(), runtime, EndorserConfig::default())
    }
}

impl PeerContext for TestPeer {
    fn identity(&self) -> SigningIdentity {
        self.identity.clone()
    }

    fn local_msp(&self) -> Arc<MspManager> {
        Arc::clone(&self.local_msp)
    }

    fn channel(&self, id: &str) -> Option<Arc<PeerChannel>> {
        self.channels.read().get(id).cloned()
    }

    fn channels(&self) -> Vec<String> {
        self.channels.read().keys().cloned().collect()
    }

    fn join_channel(&self, block: common::Block) -> Result<(), JoinError> {
        let bundle = selvedge_channel::Bundle::from_config_block(&block)
            .map_err(|e| JoinError::Refused(e.to_string()))?;
        let id = bundle.channel_id().to_owned();
        let mut channels = self.channels.write();
        if channels.contains_key(&id) {
            return Err(JoinError::AlreadyExists { channel: id });
        }
        let channel = PeerChannel::create(&self.dir.path().join(&id), block)
            .map_err(|e| JoinError::Refused(e.to_string()))?;
        channels.insert(id, channel);
        Ok(())
    }
}

/// What a proposal asks for.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) channel: String,
    pub(crate) chaincode: String,
    pub(crate) args: Vec<Bytes>,
    pub(crate) is_init: bool,
    pub(crate) transient: BTreeMap<String, Bytes>,
    pub(crate) timestamp: i64,
}

pub(crate) fn ask(channel: &str, chaincode: &str, args: &[&[u8]]) -> Ask {
    Ask {
        channel: channel.into(),
        chaincode: chaincode.into(),
        args: args.iter().map(|a| Bytes::copy_from_slice(a)).collect(),
        is_init: false,
        transient: BTreeMap::new(),
        timestamp: now(),
    }
}

/// The header parts of a proposal, for tests that break them.
pub(crate) struct Draft {
    pub(crate) channel_header: common::ChannelHeader,
    pub(crate) signature_header: common::SignatureHeader,
    pub(crate) payload: Bytes,
}

pub(crate) fn draft(signer: &SigningIdentity, ask: &Ask) -> Draft {
    let nonce = Bytes::from(rand::random::<[u8; 24]>().to_vec());
    let extension = protos::ChaincodeHeaderExtension {
        chaincode_id: Some(protos::ChaincodeId {
            name: ask.chaincode.clone(),
            ..Default::default()
        }),
    };
    let input = protos::ChaincodeInvocationSpec {
        chaincode_spec: Some(protos::ChaincodeSpec {
            r#type: 2,
            chaincode_id: Some(protos::ChaincodeId {
                name: ask.chaincode.clone(),
                ..Default::default()
            }),
            input: Some(protos::ChaincodeInput {
                args: ask.args.clone(),
                is_init: ask.is_init,
                ..Default::default()
            }),
            timeout: 0,
        }),
    };
    let payload = protos::ChaincodeProposalPayload {
        input: input.encode_to_vec().into(),
        transient_map: ask.transient.clone().into_iter().collect(),
    };
    Draft {
        channel_header: common::ChannelHeader {
            r#type: 3,
            timestamp: Some(prost_types::Timestamp {
                seconds: ask.timestamp,
                nanos: 0,
            }),
            channel_id: ask.channel.clone(),
            tx_id: selvedge_proto::compute_tx_id(&nonce, signer.creator()),
            extension: extension.encode_to_vec().into(),
            ..Default::default()
        },
        signature_header: common::SignatureHeader {
            creator: signer.creator().clone(),
            nonce,
        },
        payload: payload.encode_to_vec().into(),
    }
}

impl Draft {
    pub(crate) fn sign(&self, signer: &SigningIdentity) -> protos::SignedProposal {
        let header = common::Header {
            channel_header: self.channel_header.encode_to_vec().into(),
            signature_header: self.signature_header.encode_to_vec().into(),
        };
        let proposal = protos::Proposal {
            header: header.encode_to_vec().into(),
            payload: self.payload.clone(),
            ..Default::default()
        };
        let proposal_bytes = Bytes::from(proposal.encode_to_vec());
        let signature = signer.sign(&proposal_bytes).unwrap();
        protos::SignedProposal {
            proposal_bytes,
            signature,
        }
    }
}

pub(crate) fn proposal(signer: &SigningIdentity, ask: &Ask) -> protos::SignedProposal {
    draft(signer, ask).sign(signer)
}

/// The transaction of endorsed responses, as a block carries it.
pub(crate) fn transaction(
    signer: &SigningIdentity,
    signed: &protos::SignedProposal,
    responses: &[protos::ProposalResponse],
) -> Bytes {
    let proposal = protos::Proposal::decode(signed.proposal_bytes.clone()).unwrap();
    let header = common::Header::decode(proposal.header).unwrap();
    let input = protos::ChaincodeProposalPayload::decode(proposal.payload)
        .unwrap()
        .input;
    let action = protos::ChaincodeActionPayload {
        chaincode_proposal_payload: selvedge_proto::stripped_proposal_payload(input),
        action: Some(protos::ChaincodeEndorsedAction {
            proposal_response_payload: responses[0].payload.clone(),
            endorsements: responses.iter().map(|r| r.endorsement.clone().unwrap()).collect(),
        }),
    };
    let transaction = protos::Transaction {
        actions: vec![protos::TransactionAction {
            header: header.signature_header.clone(),
            payload: action.encode_to_vec().into(),
        }],
    };
    let payload = common::Payload {
        header: Some(header),
        data: transaction.encode_to_vec().into(),
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = signer.sign(&payload).unwrap();
    common::Envelope { payload, signature }.encode_to_vec().into()
}

/// Two organisations with a peer each, on one channel.
pub(crate) struct Consortium {
    pub(crate) orgs: [Org; 2],
    pub(crate) peers: [Arc<TestPeer>; 2],
    pub(crate) endorsers: [Endorser; 2],
    pub(crate) channel: String,
}

impl Consortium {
    pub(crate) fn new() -> Self {
        Self::with(&RuntimeConfig {
            concurrency: 2,
            ..Default::default()
        })
    }

    pub(crate) fn with(config: &RuntimeConfig) -> Self {
        let orgs = [Org::new("Org1MSP", "org1"), Org::new("Org2MSP", "org2")];
        let orderer = Org::new("OrdererMSP", "orderer");
        let block = genesis("trade", &orderer, &[&orgs[0], &orgs[1]]);
        let peers = [TestPeer::new(&orgs[0]), TestPeer::new(&orgs[1])];
        for peer in &peers {
            peer.join_channel(block.clone()).unwrap();
        }
        let endorsers = [peers[0].endorser(config), peers[1].endorser(config)];
        Self {
            orgs,
            peers,
            endorsers,
            channel: "trade".into(),
        }
    }

    /// The answer of one peer.
    pub(crate) fn answer(&self, peer: usize, proposal: &protos::SignedProposal) -> protos::ProposalResponse {
        match self.endorsers[peer].process(proposal) {
            EndorseOutcome::Answered(response) => *response,
            other => panic!("{other:?}"),
        }
    }

    /// The response of one peer.
    pub(crate) fn response(&self, peer: usize, signer: &SigningIdentity, ask: &Ask) -> protos::Response {
        self.answer(peer, &proposal(signer, ask)).response.unwrap()
    }

    /// Endorses on some peers, commits on all, and gives the validation code.
    pub(crate) fn submit(
        &self,
        peers: &[usize],
        signer: &SigningIdentity,
        ask: &Ask,
    ) -> protos::TxValidationCode {
        let signed = proposal(signer, ask);
        let responses: Vec<_> = peers.iter().map(|peer| self.answer(*peer, &signed)).collect();
        for response in &responses {
            let found = response.response.as_ref().unwrap();
            assert!(found.status < 400, "{} {}", found.status, found.message);
            assert_eq!(response.payload, responses[0].payload, "endorsers disagree");
        }
        self.commit(vec![transaction(signer, &signed, &responses)])[0]
    }

    /// Commits a block on all peers.
    pub(crate) fn commit(&self, data: Vec<Bytes>) -> Vec<protos::TxValidationCode> {
        let mut codes = Vec::new();
        for peer in &self.peers {
            let channel = peer.channel(&self.channel).unwrap();
            let last = channel
                .ledger()
                .blocks()
                .block(channel.height() - 1)
                .unwrap()
                .unwrap();
            let previous = selvedge_proto::block_hash(&last.header.unwrap());
            let mut block = selvedge_proto::new_block(channel.height(), previous, data.clone());
            let metadata = common::OrdererBlockMetadata {
                last_config: Some(common::LastConfig { index: 0 }),
                ..Default::default()
            };
            let metadata = common::Metadata {
                value: metadata.encode_to_vec().into(),
                ..Default::default()
            };
            selvedge_proto::put_metadata(
                &mut block,
                common::BlockMetadataIndex::Signatures,
                metadata.encode_to_vec().into(),
            );
            let committed = channel.process_block(block).unwrap();
            codes = committed.txs.iter().map(|tx| tx.code).collect();
        }
        codes
    }

    /// Installs a contract on both peers; gives the package id.
    pub(crate) fn install(&self, label: &str, wasm: &[u8]) -> String {
        let bytes = package::write_package(label, wasm).unwrap();
        for endorser in &self.endorsers {
            endorser.runtime().install(&bytes).unwrap();
        }
        package::package_id(label, &bytes)
    }
}
