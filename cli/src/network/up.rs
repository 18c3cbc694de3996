//! `selvedge network up`: keys, genesis blocks, processes, channels, contracts; each only where it is missing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use selvedge_sdk::PeerClient;
use selvedge_sdk::participation::OrdererAdmin;

use crate::args::UpArgs;
use crate::error::{CliError, During};
use crate::lifecycle;
use crate::network::config::{NetworkConfig, ProcessModel};
use crate::network::layout::Layout;
use crate::network::nodes::{self, Node};
use crate::network::process::{self, NodeProcess};
use crate::network::{crypto, genesis, profile, run};
use crate::session::Session;

/// A node that does not serve within this time has a problem that its log explains.
const START_TIME: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

pub(super) async fn up(args: &UpArgs) -> Result<(), CliError> {
    let started = Instant::now();
    let config = NetworkConfig::read(&args.file)?;
    let root = args
        .dir
        .clone()
        .unwrap_or_else(|| Path::new("selvedge-data").join(&config.name));
    let session = prepare(config, &root)?;
    println!("keys, certificates and genesis blocks are in {}", root.display());

    let nodes = nodes::all(&session);
    match session.config.processes {
        ProcessModel::ProcessPerNode => {
            for node in &nodes {
                start_node(node)?;
            }
        }
        ProcessModel::OneProcess => start_all_in_one(&session)?,
    }
    for node in &nodes {
        wait_until_it_serves(&session, node).await?;
    }
    println!(
        "{} nodes serve ({:.1} s)",
        nodes.len(),
        started.elapsed().as_secs_f64()
    );

    join_channels(&session).await?;
    if !args.no_chaincode {
        let contracts = contracts_folder(args.contracts.as_deref());
        for chaincode in &session.config.chaincodes {
            let wasm = NetworkConfig::wasm_path(chaincode, &args.file, &contracts);
            lifecycle::deploy_if_missing(&session, chaincode, &wasm).await?;
        }
    }
    println!(
        "network {} is up ({:.1} s)",
        session.config.name,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Where the contracts are unless the user says so: beside the binary as it is installed, or where cargo builds them.
pub(crate) fn contracts_folder(given: Option<&Path>) -> PathBuf {
    if let Some(folder) = given {
        return std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.to_owned()))
        .unwrap_or_default();
    let built = beside.join("../wasm32-unknown-unknown/contract");
    if built.is_dir() {
        built
    } else {
        beside.join("contracts")
    }
}

/// Creates what is missing on disk.
fn prepare(config: NetworkConfig, root: &Path) -> Result<Session, CliError> {
    let layout = Layout::new(root);
    let failed = |source| CliError::WriteFile {
        path: root.to_owned(),
        source,
    };
    std::fs::create_dir_all(root).map_err(failed)?;
    crypto::create_all(&config, &layout)?;
    genesis::create_all(&config, &layout)?;
    profile::write_all(&config, &layout)?;
    let text = serde_yaml_ng::to_string(&config).map_err(|e| CliError::BadConfig {
        path: layout.network_file(),
        why: e.to_string(),
    })?;
    std::fs::write(layout.network_file(), text).map_err(failed)?;
    let session = Session { config, layout };
    nodes::write_configs(&session)?;
    Ok(session)
}

/// Starts a node's process unless it runs already.
pub(crate) fn start_node(node: &Node) -> Result<NodeProcess, CliError> {
    if let Some(running) = NodeProcess::find(&node.layout) {
        return Ok(running);
    }
    let config = node.layout.config();
    process::start(
        &node.layout,
        &[
            node.kind.command(),
            "start",
            "--config",
            &config.to_string_lossy(),
        ],
    )
}

/// Stops the process that runs a node, deletes a folder of the node's data, and starts the process again if it ran.
pub(crate) async fn restart_without(session: &Session, node: &Node, folder: &Path) -> Result<(), CliError> {
    let delete = || {
        std::fs::remove_dir_all(folder).map_err(|source| CliError::WriteFile {
            path: folder.to_owned(),
            source,
        })
    };
    restart_around(session, node, delete).await
}

/// Starts the process that runs a node again, if it runs.
pub(crate) async fn restart(session: &Session, node: &Node) -> Result<(), CliError> {
    restart_around(session, node, || Ok(())).await
}

async fn restart_around(
    session: &Session,
    node: &Node,
    meanwhile: impl FnOnce() -> Result<(), CliError>,
) -> Result<(), CliError> {
    let layout = match session.config.processes {
        ProcessModel::ProcessPerNode => node.layout.clone(),
        ProcessModel::OneProcess => session.layout.node(run::ALL_NODES),
    };
    let running = NodeProcess::find(&layout);
    if let Some(process) = running {
        process.stop();
    }
    meanwhile()?;
    if running.is_none() {
        return Ok(());
    }
    match session.config.processes {
        ProcessModel::ProcessPerNode => drop(start_node(node)?),
        ProcessModel::OneProcess => start_all_in_one(session)?,
    }
    wait_until_it_serves(session, node).await
}

fn start_all_in_one(session: &Session) -> Result<(), CliError> {
    let layout = session.layout.node(run::ALL_NODES);
    if NodeProcess::find(&layout).is_none() {
        let root = session.layout.root().to_string_lossy().into_owned();
        process::start(&layout, &["network", "run", "--network", &root])?;
    }
    Ok(())
}

/// Waits until a node accepts connections, or says why it does not.
async fn wait_until_it_serves(session: &Session, node: &Node) -> Result<(), CliError> {
    let deadline = Instant::now() + START_TIME;
    let layout = match session.config.processes {
        ProcessModel::ProcessPerNode => node.layout.clone(),
        ProcessModel::OneProcess => session.layout.node(run::ALL_NODES),
    };
    loop {
        if tokio::net::TcpStream::connect(&node.listen).await.is_ok() {
            return Ok(());
        }
        let ended = NodeProcess::find(&layout).is_none();
        if ended || Instant::now() > deadline {
            let what = if ended { "ended" } else { "does not listen" };
            return Err(CliError::said(format!(
                "{} {what} (it should listen on {}); the end of its log ({}):\n{}",
                node.id,
                node.listen,
                layout.log().display(),
                process::log_tail(&layout, 15)
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn join_channels(session: &Session) -> Result<(), CliError> {
    for channel in &session.config.channels {
        let path = session.layout.genesis_block(&channel.name);
        let block = std::fs::read(&path).map_err(|source| CliError::ReadFile {
            path: path.clone(),
            source,
        })?;
        for orderer in session.orderers() {
            let url = format!("https://{}", orderer.node.admin_listen);
            let admin = OrdererAdmin::new(&url, session.orderer_admin_tls(orderer)?);
            let joined = admin
                .list()
                .await
                .during(|| format!("orderer {}", orderer.host()))?;
            if !joined.contains(&channel.name) {
                admin
                    .join(&block)
                    .await
                    .during(|| format!("orderer {} cannot join channel {}", orderer.host(), channel.name))?;
            }
        }
        for peer in session.peers_of(channel) {
            let admin = session.identity(&format!("Admin@{}", peer.org.domain))?;
            let client = PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
                .during(|| format!("peer {}", peer.host()))?;
            let joined = client
                .channels(&admin)
                .await
                .during(|| format!("peer {}", peer.host()))?;
            if !joined.contains(&channel.name) {
                client
                    .join_channel(&admin, block.clone().into())
                    .await
                    .during(|| format!("peer {} cannot join channel {}", peer.host(), channel.name))?;
            }
        }
        println!("channel {}: joined by all its orderers and peers", channel.name);
    }
    Ok(())
}
