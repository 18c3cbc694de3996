//! gRPC with bytes that are not what they should be.

use bytes::{Buf, BufMut, Bytes};
use futures::Stream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Passes messages as the bytes they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = source.remaining();
        Ok(Some(source.copy_to_bytes(len)))
    }
}

fn client(channel: Channel) -> tonic::client::Grpc<Channel> {
    let most = 512 * 1024 * 1024;
    tonic::client::Grpc::new(channel)
        .max_encoding_message_size(most)
        .max_decoding_message_size(most)
}

async fn ready(grpc: &mut tonic::client::Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))
}

/// Calls a unary method, for example `/gateway.Gateway/Evaluate`, with any bytes as the message.
///
/// # Errors
/// What the server answered.
pub async fn unary(channel: Channel, method: &'static str, message: Bytes) -> Result<Bytes, Status> {
    let mut grpc = client(channel);
    ready(&mut grpc).await?;
    let path = PathAndQuery::from_static(method);
    grpc.unary(Request::new(message), path, RawCodec)
        .await
        .map(tonic::Response::into_inner)
}

/// Opens a stream in both directions with any bytes as messages.
///
/// # Errors
/// What the server answered.
pub async fn streaming(
    channel: Channel,
    method: &'static str,
    messages: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = client(channel);
    ready(&mut grpc).await?;
    let path = PathAndQuery::from_static(method);
    grpc.streaming(Request::new(messages), path, RawCodec)
        .await
        .map(tonic::Response::into_inner)
}
