//! Sending what the buffer holds: endorse, order, learn the verdict; with back-off, fail-over and recovery.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use selvedge_msp::SigningIdentity;
use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{
    ChannelInfo, ClientTls, CommitStatus, Deadlines, DirectClient, DirectConfig, Endpoint, Error, Gateway,
    Invocation, Nonce, PeerAddress, PeerClient, Retry,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::EdgeError;
use crate::buffer::{Buffer, Entry, Outcome, State};
use crate::config::{UplinkConfig, UplinkMode};
use crate::identities::{Identities, IdentityId};

/// After so many failures in a row of a whole connection, requests are no longer tried all at once but one by one.
const PROBE_AFTER: u32 = 3;

/// A peer with its settings read.
#[derive(Debug, Clone)]
struct Node {
    msp_id: String,
    endpoint: Endpoint,
}

/// The way to the network.
pub(crate) struct Uplink {
    buffer: Arc<Buffer>,
    identities: Mutex<Identities>,
    config: UplinkConfig,
    peers: Vec<Node>,
    orderers: Vec<Node>,
    /// Index of the peer in use; moves on when it fails.
    preferred: AtomicUsize,
    gateways: Mutex<HashMap<(IdentityId, usize), Gateway>>,
    direct: Mutex<HashMap<(IdentityId, String), DirectClient>>,
    health: Mutex<Health>,
}

/// Whether the network is there at all.
#[derive(Debug, Clone, Default)]
struct Health {
    failures: u32,
    reason: String,
    resume: Option<tokio::time::Instant>,
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
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// A stage of an attempt that failed.
struct Failed {
    state: State,
    error: Error,
}

fn failed_in(state: State) -> impl FnOnce(Error) -> Failed {
    move |error| Failed { state, error }
}

impl Uplink {
    pub(crate) fn new(
        buffer: Arc<Buffer>,
        identities: Identities,
        config: UplinkConfig,
    ) -> Result<Self, EdgeError> {
        let nodes = |list: &[crate::EndpointConfig]| {
            list.iter()
                .map(|e| {
                    Ok(Node {
                        msp_id: e.msp_id.clone(),
                        endpoint: e.endpoint()?,
                    })
                })
                .collect::<Result<Vec<_>, EdgeError>>()
        };
        Ok(Self {
            peers: nodes(&config.peers)?,
            orderers: nodes(&config.orderers)?,
            buffer,
            identities: Mutex::new(identities),
            config,
            preferred: AtomicUsize::new(0),
            gateways: Mutex::new(HashMap::new()),
            direct: Mutex::new(HashMap::new()),
            health: Mutex::new(Health::default()),
        })
    }

    /// Accepts new requests under another identity; those that are open keep theirs.
    pub(crate) fn adopt(&self, identity: SigningIdentity) -> Result<(), EdgeError> {
        let key = identity.private_key().clone();
        self.identities.lock().adopt(identity, &key)
    }

    /// The identity that new requests are accepted under.
    pub(crate) fn current_identity(&self) -> IdentityId {
        *self.identities.lock().current().0
    }

    /// The identity itself, for what is signed but not kept.
    pub(crate) fn current_signer(&self) -> Option<SigningIdentity> {
        self.identities.lock().current().1.cloned()
    }

    pub(crate) fn view(&self) -> UplinkView {
        let health = self.health.lock().clone();
        UplinkView {
            connected: health.failures == 0,
            peer: self.peers[self.peer_index()].endpoint.address.clone(),
            failures: health.failures,
            reason: health.reason,
        }
    }

    fn peer_index(&self) -> usize {
        self.preferred.load(Ordering::Relaxed) % self.peers.len()
    }

    /// Sends until `stop` is cancelled. What is under way then is sent again at the next start.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.config.in_flight));
        let mut housekeeping = tokio::time::interval(Duration::from_secs(30));
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
            let width = self.wait_for_network(&stop).await;
            // The first slot is held already.
            let more = slots.available_permits().min(width.saturating_sub(1));
            let due = self.buffer.take_due(1 + more);
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
            for entry in due {
                let slot = match first.take() {
                    Some(slot) => slot,
                    None => match Arc::clone(&slots).try_acquire_owned() {
                        Ok(slot) => slot,
                        Err(_) => match Arc::clone(&slots).acquire_owned().await {
                            Ok(slot) => slot,
                            Err(_) => return,
                        },
                    },
                };
                let (uplink, stop) = (Arc::clone(&self), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = uplink.send(entry) => {}
                    }
                    drop(slot);
                    uplink.buffer.wake();
                });
            }
        }
    }

    async fn keep_house(&self) {
        if let Err(error) = self.buffer.compact().await {
            tracing::error!(%error, "old buffer files cannot be removed");
        }
        let needed = self.buffer.identities();
        self.identities.lock().keep_only(&needed);
    }

    /// Waits out the pause after failures of the whole connection. Returns how many requests may be tried at once.
    async fn wait_for_network(&self, stop: &CancellationToken) -> usize {
        let health = self.health.lock().clone();
        if let Some(resume) = health.resume {
            tokio::select! {
                () = tokio::time::sleep_until(resume) => {}
                () = stop.cancelled() => {}
            }
        }
        if health.failures >= PROBE_AFTER {
            1
        } else {
            self.config.in_flight
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let doubled = self
            .config
            .first_pause
            .saturating_mul(1 << failures.saturating_sub(1).min(20));
        let longest = doubled.min(self.config.longest_pause);
        // Jitter, so that many gateways do not come back at the same moment.
        longest.mul_f64(rand::Rng::random_range(&mut rand::rng(), 0.5..=1.0))
    }

    fn network_failed(&self, reason: &str) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
        // Made anew with fresh addresses.
        self.direct.lock().clear();
        let mut health = self.health.lock();
        let now = tokio::time::Instant::now();
        // The many requests under way fail together: that is one failure of the connection.
        if health.resume.is_some_and(|resume| now < resume) {
            return;
        }
        if health.failures == 0 {
            tracing::warn!(%reason, "the network is out of reach; requests are kept");
        }
        health.failures += 1;
        reason.clone_into(&mut health.reason);
        health.resume = Some(now + self.pause(health.failures));
    }

    fn network_works(&self) {
        let mut health = self.health.lock();
        if health.failures > 0 {
            tracing::info!("the network is back");
            *health = Health::default();
        }
    }

    /// One attempt at one request.
    async fn send(&self, entry: Entry) {
        let number = entry.number;
        let outcome = match self.attempt(&entry).await {
            Ok(status) => {
                self.network_works();
                verdict(&status)
            }
            Err(failed) => self.judge(failed),
        };
        let pause = match &outcome {
            Outcome::Again { reason, .. } => {
                tracing::debug!(number, attempt = entry.attempts, %reason, "attempt failed");
                self.pause(entry.attempts)
            }
            Outcome::Refused { reason } => {
                tracing::warn!(number, %reason, "request refused");
                Duration::ZERO
            }
            _ => Duration::ZERO,
        };
        let lost = match &outcome {
            // A crash may have come between the follower and this end of the loser: one request has one follower.
            Outcome::Conflict { .. } => entry.request.retry_conflicts && entry.followed_by == 0,
            _ => false,
        };
        if lost {
            // The follower is on disk before the loser is settled: a crash in between costs a repeated look-up, not
            // the request.
            if let Err(error) = self.buffer.follow(&entry, self.current_identity()).await {
                let again = Outcome::Again {
                    state: State::CommitError,
                    reason: format!("it lost a race, and the next try could not be stored: {error}"),
                };
                self.buffer.settle(number, again, self.pause(entry.attempts));
                return;
            }
        }
        self.buffer.settle(number, outcome, pause);
    }

    fn judge(&self, failed: Failed) -> Outcome {
        let Failed { state, error } = failed;
        let reason = error.to_string();
        if is_unreachable(&error) {
            self.network_failed(&reason);
        } else {
            self.network_works();
        }
        match error.retry() {
            Retry::SameTransaction | Retry::LookUp => Outcome::Again { state, reason },
            Retry::NewTransaction => Outcome::Conflict { reason },
            Retry::Never => {
                let reason = match error.contract_refusal() {
                    Some((status, message)) => format!("{status}: {message}"),
                    None => reason,
                };
                Outcome::Refused { reason }
            }
        }
    }

    async fn attempt(&self, entry: &Entry) -> Result<CommitStatus, Failed> {
        let malformed = |what: &str| Failed {
            state: State::EndorsementError,
            error: Error::Request(format!("the stored request {} has {what}", entry.number)),
        };
        let identity = self
            .identities
            .lock()
            .get(&entry.identity)
            .cloned()
            .ok_or_else(|| malformed("no identity in this gateway's folder any more"))?;
        let nonce: [u8; 24] = entry
            .nonce
            .as_slice()
            .try_into()
            .map_err(|_| malformed("a nonce of the wrong length"))?;
        let nonce = Nonce::from_bytes(nonce);
        let request = &entry.request;
        let invocation = Invocation::new(&request.channel, &request.chaincode, &request.function)
            .args(request.args.iter().map(|a| a.to_vec()));
        match self.config.mode {
            UplinkMode::Gateway => {
                self.through_gateway(entry.number, &identity, &invocation, &nonce)
                    .await
            }
            UplinkMode::Direct => self.directly(entry.number, &identity, &invocation, &nonce).await,
        }
    }

    fn deadlines(&self) -> Deadlines {
        let limit = Some(self.config.deadline);
        Deadlines {
            evaluate: limit,
            endorse: limit,
            submit: limit,
            commit_status: limit,
        }
    }

    fn gateway(&self, identity: &SigningIdentity) -> Result<Gateway, Error> {
        let index = self.peer_index();
        let key = (crate::identities::identity_id(identity), index);
        if let Some(gateway) = self.gateways.lock().get(&key) {
            return Ok(gateway.clone());
        }
        let gateway =
            Gateway::connect(&self.peers[index].endpoint, identity.clone())?.with_deadlines(self.deadlines());
        self.gateways.lock().insert(key, gateway.clone());
        Ok(gateway)
    }

    async fn through_gateway(
        &self,
        number: u64,
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
    ) -> Result<CommitStatus, Failed> {
        let endorsing = || failed_in(State::EndorsementError);
        let gateway = self.gateway(identity).map_err(endorsing())?;
        let proposal = gateway.propose_with(invocation, nonce).map_err(endorsing())?;
        let id = proposal.transaction_id().to_owned();
        match gateway.endorse(&proposal).await {
            Ok(transaction) => {
                self.buffer.progress(number, State::PendingOrdering);
                gateway
                    .submit(&transaction)
                    .await
                    .map_err(failed_in(State::OrderingError))?;
            }
            // An earlier attempt got through: its verdict is what counts.
            Err(error) if error.retry() == Retry::LookUp => {}
            Err(error) => return Err(endorsing()(error)),
        }
        self.buffer.progress(number, State::PendingCommit);
        gateway
            .commit_status(invocation.channel(), &id)
            .await
            .map_err(failed_in(State::CommitError))
    }

    async fn direct_client(&self, identity: &SigningIdentity, channel: &str) -> Result<DirectClient, Error> {
        let key = (crate::identities::identity_id(identity), channel.to_owned());
        if let Some(client) = self.direct.lock().get(&key) {
            return Ok(client.clone());
        }
        let index = self.peer_index();
        let node = &self.peers[index];
        let info =
            ChannelInfo::fetch(&PeerClient::new(&node.msp_id, &node.endpoint)?, identity, channel).await?;
        let endorsers = self.peers.iter().map(|n| PeerAddress {
            msp_id: n.msp_id.clone(),
            endpoint: n.endpoint.clone(),
        });
        let orderers = if self.orderers.is_empty() {
            info.orderers
                .iter()
                .map(|o| {
                    let tls = ClientTls {
                        roots: o.tls_roots.clone(),
                        ..ClientTls::default()
                    };
                    Endpoint::tls(&o.address, tls)
                })
                .collect()
        } else {
            self.orderers.iter().map(|n| n.endpoint.clone()).collect()
        };
        let client = DirectClient::new(DirectConfig {
            identity: identity.clone(),
            endorsers: endorsers.collect(),
            orderers,
            events: Vec::new(),
            msps: info.msps,
            policy: None,
            deadlines: self.deadlines(),
        })?;
        self.direct.lock().insert(key, client.clone());
        Ok(client)
    }

    async fn directly(
        &self,
        number: u64,
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
    ) -> Result<CommitStatus, Failed> {
        let endorsing = || failed_in(State::EndorsementError);
        let channel = invocation.channel();
        let client = self.direct_client(identity, channel).await.map_err(endorsing())?;
        let proposal = client.propose_with(invocation, nonce).map_err(endorsing())?;
        let id = proposal.transaction_id().to_owned();
        match client.endorse(&proposal).await {
            Ok(transaction) => {
                self.buffer.progress(number, State::PendingOrdering);
                // Listening begins before the submission, so that the commit cannot be missed.
                let ordering = || failed_in(State::OrderingError);
                let mut listener = client.listen(channel).await.map_err(ordering())?;
                client.submit(&transaction).await.map_err(ordering())?;
                self.buffer.progress(number, State::PendingCommit);
                listener
                    .wait(&id, Some(self.config.deadline))
                    .await
                    .map_err(failed_in(State::CommitError))
            }
            Err(error) if error.retry() == Retry::LookUp => {
                self.buffer.progress(number, State::PendingCommit);
                look_up(&client, channel, &id)
                    .await
                    .map_err(failed_in(State::CommitError))
            }
            Err(error) => Err(endorsing()(error)),
        }
    }
}

