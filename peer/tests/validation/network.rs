//! Organisations, a channel, and hand-made transactions and blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_channel::genesis::{ChannelProfile, OrgProfile, genesis_block};
use selvedge_channel::verify::sign_block;
use selvedge_comm::TlsIdentity;
use selvedge_msp::policy::dsl;
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SigningIdentity, SubjectExtra, Usage, Validity,
};
use selvedge_peer::{CommittedBlock, PeerChannel};
use selvedge_proto::protos::TxValidationCode as Code;
use selvedge_proto::{Bytes, Message, common, etcdraft, lifecycle, msp, new_block, protos};

use crate::transaction::{Tx, Writes, rand_nonce};

pub(crate) const CHANNEL: &str = "trade";
const NOT_BEFORE: i64 = 1_700_000_000;
const NOT_AFTER: i64 = 4_000_000_000;

pub(crate) struct Org {
    pub(crate) msp_id: String,
    pub(crate) ca: CertificateAuthority,
    pub(crate) tls_ca: CertificateAuthority,
    pub(crate) peer: SigningIdentity,
    pub(crate) client: SigningIdentity,
    pub(crate) admin: SigningIdentity,
}

fn authority(name: &str) -> CertificateAuthority {
    let subject = CaSubject {
        common_name: name.to_owned(),
        ..CaSubject::default()
    };
    let validity = Validity {
        not_before: NOT_BEFORE,
        not_after: NOT_AFTER,
    };
    CertificateAuthority::generate_root(&subject, &validity).unwrap()
}

