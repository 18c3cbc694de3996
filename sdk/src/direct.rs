//! Transactions without a gateway: the client collects and checks the endorsements itself.
//!
//! ```text
//! proposal ─► every endorser, at once ─► all answers the same? each signature good? policy met? ─► envelope, signed
//!          ─► any orderer             ─► DeliverFiltered of a peer shows the commit
//! ```
//!
//! Nobody needs to be trusted but the organisations' certificates: a peer that answers otherwise than the others is
//! found out here, with the keys that differ, before anything is ordered.

mod answers;
mod offer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use selvedge_comm::Endpoint;
use selvedge_msp::{MspManager, SignaturePolicy, Signers, SigningIdentity};
use selvedge_proto::{common, protos, transaction_payload};

use crate::commits::{CommitListener, CommitStream, Feeds};
use crate::endorsement::fewest;
use crate::error::{Call, Error, Retry, RpcError};
use crate::gateway::Deadlines;
use crate::orderer::OrdererClient;
use crate::peer::PeerClient;
use crate::proposal::{Invocation, Nonce, Proposal};
use crate::transaction::{Committed, Stages, Transaction};
use answers::{Answer, accept, agreed_payload, all_of, refused_by_one};

/// A peer to send proposals to.
#[derive(Debug, Clone)]
pub struct PeerAddress {
    /// Its organisation.
    pub msp_id: String,
    /// Where it listens.
    pub endpoint: Endpoint,
}

/// What a [`DirectClient`] works with.
#[derive(Debug, Clone)]
pub struct DirectConfig {
    /// Who signs.
    pub identity: SigningIdentity,
    /// Peers to choose from. Without a policy, every proposal goes to all of them; with one, to the fewest that satisfy it,
    /// and to others when one of those fails. A proposal that names organisations goes to all of theirs.
    pub endorsers: Vec<PeerAddress>,
    /// Orderers; any one of them suffices.
    pub orderers: Vec<Endpoint>,
    /// Peers whose blocks show the commit; the endorsers when empty.
    pub events: Vec<PeerAddress>,
    /// The channel's organisations (see [`crate::ChannelInfo`]).
    pub msps: Arc<MspManager>,
    /// The endorsement policy to be met before a transaction is submitted; without one, every endorser must endorse.
    pub policy: Option<common::SignaturePolicyEnvelope>,
    /// Limits of the stages.
    pub deadlines: Deadlines,
}

/// A client that endorses directly. Clones share the connections.
#[derive(Debug, Clone)]
pub struct DirectClient {
    inner: Arc<Inner>,
    policy: Option<Arc<Policy>>,
}

#[derive(Debug)]
struct Policy {
    envelope: common::SignaturePolicyEnvelope,
    compiled: SignaturePolicy,
}

impl Policy {
    fn new(envelope: common::SignaturePolicyEnvelope) -> Result<Arc<Self>, Error> {
        let compiled = SignaturePolicy::compile(&envelope)
            .map_err(|e| Error::Request(format!("the endorsement policy is not usable: {e}")))?;
        Ok(Arc::new(Self { envelope, compiled }))
    }
}

/// How long a peer that failed, or may be behind, is asked only when there is no other.
const AVOIDED: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Inner {
    identity: SigningIdentity,
    endorsers: Vec<PeerClient>,
    orderers: Vec<OrdererClient>,
    events: Vec<PeerClient>,
    msps: Arc<MspManager>,
    deadlines: Deadlines,
    feeds: Feeds,
    /// Addresses of peers that failed or may be behind, with the time until which they are avoided.
    avoided: Mutex<HashMap<String, Instant>>,
}

