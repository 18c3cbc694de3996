//! All nodes in one process, for development.

use selvedge_operations::keep_memory_small;

use crate::error::CliError;
use crate::network::nodes;
use crate::roles;
use crate::session::Session;

/// Name under which the one process of a one-process network keeps its pid and log.
pub(crate) const ALL_NODES: &str = "all-nodes";

/// Runs every node until SIGTERM or SIGINT; if one fails, all stop and its error is returned.
pub(super) async fn run_all(session: &Session) -> Result<(), CliError> {
    let stop = roles::stop_signal()?;
    tokio::spawn(keep_memory_small());
    let mut running = tokio::task::JoinSet::new();
    for node in nodes::all(session) {
        let (stop, config) = (stop.clone(), node.layout.config());
        running.spawn(async move { roles::run_node(node.kind, &config, stop).await });
    }
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|e| Err(CliError::said(format!("a node broke off: {e}"))));
        // One node less is not the network that was asked for.
        stop.cancel();
        if result.is_ok() {
            result = ended;
        }
    }
    result
}
