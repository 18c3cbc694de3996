//! Endorse: collect enough equal endorsements, and put them into an envelope for the client to sign (spec 04 §2.3).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use selvedge_channel::Bundle;
use selvedge_proto::gateway::{EndorseRequest, EndorseResponse};
use selvedge_proto::{common, payload_differences, protos, transaction_payload};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::interest::{self, Needs};
use super::outcome::{Failure, Outcome};
use super::peers::GatewayPeer;
use super::proposal::Proposed;
use super::requirement::Signer;
use super::status::{Detail, status};
use super::{Inner, deadline, plan};
use crate::channel::PeerChannel;
use crate::endorser::Purpose;
use crate::stranger::{self, Stranger};

const FIRST_EXPIRED: &str = "endorsement timeout expired while collecting first endorsement";
const EXPIRED: &str = "endorsement timeout expired while collecting endorsements";
const NOT_ENDORSED: &str = "failed to endorse transaction, see attached details for more info";
const NOT_ENOUGH: &str =
    "failed to collect enough transaction endorsements, see attached details for more info";

/// Waits before a peer is asked again that contradicts one which has endorsed: it may be a block behind. A client that has
/// seen its last transaction committed here may count on it in the next one, whoever else endorses that.
const CATCHING_UP: [Duration; 3] = [
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
];

/// An endorsement that can be used.
struct Endorsed {
    peer: GatewayPeer,
    payload: Bytes,
    endorsement: protos::Endorsement,
}

/// One call to Endorse.
struct Collection<'a> {
    gateway: &'a Inner,
    channel: Arc<PeerChannel>,
    bundle: Arc<Bundle>,
    proposed: &'a Proposed,
    deadline: Option<Instant>,
    details: Vec<Detail>,
    /// Addresses of peers that are not asked again.
    failed: HashSet<String>,
}

impl Inner {
    pub(super) async fn endorse(
        &self,
        request: EndorseRequest,
        deadline: Option<Instant>,
    ) -> Result<EndorseResponse, Status> {
        let missing = "the proposed transaction must contain a signed proposal";
        let proposed = Proposed::open(request.proposed_transaction, missing).map_err(|status| *status)?;
        let channel = self
            .context
            .channel(&proposed.channel)
            .ok_or_else(|| self.not_for_strangers(&proposed))?;
        let mut collection = Collection {
            gateway: self,
            bundle: channel.bundle(),
            channel,
            proposed: &proposed,
            deadline,
            details: Vec::new(),
            failed: HashSet::new(),
        };
        let endorsed = if request.endorsing_organizations.is_empty() {
            collection.by_policy().await
        } else {
            collection.by_organisation(&request.endorsing_organizations).await
        };
        // Endorsers have judged the caller of what succeeded. What failed may tell of the channel.
        let endorsed = match endorsed {
            Err(_) if !stranger::is_member(&collection.bundle, &proposed.signed_data()) => {
                return Err(self.not_for_strangers(&proposed));
            }
            endorsed => endorsed?,
        };
        envelope(&proposed, endorsed).map(|envelope| EndorseResponse {
            prepared_transaction: Some(envelope),
        })
    }

    /// The answer to a caller who is no member of the channel, and to everybody when there is none.
    fn not_for_strangers(&self, proposed: &Proposed) -> Status {
        match stranger::judge(&*self.context, &proposed.channel, &proposed.signed_data()) {
            Stranger::Known => {
                Status::failed_precondition(format!("channel '{}' not found", proposed.channel))
            }
            Stranger::Nobody(why) => status(
                Code::Aborted,
                NOT_ENDORSED,
                &[self
                    .peers
                    .local()
                    .detail(format!("error validating proposal: {why}"))],
            ),
        }
    }
}

