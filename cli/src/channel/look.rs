//! Looking at channels: list, info, fetch, config.

use std::collections::BTreeMap;
use std::path::PathBuf;

use selvedge_sdk::participation::{ChannelStatus, OrdererAdmin};
use selvedge_sdk::{PeerClient, Seek};

use super::render;
use super::source::{self, Current, encoded, number};
use crate::args::{ConfigArgs, FetchArgs, ListArgs, LookArgs};
use crate::error::{CliError, During, with_causes};
use crate::network::chain_height;
use crate::session::Session;

/// What the nodes say of their channels.
#[derive(Default)]
struct Nodes {
    /// Per channel: node and what it says of its copy.
    channels: BTreeMap<String, Vec<(String, String)>>,
    /// Nodes that gave no answer, and why.
    silent: Vec<(String, String)>,
}

impl Nodes {
    async fn ask(session: &Session) -> Self {
        let mut found = Self::default();
        for orderer in session.orderers() {
            let answer = async {
                let url = format!("https://{}", orderer.node.admin_listen);
                let admin = OrdererAdmin::new(&url, session.orderer_admin_tls(orderer)?);
                let mut all = Vec::new();
                for channel in admin.list().await.during(String::new)? {
                    all.push(admin.status(&channel).await.during(String::new)?);
                }
                Ok(all)
            };
            let answer: Result<Vec<ChannelStatus>, CliError> = answer.await;
            match answer {
                Ok(all) => {
                    for status in all {
                        let text = format!(
                            "height {}, {}, {}",
                            status.height, status.consensus_relation, status.status
                        );
                        found
                            .channels
                            .entry(status.name)
                            .or_default()
                            .push((orderer.host(), text));
                    }
                }
                Err(error) => found.silent.push((orderer.host(), reason(&error))),
            }
        }
        for peer in session.peers() {
            let answer = async {
                let admin = session.identity(&peer.administrator())?;
                let client =
                    PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?).during(String::new)?;
                client.channels(&admin).await.during(String::new)
            };
            match answer.await {
                Ok(channels) => {
                    for channel in channels {
                        let text = match chain_height(session, peer, &channel).await {
                            Ok(height) => format!("height {height}"),
                            Err(error) => reason(&error),
                        };
                        found
                            .channels
                            .entry(channel)
                            .or_default()
                            .push((peer.host(), text));
                    }
                }
                Err(error) => found.silent.push((peer.host(), reason(&error))),
            }
        }
        found
    }
}

/// Names of the channels that the nodes of the network are in.
pub(crate) async fn channel_names(session: &Session) -> Vec<String> {
    Nodes::ask(session).await.channels.into_keys().collect()
}

fn reason(error: &CliError) -> String {
    with_causes(error).trim_start_matches([':', ' ']).to_owned()
}

/// `channel list`
pub(super) async fn list(args: &ListArgs) -> Result<(), CliError> {
    let session = Session::open(&args.network.network)?;
    let reads_as = args.reader.identity.as_deref();
    let nodes = Nodes::ask(&session).await;
    for (channel, copies) in &nodes.channels {
        match Current::fetch_by_any(&session, reads_as, channel).await {
            Ok((_, current)) => println!(
                "{channel}: {} on {} nodes; configuration {} (block {})",
                members(&current),
                copies.len(),
                current.bundle.sequence(),
                current.block_number()
            ),
            Err(_) => println!(
                "{channel}: on {} nodes; {}",
                copies.len(),
                match reads_as {
                    Some(name) => format!("{name} may not read it"),
                    None => "no administrator whose key is here may read it".to_owned(),
                }
            ),
        }
    }
    if nodes.channels.is_empty() {
        println!("no channel; make one with `selvedge channel create NAME`");
    }
    for (node, why) in &nodes.silent {
        println!("{node} does not answer: {why}");
    }
    Ok(())
}

fn members(current: &Current) -> String {
    let names: Vec<&str> = current
        .bundle
        .application()
        .map(|a| a.orgs.keys().map(String::as_str).collect())
        .unwrap_or_default();
    names.join(", ")
}

