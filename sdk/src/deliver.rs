//! Streams of blocks from peers and orderers (spec 04 §4, 05 §4).

use std::marker::PhantomData;
use std::time::SystemTime;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{common, orderer, protos};

use crate::error::{Call, Error};

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekStart {
    /// With block 0.
    Oldest,
    /// With the last block there is.
    Newest,
    /// With the next block that commits.
    NextCommit,
    /// With this block, now or when it comes.
    Block(u64),
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekStop {
    /// Never.
    Never,
    /// With the last block there is when the stream starts.
    Newest,
    /// With this block.
    Block(u64),
}

/// Which blocks a stream delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seek {
    /// The first one.
    pub start: SeekStart,
    /// The last one.
    pub stop: SeekStop,
    /// Waits for blocks that are not there yet; otherwise the stream ends with NOT_FOUND.
    pub wait: bool,
}

impl Seek {
    /// From a place on, for ever.
    pub fn from(start: SeekStart) -> Self {
        Self {
            start,
            stop: SeekStop::Never,
            wait: true,
        }
    }

    /// One block that must be there already.
    pub fn one(number: u64) -> Self {
        Self {
            start: SeekStart::Block(number),
            stop: SeekStop::Block(number),
            wait: false,
        }
    }

    /// The newest block.
    pub fn newest() -> Self {
        Self {
            start: SeekStart::Newest,
            stop: SeekStop::Newest,
            wait: false,
        }
    }

    fn info(self) -> orderer::SeekInfo {
        use orderer::seek_position::Type;
        let position = |r#type| Some(orderer::SeekPosition { r#type: Some(r#type) });
        let specified = |number| Type::Specified(orderer::SeekSpecified { number });
        let behavior = if self.wait {
            orderer::seek_info::SeekBehavior::BlockUntilReady
        } else {
            orderer::seek_info::SeekBehavior::FailIfNotReady
        };
        orderer::SeekInfo {
            start: position(match self.start {
                SeekStart::Oldest => Type::Oldest(orderer::SeekOldest {}),
                SeekStart::Newest => Type::Newest(orderer::SeekNewest {}),
                SeekStart::NextCommit => Type::NextCommit(orderer::SeekNextCommit {}),
                SeekStart::Block(number) => specified(number),
            }),
            stop: position(match self.stop {
                SeekStop::Never => specified(u64::MAX),
                SeekStop::Newest => Type::Newest(orderer::SeekNewest {}),
                SeekStop::Block(number) => specified(number),
            }),
            behavior: behavior as i32,
            ..Default::default()
        }
    }
}

/// The payload of a request for blocks: the bytes that `creator` signs. `tls_cert_hash` is SHA-256 of the client's TLS
/// certificate, which a node that demands one compares (spec 02 §12).
pub fn seek_payload(
    creator: &Bytes,
    channel: &str,
    seek: Seek,
    time: SystemTime,
    tls_cert_hash: Option<Bytes>,
) -> Bytes {
    let channel_header = common::ChannelHeader {
        r#type: common::HeaderType::DeliverSeekInfo as i32,
        timestamp: Some(prost_types::Timestamp::from(time)),
        channel_id: channel.to_owned(),
        tls_cert_hash: tls_cert_hash.unwrap_or_default(),
        ..Default::default()
    };
    let signature_header = common::SignatureHeader {
        creator: creator.clone(),
        nonce: Bytes::new(),
    };
    common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: seek.info().encode_to_vec().into(),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn seek_envelope(
    identity: &SigningIdentity,
    channel: &str,
    seek: Seek,
    tls_cert_hash: Option<Bytes>,
) -> Result<common::Envelope, Error> {
    let payload = seek_payload(
        identity.creator(),
        channel,
        seek,
        SystemTime::now(),
        tls_cert_hash,
    );
    Ok(common::Envelope {
        signature: identity.sign(&payload)?,
        payload,
    })
}

/// The request side of a stream: one envelope, and never its end, since servers take an end as good-bye.
pub(crate) fn one_and_open(
    envelope: common::Envelope,
) -> impl Stream<Item = common::Envelope> + Send + 'static {
    stream::once(std::future::ready(envelope)).chain(stream::pending())
}

/// What a delivered message holds.
pub(crate) enum Part<T> {
    Item(T),
    Status(i32),
    Other,
}

/// Messages of the `Deliver` services.
pub(crate) trait Delivered: Send + 'static {
    type Item;
    fn part(self) -> Part<Self::Item>;
}

/// Marks a stream of whole blocks.
#[derive(Debug)]
pub struct Whole;
/// Marks a stream of filtered blocks.
#[derive(Debug)]
pub struct Filtered;
/// Marks a stream of blocks with private data.
#[derive(Debug)]
pub struct WithPrivateData;

/// A peer's message, read as kind `K`.
pub(crate) struct PeerMessage<K>(pub(crate) protos::DeliverResponse, PhantomData<K>);

impl<K> From<protos::DeliverResponse> for PeerMessage<K> {
    fn from(response: protos::DeliverResponse) -> Self {
        Self(response, PhantomData)
    }
}

impl From<orderer::DeliverResponse> for PeerMessage<Whole> {
    fn from(response: orderer::DeliverResponse) -> Self {
        use orderer::deliver_response::Type as From;
        use protos::deliver_response::Type as To;
        let r#type = response.r#type.map(|t| match t {
            From::Status(status) => To::Status(status),
            From::Block(block) => To::Block(block),
        });
        Self(protos::DeliverResponse { r#type }, PhantomData)
    }
}

macro_rules! delivered {
    ($kind:ty, $variant:ident, $item:ty) => {
        impl Delivered for PeerMessage<$kind> {
            type Item = $item;
            fn part(self) -> Part<$item> {
                use protos::deliver_response::Type;
                match self.0.r#type {
                    Some(Type::$variant(item)) => Part::Item(item),
                    Some(Type::Status(status)) => Part::Status(status),
                    _ => Part::Other,
                }
            }
        }
    };
}