/// The verdict on a transaction that the ledger knows, asked of the endorsers one after the other.
async fn look_up(client: &DirectClient, channel: &str, id: &str) -> Result<CommitStatus, Error> {
    let mut last = None;
    for peer in client.endorsers() {
        match verdict_of(peer, client.identity(), channel, id).await {
            Ok(status) => return Ok(status),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::Request("there is no peer to ask".to_owned())))
}

async fn verdict_of(
    peer: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
    id: &str,
) -> Result<CommitStatus, Error> {
    let processed = peer.transaction(identity, channel, id).await?;
    let block = peer.block_of(identity, channel, id).await?;
    let code =
        TxValidationCode::try_from(processed.validation_code).unwrap_or(TxValidationCode::InvalidOtherReason);
    Ok(CommitStatus {
        transaction_id: id.to_owned(),
        code,
        block_number: block.header.map(|h| h.number).unwrap_or_default(),
    })
}

fn verdict(status: &CommitStatus) -> Outcome {
    match status.code {
        TxValidationCode::Valid => Outcome::Committed {
            block: status.block_number,
        },
        code => {
            let reason = format!(
                "transaction {} is invalid in block {}: {}",
                status.transaction_id,
                status.block_number,
                code.as_str_name()
            );
            match code {
                TxValidationCode::MvccReadConflict | TxValidationCode::PhantomReadConflict => {
                    Outcome::Conflict { reason }
                }
                _ => Outcome::Refused { reason },
            }
        }
    }
}

/// Whether nobody was reached, as opposed to somebody who said no.
fn is_unreachable(error: &Error) -> bool {
    match error {
        Error::Rpc(rpc) => {
            matches!(rpc.code, Code::Unavailable | Code::DeadlineExceeded) && rpc.details.is_empty()
        }
        Error::Comm(_) | Error::StreamEnded { .. } => true,
        _ => false,
    }
}
