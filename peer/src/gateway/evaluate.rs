//! Evaluate: ask one peer, write nothing (spec 04 §2.2).

use selvedge_channel::Bundle;
use selvedge_proto::gateway::{EvaluateRequest, EvaluateResponse};
use selvedge_proto::{chaincode_action, protos};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::peers::GatewayPeer;
use super::proposal::Proposed;
use super::status::{Detail, status};
use super::{Inner, deadline};
use crate::channel::PeerChannel;
use crate::endorser::Purpose;
use crate::stranger::{self, Stranger};

impl Inner {
    pub(super) async fn evaluate(
        &self,
        request: EvaluateRequest,
        deadline: Option<Instant>,
    ) -> Result<EvaluateResponse, Status> {
        let proposed = Proposed::open(request.proposed_transaction, "an evaluate request is required")
            .map_err(|status| *status)?;
        let channel = self
            .context
            .channel(&proposed.channel)
            .ok_or_else(|| self.no_reader(&proposed))?;
        let bundle = channel.bundle();
        let evaluated = self
            .evaluate_on(&channel, &proposed, request.target_organizations, deadline)
            .await;
        // Endorsers have judged the caller of what succeeded. What failed may tell of the channel.
        match evaluated {
            Err(_) if !stranger::is_member(&bundle, &proposed.signed_data()) => {
                Err(self.no_reader(&proposed))
            }
            evaluated => evaluated,
        }
    }

    /// The answer to a caller who is no member of the channel, and to everybody when there is none.
    fn no_reader(&self, proposed: &Proposed) -> Status {
        match stranger::judge(&*self.context, &proposed.channel, &proposed.signed_data()) {
            Stranger::Known => Status::unavailable(format!("channel '{}' not found", proposed.channel)),
            Stranger::Nobody(why) => {
                let why = format!("error validating proposal: {why}");
                let message = format!("evaluate call to endorser returned error: {why}");
                status(
                    Code::FailedPrecondition,
                    message,
                    &[self.peers.local().detail(why)],
                )
            }
        }
    }

    async fn evaluate_on(
        &self,
        channel: &PeerChannel,
        proposed: &Proposed,
        targets: Vec<String>,
        deadline: Option<Instant>,
    ) -> Result<EvaluateResponse, Status> {
        let bundle = channel.bundle();
        let local = self.peers.local();
        let only_own = targets.is_empty() && proposed.has_transient;
        let may_answer = |peer: &GatewayPeer| match (targets.is_empty(), only_own) {
            (false, _) => targets.contains(&peer.msp_id),
            (true, true) => peer.msp_id == local.msp_id,
            (true, false) => true,
        };
        let mut asked = Asked::default();
        let mut unavailable = Vec::new();
        if may_answer(local) && self.peers.is_local_on(&bundle) {
            match self.lacks(channel, local, &proposed.chaincode) {
                Some(why) => unavailable.push(local.detail(why)),
                None => {
                    let answer = self.ask(&mut asked, &bundle, local, proposed, deadline).await?;
                    if let Some(answer) = answer {
                        return Ok(answer);
                    }
                }
            }
        }
        // The others are looked for only now: nearly always this peer can answer.
        let mut others = self.peers.others_of_channel(&bundle);
        others.retain(may_answer);
        // What this peer has is defined.
        if asked.nobody() && !self.is_defined(channel, &proposed.chaincode)? {
            others.clear();
            unavailable.clear();
        }
        if asked.nobody() && others.is_empty() {
            let mut message = format!(
                "no peers available to evaluate chaincode {} in channel {}",
                proposed.chaincode, proposed.channel
            );
            if only_own {
                message = format!(
                    "no endorsers found in the gateway's organization; retry specifying target organization(s) to \
                     protect transient data: {message}"
                );
            }
            return Err(status(Code::FailedPrecondition, message, &unavailable));
        }
        for peer in &others {
            let answer = self.ask(&mut asked, &bundle, peer, proposed, deadline).await?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        Err(status(
            asked.last.unwrap_or(Code::Unavailable),
            "failed to evaluate transaction, see attached details for more info",
            &asked.details,
        ))
    }

    /// Asks one peer; nothing when another one may be asked.
    async fn ask(
        &self,
        asked: &mut Asked,
        bundle: &Bundle,
        peer: &GatewayPeer,
        proposed: &Proposed,
        deadline: Option<Instant>,
    ) -> Result<Option<EvaluateResponse>, Status> {
        let outcome = self
            .peers
            .propose(Purpose::Evaluate, bundle, peer, &proposed.signed);
        let Some(outcome) = deadline::within(deadline, outcome).await else {
            return Err(status(
                Code::DeadlineExceeded,
                "evaluate timeout expired",
                &asked.details,
            ));
        };
        let failure = match outcome {
            Ok(answer) => {
                return Ok(Some(EvaluateResponse {
                    result: Some(result(answer)),
                }));
            }
            Err(failure) => failure,
        };
        asked.details.push(peer.detail(failure.message.clone()));
        asked.last = Some(failure.code);
        if failure.retry {
            return Ok(None);
        }
        let message = format!("evaluate call to endorser returned error: {}", failure.message);
        Err(status(failure.code, message, &asked.details))
    }

    /// Whether anybody can have the chaincode: it is part of every peer, or the channel has a definition of it.
    fn is_defined(&self, channel: &PeerChannel, chaincode: &str) -> Result<bool, Status> {
        if crate::scc::is_system(chaincode) {
            return Ok(true);
        }
        let failed = |why: String| Status::internal(why);
        let state = channel.ledger().snapshot().map_err(|e| failed(e.to_string()))?;
        let found = self.runtime.definition(&state, channel.id(), chaincode);
        Ok(found.map_err(|e| failed(e.to_string()))?.is_some())
    }

    /// Why this process cannot run a chaincode, as far as that is known before asking; other peers say so themselves.
    pub(super) fn lacks(&self, channel: &PeerChannel, peer: &GatewayPeer, chaincode: &str) -> Option<String> {
        if !peer.is_local || crate::scc::is_system(chaincode) {
            return None;
        }
        self.runtime
            .installed(channel, chaincode, &peer.msp_id)
            .err()
            .map(|why| why.to_string())
    }
}

/// Who has been asked in vain.
#[derive(Default)]
struct Asked {
    details: Vec<Detail>,
    last: Option<Code>,
}

impl Asked {
    fn nobody(&self) -> bool {
        self.details.is_empty()
    }
}

/// The response with the payload that the contract gave; the one beside it may be cut by the endorser.
fn result(answer: protos::ProposalResponse) -> protos::Response {
    let mut response = answer.response.unwrap_or_default();
    if let Ok(action) = chaincode_action(answer.payload)
        && let Some(full) = action.response
    {
        response.payload = full.payload;
    }
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;

    #[test]
    fn the_payload_comes_from_the_action_when_there_is_one() {
        let response = |payload: &'static [u8]| {
            Some(protos::Response {
                status: 200,
                message: "m".into(),
                payload: Bytes::from_static(payload),
            })
        };
        let action = protos::ChaincodeAction {
            response: response(b"whole"),
            ..Default::default()
        };
        let payload = protos::ProposalResponsePayload {
            proposal_hash: Bytes::new(),
            extension: action.encode_to_vec().into(),
        };
        let mut answer = protos::ProposalResponse {
            response: response(b"cut"),
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        };
        assert_eq!(result(answer.clone()).payload, "whole");
        answer.payload = Bytes::from_static(&[0xff]);
        assert_eq!(result(answer).payload, "cut");
    }
}
