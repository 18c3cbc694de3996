//! The gateway service: one peer does for a client what else the client would have to do itself (spec 04).
//!
//! ```text
//! Evaluate ──────► a peer that has the chaincode
//! Endorse ───────► first endorser ─► what does the transaction touch? ─► plan ─► other endorsers ─► envelope to sign
//! Submit ────────► any orderer, over a stream that all submissions share
//! CommitStatus ──► commit hub: waits for the block, then for nothing
//! ChaincodeEvents► block follower, filtered
//! ```

mod commit_hub;
mod commit_status;
mod deadline;
mod endorse;
mod evaluate;
mod events;
pub(crate) mod interest;
mod orderers;
mod outcome;
mod peers;
pub(crate) mod plan;
mod proposal;
pub(crate) mod requirement;
mod status;
mod submit;
#[cfg(test)]
pub(crate) mod test_world;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use selvedge_proto::gateway::gateway_server::{Gateway, GatewayServer};
use selvedge_proto::gateway::{
    ChaincodeEventsResponse, CommitStatusResponse, EndorseRequest, EndorseResponse, EvaluateRequest,
    EvaluateResponse, SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest, SubmitResponse,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::chaincode::ChaincodeRuntime;
use crate::channel::PeerChannel;
use crate::config::PeerConfig;
use crate::context::PeerContext;
use crate::endorser::Endorser;
use commit_hub::CommitHub;
use orderers::Orderers;
pub(crate) use peers::{Dialling, GatewayPeer, Peers};

/// What the gateway needs of the peer around it.
pub(crate) struct GatewayParts {
    pub(crate) context: Arc<dyn PeerContext>,
    pub(crate) runtime: Arc<ChaincodeRuntime>,
    pub(crate) endorser: Endorser,
    pub(crate) dialling: Dialling,
    pub(crate) shutdown: CancellationToken,
}

/// The gateway of one peer. Clones share everything.
#[derive(Clone)]
pub(crate) struct GatewayService {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<dyn PeerContext>,
    runtime: Arc<ChaincodeRuntime>,
    peers: Arc<Peers>,
    orderers: Orderers,
    hubs: Mutex<HashMap<String, Arc<CommitHub>>>,
    calls: Arc<Semaphore>,
    call_limit: usize,
    listeners: Arc<Semaphore>,
    listener_limit: usize,
    shutdown: CancellationToken,
}

impl GatewayService {
    pub(crate) fn new(config: &PeerConfig, parts: GatewayParts) -> Self {
        let gateway = &config.gateway;
        Self {
            inner: Arc::new(Inner {
                context: parts.context,
                runtime: parts.runtime,
                peers: Arc::new(Peers::new(
                    &config.external_address,
                    &config.msp_id,
                    gateway.peers.clone(),
                    parts.dialling.clone(),
                    parts.endorser,
                    gateway.endorsement_timeout,
                )),
                orderers: Orderers::new(parts.dialling, gateway.broadcast_timeout),
                hubs: Mutex::default(),
                calls: Arc::new(Semaphore::new(gateway.concurrency)),
                call_limit: gateway.concurrency,
                listeners: Arc::new(Semaphore::new(gateway.listeners)),
                listener_limit: gateway.listeners,
                shutdown: parts.shutdown,
            }),
        }
    }

    /// The peers that the gateway knows, for the other services.
    pub(crate) fn peers(&self) -> Arc<Peers> {
        Arc::clone(&self.inner.peers)
    }

    /// The gRPC service.
    pub(crate) fn server(&self) -> GatewayServer<Self> {
        GatewayServer::new(self.clone())
            .max_decoding_message_size(selvedge_comm::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(selvedge_comm::MAX_MESSAGE_BYTES)
    }
}

impl Inner {
    fn take(semaphore: &Arc<Semaphore>, limit: usize) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
            Status::unknown(format!(
                "too many requests for gateway.Gateway, exceeding concurrency limit ({limit})"
            ))
        })
    }

    /// A place for a call that works.
    fn call(&self) -> Result<OwnedSemaphorePermit, Status> {
        Self::take(&self.calls, self.call_limit)
    }

    /// A place for a call that mostly waits.
    fn listener(&self) -> Result<OwnedSemaphorePermit, Status> {
        Self::take(&self.listeners, self.listener_limit)
    }

    fn hub(&self, channel: &Arc<PeerChannel>) -> Arc<CommitHub> {
        let mut hubs = self.hubs.lock();
        let hub = hubs
            .entry(channel.id().to_owned())
            .or_insert_with(|| CommitHub::start(Arc::clone(channel), self.shutdown.clone()));
        Arc::clone(hub)
    }
}

