//! Deploying a contract on every organisation of a channel: package, install, approve, commit (spec 08 §5).

use std::path::Path;

use selvedge_msp::policy::dsl;
use selvedge_sdk::lifecycle::{self, Definition, EndorsementPolicy};
use selvedge_sdk::{ChannelInfo, DirectClient, DirectConfig, PeerAddress, PeerClient};

use crate::error::{CliError, During};
use crate::network::config::ChaincodeConfig;
use crate::session::{PeerRef, Session};

/// What is to be deployed.
#[derive(Debug, Clone)]
pub(crate) struct Deployment<'a> {
    pub(crate) channel: &'a str,
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) policy: Option<&'a str>,
    /// The next sequence if absent.
    pub(crate) sequence: Option<i64>,
    pub(crate) wasm: &'a Path,
}

/// Deploys a contract of the network file unless the channel has a definition of it already.
pub(super) async fn deploy_if_missing(
    session: &Session,
    chaincode: &ChaincodeConfig,
    wasm: &Path,
) -> Result<(), CliError> {
    let peers = members(session, &chaincode.channel)?;
    let Some(first) = peers.first().copied() else {
        return Ok(());
    };
    if committed(session, first, &chaincode.channel, &chaincode.name)
        .await?
        .is_some()
    {
        println!(
            "chaincode {}: already on channel {}",
            chaincode.name, chaincode.channel
        );
        return Ok(());
    }
    let deployment = Deployment {
        channel: &chaincode.channel,
        name: &chaincode.name,
        version: &chaincode.version,
        policy: chaincode.policy.as_deref(),
        sequence: Some(1),
        wasm,
    };
    deploy_chaincode(session, &deployment).await
}

/// The peers of a channel's organisations.
fn members<'a>(session: &'a Session, channel: &str) -> Result<Vec<PeerRef<'a>>, CliError> {
    let config = session
        .config
        .channels
        .iter()
        .find(|c| c.name == channel)
        .ok_or_else(|| {
            let known: Vec<_> = session.config.channels.iter().map(|c| c.name.as_str()).collect();
            CliError::said(format!(
                "there is no channel {channel}; this network has {}",
                known.join(", ")
            ))
        })?;
    Ok(session
        .peers()
        .filter(|p| session.config.members(config).any(|org| org.name == p.org.name))
        .collect())
}

fn peer_client(session: &Session, peer: PeerRef<'_>) -> Result<PeerClient, CliError> {
    PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))
}

fn admin_of(peer: PeerRef<'_>) -> String {
    format!("Admin@{}", peer.org.domain)
}

/// Sequence of the committed definition, if there is one.
async fn committed(
    session: &Session,
    peer: PeerRef<'_>,
    channel: &str,
    name: &str,
) -> Result<Option<i64>, CliError> {
    let admin = session.identity(&admin_of(peer))?;
    let definition = lifecycle::query_committed(&peer_client(session, peer)?, &admin, channel, name)
        .await
        .during(|| format!("peer {} does not tell what is deployed on {channel}", peer.host()))?;
    Ok(definition.map(|d| d.sequence))
}

/// A client that endorses with `peers` and orders through every orderer.
async fn direct(
    session: &Session,
    admin: &str,
    peers: &[PeerRef<'_>],
    channel: &str,
) -> Result<DirectClient, CliError> {
    let identity = session.identity(admin)?;
    let mut addresses = Vec::new();
    for peer in peers {
        addresses.push(PeerAddress {
            msp_id: peer.org.msp_id.clone(),
            endpoint: session.peer_endpoint(*peer)?,
        });
    }
    let first = peers
        .first()
        .copied()
        .ok_or_else(|| CliError::said(format!("channel {channel} has no peer")))?;
    let info = ChannelInfo::fetch(&peer_client(session, first)?, &identity, channel)
        .await
        .during(|| format!("cannot read the configuration of channel {channel}"))?;
    let orderers = session
        .orderers()
        .map(|o| session.orderer_endpoint(o))
        .collect::<Result<_, _>>()?;
    DirectClient::new(DirectConfig {
        identity,
        endorsers: addresses,
        orderers,
        events: Vec::new(),
        msps: info.msps,
        policy: None,
        deadlines: selvedge_sdk::Deadlines::default(),
    })
    .during(|| "cannot set up a client".to_owned())
}

/// Packages, installs, approves and commits, saying each step.
pub(crate) async fn deploy_chaincode(session: &Session, deployment: &Deployment<'_>) -> Result<(), CliError> {
    let Deployment {
        channel,
        name,
        version,
        ..
    } = *deployment;
    let peers = members(session, channel)?;
    let Some(first) = peers.first().copied() else {
        return Err(CliError::said(format!(
            "channel {channel} has no peers to deploy on"
        )));
    };
    let module = std::fs::read(deployment.wasm).map_err(|source| CliError::ReadFile {
        path: deployment.wasm.to_owned(),
        source,
    })?;
    let label = format!("{name}_{version}");
    let package = selvedge_peer::chaincode::package::write_package(&label, &module)
        .during(|| format!("cannot package {}", deployment.wasm.display()))?;

    let sequence = match deployment.sequence {
        Some(sequence) => sequence,
        None => committed(session, first, channel, name).await?.unwrap_or(0) + 1,
    };
    let endorsement = match deployment.policy {
        Some(text) => EndorsementPolicy::Signature(
            dsl::parse(text).during(|| format!("the endorsement policy of {name} is not usable"))?,
        ),
        None => EndorsementPolicy::Default,
    };
    let definition = Definition {
        name: name.to_owned(),
        version: version.to_owned(),
        sequence,
        endorsement,
        collections: None,
        init_required: false,
    };

    let mut package_id = String::new();
    for peer in &peers {
        let admin = session.identity(&admin_of(*peer))?;
        let client = peer_client(session, *peer)?;
        let installed = lifecycle::install_if_missing(&client, &admin, package.clone())
            .await
            .during(|| format!("peer {} does not install {label}", peer.host()))?;
        package_id = installed.id;
    }
    println!(
        "chaincode {name}: installed on {} peers as {package_id}",
        peers.len()
    );

    let mut organisations: Vec<&str> = Vec::new();
    for peer in &peers {
        if organisations.contains(&peer.org.name.as_str()) {
            continue;
        }
        organisations.push(&peer.org.name);
        let client = direct(session, &admin_of(*peer), &[*peer], channel).await?;
        lifecycle::approve(&client, channel, &definition, Some(&package_id))
            .await
            .during(|| format!("organisation {} does not approve {name}", peer.org.name))?;
    }
    println!(
        "chaincode {name}: sequence {sequence} approved by {}",
        organisations.join(", ")
    );

    let client = direct(session, &admin_of(first), &peers, channel).await?;
    lifecycle::commit(&client, channel, &definition)
        .await
        .during(|| format!("the definition of {name} is not committed"))?;
    println!("chaincode {name}: version {version} committed on channel {channel}");
    Ok(())
}
