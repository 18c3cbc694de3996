//! Running one role from its configuration file.

use std::path::Path;

use selvedge_operations::{OperationsConfig, keep_memory_small, process_log};
use tokio_util::sync::CancellationToken;

use crate::args::{ConfigArg, RoleCommand};
use crate::error::{CliError, During};
use crate::network::nodes::NodeKind;

/// A token that is cancelled by SIGTERM or SIGINT.
pub(crate) fn stop_signal() -> Result<CancellationToken, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e| CliError::said(format!("cannot listen for stop signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}

/// A node's operations endpoint changes the log of this process.
pub(crate) fn hand_log(operations: &mut Option<OperationsConfig>) {
    if let Some(operations) = operations {
        operations.log = process_log();
    }
}

/// Runs a node of a network until `stop` is cancelled.
pub(crate) async fn run_node(kind: NodeKind, config: &Path, stop: CancellationToken) -> Result<(), CliError> {
    let name = || format!("{} with {}", kind.command(), config.display());
    let stopped = stop.cancelled_owned();
    match kind {
        NodeKind::Orderer => {
            let mut config = selvedge_orderer::OrdererConfig::from_file(config).during(name)?;
            hand_log(&mut config.operations);
            selvedge_orderer::run(config, stopped).await.during(name)
        }
        NodeKind::Peer => {
            let mut config = selvedge_peer::PeerConfig::from_file(config).during(name)?;
            hand_log(&mut config.operations);
            selvedge_peer::run(config, stopped).await.during(name)
        }
        NodeKind::Ca => {
            let mut config = selvedge_ca::CaConfig::read(config).during(name)?;
            hand_log(&mut config.operations);
            selvedge_ca::run(config, stopped).await.during(name)
        }
        NodeKind::Api => {
            let mut config = selvedge_api::ApiConfig::read(config).during(name)?;
            hand_log(&mut config.operations);
            selvedge_api::run(config, stopped).await.during(name)
        }
    }
}

async fn start(kind: NodeKind, command: RoleCommand) -> Result<(), CliError> {
    let RoleCommand::Start(args) = command;
    tokio::spawn(keep_memory_small());
    run_node(kind, &args.config, stop_signal()?).await
}

/// `selvedge orderer …`
pub(crate) async fn orderer(command: RoleCommand) -> Result<(), CliError> {
    start(NodeKind::Orderer, command).await
}

/// `selvedge peer …`
pub(crate) async fn peer(command: RoleCommand) -> Result<(), CliError> {
    start(NodeKind::Peer, command).await
}

/// `selvedge api start`
pub(crate) async fn api(args: ConfigArg) -> Result<(), CliError> {
    start(NodeKind::Api, RoleCommand::Start(args)).await
}

/// `selvedge ca start`
pub(crate) async fn ca(args: ConfigArg) -> Result<(), CliError> {
    start(NodeKind::Ca, RoleCommand::Start(args)).await
}
