//! The peers and orderers that this gateway knows, and one attempt through them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use selvedge_msp::SigningIdentity;
use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{
    Call, ChannelInfo, ClientTls, CommitStatus, Deadlines, DirectClient, DirectConfig, Endpoint, Error,
    Gateway, Invocation, Nonce, PeerAddress, PeerClient, Retry, RpcError, endorsement_policy,
};
use tokio::time::Instant;

use super::judge::{Failed, Meaning, failed_in, meaning};
use crate::EdgeError;
use crate::buffer::State;
use crate::config::{Endorsers, UplinkConfig, UplinkMode};
use crate::identities::{IdentityId, identity_id};

/// A node with its settings read.
#[derive(Debug, Clone)]
struct Node {
    msp_id: String,
    endpoint: Endpoint,
}

/// The nodes of the configuration, as their files were when they were read.
#[derive(Debug)]
struct Known {
    peers: Vec<Node>,
    orderers: Vec<Node>,
    /// Content of every TLS file.
    files: Vec<Vec<u8>>,
}

impl Known {
    fn read(config: &UplinkConfig) -> Result<Self, EdgeError> {
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
            // Read first: what is written after it is found to be new at the next look.
            files: tls_files(config)?,
            peers: nodes(&config.peers)?,
            orderers: nodes(&config.orderers)?,
        })
    }
}

fn tls_files(config: &UplinkConfig) -> Result<Vec<Vec<u8>>, EdgeError> {
    let nodes = config.peers.iter().chain(&config.orderers);
    nodes
        .flat_map(|node| [&node.tls_roots, &node.client_certificate, &node.client_key])
        .flatten()
        .map(|path| crate::config::read(path))
        .collect()
}

/// Connections to the network.
pub(crate) struct Nodes {
    config: UplinkConfig,
    known: Mutex<Arc<Known>>,
    /// Index of the peer in use for each channel, the first where none is named; moves on when it fails. A peer may be well
    /// and not in a channel.
    preferred: Mutex<HashMap<String, usize>>,
    /// Index of the peer that was used last.
    last_used: AtomicUsize,
    gateways: Mutex<HashMap<(IdentityId, usize), Gateway>>,
    direct: Mutex<HashMap<(IdentityId, String), Direct>>,
    /// Clients for questions outside a transaction, by index of the peer.
    clients: Mutex<HashMap<usize, PeerClient>>,
    /// Held while a channel's configuration or a chaincode's policy is asked for: those who need it as well wait for the one
    /// answer.
    asking: tokio::sync::Mutex<()>,
    /// A configuration that is doubted is read again if it is so old.
    read_again: Duration,
    /// Height of each channel that was seen, at any peer.
    heights: Mutex<HashMap<String, u64>>,
}

/// After failures that a change of the channel's configuration would explain, it is read again, but not more often than this.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// The direct clients of one channel.
#[derive(Clone)]
struct Direct {
    client: DirectClient,
    info: Arc<ChannelInfo>,
    /// The same with the policies of chaincodes.
    chaincodes: Arc<Mutex<HashMap<String, DirectClient>>>,
    /// When the configuration was read.
    read: Instant,
    /// Something failed that a change of the configuration would explain.
    doubted: Arc<AtomicBool>,
}

/// What the peers say of a transaction that none of them has.
#[derive(Debug)]
pub(crate) struct Absence {
    /// The lowest and the highest height of those that answered.
    pub(crate) heights: (u64, u64),
    /// Why it may be on the ledger all the same; empty if nothing speaks for it.
    pub(crate) doubt: String,
}

