//! Starting and stopping an edge gateway.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use selvedge_comm::{CommError, bind, serve_http};
use selvedge_msp::{PrivateKey, SigningIdentity};
use selvedge_operations::{OperationsListener, observing_router};
use selvedge_renewal::Keeping;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::EdgeError;
use crate::api::{Api, router};
use crate::buffer::Buffer;
use crate::config::EdgeConfig;
use crate::devices::Devices;
use crate::enrolling;
use crate::enrollments::{self, Enrollments};
use crate::guard::Guard;
use crate::identities::Identities;
use crate::operations;
use crate::registrars::Registrars;
use crate::renewal;
use crate::rest::Callers;
use crate::status::SelfKnowledge;
use crate::uplink::Uplink;

/// A running edge gateway.
#[derive(Debug)]
pub struct Edge {
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<Result<(), CommError>>,
    uplink: JoinHandle<()>,
    operations: Option<(SocketAddr, JoinHandle<Result<(), CommError>>)>,
    _keeping: Keeping,
    devices: Devices,
}

fn load_identity(config: &EdgeConfig) -> Result<(SigningIdentity, PrivateKey), EdgeError> {
    let bad = |why: String| EdgeError::Identity {
        path: config.msp_dir.clone(),
        why,
    };
    let identity =
        SigningIdentity::from_msp_dir(&config.msp_id, &config.msp_dir).map_err(|e| bad(e.to_string()))?;
    Ok((identity.clone(), identity.private_key().clone()))
}

impl Edge {
    /// Opens the buffer, sends what was left in it, and serves devices.
    ///
    /// # Errors
    /// The identity or the buffer is not usable, or the address is in use.
    pub async fn start(config: EdgeConfig) -> Result<Self, EdgeError> {
        let (identity, key) = load_identity(&config)?;
        let about = SelfKnowledge::new(&config, identity.certificate());
        let identities = Identities::open(
            &config.data_dir.join("identities"),
            &config.msp_id,
            identity.clone(),
            &key,
        )?;
        let buffer = Arc::new(Buffer::open(
            &config.data_dir.join("buffer"),
            config.buffer_options(),
        )?);
        let open: usize = buffer.totals().open.values().sum();
        if open > 0 {
            tracing::info!(open, "requests from before are sent now");
        }
        let uplink = Arc::new(Uplink::new(
            Arc::clone(&buffer),
            identities,
            config.uplink.clone(),
        )?);
        let watching = match &config.operations {
            Some(operations) => Some(OperationsListener::open(operations).await?),
            None => None,
        };
        let rest_tls = config.devices.rest_tls()?;
        let listener = bind(&config.listen).await?;
        let address = listener.local_addr().map_err(|source| CommError::Bind {
            address: config.listen.clone(),
            source,
        })?;

        let stop = CancellationToken::new();
        let devices = Devices::start(&config, Arc::clone(&buffer), &uplink, &stop).await?;
        let watched = operations::of(&buffer, &uplink);
        let keeping = renewal::keep(&config, &identity, &uplink, &devices, rest_tls.as_ref(), &watched)?;
        devices.measure(&watched.metrics);
        let operations = watching.map(|listener| {
            let stopped = stop.clone().cancelled_owned();
            (
                listener.address(),
                tokio::spawn(listener.serve(watched.clone(), stopped)),
            )
        });
        let api = Arc::new(Api {
            about,
            buffer,
            uplink: Arc::clone(&uplink),
            callers: Callers {
                intake: Arc::clone(&devices.intake),
                login: config.devices.rest.login,
                guard: Guard::default(),
            },
        });
        let enrollments = Arc::new(Enrollments::open(
            config.data_dir.join("enrollments"),
            Registrars::of(&config),
        )?);
        let events = selvedge_callbacks::routes(Arc::clone(&devices.hub));
        let server = tokio::spawn(serve_http(
            listener,
            rest_tls,
            router(api, events)
                .merge(enrollments::router(enrollments))
                .merge(observing_router(watched)),
            stop.clone().cancelled_owned(),
        ));
        let uplink = tokio::spawn(uplink.run(stop.clone()));
        tracing::info!(id = %config.id, %address, "edge gateway serves");
        Ok(Self {
            address,
            stop,
            server,
            uplink,
            operations,
            _keeping: keeping,
            devices,
        })
    }

    /// Addresses of the MQTT listeners: the plain one first.
    pub fn mqtt_addresses(&self) -> &[SocketAddr] {
        &self.devices.mqtt
    }

    /// Address of the listener for sealed messages.
    pub fn sealed_address(&self) -> Option<SocketAddr> {
        self.devices.sealed
    }

    /// Address of the operations endpoint, if it has one of its own.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(|(address, _)| *address)
    }

    /// Address of the REST interface.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving and sending. What is open stays in the buffer.
    ///
    /// # Errors
    /// The server had failed before.
    pub async fn stop(self) -> Result<(), EdgeError> {
        self.stop.cancel();
        self.devices.ended().await;
        if let Ok(result) = self.server.await {
            result?;
        }
        if let Some((_, server)) = self.operations
            && let Ok(result) = server.await
        {
            result?;
        }
        // A broken-off uplink has nothing to tell: its work is in the buffer.
        drop(self.uplink.await);
        Ok(())
    }
}

/// Runs an edge gateway until `shutdown` resolves.
///
/// # Errors
/// It cannot start, or its server fails.
pub async fn run(config: EdgeConfig, shutdown: impl Future<Output = ()>) -> Result<(), EdgeError> {
    tokio::pin!(shutdown);
    let enrolled = tokio::select! {
        enrolled = enrolling::enroll_if_new(&config) => enrolled?,
        () = &mut shutdown => return Ok(()),
    };
    if enrolled {
        tracing::info!(id = %config.id, "the gateway is enrolled");
    }
    let edge = Edge::start(config).await?;
    shutdown.await;
    edge.stop().await
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