impl Collection<'_> {
    async fn ask(&self, peer: &GatewayPeer) -> Outcome {
        self.gateway
            .peers
            .propose(Purpose::Endorse, &self.bundle, peer, &self.proposed.signed)
            .await
    }

    fn expired(&self, message: &str) -> Status {
        status(Code::DeadlineExceeded, message, &self.details)
    }

    fn reject(&mut self, peer: &GatewayPeer, why: impl Into<String>) {
        self.details.push(peer.detail(why));
        self.failed.insert(peer.address.clone());
    }

    /// Takes an answer, or notes why it cannot be used.
    fn take(
        &mut self,
        peer: &GatewayPeer,
        outcome: Outcome,
    ) -> Option<(Endorsed, Option<protos::ChaincodeInterest>)> {
        match usable(peer, outcome) {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.reject(peer, failure.message);
                None
            }
        }
    }

    /// Asks peers at once and keeps the answers that equal the first one's payload. Who contradicts it is asked again for
    /// a moment.
    async fn ask_all(
        &mut self,
        mut peers: Vec<GatewayPeer>,
        endorsed: &mut Vec<Endorsed>,
    ) -> Result<(), Status> {
        let mut waits = CATCHING_UP.into_iter();
        loop {
            let asked = join_all(peers.iter().map(|peer| self.ask(peer)));
            let Some(outcomes) = deadline::within(self.deadline, asked).await else {
                return Err(self.expired(EXPIRED));
            };
            let mut contradicting = Vec::new();
            for (peer, outcome) in peers.into_iter().zip(outcomes) {
                match (usable(&peer, outcome), endorsed.first()) {
                    (Ok((answer, _)), Some(first)) if first.payload != answer.payload => {
                        let why = mismatch(first, &answer);
                        contradicting.push((peer, why));
                    }
                    (Ok((answer, _)), _) => endorsed.push(answer),
                    (Err(failure), _) if failure.is_verdict() => contradicting.push((peer, failure.message)),
                    (Err(failure), _) => self.reject(&peer, failure.message),
                }
            }
            let again = !contradicting.is_empty() && !endorsed.is_empty();
            let Some(wait) = waits.next().filter(|wait| again && self.leaves(*wait)) else {
                for (peer, why) in contradicting {
                    self.reject(&peer, why);
                }
                return Ok(());
            };
            tokio::time::sleep(wait).await;
            peers = contradicting.into_iter().map(|(peer, _)| peer).collect();
        }
    }

    /// Whether the caller's deadline leaves more time than this.
    fn leaves(&self, wait: Duration) -> bool {
        self.deadline
            .is_none_or(|end| end.saturating_duration_since(Instant::now()) > wait)
    }

    /// The caller named the organisations: one endorsement of each.
    async fn by_organisation(&mut self, wanted: &[String]) -> Result<Vec<Endorsed>, Status> {
        let peers = self.gateway.peers.of_channel(&self.bundle);
        let mut orgs: Vec<&String> = Vec::new();
        for org in wanted {
            if !orgs.contains(&org) {
                orgs.push(org);
            }
        }
        let unknown: Vec<&str> = orgs
            .iter()
            .filter(|org| peers.iter().all(|p| p.msp_id != ***org))
            .map(|org| org.as_str())
            .collect();
        if !unknown.is_empty() {
            return Err(Status::unavailable(format!(
                "failed to find any endorsing peers for org(s): {}",
                unknown.join(", ")
            )));
        }
        let mut endorsed: Vec<Endorsed> = Vec::new();
        loop {
            let missing: Vec<&String> = orgs
                .iter()
                .copied()
                .filter(|org| endorsed.iter().all(|e| e.peer.msp_id != **org))
                .collect();
            if missing.is_empty() {
                return Ok(endorsed);
            }
            let next: Option<Vec<GatewayPeer>> = missing
                .into_iter()
                .map(|org| {
                    let mut peers = peers.iter();
                    peers
                        .find(|p| p.msp_id == *org && !self.failed.contains(&p.address))
                        .cloned()
                })
                .collect();
            let Some(next) = next else {
                return Err(status(Code::Aborted, NOT_ENOUGH, &self.details));
            };
            self.ask_all(next, &mut endorsed).await?;
        }
    }

    /// The policies say how many endorsements are needed, and whose.
    async fn by_policy(&mut self) -> Result<Vec<Endorsed>, Status> {
        let peers = self.gateway.peers.of_channel(&self.bundle);
        let (first, interest) = self.first(&peers).await?;
        let interest = self.interest(interest);
        let needs = self.needs(&interest)?;
        self.check_reachable(&peers, &needs)?;
        let mut endorsed = vec![first];
        loop {
            // Those who have endorsed come first: they cost nothing more.
            let mut candidates: Vec<GatewayPeer> = endorsed.iter().map(|e| e.peer.clone()).collect();
            for peer in &peers {
                let known = candidates.contains(peer) || self.failed.contains(&peer.address);
                if !known && needs.closed_to(&self.signer(peer)).is_none() && !self.lacks(peer) {
                    candidates.push(peer.clone());
                }
            }
            let signers: Vec<Signer<'_>> = candidates.iter().map(|p| self.signer(p)).collect();
            let Some(plan) = plan::smallest(&needs.requirements, &signers) else {
                return Err(self.no_plan());
            };
            let chosen: Vec<GatewayPeer> = plan.iter().filter_map(|i| candidates.get(*i).cloned()).collect();
            let missing: Vec<GatewayPeer> = chosen
                .iter()
                .filter(|p| endorsed.iter().all(|e| e.peer != **p))
                .cloned()
                .collect();
            if missing.is_empty() {
                return Ok(in_order(endorsed, &chosen));
            }
            self.ask_all(missing, &mut endorsed).await?;
        }
    }

    fn signer(&self, peer: &GatewayPeer) -> Signer<'_> {
        let msps = self.bundle.msps();
        match msps.get(&peer.msp_id) {
            Some(msp) => Signer {
                msp_id: msp.id(),
                peer_unit: interest::peer_unit(msps, &peer.msp_id),
            },
            None => Signer {
                msp_id: "",
                peer_unit: "",
            },
        }
    }

    fn lacks(&self, peer: &GatewayPeer) -> bool {
        self.gateway
            .lacks(&self.channel, peer, &self.proposed.chaincode)
            .is_some()
    }

    /// The first endorsement, from the gateway's organisation if possible: it tells what the transaction touches.
    async fn first(
        &mut self,
        peers: &[GatewayPeer],
    ) -> Result<(Endorsed, Option<protos::ChaincodeInterest>), Status> {
        let own = &self.gateway.peers.local().msp_id;
        let mut candidates: Vec<&GatewayPeer> = Vec::new();
        let mut lacking = Vec::new();
        for peer in peers.iter().filter(|p| p.msp_id == *own) {
            match self.gateway.lacks(&self.channel, peer, &self.proposed.chaincode) {
                Some(why) => lacking.push(peer.detail(why)),
                None => candidates.push(peer),
            }
        }
        if candidates.is_empty() {
            if self.proposed.has_transient {
                return Err(status(
                    Code::FailedPrecondition,
                    "no endorsers found in the gateway's organization; retry specifying endorsing organization(s) to \
                     protect transient data",
                    &lacking,
                ));
            }
            // Whether the chaincode exists at all is known here, too.
            self.needs(&interest::default_interest(&self.proposed.chaincode))?;
            candidates = peers.iter().filter(|p| p.msp_id != *own).collect();
            if candidates.is_empty() {
                return Err(status(
                    Code::FailedPrecondition,
                    "no combination of peers can be derived which satisfy the endorsement policy: required chaincodes \
                     are not installed on sufficient peers",
                    &lacking,
                ));
            }
        }
        for peer in candidates {
            let Some(outcome) = deadline::within(self.deadline, self.ask(peer)).await else {
                return Err(self.expired(FIRST_EXPIRED));
            };
            if let Some(found) = self.take(peer, outcome) {
                return Ok(found);
            }
        }
        Err(status(Code::Aborted, NOT_ENDORSED, &self.details))
    }

    fn interest(&self, told: Option<protos::ChaincodeInterest>) -> protos::ChaincodeInterest {
        let mut interest = told
            .filter(|i| !i.chaincodes.is_empty())
            .unwrap_or_else(|| interest::default_interest(&self.proposed.chaincode));
        if self.proposed.has_transient {
            for call in &mut interest.chaincodes {
                call.no_private_reads = false;
            }
        }
        interest
    }

    fn needs(&self, interest: &protos::ChaincodeInterest) -> Result<Needs, Status> {
        let state = self.channel.ledger().snapshot();
        let state = state.map_err(|e| Status::internal(e.to_string()))?;
        let definitions = |name: &str| {
            let found = self.gateway.runtime.definition(&state, self.channel.id(), name);
            found.map_err(|e| e.to_string())
        };
        interest::needs(&self.bundle, interest, &definitions).map_err(|why| impossible(&why))
    }

    /// Tells apart a policy that no peer can meet from one that only the protection of private data puts out of reach.
    fn check_reachable(&self, peers: &[GatewayPeer], needs: &Needs) -> Result<(), Status> {
        let all: Vec<Signer<'_>> = peers.iter().map(|p| self.signer(p)).collect();
        let open: Vec<Signer<'_>> = all
            .iter()
            .filter(|s| needs.closed_to(s).is_none())
            .cloned()
            .collect();
        if plan::smallest(&needs.requirements, &open).is_some() {
            return Ok(());
        }
        if self.proposed.has_transient && plan::smallest(&needs.requirements, &all).is_some() {
            let collections: Vec<&str> = needs.members_of.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Status::failed_precondition(format!(
                "requires endorsement from organisation(s) that are not in the distribution policy of the private data \
                 collection(s): [{}]; retry specifying trusted endorsing organizations to protect transient data",
                collections.join(" ")
            )));
        }
        Err(impossible(
            "no peer combination can satisfy the endorsement policy",
        ))
    }

    fn no_plan(&self) -> Status {
        if self.details.is_empty() {
            return impossible("required chaincodes are not installed on sufficient peers");
        }
        status(Code::Aborted, NOT_ENOUGH, &self.details)
    }
}

