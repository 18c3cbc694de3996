//! The endorser: checks a proposal, runs its chaincode on a snapshot of the state, and signs what came out
//! (spec 08 §1, 04 §2.1).
//!
//! ```text
//! filter ─► unpack ─► validate ─► channel checks ─► definition ─► run ─► sign
//!   │          └──────────┴─────────────┴ Refused       │          │       └─ Answered (endorsed)
//!   └ Filtered                                          └──────────┴ Answered (500 without payload)
//! ```

mod checks;
mod execute;
mod pool;
mod service;
#[cfg(test)]
mod tests;
mod unpack;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use selvedge_channel::authenticate;
use selvedge_proto::protos;

use crate::chaincode::ChaincodeRuntime;
use crate::context::PeerContext;
use crate::scc;
use crate::stranger::{self, Stranger};

use pool::Pool;
pub use service::EndorserService;
use unpack::Unpacked;

/// What comes of a proposal. In the process of the gateway the cases differ more than on the wire (spec 04 §2.1).
#[derive(Debug, Clone, PartialEq)]
pub enum EndorseOutcome {
    /// The endorser answered. A status below 400 is endorsed; 500 without a payload means that the chaincode could not
    /// be executed here; anything else is what the chaincode said.
    Answered(Box<protos::ProposalResponse>),
    /// The proposal is malformed, not allowed, or was made before. Asking another peer is no use.
    Refused(String),
    /// A filter in front of the endorser: an expired client certificate, or a clock that is off.
    Filtered(String),
}

/// What becomes of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is endorsed, for a transaction.
    Endorse,
    /// Only the contract's response is wanted: nothing is signed.
    Evaluate,
}

/// Settings of the endorser.
#[derive(Clone)]
pub struct EndorserConfig {
    /// How far a proposal's timestamp may be from this peer's clock.
    pub time_window: Duration,
    /// The clock.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl std::fmt::Debug for EndorserConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndorserConfig")
            .field("time_window", &self.time_window)
            .finish_non_exhaustive()
    }
}

impl Default for EndorserConfig {
    fn default() -> Self {
        Self {
            time_window: Duration::from_secs(15 * 60),
            clock: Arc::new(SystemTime::now),
        }
    }
}

struct Inner {
    context: Arc<dyn PeerContext>,
    runtime: Arc<ChaincodeRuntime>,
    config: EndorserConfig,
    pool: Pool,
}

/// Endorses proposals. Clones share everything.
#[derive(Clone)]
pub struct Endorser {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Endorser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endorser")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Endorser {
    /// An endorser of this peer.
    pub fn new(
        context: Arc<dyn PeerContext>,
        runtime: Arc<ChaincodeRuntime>,
        config: EndorserConfig,
    ) -> Self {
        let pool = Pool::new(runtime.concurrency());
        Self {
            inner: Arc::new(Inner {
                context,
                runtime,
                config,
                pool,
            }),
        }
    }

    /// The runtime that proposals run in.
    pub fn runtime(&self) -> &Arc<ChaincodeRuntime> {
        &self.inner.runtime
    }

    /// Processes a proposal on a thread of the endorser's own; waits while as many as allowed are running.
    pub async fn process_proposal(&self, proposal: protos::SignedProposal) -> EndorseOutcome {
        self.process_for(Purpose::Endorse, proposal).await
    }

    /// As [`Self::process_proposal`], for a given purpose.
    pub(crate) async fn process_for(
        &self,
        purpose: Purpose,
        proposal: protos::SignedProposal,
    ) -> EndorseOutcome {
        let this = self.clone();
        let outcome = self
            .inner
            .pool
            .run(move || this.judge_and_run(purpose, &proposal))
            .await;
        outcome.unwrap_or_else(|| {
            tracing::error!("endorsing a proposal failed inside the peer");
            EndorseOutcome::Refused(
                "the endorser failed on this proposal; the peer's log has details".to_owned(),
            )
        })
    }

    /// Processes a proposal on the calling thread.
    pub fn process(&self, proposal: &protos::SignedProposal) -> EndorseOutcome {
        self.judge_and_run(Purpose::Endorse, proposal)
    }

