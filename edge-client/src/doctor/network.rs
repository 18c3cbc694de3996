//! Whether peers, orderers and the certificate authority can be reached, know this machine, and agree about the time.

use std::time::Duration;

use selvedge_comm::{ClientTls, HttpClient, Method};
use selvedge_msp::SigningIdentity;
use selvedge_proto::{Message, common, open_payload};
use selvedge_sdk::{ChannelInfo, Endpoint, Error, PeerClient, Seek};

use super::{Area, Report, clock, explain, unix_seconds};
use crate::config::{CaConfig, EdgeConfig, EndpointConfig, UplinkMode};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn check(report: &mut Report, config: &EdgeConfig, identity: Option<&SigningIdentity>) {
    let mut channels: Vec<(PeerClient, String)> = Vec::new();
    let mut reached = 0_usize;
    for node in &config.uplink.peers {
        if let Some(client) = peer(report, node).await {
            reached += 1;
            if let Some(identity) = identity {
                joined(report, &client, identity, &mut channels).await;
            }
        }
    }
    let peers = config.uplink.peers.len();
    if reached == 0 {
        report.fail(
            Area::Network,
            "no peer can be reached: requests are kept, and none is sent",
            "see the lines above; without a network this is as it should be",
        );
    } else if config.uplink.mode == UplinkMode::Gateway && peers == 1 {
        report.warn(
            Area::Network,
            "one peer is configured: when it is away, nothing is sent",
            "name a second one in uplink.peers",
        );
    }
    for node in &config.uplink.orderers {
        orderer(report, node).await;
    }
    if let Some(identity) = identity {
        let direct = config.uplink.mode == UplinkMode::Direct && config.uplink.orderers.is_empty();
        for (client, channel) in &channels {
            channel_time(report, client, identity, channel).await;
            if direct {
                channel_orderers(report, client, identity, channel).await;
            }
        }
    }
    if let Some(ca) = &config.ca {
        authority(report, ca).await;
    }
}

async fn connects(endpoint: &Endpoint) -> Result<(), String> {
    endpoint.connect().await.map(drop).map_err(|e| e.to_string())
}

fn unreachable(report: &mut Report, kind: &str, address: &str, why: &str) {
    let (what, todo) = explain(address, why);
    report.fail(Area::Network, format!("{kind} {what}"), todo);
}

async fn peer(report: &mut Report, node: &EndpointConfig) -> Option<PeerClient> {
    let endpoint = match node.endpoint() {
        Ok(endpoint) => endpoint,
        Err(error) => {
            report.fail(
                Area::Network,
                format!("peer {}: {error}", node.address),
                "check the file that is named there",
            );
            return None;
        }
    };
    if let Err(why) = connects(&endpoint).await {
        unreachable(report, "peer", &node.address, &why);
        return None;
    }
    match PeerClient::new(&node.msp_id, &endpoint) {
        Ok(client) => Some(client),
        Err(error) => {
            unreachable(report, "peer", &node.address, &error.to_string());
            None
        }
    }
}

