//! A gateway's files for tests: identity and configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_msp::dir::{MspDirContents, write_msp_dir};
use selvedge_msp::{
    CaSubject, CertificateAuthority, IssueRequest, PrivateKey, SubjectExtra, Usage, Validity,
};
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
