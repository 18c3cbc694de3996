//! All steps of the lifecycle at once, over every organisation whose administrator's key is here.

use std::path::Path;

use selvedge_sdk::lifecycle;

use super::{Members, Wanted, peer_client};
use crate::error::{CliError, During};
use crate::network::config::ChaincodeConfig;
use crate::session::Session;

/// Deploys a contract of the network file unless the channel has a definition of it already.
pub(crate) async fn deploy_if_missing(
    session: &Session,
    chaincode: &ChaincodeConfig,
    wasm: &Path,
) -> Result<(), CliError> {
    let members = Members::of(session, &chaincode.channel, None).await?;
    let Some(first) = members.peers.first().copied() else {
        return Ok(());
    };
    if members.committed(first, &chaincode.name).await?.is_some() {
        println!(
            "chaincode {}: already on channel {}",
            chaincode.name, chaincode.channel
        );
        return Ok(());
    }
    run(&members, &Wanted::from(chaincode), wasm).await
}

/// Packages, installs, approves and commits, saying each step.
pub(crate) async fn deploy(
    session: &Session,
    channel: &str,
    wanted: &Wanted<'_>,
    wasm: &Path,
) -> Result<(), CliError> {
    run(&Members::of(session, channel, None).await?, wanted, wasm).await
}

async fn run(members: &Members<'_>, wanted: &Wanted<'_>, wasm: &Path) -> Result<(), CliError> {
    let (session, channel, name) = (members.session, members.channel, wanted.name);
    let Some(first) = members.peers.first().copied() else {
        return Err(CliError::said(format!(
            "channel {channel} has no peers to deploy on"
        )));
    };
    let module = std::fs::read(wasm).map_err(|source| CliError::ReadFile {
        path: wasm.to_owned(),
        source,
    })?;
    let label = wanted.label();
    let package = selvedge_peer::chaincode::package::write_package(&label, &module)
        .during(|| format!("cannot package {}", wasm.display()))?;
    let definition = wanted.following(members.committed(first, name).await?.as_ref())?;

    let mut package_id = String::new();
    for peer in &members.peers {
        let admin = session.identity(&peer.administrator())?;
        let installed = lifecycle::install_if_missing(&peer_client(session, *peer)?, &admin, package.clone())
            .await
            .during(|| format!("peer {} does not install {label}", peer.host()))?;
        package_id = installed.id;
    }
    println!(
        "chaincode {name}: installed on {} peers as {package_id}",
        members.peers.len()
    );

    let mut endorsers = Vec::new();
    for peer in &members.peers {
        if endorsers
            .iter()
            .all(|e: &crate::session::PeerRef<'_>| e.org.name != peer.org.name)
        {
            endorsers.push(*peer);
        }
    }
    let mut last = 0;
    for peer in &endorsers {
        let client = members.direct(&peer.administrator(), &[*peer])?;
        let done = lifecycle::approve(&client, channel, &definition, Some(&package_id))
            .await
            .during(|| format!("organisation {} does not approve {name}", peer.org.name))?;
        last = last.max(done.block_number);
    }
    members.settled(last).await;
    let organisations: Vec<&str> = endorsers.iter().map(|p| p.org.name.as_str()).collect();
    println!(
        "chaincode {name}: sequence {} approved by {}",
        definition.sequence,
        organisations.join(", ")
    );

    let client = members.direct(&first.administrator(), &endorsers)?;
    let done = lifecycle::commit(&client, channel, &definition)
        .await
        .during(|| format!("the definition of {name} is not committed"))?;
    members.settled(done.block_number).await;
    println!(
        "chaincode {name}: version {} committed on channel {channel}",
        definition.version
    );
    Ok(())
}
