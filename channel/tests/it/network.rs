//! Organisations and a channel for tests.

use std::collections::BTreeMap;

use selvedge_channel::genesis::{ChannelProfile, OrgProfile, genesis_block};
use selvedge_channel::{Bundle, UpdateError, update};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SigningIdentity, SubjectExtra, Usage, Validity,
};
use selvedge_proto::{Message, common, etcdraft, msp};

const NOT_BEFORE: i64 = 1_700_000_000;
const NOT_AFTER: i64 = 4_000_000_000;

/// An organisation with its authorities.
pub(crate) struct Org {
    pub(crate) msp_id: String,
    pub(crate) ca: CertificateAuthority,
    tls_ca: CertificateAuthority,
}

fn authority(name: &str) -> CertificateAuthority {
    let subject = CaSubject {
        common_name: name.to_owned(),
        ..CaSubject::default()
    };
    CertificateAuthority::generate_root(
        &subject,
        &Validity {
            not_before: NOT_BEFORE,
            not_after: NOT_AFTER,
        },
    )
    .unwrap()
}

fn request(key: &PrivateKey, name: &str, ous: &[&str], usage: Usage) -> IssueRequest {
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

impl Org {
    pub(crate) fn new(msp_id: &str) -> Self {
        Self {
            msp_id: msp_id.to_owned(),
            ca: authority(&format!("ca.{msp_id}")),
            tls_ca: authority(&format!("tlsca.{msp_id}")),
        }
    }

    /// A new identity with one role: `admin`, `client`, `peer` or `orderer`.
    pub(crate) fn identity(&self, role: &str) -> SigningIdentity {
        let key = PrivateKey::generate().unwrap();
        let name = format!("{role}.{}", self.msp_id);
        let certificate = self
            .ca
            .issue(&request(&key, &name, &[role], Usage::Identity))
            .unwrap();
        SigningIdentity::new(&self.msp_id, certificate.to_pem().as_bytes(), key).unwrap()
    }

    pub(crate) fn tls_certificate(&self, name: &str) -> String {
        let key = PrivateKey::generate().unwrap();
        self.tls_ca
            .issue(&request(&key, name, &[], Usage::Tls))
            .unwrap()
            .to_pem()
    }

    pub(crate) fn consenter(&self, host: &str, port: u32) -> etcdraft::Consenter {
        etcdraft::Consenter {
            host: host.to_owned(),
            port,
            client_tls_cert: self.tls_certificate(host).into(),
            server_tls_cert: self.tls_certificate(host).into(),
        }
    }

    pub(crate) fn tls_root(&self) -> Vec<u8> {
        self.tls_ca.certificate().to_pem().into_bytes()
    }

    pub(crate) fn msp(&self) -> msp::MspConfig {
        let ou = |name: &str| {
            Some(msp::FabricOuIdentifier {
                organizational_unit_identifier: name.to_owned(),
                ..Default::default()
            })
        };
        let fabric = msp::FabricMspConfig {
            name: self.msp_id.clone(),
            root_certs: vec![self.ca.certificate().to_pem().into()],
            tls_root_certs: vec![self.tls_root().into()],
            fabric_node_ous: Some(msp::FabricNodeOUs {
                enable: true,
                client_ou_identifier: ou("client"),
                peer_ou_identifier: ou("peer"),
                admin_ou_identifier: ou("admin"),
                orderer_ou_identifier: ou("orderer"),
            }),
            ..Default::default()
        };
        msp::MspConfig {
            r#type: 0,
            config: fabric.encode_to_vec().into(),
        }
    }

    pub(crate) fn profile(&self) -> OrgProfile {
        OrgProfile {
            name: self.msp_id.replace("MSP", ""),
            msp_id: self.msp_id.clone(),
            msp: self.msp(),
            endpoints: Vec::new(),
            anchor_peers: Vec::new(),
        }
    }
}

/// A channel with one ordering organisation and two others.
pub(crate) struct Network {
    pub(crate) orderer: Org,
    pub(crate) org1: Org,
    pub(crate) org2: Org,
    pub(crate) profile: ChannelProfile,
    pub(crate) block: common::Block,
    pub(crate) bundle: Bundle,
}

pub(crate) const CHANNEL: &str = "trade";

impl Network {
    pub(crate) fn new() -> Self {
        let (orderer, org1, org2) = (Org::new("OrdererMSP"), Org::new("Org1MSP"), Org::new("Org2MSP"));
        let mut profile = ChannelProfile::new(CHANNEL);
        profile.orderer_orgs = vec![OrgProfile {
            endpoints: vec!["orderer0.example.com:7050".to_owned()],
            ..orderer.profile()
        }];
        profile.application_orgs = vec![
            OrgProfile {
                anchor_peers: vec![("peer0.org1.example.com".to_owned(), 7051)],
                ..org1.profile()
            },
            org2.profile(),
        ];
        profile.consenters = (0..3)
            .map(|i| orderer.consenter(&format!("orderer{i}.example.com"), 7050))
            .collect();
        let block = genesis_block(&profile).unwrap();
        let bundle = Bundle::from_config_block(&block).unwrap();
        Self {
            orderer,
            org1,
            org2,
            profile,
            block,
            bundle,
        }
    }

    /// Both application admins and the orderer's: enough for anything.
    pub(crate) fn admins(&self) -> Vec<SigningIdentity> {
        [&self.orderer, &self.org1, &self.org2]
            .map(|org| org.identity("admin"))
            .to_vec()
    }

    /// Submits an update signed by `signers`.
    pub(crate) fn propose(
        &self,
        update: &common::ConfigUpdate,
        signers: &[SigningIdentity],
    ) -> Result<common::ConfigEnvelope, UpdateError> {
        self.bundle.propose_update(&update_envelope(update, signers))
    }

    /// Submits the difference between the current configuration and `edit` of it.
    pub(crate) fn change(
        &self,
        edit: impl FnOnce(&mut update::edit::ConfigTree),
        signers: &[SigningIdentity],
    ) -> Result<common::ConfigEnvelope, UpdateError> {
        let mut tree = update::edit::ConfigTree::from_config(self.bundle.config());
        edit(&mut tree);
        let update = update::compute(CHANNEL, self.bundle.config(), &tree.into_config())?;
        self.propose(&update, signers)
    }
}

pub(crate) fn update_envelope(
    update: &common::ConfigUpdate,
    signers: &[SigningIdentity],
) -> common::Envelope {
    let bytes = update.encode_to_vec();
    let signatures = signers.iter().map(|s| update::sign(&bytes, s).unwrap()).collect();
    let submitter = match signers.first() {
        Some(first) => first.clone(),
        None => Org::new("NobodyMSP").identity("client"),
    };
    update::envelope(&update.channel_id, bytes.into(), signatures, &submitter).unwrap()
}