/// What an attempt tells while it is under way.
pub(crate) trait Stages {
    /// It has reached this state.
    fn reached(&self, state: State);
    /// It is about to be handed to an orderer; an error keeps it from that.
    fn submitting(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Nodes {
    pub(crate) fn new(config: UplinkConfig) -> Result<Self, EdgeError> {
        Ok(Self {
            known: Mutex::new(Arc::new(Known::read(&config)?)),
            config,
            preferred: Mutex::default(),
            last_used: AtomicUsize::new(0),
            gateways: Mutex::default(),
            direct: Mutex::default(),
            clients: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            read_again: READ_AGAIN,
            heights: Mutex::default(),
        })
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock())
    }

    /// Reads the TLS files again; whether they hold something else. New connections are made with it then, and what is under
    /// way ends on the old ones.
    ///
    /// # Errors
    /// A file cannot be read or used; the former state stays.
    pub(crate) fn look(&self) -> Result<bool, EdgeError> {
        if tls_files(&self.config)? == self.known().files {
            return Ok(false);
        }
        let known = Known::read(&self.config)?;
        for node in known.peers.iter().chain(&known.orderers) {
            if let Some(tls) = &node.endpoint.tls {
                // A file may be half written at the moment.
                tls.rustls(&[])?;
            }
        }
        *self.known.lock() = Arc::new(known);
        self.gateways.lock().clear();
        self.direct.lock().clear();
        self.clients.lock().clear();
        Ok(true)
    }

    /// The peers to dial, in the order of the configuration.
    pub(crate) fn peers(&self) -> Vec<Endpoint> {
        self.known().peers.iter().map(|n| n.endpoint.clone()).collect()
    }

    fn peer_index(&self, channel: &str) -> usize {
        self.preferred.lock().get(channel).copied().unwrap_or(0)
    }

    fn peer_client(&self, index: usize) -> Result<PeerClient, Error> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(&index) {
            return Ok(client.clone());
        }
        let known = self.known();
        let node = &known.peers[index];
        let client = PeerClient::new(&node.msp_id, &node.endpoint)?;
        clients.insert(index, client.clone());
        Ok(client)
    }

    /// Address of the peer that was used last.
    pub(crate) fn peer(&self) -> &str {
        &self.config.peers[self.last_used.load(Ordering::Relaxed)].address
    }

    /// How many peers there are to turn to.
    pub(crate) fn peer_count(&self) -> usize {
        self.config.peers.len()
    }

    /// Peer `from` is of no use for a channel: the next one is used, unless somebody has turned away from it already. Whether
    /// that is news: many requests that were sent to one peer fail one after the other, and say nothing of the next.
    pub(crate) fn move_on(&self, channel: &str, from: usize) -> bool {
        let mut preferred = self.preferred.lock();
        let used = preferred.entry(channel.to_owned()).or_insert(0);
        if *used != from {
            return false;
        }
        *used = (from + 1) % self.config.peers.len();
        true
    }

    /// Nobody answers: the next attempt is made with fresh addresses and connections.
    pub(crate) fn connect_anew(&self, channel: &str, peer: usize) {
        self.direct.lock().retain(|(_, of), _| of != channel);
        self.clients.lock().remove(&peer);
    }

