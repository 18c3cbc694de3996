//! Changing a channel's configuration.

use prost::Message;
use selvedge_channel::update;
use selvedge_channel::update::edit::{ConfigTree, EditError};
use selvedge_proto::common;
use selvedge_sdk::ClientIdentity;

use crate::{CHANNEL, Network, ORG1_PEER, eventually};
use std::time::Duration;

/// The envelope of a change that `edit` makes to the channel's current configuration, signed by `signer` alone.
pub async fn envelope(
    network: &Network,
    signer: &ClientIdentity,
    edit: impl FnOnce(&mut ConfigTree) -> Result<(), EditError>,
) -> common::Envelope {
    let current = network
        .peer(ORG1_PEER)
        .channel_config(signer, CHANNEL)
        .await
        .expect("the configuration");
    let mut tree = ConfigTree::from_config(&current);
    edit(&mut tree).expect("the change is possible");
    let change = update::compute(CHANNEL, &current, &tree.into_config()).expect("there is a change");
    let bytes = bytes::Bytes::from(change.encode_to_vec());
    let signature = update::sign(&bytes, signer).expect("a signature");
    update::envelope(CHANNEL, bytes, vec![signature], signer).expect("an envelope")
}

/// Makes a change and waits until every peer works by it.
pub async fn apply(
    network: &Network,
    signer: &ClientIdentity,
    edit: impl FnOnce(&mut ConfigTree) -> Result<(), EditError>,
) {
    let before = network
        .peer(ORG1_PEER)
        .channel_config(signer, CHANNEL)
        .await
        .expect("the configuration")
        .sequence;
    let envelope = envelope(network, signer, edit).await;
    let host = network.orderers().remove(0);
    network
        .orderer(&host)
        .broadcast(envelope)
        .await
        .expect("the change is taken");
    for host in network.peers() {
        // Questions outside of any channel are for members of the peer's own organisation.
        let domain = host.split_once('.').expect("NAME.DOMAIN").1;
        let member = network.identity(&format!("User1@{domain}"));
        eventually(
            "the new configuration is in force",
            Duration::from_secs(20),
            || async {
                let config = network.peer(&host).channel_config(&member, CHANNEL).await;
                let sequence = config.map_err(|e| e.to_string())?.sequence;
                if sequence > before {
                    Ok(())
                } else {
                    Err(format!("{host} has sequence {sequence}"))
                }
            },
        )
        .await;
    }
}
