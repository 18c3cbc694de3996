//! Organisations for tests.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, Msp, MspManager, MspVersion, PrivateKey, SigningIdentity,
    SubjectExtra, Usage, Validity,
};
use selvedge_proto::msp;

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