/// Ends with the peer.
async fn stopping<T>(
    shutdown: &CancellationToken,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    tokio::select! {
        result = work => result,
        () = shutdown.cancelled() => Err(Status::unavailable("the peer is shutting down")),
    }
}

/// The methods, for a caller that waits so long; none: for ever.
impl GatewayService {
    pub(crate) async fn endorse_within(
        &self,
        request: EndorseRequest,
        limit: Option<Duration>,
    ) -> Result<EndorseResponse, Status> {
        let _place = self.inner.call()?;
        let work = self.inner.endorse(request, limit.and_then(deadline::after));
        stopping(&self.inner.shutdown, work).await
    }

    pub(crate) async fn submit_within(
        &self,
        request: SubmitRequest,
        limit: Option<Duration>,
    ) -> Result<SubmitResponse, Status> {
        let _place = self.inner.call()?;
        let work = self.inner.submit(request, limit.and_then(deadline::after));
        stopping(&self.inner.shutdown, work).await
    }

    pub(crate) async fn commit_status_within(
        &self,
        request: SignedCommitStatusRequest,
        limit: Option<Duration>,
    ) -> Result<CommitStatusResponse, Status> {
        let _place = self.inner.listener()?;
        let work = self.inner.commit_status(request, limit.and_then(deadline::after));
        stopping(&self.inner.shutdown, work).await
    }

    pub(crate) async fn evaluate_within(
        &self,
        request: EvaluateRequest,
        limit: Option<Duration>,
    ) -> Result<EvaluateResponse, Status> {
        let _place = self.inner.call()?;
        let work = self.inner.evaluate(request, limit.and_then(deadline::after));
        stopping(&self.inner.shutdown, work).await
    }
}

#[tonic::async_trait]
impl Gateway for GatewayService {
    async fn endorse(&self, request: Request<EndorseRequest>) -> Result<Response<EndorseResponse>, Status> {
        let limit = deadline::limit_of(request.metadata());
        let answer = self.endorse_within(request.into_inner(), limit).await;
        answer.map(Response::new)
    }

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let limit = deadline::limit_of(request.metadata());
        let answer = self.submit_within(request.into_inner(), limit).await;
        answer.map(Response::new)
    }

    async fn commit_status(
        &self,
        request: Request<SignedCommitStatusRequest>,
    ) -> Result<Response<CommitStatusResponse>, Status> {
        let limit = deadline::limit_of(request.metadata());
        let answer = self.commit_status_within(request.into_inner(), limit).await;
        answer.map(Response::new)
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let limit = deadline::limit_of(request.metadata());
        let answer = self.evaluate_within(request.into_inner(), limit).await;
        answer.map(Response::new)
    }

    type ChaincodeEventsStream =
        Pin<Box<dyn futures::Stream<Item = Result<ChaincodeEventsResponse, Status>> + Send>>;

    async fn chaincode_events(
        &self,
        request: Request<SignedChaincodeEventsRequest>,
    ) -> Result<Response<Self::ChaincodeEventsStream>, Status> {
        let place = self.inner.listener()?;
        let stream = self.inner.chaincode_events(request.into_inner(), place).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}