impl DirectClient {
    /// Prepares the connections; each is made on first use.
    ///
    /// # Errors
    /// No endorser is given, an address or TLS setting is not usable, or the policy makes no sense.
    pub fn new(config: DirectConfig) -> Result<Self, Error> {
        if config.endorsers.is_empty() {
            return Err(Error::Request(
                "a direct client needs at least one endorser".into(),
            ));
        }
        let connect = |peers: &[PeerAddress]| {
            peers
                .iter()
                .map(|p| PeerClient::new(&p.msp_id, &p.endpoint))
                .collect::<Result<Vec<_>, _>>()
        };
        let endorsers = connect(&config.endorsers)?;
        let events = if config.events.is_empty() {
            endorsers.clone()
        } else {
            connect(&config.events)?
        };
        Ok(Self {
            policy: config.policy.map(Policy::new).transpose()?,
            inner: Arc::new(Inner {
                identity: config.identity,
                endorsers,
                orderers: config
                    .orderers
                    .iter()
                    .map(OrdererClient::new)
                    .collect::<Result<_, _>>()?,
                events,
                msps: config.msps,
                deadlines: config.deadlines,
                feeds: Feeds::default(),
                avoided: Mutex::default(),
            }),
        })
    }

    /// The same connections with another endorsement policy; none if every endorser must endorse.
    ///
    /// # Errors
    /// The policy makes no sense.
    pub fn with_policy(&self, policy: Option<common::SignaturePolicyEnvelope>) -> Result<Self, Error> {
        Ok(Self {
            inner: Arc::clone(&self.inner),
            policy: policy.map(Policy::new).transpose()?,
        })
    }

    /// The identity that signs.
    pub fn identity(&self) -> &SigningIdentity {
        &self.inner.identity
    }

    /// The endorsers.
    pub fn endorsers(&self) -> &[PeerClient] {
        &self.inner.endorsers
    }

    /// A signed proposal with a new nonce.
    ///
    /// # Errors
    /// No randomness, or the key cannot sign.
    pub fn propose(&self, invocation: &Invocation) -> Result<Proposal, Error> {
        self.propose_with(invocation, &Nonce::random()?)
    }

