//! Nodes in channels: create, join, leave.

use std::time::{Duration, Instant};

use selvedge_channel::check_channel_id;
use selvedge_sdk::participation::OrdererAdmin;
use selvedge_sdk::{PeerClient, Seek};

use super::source::{self, Current, encoded};
use crate::args::{CreateArgs, NodeArgs};
use crate::error::{CliError, During};
use crate::network::config::{BatchConfig, ChannelConfig};
use crate::network::{chain_height, genesis, nodes, restart_without};
use crate::session::{OrdererRef, PeerRef, Session};

/// How long a command waits for what goes on without it: a peer that fetches a long chain, orderers that elect a leader.
const PATIENCE: Duration = Duration::from_secs(30);
const UNCHANGED: &str = "dry run: nothing was changed";
const POLL: Duration = Duration::from_millis(100);

/// `channel create`
pub(super) async fn create(args: &CreateArgs) -> Result<(), CliError> {
    check_channel_id(&args.name).map_err(|e| CliError::said(e.to_string()))?;
    let session = Session::open(&args.network.network)?;
    let path = session.layout.genesis_block(&args.name);
    if path.exists() {
        return Err(CliError::said(format!(
            "channel {} exists already: its genesis block is {}",
            args.name,
            path.display()
        )));
    }
    for org in args.orgs.iter().flatten() {
        if !session.config.peer_organizations.iter().any(|o| o.name == *org) {
            let known: Vec<_> = session
                .config
                .peer_organizations
                .iter()
                .map(|o| o.name.as_str())
                .collect();
            return Err(CliError::said(format!(
                "there is no organisation {org}; this network has {}",
                known.join(", ")
            )));
        }
    }
    let timeout = selvedge_channel::duration::parse(&args.batch_timeout)
        .filter(|d| !d.is_zero())
        .ok_or_else(|| {
            CliError::said(format!(
                "'{}' is no duration above 0, such as 200ms or 2s",
                args.batch_timeout
            ))
        })?;
    let channel = ChannelConfig {
        name: args.name.clone(),
        organizations: args.orgs.clone(),
        batch: BatchConfig {
            max_message_count: args.max_messages,
            timeout,
            ..BatchConfig::default()
        },
    };
    let joining: Vec<PeerRef<'_>> = session.peers_of(&channel).collect();
    if args.dry_run {
        show_new(&session, args, &channel, &joining);
        return Ok(());
    }
    genesis::create(&session.config, &session.layout, &channel)?;
    println!(
        "channel {}: genesis block written to {}",
        args.name,
        path.display()
    );
    if args.no_join {
        return Ok(());
    }
    let block = std::fs::read(&path).map_err(|source| CliError::ReadFile { path, source })?;
    for orderer in session.orderers() {
        join_orderer(&session, orderer, &args.name, &block).await?;
    }
    for peer in joining {
        join_peer(&session, peer, &args.name, &block).await?;
    }
    served(&session, &args.name).await
}

