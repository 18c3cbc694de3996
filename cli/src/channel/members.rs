//! Organisations and consenters in the configuration.

use std::path::Path;

use prost::Message;
use selvedge_channel::genesis::OrgProfile;
use selvedge_channel::update::edit::ConfigTree;
use selvedge_channel::{Bundle, names};
use selvedge_msp::dir::read_msp_config;
use selvedge_proto::{common, etcdraft};

use super::settings::address;
use crate::args::{AddConsenterArgs, AddOrgArgs, ConsenterArgs, RemoveOrgArgs, SetAnchorArgs};
use crate::error::{CliError, During};
use crate::network::genesis;
use crate::session::Session;

/// `channel add-org`
pub(super) fn add_org(
    args: &AddOrgArgs,
    session: &Session,
    bundle: &Bundle,
    tree: &mut ConfigTree,
) -> Result<(), CliError> {
    let profile = org_profile(args, session)?;
    let there = if args.orderer {
        bundle
            .orderer()
            .is_some_and(|o| o.orgs.contains_key(&profile.name))
    } else {
        bundle
            .application()
            .is_some_and(|a| a.orgs.contains_key(&profile.name))
    };
    if there {
        return Err(CliError::said(format!(
            "{} is a member of channel {} already",
            profile.name,
            bundle.channel_id()
        )));
    }
    let added = if args.orderer {
        tree.add_orderer_org(&profile)
    } else {
        tree.add_application_org(&profile)
    };
    added.during(|| format!("cannot add organisation {}", profile.name))
}

fn org_profile(args: &AddOrgArgs, session: &Session) -> Result<OrgProfile, CliError> {
    if let (Some(dir), Some(msp_id)) = (&args.msp, &args.msp_id) {
        let mut endpoints = Vec::new();
        let mut anchor_peers = Vec::new();
        for anchor in &args.anchors {
            if args.orderer {
                endpoints.push(anchor.clone());
            } else {
                anchor_peers.push(address(anchor)?);
            }
        }
        return Ok(OrgProfile {
            name: args.name.clone(),
            msp_id: msp_id.clone(),
            msp: read_msp_config(dir, msp_id).during(|| format!("MSP folder {}", dir.display()))?,
            endpoints,
            anchor_peers,
        });
    }
    let config = &session.config;
    if args.orderer {
        if let Some(org) = config.orderer_organizations.iter().find(|o| o.name == args.name) {
            return genesis::orderer_org_profile(&session.layout, org);
        }
    } else if let Some(org) = config.peer_organizations.iter().find(|o| o.name == args.name) {
        return genesis::peer_org_profile(&session.layout, org);
    }
    Err(CliError::said(format!(
        "the network file has no organisation {}; add it there and run `selvedge network up` again, or give its MSP \
         folder with --msp DIR --msp-id ID",
        args.name
    )))
}

/// `channel remove-org`
pub(super) fn remove_org(
    args: &RemoveOrgArgs,
    bundle: &Bundle,
    tree: &mut ConfigTree,
) -> Result<(), CliError> {
    let removed = if args.orderer {
        tree.remove_orderer_org(&args.name)
    } else {
        tree.remove_application_org(&args.name)
    };
    removed.map_err(|_| no_member(&args.name, bundle))
}

fn no_member(name: &str, bundle: &Bundle) -> CliError {
    let peers = bundle
        .application()
        .map(|a| a.orgs.keys().cloned().collect::<Vec<_>>())
        .unwrap_or_default();
    let orderers = bundle
        .orderer()
        .map(|o| o.orgs.keys().cloned().collect::<Vec<_>>())
        .unwrap_or_default();
    CliError::said(format!(
        "channel {} has no member {name}; its members are {}, its orderers' organisations {}",
        bundle.channel_id(),
        peers.join(", "),
        orderers.join(", ")
    ))
}

/// `channel set-anchor`
pub(super) fn set_anchor(
    args: &SetAnchorArgs,
    bundle: &Bundle,
    tree: &mut ConfigTree,
) -> Result<(), CliError> {
    let anchors = args
        .anchors
        .iter()
        .map(|a| address(a))
        .collect::<Result<Vec<_>, _>>()?;
    tree.set_anchor_peers(&args.org, &anchors)
        .map_err(|_| no_member(&args.org, bundle))
}

/// What the configuration says of one orderer.
struct Node {
    host: String,
    port: u16,
    organisation: String,
    certificate: Vec<u8>,
}

impl Node {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn consenter(&self) -> etcdraft::Consenter {
        etcdraft::Consenter {
            host: self.host.clone(),
            port: self.port.into(),
            client_tls_cert: self.certificate.clone().into(),
            server_tls_cert: self.certificate.clone().into(),
        }
    }
}