pub(crate) fn request(key: &PrivateKey, name: &str, ous: &[&str], usage: Usage) -> IssueRequest {
    IssueRequest {
        public_key: key.public_key().clone(),
        common_name: name.to_owned(),
        organizational_units: ous.iter().map(|ou| (*ou).to_owned()).collect(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        attributes: BTreeMap::new(),
        usage,
        not_before: NOT_BEFORE,
        not_after: NOT_AFTER,
        subject_extra: SubjectExtra::default(),
    }
}

pub(crate) fn identity(ca: &CertificateAuthority, msp_id: &str, ous: &[&str]) -> SigningIdentity {
    let key = PrivateKey::generate().unwrap();
    let name = format!("{}.{msp_id}", ous.join("-"));
    let certificate = ca.issue(&request(&key, &name, ous, Usage::Identity)).unwrap();
    SigningIdentity::new(msp_id, certificate.to_pem().as_bytes(), key).unwrap()
}

impl Org {
    /// A TLS certificate for these hosts, and its key.
    pub(crate) fn tls_identity(&self, address: &str) -> TlsIdentity {
        let key = PrivateKey::generate().unwrap();
        let mut request = request(&key, "node", &[], Usage::Tls);
        request.ip_addresses = vec![address.parse().unwrap()];
        let certificate = self.tls_ca.issue(&request).unwrap();
        TlsIdentity::new(certificate.to_pem().as_bytes(), key.to_pkcs8_pem().as_bytes())
    }

    pub(crate) fn tls_root(&self) -> Vec<u8> {
        self.tls_ca.certificate().to_pem().into_bytes()
    }

    fn new(msp_id: &str) -> Self {
        let ca = authority(&format!("ca.{msp_id}"));
        Self {
            peer: identity(&ca, msp_id, &["peer"]),
            client: identity(&ca, msp_id, &["client"]),
            admin: identity(&ca, msp_id, &["admin"]),
            tls_ca: authority(&format!("tlsca.{msp_id}")),
            msp_id: msp_id.to_owned(),
            ca,
        }
    }

    fn profile(&self) -> OrgProfile {
        let ou = |name: &str| {
            Some(msp::FabricOuIdentifier {
                organizational_unit_identifier: name.into(),
                ..Default::default()
            })
        };
        let fabric = msp::FabricMspConfig {
            name: self.msp_id.clone(),
            root_certs: vec![self.ca.certificate().to_pem().into()],
            tls_root_certs: vec![self.tls_ca.certificate().to_pem().into()],
            fabric_node_ous: Some(msp::FabricNodeOUs {
                enable: true,
                client_ou_identifier: ou("client"),
                peer_ou_identifier: ou("peer"),
                admin_ou_identifier: ou("admin"),
                orderer_ou_identifier: ou("orderer"),
            }),
            ..Default::default()
        };
        OrgProfile {
            name: self.msp_id.replace("MSP", ""),
            msp_id: self.msp_id.clone(),
            msp: msp::MspConfig {
                r#type: 0,
                config: fabric.encode_to_vec().into(),
            },
            endpoints: Vec::new(),
            anchor_peers: Vec::new(),
        }
    }
}

pub(crate) struct Network {
    pub(crate) orderer_org: Org,
    pub(crate) orderer: SigningIdentity,
    pub(crate) orgs: Vec<Org>,
    pub(crate) genesis: common::Block,
}

impl Network {
    /// Organisations Org1, Org2 ... and an ordering service that is reached at `endpoints`.
    pub(crate) fn new(count: usize, endpoints: &[String]) -> Self {
        let orderer_org = Org::new("OrdererMSP");
        let orgs: Vec<Org> = (1..=count).map(|i| Org::new(&format!("Org{i}MSP"))).collect();
        let mut profile = ChannelProfile::new(CHANNEL);
        profile.orderer_orgs = vec![OrgProfile {
            endpoints: endpoints.to_vec(),
            ..orderer_org.profile()
        }];
        profile.application_orgs = orgs.iter().map(Org::profile).collect();
        let tls = || -> Bytes {
            let key = PrivateKey::generate().unwrap();
            let certificate = orderer_org
                .tls_ca
                .issue(&request(&key, "orderer0", &[], Usage::Tls))
                .unwrap();
            certificate.to_pem().into()
        };
        profile.consenters = vec![etcdraft::Consenter {
            host: "orderer0.example.com".into(),
            port: 7050,
            client_tls_cert: tls(),
            server_tls_cert: tls(),
        }];
        Self {
            orderer: identity(&orderer_org.ca, "OrdererMSP", &["orderer"]),
            orgs,
            orderer_org,
            genesis: genesis_block(&profile).unwrap(),
        }
    }

    pub(crate) fn usual(count: usize) -> Self {
        Self::new(count, &["orderer0.example.com:7050".to_owned()])
    }

    /// The peers of these organisations, by index.
    pub(crate) fn peers(&self, orgs: &[usize]) -> Vec<&SigningIdentity> {
        orgs.iter().map(|i| &self.orgs[*i].peer).collect()
    }

    pub(crate) fn all_peers(&self) -> Vec<&SigningIdentity> {
        self.orgs.iter().map(|org| &org.peer).collect()
    }

    /// A transaction of this chaincode by Org1's client, endorsed by all peers.
    pub(crate) fn tx(&self, chaincode: &str, writes: Writes) -> Tx<'_> {
        Tx {
            creator: &self.orgs[0].client,
            endorsers: self.all_peers(),
            chaincode: chaincode.into(),
            results: writes.results(),
            nonce: rand_nonce(),
            events: Bytes::new(),
        }
    }

    /// The transaction that commits a chaincode definition.
    pub(crate) fn define(
        &self,
        name: &str,
        policy: &str,
        collections: protos::CollectionConfigPackage,
    ) -> Tx<'_> {
        let policy = protos::ApplicationPolicy {
            r#type: Some(protos::application_policy::Type::SignaturePolicy(
                dsl::parse(policy).unwrap(),
            )),
        };
        self.define_raw(name, "vscc", policy.encode_to_vec().into(), collections)
    }

    pub(crate) fn define_raw(
        &self,
        name: &str,
        plugin: &str,
        policy: Bytes,
        collections: protos::CollectionConfigPackage,
    ) -> Tx<'_> {
        let data = |value| lifecycle::StateData { r#type: Some(value) }.encode_to_vec();
        let bytes = |message: Vec<u8>| data(lifecycle::state_data::Type::Bytes(message.into()));
        let fields = [
            ("Sequence", data(lifecycle::state_data::Type::Int64(1))),
            (
                "EndorsementInfo",
                bytes(
                    lifecycle::ChaincodeEndorsementInfo {
                        version: "1".into(),
                        init_required: false,
                        endorsement_plugin: "escc".into(),
                    }
                    .encode_to_vec(),
                ),
            ),
            (
                "ValidationInfo",
                bytes(
                    lifecycle::ChaincodeValidationInfo {
                        validation_plugin: plugin.into(),
                        validation_parameter: policy,
                    }
                    .encode_to_vec(),
                ),
            ),
            ("Collections", bytes(collections.encode_to_vec())),
        ];
        let metadata = lifecycle::StateMetadata {
            datatype: "ChaincodeDefinition".into(),
            fields: fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        let mut writes = Writes::new().put(
            "_lifecycle",
            &format!("namespaces/metadata/{name}"),
            &metadata.encode_to_vec(),
        );
        for (field, value) in &fields {
            writes = writes.put("_lifecycle", &format!("namespaces/fields/{name}/{field}"), value);
        }
        self.tx("_lifecycle", writes)
    }

    /// The next block of a channel, signed by the orderer.
    pub(crate) fn block(&self, number: u64, previous: Bytes, envelopes: Vec<Bytes>) -> common::Block {
        let mut block = new_block(number, previous, envelopes);
        sign_block(&mut block, 0, &[], &self.orderer).unwrap();
        block
    }
}

