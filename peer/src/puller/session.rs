//! One stream of blocks from one orderer.

use std::sync::Arc;

use bytes::Bytes;
use selvedge_channel::verify::{BlockRefusal, BlockVerifier, brought_config};
use selvedge_channel::{Bundle, ConfigError, OrdererEndpoint};
use selvedge_comm::{ClientTls, CommError, Endpoint, MAX_MESSAGE_BYTES};
use selvedge_msp::KeyError;
use selvedge_proto::orderer::atomic_broadcast_client::AtomicBroadcastClient;
use selvedge_proto::orderer::deliver_response::Type as Answer;
use selvedge_proto::{block_hash, common};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{Cursor, PullerOptions, seek};
use crate::channel::PeerChannel;
use crate::pipeline::{CommitPipeline, PipelineError};

/// How a session ended.
pub(super) enum SessionEnd {
    /// It was told to.
    Stopped,
    /// The orderer is to be changed.
    Failed(SessionError),
    /// The channel cannot commit.
    Pipeline(PipelineError),
}

/// Why an orderer is left.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Comm(#[from] CommError),
    #[error("the request could not be signed: {0}")]
    Sign(#[from] KeyError),
    #[error("the orderer's stream failed: {0}")]
    Stream(#[from] Box<tonic::Status>),
    #[error("the orderer answered with status {0}")]
    Status(String),
    #[error("the orderer ended the stream")]
    Ended,
    #[error("the orderer sent a block that is refused: {0}")]
    Refused(#[from] Box<BlockRefusal>),
    #[error("config block {number} holds a configuration that this peer cannot use: {source}")]
    Config { number: u64, source: ConfigError },
    #[error("a block could not be verified: {0}")]
    Verifier(String),
}

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        Self::Stream(Box::new(status))
    }
}

/// What one session needs.
pub(super) struct Session<'a> {
    pub(super) channel: &'a Arc<PeerChannel>,
    pub(super) options: &'a PullerOptions,
    pub(super) endpoint: &'a OrdererEndpoint,
}

impl Session<'_> {
    /// Runs until told to stop or something fails. `cursor` moves on with every block that was handed to the pipeline.
    pub(super) async fn run(
        &self,
        cursor: &mut Cursor,
        pipeline: &CommitPipeline,
        stopped: &mut watch::Receiver<bool>,
    ) -> SessionEnd {
        let open = tokio::select! {
            opened = self.open(cursor.next) => opened,
            _ = stopped.wait_for(|stop| *stop) => return SessionEnd::Stopped,
        };
        let (mut answers, _request) = match open {
            Ok(opened) => opened,
            Err(error) => return SessionEnd::Failed(error),
        };
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                _ = stopped.wait_for(|stop| *stop) => return SessionEnd::Stopped,
            };
            let block = match answer.map(|answer| answer.map(|a| a.r#type)) {
                Ok(Some(Some(Answer::Block(block)))) => block,
                Ok(Some(Some(Answer::Status(status)))) => {
                    return SessionEnd::Failed(SessionError::Status(status_name(status)));
                }
                Ok(Some(None)) => return SessionEnd::Failed(SessionError::Status("nothing".into())),
                Ok(None) => return SessionEnd::Failed(SessionError::Ended),
                Err(status) => return SessionEnd::Failed(status.into()),
            };
            let block = match verified(block, cursor).await {
                Ok(block) => block,
                Err(error) => return SessionEnd::Failed(error),
            };
            tokio::select! {
                submitted = pipeline.submit(block) => if let Err(error) = submitted {
                    return SessionEnd::Pipeline(error);
                },
                _ = stopped.wait_for(|stop| *stop) => return SessionEnd::Stopped,
            }
        }
    }

    /// Dials and asks. The second part keeps our side of the stream open.
    async fn open(
        &self,
        start: u64,
    ) -> Result<
        (
            tonic::Streaming<selvedge_proto::orderer::DeliverResponse>,
            tokio::sync::mpsc::Sender<common::Envelope>,
        ),
        SessionError,
    > {
        let configured = &self.endpoint.address;
        let address = self
            .options
            .address_overrides
            .get(configured)
            .unwrap_or(configured);
        let (tls, tls_cert_hash) = match &self.options.tls {
            None => (None, Bytes::new()),
            Some(identity) => {
                let hash = Sha256::digest(identity.leaf_der()?);
                let host = configured
                    .rsplit_once(':')
                    .map_or(configured.as_str(), |(host, _)| host);
                let tls = ClientTls {
                    roots: self.endpoint.tls_roots.clone(),
                    server_name: (address != configured).then(|| host.to_owned()),
                    identity: Some(identity.clone()),
                    only_tls13: false,
                };
                (Some(tls), Bytes::copy_from_slice(&hash))
            }
        };
        let connection = Endpoint {
            address: address.clone(),
            tls,
        }
        .connect()
        .await?;
        let mut client = AtomicBroadcastClient::new(connection)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let envelope = seek::envelope(
            self.channel.id(),
            start,
            &self.options.identity.get(),
            tls_cert_hash,
        )?;
        let (request, requests) = tokio::sync::mpsc::channel(1);
        // There is room for one: the channel is new.
        let _ = request.try_send(envelope);
        let answers = client
            .deliver(tokio_stream::wrappers::ReceiverStream::new(requests))
            .await?;
        Ok((answers.into_inner(), request))
    }
}

/// Verifies the next block and moves the cursor past it (spec 03 §2).
async fn verified(block: common::Block, cursor: &mut Cursor) -> Result<common::Block, SessionError> {
    let Cursor {
        next,
        previous_hash,
        bundle,
    } = cursor.clone();
    let work = move || -> Result<(common::Block, Option<Arc<Bundle>>), SessionError> {
        BlockVerifier::new(Arc::clone(&bundle))
            .verify(&block, next, previous_hash.as_deref())
            .map_err(Box::new)?;
        // The blocks after a config block are signed under the configuration that it brings.
        let changed = brought_config(bundle.role(), &block)
            .map_err(|source| SessionError::Config { number: next, source })?;
        Ok((block, changed.map(Arc::new)))
    };
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| SessionError::Verifier(e.to_string()))?;
    let (block, changed) = done?;
    cursor.next = next.saturating_add(1);
    cursor.previous_hash = block.header.as_ref().map(block_hash);
    if let Some(bundle) = changed {
        cursor.bundle = bundle;
    }
    Ok(block)
}

fn status_name(status: i32) -> String {
    common::Status::try_from(status).map_or_else(
        |_| status.to_string(),
        |s| format!("{status} {}", s.as_str_name()),
    )
}