fn node(args: &AddConsenterArgs, session: &Session) -> Result<Node, CliError> {
    let (place, organisation, certificate) = match (&args.certificate, &args.org) {
        (Some(path), Some(org)) => (args.orderer.clone(), org.clone(), path.clone()),
        (Some(_), None) => return Err(CliError::said("name the orderer's organisation with --org")),
        (None, _) => {
            let orderer = session.orderer(&args.orderer)?;
            let member = session
                .layout
                .orderer_org(&orderer.org.domain)
                .node("orderers", &orderer.host());
            (
                orderer.address(),
                orderer.org.name.clone(),
                member.tls_certificate(),
            )
        }
    };
    let (host, port) = address(&place)?;
    Ok(Node {
        host,
        port,
        organisation,
        certificate: read(&certificate)?,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

fn consenters(bundle: &Bundle) -> Result<Vec<etcdraft::Consenter>, CliError> {
    bundle
        .orderer()
        .map(|o| o.consenters.clone())
        .ok_or_else(|| CliError::said(format!("channel {} has no orderers", bundle.channel_id())))
}

fn is_at(consenter: &etcdraft::Consenter, host: &str, port: u16) -> bool {
    consenter.host == host && consenter.port == u32::from(port)
}

/// `channel add-consenter`
pub(super) fn add_consenter(
    args: &AddConsenterArgs,
    session: &Session,
    bundle: &Bundle,
    tree: &mut ConfigTree,
) -> Result<(), CliError> {
    let node = node(args, session)?;
    let mut all = consenters(bundle)?;
    if all.iter().any(|c| is_at(c, &node.host, node.port)) {
        return Err(CliError::said(format!(
            "{} is a consenter already; use renew-consenter for a new certificate",
            node.address()
        )));
    }
    all.push(node.consenter());
    tree.set_consenters(&all)
        .during(|| "cannot change the consenters".to_owned())?;
    change_endpoints(bundle, tree, &node.organisation, |endpoints| {
        if !endpoints.contains(&node.address()) {
            endpoints.push(node.address());
        }
    })
}

/// `channel renew-consenter`
pub(super) fn renew_consenter(
    args: &AddConsenterArgs,
    session: &Session,
    bundle: &Bundle,
    tree: &mut ConfigTree,
) -> Result<(), CliError> {
    let node = node(args, session)?;
    let mut all = consenters(bundle)?;
    let place = all
        .iter_mut()
        .find(|c| is_at(c, &node.host, node.port))
        .ok_or_else(|| no_consenter(&node.address(), bundle))?;
    *place = node.consenter();
    tree.set_consenters(&all)
        .during(|| "cannot change the consenters".to_owned())
}

fn no_consenter(address: &str, bundle: &Bundle) -> CliError {
    let all: Vec<String> = bundle
        .orderer()
        .map(|o| {
            o.consenters
                .iter()
                .map(|c| format!("{}:{}", c.host, c.port))
                .collect()
        })
        .unwrap_or_default();
    CliError::said(format!(
        "{address} is no consenter of channel {}; its consenters are {}",
        bundle.channel_id(),
        all.join(", ")
    ))
}

/// `channel remove-consenter`
pub(super) fn remove_consenter(
    args: &ConsenterArgs,
    session: &Session,
    bundle: &Bundle,
    tree: &mut ConfigTree,
) -> Result<(), CliError> {
    let (place, organisation) = match session.orderer(&args.orderer) {
        Ok(orderer) => (orderer.address(), Some(orderer.org.name.clone())),
        Err(unknown) => match address(&args.orderer) {
            Ok(_) => (args.orderer.clone(), None),
            Err(_) => return Err(unknown),
        },
    };
    let (host, port) = address(&place)?;
    let mut all = consenters(bundle)?;
    let before = all.len();
    all.retain(|c| !is_at(c, &host, port));
    if all.len() == before {
        return Err(no_consenter(&place, bundle));
    }
    tree.set_consenters(&all)
        .during(|| "cannot change the consenters".to_owned())?;
    let organisations: Vec<String> = match organisation {
        Some(name) => vec![name],
        None => bundle
            .orderer()
            .map(|o| o.orgs.keys().cloned().collect())
            .unwrap_or_default(),
    };
    for name in organisations {
        change_endpoints(bundle, tree, &name, |endpoints| endpoints.retain(|e| *e != place))?;
    }
    Ok(())
}

/// Changes the addresses at which clients find an organisation's orderers, and the list that old clients read.
fn change_endpoints(
    bundle: &Bundle,
    tree: &mut ConfigTree,
    organisation: &str,
    edit: impl Fn(&mut Vec<String>),
) -> Result<(), CliError> {
    let orderer = bundle
        .orderer()
        .ok_or_else(|| CliError::said(format!("channel {} has no orderers", bundle.channel_id())))?;
    let msp_id = orderer
        .orgs
        .get(organisation)
        .ok_or_else(|| no_member(organisation, bundle))?;
    let before = orderer.org_endpoints.get(msp_id).cloned().unwrap_or_default();
    let mut after = before.clone();
    edit(&mut after);
    if after != before {
        tree.set_orderer_endpoints(organisation, &after)
            .during(|| format!("cannot change the endpoints of {organisation}"))?;
    }
    let root = tree
        .group_mut("/Channel")
        .during(|| "the configuration has no root".to_owned())?;
    if let Some(value) = root.values.get_mut(names::ORDERER_ADDRESSES) {
        let mut global = common::OrdererAddresses::decode(value.value.clone())
            .during(|| "the orderer addresses do not decode".to_owned())?;
        let before = global.addresses.clone();
        edit(&mut global.addresses);
        if global.addresses != before {
            value.value = global.encode_to_vec().into();
        }
    }
    Ok(())
}
