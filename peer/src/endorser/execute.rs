//! Running what a proposal asks for, and building the answer (spec 08 §1.5-7).

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use selvedge_channel::Bundle;
use selvedge_msp::Identity;
use selvedge_proto::{protos, rwset};

use super::unpack::Unpacked;
use super::{Endorser, Purpose};
use crate::chaincode::simulator::SharedSimulator;
use crate::chaincode::state::ChannelState;
use crate::chaincode::{Invocation, Simulator, TxContext};
use crate::channel::PeerChannel;
use crate::scc;

type OnChannel = (Arc<PeerChannel>, Arc<Bundle>);

/// The answer when the chaincode could not be executed.
pub(super) fn could_not(message: String) -> protos::ProposalResponse {
    answer(protos::Response {
        status: 500,
        message,
        payload: Bytes::new(),
    })
}

fn answer(response: protos::Response) -> protos::ProposalResponse {
    protos::ProposalResponse {
        response: Some(response),
        ..Default::default()
    }
}

/// What ran, and what came out.
struct Ran {
    response: protos::Response,
    event: Option<protos::ChaincodeEvent>,
    version: String,
}

impl Endorser {
    pub(super) fn execute(
        &self,
        purpose: Purpose,
        proposal: &Unpacked,
        creator: Arc<Identity>,
        on: Option<OnChannel>,
    ) -> protos::ProposalResponse {
        let tx = Arc::new(context_of(proposal, creator));
        let simulator = match &on {
            Some((channel, _)) if !scc::runs_without_simulator(&proposal.chaincode) => {
                match ChannelState::latest(channel) {
                    Ok(state) => Some(Arc::new(Mutex::new(Simulator::new(Box::new(state))))),
                    Err(e) => return could_not(format!("error in simulation: cannot read the ledger: {e}")),
                }
            }
            _ => None,
        };
        let ran = if scc::is_system(&proposal.chaincode) {
            self.run_system(proposal, &tx, on.as_ref(), simulator.as_ref())
        } else {
            self.run_application(proposal, &tx, on.as_ref(), simulator.as_ref())
        };
        let ran = match ran {
            Ok(ran) => ran,
            Err(why) => return could_not(why),
        };
        if (400..500).contains(&ran.response.status) {
            return answer(ran.response);
        }
        match &on {
            // Without a channel there is nothing to endorse.
            None => answer(ran.response),
            Some((channel, _)) => self
                .respond(purpose, proposal, &tx, ran, simulator.as_ref(), channel)
                .unwrap_or_else(|why| could_not(format!("error in simulation: {why}"))),
        }
    }

    fn run_system(
        &self,
        proposal: &Unpacked,
        tx: &Arc<TxContext>,
        on: Option<&OnChannel>,
        simulator: Option<&SharedSimulator>,
    ) -> Result<Ran, String> {
        let call = scc::Call {
            context: &*self.inner.context,
            runtime: &self.inner.runtime,
            tx,
            channel: on.map(|(channel, bundle)| (channel, &**bundle)),
            args: &proposal.args,
            simulator,
        };
        let response = scc::invoke(&proposal.chaincode, &call);
        Ok(Ran {
            response,
            event: None,
            version: scc::VERSION.to_owned(),
        })
    }

    fn run_application(
        &self,
        proposal: &Unpacked,
        tx: &Arc<TxContext>,
        on: Option<&OnChannel>,
        simulator: Option<&SharedSimulator>,
    ) -> Result<Ran, String> {
        let name = &proposal.chaincode;
        let (Some((channel, bundle)), Some(simulator)) = (on, simulator) else {
            return Err(format!(
                "error in simulation: chaincode {name} needs a channel; the proposal names none"
            ));
        };
        let identity = self.inner.context.identity();
        let msp_id = identity.msp_id();
        let resolved =
            self.inner.runtime.resolve(&mut simulator.lock(), channel.id(), name, msp_id).map_err(|reason| {
                format!(
                    "make sure the chaincode {name} has been successfully defined on channel {} and try again: {reason}",
                    channel.id()
                )
            })?;
        let invocation = Invocation {
            context: self.inner.context.clone(),
            runtime: self.inner.runtime.clone(),
            tx: tx.clone(),
            channel: channel.clone(),
            bundle: bundle.clone(),
        };
        let executed = invocation
            .execute(&resolved, proposal.args.clone(), proposal.is_init, simulator)
            .map_err(|e| {
                format!(
                    "error in simulation: failed to execute transaction {}: {e}",
                    tx.tx_id
                )
            })?;
        Ok(Ran {
            response: executed.response,
            event: executed.event,
            version: resolved.definition.version.clone(),
        })
    }

