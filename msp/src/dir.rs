//! MSP folders (spec 02 §13.6): reading them as Fabric's tools write them, and writing them alike.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use selvedge_proto::msp::{
    FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig,
};
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::files;
use crate::keys::{KeyError, PrivateKey};
use crate::pem;

/// Files larger than this are not certificates, keys or CRLs.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Why an MSP folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    /// A file or folder cannot be accessed.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder without what must be in it.
    #[error("{path} holds no {what}")]
    Missing {
        /// The folder.
        path: String,
        /// What is missing.
        what: &'static str,
    },
    /// A file with wrong content.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// None of the keys belongs to the certificate.
    #[error("{keystore} holds no private key for the certificate {certificate}{unreadable}")]
    NoKey {
        /// The key folder.
        keystore: String,
        /// The certificate's file.
        certificate: String,
        /// Files there that could not be read, with the reasons; empty when there are none.
        unreadable: String,
    },
    /// A key cannot be written.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFile {
    #[serde(rename = "NodeOUs", default, skip_serializing_if = "Option::is_none")]
    node_ous: Option<NodeOus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    organizational_unit_identifiers: Option<Vec<OuIdentifier>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeOus {
    #[serde(default)]
    enable: bool,
    #[serde(
        rename = "ClientOUIdentifier",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    client: Option<OuIdentifier>,
    #[serde(rename = "PeerOUIdentifier", default, skip_serializing_if = "Option::is_none")]
    peer: Option<OuIdentifier>,
    #[serde(
        rename = "AdminOUIdentifier",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    admin: Option<OuIdentifier>,
    #[serde(
        rename = "OrdererOUIdentifier",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    orderer: Option<OuIdentifier>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OuIdentifier {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    organizational_unit_identifier: String,
}

/// Reads the public part of an MSP folder: what goes into a channel's configuration, or verifies for a node's local MSP.
///
/// Files without PEM content, such as a README, are passed over. Unlike Fabric, a certificate that `config.yaml` names
/// must exist: without it the rule would silently become weaker.
///
/// # Errors
/// When the folder has no CA certificate, or something in it cannot be read.
pub fn read_msp_config(dir: &Path, msp_id: &str) -> Result<MspConfig, DirError> {
    let root_certs = pem_files(&dir.join("cacerts"))?;
    if root_certs.is_empty() {
        return Err(DirError::Missing {
            path: shown(&dir.join("cacerts")),
            what: "CA certificate",
        });
    }
    let mut config = FabricMspConfig {
        name: msp_id.to_owned(),
        root_certs: contents(root_certs),
        intermediate_certs: contents(pem_files(&dir.join("intermediatecerts"))?),
        admins: contents(pem_files(&dir.join("admincerts"))?),
        revocation_list: contents(pem_files(&dir.join("crls"))?),
        crypto_config: Some(FabricCryptoConfig {
            signature_hash_family: "SHA2".to_owned(),
            identity_identifier_hash_function: "SHA256".to_owned(),
        }),
        tls_root_certs: contents(pem_files(&dir.join("tlscacerts"))?),
        tls_intermediate_certs: contents(pem_files(&dir.join("tlsintermediatecerts"))?),
        ..FabricMspConfig::default()
    };
    let path = dir.join("config.yaml");
    if path.exists() {
        let text = read_file(&path)?;
        let file: ConfigFile = serde_yaml_ng::from_slice(&text).map_err(|e| DirError::Content {
            path: shown(&path),
            reason: e.to_string(),
        })?;
        config.organizational_unit_identifiers = file
            .organizational_unit_identifiers
            .iter()
            .flatten()
            .map(|unit| ou_identifier(dir, unit))
            .collect::<Result<_, _>>()?;
        if let Some(node_ous) = file.node_ous.filter(|n| n.enable) {
            let part = |unit: &Option<OuIdentifier>| unit.as_ref().map(|u| ou_identifier(dir, u)).transpose();
            config.fabric_node_ous = Some(FabricNodeOUs {
                enable: true,
                client_ou_identifier: part(&node_ous.client)?,
                peer_ou_identifier: part(&node_ous.peer)?,
                admin_ou_identifier: part(&node_ous.admin)?,
                orderer_ou_identifier: part(&node_ous.orderer)?,
            });
        }
    }
    Ok(MspConfig {
        r#type: 0,
        config: config.encode_to_vec().into(),
    })
}

fn ou_identifier(dir: &Path, unit: &OuIdentifier) -> Result<FabricOuIdentifier, DirError> {
    let certificate = match unit.certificate.as_deref() {
        None | Some("") => Bytes::new(),
        Some(name) => {
            let path = dir.join(name);
            one_newline_at_the_end(read_file(&path)?).ok_or(DirError::Missing {
                path: shown(&path),
                what: "PEM block",
            })?
        }
    };
    Ok(FabricOuIdentifier {
        certificate,
        organizational_unit_identifier: unit.organizational_unit_identifier.clone(),
    })
}

/// The first certificate of `signcerts` and the key of `keystore` that fits it.
pub(crate) fn read_signer(dir: &Path) -> Result<(Vec<u8>, PrivateKey), DirError> {
    let signcerts = dir.join("signcerts");
    let (path, _) = pem_files(&signcerts)?
        .into_iter()
        .next()
        .ok_or(DirError::Missing {
            path: shown(&signcerts),
            what: "certificate",
        })?;
    let text = read_file(&path)?;
    let certificate = Certificate::from_pem(&text).map_err(|e| DirError::Content {
        path: shown(&path),
        reason: e.to_string(),
    })?;
    let keystore = dir.join("keystore");
    let mut unreadable = String::new();
    for file in sorted_files(&keystore)? {
        match PrivateKey::from_file(&file) {
            Ok(key) if certificate.public_key() == Some(key.public_key()) => return Ok((text, key)),
            Ok(_) => {}
            Err(e) => {
                unreadable.push_str("; ");
                unreadable.push_str(&shown(&file));
                unreadable.push_str(": ");
                unreadable.push_str(&e.to_string());
            }
        }
    }
    Err(DirError::NoKey {
        keystore: shown(&keystore),
        certificate: shown(&path),
        unreadable,
    })
}

/// What [`write_msp_dir`] writes. Certificates are (file name, certificate).
#[derive(Debug, Clone, Default)]
pub struct MspDirContents {
    /// `cacerts`: at least one.
    pub cacerts: Vec<(String, Certificate)>,
    /// `intermediatecerts`.
    pub intermediatecerts: Vec<(String, Certificate)>,
    /// `tlscacerts`.
    pub tlscacerts: Vec<(String, Certificate)>,
    /// `tlsintermediatecerts`.
    pub tlsintermediatecerts: Vec<(String, Certificate)>,
    /// `admincerts`; not needed with NodeOUs.
    pub admincerts: Vec<(String, Certificate)>,
    /// `crls`: (file name, PEM).
    pub crls: Vec<(String, String)>,
    /// `signcerts`: the holder's certificate; absent in an organisation's own MSP folder.
    pub signcert: Option<(String, Certificate)>,
    /// `keystore/<hex SKI>_sk`: the holder's key.
    pub key: Option<PrivateKey>,
    /// Write `config.yaml` with the four usual roles, tied to the last CA: the first intermediate one, or the first root.
    pub node_ous: bool,
}

/// Writes an MSP folder; existing files of the same names are replaced, others stay. The holder's certificate comes last: where
/// it is, all the rest is, also after a power cut.
///
/// # Errors
/// When something cannot be written.
pub fn write_msp_dir(dir: &Path, contents: &MspDirContents) -> Result<(), DirError> {
    let lists = [
        ("cacerts", &contents.cacerts),
        ("intermediatecerts", &contents.intermediatecerts),
        ("tlscacerts", &contents.tlscacerts),
        ("tlsintermediatecerts", &contents.tlsintermediatecerts),
        ("admincerts", &contents.admincerts),
    ];
    for (folder, certificates) in lists {
        for (name, certificate) in certificates {
            write(&dir.join(folder).join(name), certificate.to_pem().as_bytes())?;
        }
    }
    for (name, crl) in &contents.crls {
        write(&dir.join("crls").join(name), crl.as_bytes())?;
    }
    if let Some(key) = &contents.key {
        key.write_file(
            &dir.join("keystore")
                .join(format!("{}_sk", hex::encode(key.public_key().ski()))),
        )?;
    }
    if contents.node_ous {
        write(&dir.join("config.yaml"), node_ous_yaml(contents)?.as_bytes())?;
    }
    if let Some((name, certificate)) = &contents.signcert {
        write(&dir.join("signcerts").join(name), certificate.to_pem().as_bytes())?;
    }
    Ok(())
}

fn node_ous_yaml(contents: &MspDirContents) -> Result<String, DirError> {
    let issuer = match (contents.intermediatecerts.first(), contents.cacerts.first()) {
        (Some((name, _)), _) => Some(format!("intermediatecerts/{name}")),
        (None, Some((name, _))) => Some(format!("cacerts/{name}")),
        (None, None) => None,
    };
    let unit = |name: &str| {
        Some(OuIdentifier {
            certificate: issuer.clone(),
            organizational_unit_identifier: name.to_owned(),
        })
    };
    let file = ConfigFile {
        node_ous: Some(NodeOus {
            enable: true,
            client: unit("client"),
            peer: unit("peer"),
            admin: unit("admin"),
            orderer: unit("orderer"),
        }),
        organizational_unit_identifiers: None,
    };
    serde_yaml_ng::to_string(&file).map_err(|e| DirError::Content {
        path: "config.yaml".to_owned(),
        reason: e.to_string(),
    })
}

fn write(path: &Path, content: &[u8]) -> Result<(), DirError> {
    files::write_public(path, content).map_err(|source| DirError::Io {
        path: shown(path),
        source,
    })
}

fn contents(files: Vec<(PathBuf, Bytes)>) -> Vec<Bytes> {
    files.into_iter().map(|(_, content)| content).collect()
}

/// Files of a folder that hold PEM, by name. A folder that does not exist is empty.
fn pem_files(dir: &Path) -> Result<Vec<(PathBuf, Bytes)>, DirError> {
    let mut found = Vec::new();
    for path in sorted_files(dir)? {
        if let Some(content) = one_newline_at_the_end(read_file(&path)?) {
            found.push((path, content));
        }
    }
    Ok(found)
}

fn sorted_files(dir: &Path) -> Result<Vec<PathBuf>, DirError> {
    let failed = |source| DirError::Io {
        path: shown(dir),
        source,
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // A name that begins with a dot is a file that somebody is writing, or no business of ours.
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let path = entry.path();
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<Vec<u8>, DirError> {
    let failed = |source| DirError::Io {
        path: shown(path),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        let reason = format!("{size} bytes are too many for a certificate or CRL (limit {MAX_FILE})");
        return Err(DirError::Content {
            path: shown(path),
            reason,
        });
    }
    std::fs::read(path).map_err(failed)
}

/// An MSP refuses bytes behind a PEM block (spec 02 §13.1), but editors leave blank lines at the end of files.
fn one_newline_at_the_end(mut text: Vec<u8>) -> Option<Bytes> {
    pem::first_block(&text)?;
    text.truncate(text.trim_ascii_end().len());
    text.push(b'\n');
    Some(text.into())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
