//! One peer: its endorser, its system chaincodes and its blocks.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvedge_comm::{Calls, Endpoint, MAX_MESSAGE_BYTES};
use selvedge_msp::SigningIdentity;
use selvedge_proto::protos::deliver_client::DeliverClient;
use selvedge_proto::protos::endorser_client::EndorserClient;
use selvedge_proto::{common, protos};
use tonic::transport::Channel;

use crate::deliver::{Blocks, BlocksWithPrivateData, FilteredBlocks, Seek, one_and_open, seek_envelope};
use crate::error::{Call, Error};
use crate::gateway::{call, call_streamed};
use crate::proposal::{Invocation, Nonce, Proposal};

/// What a peer says of a transaction that it refused.
#[derive(serde::Deserialize)]
struct Refusal {
    reason: String,
}

/// A client of one peer. Clones share the connection.
#[derive(Clone)]
pub struct PeerClient {
    msp_id: String,
    address: String,
    channel: Channel,
    /// Where proposals go if the peer takes them over one stream.
    calls: Arc<Calls>,
    tls_cert_hash: Option<Bytes>,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerClient({} of {})", self.address, self.msp_id)
    }
}

impl PeerClient {
    /// A client of the peer of organisation `msp_id` at `endpoint`. The connection is made on first use.
    ///
    /// # Errors
    /// The address or the TLS settings are not usable.
    pub fn new(msp_id: &str, endpoint: &Endpoint) -> Result<Self, Error> {
        let tls_cert_hash = tls_cert_hash(endpoint)?;
        Ok(Self {
            tls_cert_hash,
            ..Self::with_channel(msp_id, &endpoint.address, endpoint.connect_lazy()?)
        })
    }

    /// A client over a connection made elsewhere.
    pub fn with_channel(msp_id: &str, address: &str, channel: Channel) -> Self {
        Self {
            msp_id: msp_id.to_owned(),
            address: address.to_owned(),
            calls: Arc::new(Calls::new(channel.clone())),
            channel,
            tls_cert_hash: None,
        }
    }

    /// The same with the hash of the client's TLS certificate, which requests for blocks name (spec 05 §1).
    pub(crate) fn with_tls_cert_hash(mut self, hash: Option<Bytes>) -> Self {
        self.tls_cert_hash = hash;
        self
    }

