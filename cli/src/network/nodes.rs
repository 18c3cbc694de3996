//! The configuration file of every node, and how each is started.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::CliError;
use crate::network::config::CaNode;
use crate::network::layout::{MemberLayout, NodeLayout, RootLayout};
use crate::session::{OrdererRef, OrgRef, PeerRef, Session};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodeKind {
    Orderer,
    Ca,
    Peer,
    Api,
}

impl NodeKind {
    /// The command that runs such a node.
    pub(crate) fn command(self) -> &'static str {
        match self {
            NodeKind::Orderer => "orderer",
            NodeKind::Ca => "ca",
            NodeKind::Peer => "peer",
            NodeKind::Api => "api",
        }
    }
}

/// One node of the network.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) kind: NodeKind,
    pub(crate) listen: String,
    pub(crate) layout: NodeLayout,
}

/// All nodes, in the order in which they are started.
pub(crate) fn all(session: &Session) -> Vec<Node> {
    let node = |id: String, kind, listen: &str| Node {
        layout: session.layout.node(&id),
        id,
        kind,
        listen: listen.to_owned(),
    };
    let orderers = session
        .orderers()
        .map(|o| node(o.host(), NodeKind::Orderer, &o.node.listen));
    let cas = session.orgs().into_iter().filter_map(|org| {
        let ca = org.ca?;
        Some(node(org.ca_host(), NodeKind::Ca, &ca.listen))
    });
    let peers = session
        .peers()
        .map(|p| node(p.host(), NodeKind::Peer, &p.node.listen));
    let apis = session.config.peer_organizations.iter().filter_map(|org| {
        org.api
            .as_ref()
            .map(|api| node(format!("api.{}", org.domain), NodeKind::Api, &api.listen))
    });
    orderers.chain(cas).chain(peers).chain(apis).collect()
}

/// Writes the configuration files of all nodes.
pub(crate) fn write_configs(session: &Session) -> Result<(), CliError> {
    for orderer in session.orderers() {
        write(
            &session.layout.node(&orderer.host()),
            &orderer_config(session, orderer)?,
        )?;
    }
    for org in session.orgs() {
        if let Some(ca) = org.ca {
            write(
                &session.layout.node(&org.ca_host()),
                &ca_config(session, &org, ca)?,
            )?;
        }
    }
    for peer in session.peers() {
        write(&session.layout.node(&peer.host()), &peer_config(session, peer)?)?;
    }
    for org in &session.config.peer_organizations {
        if let Some(wanted) = &org.api {
            let node = session.layout.node(&format!("api.{}", org.domain));
            let root = absolute(session.layout.root())?;
            let data = absolute(&node.data())?;
            let config = crate::api::config_of(&Session::open(root.as_ref())?, org, wanted, data.as_ref())?;
            write(&node, &json!(config))?;
        }
    }
    Ok(())
}

fn write(node: &NodeLayout, config: &Value) -> Result<(), CliError> {
    let path = node.config();
    let failed = |source| CliError::WriteFile {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(node.root()).map_err(failed)?;
    let text = serde_yaml_ng::to_string(config).map_err(|e| CliError::BadConfig {
        path: path.clone(),
        why: e.to_string(),
    })?;
    std::fs::write(&path, text).map_err(failed)
}

/// An absolute path as text: nodes are started from anywhere.
fn absolute(path: &Path) -> Result<String, CliError> {
    let full = std::path::absolute(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })?;
    Ok(full.to_string_lossy().into_owned())
}

fn tls(member: &MemberLayout) -> Result<Value, CliError> {
    Ok(json!({
        "certificate": absolute(&member.tls_certificate())?,
        "key": absolute(&member.tls_key())?,
        "roots": [absolute(&member.tls_roots())?],
        "client_roots": [absolute(&member.tls_roots())?],
    }))
}

/// The name of the authority that issues TLS certificates on an organisation's CA server.
pub(crate) fn tls_authority(ca: &CaNode) -> String {
    format!("tls{}", ca.name)
}

/// How a member of an organisation renews its certificates, if the organisation has an authority.
fn renewal(session: &Session, org: &OrgRef<'_>, member: &MemberLayout) -> Result<Option<Value>, CliError> {
    let (Some(ca), Some(url)) = (org.ca, org.ca_url()) else {
        return Ok(None);
    };
    let settings = &session.config.certificates;
    Ok(Some(json!({
        "ca_url": url,
        "tls_roots": [absolute(&member.tls_roots())?],
        "identity_ca": ca.name,
        "tls_ca": tls_authority(ca),
        "at": settings.renew_at,
        "check": humantime::format_duration(settings.check).to_string(),
    })))
}

