//! Health, version and metrics over HTTP, under Fabric's paths and names.

use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::chaincode::ChaincodeRuntime;
use crate::metrics::ExecutionMetrics;
use crate::node::PeerNode;

/// The operations endpoint of a peer.
pub(crate) fn router(node: Arc<PeerNode>, runtime: Arc<ChaincodeRuntime>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/version", get(version))
        .route("/metrics", get(move || async move { metrics(&node, &runtime) }))
}

async fn healthz() -> impl IntoResponse {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let body = serde_json::json!({ "status": "OK", "time": time });
    ([(CONTENT_TYPE, "application/json")], body.to_string())
}

async fn version() -> impl IntoResponse {
    let body = serde_json::json!({ "Version": env!("CARGO_PKG_VERSION") });
    ([(CONTENT_TYPE, "application/json")], body.to_string())
}

fn metrics(node: &PeerNode, runtime: &ChaincodeRuntime) -> impl IntoResponse + use<> {
    let text = render(&node.heights(), runtime.metrics());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn render(heights: &[(String, u64)], executions: &ExecutionMetrics) -> String {
    let mut text = String::from(
        "# HELP ledger_blockchain_height Height of the chain in blocks.\n# TYPE ledger_blockchain_height gauge\n",
    );
    for (channel, height) in heights {
        // Writing to a String does not fail; channel ids need no escaping (spec 02 §10).
        let _ = writeln!(text, "ledger_blockchain_height{{channel=\"{channel}\"}} {height}");
    }
    executions.proposals.render(&mut text);
    executions.executions.render(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_in_the_exposition_format() {
        let executions = ExecutionMetrics::default();
        executions
            .executions
            .observe(&["rfq"], std::time::Duration::from_millis(500));
        let text = render(&[("trade".into(), 7)], &executions);
        assert!(text.contains("ledger_blockchain_height{channel=\"trade\"} 7\n"));
        assert!(text.contains("chaincode_execute_duration_sum{chaincode=\"rfq\"} 0.5\n"));
        assert!(text.contains("chaincode_execute_duration_count{chaincode=\"rfq\"} 1\n"));
        assert!(text.contains("# TYPE endorser_proposal_duration summary\n"));
        assert!(text.contains("# TYPE ledger_blockchain_height gauge\n"));
    }
}