delivered!(Whole, Block, common::Block);
delivered!(Filtered, FilteredBlock, protos::FilteredBlock);
delivered!(WithPrivateData, BlockAndPrivateData, protos::BlockAndPrivateData);

type Incoming<K> = std::pin::Pin<Box<dyn Stream<Item = Result<PeerMessage<K>, tonic::Status>> + Send>>;

/// A stream of blocks in one of the three kinds. Dropping it cancels it at the node.
pub struct BlockStream<K> {
    from: String,
    channel: String,
    incoming: Incoming<K>,
    done: bool,
}

/// Whole blocks.
pub type Blocks = BlockStream<Whole>;
/// Filtered blocks.
pub type FilteredBlocks = BlockStream<Filtered>;
/// Blocks with private data.
pub type BlocksWithPrivateData = BlockStream<WithPrivateData>;

impl<K> std::fmt::Debug for BlockStream<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockStream(channel {} from {})", self.channel, self.from)
    }
}

impl<K: Send + 'static> BlockStream<K> {
    pub(crate) fn new<M>(from: &str, channel: &str, incoming: tonic::Streaming<M>) -> Self
    where
        M: Send + 'static,
        PeerMessage<K>: From<M>,
    {
        Self {
            from: from.to_owned(),
            channel: channel.to_owned(),
            incoming: Box::pin(incoming.map(|m| m.map(PeerMessage::from))),
            done: false,
        }
    }

    async fn item<T>(&mut self) -> Result<Option<T>, Error>
    where
        PeerMessage<K>: Delivered<Item = T>,
    {
        if self.done {
            return Ok(None);
        }
        let message = match self.incoming.next().await {
            Some(Ok(message)) => message,
            Some(Err(status)) => {
                self.done = true;
                return Err(Error::rpc(Call::Deliver, None, &status));
            }
            None => {
                self.done = true;
                return Err(Error::StreamEnded {
                    from: self.from.clone(),
                });
            }
        };
        match message.part() {
            Part::Item(item) => Ok(Some(item)),
            Part::Status(status) if status == common::Status::Success as i32 => {
                self.done = true;
                Ok(None)
            }
            Part::Status(status) => {
                self.done = true;
                Err(self.refused(status))
            }
            Part::Other => {
                self.done = true;
                Err(Error::malformed(
                    &self.from,
                    "it sent a message of another kind than asked for",
                ))
            }
        }
    }

    fn refused(&self, status: i32) -> Error {
        let known = common::Status::try_from(status).ok();
        Error::DeliverStatus {
            from: self.from.clone(),
            channel: self.channel.clone(),
            status: known.map_or_else(|| status.to_string(), |s| s.as_str_name().to_owned()),
            hint: match known {
                Some(common::Status::Forbidden) => {
                    ": this identity may not read the channel, or its certificate has expired"
                }
                Some(common::Status::NotFound) => ": the node has no such channel or block",
                Some(common::Status::BadRequest) => {
                    ": the request is not acceptable; is this machine's clock right, and the TLS certificate the expected one?"
                }
                Some(common::Status::ServiceUnavailable) => {
                    ": the ordering service has no leader now; try again"
                }
                _ => "",
            },
        }
    }
}

macro_rules! next {
    ($kind:ty, $item:ty) => {
        impl BlockStream<$kind> {
            /// Waits for the next block; none after the last one that was asked for.
            ///
            /// # Errors
            /// The node refused or ended the stream, or the connection broke.
            pub async fn next(&mut self) -> Result<Option<$item>, Error> {
                self.item().await
            }
        }
    };
}

next!(Whole, common::Block);
next!(Filtered, protos::FilteredBlock);
next!(WithPrivateData, protos::BlockAndPrivateData);

#[cfg(test)]
mod tests {
    use super::*;

    fn info(seek: Seek) -> orderer::SeekInfo {
        let payload = seek_payload(
            &Bytes::from_static(b"me"),
            "trade",
            seek,
            SystemTime::UNIX_EPOCH,
            Some(Bytes::from_static(b"hash")),
        );
        let (payload, channel, signature) = selvedge_proto::open_payload(payload).unwrap();
        assert_eq!(channel.r#type, 5);
        assert_eq!(channel.channel_id, "trade");
        assert!(channel.timestamp.is_some() && channel.tx_id.is_empty());
        assert_eq!(channel.tls_cert_hash, "hash");
        assert_eq!(signature.creator, "me");
        assert!(signature.nonce.is_empty());
        orderer::SeekInfo::decode(payload.data).unwrap()
    }

    #[test]
    fn seeks_are_encoded_as_servers_read_them() {
        use orderer::seek_position::Type;
        let endless = info(Seek::from(SeekStart::NextCommit));
        assert!(matches!(endless.start.unwrap().r#type, Some(Type::NextCommit(_))));
        assert!(matches!(endless.stop.unwrap().r#type, Some(Type::Specified(s)) if s.number == u64::MAX));
        assert_eq!(endless.behavior, 0);
        let one = info(Seek::one(0));
        assert!(matches!(one.start.unwrap().r#type, Some(Type::Specified(s)) if s.number == 0));
        assert!(matches!(one.stop.unwrap().r#type, Some(Type::Specified(s)) if s.number == 0));
        assert_eq!(one.behavior, 1);
    }

    #[tokio::test]
    async fn the_request_side_stays_open() {
        let mut requests = Box::pin(one_and_open(common::Envelope::default()));
        assert!(requests.next().await.is_some());
        assert!(futures::poll!(requests.next()).is_pending());
    }
}
