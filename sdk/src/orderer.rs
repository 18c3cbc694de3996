//! One orderer: submit envelopes, read blocks.

use bytes::Bytes;
use selvedge_comm::{Broadcaster, Endpoint, MAX_MESSAGE_BYTES};
use selvedge_msp::SigningIdentity;
use selvedge_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_proto::{block_last_config_index, common};
use tonic::transport::Channel;

use crate::deliver::{Blocks, Seek, one_and_open, seek_envelope};
use crate::error::{Call, Error};
use crate::gateway::call;
use crate::peer::tls_cert_hash;

/// A client of one orderer; all submissions share one stream.
#[derive(Debug)]
pub struct OrdererClient {
    address: String,
    channel: Channel,
    broadcaster: Broadcaster,
    tls_cert_hash: Option<Bytes>,
}

impl OrdererClient {
    /// A client of the orderer at `endpoint`. The connection is made on first use.
    ///
    /// # Errors
    /// The address or the TLS settings are not usable.
    pub fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        Ok(Self {
            address: endpoint.address.clone(),
            channel: endpoint.connect_lazy()?,
            broadcaster: Broadcaster::new(endpoint)?,
            tls_cert_hash: tls_cert_hash(endpoint)?,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn broadcaster(&self) -> &Broadcaster {
        &self.broadcaster
    }

    /// Submits an envelope: an endorsed transaction or a configuration update.
    ///
    /// # Errors
    /// The orderer refuses it or gives no answer.
    pub async fn broadcast(&self, envelope: common::Envelope) -> Result<(), Error> {
        let answer = self.broadcaster.submit(envelope).await?;
        if answer.status == common::Status::Success as i32 {
            return Ok(());
        }
        Err(Error::Ordering {
            transaction_id: String::new(),
            tried: vec![refusal(&self.address, &answer)],
            is_final: is_final(answer.status),
        })
    }

    /// Opens a stream of blocks.
    ///
    /// # Errors
    /// The key cannot sign, or the orderer cannot be reached.
    pub async fn blocks(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        seek: Seek,
    ) -> Result<Blocks, Error> {
        let envelope = seek_envelope(identity, channel, seek, self.tls_cert_hash.clone())?;
        let mut client = AtomicBroadcastClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let incoming = call(
            Call::Deliver,
            None,
            None,
            one_and_open(envelope),
            |r| async move { client.deliver(r).await },
        )
        .await?;
        Ok(Blocks::new(&self.address, channel, incoming))
    }

    /// One block.
    ///
    /// # Errors
    /// The orderer refuses, has no such block, or cannot be reached.
    pub async fn block(
        &self,
        identity: &SigningIdentity,
        channel: &str,
        seek: Seek,
    ) -> Result<common::Block, Error> {
        let mut blocks = self.blocks(identity, channel, seek).await?;
        blocks.next().await?.ok_or_else(|| Error::StreamEnded {
            from: self.address.clone(),
        })
    }

    /// The block that holds the channel's current configuration, found by the newest block (spec 07 §4).
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn config_block(
        &self,
        identity: &SigningIdentity,
        channel: &str,
    ) -> Result<common::Block, Error> {
        let newest = self.block(identity, channel, Seek::newest()).await?;
        let index = block_last_config_index(&newest).map_err(|e| Error::malformed(&self.address, e))?;
        if newest.header.as_ref().is_some_and(|h| h.number == index) {
            return Ok(newest);
        }
        self.block(identity, channel, Seek::one(index)).await
    }
}

pub(crate) fn refusal(address: &str, answer: &selvedge_proto::orderer::BroadcastResponse) -> String {
    let status = common::Status::try_from(answer.status)
        .map_or_else(|_| answer.status.to_string(), |s| s.as_str_name().to_owned());
    format!("{address}: status={status}, info={}", answer.info)
}

/// An orderer that says 400 to 499 will say so again.
pub(crate) fn is_final(status: i32) -> bool {
    (400..500).contains(&status)
}