    /// Clients of identities that are not needed any more go.
    pub(crate) fn keep_only(&self, needed: impl Fn(&IdentityId) -> bool) {
        self.gateways.lock().retain(|(id, _), _| needed(id));
        self.direct.lock().retain(|(id, _), _| needed(id));
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

    /// One attempt: endorse, order, learn the verdict.
    pub(crate) async fn attempt(
        &self,
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
        stages: &impl Stages,
    ) -> Result<CommitStatus, Failed> {
        let channel = invocation.channel();
        let peer = self.peer_index(channel);
        self.last_used.store(peer, Ordering::Relaxed);
        let attempt = match self.config.mode {
            UplinkMode::Gateway => {
                self.through_gateway(peer, identity, invocation, nonce, stages)
                    .await
            }
            UplinkMode::Direct => self.directly(peer, identity, invocation, nonce, stages).await,
        };
        let doubtful = match &attempt {
            // A policy that has changed, or one that the chaincode's definition does not tell.
            Ok(status) => status.code == TxValidationCode::EndorsementPolicyFailure,
            // Other orderers, roots or policies than those that were read.
            Err((_, error)) => matches!(
                error,
                Error::Ordering { .. } | Error::Endorsement { .. } | Error::PolicyNotMet(_)
            ),
        };
        if doubtful {
            self.doubt(channel, attempt.is_ok());
        }
        let failed = |(state, error)| Failed { state, error, peer };
        let status = attempt.map_err(failed)?;
        self.saw_height(channel, status.block_number.saturating_add(1));
        if status.code != TxValidationCode::DuplicateTxid {
            return Ok(status);
        }
        // An earlier attempt got through as well; its verdict is what counts.
        let id = nonce.transaction_id(identity);
        let known = self.look_up(identity, channel, &id).await;
        known
            .map_err(failed_in(State::CommitError))
            .map_err(failed)?
            .map_err(|_| {
                let unknown = Error::Request(format!(
                    "transaction {id} is a duplicate of one that no peer knows yet"
                ));
                failed((State::CommitError, unknown))
            })
    }

    /// What was read of a channel may not be so any more; the policies of its chaincodes are read again at once if the
    /// ledger says so, since every further attempt is recorded there.
    fn doubt(&self, channel: &str, policies: bool) {
        for ((_, of), direct) in self.direct.lock().iter() {
            if of == channel {
                direct.doubted.store(true, Ordering::Relaxed);
                if policies {
                    direct.chaincodes.lock().clear();
                }
            }
        }
    }

    fn saw_height(&self, channel: &str, height: u64) {
        let mut heights = self.heights.lock();
        let known = heights.entry(channel.to_owned()).or_default();
        *known = height.max(*known);
    }

    fn gateway(&self, index: usize, identity: &SigningIdentity) -> Result<Gateway, Error> {
        let key = (identity_id(identity), index);
        if let Some(gateway) = self.gateways.lock().get(&key) {
            return Ok(gateway.clone());
        }
        let gateway = Gateway::connect(&self.known().peers[index].endpoint, identity.clone())?
            .with_deadlines(self.deadlines());
        self.gateways.lock().insert(key, gateway.clone());
        Ok(gateway)
    }

    async fn through_gateway(
        &self,
        peer: usize,
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
        stages: &impl Stages,
    ) -> Result<CommitStatus, (State, Error)> {
        let endorsing = || failed_in(State::EndorsementError);
        let gateway = self.gateway(peer, identity).map_err(endorsing())?;
        let proposal = gateway.propose_with(invocation, nonce).map_err(endorsing())?;
        let id = proposal.transaction_id().to_owned();
        match gateway.endorse(&proposal).await {
            Ok(transaction) => {
                stages.reached(State::PendingOrdering);
                stages
                    .submitting()
                    .await
                    .map_err(failed_in(State::OrderingError))?;
                gateway
                    .submit(&transaction)
                    .await
                    .map_err(failed_in(State::OrderingError))?;
            }
            // An earlier attempt got through: its verdict is what counts.
            Err(error) if error.retry() == Retry::LookUp => {}
            Err(error) => return Err(endorsing()(error)),
        }
        stages.reached(State::PendingCommit);
        gateway
            .commit_status(invocation.channel(), &id)
            .await
            .map_err(failed_in(State::CommitError))
    }

    /// The client for a chaincode: with its endorsement policy, so that the fewest peers that satisfy it are asked.
    async fn direct_client(
        &self,
        peer: usize,
        identity: &SigningIdentity,
        channel: &str,
        chaincode: &str,
    ) -> Result<DirectClient, Error> {
        let direct = self.channel_client(peer, identity, channel).await?;
        if self.config.endorsers == Endorsers::All {
            return Ok(direct.client);
        }
        let asked_before = || direct.chaincodes.lock().get(chaincode).cloned();
        if let Some(client) = asked_before() {
            return Ok(client);
        }
        let _asking = self.asking.lock().await;
        if let Some(client) = asked_before() {
            return Ok(client);
        }
        let peer = self.peer_client(peer)?;
        let policy = match endorsement_policy(&peer, identity, &direct.info, chaincode).await {
            Ok(policy) => Some(policy),
            // Who may not ask for the definition, or asks a peer that has none, gets the endorsements of all.
            Err(error @ (Error::Refused { .. } | Error::ChannelConfig { .. })) => {
                tracing::warn!(%channel, %chaincode, %error, "the endorsement policy cannot be read; all peers are asked");
                None
            }
            Err(error) => return Err(error),
        };
        let client = direct.client.with_policy(policy)?;
        direct
            .chaincodes
            .lock()
            .insert(chaincode.to_owned(), client.clone());
        Ok(client)
    }

    async fn channel_client(
        &self,
        peer: usize,
        identity: &SigningIdentity,
        channel: &str,
    ) -> Result<Direct, Error> {
        let key = (identity_id(identity), channel.to_owned());
        let asked_before = || self.direct.lock().get(&key).cloned();
        let good = |direct: &Direct| {
            !direct.doubted.load(Ordering::Relaxed) || direct.read.elapsed() < self.read_again
        };
        if let Some(direct) = asked_before().filter(good) {
            return Ok(direct);
        }
        let _asking = self.asking.lock().await;
        let before = asked_before();
        if let Some(direct) = before.clone().filter(good) {
            return Ok(direct);
        }
        let peer = self.peer_client(peer)?;
        let info = ChannelInfo::fetch(&peer, identity, channel).await?;
        let client = match before {
            // The connections stay, and what is known of who fails.
            Some(direct) if direct.info.sequence == info.sequence => direct.client,
            _ => self.client_for(identity, &info)?,
        };
        let direct = Direct {
            client,
            info: Arc::new(info),
            chaincodes: Arc::default(),
            read: Instant::now(),
            doubted: Arc::default(),
        };
        self.direct.lock().insert(key, direct.clone());
        Ok(direct)
    }

    fn client_for(&self, identity: &SigningIdentity, info: &ChannelInfo) -> Result<DirectClient, Error> {
        let known = self.known();
        let endorsers = known.peers.iter().map(|n| PeerAddress {
            msp_id: n.msp_id.clone(),
            endpoint: n.endpoint.clone(),
        });
        let orderers = if known.orderers.is_empty() {
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
            known.orderers.iter().map(|n| n.endpoint.clone()).collect()
        };
        DirectClient::new(DirectConfig {
            identity: identity.clone(),
            endorsers: endorsers.collect(),
            orderers,
            events: Vec::new(),
            msps: Arc::clone(&info.msps),
            policy: None,
            deadlines: self.deadlines(),
        })
    }

    async fn directly(
        &self,
        peer: usize,
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
        stages: &impl Stages,
    ) -> Result<CommitStatus, (State, Error)> {
        let endorsing = || failed_in(State::EndorsementError);
        let channel = invocation.channel();
        let client = self.direct_client(peer, identity, channel, invocation.chaincode());
        let client = self
            .in_time(Call::ProcessProposal, client)
            .await
            .map_err(not_of_the_contract)
            .map_err(endorsing())?;
        let proposal = client.propose_with(invocation, nonce).map_err(endorsing())?;
        let id = proposal.transaction_id().to_owned();
        match client.endorse_by(&proposal).await {
            Ok((transaction, endorsers)) => {
                stages.reached(State::PendingOrdering);
                stages
                    .submitting()
                    .await
                    .map_err(failed_in(State::OrderingError))?;
                // Listening begins before the submission, so that the commit cannot be missed.
                let ordering = || failed_in(State::OrderingError);
                let listening = self.in_time(Call::Deliver, client.listen(channel, &id)).await;
                let listener = listening.map_err(ordering())?;
                client.submit(&transaction).await.map_err(ordering())?;
                stages.reached(State::PendingCommit);
                let stream = listener.stream();
                let mut told = listener.wait(Some(self.config.deadline)).await;
                if let Err(late @ Error::CommitTimeout { .. }) = told {
                    // The ledger is asked. If it has the transaction, the stream is dead.
                    told = self
                        .look_up(identity, channel, &id)
                        .await
                        .and_then(|found| found.map_err(|_| late));
                    if told.is_ok() {
                        tracing::debug!(%channel, "the stream of commits tells nothing; another is opened");
                        client.leave_silent(channel, &stream).await;
                    }
                }
                let status = told.map_err(failed_in(State::CommitError))?;
                if status.is_stale() {
                    client.avoid(&endorsers);
                }
                Ok(status)
            }
            Err(error) if error.retry() == Retry::LookUp => {
                stages.reached(State::PendingCommit);
                let known = self
                    .look_up(identity, channel, &id)
                    .await
                    .map_err(failed_in(State::CommitError))?;
                known.map_err(|_| failed_in(State::CommitError)(error))
            }
            Err(error) => Err(endorsing()(error)),
        }
    }

    /// Lets a call that has no limit of its own take as long as any other: a link that swallows everything must not keep
    /// the slots of those who wait for it.
    async fn in_time<T>(&self, call: Call, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.config.deadline;
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(Error::Rpc(Box::new(RpcError::deadline(call, None, limit)))))
    }

