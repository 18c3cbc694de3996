//! Who may ask what (spec 08 §7).

use bytes::Bytes;
use selvedge_msp::{Principal, SignedData};
use selvedge_proto::common::msp_role::MspRoleType;
use selvedge_proto::discovery::{Request, SignedRequest};

use crate::channel::PeerChannel;
use crate::context::PeerContext;

const WRITERS: &str = "/Channel/Application/Writers";

/// Who sent a request, and the proof.
pub(super) struct Caller {
    request: Bytes,
    identity: Bytes,
    signature: Bytes,
}

impl Caller {
    pub(super) fn new(signed: &SignedRequest, request: &Request) -> Self {
        Self {
            request: signed.payload.clone(),
            identity: request
                .authentication
                .as_ref()
                .map(|a| a.client_identity.clone())
                .unwrap_or_default(),
            signature: signed.signature.clone(),
        }
    }

    /// Whether the caller is a writer of a channel. The reason why not is for the log alone.
    pub(super) fn of_channel(&self, channel: Option<&PeerChannel>) -> Result<(), String> {
        let channel = channel.ok_or("this peer has not joined the channel")?;
        let signed = SignedData {
            data: vec![self.request.clone()],
            identity: self.identity.clone(),
            signature: self.signature.clone(),
        };
        let judged = channel.bundle().evaluate_signed(WRITERS, &[signed]);
        judged.map_err(|refusal| refusal.to_string())
    }

    /// Whether the caller is an admin of the peer's own organisation, or any member of it where that is enough.
    pub(super) fn of_peer(&self, context: &dyn PeerContext, members: bool) -> Result<(), String> {
        let msps = context.local_msp();
        let identity = msps.deserialize(&self.identity).map_err(|e| e.to_string())?;
        let role = if members {
            MspRoleType::Member
        } else {
            MspRoleType::Admin
        };
        let wanted = Principal::role(context.identity().msp_id(), role);
        msps.satisfies(&identity, &wanted).map_err(|e| e.to_string())?;
        identity
            .verify(&self.request, &self.signature)
            .map_err(|e| e.to_string())
    }
}