/// Waits until the orderers of a new channel have elected a leader: before, they give nobody a block.
async fn served(session: &Session, channel: &str) -> Result<(), CliError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Current::fetch_by_any(session, None, channel).await {
            Ok(_) => return Ok(()),
            Err(why) if Instant::now() > deadline => {
                return Err(CliError::said(format!(
                    "channel {channel} is made and joined, but its orderers give no block of it yet: {why}"
                )));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// What `channel create --dry-run` says.
fn show_new(session: &Session, args: &CreateArgs, channel: &ChannelConfig, joining: &[PeerRef<'_>]) {
    let members: Vec<&str> = session.config.members(channel).map(|o| o.name.as_str()).collect();
    println!("channel {} would be made", args.name);
    println!("  + members: {}", members.join(", "));
    println!(
        "  + blocks of up to {} transactions, or after {}",
        args.max_messages, args.batch_timeout
    );
    if !args.no_join {
        let orderers = session.orderers().map(|o| o.host());
        let nodes: Vec<String> = orderers.chain(joining.iter().map(PeerRef::host)).collect();
        println!("  + nodes that join: {}", nodes.join(", "));
    }
    println!("{UNCHANGED}");
}

/// `channel join`
pub(super) async fn join(args: &NodeArgs) -> Result<(), CliError> {
    let session = Session::open(&args.channel.network.network)?;
    let channel = &args.channel.channel;
    if args.dry_run {
        return show_join(&session, args).await;
    }
    if let Ok(orderer) = session.orderer(&args.node) {
        let (_, current) = Current::fetch_by_any(&session, None, channel).await?;
        return join_orderer(&session, orderer, channel, &encoded(&current.block)).await;
    }
    let peer = node_peer(&session, &args.node)?;
    let admin = session.identity(&peer.administrator())?;
    let block = source::block(&session, &admin, channel, Seek::one(0)).await?;
    join_peer(&session, peer, channel, &encoded(&block)).await?;
    let newest = source::block(&session, &admin, channel, Seek::newest()).await?;
    catch_up(&session, peer, channel, source::number(&newest) + 1).await
}

/// What `channel join --dry-run` says: also whether the node could join.
async fn show_join(session: &Session, args: &NodeArgs) -> Result<(), CliError> {
    let channel = &args.channel.channel;
    let (host, height) = if let Ok(orderer) = session.orderer(&args.node) {
        let (_, current) = Current::fetch_by_any(session, None, channel).await?;
        (orderer.host(), source::number(&current.block) + 1)
    } else {
        let peer = node_peer(session, &args.node)?;
        let admin = session.identity(&peer.administrator())?;
        let newest = source::block(session, &admin, channel, Seek::newest()).await?;
        (peer.host(), source::number(&newest) + 1)
    };
    println!("{host} would join channel {channel} and fetch its blocks (at least {height})");
    println!("{UNCHANGED}");
    Ok(())
}

/// Waits until a peer has the blocks that the orderers had: before, it knows an older configuration, in which its own
/// organisation may be missing.
async fn catch_up(session: &Session, peer: PeerRef<'_>, channel: &str, height: u64) -> Result<(), CliError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Until it knows that its organisation is a member, the peer answers nobody.
        let reached = chain_height(session, peer, channel).await.unwrap_or(0);
        if reached >= height {
            println!("it has all {reached} blocks");
            return Ok(());
        }
        if Instant::now() > deadline {
            println!(
                "it is still fetching blocks ({reached} of {height}); `selvedge channel info` shows how far it is"
            );
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn node_peer<'a>(session: &'a Session, node: &str) -> Result<PeerRef<'a>, CliError> {
    session.peer(node).map_err(|_| {
        let known: Vec<String> = session
            .orderers()
            .map(|o| o.host())
            .chain(session.peers().map(|p| p.host()))
            .collect();
        CliError::said(format!(
            "there is no node {node}; this network has {}",
            known.join(", ")
        ))
    })
}

fn orderer_admin(session: &Session, orderer: OrdererRef<'_>) -> Result<OrdererAdmin, CliError> {
    let url = format!("https://{}", orderer.node.admin_listen);
    Ok(OrdererAdmin::new(&url, session.orderer_admin_tls(orderer)?))
}

async fn join_orderer(
    session: &Session,
    orderer: OrdererRef<'_>,
    channel: &str,
    block: &[u8],
) -> Result<(), CliError> {
    let status = orderer_admin(session, orderer)?
        .join(block)
        .await
        .during(|| format!("orderer {} does not join channel {channel}", orderer.host()))?;
    println!(
        "{} joined channel {channel} ({}, {}, height {})",
        orderer.host(),
        status.consensus_relation,
        status.status,
        status.height
    );
    Ok(())
}

async fn join_peer(
    session: &Session,
    peer: PeerRef<'_>,
    channel: &str,
    block: &[u8],
) -> Result<(), CliError> {
    let admin = session.identity(&peer.administrator())?;
    let client = PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))?;
    client
        .join_channel(&admin, block.to_vec().into())
        .await
        .during(|| format!("peer {} does not join channel {channel}", peer.host()))?;
    println!("{} joined channel {channel}", peer.host());
    Ok(())
}

/// A consenter that has left still counts for the majority until the configuration says otherwise.
async fn still_counted(session: &Session, orderer: OrdererRef<'_>, channel: &str) {
    // A channel that can no longer be read has no other orderer here to ask.
    let Ok((_, current)) = Current::fetch_by_any(session, None, channel).await else {
        return;
    };
    let address = orderer.address();
    let consenters = current
        .bundle
        .orderer()
        .map(|o| o.consenters.as_slice())
        .unwrap_or_default();
    if consenters
        .iter()
        .any(|c| format!("{}:{}", c.host, c.port) == address)
    {
        println!(
            "it is still one of the {} consenters, so a majority is needed without it; take it out with \
             `selvedge channel remove-consenter -C {channel} {}`",
            consenters.len(),
            orderer.host()
        );
    }
}

/// `channel leave`
pub(super) async fn leave(args: &NodeArgs) -> Result<(), CliError> {
    let session = Session::open(&args.channel.network.network)?;
    let channel = &args.channel.channel;
    check_channel_id(channel).map_err(|e| CliError::said(e.to_string()))?;
    if let Ok(orderer) = session.orderer(&args.node) {
        if args.dry_run {
            println!(
                "{} would leave channel {channel}, and its blocks there would be deleted",
                orderer.host()
            );
            still_counted(&session, orderer, channel).await;
            println!("{UNCHANGED}");
            return Ok(());
        }
        orderer_admin(&session, orderer)?
            .remove(channel)
            .await
            .during(|| format!("orderer {} does not leave channel {channel}", orderer.host()))?;
        println!(
            "{} left channel {channel}; its blocks are deleted",
            orderer.host()
        );
        still_counted(&session, orderer, channel).await;
        return Ok(());
    }
    let peer = node_peer(&session, &args.node)?;
    let node = nodes::all(&session)
        .into_iter()
        .find(|node| node.id == peer.host())
        .ok_or_else(|| CliError::said(format!("there is no node {}", args.node)))?;
    let folder = node.layout.data().join("channels").join(channel);
    if !folder.is_dir() {
        return Err(CliError::said(format!(
            "{} has not joined channel {channel}",
            peer.host()
        )));
    }
    if args.dry_run {
        println!(
            "{} would leave channel {channel}, and its ledger there would be deleted: {}",
            peer.host(),
            folder.display()
        );
        println!("{UNCHANGED}");
        return Ok(());
    }
    restart_without(&session, &node, &folder).await?;
    println!("{} left channel {channel}; its ledger is deleted", peer.host());
    Ok(())
}
