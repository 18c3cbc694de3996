//! A peer's entry as gossip would have carried it: an AliveMessage with its address, a StateInfo with its height and
//! chaincodes, each in a signed envelope.
//!
//! Clients read the messages and do not check the signatures. This peer signs its own; those of other peers it cannot
//! sign, and leaves the signature empty rather than putting its own name to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_proto::discovery::Peer as PeerEntry;
use selvedge_proto::gossip::gossip_message::{Content, Tag};
use selvedge_proto::gossip::{
    AliveMessage, Chaincode, Envelope, GossipMessage, Member as GossipMember, PeerTime, Properties, StateInfo,
};
use selvedge_proto::msp::SerializedIdentity;
use sha2::{Digest, Sha256};

use super::members::Member;

/// Makes entries with increasing times.
pub(super) struct Envelopes {
    /// When this process started, in nanoseconds since 1970.
    incarnation: u64,
    sequence: AtomicU64,
}

impl Envelopes {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            incarnation: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            sequence: AtomicU64::new(1),
        }
    }

    fn now(&self) -> PeerTime {
        PeerTime {
            inc_num: self.incarnation,
            seq_num: self.sequence.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The entry of a peer without regard to a channel. `own`: the identity of this peer, if it is the entry of this peer.
    pub(super) fn without_channel(&self, member: &Member, own: Option<&SigningIdentity>) -> PeerEntry {
        let alive = AliveMessage {
            membership: Some(GossipMember {
                endpoint: member.address.clone(),
                metadata: Bytes::new(),
                pki_id: pki_id(&member.identity),
            }),
            timestamp: Some(self.now()),
            identity: Bytes::new(),
        };
        PeerEntry {
            state_info: None,
            membership_info: Some(envelope(Tag::Empty, Content::AliveMsg(alive), own)),
            identity: member.identity.clone(),
        }
    }

    /// The entry of a peer of a channel.
    pub(super) fn on_channel(
        &self,
        channel: &str,
        member: &Member,
        chaincodes: Vec<Chaincode>,
        own: Option<&SigningIdentity>,
    ) -> PeerEntry {
        let pki_id = pki_id(&member.identity);
        let state = StateInfo {
            timestamp: Some(self.now()),
            channel_mac: Sha256::digest([pki_id.as_ref(), channel.as_bytes()].concat())
                .to_vec()
                .into(),
            pki_id,
            properties: Some(Properties {
                ledger_height: member.height,
                left_channel: false,
                chaincodes,
            }),
        };
        PeerEntry {
            state_info: Some(envelope(Tag::ChanOrOrg, Content::StateInfo(state), own)),
            ..self.without_channel(member, own)
        }
    }
}

/// The name of a peer in gossip (spec 02 §15).
fn pki_id(identity: &Bytes) -> Bytes {
    let identity = SerializedIdentity::decode(identity.clone()).unwrap_or_default();
    let digest = Sha256::digest([identity.mspid.as_bytes(), &identity.id_bytes].concat());
    digest.to_vec().into()
}

fn envelope(tag: Tag, content: Content, own: Option<&SigningIdentity>) -> Envelope {
    let message = GossipMessage {
        tag: tag as i32,
        content: Some(content),
        ..Default::default()
    };
    let payload = Bytes::from(message.encode_to_vec());
    let signature = own
        .and_then(|identity| {
            let signed = identity.sign(&payload);
            signed
                .inspect_err(|e| tracing::error!(error = %e, "this peer cannot sign its own entry"))
                .ok()
        })
        .unwrap_or_default();
    Envelope {
        payload,
        signature,
        secret_envelope: None,
    }
}
