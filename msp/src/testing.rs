//! Organisations for tests: real CAs, real certificates.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvedge_proto::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier};

use crate::certificate::Certificate;
use crate::identity::{Identity, SigningIdentity};
use crate::identity_error::IdentityError;
use crate::issue::{CaSubject, CertificateAuthority, IssueRequest, SubjectExtra, Usage, Validity};
use crate::keys::{PrivateKey, PublicKey};
use crate::msp::{Msp, MspVersion};
use crate::setup::MspError;

/// A day long ago, so that every certificate made here is expired by the clock on the wall.
pub(crate) const LONG_AGO: i64 = 1_000_000_000;
pub(crate) const DAY: i64 = 86_400;

pub(crate) struct Org {
    pub(crate) msp_id: String,
    pub(crate) ca: CertificateAuthority,
    pub(crate) config: FabricMspConfig,
}

pub(crate) fn root(name: &str) -> CertificateAuthority {
    let subject = CaSubject {
        common_name: name.to_owned(),
        extra: SubjectExtra {
            organization: Some(name.to_owned()),
            ..SubjectExtra::default()
        },
        ..CaSubject::default()
    };
    let validity = Validity {
        not_before: LONG_AGO - DAY,
        not_after: LONG_AGO + 20 * DAY,
    };
    CertificateAuthority::generate_root(&subject, &validity).unwrap()
}

pub(crate) fn request(name: &str, units: &[&str], public_key: &PublicKey) -> IssueRequest {
    IssueRequest {
        public_key: public_key.clone(),
        common_name: name.to_owned(),
        organizational_units: units.iter().map(|u| (*u).to_owned()).collect(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        attributes: BTreeMap::new(),
        usage: Usage::Identity,
        not_before: LONG_AGO,
        not_after: LONG_AGO + DAY,
        subject_extra: SubjectExtra::default(),
    }
}

/// An intermediate CA below `parent`.
pub(crate) fn intermediate(parent: &CertificateAuthority, name: &str) -> CertificateAuthority {
    let key = PrivateKey::generate().unwrap();
    let certificate = parent
        .issue(&IssueRequest {
            usage: Usage::Ca,
            ..request(name, &[], key.public_key())
        })
        .unwrap();
    CertificateAuthority::new(certificate, key).unwrap()
}

/// A holder of a certificate of `ca`.
pub(crate) fn holder(ca: &CertificateAuthority, msp_id: &str, name: &str, units: &[&str]) -> SigningIdentity {
    let key = PrivateKey::generate().unwrap();
    let certificate = ca.issue(&request(name, units, key.public_key())).unwrap();
    SigningIdentity::new(msp_id, certificate.to_pem().as_bytes(), key).unwrap()
}

pub(crate) fn pem(certificate: &Certificate) -> Bytes {
    certificate.to_pem().into()
}

pub(crate) fn node_ous(certificate: &Certificate) -> FabricNodeOUs {
    let unit = |name: &str| {
        Some(FabricOuIdentifier {
            certificate: pem(certificate),
            organizational_unit_identifier: name.to_owned(),
        })
    };
    FabricNodeOUs {
        enable: true,
        client_ou_identifier: unit("client"),
        peer_ou_identifier: unit("peer"),
        admin_ou_identifier: unit("admin"),
        orderer_ou_identifier: unit("orderer"),
    }
}

impl Org {
    /// With one root CA and NodeOUs.
    pub(crate) fn new(msp_id: &str) -> Self {
        let ca = root(&format!("ca.{msp_id}"));
        let config = FabricMspConfig {
            name: msp_id.to_owned(),
            root_certs: vec![pem(ca.certificate())],
            fabric_node_ous: Some(node_ous(ca.certificate())),
            ..FabricMspConfig::default()
        };
        Self {
            msp_id: msp_id.to_owned(),
            ca,
            config,
        }
    }

    pub(crate) fn holder(&self, name: &str, units: &[&str]) -> SigningIdentity {
        holder(&self.ca, &self.msp_id, name, units)
    }

    pub(crate) fn msp(&self) -> Msp {
        Msp::from_fabric_config(self.config.clone(), MspVersion::V1_4_3).unwrap()
    }
}

pub(crate) fn identity_of(msp: &Msp, signer: &SigningIdentity) -> Identity {
    msp.deserialize(signer.certificate().to_pem().as_bytes()).unwrap()
}

pub(crate) fn validate(msp: &Msp, signer: &SigningIdentity) -> Result<(), IdentityError> {
    msp.validate(&identity_of(msp, signer))
}

pub(crate) fn build(config: FabricMspConfig) -> Result<Msp, MspError> {
    Msp::from_fabric_config(config, MspVersion::V1_4_3)
}
