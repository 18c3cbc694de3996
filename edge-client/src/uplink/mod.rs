//! Sending what the buffer holds: endorse, order, learn the verdict; with back-off, fail-over and recovery.
//!
//! | a failure that means | for the request | for the others |
//! |---|---|---|
//! | nobody was reached | the same transaction again | everything pauses, longer each time; then one is tried at a time |
//! | somebody has to mend something, or no orderer takes it | the same transaction again | its channel turns to the next peer; when all have failed, its channel and contract pause, longer each time |
//! | this attempt failed | the same transaction again, after a pause of its own | |
//! | it lost a race | a new transaction, linked to it, if the caller allows it | |
//! | refused for good | the end; the caller is told why. A batch is taken apart | |
//!
//! A refusal is believed only when no earlier attempt can still be on its way: a request that an orderer may have seen is
//! looked up on the ledger first, until every peer says that it is not there and the channel has gone on since ([`Doubt`]).

mod health;
mod judge;
mod nodes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use selvedge_msp::SigningIdentity;
use selvedge_sdk::{CommitStatus, Endpoint, Error, Invocation, Nonce};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::health::{BackOff, Health, Hold};
use self::judge::{
    Failed, Meaning, another_peer_may_help, is_mendable, meaning_at, refuses_identity, verdict,
};
use self::nodes::{Absence, Nodes, Stages};
use crate::EdgeError;
use crate::buffer::{Buffer, Job, Outcome, State};
use crate::config::{UplinkConfig, UplinkMode};
use crate::identities::{Identities, IdentityId};

/// How long a transaction that was handed over without an answer may take to show on the ledger of a channel that goes on.
const SETTLE_TIME: Duration = Duration::from_secs(30);
/// The same for a channel on which nothing happens, though nothing is known to be wrong with it.
const QUIET_TIME: Duration = Duration::from_secs(600);
/// Time between two looks after old files, identities and drops.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// The way to the network.
pub(crate) struct Uplink {
    buffer: Arc<Buffer>,
    identities: Mutex<Identities>,
    nodes: Nodes,
    in_flight: usize,
    mode: UplinkMode,
    back_off: BackOff,
    health: Mutex<Health>,
    /// An attempt has ended.
    ended: Notify,
    /// Channels and contracts that are held, by number.
    held: Mutex<HashMap<u32, Hold>>,
    /// Jobs that an orderer may have seen in this run, with what was found when they were first missed on the ledger.
    submitted: Mutex<HashMap<u64, Option<Doubt>>>,
    /// How often in a row those have lost a race that an open request follows.
    races: Mutex<HashMap<u64, u32>>,
}

/// A transaction that was not on the ledger when it was looked for, and may still come.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Instant,
    /// Blocks that the furthest peer had then.
    height: u64,
}

impl Doubt {
    /// Whether it will never come: the time has passed in which an orderer hands on what it took, all peers have blocks that
    /// were made after the first look, and it is in none of them. Where nobody makes blocks (`quiet`), time alone must do.
    fn is_over(&self, lowest: u64, quiet: bool, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.since);
        (waited >= SETTLE_TIME && lowest > self.height) || (quiet && waited >= QUIET_TIME)
    }
}

/// What the uplink is doing, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct UplinkView {
    /// Whether the last attempt got through to the network.
    pub(crate) connected: bool,
    /// Peer in use.
    pub(crate) peer: String,
    /// Failures in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) failures: u32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// Seconds without network since the start.
    pub(crate) offline_seconds: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What is to be done with a job after an attempt.
enum Next {
    Settle(Outcome, Duration),
    /// Its identity was changed: it is sent again at once.
    Rebound,
}

struct JobStages<'a> {
    uplink: &'a Uplink,
    job: &'a Job,
}

