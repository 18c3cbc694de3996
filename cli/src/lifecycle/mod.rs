//! Agreeing on chaincodes: install, approve, readiness, commit, and all of it at once.

mod collections;
mod definition;
mod deploy;
mod readiness;
mod steps;

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_msp::MspManager;
use selvedge_sdk::lifecycle::{self, CommittedDefinition};
use selvedge_sdk::{ChannelInfo, Deadlines, DirectClient, DirectConfig, PeerAddress, PeerClient};

use crate::channel::source::Current;
use crate::error::{CliError, During};
use crate::network::chain_height;
use crate::session::{PeerRef, Session};

pub(crate) use definition::Wanted;
pub(crate) use deploy::{deploy, deploy_if_missing};
pub(crate) use steps::{approve, commit, install, list, package, readiness};

const SETTLE_TIME: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// A channel with the network's peers of its organisations.
struct Members<'a> {
    session: &'a Session,
    channel: &'a str,
    current: Current,
    peers: Vec<PeerRef<'a>>,
    msps: Arc<MspManager>,
}

impl<'a> Members<'a> {
    /// Reads who is on the channel, as `identity` or as any administrator who may.
    async fn of(session: &'a Session, channel: &'a str, identity: Option<&str>) -> Result<Self, CliError> {
        let (_, current) = Current::fetch_by_any(session, identity, channel).await?;
        let info = ChannelInfo::from_config(channel, current.bundle.config())
            .during(|| format!("channel {channel}"))?;
        let peers = current.peers(session);
        Ok(Self {
            session,
            channel,
            peers,
            current,
            msps: info.msps,
        })
    }

    /// The first peer of an organisation.
    fn peer_of(&self, msp_id: &str) -> Option<PeerRef<'a>> {
        self.peers.iter().copied().find(|p| p.org.msp_id == msp_id)
    }

    /// The first peer of the organisation that an administrator belongs to.
    fn own_peer(&self, identity: &str) -> Result<PeerRef<'a>, CliError> {
        let domain = identity.split_once('@').map_or("", |(_, domain)| domain);
        self.peers.iter().copied().find(|p| p.org.domain == domain).ok_or_else(|| {
            CliError::said(format!(
                "{identity} has no peer on channel {}: its organisation is no member (members are {}), or has no peer",
                self.channel,
                self.current.member_msps().join(", ")
            ))
        })
    }

    /// The committed definition of a chaincode, as `peer` knows it.
    async fn committed(
        &self,
        peer: PeerRef<'_>,
        name: &str,
    ) -> Result<Option<CommittedDefinition>, CliError> {
        let admin = self.session.identity(&peer.administrator())?;
        lifecycle::query_committed(&peer_client(self.session, peer)?, &admin, self.channel, name)
            .await
            .during(|| {
                format!(
                    "peer {} does not tell what is deployed on {}",
                    peer.host(),
                    self.channel
                )
            })
    }

    /// Waits until the network's peers have a block, so that the next step finds what this one did on whichever peer it
    /// asks. A peer that is down is not waited for long.
    async fn settled(&self, block: u64) {
        let deadline = Instant::now() + SETTLE_TIME;
        for peer in &self.peers {
            while Instant::now() < deadline {
                let height = chain_height(self.session, *peer, self.channel).await;
                if height.is_ok_and(|height| height > block) {
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// A client that endorses with `peers` and orders through every orderer.
    fn direct(&self, identity: &str, peers: &[PeerRef<'_>]) -> Result<DirectClient, CliError> {
        let endorsers = peers
            .iter()
            .map(|peer| {
                Ok(PeerAddress {
                    msp_id: peer.org.msp_id.clone(),
                    endpoint: self.session.peer_endpoint(*peer)?,
                })
            })
            .collect::<Result<Vec<_>, CliError>>()?;
        let orderers = self
            .session
            .orderers()
            .map(|o| self.session.orderer_endpoint(o))
            .collect::<Result<Vec<_>, _>>()?;
        DirectClient::new(DirectConfig {
            identity: self.session.identity(identity)?,
            endorsers,
            orderers,
            events: Vec::new(),
            msps: Arc::clone(&self.msps),
            policy: None,
            deadlines: Deadlines::default(),
        })
        .during(|| "cannot set up a client".to_owned())
    }
}

fn peer_client(session: &Session, peer: PeerRef<'_>) -> Result<PeerClient, CliError> {
    PeerClient::new(&peer.org.msp_id, &session.peer_endpoint(peer)?)
        .during(|| format!("peer {}", peer.host()))
}