    /// The verdict on a transaction, asked of the peers one after the other; or what they say of a transaction that none of
    /// those that answer has.
    ///
    /// # Errors
    /// No peer answers.
    pub(crate) async fn look_up(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        id: &str,
    ) -> Result<Result<CommitStatus, Absence>, Error> {
        let mut last = None;
        let mut heights: Option<(u64, u64)> = None;
        let mut silent = Vec::new();
        let first = self.peer_index(channel);
        let peers = self.config.peers.len();
        for offset in 0..peers {
            let index = (first + offset) % peers;
            let peer = self.peer_client(index)?;
            let asked = tokio::time::timeout(self.config.deadline, verdict_of(&peer, identity, channel, id));
            match asked.await {
                Ok(Ok(Found::Verdict(status))) => {
                    self.saw_height(channel, status.block_number.saturating_add(1));
                    return Ok(Ok(status));
                }
                Ok(Ok(Found::NotUpTo(height))) => {
                    let (lowest, highest) = heights.unwrap_or((height, height));
                    heights = Some((lowest.min(height), highest.max(height)));
                }
                Ok(Err(error)) => {
                    // One that says no to this gateway will not tell tomorrow either, and is not waited for.
                    if !matches!(meaning(&error), Meaning::Held | Meaning::Refused) {
                        silent.push(peer.address().to_owned());
                    }
                    last = Some(error);
                }
                Err(_) => {
                    // Its connection may be dead without either end knowing.
                    self.clients.lock().remove(&index);
                    silent.push(peer.address().to_owned());
                    last = Some(Error::CommitTimeout {
                        transaction_id: id.to_owned(),
                        waited_ms: self.config.deadline.as_millis(),
                    });
                }
            }
        }
        let Some(heights) = heights else {
            let nobody = || Error::Request("no peer is configured".to_owned());
            return Err(not_of_the_contract(last.unwrap_or_else(nobody)));
        };
        self.saw_height(channel, heights.1);
        let seen = self.heights.lock().get(channel).copied().unwrap_or_default();
        let doubt = if !silent.is_empty() {
            format!("{} may have it, and does not answer", silent.join(", "))
        } else if heights.1 < seen {
            format!(
                "the peers that answer have {} blocks of channel {channel}, and {seen} were seen",
                heights.1
            )
        } else {
            String::new()
        };
        Ok(Err(Absence { heights, doubt }))
    }
}

