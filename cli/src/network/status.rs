//! `selvedge network status`: which nodes run, what they weigh, how high their chains are.

use selvedge_sdk::PeerClient;
use selvedge_sdk::participation::OrdererAdmin;

use crate::error::{CliError, During};
use crate::network::nodes;
use crate::network::process::NodeProcess;
use crate::network::run::ALL_NODES;
use crate::session::{PeerRef, Session};

pub(super) async fn status(session: &Session) -> Result<(), CliError> {
    println!(
        "{:<28} {:>8} {:>10} {:>10}  channels (height)",
        "node", "pid", "MiB now", "MiB peak"
    );
    let together = NodeProcess::find(&session.layout.node(ALL_NODES));
    if let Some(process) = together {
        println!("{:<28} {}", ALL_NODES, process_columns(process));
    }
    for node in nodes::all(session) {
        let own = NodeProcess::find(&node.layout);
        let columns = match (own, together) {
            (Some(process), _) => process_columns(process),
            (None, Some(_)) => format!("{:>8} {:>10} {:>10}", "", "", ""),
            (None, None) => {
                println!("{:<28} not running", node.id);
                continue;
            }
        };
        let channels = match channels_of(session, &node).await {
            Ok(channels) => channels,
            Err(error) => crate::error::with_causes(&error),
        };
        println!("{:<28} {columns}  {channels}", node.id);
    }
    Ok(())
}

fn process_columns(process: NodeProcess) -> String {
    let (now, peak) = process.memory_kib().unwrap_or((0, 0));
    format!("{:>8} {:>10} {:>10}", process.pid(), mib(now), mib(peak))
}

fn mib(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}

/// Name, memory now and at its peak (KiB) of every running node.
pub(crate) fn memory_report(session: &Session) -> Vec<(String, u64, u64)> {
    let mut all: Vec<_> = nodes::all(session)
        .into_iter()
        .map(|n| (n.id, n.layout))
        .collect();
    all.push((ALL_NODES.to_owned(), session.layout.node(ALL_NODES)));
    all.into_iter()
        .filter_map(|(id, layout)| {
            let (now, peak) = NodeProcess::find(&layout)?.memory_kib()?;
            Some((id, now, peak))
        })
        .collect()
}

/// Height of a channel as a peer sees it.
pub(crate) async fn chain_height(
    session: &Session,
    peer: PeerRef<'_>,
    channel: &str,
) -> Result<u64, CliError> {
    let admin = session.identity(&format!("Admin@{}", peer.org.domain))?;
    let client = PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))?;
    let info = client
        .chain_info(&admin, channel)
        .await
        .during(|| format!("peer {} does not tell its height", peer.host()))?;
    Ok(info.height)
}

async fn channels_of(session: &Session, node: &nodes::Node) -> Result<String, CliError> {
    let mut parts = Vec::new();
    match node.kind {
        nodes::NodeKind::Ca => return Ok("-".to_owned()),
        nodes::NodeKind::Api => return Ok(format!("http on {}", node.listen)),
        nodes::NodeKind::Peer => {
            let peer = session.peer(&node.id)?;
            let admin = session.identity(&format!("Admin@{}", peer.org.domain))?;
            let client = PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
                .during(|| format!("peer {}", peer.host()))?;
            for channel in client
                .channels(&admin)
                .await
                .during(|| "cannot list channels".to_owned())?
            {
                let height = chain_height(session, peer, &channel).await?;
                parts.push(format!("{channel} ({height})"));
            }
        }
        nodes::NodeKind::Orderer => {
            let Some(orderer) = session.orderers().find(|o| o.host() == node.id) else {
                return Ok(String::new());
            };
            let url = format!("https://{}", orderer.node.admin_listen);
            let admin = OrdererAdmin::new(&url, session.orderer_admin_tls(orderer)?);
            for channel in admin.list().await.during(|| "cannot list channels".to_owned())? {
                let status = admin
                    .status(&channel)
                    .await
                    .during(|| format!("channel {channel}"))?;
                parts.push(format!("{channel} ({})", status.height));
            }
        }
    }
    Ok(parts.join(", "))
}