    /// A signed proposal with a stored nonce and a fresh time stamp.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn propose_with(&self, invocation: &Invocation, nonce: &Nonce) -> Result<Proposal, Error> {
        Proposal::signed_by(&self.inner.identity, invocation, nonce, SystemTime::now())
    }

    /// Asks the contract on the first endorser that answers, without writing anything.
    ///
    /// # Errors
    /// The contract refuses, or no endorser answers.
    pub async fn evaluate(&self, invocation: &Invocation) -> Result<Bytes, Error> {
        let mut last = None;
        for peer in &self.inner.endorsers {
            let limit = self.inner.deadlines.evaluate;
            let asked = within(
                limit,
                Call::Evaluate,
                "",
                peer.call(&self.inner.identity, invocation),
            )
            .await;
            match asked {
                Ok(response) => return Ok(response.payload),
                Err(refused @ Error::Refused { .. }) => return Err(refused),
                Err(away) => last = Some(away),
            }
        }
        Err(last.unwrap_or_else(|| Error::Request("there is no endorser to ask".into())))
    }

    /// Collects and checks endorsements (module text). The transaction comes back signed.
    ///
    /// # Errors
    /// An endorser refuses or differs, a signature is wrong, or the policy is not met.
    pub async fn endorse(&self, proposal: &Proposal) -> Result<Transaction, Error> {
        self.endorse_by(proposal)
            .await
            .map(|(transaction, _)| transaction)
    }

    /// [`Self::endorse`] that says who endorsed, for [`Self::avoid`].
    ///
    /// # Errors
    /// As [`Self::endorse`].
    pub async fn endorse_by(&self, proposal: &Proposal) -> Result<(Transaction, Vec<String>), Error> {
        let answers = self.collect(proposal).await?;
        self.put_together(proposal, answers)
    }

    fn put_together(
        &self,
        proposal: &Proposal,
        answers: Vec<Answer>,
    ) -> Result<(Transaction, Vec<String>), Error> {
        let endorsers: Vec<String> = answers.iter().map(|answer| answer.from.clone()).collect();
        let transaction = self.assemble(proposal, answers);
        if let Err(Error::Mismatch(_)) = &transaction {
            // One of them does not see the state that the others see.
            self.avoid(&endorsers);
        }
        Ok((transaction?, endorsers))
    }

    /// The peers at these addresses are asked only where there are no others, for a while: what they endorsed turned out to
    /// be out of date (an MVCC conflict), and one of them may be behind.
    pub fn avoid(&self, addresses: &[String]) {
        let until = Instant::now() + AVOIDED;
        let mut avoided = self.inner.avoided.lock();
        avoided.extend(addresses.iter().map(|address| (address.clone(), until)));
    }

    async fn collect(&self, proposal: &Proposal) -> Result<Vec<Answer>, Error> {
        let wanted = proposal.endorsing_orgs();
        let asked: Vec<&PeerClient> = self
            .inner
            .endorsers
            .iter()
            .filter(|p| wanted.is_empty() || wanted.iter().any(|org| org == p.msp_id()))
            .collect();
        if let Some(org) = wanted
            .iter()
            .find(|org| asked.iter().all(|p| p.msp_id() != org.as_str()))
        {
            return Err(Error::Request(format!(
                "no endorser of organisation {org} is configured; add one or ask others"
            )));
        }
        let Some(policy) = self.policy.as_ref().filter(|_| wanted.is_empty()) else {
            let results = self.ask(proposal, &asked).await;
            return all_of(results);
        };
        self.collect_enough(proposal, policy).await
    }

    /// Asks peers at once, and notes which of them fail.
    async fn ask(&self, proposal: &Proposal, peers: &[&PeerClient]) -> Vec<Result<Answer, Error>> {
        let limit = self.inner.deadlines.endorse;
        let calls = peers.iter().map(|peer| async move {
            let id = proposal.transaction_id();
            let asked = within(limit, Call::Endorse, id, peer.process_proposal(proposal)).await;
            let answer = asked.and_then(|answer| accept(peer.address(), answer));
            let away = matches!(
                answer,
                Err(Error::Rpc(_) | Error::Comm(_) | Error::Endorsement { .. })
            );
            let mut avoided = self.inner.avoided.lock();
            if away {
                avoided.insert(peer.address().to_owned(), Instant::now() + AVOIDED);
            } else {
                avoided.remove(peer.address());
            }
            answer
        });
        join_all(calls).await
    }

    /// Asks the fewest peers that satisfy the policy, and in the place of each that fails another one.
    async fn collect_enough(&self, proposal: &Proposal, policy: &Policy) -> Result<Vec<Answer>, Error> {
        let now = Instant::now();
        let mut left: Vec<&PeerClient> = self.inner.endorsers.iter().collect();
        {
            let avoided = self.inner.avoided.lock();
            left.sort_by_key(|peer| avoided.get(peer.address()).is_some_and(|until| *until > now));
        }
        let mut answers: Vec<Answer> = Vec::new();
        let mut given: Vec<String> = Vec::new();
        let mut failure = None;
        loop {
            let have: Vec<&str> = given.iter().map(String::as_str).collect();
            let candidates: Vec<&str> = left.iter().map(|peer| peer.msp_id()).collect();
            let chosen = fewest(&policy.envelope, &have, &candidates);
            let chosen = match chosen {
                Some(chosen) if chosen.is_empty() && !answers.is_empty() => return Ok(answers),
                Some(chosen) if !chosen.is_empty() => chosen,
                // Who is there may satisfy it in a way that organisations do not show: all are asked, and the policy
                // itself decides.
                _ if !left.is_empty() => (0..left.len()).collect(),
                _ => break,
            };
            let peers: Vec<&PeerClient> = chosen.iter().filter_map(|i| left.get(*i).copied()).collect();
            left.retain(|peer| !peers.iter().any(|asked| asked.address() == peer.address()));
            let results = self.ask(proposal, &peers).await;
            let mut refusals = Vec::new();
            for (peer, result) in peers.iter().zip(results) {
                match result {
                    Err(known) if known.retry() == Retry::LookUp => return Err(known),
                    Ok(answer) => {
                        given.push(peer.msp_id().to_owned());
                        answers.push(answer);
                    }
                    Err(refused @ Error::Refused { .. }) => {
                        refusals.push((peer.address().to_owned(), refused))
                    }
                    Err(away) => failure = Some(away),
                }
            }
            let together = refusals.len() > 1;
            if let Some((by, refused)) = refusals.pop() {
                let mut differ: Vec<String> = answers.iter().map(|answer| answer.from.clone()).collect();
                let other = match differ.first() {
                    Some(other) => Some(other.clone()),
                    None if together => None,
                    // One that is behind may refuse what the others accept. The next attempt begins with who accepts.
                    None => self.accepts_elsewhere(proposal, &left).await?,
                };
                if other.is_some() {
                    differ.push(by);
                    differ.extend(refusals.into_iter().map(|(by, _)| by));
                    self.avoid(&differ);
                }
                return Err(refused_by_one(refused, other.as_deref()));
            }
        }
        let have: Vec<&str> = given.iter().map(String::as_str).collect();
        match failure {
            Some(failure) if answers.is_empty() => Err(failure),
            Some(failure) if fewest(&policy.envelope, &have, &[]).is_none() => Err(Error::PolicyNotMet(
                format!("an endorser that it needs does not endorse: {failure}"),
            )),
            _ => Ok(answers),
        }
    }

    /// The first of these peers that accepts the proposal; none if the first that runs it refuses it as well, or none does.
    ///
    /// # Errors
    /// One of their ledgers has the transaction.
    async fn accepts_elsewhere(
        &self,
        proposal: &Proposal,
        peers: &[&PeerClient],
    ) -> Result<Option<String>, Error> {
        for peer in peers {
            for result in self.ask(proposal, &[peer]).await {
                match result {
                    Ok(answer) => return Ok(Some(answer.from)),
                    Err(known) if known.retry() == Retry::LookUp => return Err(known),
                    Err(Error::Refused { .. }) => return Ok(None),
                    Err(_) => {}
                }
            }
        }
        Ok(None)
    }

    fn assemble(&self, proposal: &Proposal, answers: Vec<Answer>) -> Result<Transaction, Error> {
        let payload = agreed_payload(&answers)?;
        self.check(&payload, &answers)?;
        let mut endorsements: Vec<protos::Endorsement> = Vec::with_capacity(answers.len());
        for answer in answers {
            // The same endorser twice counts once, and would only make the transaction longer.
            if endorsements
                .iter()
                .all(|e| e.endorser != answer.endorsement.endorser)
            {
                endorsements.push(answer.endorsement);
            }
        }
        let envelope = common::Envelope {
            payload: transaction_payload(&proposal.decoded()?, payload, endorsements)?,
            signature: Bytes::new(),
        };
        let mut transaction = Transaction::from_envelope(envelope)?;
        if transaction.creator() == self.inner.identity.creator() {
            transaction.sign(&self.inner.identity)?;
        }
        Ok(transaction)
    }

    /// Every endorsement must be signed by a valid identity of the channel, and together they must meet the policy.
    fn check(&self, payload: &Bytes, answers: &[Answer]) -> Result<(), Error> {
        let msps = &self.inner.msps;
        let mut endorsers = Vec::with_capacity(answers.len());
        for answer in answers {
            let not_usable = |why: String| Error::Endorsement {
                endorser: answer.from.clone(),
                why,
            };
            let endorser = &answer.endorsement.endorser;
            let identity = msps
                .deserialize(endorser)
                .map_err(|e| not_usable(e.to_string()))?;
            msps.validate(&identity).map_err(|e| not_usable(e.to_string()))?;
            let message = [payload.as_ref(), endorser].concat();
            identity
                .verify(&message, &answer.endorsement.signature)
                .map_err(|e| not_usable(e.to_string()))?;
            endorsers.push(identity);
        }
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        policy
            .compiled
            .evaluate(msps, &Signers::from_verified(endorsers))
            .map_err(|refusal| Error::PolicyNotMet(refusal.to_string()))
    }

    /// Hands a transaction to any orderer that takes it, in random order.
    ///
    /// # Errors
    /// None took it; says what each one answered.
    pub async fn submit(&self, transaction: &Transaction) -> Result<(), Error> {
        self.broadcast(transaction.transaction_id(), transaction.envelope())
            .await
    }

    /// Hands any envelope to the orderers; `name` is for messages. While none takes it, e.g. because they elect a leader,
    /// it is offered again until the limit for submissions has passed. That the channel is not there, or not for this
    /// identity, is believed only of all of them: one may not have joined it, or be behind its configuration.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn broadcast(&self, name: &str, envelope: &common::Envelope) -> Result<(), Error> {
        offer::to_any(&self.inner.orderers, self.inner.deadlines.submit, name, envelope).await
    }

    /// Endorses, submits and waits for the commit.
    ///
    /// # Errors
    /// Whatever stage failed; an invalid transaction is [`Error::Commit`].
    pub async fn submit_and_wait(&self, invocation: &Invocation) -> Result<Committed, Error> {
        self.submit_proposal_and_wait(&self.propose(invocation)?).await
    }

    /// [`Self::submit_and_wait`] for a signed proposal.
    ///
    /// # Errors
    /// As [`Self::submit_and_wait`].
    pub async fn submit_proposal_and_wait(&self, proposal: &Proposal) -> Result<Committed, Error> {
        let start = Instant::now();
        let answers = self.collect(proposal).await?;
        let endorsed = start.elapsed();
        let (transaction, endorsers) = self.put_together(proposal, answers)?;
        let checked = start.elapsed();
        // Listening begins before the submission: the commit cannot be missed.
        let listener = self
            .listen(transaction.channel(), transaction.transaction_id())
            .await?;
        self.submit(&transaction).await?;
        let ordered = start.elapsed();
        let status = listener.wait(self.inner.deadlines.commit_status).await?;
        if status.is_stale() {
            self.avoid(&endorsers);
        }
        let block_number = status.ok()?;
        Ok(Committed {
            transaction_id: transaction.transaction_id().to_owned(),
            result: transaction.result().clone(),
            block_number,
            stages: Stages {
                endorsed,
                checked,
                ordered,
                committed: start.elapsed(),
            },
        })
    }

    /// Listens for a transaction that is about to be submitted. Listeners of a channel share a stream, of the first peer that
    /// sends the newest block.
    ///
    /// # Errors
    /// No peer answers.
    pub async fn listen(&self, channel: &str, transaction_id: &str) -> Result<CommitListener, Error> {
        let Inner { feeds, events, .. } = &*self.inner;
        let identity = &self.inner.identity;
        feeds
            .listen(|| events.clone(), identity, channel, transaction_id)
            .await
    }

    /// A stream told nothing of a transaction that the ledger has: the next listener of the channel gets another stream, from
    /// the next peer.
    pub async fn leave_silent(&self, channel: &str, stream: &CommitStream) {
        self.inner.feeds.leave(channel, stream).await;
    }
}

async fn within<T>(
    limit: Option<Duration>,
    call: Call,
    transaction_id: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match limit {
        None => work.await,
        Some(limit) => {
            let id = (!transaction_id.is_empty()).then_some(transaction_id);
            tokio::time::timeout(limit, work)
                .await
                .map_err(|_| Error::Rpc(Box::new(RpcError::deadline(call, id, limit))))?
        }
    }
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
