//! openraft's own test suite over the log store and the state machine.

use std::path::Path;
use std::sync::Arc;

use openraft::testing::{StoreBuilder, Suite};
use selvedge_channel::genesis::{ChannelProfile, OrgProfile, genesis_block};
use selvedge_msp::dir::{MspDirContents, read_msp_config, write_msp_dir};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SigningIdentity, SubjectExtra, Usage, Validity,
};
use selvedge_proto::{common, etcdraft};
use tokio_util::sync::CancellationToken;

use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::{StorageError, TypeConfig};
use crate::chain::Chain;
use crate::peers::Dialling;
use crate::puller::Puller;

const VALIDITY: Validity = Validity {
    not_before: 1_700_000_000,
    not_after: 4_000_000_000,
};

struct Consortium {
    genesis: common::Block,
    signer: SigningIdentity,
}

impl Consortium {
    fn new(dir: &Path) -> Self {
        let authority = CertificateAuthority::generate_root(
            &CaSubject {
                common_name: "ca".into(),
                ..CaSubject::default()
            },
            &VALIDITY,
        )
        .unwrap();
        let key = PrivateKey::generate().unwrap();
        let certificate = authority
            .issue(&IssueRequest {
                public_key: key.public_key().clone(),
                common_name: "o".into(),
                organizational_units: vec!["orderer".into()],
                dns_names: vec![],
                ip_addresses: vec![],
                attributes: Default::default(),
                usage: Usage::Identity,
                not_before: VALIDITY.not_before,
                not_after: VALIDITY.not_after,
                subject_extra: SubjectExtra::default(),
            })
            .unwrap();
        let ca = || vec![("ca.pem".to_owned(), authority.certificate().clone())];
        let contents = MspDirContents {
            cacerts: ca(),
            intermediatecerts: vec![],
            tlscacerts: ca(),
            tlsintermediatecerts: vec![],
            admincerts: vec![],
            crls: vec![],
            signcert: None,
            key: None,
            node_ous: true,
        };
        write_msp_dir(dir, &contents).unwrap();
        let org = |name: &str| OrgProfile {
            name: name.into(),
            msp_id: name.into(),
            msp: read_msp_config(dir, name).unwrap(),
            endpoints: vec!["o:7050".into()],
            anchor_peers: vec![],
        };
        let pem = certificate.to_pem();
        let mut profile = ChannelProfile::new("suite");
        profile.orderer_orgs = vec![org("OrdererMSP")];
        profile.application_orgs = vec![org("Org1MSP")];
        profile.consenters = vec![etcdraft::Consenter {
            host: "o".into(),
            port: 7050,
            client_tls_cert: pem.clone().into(),
            server_tls_cert: pem.clone().into(),
        }];
        Self {
            genesis: genesis_block(&profile).unwrap(),
            signer: SigningIdentity::new("OrdererMSP", pem.as_bytes(), key).unwrap(),
        }
    }
}

struct Builder(Consortium);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let blocks = dir.path().join("blocks");
        let chain = Chain::create(&blocks, "suite", &self.0.genesis, self.0.signer.clone().into()).unwrap();
        let raft = dir.path().join("raft");
        let log = LogStore::open(&raft).unwrap();
        let puller = Puller {
            dialling: Arc::new(Dialling {
                identity: None,
                extra_roots: vec![],
                addresses: Default::default(),
            }),
            own_address: "o:7050".into(),
            stop: CancellationToken::new(),
        };
        let state = StateMachine::open(raft, Arc::new(chain), &log, Arc::new(puller)).unwrap();
        Ok((dir, log, state))
    }
}

#[test]
fn the_stores_do_what_openraft_expects() {
    let dir = tempfile::tempdir().unwrap();
    Suite::test_all(Builder(Consortium::new(dir.path()))).unwrap();
}