    /// The peer's organisation.
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a proposal to this endorser and gives its raw answer, whatever status it has.
    ///
    /// # Errors
    /// The peer cannot be reached or refuses the proposal before running it.
    pub async fn process_proposal(&self, proposal: &Proposal) -> Result<protos::ProposalResponse, Error> {
        let id = Some(proposal.transaction_id());
        call_streamed(
            Some(&self.calls),
            Call::ProcessProposal,
            id,
            None,
            proposal.signed()?,
            |r| {
                let mut client = EndorserClient::new(self.channel.clone())
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES);
                async move { client.process_proposal(r).await }
            },
        )
        .await
    }

    /// Runs a chaincode on this peer alone, system chaincodes included, and gives its answer.
    ///
    /// # Errors
    /// The peer cannot be reached, or the chaincode answers with a status of 400 or more.
    pub async fn call(
        &self,
        identity: &SigningIdentity,
        invocation: &Invocation,
    ) -> Result<protos::Response, Error> {
        let proposal = Proposal::signed_by(
            identity,
            invocation,
            &Nonce::random()?,
            std::time::SystemTime::now(),
        )?;
        let answer = self.process_proposal(&proposal).await?;
        let response = answer
            .response
            .ok_or_else(|| Error::malformed(&self.address, "the answer holds no response"))?;
        if response.status >= 400 {
            return Err(Error::Refused {
                endorser: self.address.clone(),
                status: response.status,
                message: response.message,
            });
        }
        Ok(response)
    }

    async fn query<M: Message + Default>(
        &self,
        identity: &SigningIdentity,
        invocation: &Invocation,
    ) -> Result<M, Error> {
        let payload = self.call(identity, invocation).await?.payload;
        M::decode(payload).map_err(|e| Error::malformed(&self.address, e))
    }

    /// Lets the peer join the channel that starts with `genesis`, a serialised block (spec 08 §2). The identity must be
    /// an admin of the peer's organisation.
    ///
    /// # Errors
    /// The peer refuses; its words say why.
    pub async fn join_channel(&self, identity: &SigningIdentity, genesis: Bytes) -> Result<(), Error> {
        let invocation = Invocation::new("", "cscc", "JoinChain")
            .arg(genesis)
            .config_type();
        self.call(identity, &invocation).await.map(drop)
    }

    /// Channels that the peer has joined.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn channels(&self, identity: &SigningIdentity) -> Result<Vec<String>, Error> {
        let answer: protos::ChannelQueryResponse = self
            .query(identity, &Invocation::new("", "cscc", "GetChannels"))
            .await?;
        Ok(answer.channels.into_iter().map(|c| c.channel_id).collect())
    }

    /// Height and newest hashes of a channel on this peer.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn chain_info(
        &self,
        identity: &SigningIdentity,
        channel: &str,
    ) -> Result<common::BlockchainInfo, Error> {
        let invocation = Invocation::new(channel, "qscc", "GetChainInfo").arg(channel);
        self.query(identity, &invocation).await
    }

    /// A block by its number.
    ///
    /// # Errors
    /// The peer refuses, has no such block, or cannot be reached.
    pub async fn block(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        number: u64,
    ) -> Result<common::Block, Error> {
        let invocation = Invocation::new(channel, "qscc", "GetBlockByNumber")
            .arg(channel)
            .arg(number.to_string());
        self.query(identity, &invocation).await
    }

    /// The block that holds a transaction.
    ///
    /// # Errors
    /// The peer refuses, knows no such transaction, or cannot be reached.
    pub async fn block_of(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        transaction_id: &str,
    ) -> Result<common::Block, Error> {
        let invocation = Invocation::new(channel, "qscc", "GetBlockByTxID")
            .arg(channel)
            .arg(transaction_id);
        self.query(identity, &invocation).await
    }

    /// A transaction with the peer's verdict on it.
    ///
    /// # Errors
    /// The peer refuses, knows no such transaction, or cannot be reached.
    pub async fn transaction(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        transaction_id: &str,
    ) -> Result<protos::ProcessedTransaction, Error> {
        let invocation = Invocation::new(channel, "qscc", "GetTransactionByID")
            .arg(channel)
            .arg(transaction_id);
        self.query(identity, &invocation).await
    }

    /// Why the peer refused a transaction, in its own words; none when it does not remember, or is a peer that does not
    /// tell (Fabric's does not).
    ///
    /// # Errors
    /// The identity may not read the channel, or the peer cannot be reached.
    pub async fn refusal(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        transaction_id: &str,
    ) -> Result<Option<String>, Error> {
        let invocation = Invocation::new(channel, "qscc", "GetTransactionRefusal")
            .arg(channel)
            .arg(transaction_id);
        match self.call(identity, &invocation).await {
            Ok(response) => serde_json::from_slice::<Refusal>(&response.payload)
                .map(|refusal| Some(refusal.reason))
                .map_err(|e| Error::malformed(&self.address, e)),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            // Fabric's peer asks its access control first, which knows no such function.
            Err(Error::Refused { message, .. })
                if message.contains("Unmapped") || message.contains("Requested function") =>
            {
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// The channel's current configuration. The question is asked within the channel, so that a peer of any of its
    /// organisations answers; without a channel a peer knows its own organisation only.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn channel_config(
        &self,
        identity: &SigningIdentity,
        channel: &str,
    ) -> Result<common::Config, Error> {
        let invocation = Invocation::new(channel, "cscc", "GetChannelConfig").arg(channel);
        self.query(identity, &invocation).await
    }

    /// The block that holds the channel's current configuration; asked as [`Self::channel_config`] is.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn config_block(
        &self,
        identity: &SigningIdentity,
        channel: &str,
    ) -> Result<common::Block, Error> {
        self.query(
            identity,
            &Invocation::new(channel, "cscc", "GetConfigBlock").arg(channel),
        )
        .await
    }

    fn deliver(&self) -> DeliverClient<Channel> {
        DeliverClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn seek(&self, identity: &SigningIdentity, channel: &str, seek: Seek) -> Result<common::Envelope, Error> {
        seek_envelope(identity, channel, seek, self.tls_cert_hash.clone())
    }

    /// Opens a stream of whole blocks.
    ///
    /// # Errors
    /// The key cannot sign, or the peer cannot be reached.
    pub async fn blocks(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        seek: Seek,
    ) -> Result<Blocks, Error> {
        self.blocks_by(channel, self.seek(identity, channel, seek)?).await
    }

    /// Opens a stream of whole blocks with a request that was signed elsewhere (see [`crate::seek_payload`]).
    ///
    /// # Errors
    /// The peer cannot be reached.
    pub async fn blocks_by(&self, channel: &str, request: common::Envelope) -> Result<Blocks, Error> {
        let mut client = self.deliver();
        let incoming = call(Call::Deliver, None, None, one_and_open(request), |r| async move {
            client.deliver(r).await
        })
        .await?;
        Ok(Blocks::new(&self.address, channel, incoming))
    }

    /// Opens a stream of filtered blocks.
    ///
    /// # Errors
    /// The key cannot sign, or the peer cannot be reached.
    pub async fn filtered_blocks(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        seek: Seek,
    ) -> Result<FilteredBlocks, Error> {
        self.filtered_blocks_by(channel, self.seek(identity, channel, seek)?)
            .await
    }

    /// Opens a stream of filtered blocks with a request that was signed elsewhere.
    ///
    /// # Errors
    /// The peer cannot be reached.
    pub async fn filtered_blocks_by(
        &self,
        channel: &str,
        request: common::Envelope,
    ) -> Result<FilteredBlocks, Error> {
        let mut client = self.deliver();
        let incoming = call(Call::Deliver, None, None, one_and_open(request), |r| async move {
            client.deliver_filtered(r).await
        })
        .await?;
        Ok(FilteredBlocks::new(&self.address, channel, incoming))
    }

    /// Opens a stream of blocks with private data, with a request that was signed elsewhere.
    ///
    /// # Errors
    /// The peer cannot be reached.
    pub async fn blocks_with_private_data_by(
        &self,
        channel: &str,
        request: common::Envelope,
    ) -> Result<BlocksWithPrivateData, Error> {
        let mut client = self.deliver();
        let incoming = call(Call::Deliver, None, None, one_and_open(request), |r| async move {
            client.deliver_with_private_data(r).await
        })
        .await?;
        Ok(BlocksWithPrivateData::new(&self.address, channel, incoming))
    }
}

/// SHA-256 of the client certificate in the endpoint's TLS settings, for TLS binding (spec 02 §12).
pub(crate) fn tls_cert_hash(endpoint: &Endpoint) -> Result<Option<Bytes>, Error> {
    let identity = endpoint.tls.as_ref().and_then(|tls| tls.identity.as_ref());
    let Some(identity) = identity else {
        return Ok(None);
    };
    Ok(Some(Bytes::copy_from_slice(&crate::sha256(
        &identity.leaf_der()?,
    ))))
}