fn orderer_config(session: &Session, orderer: OrdererRef<'_>) -> Result<Value, CliError> {
    let layout = &session.layout;
    let member = layout
        .orderer_org(&orderer.org.domain)
        .node("orderers", &orderer.host());
    let mut admin_tls = tls(&member)?;
    admin_tls["client_auth"] = json!("require");
    let mut config = json!({
        "id": orderer.host(),
        "msp_id": orderer.org.msp_id,
        "msp_dir": absolute(&member.msp())?,
        "listen": orderer.node.listen,
        "external_address": orderer.address(),
        "tls": tls(&member)?,
        "admin": { "listen": orderer.node.admin_listen, "tls": admin_tls },
        "data_dir": absolute(&layout.node(&orderer.host()).data())?,
        "joined_dir": absolute(&layout.node(&orderer.host()).joined())?,
    });
    if let Some(renewal) = renewal(session, &session.org(&orderer.org.domain)?, &member)? {
        config["renewal"] = renewal;
    }
    if let Some(listen) = &orderer.node.operations_listen {
        config["operations"] = json!({ "listen": listen });
    }
    Ok(config)
}

fn peer_config(session: &Session, peer: PeerRef<'_>) -> Result<Value, CliError> {
    let layout = &session.layout;
    let member = layout.peer_org(&peer.org.domain).node("peers", &peer.host());
    let others: Vec<Value> = session
        .peers()
        .filter(|other| other.host() != peer.host())
        .map(|other| json!({ "address": other.address(), "msp_id": other.org.msp_id }))
        .collect();
    let mut config = json!({
        "id": peer.host(),
        "msp_id": peer.org.msp_id,
        "msp_dir": absolute(&member.msp())?,
        "listen": peer.node.listen,
        "external_address": peer.address(),
        "tls": tls(&member)?,
        "data_dir": absolute(&layout.node(&peer.host()).data())?,
        "gateway": { "peers": others },
    });
    if let Some(renewal) = renewal(session, &session.org(&peer.org.domain)?, &member)? {
        config["renewal"] = renewal;
    }
    if let Some(listen) = &peer.node.operations_listen {
        config["operations"] = json!({ "listen": listen });
    }
    Ok(config)
}

/// Certificates in a folder or file that are there.
fn existing(paths: impl Iterator<Item = PathBuf>) -> Result<Vec<String>, CliError> {
    paths
        .filter(|path| path.is_file())
        .map(|path| absolute(&path))
        .collect()
}

/// The certificate of an MSP folder, which is its first file by name.
pub(crate) fn signcert(msp: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(msp.join("signcerts")).ok()?;
    // A name that begins with a dot is a file that somebody is writing.
    let whole = entries
        .flatten()
        .filter(|e| !e.file_name().to_string_lossy().starts_with('.'));
    whole.map(|entry| entry.path()).min()
}

fn ca_config(session: &Session, org: &OrgRef<'_>, ca: &CaNode) -> Result<Value, CliError> {
    let layout = &org.layout;
    let member = org.ca_member();
    let node = session.layout.node(&org.ca_host());
    let settings = &session.config.certificates;
    let members: Vec<MemberLayout> = org
        .nodes
        .iter()
        .map(|(_, member)| member.clone())
        .chain(org.users().into_iter().map(|(_, member)| member))
        .collect();
    let servers: Vec<MemberLayout> = org.servers().into_iter().map(|(_, server)| server).collect();
    let tls_members = members.iter().chain(&servers).chain(std::iter::once(&member));
    let authority = |name: &str, roots: &RootLayout, secret: &str, issued: Vec<String>| {
        let mut authority = json!({
            "name": name,
            "certificate": absolute(&roots.certificate())?,
            "key": absolute(&roots.key())?,
            "bootstrap": { "id": "admin", "secret_file": absolute(&node.root().join(secret))? },
            "certificate_seconds": settings.life.as_secs(),
            "reenroll_grace": humantime::format_duration(settings.reenroll_grace).to_string(),
            "issued": issued,
        });
        // What is above an authority that is no root.
        let chain = roots.chain();
        if chain.exists() {
            authority["chain"] = json!(absolute(&chain)?);
        }
        if roots.previous_certificate().exists() {
            let mut previous = json!({ "certificate": absolute(&roots.previous_certificate())? });
            if roots.previous_key().exists() {
                previous["key"] = json!(absolute(&roots.previous_key())?);
            }
            authority["previous"] = json!([previous]);
        }
        Ok::<_, CliError>(authority)
    };
    let identities = existing(members.iter().filter_map(|m| signcert(&m.msp())))?;
    let certificates = existing(tls_members.map(MemberLayout::tls_certificate))?;
    let mut first = authority(&ca.name, &layout.identity_root(), "admin.secret", identities)?;
    first["affiliations"] = json!({ org.name.to_lowercase(): [] });
    let second = authority(
        &tls_authority(ca),
        &layout.tls_root(),
        "tls-admin.secret",
        certificates,
    )?;
    let mut config = json!({
        "listen": ca.listen,
        "tls": { "certificate": absolute(&member.tls_certificate())?, "key": absolute(&member.tls_key())? },
        "data_dir": absolute(&node.data())?,
        "cas": [first, second],
    });
    if let Some(mut renewal) = renewal(session, org, &member)? {
        // The server has a TLS certificate and signs nothing in its own name.
        if let Some(settings) = renewal.as_object_mut() {
            settings.remove("identity_ca");
        }
        config["renewal"] = renewal;
    }
    if let Some(listen) = &ca.operations_listen {
        config["operations"] = json!({ "listen": listen });
    }
    Ok(config)
}