async fn orderer(report: &mut Report, node: &EndpointConfig) {
    let result = match node.endpoint() {
        Ok(endpoint) => connects(&endpoint).await,
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => report.ok(Area::Network, format!("orderer {} is reached", node.address)),
        Err(why) => unreachable(report, "orderer", &node.address, &why),
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Asks a peer for its channels, which proves that it takes our signature. Only peers of our own organisation tell
/// (Fabric's ACL of `cscc/GetChannels`); another's refusal still shows that it was reached.
async fn joined(
    report: &mut Report,
    client: &PeerClient,
    identity: &SigningIdentity,
    channels: &mut Vec<(PeerClient, String)>,
) {
    let address = client.address();
    match in_time(client.channels(identity)).await {
        Ok(names) if names.is_empty() => report.warn(
            Area::Network,
            format!("peer {address} is reached and knows this machine, and is in no channel"),
            "its administrator must let it join one (peer channel join)",
        ),
        Ok(names) => {
            report.ok(
                Area::Network,
                format!(
                    "peer {address} is reached and knows this machine; its channels: {}",
                    names.join(", ")
                ),
            );
            for name in names {
                if channels.iter().all(|(_, known)| *known != name) {
                    channels.push((client.clone(), name));
                }
            }
        }
        // A Fabric peer of the 3.x line judges the time stamp of every proposal.
        Err(why) if why.contains("incorrect timestamp") => report.fail(
            Area::Clock,
            format!("peer {address} refuses the time of this machine: {why}"),
            "set the clock: timedatectl set-ntp true",
        ),
        Err(_) if client.msp_id() != identity.msp_id() => report.ok(
            Area::Network,
            format!("peer {address} of {} is reached", client.msp_id()),
        ),
        Err(why) => report.fail(
            Area::Network,
            format!("peer {address} is reached and refuses this machine: {why}"),
            "the certificate may be revoked, expired, or of another organisation than msp_id says",
        ),
    }
}

/// The time stamp of a block's last transaction: whoever wrote it thought it was that time.
fn written_at(block: &common::Block) -> Option<i64> {
    let envelope = block.data.as_ref()?.data.last()?;
    let envelope = common::Envelope::decode(envelope.clone()).ok()?;
    let (_, header, _) = open_payload(envelope.payload).ok()?;
    header.timestamp.map(|t| t.seconds)
}

async fn channel_time(report: &mut Report, client: &PeerClient, identity: &SigningIdentity, channel: &str) {
    let newest = async {
        let mut blocks = client.blocks(identity, channel, Seek::newest()).await?;
        blocks.next().await
    };
    match in_time(newest).await {
        Ok(Some(block)) => {
            let number = block.header.as_ref().map_or(0, |h| h.number);
            report.ok(
                Area::Network,
                format!("channel {channel} can be read; its newest block is {number}"),
            );
            if let Some(theirs) = written_at(&block) {
                let who = format!("the newest transaction of channel {channel}");
                clock::compare(report, &who, theirs, unix_seconds(), true);
            }
        }
        Ok(None) => report.warn(
            Area::Network,
            format!("channel {channel} delivers no block"),
            "its peer may be joining; ask again",
        ),
        // The peer judges the request's time stamp before anything else.
        Err(why) if why.contains("BAD_REQUEST") => report.fail(
            Area::Clock,
            format!(
                "peer {} refuses the time of this machine: {why}",
                client.address()
            ),
            "set the clock: timedatectl set-ntp true",
        ),
        Err(why) => report.fail(
            Area::Network,
            format!("channel {channel} cannot be read: {why}"),
            "the organisation must be a member of the channel, and the certificate one of its clients",
        ),
    }
}

async fn channel_orderers(
    report: &mut Report,
    client: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
) {
    let info = match in_time(ChannelInfo::fetch(client, identity, channel)).await {
        Ok(info) => info,
        Err(why) => {
            report.fail(
                Area::Network,
                format!("the configuration of channel {channel} cannot be read: {why}"),
                "direct mode needs it; name the orderers in uplink.orderers, or use gateway mode",
            );
            return;
        }
    };
    let mut reached = 0_usize;
    for orderer in &info.orderers {
        let tls = ClientTls {
            roots: orderer.tls_roots.clone(),
            ..ClientTls::default()
        };
        match connects(&Endpoint::tls(&orderer.address, tls)).await {
            Ok(()) => reached += 1,
            Err(why) => {
                let (what, todo) = explain(&orderer.address, &why);
                report.warn(
                    Area::Network,
                    format!("orderer {what} (from the configuration of {channel})"),
                    todo,
                );
            }
        }
    }
    let what = format!(
        "{reached} of the {} orderers of channel {channel} are reached",
        info.orderers.len()
    );
    if reached == 0 {
        report.fail(
            Area::Network,
            what,
            "name orderers that can be reached in uplink.orderers",
        );
    } else {
        report.ok(Area::Network, what);
    }
}

/// The authority's answer to a question that needs no identity (spec 06: `cainfo`), and its clock.
async fn authority(report: &mut Report, ca: &CaConfig) {
    let tls = match ca.tls() {
        Ok(tls) => tls,
        Err(error) => {
            report.fail(
                Area::Network,
                format!("certificate authority {}: {error}", ca.url),
                "check the file that is named there",
            );
            return;
        }
    };
    let url = format!("{}/api/v1/cainfo", ca.url.trim_end_matches('/'));
    let body = serde_json::json!({ "caname": ca.name }).to_string();
    let http = HttpClient::new(tls).with_timeout(PATIENCE);
    let asked = http
        .request(Method::POST, &url, &[("content-type", "application/json")], body)
        .await;
    match asked {
        Ok(answer) if answer.status.is_success() => {
            report.ok(
                Area::Network,
                format!("certificate authority {} is reached", ca.url),
            );
            let date = answer.headers.get("date").and_then(|d| d.to_str().ok());
            if let Some(theirs) = date.and_then(clock::http_date) {
                clock::compare(report, "the certificate authority", theirs, unix_seconds(), false);
            }
        }
        Ok(answer) => {
            let said: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
            report.fail(
                Area::Network,
                format!(
                    "certificate authority {} answers HTTP {}: {said}",
                    ca.url,
                    answer.status.as_u16()
                ),
                "check ca.name and ca.url",
            );
        }
        Err(error) => unreachable(report, "certificate authority", &ca.url, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_tells_when_it_was_written() {
        let mut header = common::ChannelHeader::default();
        header.timestamp.get_or_insert_default().seconds = 77;
        let payload = common::Payload {
            header: Some(common::Header {
                channel_header: header.encode_to_vec().into(),
                signature_header: common::SignatureHeader::default().encode_to_vec().into(),
            }),
            ..Default::default()
        };
        let envelope = common::Envelope {
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        };
        let block = common::Block {
            data: Some(common::BlockData {
                data: vec![envelope.encode_to_vec().into()],
            }),
            ..Default::default()
        };
        assert_eq!(written_at(&block), Some(77));
        assert_eq!(written_at(&common::Block::default()), None);
    }
}
