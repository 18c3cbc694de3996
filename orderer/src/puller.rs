//! Getting blocks that other orderers have and this node lacks.
//!
//! A consenter asks the cluster service; a node that is not (yet) among the consenters uses Deliver, where the channel's
//! Readers policy admits it. Every block is checked before it is stored ([`Chain::append_pulled`]).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use selvedge_msp::{Certificate, SigningIdentity};
use selvedge_proto::selvedge::cluster as pb;
use selvedge_proto::{common, orderer};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::chain::{Chain, ChainError};
use crate::peers::{Dialling, cluster_client, deliver_client, orderer_roots};

const RETRY: Duration = Duration::from_millis(300);

/// Why catching up ended without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("the node stops")]
    Stopped,
    #[error(
        "block {number} of channel {channel} differs from the one that the consenters agreed on; this node's copy of the \
         channel is not theirs: remove the channel here and join it again"
    )]
    Diverged { channel: String, number: u64 },
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Pulls blocks for one channel.
pub(crate) struct Puller {
    pub(crate) dialling: Arc<Dialling>,
    /// `host:port` of this node, which is not asked.
    pub(crate) own_address: String,
    pub(crate) stop: CancellationToken,
}

/// Blocks as they come from another orderer.
pub(crate) type Blocks = BoxStream<'static, Result<common::Block, Status>>;

impl Puller {
    /// Extends the chain to `tip`, from whichever consenter answers, trying until it succeeds.
    pub(crate) async fn catch_up(&self, chain: &Arc<Chain>, tip: &pb::ChainTip) -> Result<(), PullError> {
        let mut turn = 0;
        while chain.height() < tip.height {
            if self.stop.is_cancelled() {
                return Err(PullError::Stopped);
            }
            let head = chain.head();
            let sources: Vec<String> = head
                .members
                .iter()
                .map(|m| m.address())
                .filter(|a| *a != self.own_address)
                .collect();
            let Some(source) = sources.get(turn % sources.len().max(1)) else {
                self.pause().await?;
                continue;
            };
            turn += 1;
            let before = chain.height();
            let blocks = self.cluster_blocks(source, chain, before, tip.height).await;
            let outcome = match blocks {
                Ok(blocks) => self.store(chain, blocks).await?,
                Err(status) => Err(status),
            };
            if let Err(status) = outcome {
                tracing::warn!(channel = chain.channel(), %source, why = status.message(), "blocks could not be pulled");
            }
            if chain.height() == before {
                self.pause().await?;
            }
        }
        if chain.height() == tip.height && chain.last_hash() != tip.last_hash {
            return Err(PullError::Diverged {
                channel: chain.channel().to_owned(),
                number: tip.height.saturating_sub(1),
            });
        }
        Ok(())
    }

    async fn pause(&self) -> Result<(), PullError> {
        tokio::select! {
            () = self.stop.cancelled() => Err(PullError::Stopped),
            () = tokio::time::sleep(RETRY) => Ok(()),
        }
    }

    /// Stores the blocks of a stream until it ends, which is reported inside. A block that does not fit ends it too.
    pub(crate) async fn store(
        &self,
        chain: &Arc<Chain>,
        mut blocks: Blocks,
    ) -> Result<Result<(), Status>, PullError> {
        loop {
            let next = tokio::select! {
                () = self.stop.cancelled() => return Err(PullError::Stopped),
                next = blocks.next() => next,
            };
            let block = match next {
                None => return Ok(Ok(())),
                Some(Err(status)) => return Ok(Err(status)),
                Some(Ok(block)) => block,
            };
            let target = Arc::clone(chain);
            let stored = tokio::task::spawn_blocking(move || target.append_pulled(&block))
                .await
                .map_err(|_| PullError::Stopped)?;
            match stored {
                Ok(()) => {}
                Err(e @ ChainError::Block { .. }) => return Ok(Err(Status::data_loss(e.to_string()))),
                Err(other) => return Err(other.into()),
            }
        }
    }

    async fn cluster_blocks(
        &self,
        source: &str,
        chain: &Chain,
        start: u64,
        end: u64,
    ) -> Result<Blocks, Status> {
        let roots = orderer_roots(&chain.bundle());
        let mut client = cluster_client(self.dialling.connect(source, roots)?);
        let request = pb::BlocksRequest {
            channel: chain.channel().to_owned(),
            start,
            end,
        };
        Ok(client.blocks(request).await?.into_inner().boxed())
    }

    /// Blocks from `start` on by Deliver, as any reader of the channel gets them: without end, or up to `stop`.
    pub(crate) fn delivered(
        &self,
        source: &str,
        roots: Vec<Vec<u8>>,
        signer: &SigningIdentity,
        channel: &str,
        start: u64,
        stop: u64,
    ) -> impl Future<Output = Result<Blocks, Status>> + use<> {
        let envelope = self.seek(signer, channel, start, stop);
        let connection = self.dialling.connect(source, roots);
        async move {
            let mut client = deliver_client(connection?);
            let envelope = envelope?;
            // The request stream stays open: an orderer ends the answers when the client ends its side.
            let requests = futures::stream::once(async move { envelope }).chain(futures::stream::pending());
            let answers = client.deliver(requests).await?.into_inner();
            Ok(answers
                .map(|answer| match answer?.r#type {
                    Some(orderer::deliver_response::Type::Block(block)) => Ok(Some(block)),
                    Some(orderer::deliver_response::Type::Status(200)) => Ok(None),
                    Some(orderer::deliver_response::Type::Status(status)) => Err(Status::unavailable(
                        format!("the orderer answered with status {status}"),
                    )),
                    None => Err(Status::data_loss("an empty answer to Deliver")),
                })
                .take_while(|answer| futures::future::ready(!matches!(answer, Ok(None))))
                .filter_map(|answer| futures::future::ready(answer.transpose()))
                .boxed())
        }
    }

    fn seek(
        &self,
        signer: &SigningIdentity,
        channel: &str,
        start: u64,
        stop: u64,
    ) -> Result<common::Envelope, Status> {
        let position = |number| {
            Some(orderer::SeekPosition {
                r#type: Some(orderer::seek_position::Type::Specified(orderer::SeekSpecified {
                    number,
                })),
            })
        };
        let seek = orderer::SeekInfo {
            start: position(start),
            stop: position(stop),
            error_response: orderer::seek_info::SeekErrorResponse::BestEffort as i32,
            ..Default::default()
        };
        let tls_cert_hash = match &self.dialling.identity {
            Some(identity) => {
                let der = identity.leaf_der().map_err(|e| Status::internal(e.to_string()))?;
                let leaf = Certificate::from_der(&der).map_err(|e| Status::internal(e.to_string()))?;
                leaf.sha256().to_vec().into()
            }
            None => Bytes::new(),
        };
        let header = common::ChannelHeader {
            r#type: common::HeaderType::DeliverSeekInfo as i32,
            channel_id: channel.to_owned(),
            timestamp: Some(std::time::SystemTime::now().into()),
            tls_cert_hash,
            ..Default::default()
        };
        crate::envelope::signed(signer, &header, seek.encode_to_vec().into())
            .map_err(|e| Status::internal(e.to_string()))
    }
}
