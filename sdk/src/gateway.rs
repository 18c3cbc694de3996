//! Transactions through a peer's gateway service (spec 04 §1).

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use selvedge_comm::{Calls, Endpoint, MAX_MESSAGE_BYTES, StreamedCall, request_within};
use selvedge_msp::SigningIdentity;
use selvedge_proto::gateway::gateway_client::GatewayClient;
use selvedge_proto::{gateway, protos};
use tonic::transport::Channel;

use crate::commits::Feeds;
use crate::deliver::{Blocks, BlocksWithPrivateData, FilteredBlocks, Seek, seek_envelope};
use crate::error::{Call, Error, RpcError};
use crate::events::{ChaincodeEvents, EventsFrom, EventsRequest};
use crate::peer::{PeerClient, tls_cert_hash};
use crate::proposal::{Invocation, Nonce, Proposal};
use crate::transaction::{CommitRequest, CommitStatus, Committed, Stages, Transaction};

/// How long to wait for the answer of each call; none waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Limit of an evaluation.
    pub evaluate: Option<Duration>,
    /// Limit for all endorsements of a transaction.
    pub endorse: Option<Duration>,
    /// Limit for an orderer's answer.
    pub submit: Option<Duration>,
    /// Limit for the commit of a submitted transaction.
    pub commit_status: Option<Duration>,
}

impl Default for Deadlines {
    /// What Fabric's samples use: 5 s, 15 s, 5 s, 60 s.
    fn default() -> Self {
        Self {
            evaluate: Some(Duration::from_secs(5)),
            endorse: Some(Duration::from_secs(15)),
            submit: Some(Duration::from_secs(5)),
            commit_status: Some(Duration::from_secs(60)),
        }
    }
}

/// A client of one peer's gateway under one identity. Clones share the connection.
#[derive(Clone)]
pub struct Gateway {
    address: String,
    channel: Channel,
    client: GatewayClient<Channel>,
    /// Where the calls go if the peer takes them over one stream; none: each goes by itself.
    calls: Option<Arc<Calls>>,
    identity: SigningIdentity,
    deadlines: Deadlines,
    tls_cert_hash: Option<Bytes>,
    /// Where commits are heard of, if not by asking for each.
    commits: Option<Arc<Feeds>>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("address", &self.address)
            .field("msp_id", &self.identity.msp_id())
            .finish_non_exhaustive()
    }
}

/// Runs a call under its limit, told to the server as `grpc-timeout` and kept here as well.
pub(crate) async fn call<Q, A, F, Fut>(
    call: Call,
    transaction_id: Option<&str>,
    limit: Option<Duration>,
    message: Q,
    send: F,
) -> Result<A, Error>
where
    F: FnOnce(tonic::Request<Q>) -> Fut,
    Fut: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
{
    let answer = async {
        let answer = send(request_within(message, limit)).await;
        answer.map(tonic::Response::into_inner)
    };
    within(call, transaction_id, limit, answer).await
}

/// As [`call`], over the stream of calls where the peer takes them so.
pub(crate) async fn call_streamed<Q, F, Fut>(
    calls: Option<&Calls>,
    call: Call,
    transaction_id: Option<&str>,
    limit: Option<Duration>,
    message: Q,
    send: F,
) -> Result<Q::Answer, Error>
where
    Q: StreamedCall,
    F: FnOnce(tonic::Request<Q>) -> Fut,
    Fut: Future<Output = Result<tonic::Response<Q::Answer>, tonic::Status>>,
{
    let Some(calls) = calls else {
        return self::call(call, transaction_id, limit, message, send).await;
    };
    let answer = calls.call_or_singly(message, limit, send);
    within(call, transaction_id, limit, answer).await
}

