//! What an orderer tells of itself on its operations endpoint.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_operations::{FailedCheck, GrpcMetrics, MethodKind, Operations, Sample};

use crate::channel::{ChannelInfo, OrdererChannel, Role};
use crate::registrar::Registrar;

/// The methods of an orderer that calls are counted of.
const METHODS: [(&str, MethodKind); 2] = [
    ("/orderer.AtomicBroadcast/Broadcast", MethodKind::Stream),
    ("/orderer.AtomicBroadcast/Deliver", MethodKind::Stream),
];

const SECONDS_PER_DAY: f64 = 86_400.0;

/// A gauge of each channel: name, help, value if there is one.
type Gauge = (&'static str, &'static str, fn(&OrdererChannel) -> Option<f64>);

const GAUGES: [Gauge; 7] = [
    (
        "ledger_blockchain_height",
        "Height of the chain in blocks.",
        |c| Some(number(c.info().height)),
    ),
    (
        "consensus_etcdraft_is_leader",
        "1 on the node that leads the channel, 0 on the others.",
        |c| Some(flag(c.consensus().is_some_and(|raft| raft.is_leader()))),
    ),
    (
        "consensus_etcdraft_cluster_size",
        "Consenters of the channel.",
        |c| {
            let members = c.chain()?.head().members.len();
            u32::try_from(members).ok().map(f64::from)
        },
    ),
    (
        "consensus_etcdraft_committed_block_number",
        "Number of the last block.",
        |c| c.info().height.checked_sub(1).map(number),
    ),
    (
        "selvedge_channel_has_leader",
        "1 while this consenter knows a leader of the channel, 0 while it does not.",
        |c| Some(flag(c.consensus()?.leader().is_some())),
    ),
    (
        "participation_status",
        "What this node does in the channel: 0 inactive, 1 active, 2 onboarding, 3 failed.",
        |c| Some(status(&c.info())),
    ),
    (
        "participation_consensus_relation",
        "What this node is in the channel: 0 other, 1 consenter, 2 follower.",
        |c| Some(relation(&c.info())),
    ),
];

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "heights stay far below 2^53")]
fn number(height: u64) -> f64 {
    height as f64
}

fn status(info: &ChannelInfo) -> f64 {
    match info.status {
        "active" => 1.0,
        "onboarding" => 2.0,
        "failed" => 3.0,
        _ => 0.0,
    }
}

fn relation(info: &ChannelInfo) -> f64 {
    match info.consensus_relation {
        "consenter" => 1.0,
        "follower" => 2.0,
        _ => 0.0,
    }
}

fn failure(channel: &OrdererChannel) -> Option<FailedCheck> {
    let reason = match channel.role() {
        Role::Failed(why) => why,
        Role::Consenter(consensus) => consensus.failure()?,
        Role::Opening | Role::Onboarding | Role::Follower => return None,
    };
    Some(FailedCheck {
        component: format!("channel {}", channel.info().name),
        reason,
    })
}

/// The health and metrics of an orderer.
pub(crate) fn of(registrar: &Arc<Registrar>) -> Operations {
    let operations = Operations::default();
    let metrics = &operations.metrics;
    registrar.metrics().register(metrics);
    for (name, help, read) in GAUGES {
        let node = Arc::downgrade(registrar);
        metrics.gauge(name, help, &["channel"], move || -> Vec<Sample> {
            let channels = node.upgrade().map(|node| node.all()).unwrap_or_default();
            channels
                .iter()
                .filter_map(|c| Some((vec![c.info().name], read(c)?)))
                .collect()
        });
    }
    let node = Arc::downgrade(registrar);
    metrics.gauge(
        "selvedge_identity_days_left",
        "Days until the certificate of the node's identity expires.",
        &[],
        move || {
            let node = node.upgrade().map(|node| node.identity());
            let left = node.map(|identity| (Vec::new(), days_until(identity.certificate().not_after())));
            left.into_iter().collect()
        },
    );
    let node = Arc::downgrade(registrar);
    operations.health.add(move || {
        let channels = node.upgrade().map(|node| node.all()).unwrap_or_default();
        channels.iter().filter_map(|c| failure(c)).collect()
    });
    operations
}

/// Counters of the orderer's gRPC methods.
pub(crate) fn grpc(operations: &Operations) -> GrpcMetrics {
    GrpcMetrics::new(&operations.metrics, &METHODS)
}

fn days_until(unix_seconds: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "dates stay far below 2^53 seconds")]
    let end = unix_seconds as f64;
    (end - now.as_secs_f64()) / SECONDS_PER_DAY
}