/// `channel info`
pub(super) async fn info(args: &LookArgs) -> Result<(), CliError> {
    let session = Session::open(&args.channel.network.network)?;
    let channel = &args.channel.channel;
    let named = args.reader.identity.as_deref();
    let (_, current) = Current::fetch_by_any(&session, named, channel).await?;
    println!("channel        {channel}");
    println!(
        "configuration  {} (block {})",
        current.bundle.sequence(),
        current.block_number()
    );
    if let Some(application) = current.bundle.application() {
        for (name, org) in &application.orgs {
            let anchors: Vec<String> = org
                .anchor_peers
                .iter()
                .map(|(host, port)| format!("{host}:{port}"))
                .collect();
            let anchors = if anchors.is_empty() {
                "none".to_owned()
            } else {
                anchors.join(", ")
            };
            println!("member         {name} ({}), anchor peers: {anchors}", org.msp_id);
        }
    }
    if let Some(orderer) = current.bundle.orderer() {
        for consenter in &orderer.consenters {
            println!("consenter      {}:{}", consenter.host, consenter.port);
        }
        let size = &orderer.batch_size;
        println!(
            "batch          {} messages, {} bytes (at most {}), after {}",
            size.max_message_count,
            size.preferred_max_bytes,
            size.absolute_max_bytes,
            selvedge_channel::duration::format(orderer.batch_timeout)
        );
        if orderer.in_maintenance() {
            println!("state          maintenance");
        }
    }
    let mut nodes = Nodes::ask(&session).await;
    for (node, text) in nodes.channels.remove(channel).unwrap_or_default() {
        println!("node           {node}: {text}");
    }
    for (node, why) in nodes.silent {
        println!("node           {node} does not answer: {why}");
    }
    Ok(())
}

/// `channel fetch`
pub(super) async fn fetch(args: &FetchArgs) -> Result<(), CliError> {
    let session = Session::open(&args.channel.network.network)?;
    let channel = &args.channel.channel;
    let named = args.reader.identity.as_deref();
    let (reads_as, current) = Current::fetch_by_any(&session, named, channel).await?;
    let identity = session.identity(&reads_as)?;
    let block = match args.block.as_str() {
        "config" => current.block,
        "newest" => source::block(&session, &identity, channel, Seek::newest()).await?,
        "oldest" => source::block(&session, &identity, channel, Seek::one(0)).await?,
        text => {
            let number = text.parse().map_err(|_| {
                CliError::said(format!(
                    "'{text}' is no block; give a number, oldest, newest or config"
                ))
            })?;
            source::block(&session, &identity, channel, Seek::one(number)).await?
        }
    };
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{channel}_{}.block", args.block)));
    std::fs::write(&path, encoded(&block)).map_err(|source| CliError::WriteFile {
        path: path.clone(),
        source,
    })?;
    let transactions = block.data.as_ref().map_or(0, |d| d.data.len());
    println!(
        "block {} of channel {channel} ({transactions} transactions) written to {}",
        number(&block),
        path.display()
    );
    Ok(())
}

/// `channel config`
pub(super) async fn config(args: &ConfigArgs) -> Result<(), CliError> {
    let session = Session::open(&args.channel.network.network)?;
    let channel = &args.channel.channel;
    let named = args.reader.identity.as_deref();
    let (_, current) = Current::fetch_by_any(&session, named, channel).await?;
    let mut tree = serde_json::Map::new();
    tree.insert("channel".to_owned(), channel.as_str().into());
    tree.insert("sequence".to_owned(), current.bundle.sequence().into());
    tree.insert("block".to_owned(), current.block_number().into());
    if let Some(root) = &current.bundle.config().channel_group {
        tree.insert("configuration".to_owned(), render::group(root));
    }
    let tree = serde_json::Value::Object(tree);
    if args.json {
        println!("{tree:#}");
    } else {
        let text = serde_yaml_ng::to_string(&tree)
            .during(|| "the configuration cannot be written as YAML".to_owned())?;
        print!("{text}");
    }
    Ok(())
}