/// Waits for the answer of a call, and no longer than its limit.
async fn within<A>(
    call: Call,
    transaction_id: Option<&str>,
    limit: Option<Duration>,
    answer: impl Future<Output = Result<A, tonic::Status>>,
) -> Result<A, Error> {
    let result = match limit {
        Some(limit) => tokio::time::timeout(limit, answer)
            .await
            .map_err(|_| Error::Rpc(Box::new(RpcError::deadline(call, transaction_id, limit))))?,
        None => answer.await,
    };
    result.map_err(|status| Error::rpc(call, transaction_id, &status))
}

impl Gateway {
    /// A client of the gateway at `endpoint`. The connection is made on first use and again after a loss.
    ///
    /// # Errors
    /// The address or the TLS settings are not usable.
    pub fn connect(endpoint: &Endpoint, identity: SigningIdentity) -> Result<Self, Error> {
        Ok(Self {
            tls_cert_hash: tls_cert_hash(endpoint)?,
            ..Self::with_channel(&endpoint.address, endpoint.connect_lazy()?, identity)
        })
    }

    /// A client over a connection made elsewhere; `address` is for messages.
    pub fn with_channel(address: &str, channel: Channel, identity: SigningIdentity) -> Self {
        Self {
            address: address.to_owned(),
            client: GatewayClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            calls: Some(Arc::new(Calls::new(channel.clone()))),
            channel,
            identity,
            deadlines: Deadlines::default(),
            tls_cert_hash: None,
            commits: None,
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// The same, hearing of commits from the peer's filtered blocks: one stream for all that [`Self::submit_and_wait`] waits
    /// for, instead of a signed request for each. It saves a signature, its check and a call a transaction
    /// where most of a channel's transactions are the caller's own; where they are others', the stream has more bytes than the
    /// requests.
    #[must_use]
    pub fn with_commit_stream(mut self) -> Self {
        self.commits = Some(Arc::default());
        self
    }

    /// The same, making each call by itself, as Fabric's clients do. Otherwise calls share a stream wherever the peer knows of
    /// it, which costs both sides less.
    #[must_use]
    pub fn with_single_calls(mut self) -> Self {
        self.calls = None;
        self
    }

    /// The same connection under another identity.
    #[must_use]
    pub fn with_identity(mut self, identity: SigningIdentity) -> Self {
        self.identity = identity;
        // A stream is opened with somebody's right to read.
        self.commits = self.commits.map(|_| Arc::default());
        self
    }

    /// The identity that signs.
    pub fn identity(&self) -> &SigningIdentity {
        &self.identity
    }

    /// `host:port` of the peer.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A signed proposal with a new nonce.
    ///
    /// # Errors
    /// No randomness, or the key cannot sign.
    pub fn propose(&self, invocation: &Invocation) -> Result<Proposal, Error> {
        self.propose_with(invocation, &Nonce::random()?)
    }

    /// A signed proposal with a stored nonce and a fresh time stamp: the same transaction id again.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn propose_with(&self, invocation: &Invocation, nonce: &Nonce) -> Result<Proposal, Error> {
        Proposal::signed_by(&self.identity, invocation, nonce, SystemTime::now())
    }

    /// Asks the contract without writing anything.
    ///
    /// # Errors
    /// The contract refuses, or no peer can run it.
    pub async fn evaluate(&self, invocation: &Invocation) -> Result<Bytes, Error> {
        self.evaluate_proposal(&self.propose(invocation)?).await
    }

    /// Asks the contract with a signed proposal.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub async fn evaluate_proposal(&self, proposal: &Proposal) -> Result<Bytes, Error> {
        let request = gateway::EvaluateRequest {
            transaction_id: proposal.transaction_id().to_owned(),
            channel_id: proposal.channel().to_owned(),
            proposed_transaction: Some(proposal.signed()?),
            target_organizations: proposal.endorsing_orgs().to_vec(),
        };
        let id = Some(proposal.transaction_id());
        let answer = call_streamed(
            self.calls.as_deref(),
            Call::Evaluate,
            id,
            self.deadlines.evaluate,
            request,
            |r| {
                let mut client = self.client.clone();
                async move { client.evaluate(r).await }
            },
        )
        .await?;
        Ok(answer.result.unwrap_or_default().payload)
    }