/// An answer that is endorsed, with what it tells of the transaction.
fn usable(
    peer: &GatewayPeer,
    outcome: Outcome,
) -> Result<(Endorsed, Option<protos::ChaincodeInterest>), Failure> {
    let answer = outcome?;
    let Some(endorsement) = answer.endorsement else {
        return Err(Failure::of_answer("the answer is not endorsed"));
    };
    let endorsed = Endorsed {
        peer: peer.clone(),
        payload: answer.payload,
        endorsement,
    };
    Ok((endorsed, answer.interest))
}

fn impossible(why: &str) -> Status {
    Status::failed_precondition(format!(
        "no combination of peers can be derived which satisfy the endorsement policy: {why}"
    ))
}

fn mismatch(first: &Endorsed, other: &Endorsed) -> String {
    let differences: Vec<String> = payload_differences(&first.payload, &other.payload)
        .iter()
        .map(ToString::to_string)
        .collect();
    format!(
        "ProposalResponsePayloads do not match: {} against {}: {}",
        first.peer.address,
        other.peer.address,
        differences.join("; ")
    )
}

/// The endorsements of the plan, in its order. Others that came on the way are not needed.
fn in_order(mut endorsed: Vec<Endorsed>, chosen: &[GatewayPeer]) -> Vec<Endorsed> {
    let place = |e: &Endorsed| chosen.iter().position(|p| *p == e.peer);
    endorsed.retain(|e| place(e).is_some());
    endorsed.sort_by_key(place);
    endorsed
}

fn envelope(proposed: &Proposed, endorsed: Vec<Endorsed>) -> Result<common::Envelope, Status> {
    let payload = endorsed.first().map(|e| e.payload.clone()).unwrap_or_default();
    let mut endorsements: Vec<protos::Endorsement> = Vec::with_capacity(endorsed.len());
    for one in endorsed {
        if endorsements
            .iter()
            .all(|e| e.endorser != one.endorsement.endorser)
        {
            endorsements.push(one.endorsement);
        }
    }
    let payload = transaction_payload(&proposed.proposal, payload, endorsements)
        .map_err(|e| Status::aborted(format!("failed to assemble transaction: {e}")))?;
    Ok(common::Envelope {
        payload,
        signature: Bytes::new(),
    })
}