impl Stages for JobStages<'_> {
    fn reached(&self, state: State) {
        self.uplink.buffer.progress(self.job, state);
    }

    async fn submitting(&self) -> Result<(), Error> {
        let noted = self.uplink.buffer.sending(self.job).await;
        noted.map_err(|e| Error::Request(format!("it is held back: {e}")))?;
        self.uplink.submitted.lock().entry(self.job.id).or_insert(None);
        Ok(())
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Uplink {
    pub(crate) fn new(
        buffer: Arc<Buffer>,
        identities: Identities,
        config: UplinkConfig,
    ) -> Result<Self, EdgeError> {
        Ok(Self {
            buffer,
            identities: Mutex::new(identities),
            in_flight: config.in_flight,
            mode: config.mode,
            back_off: BackOff {
                first: config.first_pause,
                longest: config.longest_pause,
            },
            nodes: Nodes::new(config)?,
            health: Mutex::new(Health::default()),
            ended: Notify::new(),
            held: Mutex::new(HashMap::new()),
            submitted: Mutex::new(HashMap::new()),
            races: Mutex::new(HashMap::new()),
        })
    }

    /// The identity that new requests are accepted under.
    pub(crate) fn current_identity(&self) -> IdentityId {
        *self.identities.lock().current().0
    }

    /// Lets new requests begin with a renewed identity; those accepted before stay with the one they began with.
    pub(crate) fn adopt(&self, identity: SigningIdentity) -> Result<(), EdgeError> {
        let key = identity.private_key().clone();
        self.identities.lock().adopt(identity, &key)
    }

    /// Dials the network's nodes anew if their TLS files hold something else; whether they do.
    ///
    /// # Errors
    /// A file cannot be read or used; the former state stays.
    pub(crate) fn look(&self) -> Result<bool, EdgeError> {
        self.nodes.look()
    }

    /// The peers to dial.
    pub(crate) fn peers(&self) -> Vec<Endpoint> {
        self.nodes.peers()
    }

    /// The identity itself, for what is signed but not kept.
    pub(crate) fn current_signer(&self) -> Option<SigningIdentity> {
        self.identities.lock().current().1.cloned()
    }

    pub(crate) fn view(&self) -> UplinkView {
        let health = self.health.lock().clone();
        UplinkView {
            connected: health.failures == 0,
            peer: self.nodes.peer().to_owned(),
            failures: health.failures,
            offline_seconds: health.offline(Instant::now()).as_secs(),
            reason: health.reason,
        }
    }

    /// Sends until `stop` is cancelled. What is under way then is sent again at the next start.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.in_flight));
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            let free = tokio::select! {
                () = stop.cancelled() => return,
                _ = housekeeping.tick() => {
                    self.keep_house().await;
                    continue;
                }
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            let Ok(first) = free else { return };
            self.wait_for_network(&stop).await;
            // The first slot is held already.
            let out = self.in_flight.saturating_sub(slots.available_permits() + 1);
            let room = self.health.lock().room(out, self.in_flight);
            if room == 0 {
                drop(first);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.ended.notified() => {}
                    _ = housekeeping.tick() => self.keep_house().await,
                }
                continue;
            }
            let due = self.buffer.take_due(room).await;
            if due.is_empty() {
                drop(first);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.buffer.wait_for_work() => {}
                    _ = housekeeping.tick() => self.keep_house().await,
                }
                continue;
            }
            let mut first = Some(first);
            for job in due {
                let slot = match first.take() {
                    Some(slot) => slot,
                    None => match Arc::clone(&slots).acquire_owned().await {
                        Ok(slot) => slot,
                        Err(_) => return,
                    },
                };
                let (uplink, stop) = (Arc::clone(&self), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = uplink.send(job) => {}
                    }
                    drop(slot);
                    uplink.ended.notify_one();
                    uplink.buffer.wake();
                });
            }
        }
    }

    async fn keep_house(&self) {
        if let Err(error) = self.buffer.keep_house(self.current_identity()).await {
            tracing::error!(%error, "housekeeping of the buffer failed; it is tried again");
        }
        let needed = self.buffer.identities();
        let current = self.current_identity();
        self.nodes.keep_only(|id| *id == current || needed.contains(id));
        self.identities.lock().keep_only(&needed);
    }

    /// Waits out the pause after failures of the whole connection.
    async fn wait_for_network(&self, stop: &CancellationToken) {
        let resume = self.health.lock().resume();
        if let Some(resume) = resume {
            tokio::select! {
                () = tokio::time::sleep_until(resume) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn network_failed(&self, reason: &str) {
        let mut health = self.health.lock();
        let before = health.failures;
        if !health.failed(reason, &self.back_off, Instant::now()) {
            return;
        }
        drop(health);
        if before == 0 {
            tracing::warn!(%reason, "the network is out of reach; requests are kept");
        }
    }

    fn network_works(&self) {
        if self.health.lock().works(Instant::now()) {
            tracing::info!("the network is back");
        }
    }

    /// Nothing of the job's channel and contract is sent for a while, after a failure at a peer that another might replace.
    fn hold(&self, job: &Job, state: State, peer: Option<usize>, reason: &str) -> Duration {
        let (pause, news) = {
            let mut held = self.held.lock();
            let hold = held.entry(job.target).or_default();
            let before = hold.all_failed_once();
            hold.state = state;
            let pause = hold.failed(peer, self.nodes.peer_count(), &self.back_off, Instant::now());
            (pause, !before && hold.all_failed_once())
        };
        if news {
            tracing::warn!(
                channel = %job.channel, chaincode = %job.chaincode, %reason,
                "requests are held, and tried again, until this is mended"
            );
        }
        self.buffer.pause_target(job, pause);
        pause
    }

    /// A job has got beyond `state`: what held its channel and contract there or before does so no longer.
    fn goes_on(&self, job: &Job, state: State) {
        let mut held = self.held.lock();
        if held.get(&job.target).is_some_and(|hold| hold.state <= state) {
            held.remove(&job.target);
            drop(held);
            self.buffer.resume_target(job);
        }
    }

    /// One attempt at one job.
    async fn send(&self, job: Job) {
        let (outcome, pause) = match self.attempt(&job).await {
            Next::Settle(outcome, pause) => (outcome, pause),
            Next::Rebound => {
                let outcome = Outcome::Again {
                    state: State::EndorsementError,
                    reason: "it is sent under the renewed certificate".to_owned(),
                };
                (outcome, Duration::ZERO)
            }
        };
        match &outcome {
            Outcome::Again { reason, .. } => {
                tracing::debug!(id = job.id, attempt = job.attempts, %reason, "attempt failed");
            }
            Outcome::Refused { reason } if !job.is_batch() => {
                tracing::warn!(id = job.id, %reason, "request refused");
            }
            _ => {}
        }
        // A crash may have come between the follower and this end of the loser: one request has one follower.
        let lost = matches!(outcome, Outcome::Conflict { .. })
            && !job.is_batch()
            && job.retry_conflicts
            && !job.followed;
        if lost {
            // The follower is on disk before the loser is settled: a crash in between costs a repeated look-up, not
            // the request.
            match self.buffer.follow(&job, self.current_identity()).await {
                Ok(follower) => {
                    // What loses again and again would put an invalid transaction into every block.
                    let mut races = self.races.lock();
                    let lost = races.remove(&job.id).unwrap_or(0) + 1;
                    races.insert(follower, lost);
                    self.buffer.delay(follower, self.back_off.pause(lost));
                }
                Err(error) => {
                    let again = Outcome::Again {
                        state: State::CommitError,
                        reason: format!("it lost a race, and the next try could not be stored: {error}"),
                    };
                    let pause = self.back_off.pause(job.attempts);
                    self.buffer.settle(&job, again, pause).await;
                    return;
                }
            }
        }
        if !matches!(outcome, Outcome::Again { .. }) {
            self.submitted.lock().remove(&job.id);
            self.races.lock().remove(&job.id);
        }
        self.buffer.settle(&job, outcome, pause).await;
    }

    async fn attempt(&self, job: &Job) -> Next {
        let identity = self.identities.lock().get(&job.identity).cloned();
        let nonce = Nonce::from_bytes(job.nonce);
        let identity = match identity {
            Some(identity) if identity.certificate().not_after() > unix_now() => identity,
            old => return self.without_identity(job, old, &nonce).await,
        };
        let invocation = Invocation::new(&job.channel, &job.chaincode, &job.function)
            .args(job.args.iter().map(|a| a.to_vec()));
        let stages = JobStages { uplink: self, job };
        match self.nodes.attempt(&identity, &invocation, &nonce, &stages).await {
            Ok(status) => {
                self.network_works();
                let outcome = known(&status);
                if let Outcome::Conflict { reason } = &outcome
                    && is_mendable(status.code)
                {
                    // The next one fails as well until somebody has mended it, and each is on the ledger.
                    self.hold(job, State::CommitError, None, reason);
                } else {
                    self.goes_on(job, State::CommitError);
                }
                Next::Settle(outcome, Duration::ZERO)
            }
            Err(failed) => self.judge(job, &identity, &nonce, failed).await,
        }
    }

    async fn judge(&self, job: &Job, identity: &SigningIdentity, nonce: &Nonce, failed: Failed) -> Next {
        let Failed { state, error, peer } = failed;
        let reason = error.to_string();
        let again = |pause| {
            let outcome = Outcome::Again {
                state,
                reason: reason.clone(),
            };
            Next::Settle(outcome, pause)
        };
        let meaning = meaning_at(state, &error);
        // In direct mode a peer is only asked for the channel's configuration and its contracts.
        let at_the_peer = match self.mode {
            UplinkMode::Gateway => another_peer_may_help(state, &error),
            UplinkMode::Direct => {
                meaning == Meaning::Unreachable
                    || (meaning == Meaning::Held && state == State::EndorsementError)
            }
        };
        let turned = at_the_peer && self.nodes.move_on(&job.channel, peer);
        if meaning == Meaning::Unreachable {
            // One that was left before says nothing of the network.
            if turned {
                self.nodes.connect_anew(&job.channel, peer);
                self.network_failed(&reason);
            }
            return again(self.back_off.pause(job.attempts));
        }
        self.network_works();
        match meaning {
            Meaning::Held if refuses_identity(&error) && self.successor(job).is_some() => {
                self.without_identity(job, Some(identity.clone()), nonce).await
            }
            Meaning::Held => again(self.hold(job, state, at_the_peer.then_some(peer), &reason)),
            Meaning::Unreachable | Meaning::Repeat | Meaning::LookUp => {
                again(self.back_off.pause(job.attempts))
            }
            Meaning::Conflict => {
                self.goes_on(job, state);
                Next::Settle(Outcome::Conflict { reason }, Duration::ZERO)
            }
            Meaning::Refused => {
                self.goes_on(job, state);
                let reason = match error.contract_refusal() {
                    Some((status, message)) => format!("{status}: {message}"),
                    None => reason,
                };
                // An orderer that refuses marks its own attempt as handed over; only earlier ones count then.
                let earlier = match state {
                    State::EndorsementError => self.may_be_under_way(job),
                    _ => job.attempts > 1 || (job.recovered && job.maybe_sent),
                };
                if !earlier {
                    return Next::Settle(Outcome::Refused { reason }, Duration::ZERO);
                }
                match self.fate(job, identity, identity, nonce).await {
                    Fate::Known(outcome) => Next::Settle(outcome, Duration::ZERO),
                    Fate::Unknown => Next::Settle(Outcome::Refused { reason }, Duration::ZERO),
                    Fate::Unsettled(why) => {
                        let outcome = Outcome::Again {
                            state: State::CommitError,
                            reason: format!("{reason}; {why}"),
                        };
                        Next::Settle(outcome, self.back_off.pause(job.attempts))
                    }
                }
            }
        }
    }

    /// Whether an orderer may have seen an earlier attempt whose end is not known.
    fn may_be_under_way(&self, job: &Job) -> bool {
        self.submitted.lock().contains_key(&job.id) || (job.recovered && job.maybe_sent)
    }

    /// What became of earlier attempts at a job that can not be repeated.
    async fn fate(
        &self,
        job: &Job,
        sent_as: &SigningIdentity,
        asker: &SigningIdentity,
        nonce: &Nonce,
    ) -> Fate {
        let id = nonce.transaction_id(sent_as);
        match self.nodes.look_up(asker, &job.channel, &id).await {
            Ok(Ok(status)) => Fate::Known(known(&status)),
            Ok(Err(Absence { heights, doubt })) if doubt.is_empty() => {
                let (lowest, height) = heights;
                let since = Instant::now();
                let quiet = !self.held.lock().contains_key(&job.target);
                let mut submitted = self.submitted.lock();
                let first = submitted.entry(job.id).or_insert(None);
                let first = first.get_or_insert(Doubt { since, height });
                if first.is_over(lowest, quiet, since) {
                    Fate::Unknown
                } else {
                    Fate::Unsettled("an earlier attempt may still be under way".to_owned())
                }
            }
            Ok(Err(Absence { doubt, .. })) => Fate::Unsettled(doubt),
            Err(error) => Fate::Unsettled(format!("its fate cannot be asked for: {error}")),
        }
    }

    /// The usable identity that has taken the place of the one that a job began with.
    fn successor(&self, job: &Job) -> Option<(IdentityId, SigningIdentity)> {
        let identities = self.identities.lock();
        let (id, current) = identities.current();
        let current = current.filter(|c| *id != job.identity && c.certificate().not_after() > unix_now())?;
        Some((*id, current.clone()))
    }

    /// A job whose identity has expired, is gone, or is refused since another has taken its place. What nobody has seen is
    /// sent under the current one; the fate of the rest is settled on the ledger first: an orderer takes nothing of such an
    /// identity, so what is not there after some time never will be.
    async fn without_identity(&self, job: &Job, old: Option<SigningIdentity>, nonce: &Nonce) -> Next {
        let again = |state, reason: String, pause| Next::Settle(Outcome::Again { state, reason }, pause);
        let Some((id, current)) = self.successor(job) else {
            let reason = "the certificate of this gateway has expired; renew it".to_owned();
            let pause = self.hold(job, State::EndorsementError, None, &reason);
            return again(State::EndorsementError, reason, pause);
        };
        if job.maybe_sent || self.submitted.lock().contains_key(&job.id) {
            let Some(old) = old else {
                return Next::Settle(
                    Outcome::Refused {
                        reason: "the certificate it may have been sent under is not in this gateway's folder any more, \
                                 so its fate cannot be found out"
                            .to_owned(),
                    },
                    Duration::ZERO,
                );
            };
            match self.fate(job, &old, &current, nonce).await {
                Fate::Known(outcome) => return Next::Settle(outcome, Duration::ZERO),
                Fate::Unsettled(why) => {
                    return again(State::CommitError, why, self.back_off.pause(job.attempts));
                }
                Fate::Unknown => {}
            }
        }
        if job.is_batch() {
            let reason =
                "its certificate is no longer valid; its requests are sent under the renewed one".to_owned();
            return Next::Settle(Outcome::Apart { reason }, Duration::ZERO);
        }
        let rebound = match self.buffer.rebind_job(job, id).await {
            Ok(()) => self.buffer.rebind_unsent(&job.identity, id).await,
            Err(error) => Err(error),
        };
        match rebound {
            Ok(others) => {
                tracing::info!(others, "requests are sent under the renewed certificate");
                self.submitted.lock().remove(&job.id);
                Next::Rebound
            }
            Err(error) => again(
                State::EndorsementError,
                format!("it cannot be moved to the renewed certificate: {error}"),
                self.back_off.pause(job.attempts),
            ),
        }
    }
}

/// What is known of an earlier attempt.
enum Fate {
    /// The ledger has it.
    Known(Outcome),
    /// The ledger does not have it, and nothing is under way any more.
    Unknown,
    /// Not yet.
    Unsettled(String),
}

fn known(status: &CommitStatus) -> Outcome {
    verdict(status).unwrap_or_else(|| Outcome::Again {
        state: State::CommitError,
        reason: format!(
            "transaction {} is a duplicate of one whose verdict is not known yet",
            status.transaction_id
        ),
    })
}

#[cfg(test)]
mod tests;