    /// Collects the endorsements of a proposal. The transaction comes back signed when this gateway's identity is its
    /// creator; otherwise sign it with [`Transaction::set_signature`].
    ///
    /// # Errors
    /// The contract refuses, endorsers differ, or too few answer; the details name each endorser.
    pub async fn endorse(&self, proposal: &Proposal) -> Result<Transaction, Error> {
        let request = gateway::EndorseRequest {
            transaction_id: proposal.transaction_id().to_owned(),
            channel_id: proposal.channel().to_owned(),
            proposed_transaction: Some(proposal.signed()?),
            endorsing_organizations: proposal.endorsing_orgs().to_vec(),
        };
        let id = Some(proposal.transaction_id());
        let answer = call_streamed(
            self.calls.as_deref(),
            Call::Endorse,
            id,
            self.deadlines.endorse,
            request,
            |r| {
                let mut client = self.client.clone();
                async move { client.endorse(r).await }
            },
        )
        .await?;
        let envelope = answer
            .prepared_transaction
            .ok_or_else(|| Error::malformed(&self.address, "it endorsed, and sent no transaction"))?;
        let mut transaction = Transaction::from_envelope(envelope)?;
        if transaction.transaction_id() != proposal.transaction_id() {
            return Err(Error::malformed(
                &self.address,
                format!(
                    "it endorsed transaction {} instead of {}",
                    transaction.transaction_id(),
                    proposal.transaction_id()
                ),
            ));
        }
        if transaction.creator() == self.identity.creator() {
            transaction.sign(&self.identity)?;
        }
        Ok(transaction)
    }

    /// Hands a signed transaction to the orderers. Success means that it will be ordered, not that it is valid.
    ///
    /// # Errors
    /// It is not signed, or no orderer took it.
    pub async fn submit(&self, transaction: &Transaction) -> Result<(), Error> {
        if !transaction.is_signed() {
            return Err(Error::Request(format!(
                "transaction {} is not signed; sign it first",
                transaction.transaction_id()
            )));
        }
        let request = gateway::SubmitRequest {
            transaction_id: transaction.transaction_id().to_owned(),
            channel_id: transaction.channel().to_owned(),
            prepared_transaction: Some(transaction.envelope().clone()),
        };
        let id = Some(transaction.transaction_id());
        call_streamed(
            self.calls.as_deref(),
            Call::Submit,
            id,
            self.deadlines.submit,
            request,
            |r| {
                let mut client = self.client.clone();
                async move { client.submit(r).await }
            },
        )
        .await?;
        Ok(())
    }

    /// Waits until a transaction is on the ledger and says what became of it.
    ///
    /// # Errors
    /// The limit passed first, or the caller may not read the channel.
    pub async fn commit_status(&self, channel: &str, transaction_id: &str) -> Result<CommitStatus, Error> {
        let mut request = CommitRequest::new(channel, transaction_id, self.identity.creator());
        request.sign(&self.identity)?;
        self.commit_status_of(&request).await
    }

    /// [`Self::commit_status`] for a request that was signed elsewhere.
    ///
    /// # Errors
    /// As [`Self::commit_status`].
    pub async fn commit_status_of(&self, request: &CommitRequest) -> Result<CommitStatus, Error> {
        let id = request.transaction_id().to_owned();
        let limit = self.deadlines.commit_status;
        let answer = call_streamed(
            self.calls.as_deref(),
            Call::CommitStatus,
            Some(&id),
            limit,
            request.signed(),
            |r| {
                let mut client = self.client.clone();
                async move { client.commit_status(r).await }
            },
        )
        .await?;
        let code = protos::TxValidationCode::try_from(answer.result).map_err(|_| {
            Error::malformed(
                &self.address,
                format!("unknown validation code {}", answer.result),
            )
        })?;
        Ok(CommitStatus {
            transaction_id: id,
            code,
            block_number: answer.block_number,
        })
    }

