//! The operations endpoint of a node at work.

use std::time::Duration;

use futures::StreamExt;
use selvedge_comm::{ClientTls, HttpClient};
use selvedge_operations::OperationsConfig;
use selvedge_orderer::Orderer;
use selvedge_proto::common;

use crate::support::{CHANNEL, Network, transaction};

fn network() -> Network {
    let mut network = Network::new(1, 1, |_| {});
    network.configs[0].operations = Some(OperationsConfig::plain("127.0.0.1:0"));
    network
}

async fn get(node: &Orderer, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", node.operations_address().unwrap());
    let answer = HttpClient::new(ClientTls::default())
        .request(axum::http::Method::GET, &url, &[], Vec::new())
        .await
        .unwrap();
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    (answer.status.as_u16(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_of_its_work() {
    let network = network();
    let node = network.start_joined(0).await;
    let good = transaction(&network.members.client(), b"content");
    let envelopes = futures::stream::iter([good, common::Envelope::default()]);
    let answers = network.broadcaster(0).broadcast(envelopes).await.unwrap();
    let statuses: Vec<i32> = answers.into_inner().map(|a| a.unwrap().status).collect().await;
    assert_eq!(statuses, [200, 400]);
    assert_eq!(network.blocks(0, 1).await.len(), 2);

    let (status, text) = get(&node, "/metrics").await;
    assert_eq!(status, 200);
    let channel = format!("channel=\"{CHANNEL}\"");
    for line in [
        format!("ledger_blockchain_height{{{channel}}} 2"),
        format!("consensus_etcdraft_is_leader{{{channel}}} 1"),
        format!("consensus_etcdraft_cluster_size{{{channel}}} 1"),
        format!("consensus_etcdraft_committed_block_number{{{channel}}} 1"),
        format!("consensus_etcdraft_normal_proposals_received{{{channel}}} 1"),
        format!("selvedge_channel_has_leader{{{channel}}} 1"),
        format!("participation_status{{{channel}}} 1"),
        format!("participation_consensus_relation{{{channel}}} 1"),
        format!("broadcast_processed_count{{{channel},status=\"SUCCESS\",type=\"ENDORSER_TRANSACTION\"}} 1"),
        "broadcast_processed_count{channel=\"\",status=\"BAD_REQUEST\",type=\"unknown\"} 1".to_owned(),
        format!(
            "broadcast_enqueue_duration_count{{{channel},status=\"SUCCESS\",type=\"ENDORSER_TRANSACTION\"}} 1"
        ),
        format!("blockcutter_block_fill_duration_count{{{channel}}} 1"),
        format!("deliver_blocks_sent{{{channel},data_type=\"block\",filtered=\"false\"}} 2"),
        format!(
            "deliver_requests_completed{{{channel},data_type=\"block\",filtered=\"false\",success=\"true\"}} 1"
        ),
        "deliver_streams_opened 1".to_owned(),
        "grpc_server_stream_requests_received{method=\"Broadcast\",service=\"orderer_AtomicBroadcast\"} 1"
            .to_owned(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    // Noticed by a task of its own.
    let changes = format!("\nconsensus_etcdraft_leader_changes{{{channel}}} 1\n");
    let noticed = async { while !get(&node, "/metrics").await.1.contains(&changes) {} };
    tokio::time::timeout(Duration::from_secs(20), noticed)
        .await
        .unwrap();

    assert_eq!(get(&node, "/healthz").await.0, 200);
    assert_eq!(
        get(&node, "/logspec").await,
        (200, "{\"spec\":\"info\"}".to_owned())
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_has_stopped_makes_the_node_unhealthy() {
    let network = network();
    let node = network.start_joined(0).await;
    node.stop().await;
    let channel = network.configs[0].data_dir.join("channels").join(CHANNEL);
    std::fs::write(channel.join("join.block"), [0xff; 8]).unwrap();

    let node = network.start(0).await;
    let (status, body) = get(&node, "/healthz").await;
    assert_eq!(status, 503, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], "Service Unavailable");
    assert_eq!(
        body["failed_checks"][0]["component"],
        format!("channel {CHANNEL}")
    );
    let reason = body["failed_checks"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("join.block"), "{reason}");
    let failed = format!("participation_status{{channel=\"{CHANNEL}\"}} 3\n");
    assert!(get(&node, "/metrics").await.1.contains(&failed));
    node.stop().await;
}
