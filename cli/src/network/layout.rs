//! Where everything of a network lies on disk.
//!
//! ```text
//! <network>/network.yaml                    the network file as it was brought up
//!           organizations/peerOrganizations/<domain>/{ca,tlsca,msp,peers,users,connection-<name>.json}
//!           organizations/ordererOrganizations/<domain>/{ca,tlsca,msp,orderers,users}
//!           channels/<channel>.block        genesis blocks
//!           nodes/<node>/{config.yaml,data,node.log,pid}
//! ```

use std::path::{Path, PathBuf};

/// Paths of one network.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// Paths of one organisation's key material, laid out as `cryptogen` does.
#[derive(Debug, Clone)]
pub(crate) struct OrgLayout {
    root: PathBuf,
    domain: String,
}

impl Layout {
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn network_file(&self) -> PathBuf {
        self.root.join("network.yaml")
    }

    pub(crate) fn peer_org(&self, domain: &str) -> OrgLayout {
        OrgLayout {
            root: self.root.join("organizations/peerOrganizations").join(domain),
            domain: domain.to_owned(),
        }
    }

    pub(crate) fn orderer_org(&self, domain: &str) -> OrgLayout {
        OrgLayout {
            root: self.root.join("organizations/ordererOrganizations").join(domain),
            domain: domain.to_owned(),
        }
    }

    pub(crate) fn genesis_block(&self, channel: &str) -> PathBuf {
        self.root.join("channels").join(format!("{channel}.block"))
    }

    pub(crate) fn node(&self, id: &str) -> NodeLayout {
        NodeLayout {
            root: self.root.join("nodes").join(id),
        }
    }
}

impl OrgLayout {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn ca_certificate(&self) -> PathBuf {
        self.root.join("ca").join(format!("ca.{}-cert.pem", self.domain))
    }

    pub(crate) fn tls_ca_certificate(&self) -> PathBuf {
        self.root
            .join("tlsca")
            .join(format!("tlsca.{}-cert.pem", self.domain))
    }

    /// Certificate and key of the root, or other authority, that issues identities.
    pub(crate) fn identity_root(&self) -> RootLayout {
        RootLayout {
            certificate: self.ca_certificate(),
        }
    }

    /// Certificate and key of the authority that issues TLS certificates.
    pub(crate) fn tls_root(&self) -> RootLayout {
        RootLayout {
            certificate: self.tls_ca_certificate(),
        }
    }

    pub(crate) fn msp(&self) -> PathBuf {
        self.root.join("msp")
    }

    /// A node's folder with `msp` and `tls` below it; `kind` is `peers` or `orderers`.
    pub(crate) fn node(&self, kind: &str, host: &str) -> MemberLayout {
        MemberLayout {
            root: self.root.join(kind).join(host),
            tls_name: "server",
        }
    }

    /// A user's folder, for example `Admin@org1.example.com`.
    pub(crate) fn user(&self, name: &str) -> MemberLayout {
        MemberLayout {
            root: self.root.join("users").join(format!("{name}@{}", self.domain)),
            tls_name: "client",
        }
    }
}

/// Certificate and key of an authority: those that sign, and beside them those that come next or were before.
#[derive(Debug, Clone)]
pub(crate) struct RootLayout {
    certificate: PathBuf,
}

impl RootLayout {
    pub(crate) fn certificate(&self) -> PathBuf {
        self.certificate.clone()
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.certificate.with_file_name("priv_sk")
    }

    /// What is above an authority that is no root.
    pub(crate) fn chain(&self) -> PathBuf {
        self.certificate.with_file_name("chain.pem")
    }

    pub(crate) fn next_certificate(&self) -> PathBuf {
        self.certificate.with_file_name("next/cert.pem")
    }

    pub(crate) fn next_key(&self) -> PathBuf {
        self.certificate.with_file_name("next/priv_sk")
    }

    pub(crate) fn previous_certificate(&self) -> PathBuf {
        self.certificate.with_file_name("previous/cert.pem")
    }

    pub(crate) fn previous_key(&self) -> PathBuf {
        self.certificate.with_file_name("previous/priv_sk")
    }
}

/// Key material of one node or user.
#[derive(Debug, Clone)]
pub(crate) struct MemberLayout {
    root: PathBuf,
    tls_name: &'static str,
}

impl MemberLayout {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn msp(&self) -> PathBuf {
        self.root.join("msp")
    }

    pub(crate) fn tls_roots(&self) -> PathBuf {
        self.root.join("tls/ca.crt")
    }

    pub(crate) fn tls_certificate(&self) -> PathBuf {
        self.root.join("tls").join(format!("{}.crt", self.tls_name))
    }

    pub(crate) fn tls_key(&self) -> PathBuf {
        self.root.join("tls").join(format!("{}.key", self.tls_name))
    }
}

/// Files of one running node.
#[derive(Debug, Clone)]
pub(crate) struct NodeLayout {
    root: PathBuf,
}

impl NodeLayout {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.yaml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where an orderer remembers the channels that it joined, in case `data` is lost.
    pub(crate) fn joined(&self) -> PathBuf {
        self.root.join("joined")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("node.log")
    }

    pub(crate) fn pid(&self) -> PathBuf {
        self.root.join("pid")
    }
}