    /// Endorses, submits and waits for the commit.
    ///
    /// # Errors
    /// Whatever stage failed; an invalid transaction is [`Error::Commit`].
    pub async fn submit_and_wait(&self, invocation: &Invocation) -> Result<Committed, Error> {
        self.submit_proposal_and_wait(&self.propose(invocation)?).await
    }

    /// [`Self::submit_and_wait`] for a signed proposal of this gateway's identity.
    ///
    /// # Errors
    /// As [`Self::submit_and_wait`].
    pub async fn submit_proposal_and_wait(&self, proposal: &Proposal) -> Result<Committed, Error> {
        let start = Instant::now();
        let transaction = self.endorse(proposal).await?;
        let endorsed = start.elapsed();
        let (channel, id) = (transaction.channel(), transaction.transaction_id());
        // Listening begins before the submission: the commit cannot be missed.
        let listener = match &self.commits {
            Some(feeds) => Some(
                feeds
                    .listen(|| vec![self.peer()], &self.identity, channel, id)
                    .await?,
            ),
            None => None,
        };
        self.submit(&transaction).await?;
        let ordered = start.elapsed();
        let status = match listener {
            Some(listener) => listener.wait(self.deadlines.commit_status).await?,
            None => self.commit_status(channel, id).await?,
        };
        let block_number = status.ok()?;
        Ok(Committed {
            transaction_id: transaction.transaction_id().to_owned(),
            result: transaction.result().clone(),
            block_number,
            stages: Stages {
                endorsed,
                checked: endorsed,
                ordered,
                committed: start.elapsed(),
            },
        })
    }

    /// Opens the stream of a chaincode's events.
    ///
    /// # Errors
    /// The caller may not read the channel, or the peer does not answer.
    pub async fn chaincode_events(
        &self,
        channel: &str,
        chaincode: &str,
        from: EventsFrom,
    ) -> Result<ChaincodeEvents, Error> {
        ChaincodeEvents::open(self.clone(), channel.to_owned(), chaincode.to_owned(), from).await
    }

    pub(crate) async fn events_stream(
        &self,
        request: &EventsRequest,
    ) -> Result<tonic::Streaming<gateway::ChaincodeEventsResponse>, Error> {
        let mut client = self.client.clone();
        call(
            Call::ChaincodeEvents,
            None,
            None,
            request.signed(),
            |r| async move { client.chaincode_events(r).await },
        )
        .await
    }

    fn peer(&self) -> PeerClient {
        PeerClient::with_channel(self.identity.msp_id(), &self.address, self.channel.clone())
            .with_tls_cert_hash(self.tls_cert_hash.clone())
    }

    /// Opens a stream of whole blocks, as the peer validated them.
    ///
    /// # Errors
    /// The key cannot sign, or the peer does not answer.
    pub async fn blocks(&self, channel: &str, seek: Seek) -> Result<Blocks, Error> {
        let envelope = seek_envelope(&self.identity, channel, seek, self.tls_cert_hash.clone())?;
        self.peer().blocks_by(channel, envelope).await
    }

    /// Opens a stream of filtered blocks: transaction ids, verdicts, event names.
    ///
    /// # Errors
    /// As [`Self::blocks`].
    pub async fn filtered_blocks(&self, channel: &str, seek: Seek) -> Result<FilteredBlocks, Error> {
        let envelope = seek_envelope(&self.identity, channel, seek, self.tls_cert_hash.clone())?;
        self.peer().filtered_blocks_by(channel, envelope).await
    }

    /// Opens a stream of blocks with the private data that the caller's organisation may see.
    ///
    /// # Errors
    /// As [`Self::blocks`].
    pub async fn blocks_with_private_data(
        &self,
        channel: &str,
        seek: Seek,
    ) -> Result<BlocksWithPrivateData, Error> {
        let envelope = seek_envelope(&self.identity, channel, seek, self.tls_cert_hash.clone())?;
        self.peer().blocks_with_private_data_by(channel, envelope).await
    }
}
