//! The Deliver services: committed blocks, whole, filtered or with private data (spec 04 §4, 05 §4).

mod filtered;
mod private_data;
mod seek;
mod session;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use selvedge_comm::client_certificate;
use selvedge_proto::common;
use selvedge_proto::protos::DeliverResponse;
use selvedge_proto::protos::deliver_server::{Deliver, DeliverServer};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::context::PeerContext;
use crate::metrics::DeliverMetrics;
#[cfg(test)]
pub(crate) use private_data::with_private_data;
use session::{Kind, Session};

/// Messages that may wait for a slow client. Blocks are large: a client that is behind reads from disk, not from memory.
const BACKLOG: usize = 4;

/// The three Deliver services of a peer.
#[derive(Clone)]
pub(crate) struct DeliverService {
    context: Arc<dyn PeerContext>,
    /// Requests are bound to the TLS certificate of the connection (spec 02 §12).
    binds_tls: bool,
    places: Arc<Semaphore>,
    limit: usize,
    shutdown: CancellationToken,
    metrics: DeliverMetrics,
}

type Responses = Pin<Box<dyn futures::Stream<Item = Result<DeliverResponse, Status>> + Send>>;

impl DeliverService {
    /// A service that serves `limit` streams at a time.
    pub(crate) fn new(
        context: Arc<dyn PeerContext>,
        binds_tls: bool,
        limit: usize,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            context,
            binds_tls,
            places: Arc::new(Semaphore::new(limit)),
            limit,
            shutdown,
            metrics: DeliverMetrics::default(),
        }
    }

    /// What is measured of the streams.
    pub(crate) fn metrics(&self) -> &DeliverMetrics {
        &self.metrics
    }

    /// The gRPC service.
    pub(crate) fn server(&self) -> DeliverServer<Self> {
        DeliverServer::new(self.clone())
            .max_decoding_message_size(selvedge_comm::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(selvedge_comm::MAX_MESSAGE_BYTES)
    }

    fn open(
        &self,
        kind: Kind,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Status::unknown(format!(
                "too many requests for protos.Deliver, exceeding concurrency limit ({})",
                self.limit
            ))
        })?;
        let certificate = client_certificate(&request);
        let (responses, stream) = mpsc::channel(BACKLOG);
        let session = Session {
            context: Arc::clone(&self.context),
            kind,
            tls_certificate: self.binds_tls.then_some(certificate),
            responses,
            shutdown: self.shutdown.clone(),
            metrics: self.metrics.clone(),
        };
        tokio::spawn(async move {
            let (_place, metrics) = (place, session.metrics.clone());
            metrics.opened.count(&[]);
            session.run(request.into_inner()).await;
            metrics.closed.count(&[]);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

#[tonic::async_trait]
impl Deliver for DeliverService {
    type DeliverStream = Responses;
    type DeliverFilteredStream = Responses;
    type DeliverWithPrivateDataStream = Responses;

    async fn deliver(
        &self,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        self.open(Kind::Whole, request)
    }

    async fn deliver_filtered(
        &self,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        self.open(Kind::Filtered, request)
    }

    async fn deliver_with_private_data(
        &self,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Responses>, Status> {
        self.open(Kind::WithPrivateData, request)
    }
}
