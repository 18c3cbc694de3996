//! The configuration file of every node, and how each is started.

use serde_json::{Value, json};

use crate::error::CliError;
use crate::network::layout::{Layout, MemberLayout, NodeLayout};
use crate::session::{OrdererRef, PeerRef, Session};

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
    let cas = session.config.peer_organizations.iter().filter_map(|org| {
        org.ca
            .as_ref()
            .map(|ca| node(format!("ca.{}", org.domain), NodeKind::Ca, &ca.listen))
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
            &orderer_config(&session.layout, orderer)?,
        )?;
    }
    for org in session
        .config
        .peer_organizations
        .iter()
        .filter(|org| org.ca.is_some())
    {
        write(
            &session.layout.node(&format!("ca.{}", org.domain)),
            &ca_config(session, org)?,
        )?;
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
fn absolute(path: &std::path::Path) -> Result<String, CliError> {
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

fn orderer_config(layout: &Layout, orderer: OrdererRef<'_>) -> Result<Value, CliError> {
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
    if let Some(listen) = &peer.node.operations_listen {
        config["operations"] = json!({ "listen": listen });
    }
    Ok(config)
}

fn ca_config(session: &Session, org: &crate::network::config::PeerOrganization) -> Result<Value, CliError> {
    let layout = &session.layout;
    let org_layout = layout.peer_org(&org.domain);
    let host = format!("ca.{}", org.domain);
    let member = org_layout.node("ca-server", &host);
    let listen = org.ca.as_ref().map(|ca| ca.listen.clone()).unwrap_or_default();
    let name = org.ca.as_ref().map(|ca| ca.name.clone()).unwrap_or_default();
    let node = layout.node(&host);
    let mut config = json!({
        "listen": listen,
        "tls": { "certificate": absolute(&member.tls_certificate())?, "key": absolute(&member.tls_key())? },
        "data_dir": absolute(&node.data())?,
        "cas": [{
            "name": name,
            "certificate": absolute(&org_layout.ca_certificate())?,
            "key": absolute(&org_layout.ca_key())?,
            "bootstrap": {
                "id": "admin",
                "secret_file": absolute(&node.root().join("admin.secret"))?,
            },
            "affiliations": { org.name.to_lowercase(): [] },
        }],
    });
    if let Some(listen) = org.ca.as_ref().and_then(|ca| ca.operations_listen.as_ref()) {
        config["operations"] = json!({ "listen": listen });
    }
    Ok(config)
}
