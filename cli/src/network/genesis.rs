//! Genesis blocks of the channels in the network file.

use prost::Message;
use selvedge_channel::BatchSize;
use selvedge_channel::genesis::{ChannelProfile, OrgProfile, genesis_block};
use selvedge_msp::dir::read_msp_config;
use selvedge_proto::etcdraft;

use crate::error::{CliError, During};
use crate::network::config::{ChannelConfig, NetworkConfig, OrdererOrganization, PeerOrganization, external};
use crate::network::layout::Layout;

fn split(address: &str) -> Result<(String, u16), CliError> {
    address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
        .ok_or_else(|| CliError::said(format!("'{address}' is not host:port")))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })
}

/// Writes the genesis block of every channel that has none yet.
pub(crate) fn create_all(config: &NetworkConfig, layout: &Layout) -> Result<(), CliError> {
    for channel in &config.channels {
        if !layout.genesis_block(&channel.name).exists() {
            create(config, layout, channel)?;
        }
    }
    Ok(())
}

/// Writes the genesis block of one channel.
pub(crate) fn create(
    config: &NetworkConfig,
    layout: &Layout,
    channel: &ChannelConfig,
) -> Result<(), CliError> {
    let path = layout.genesis_block(&channel.name);
    let profile = profile(config, layout, channel)?;
    let block = genesis_block(&profile)
        .during(|| format!("cannot make the genesis block of channel {}", channel.name))?;
    let failed = |source| CliError::WriteFile {
        path: path.clone(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(&path, block.encode_to_vec()).map_err(failed)
}

/// A peer organisation of the network as channels know it; its first peer is the anchor peer.
pub(crate) fn peer_org_profile(layout: &Layout, org: &PeerOrganization) -> Result<OrgProfile, CliError> {
    let msp_dir = layout.peer_org(&org.domain).msp();
    let anchor_peers = org
        .peers
        .first()
        .map(|node| split(&external(node.external_address.as_deref(), &node.listen)))
        .transpose()?;
    Ok(OrgProfile {
        name: org.name.clone(),
        msp_id: org.msp_id.clone(),
        msp: read_msp_config(&msp_dir, &org.msp_id).during(|| format!("MSP of organisation {}", org.name))?,
        endpoints: Vec::new(),
        anchor_peers: anchor_peers.into_iter().collect(),
    })
}

/// An orderer organisation of the network as channels know it.
pub(crate) fn orderer_org_profile(
    layout: &Layout,
    org: &OrdererOrganization,
) -> Result<OrgProfile, CliError> {
    let endpoints = org
        .orderers
        .iter()
        .map(|node| external(node.external_address.as_deref(), &node.listen))
        .collect();
    Ok(OrgProfile {
        name: org.name.clone(),
        msp_id: org.msp_id.clone(),
        msp: read_msp_config(&layout.orderer_org(&org.domain).msp(), &org.msp_id)
            .during(|| format!("MSP of organisation {}", org.name))?,
        endpoints,
        anchor_peers: Vec::new(),
    })
}

fn profile(
    config: &NetworkConfig,
    layout: &Layout,
    channel: &ChannelConfig,
) -> Result<ChannelProfile, CliError> {
    let mut orderer_orgs = Vec::new();
    let mut consenters = Vec::new();
    for org in &config.orderer_organizations {
        let org_layout = layout.orderer_org(&org.domain);
        for node in &org.orderers {
            let address = external(node.external_address.as_deref(), &node.listen);
            let (host, port) = split(&address)?;
            let tls = org_layout
                .node("orderers", &format!("{}.{}", node.name, org.domain))
                .tls_certificate();
            let certificate = read(&tls)?;
            consenters.push(etcdraft::Consenter {
                host,
                port: port.into(),
                client_tls_cert: certificate.clone().into(),
                server_tls_cert: certificate.into(),
            });
        }
        orderer_orgs.push(orderer_org_profile(layout, org)?);
    }
    let application_orgs = config
        .members(channel)
        .map(|org| peer_org_profile(layout, org))
        .collect::<Result<Vec<_>, _>>()?;
    let batch = &channel.batch;
    Ok(ChannelProfile {
        batch_size: BatchSize {
            max_message_count: batch.max_message_count,
            absolute_max_bytes: batch.absolute_max_bytes,
            preferred_max_bytes: batch.preferred_max_bytes,
        },
        batch_timeout: batch.timeout,
        orderer_orgs,
        application_orgs,
        consenters,
        ..ChannelProfile::new(&channel.name)
    })
}