    /// Builds the answer of a chaincode that ran to its end on a channel, and endorses it unless it failed or only its
    /// response is wanted.
    fn respond(
        &self,
        purpose: Purpose,
        proposal: &Unpacked,
        tx: &TxContext,
        ran: Ran,
        simulator: Option<&SharedSimulator>,
        channel: &PeerChannel,
    ) -> Result<protos::ProposalResponse, String> {
        let failed = ran.response.status >= 400;
        let wants_response_only = purpose == Purpose::Evaluate && !failed;
        let (results, interest) = match simulator {
            None if wants_response_only => return Ok(answer(ran.response)),
            None => (Bytes::new(), None),
            Some(simulator) => {
                let simulator = simulator.lock();
                let (public, private) = if wants_response_only {
                    (None, simulator.private())
                } else {
                    let results = simulator.results();
                    (Some(results.public), results.private)
                };
                if let Some(private) = private.filter(|_| !failed) {
                    self.keep_private(channel, tx, private)?;
                }
                let Some(public) = public else {
                    return Ok(answer(ran.response));
                };
                let interest = simulator.interest(scc::is_system).map_err(|e| e.to_string())?;
                (public.encode_to_vec().into(), Some(interest))
            }
        };
        let action = protos::ChaincodeAction {
            results,
            events: ran.event.map(|e| e.encode_to_vec().into()).unwrap_or_default(),
            response: Some(ran.response.clone()),
            chaincode_id: Some(protos::ChaincodeId {
                name: proposal.chaincode.clone(),
                version: ran.version,
                path: String::new(),
            }),
        };
        let payload = protos::ProposalResponsePayload {
            proposal_hash: proposal.hash(),
            extension: action.encode_to_vec().into(),
        };
        let payload = Bytes::from(payload.encode_to_vec());
        if failed {
            return Ok(protos::ProposalResponse {
                response: Some(ran.response),
                payload,
                interest,
                ..Default::default()
            });
        }
        let identity = self.inner.context.identity();
        let endorser = identity.creator().clone();
        let signed = [payload.as_ref(), endorser.as_ref()].concat();
        let signature = identity
            .sign(&signed)
            .map_err(|e| format!("this peer cannot sign: {e}"))?;
        channel.remember_endorsement(&payload, &endorser, &signature);
        Ok(protos::ProposalResponse {
            version: 1,
            response: Some(ran.response),
            payload,
            endorsement: Some(protos::Endorsement { endorser, signature }),
            interest,
            ..Default::default()
        })
    }

    /// Keeps private data until the transaction commits. This peer hands it to no other, so a collection that requires
    /// copies on other peers cannot be written here.
    fn keep_private(
        &self,
        channel: &PeerChannel,
        tx: &TxContext,
        private: rwset::TxPvtReadWriteSet,
    ) -> Result<(), String> {
        for ns in &private.ns_pvt_rwset {
            let definition = self.inner.runtime.known(channel.id(), &ns.namespace);
            for collection in &ns.collection_pvt_rwset {
                let name = &collection.collection_name;
                let config = definition.as_ref().and_then(|d| d.collection(name));
                let required = config.map_or(0, |config| config.required_peer_count);
                if required > 0 {
                    return Err(format!(
                        "failed to distribute private collection, txID {}, channel {}: collection {name} requires \
                         {required} other peers to have a copy before endorsement, and this peer cannot send private data \
                         to others; set its requiredPeerCount to 0",
                        tx.tx_id,
                        channel.id()
                    ));
                }
            }
        }
        channel
            .keep_private(&tx.tx_id, &private)
            .map_err(|e| e.to_string())
    }
}

fn context_of(proposal: &Unpacked, creator: Arc<Identity>) -> TxContext {
    let timestamp = proposal.channel_header.timestamp.unwrap_or_default();
    TxContext {
        channel_id: proposal.channel_header.channel_id.clone(),
        tx_id: proposal.channel_header.tx_id.clone(),
        timestamp: (timestamp.seconds, timestamp.nanos),
        creator: proposal.signature_header.creator.clone(),
        identity: creator,
        transient: proposal.transient.clone(),
        proposal_bytes: proposal.proposal_bytes.clone(),
        signature: proposal.signature.clone(),
    }
}
