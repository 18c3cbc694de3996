//! Chaincode events through a gateway, with resume (spec 04 §2.7, §7).

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{gateway, orderer};

use crate::checkpoint::Checkpoint;
use crate::error::{Call, Error};
use crate::gateway::Gateway;
use crate::sha256;

/// An event that a valid transaction emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaincodeEvent {
    /// The block that holds the transaction.
    pub block_number: u64,
    /// The transaction.
    pub transaction_id: String,
    /// The chaincode that emitted it.
    pub chaincode: String,
    /// Its name.
    pub name: String,
    /// Its content.
    pub payload: Bytes,
}

/// Where to begin listening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsFrom {
    /// With the next block that commits.
    Now,
    /// With this block.
    Block(u64),
    /// After what a checkpoint says is done.
    After(Checkpoint),
}

/// A request for events, signed or about to be.
#[derive(Debug, Clone, PartialEq)]
pub struct EventsRequest {
    request: Bytes,
    signature: Bytes,
}

impl EventsRequest {
    /// Builds an unsigned request of `creator`.
    pub fn new(channel: &str, chaincode: &str, creator: &Bytes, from: &EventsFrom) -> Self {
        use orderer::seek_position::Type;
        let specified = |number| Type::Specified(orderer::SeekSpecified { number });
        let (position, after) = match from {
            EventsFrom::Now => (Type::NextCommit(orderer::SeekNextCommit {}), None),
            EventsFrom::Block(number) => (specified(*number), None),
            EventsFrom::After(checkpoint) => (
                specified(checkpoint.block_number),
                checkpoint.transaction_id.clone(),
            ),
        };
        let request = gateway::ChaincodeEventsRequest {
            channel_id: channel.to_owned(),
            chaincode_id: chaincode.to_owned(),
            identity: creator.clone(),
            start_position: Some(orderer::SeekPosition {
                r#type: Some(position),
            }),
            after_transaction_id: after.unwrap_or_default(),
        };
        Self {
            request: request.encode_to_vec().into(),
            signature: Bytes::new(),
        }
    }

    /// The bytes that the signature is over.
    pub fn bytes(&self) -> &Bytes {
        &self.request
    }

    /// SHA-256 of [`Self::bytes`].
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.request)
    }

    /// Signs with the creator's key.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&mut self, identity: &SigningIdentity) -> Result<(), Error> {
        self.signature = identity.sign(&self.request)?;
        Ok(())
    }

    /// Sets a signature made elsewhere.
    pub fn set_signature(&mut self, signature: impl Into<Bytes>) {
        self.signature = signature.into();
    }

    pub(crate) fn signed(&self) -> gateway::SignedChaincodeEventsRequest {
        gateway::SignedChaincodeEventsRequest {
            request: self.request.clone(),
            signature: self.signature.clone(),
        }
    }
}

/// An open stream of events. Dropping it cancels it at the peer.
#[derive(Debug)]
pub struct ChaincodeEvents {
    gateway: Gateway,
    channel: String,
    chaincode: String,
    from: EventsFrom,
    incoming: tonic::Streaming<gateway::ChaincodeEventsResponse>,
    ready: VecDeque<ChaincodeEvent>,
}

impl ChaincodeEvents {
    pub(crate) async fn open(
        gateway: Gateway,
        channel: String,
        chaincode: String,
        from: EventsFrom,
    ) -> Result<Self, Error> {
        let incoming = connect(&gateway, &channel, &chaincode, &from).await?;
        Ok(Self {
            gateway,
            channel,
            chaincode,
            from,
            incoming,
            ready: VecDeque::new(),
        })
    }

    /// Waits for the next event. Events come in the order of the ledger.
    ///
    /// # Errors
    /// The stream broke; [`Self::resume`] goes on after the last event handed out.
    pub async fn next(&mut self) -> Result<ChaincodeEvent, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.from = EventsFrom::After(Checkpoint::after_event(&event));
                return Ok(event);
            }
            let response = self
                .incoming
                .message()
                .await
                .map_err(|status| Error::rpc(Call::ChaincodeEvents, None, &status))?
                .ok_or_else(|| Error::StreamEnded {
                    from: self.gateway.address().to_owned(),
                })?;
            let block_number = response.block_number;
            self.ready
                .extend(response.events.into_iter().map(|event| ChaincodeEvent {
                    block_number,
                    transaction_id: event.tx_id,
                    chaincode: event.chaincode_id,
                    name: event.event_name,
                    payload: event.payload,
                }));
        }
    }

    /// The place after the last event handed out; none before the first one, unless the stream began with one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        match &self.from {
            EventsFrom::After(checkpoint) => Some(checkpoint.clone()),
            EventsFrom::Now | EventsFrom::Block(_) => None,
        }
    }

    /// Connects again and goes on after the last event handed out. A stream that began with the next block and has
    /// handed out nothing begins with the next block again.
    ///
    /// # Errors
    /// The peer does not answer yet; try again.
    pub async fn resume(&mut self) -> Result<(), Error> {
        self.incoming = connect(&self.gateway, &self.channel, &self.chaincode, &self.from).await?;
        self.ready.clear();
        Ok(())
    }
}

async fn connect(
    gateway: &Gateway,
    channel: &str,
    chaincode: &str,
    from: &EventsFrom,
) -> Result<tonic::Streaming<gateway::ChaincodeEventsResponse>, Error> {
    let mut request = EventsRequest::new(channel, chaincode, gateway.identity().creator(), from);
    request.sign(gateway.identity())?;
    gateway.events_stream(&request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_positions_are_what_the_official_client_sends() {
        use orderer::seek_position::Type;
        let decode = |from: &EventsFrom| {
            let request = EventsRequest::new("trade", "cc", &Bytes::from_static(b"me"), from);
            let decoded = gateway::ChaincodeEventsRequest::decode(request.bytes().clone()).unwrap();
            let position = decoded.start_position.unwrap().r#type.unwrap();
            (position, decoded.after_transaction_id)
        };
        assert_eq!(
            decode(&EventsFrom::Now),
            (Type::NextCommit(orderer::SeekNextCommit {}), String::new())
        );
        let specified = |number| Type::Specified(orderer::SeekSpecified { number });
        assert_eq!(decode(&EventsFrom::Block(3)), (specified(3), String::new()));
        let checkpoint = Checkpoint {
            block_number: 8,
            transaction_id: Some("t".into()),
        };
        assert_eq!(decode(&EventsFrom::After(checkpoint)), (specified(8), "t".into()));
        assert_eq!(
            decode(&EventsFrom::After(Checkpoint::after_block(8))),
            (specified(9), String::new())
        );
    }
}
