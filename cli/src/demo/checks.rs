//! What the demo proves: equal peers, every reading once, a leader that can be lost.

use std::collections::BTreeMap;

use hyper::Method;
use selvedge_comm::HttpClient;
use selvedge_proto::protos::TxValidationCode;
use selvedge_proto::{Message, channel_header, common, open_envelope};
use selvedge_sdk::participation::OrdererAdmin;
use selvedge_sdk::{ClientTls, PeerClient};
use serde_json::Value;

use super::wait_for;
use crate::error::{CliError, During};
use crate::network::chain_height;
use crate::session::Session;

/// Waits until all peers of the network have the same height.
pub(super) async fn wait_for_equal_heights(session: &Session, channel: &str) -> Result<(), CliError> {
    wait_for("the peers to have the same height", || async {
        let mut heights = Vec::new();
        for peer in session.peers() {
            heights.push(chain_height(session, peer, channel).await?);
        }
        Ok(heights.windows(2).all(|pair| pair[0] == pair[1]))
    })
    .await
}

async fn metrics(address: &str) -> Result<String, CliError> {
    let url = format!("http://{address}/metrics");
    let answer = HttpClient::new(ClientTls::default())
        .request(Method::GET, &url, &[], "")
        .await
        .during(|| format!("no metrics at {address}"))?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// Host name of the orderer that leads a channel.
pub(super) async fn leader(session: &Session, channel: &str) -> Result<Option<String>, CliError> {
    let line = format!("consensus_etcdraft_is_leader{{channel=\"{channel}\"}} 1");
    for orderer in session.orderers() {
        let Some(address) = &orderer.node.operations_listen else {
            continue;
        };
        if metrics(address).await?.lines().any(|l| l.trim() == line) {
            return Ok(Some(orderer.host()));
        }
    }
    Ok(None)
}

/// Waits until an orderer has the same height as the others.
pub(super) async fn wait_for_orderer(session: &Session, host: &str, channel: &str) -> Result<(), CliError> {
    wait_for(&format!("{host} to catch up"), || async {
        let mut heights = BTreeMap::new();
        for orderer in session.orderers() {
            let url = format!("https://{}", orderer.node.admin_listen);
            let admin = OrdererAdmin::new(&url, session.orderer_admin_tls(orderer)?);
            let status = admin
                .status(channel)
                .await
                .during(|| format!("orderer {}", orderer.host()))?;
            heights.insert(orderer.host(), status.height);
        }
        Ok(heights.get(host) == heights.values().max())
    })
    .await
}

/// Transactions of one creator on a channel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) valid: u64,
    pub(super) duplicates: u64,
}

/// Counts a device's transactions in all blocks of the first peer.
pub(super) async fn transactions_of_device(
    session: &Session,
    channel: &str,
    device: &str,
) -> Result<Counted, CliError> {
    let peer = session
        .peers()
        .next()
        .ok_or_else(|| CliError::said("the network has no peer"))?;
    let admin = session.identity(&format!("Admin@{}", peer.org.domain))?;
    let client = PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))?;
    let height = chain_height(session, peer, channel).await?;
    let mut counted = Counted::default();
    for number in 0..height {
        let block = client
            .block(&admin, channel, number)
            .await
            .during(|| format!("cannot read block {number}"))?;
        count(&block, device, &mut counted);
    }
    Ok(counted)
}

fn count(block: &common::Block, device: &str, counted: &mut Counted) {
    let data = block.data.as_ref().map(|d| d.data.as_slice()).unwrap_or_default();
    let filter = block
        .metadata
        .as_ref()
        .and_then(|m| m.metadata.get(2))
        .cloned()
        .unwrap_or_default();
    for (index, bytes) in data.iter().enumerate() {
        let Ok(envelope) = common::Envelope::decode(bytes.clone()) else {
            continue;
        };
        let endorser = common::HeaderType::EndorserTransaction as i32;
        if channel_header(&envelope).is_ok_and(|h| h.r#type != endorser) {
            continue;
        }
        let Ok(open) = open_envelope(&envelope) else {
            continue;
        };
        if common_name(&open.signature_header.creator).as_deref() != Some(device) {
            continue;
        }
        match filter.get(index).copied().map(i32::from) {
            Some(code) if code == TxValidationCode::Valid as i32 => counted.valid += 1,
            Some(code) if code == TxValidationCode::DuplicateTxid as i32 => counted.duplicates += 1,
            _ => {}
        }
    }
}

fn common_name(creator: &[u8]) -> Option<String> {
    let identity = selvedge_proto::msp::SerializedIdentity::decode(creator).ok()?;
    let certificate = selvedge_msp::Certificate::from_pem(&identity.id_bytes).ok()?;
    certificate.common_name().map(str::to_owned)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The journey in a few lines.
pub(super) fn print_summary(summary: &Value) {
    println!(
        "      {} readings, {} points of the route",
        summary["readings"], summary["routePoints"]
    );
    let route = summary["route"].as_array().map(Vec::as_slice).unwrap_or_default();
    for point in route {
        println!(
            "        {}  {}, {}",
            text(&point["time"]),
            text(&point["lat"]),
            text(&point["lon"])
        );
    }
    for (name, sensor) in summary["sensors"].as_object().into_iter().flatten() {
        println!(
            "      {name:<12} {:>6} values, from {} ({}) to {} ({})",
            sensor["count"],
            text(&sensor["min"]["value"]),
            text(&sensor["min"]["time"]),
            text(&sensor["max"]["value"]),
            text(&sensor["max"]["time"]),
        );
    }
    if summary["conditionsHeld"] == Value::Bool(true) {
        println!("      the agreed conditions held");
        return;
    }
    println!(
        "      the agreed conditions did not hold: {} violations, for example",
        summary["violationCount"]
    );
    for violation in summary["violations"].as_array().into_iter().flatten() {
        println!(
            "        {} {} at {} (agreed: {} to {}), reading {} of {}",
            text(&violation["field"]),
            text(&violation["value"]),
            text(&violation["time"]),
            text(&violation["min"]),
            text(&violation["max"]),
            violation["sequence"],
            text(&violation["device"]),
        );
    }
}

/// Mean time of one call of a contract in the peers' contract runtime, of all peers that tell their metrics.
pub(super) async fn invocation_time(session: &Session, chaincode: &str) -> Option<f64> {
    let mut total = 0.0_f64;
    let mut count = 0.0_f64;
    for peer in session.peers() {
        let Some(address) = &peer.node.operations_listen else {
            continue;
        };
        let text = metrics(address).await.ok()?;
        let value = |name: &str| -> Option<f64> {
            let label = format!("chaincode=\"{chaincode}\"");
            let line = text.lines().find(|l| l.starts_with(name) && l.contains(&label))?;
            line.rsplit_once(' ')?.1.parse().ok()
        };
        if let (Some(sum), Some(calls)) = (
            value("chaincode_execute_duration_sum"),
            value("chaincode_execute_duration_count"),
        ) {
            total += sum;
            count += calls;
        }
    }
    (count > 0.0).then(|| total / count * 1000.0)
}
