//! How everything is: channels, their activity, peers, orderers, and edge gateways with their buffers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use futures::future::join_all;
use selvedge_comm::{HttpClient, Method};
use selvedge_sdk::{ChannelInfo, ClientTls, Endpoint, OrdererClient, PeerClient, Seek};
use serde_json::{Value, json};

use super::{App, Shared};
use crate::auth::{Caller, View};
use crate::error::Problem;
use crate::now_seconds;

/// The nodes are asked at most this often, however many pages are open.
const FRESH: Duration = Duration::from_secs(3);
/// A node that does not answer in this time counts as away.
const PATIENCE: Duration = Duration::from_secs(2);
const MINUTE: i64 = 60 * 1000;
const HOUR: i64 = 60 * MINUTE;
const HOURS: usize = 24;
const MINUTES: usize = 60;

/// The last answer of the nodes.
#[derive(Debug, Default)]
pub(crate) struct Cache(tokio::sync::Mutex<Option<(Instant, Value)>>);

/// `GET /v1/overview`
pub(super) async fn overview(State(app): Shared, caller: Caller) -> Result<Json<Value>, Problem> {
    caller.reader()?;
    let mut channels = Vec::new();
    for name in app.network.channels() {
        channels.push(activity(&app, name).await?);
    }
    let mut answer = json!({
        "organization": app.config.organization,
        "mspId": app.config.msp_id,
        "channels": channels,
    });
    // Addresses of nodes and the state of gateways are nobody else's business.
    if caller.view() == View::InHouse {
        let nodes = nodes(&app).await;
        for name in ["nodes", "gateways"] {
            answer[name] = nodes[name].clone();
        }
    }
    Ok(Json(answer))
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

async fn activity(app: &Arc<App>, name: String) -> Result<Value, Problem> {
    let height = *app.network.channel(&name)?.height.borrow();
    let now = now_seconds().saturating_mul(1000);
    app.indexed(move |index| {
        let hours = index.activity(&name, now, HOUR, HOURS)?;
        let minutes = index.activity(&name, now, MINUTE, MINUTES)?;
        let (transactions, valid) = index.totals(&name)?;
        let last = index.blocks(&name, u64::MAX, 1)?;
        let recent = u32::try_from(index.since(&name, now - MINUTE)?).unwrap_or(u32::MAX);
        let orderers: Vec<Value> = index
            .per_orderer(&name)?
            .into_iter()
            .map(|(orderer, blocks)| json!({ "orderer": orderer, "blocks": blocks }))
            .collect();
        let spans = |list: Vec<(u64, u64, u64)>| -> Vec<Value> {
            list.into_iter()
                .map(|(blocks, transactions, valid)| {
                    json!({ "blocks": blocks, "transactions": transactions, "valid": valid })
                })
                .collect()
        };
        Ok(json!({
            "name": name, "height": height, "transactions": transactions, "valid": valid,
            "lastBlock": last.first(), "transactionsPerSecond": tenth(f64::from(recent) / 60.0),
            "perOrderer": orderers, "hours": spans(hours), "minutes": spans(minutes),
        }))
    })
    .await
}

async fn nodes(app: &Arc<App>) -> Value {
    // Whoever comes while the nodes are being asked waits for the same answer.
    let mut cache = app.overview.0.lock().await;
    if let Some((when, answer)) = cache.as_ref()
        && when.elapsed() < FRESH
    {
        return answer.clone();
    }
    let channels = join_all(
        app.network
            .channels()
            .into_iter()
            .map(|name| channel_nodes(app, name)),
    );
    let gateways = join_all(
        app.config
            .gateways
            .iter()
            .map(|gateway| edge(gateway.id.clone(), gateway.url.clone())),
    );
    let (channels, gateways) = tokio::join!(channels, gateways);
    let nodes: Vec<Value> = channels.into_iter().flatten().collect();
    let answer = json!({ "nodes": nodes, "gateways": gateways });
    *cache = Some((Instant::now(), answer.clone()));
    answer
}

/// Waits for a node's answer, but not for long.
async fn in_time<T, E: std::fmt::Display>(asking: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

async fn channel_nodes(app: &Arc<App>, channel: String) -> Vec<Value> {
    let info = match in_time(app.network.channel_info(&channel)).await {
        Ok(info) => info,
        Err(error) => {
            return vec![json!({
                "channel": channel, "role": "peer", "mspId": app.config.msp_id, "address": "", "height": null,
                "error": error,
            })];
        }
    };
    let mut peers: Vec<PeerClient> = app.network.peers().cloned().collect();
    for anchor in &info.anchor_peers {
        if peers.iter().any(|known| known.address() == anchor.address) {
            continue;
        }
        let tls = ClientTls {
            roots: anchor.tls_roots.clone(),
            ..ClientTls::default()
        };
        if let Ok(peer) = PeerClient::new(&anchor.msp_id, &Endpoint::tls(&anchor.address, tls)) {
            peers.push(peer);
        }
    }
    let identity = app.network.identity();
    let peers = join_all(peers.iter().map(async |peer| {
        let height = in_time(peer.chain_info(identity, &channel))
            .await
            .map(|i| i.height);
        node(&channel, "peer", peer.msp_id(), peer.address(), height)
    }));
    let orderers = orderers(app, &info, &channel);
    let (mut nodes, orderers) = tokio::join!(peers, orderers);
    nodes.extend(orderers);
    nodes
}

async fn orderers(app: &Arc<App>, info: &ChannelInfo, channel: &str) -> Vec<Value> {
    let identity = app.network.identity();
    join_all(info.orderers.iter().map(async |orderer| {
        let tls = ClientTls {
            roots: orderer.tls_roots.clone(),
            ..ClientTls::default()
        };
        let asking = async {
            let client = OrdererClient::new(&Endpoint::tls(&orderer.address, tls))?;
            client.block(identity, channel, Seek::newest()).await
        };
        let height = in_time(asking)
            .await
            .map(|block| block.header.map_or(0, |header| header.number + 1));
        node(channel, "orderer", &orderer.msp_id, &orderer.address, height)
    }))
    .await
}

fn node(channel: &str, role: &str, msp_id: &str, address: &str, height: Result<u64, String>) -> Value {
    json!({
        "channel": channel, "role": role, "mspId": msp_id, "address": address,
        "height": height.as_ref().ok(), "error": height.as_ref().err(),
    })
}

async fn edge(id: String, url: String) -> Value {
    let client = HttpClient::new(ClientTls::default()).with_timeout(PATIENCE);
    let address = format!("{}/v1/status", url.trim_end_matches('/'));
    let answer = match client.request(Method::GET, &address, &[], "").await {
        Ok(answer) if answer.status.is_success() => serde_json::from_slice::<Value>(&answer.body)
            .map_err(|_| "it does not answer as an edge gateway".to_owned()),
        Ok(answer) => Err(format!("it answers HTTP {}", answer.status)),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(status) => json!({
            "id": id, "open": status["open"], "buffer": status["buffer"], "uplink": status["uplink"],
            "damage": status["damage"], "error": null,
        }),
        Err(error) => json!({ "id": id, "error": error }),
    }
}
