//! Contract events for web hooks and readers, each under the identity of whom they are for.

use std::sync::Arc;

use async_trait::async_trait;
use selvedge_callbacks::{EventSource, EventStream, GatewaySource, SourceError};
use selvedge_sdk::{Checkpoint, Endpoint};

use super::shown;
use crate::auth::{Users, View};

/// Events as the peers give them to the owner of a subscription, so that the channel's rules hold for each.
///
/// What an owner may see is decided whenever a stream is opened: a subscription outlives the request that made it, and
/// its owner may meanwhile have been taken out of the configuration or been given a narrower view.
#[derive(Debug)]
pub(crate) struct OwnersEvents {
    peers: GatewaySource,
    users: Arc<Users>,
    /// Channels that this server offers; all if empty.
    offered: Vec<String>,
}

impl OwnersEvents {
    /// Reads from the organisation's peers.
    pub(crate) fn new(peers: Vec<Endpoint>, users: Arc<Users>, offered: Vec<String>) -> Self {
        let owners = Arc::clone(&users);
        Self {
            peers: GatewaySource::new(peers, move |owner| {
                owners.get(owner).map(|user| user.identity.clone())
            }),
            users,
            offered,
        }
    }

    fn check(&self, owner: &str, channel: &str) -> Result<(), SourceError> {
        let refused = |why: String| Err(SourceError { why, refused: true });
        match self.users.get(owner) {
            None => refused(format!("{owner} is no user of this server")),
            Some(user) if user.view < View::InHouse => refused(format!(
                "{owner} has the public view, and contract events belong to the in-house view"
            )),
            Some(_) if !self.offered.is_empty() && !self.offered.iter().any(|name| name == channel) => {
                refused(format!("there is no channel {} here", shown(channel)))
            }
            Some(_) => Ok(()),
        }
    }
}

#[async_trait]
impl EventSource for OwnersEvents {
    async fn height(&self, owner: &str, channel: &str) -> Result<u64, SourceError> {
        self.check(owner, channel)?;
        self.peers.height(owner, channel).await
    }

    async fn open(
        &self,
        owner: &str,
        channel: &str,
        chaincode: &str,
        after: &Checkpoint,
    ) -> Result<Box<dyn EventStream>, SourceError> {
        self.check(owner, channel)?;
        self.peers.open(owner, channel, chaincode, after).await
    }
}
