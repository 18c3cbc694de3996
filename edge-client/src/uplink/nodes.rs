//! The peers and orderers that this gateway knows, and one attempt through them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use selvedge_msp::SigningIdentity;
use selvedge_proto::protos::TxValidationCode;
use selvedge_sdk::{
    Call, ChannelInfo, ClientTls, CommitStatus, Deadlines, DirectClient, DirectConfig, Endpoint, Error,
    Gateway, Invocation, Nonce, PeerAddress, PeerClient, Retry, RpcError, endorsement_policy,
};

use super::judge::{Failed, failed_in};
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
    /// Index of the peer in use; moves on when it fails.
    preferred: AtomicUsize,
    gateways: Mutex<HashMap<(IdentityId, usize), Gateway>>,
    direct: Mutex<HashMap<(IdentityId, String), Direct>>,
    /// Clients for questions outside a transaction, by index of the peer.
    clients: Mutex<HashMap<usize, PeerClient>>,
    /// Held while a channel's configuration or a chaincode's policy is asked for: those who need it as well wait for the one
    /// answer.
    asking: tokio::sync::Mutex<()>,
}

/// The direct clients of one channel.
#[derive(Clone)]
struct Direct {
    client: DirectClient,
    info: Arc<ChannelInfo>,
    /// The same with the policies of chaincodes.
    chaincodes: Arc<Mutex<HashMap<String, DirectClient>>>,
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
            preferred: AtomicUsize::new(0),
            gateways: Mutex::default(),
            direct: Mutex::default(),
            clients: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
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

