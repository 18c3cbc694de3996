//! What a peer tells of itself on its operations endpoint.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use selvedge_operations::{FailedCheck, GrpcMetrics, MethodKind, Operations};

use crate::chaincode::ChaincodeRuntime;
use crate::context::PeerContext;
use crate::node::PeerNode;

/// The methods of a peer that calls are counted of.
const METHODS: [(&str, MethodKind); 10] = [
    ("/protos.Endorser/ProcessProposal", MethodKind::Unary),
    ("/gateway.Gateway/Evaluate", MethodKind::Unary),
    ("/gateway.Gateway/Endorse", MethodKind::Unary),
    ("/gateway.Gateway/Submit", MethodKind::Unary),
    ("/gateway.Gateway/CommitStatus", MethodKind::Unary),
    ("/gateway.Gateway/ChaincodeEvents", MethodKind::Stream),
    ("/discovery.Discovery/Discover", MethodKind::Unary),
    ("/protos.Deliver/Deliver", MethodKind::Stream),
    ("/protos.Deliver/DeliverFiltered", MethodKind::Stream),
    ("/protos.Deliver/DeliverWithPrivateData", MethodKind::Stream),
];

const SECONDS_PER_DAY: f64 = 86_400.0;

/// The health and metrics of a peer.
pub(crate) fn of(node: &Arc<PeerNode>, runtime: &ChaincodeRuntime) -> Operations {
    let operations = Operations::default();
    let metrics = &operations.metrics;
    runtime.metrics().register(metrics);
    node.metrics().register(metrics);
    node.puller_metrics().register(metrics);

    let peer = Arc::downgrade(node);
    metrics.gauge(
        "ledger_blockchain_height",
        "Height of the chain in blocks.",
        &["channel"],
        move || {
            let heights = peer.upgrade().map(|node| node.heights()).unwrap_or_default();
            heights
                .into_iter()
                .map(|(id, height)| (vec![id], number(height)))
                .collect()
        },
    );
    let peer = Arc::downgrade(node);
    metrics.gauge(
        "selvedge_block_source_connected",
        "1 while blocks of the channel come from an orderer, 0 while the peer looks for one.",
        &["channel"],
        move || {
            let sources = peer.upgrade().map(|node| node.sources()).unwrap_or_default();
            let sources = sources.into_iter();
            sources
                .map(|(id, orderer)| (vec![id], if orderer.is_some() { 1.0 } else { 0.0 }))
                .collect()
        },
    );
    let peer = Arc::downgrade(node);
    metrics.gauge(
        "selvedge_identity_days_left",
        "Days until the certificate of the node's identity expires.",
        &[],
        move || {
            let identity = peer.upgrade().map(|node| node.identity());
            let left = identity.map(|i| (Vec::new(), days_until(i.certificate().not_after())));
            left.into_iter().collect()
        },
    );

    let peer = Arc::downgrade(node);
    operations.health.add(move || {
        let channels = peer.upgrade().map(|node| node.troubles()).unwrap_or_default();
        let failed = channels.into_iter().map(|(id, reason)| FailedCheck {
            component: format!("channel {id}"),
            reason,
        });
        failed.collect()
    });
    operations
}

/// Counters of the peer's gRPC methods.
pub(crate) fn grpc(operations: &Operations) -> GrpcMetrics {
    GrpcMetrics::new(&operations.metrics, &METHODS)
}

#[expect(clippy::cast_precision_loss, reason = "heights stay far below 2^53")]
fn number(height: u64) -> f64 {
    height as f64
}

fn days_until(unix_seconds: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "dates stay far below 2^53 seconds")]
    let end = unix_seconds as f64;
    (end - now.as_secs_f64()) / SECONDS_PER_DAY
}