/// A channel under test, with the network that it belongs to.
pub(crate) struct Chain {
    pub(crate) network: Network,
    pub(crate) channel: Arc<PeerChannel>,
    pub(crate) dir: tempfile::TempDir,
}

impl Chain {
    pub(crate) fn new(orgs: usize) -> Self {
        let network = Network::usual(orgs);
        let dir = tempfile::tempdir().unwrap();
        let channel = PeerChannel::create(dir.path(), network.genesis.clone()).unwrap();
        Self {
            network,
            channel,
            dir,
        }
    }

    /// With a chaincode `cc` under this policy in block 1.
    pub(crate) fn with_chaincode(orgs: usize, policy: &str) -> Self {
        let chain = Self::new(orgs);
        let define = chain.network.define("cc", policy, Default::default()).envelope();
        assert_eq!(chain.commit_codes(vec![define]), [Code::Valid]);
        chain
    }

    pub(crate) fn next_block(&self, envelopes: Vec<Bytes>) -> common::Block {
        let previous = self.channel.ledger().blocks().last_hash().unwrap();
        self.network.block(self.channel.height(), previous, envelopes)
    }

    pub(crate) fn commit(&self, envelopes: Vec<Bytes>) -> Arc<CommittedBlock> {
        self.channel.process_block(self.next_block(envelopes)).unwrap()
    }

    pub(crate) fn commit_codes(&self, envelopes: Vec<Bytes>) -> Vec<Code> {
        self.commit(envelopes).txs.iter().map(|tx| tx.code).collect()
    }

    pub(crate) fn tx(&self, writes: Writes) -> Tx<'_> {
        self.network.tx("cc", writes)
    }

    /// Codes of one block with these transactions.
    pub(crate) fn codes(&self, txs: &[&Tx<'_>]) -> Vec<Code> {
        self.commit_codes(txs.iter().map(|tx| tx.envelope()).collect())
    }

    pub(crate) fn value(&self, ns: &str, key: &str) -> Option<Bytes> {
        use selvedge_ledger::StateReader;
        self.channel
            .ledger()
            .state()
            .get(ns, key)
            .unwrap()
            .map(|entry| entry.value)
    }

    pub(crate) fn reason(&self, tx: &Tx<'_>) -> String {
        self.channel
            .refusal(&tx.id())
            .expect("the refusal is kept")
            .reason
            .clone()
    }

    pub(crate) fn reopen(&mut self) {
        let id = self.channel.id().to_owned();
        // The database is locked by whoever has it open.
        let placeholder = tempfile::tempdir().unwrap();
        self.channel = PeerChannel::create(placeholder.path(), self.network.genesis.clone()).unwrap();
        self.channel = PeerChannel::open(self.dir.path(), &id).unwrap();
    }
}