    fn judge_and_run(&self, purpose: Purpose, proposal: &protos::SignedProposal) -> EndorseOutcome {
        let started = Instant::now();
        let config = &self.inner.config;
        let metrics = self.inner.runtime.metrics();
        metrics.received.count(&[]);
        let unpacked = unpack::unpack(proposal);
        let filter = |channel_header: &_, signature_header: &_| {
            let now = (config.clock)();
            let context = &*self.inner.context;
            checks::filter(context, channel_header, signature_header, now, config.time_window)
        };
        let filtered = match &unpacked {
            Ok(proposal) => filter(&proposal.channel_header, &proposal.signature_header),
            // Whoever is filtered hears of that first. What does not parse is refused with its reason further on.
            Err(_) => {
                unpack::headers(proposal).map_or(Ok(()), |(channel, signature)| filter(&channel, &signature))
            }
        };
        if let Err(why) = filtered {
            metrics.invalid.count(&[]);
            return EndorseOutcome::Filtered(why);
        }
        let processed = unpacked
            .inspect_err(|_| metrics.invalid.count(&[]))
            .and_then(|proposal| self.process_filtered(purpose, &proposal, started));
        match processed {
            Ok(response) => EndorseOutcome::Answered(Box::new(response)),
            Err(why) => EndorseOutcome::Refused(why),
        }
    }

    fn process_filtered(
        &self,
        purpose: Purpose,
        proposal: &Unpacked,
        started: Instant,
    ) -> Result<protos::ProposalResponse, String> {
        let context = &self.inner.context;
        let metrics = self.inner.runtime.metrics();
        let invalid = |why| {
            metrics.invalid.count(&[]);
            why
        };
        checks::validate(proposal).map_err(invalid)?;
        let signed = checks::signed_data(proposal);
        let denied = |why: String| invalid(format!("error validating proposal: {why}"));
        let id = &proposal.channel_header.channel_id;
        if id.is_empty() {
            let creator = authenticate(&context.local_msp(), &signed)
                .map_err(|why| denied(format!("access denied: channel [] {why}")))?;
            let answer = self.execute(purpose, proposal, creator, None);
            self.count(id, &proposal.chaincode, &answer, started);
            return Ok(answer);
        }
        let member = context.channel(id).and_then(|channel| {
            let bundle = channel.bundle();
            let creator = authenticate(bundle.msps(), &signed).ok()?;
            Some((channel, bundle, creator))
        });
        let Some((channel, bundle, creator)) = member else {
            return match stranger::judge(&**context, id, &signed) {
                Stranger::Known => Ok(execute::could_not(format!("channel '{id}' not found"))),
                Stranger::Nobody(why) => Err(denied(why)),
            };
        };
        let place = [id.as_str(), self.label(id, &proposal.chaincode)];
        checks::is_new(proposal, &channel).inspect_err(|_| metrics.duplicates.count(&place))?;
        checks::may_propose(proposal, &bundle, &creator)
            .inspect_err(|_| metrics.not_allowed.count(&place))?;
        let answer = self.execute(purpose, proposal, creator, Some((channel, bundle)));
        self.count(id, &proposal.chaincode, &answer, started);
        Ok(answer)
    }

    /// The name of a chaincode in metrics: names that clients make up must not fill the memory.
    fn label<'a>(&self, channel: &str, chaincode: &'a str) -> &'a str {
        let known = scc::is_system(chaincode) || self.inner.runtime.known(channel, chaincode).is_some();
        if known { chaincode } else { "unknown" }
    }

    /// Measures a proposal that was executed, on a channel of this peer or on none.
    fn count(&self, channel: &str, chaincode: &str, answer: &protos::ProposalResponse, started: Instant) {
        let metrics = self.inner.runtime.metrics();
        let chaincode = self.label(channel, chaincode);
        let status = answer.response.as_ref().map_or(500, |r| r.status);
        let success = status < 400;
        if success {
            metrics.successful.count(&[]);
        } else if status >= 500 && answer.payload.is_empty() {
            metrics.not_simulated.count(&[channel, chaincode]);
        } else {
            metrics.not_endorsed.count(&[channel, chaincode, "true"]);
        }
        let success = if success { "true" } else { "false" };
        metrics
            .proposals
            .observe(&[channel, chaincode, success], started.elapsed());
    }
}
