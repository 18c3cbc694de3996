//! `cscc`: joining channels and reading their configuration (spec 08 §2).

use bytes::Bytes;
use prost::Message;
use selvedge_channel::{Bundle, NodeRole};
use selvedge_proto::{common, protos};

use super::acl::{check_channel, check_local};
use super::{Call, failure, success};

pub(super) fn invoke(call: &Call<'_>) -> protos::Response {
    let function = call.function();
    let argument = call.args.get(1);
    match (function.as_str(), argument) {
        ("GetChannels", _) => channels(call),
        ("JoinChain", Some(block)) => join(call, block),
        ("GetConfigBlock" | "GetChannelConfig", Some(channel)) => {
            configuration(call, &function, &String::from_utf8_lossy(channel))
        }
        ("JoinChainBySnapshot" | "JoinBySnapshotStatus", _) => failure(
            500,
            "joining a channel from a snapshot is not supported by this peer: join it by its genesis block",
        ),
        ("JoinChain" | "GetConfigBlock" | "GetChannelConfig", None) => {
            failure(500, format!("Incorrect number of arguments, {}", call.args.len()))
        }
        _ => failure(500, format!("Requested function {function} not found.")),
    }
}

fn denied(function: &str, channel: &str, why: &str) -> protos::Response {
    failure(500, format!("access denied for [{function}][{channel}]: [{why}]"))
}

fn channels(call: &Call<'_>) -> protos::Response {
    if let Err(why) = check_local(call, "cscc/GetChannels") {
        return failure(500, format!("access denied for [GetChannels]: {why}"));
    }
    let channels = call
        .context
        .channels()
        .into_iter()
        .map(|channel_id| protos::ChannelInfo { channel_id })
        .collect();
    success(protos::ChannelQueryResponse { channels }.encode_to_vec())
}

fn join(call: &Call<'_>, block: &Bytes) -> protos::Response {
    let invalid = |channel: &str, why: String| {
        failure(
            500,
            format!(
                "\"JoinChain\" for channelID = {channel} failed because of validation of configuration block, because of {why}"
            ),
        )
    };
    if block.is_empty() {
        return failure(500, "Cannot join the channel, no genesis block provided");
    }
    let block = match common::Block::decode(block.clone()) {
        Ok(block) => block,
        Err(e) => return failure(500, format!("Failed to reconstruct the genesis block, {e}")),
    };
    let bundle = match Bundle::from_config_block_as(NodeRole::Peer, &block) {
        Ok(bundle) => bundle,
        Err(e) => return invalid("", e.to_string()),
    };
    let channel = bundle.channel_id();
    // The rights to join come first: nobody else learns more about the block.
    if let Err(why) = check_local(call, "cscc/JoinChain") {
        return denied("JoinChain", channel, &why);
    }
    if bundle.application().is_none() {
        return invalid(
            channel,
            "Invalid configuration block, missing Application configuration group".to_owned(),
        );
    }
    match call.context.join_channel(block) {
        Ok(()) => success(Bytes::new()),
        Err(e) => failure(500, format!("cannot create ledger from genesis block: {e}")),
    }
}

fn configuration(call: &Call<'_>, function: &str, id: &str) -> protos::Response {
    // Who is no member must not learn that there is such a channel.
    let joined = call
        .context
        .channel(id)
        .map(|channel| (channel.bundle(), channel));
    let Some((bundle, channel)) = joined.filter(|(bundle, _)| call.is_member(bundle)) else {
        return failure(
            500,
            format!("Unknown chain ID, {id}: this peer has not joined that channel"),
        );
    };
    if let Err(why) = check_channel(call, &bundle, &format!("cscc/{function}")) {
        return denied(function, id, &why);
    }
    if function == "GetChannelConfig" {
        return success(bundle.config().encode_to_vec());
    }
    match last_config_block(&channel) {
        Ok(block) => success(block),
        Err(why) => failure(
            500,
            format!("cannot read the last configuration block of {id}: {why}"),
        ),
    }
}

/// The block that holds the current configuration, as it is stored.
fn last_config_block(channel: &crate::channel::PeerChannel) -> Result<Bytes, String> {
    let blocks = channel.ledger().blocks();
    let last = channel.height().checked_sub(1).ok_or("the ledger is empty")?;
    let block = blocks
        .block(last)
        .map_err(|e| e.to_string())?
        .ok_or("the last block is missing")?;
    let index = if last == 0 {
        0
    } else {
        selvedge_proto::block_last_config_index(&block).map_err(|e| e.to_string())?
    };
    blocks
        .get(index)
        .map_err(|e| e.to_string())?
        .ok_or_else(|| format!("block {index} is missing"))
}