    fn peer_index(&self) -> usize {
        self.preferred.load(Ordering::Relaxed) % self.config.peers.len()
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

    /// Address of the peer in use.
    pub(crate) fn peer(&self) -> &str {
        &self.config.peers[self.peer_index()].address
    }

    /// The peer in use does not answer: the next one is, with fresh addresses and connections.
    pub(crate) fn move_on(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
        self.direct.lock().clear();
        self.clients.lock().clear();
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
        let status = match self.config.mode {
            UplinkMode::Gateway => self.through_gateway(identity, invocation, nonce, stages).await?,
            UplinkMode::Direct => self.directly(identity, invocation, nonce, stages).await?,
        };
        if status.code == TxValidationCode::EndorsementPolicyFailure {
            // A policy that has changed, or one that the chaincode's definition does not tell.
            self.forget_policies();
        }
        if status.code != TxValidationCode::DuplicateTxid {
            return Ok(status);
        }
        // An earlier attempt got through as well; its verdict is what counts.
        let id = nonce.transaction_id(identity);
        let known = self
            .look_up(identity, invocation.channel(), &id)
            .await
            .map_err(failed_in(State::CommitError))?;
        known.ok_or_else(|| {
            failed_in(State::CommitError)(Error::Request(format!(
                "transaction {id} is a duplicate of one that no peer knows yet"
            )))
        })
    }

    fn gateway(&self, identity: &SigningIdentity) -> Result<Gateway, Error> {
        let index = self.peer_index();
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
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
        stages: &impl Stages,
    ) -> Result<CommitStatus, Failed> {
        let endorsing = || failed_in(State::EndorsementError);
        let gateway = self.gateway(identity).map_err(endorsing())?;
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
        identity: &SigningIdentity,
        channel: &str,
        chaincode: &str,
    ) -> Result<DirectClient, Error> {
        let direct = self.channel_client(identity, channel).await?;
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
        let peer = self.peer_client(self.peer_index())?;
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

    /// Policies may have changed: they are read again.
    fn forget_policies(&self) {
        for direct in self.direct.lock().values() {
            direct.chaincodes.lock().clear();
        }
    }

    async fn channel_client(&self, identity: &SigningIdentity, channel: &str) -> Result<Direct, Error> {
        let key = (identity_id(identity), channel.to_owned());
        let asked_before = || self.direct.lock().get(&key).cloned();
        if let Some(direct) = asked_before() {
            return Ok(direct);
        }
        let _asking = self.asking.lock().await;
        if let Some(direct) = asked_before() {
            return Ok(direct);
        }
        let peer = self.peer_client(self.peer_index())?;
        let info = ChannelInfo::fetch(&peer, identity, channel).await?;
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
        let client = DirectClient::new(DirectConfig {
            identity: identity.clone(),
            endorsers: endorsers.collect(),
            orderers,
            events: Vec::new(),
            msps: Arc::clone(&info.msps),
            policy: None,
            deadlines: self.deadlines(),
        })?;
        let direct = Direct {
            client,
            info: Arc::new(info),
            chaincodes: Arc::default(),
        };
        self.direct.lock().insert(key, direct.clone());
        Ok(direct)
    }

    async fn directly(
        &self,
        identity: &SigningIdentity,
        invocation: &Invocation,
        nonce: &Nonce,
        stages: &impl Stages,
    ) -> Result<CommitStatus, Failed> {
        let endorsing = || failed_in(State::EndorsementError);
        let channel = invocation.channel();
        let client = self.direct_client(identity, channel, invocation.chaincode());
        let client = self
            .in_time(Call::ProcessProposal, client)
            .await
            .map_err(not_of_the_contract)
            .map_err(endorsing())?;
        let proposal = client.propose_with(invocation, nonce).map_err(endorsing())?;
        let id = proposal.transaction_id().to_owned();
        match client.endorse(&proposal).await {
            Ok(transaction) => {
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
                let told = listener.wait(Some(self.config.deadline)).await;
                match told {
                    Err(late @ Error::CommitTimeout { .. }) => {
                        self.verdict_unheard(identity, channel, &id, late).await
                    }
                    told => told,
                }
                .map_err(failed_in(State::CommitError))
            }
            Err(error) if error.retry() == Retry::LookUp => {
                stages.reached(State::PendingCommit);
                let known = self
                    .look_up(identity, channel, &id)
                    .await
                    .map_err(failed_in(State::CommitError))?;
                known.ok_or_else(|| failed_in(State::CommitError)(error))
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

    /// The stream of commits told nothing in time: the ledger is asked. If it has the transaction, the stream is dead, and the
    /// next attempt opens another one.
    async fn verdict_unheard(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        id: &str,
        late: Error,
    ) -> Result<CommitStatus, Error> {
        match self.look_up(identity, channel, id).await? {
            Some(status) => {
                tracing::debug!(%channel, "the stream of commits tells nothing; it is opened again");
                let key = (identity_id(identity), channel.to_owned());
                self.direct.lock().remove(&key);
                Ok(status)
            }
            None => Err(late),
        }
    }

    /// The verdict on a transaction, asked of the peers one after the other; none if those that answer do not know it.
    pub(crate) async fn look_up(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        id: &str,
    ) -> Result<Option<CommitStatus>, Error> {
        let mut last = None;
        let mut unknown = false;
        let first = self.peer_index();
        let peers = self.config.peers.len();
        for offset in 0..peers {
            let index = (first + offset) % peers;
            let peer = self.peer_client(index)?;
            let asked = tokio::time::timeout(self.config.deadline, verdict_of(&peer, identity, channel, id));
            match asked.await {
                Ok(Ok(Some(status))) => return Ok(Some(status)),
                Ok(Ok(None)) => unknown = true,
                Ok(Err(error)) => last = Some(error),
                Err(_) => {
                    // Its connection may be dead without either end knowing.
                    self.clients.lock().remove(&index);
                    last = Some(Error::CommitTimeout {
                        transaction_id: id.to_owned(),
                        waited_ms: self.config.deadline.as_millis(),
                    });
                }
            }
        }
        match last {
            Some(error) if !unknown => Err(not_of_the_contract(error)),
            _ => Ok(None),
        }
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

async fn verdict_of(
    peer: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
    id: &str,
) -> Result<Option<CommitStatus>, Error> {
    let processed = match peer.transaction(identity, channel, id).await {
        Ok(processed) => processed,
        // What qscc says of an id that it does not know, ours as Fabric's.
        Err(Error::Refused { message, .. }) if message.contains("no such transaction") => return Ok(None),
        Err(error) => return Err(error),
    };
    let block = peer.block_of(identity, channel, id).await?;
    let code =
        TxValidationCode::try_from(processed.validation_code).unwrap_or(TxValidationCode::InvalidOtherReason);
    Ok(Some(CommitStatus {
        transaction_id: id.to_owned(),
        code,
        block_number: block.header.map(|h| h.number).unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::judge::{Meaning, meaning};
    use super::*;

    #[test]
    fn what_a_peer_does_not_tell_ends_no_request() {
        let refused = || Error::Refused {
            endorser: "peer0:7051".into(),
            status: 500,
            message: "access denied for [GetChannelConfig][trade]".into(),
        };
        assert_eq!(meaning(&refused()), Meaning::Refused, "as the contract's answer");
        let error = not_of_the_contract(refused());
        assert_eq!(meaning(&error), Meaning::Held);
        assert!(error.to_string().contains("access denied"), "{error}");
    }
}