/// What a peer's own chaincodes refuse (the channel is not there, this gateway may not read it) says nothing about the
/// request: somebody can mend it.
fn not_of_the_contract(error: Error) -> Error {
    match error {
        Error::Refused {
            endorser,
            status,
            message,
        } => Error::Request(format!(
            "peer {endorser} does not tell this gateway about the channel: {status}, {message}"
        )),
        other => other,
    }
}

/// What one peer says of a transaction.
enum Found {
    Verdict(CommitStatus),
    /// It is in none of so many first blocks of the channel.
    NotUpTo(u64),
}

async fn verdict_of(
    peer: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
    id: &str,
) -> Result<Found, Error> {
    // Asked first: what is not there after that is not in these blocks.
    let height = peer.chain_info(identity, channel).await?.height;
    let processed = match peer.transaction(identity, channel, id).await {
        Ok(processed) => processed,
        // What qscc says of an id that it does not know, ours as Fabric's.
        Err(Error::Refused { message, .. }) if message.contains("no such transaction") => {
            return Ok(Found::NotUpTo(height));
        }
        // It told the height, so this is about its index and not about who asks.
        Err(Error::Refused {
            endorser, message, ..
        }) => {
            return Err(Error::Malformed {
                from: endorser,
                why: message,
            });
        }
        Err(error) => return Err(error),
    };
    let block = peer.block_of(identity, channel, id).await?;
    let code =
        TxValidationCode::try_from(processed.validation_code).unwrap_or(TxValidationCode::InvalidOtherReason);
    Ok(Found::Verdict(CommitStatus {
        transaction_id: id.to_owned(),
        code,
        block_number: block.header.map(|h| h.number).unwrap_or_default(),
    }))
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
