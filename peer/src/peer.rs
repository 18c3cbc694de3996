//! A whole peer: identity, channels, services, listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use selvedge_comm::{CommError, ServerTls, TlsIdentity, bind, serve_grpc};
use selvedge_msp::dir::{DirError, read_msp_config};
use selvedge_msp::{
    CurrentIdentity, Msp, MspError, MspManager, MspVersion, SigningIdentity, SigningIdentityError,
};
use selvedge_operations::{Operations, OperationsError, OperationsListener};
use selvedge_proto::common;
use selvedge_renewal::{Keeper, Keeping};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::calls::CallsService;
use crate::chaincode::{ChaincodeRuntime, PackageError, PackageStore, RuntimeError};
use crate::config::PeerConfig;
use crate::context::{JoinError, PeerContext};
use crate::deliver::DeliverService;
use crate::discovery::{DiscoveryParts, DiscoveryService};
use crate::endorser::{Endorser, EndorserConfig};
use crate::gateway::{Dialling, GatewayParts, GatewayService};
use crate::node::{NodeError, PeerNode};
use crate::operations;
use crate::puller::PullerOptions;
use crate::validation::{ValidatorPool, ValidatorPoolError};

const CHAINCODE_DIR: &str = "chaincode";
/// Time for calls and connections to end when the peer stops.
const GRACE: Duration = Duration::from_secs(3);

/// Why a peer could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The identity cannot be used.
    #[error("identity of peer {id}: {source}")]
    Identity {
        /// The peer.
        id: String,
        /// What is wrong.
        source: SigningIdentityError,
    },
    /// The MSP folder cannot be read.
    #[error("MSP of peer {id}: {source}")]
    MspFolder {
        /// The peer.
        id: String,
        /// What is wrong.
        source: DirError,
    },
    /// The MSP cannot be used.
    #[error("MSP of peer {id}: {source}")]
    Msp {
        /// The peer.
        id: String,
        /// What is wrong.
        source: Box<MspError>,
    },
    /// A listener failed.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The operations endpoint cannot be opened.
    #[error(transparent)]
    Operations(#[from] OperationsError),
    /// The installed packages cannot be read.
    #[error("chaincode packages: {0}")]
    Packages(#[from] PackageError),
    /// The wasm engine cannot be set up.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The validation threads cannot be started.
    #[error(transparent)]
    Validators(#[from] ValidatorPoolError),
    /// The channels cannot be opened.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The peer refuses to join a channel.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A task of the peer ended before its time.
    #[error("a task of peer {id} failed: {why}")]
    Task {
        /// The peer.
        id: String,
        /// What happened.
        why: String,
    },
}

/// A running peer.
pub struct Peer {
    id: String,
    node: Arc<PeerNode>,
    address: SocketAddr,
    operations_address: Option<SocketAddr>,
    shutdown: CancellationToken,
    servers: Vec<JoinHandle<Result<(), CommError>>>,
    _keeping: Keeping,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({} at {})", self.id, self.address)
    }
}

/// Runs a peer until `shutdown` resolves, and stops it in order.
///
/// # Errors
/// It could not start, or its listener failed.
pub async fn run(config: PeerConfig, shutdown: impl Future<Output = ()> + Send) -> Result<(), PeerError> {
    let mut peer = Peer::start(config).await?;
    let failed = tokio::select! {
        () = shutdown => None,
        failed = peer.failed() => Some(failed),
    };
    peer.stop().await;
    failed.map_or(Ok(()), Err)
}

impl Peer {
    /// Opens the channels, starts fetching their blocks, and serves.
    ///
    /// # Errors
    /// An identity, folder or address cannot be used; nothing is left running.
    pub async fn start(config: PeerConfig) -> Result<Self, PeerError> {
        let id = config.id.clone();
        let identity = SigningIdentity::from_msp_dir(&config.msp_id, &config.msp_dir).map_err(|source| {
            PeerError::Identity {
                id: id.clone(),
                source,
            }
        })?;
        let local_msp = local_msp(&config)?;
        let tls = config.tls.as_ref().map(|tls| tls.identity()).transpose()?;
        let server_tls = match (&config.tls, &tls) {
            (Some(settings), Some(identity)) => Some(settings.server(identity.clone())?),
            _ => None,
        };
        // Listening first: an address that is taken is found out before anything is opened.
        let listener = bind(&config.listen).await?;
        let address = local_address(&listener, &config.listen)?;
        let operations = match &config.operations {
            Some(operations) => Some(OperationsListener::open(operations).await?),
            None => None,
        };

        let validators = config.validator_pool_size.map(ValidatorPool::new).transpose()?;
        let current = CurrentIdentity::from(identity.clone());
        let node = Arc::new(PeerNode::new(
            current.clone(),
            local_msp,
            &config.data_dir,
            pulling(current.clone(), tls.clone(), &config),
            validators,
        ));
        let keeper = keeper(&config, &node, (&identity, current), server_tls.as_ref())?;
        let (packages_dir, limits) = (config.data_dir.join(CHAINCODE_DIR), (&config.chaincode).into());
        let opening = Arc::clone(&node);
        let opened = tokio::task::spawn_blocking(move || {
            let runtime = ChaincodeRuntime::new(&limits, PackageStore::open(&packages_dir)?)?;
            opening.open_channels()?;
            Ok::<_, PeerError>(runtime)
        });
        let runtime = match opened.await {
            Ok(Ok(runtime)) => Arc::new(runtime),
            Ok(Err(error)) => {
                node.stop(GRACE).await;
                return Err(error);
            }
            Err(error) => {
                let why = error.to_string();
                return Err(PeerError::Task { id, why });
            }
        };

        let shutdown = CancellationToken::new();
        let watched = operations::of(&node, &runtime);
        let keeping = keeper.start(&watched);
        let routes = routes(&config, &node, &runtime, tls, &shutdown, &watched);
        let routes = operations::grpc(&watched).watch(routes);
        let mut servers = vec![tokio::spawn(serve_grpc(
            listener,
            server_tls,
            routes,
            shutdown.clone().cancelled_owned(),
        ))];
        let mut operations_address = None;
        if let Some(listener) = operations {
            operations_address = Some(listener.address());
            servers.push(tokio::spawn(
                listener.serve(watched, shutdown.clone().cancelled_owned()),
            ));
        }
        tracing::info!(peer = %id, %address, channels = node.channels().len(), "peer started");
        Ok(Self {
            id,
            node,
            address,
            operations_address,
            shutdown,
            servers,
            _keeping: keeping,
        })
    }

    /// The address that it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the operations endpoint, if there is one.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations_address
    }

    /// Ids of the channels that it has joined, sorted.
    pub fn channels(&self) -> Vec<String> {
        self.node.channels()
    }

    /// How many blocks of a channel it has committed; none when it has not joined.
    pub fn height(&self, channel: &str) -> Option<u64> {
        self.node.channel(channel).map(|c| c.height())
    }

    /// Joins the channel that starts with this configuration block.
    ///
    /// # Errors
    /// The block is refused, the channel is joined already, or the disk fails.
    pub async fn join(&self, block: common::Block) -> Result<(), PeerError> {
        let node = Arc::clone(&self.node);
        let joined = tokio::task::spawn_blocking(move || node.join_channel(block)).await;
        let task_failed = |e: tokio::task::JoinError| PeerError::Task {
            id: self.id.clone(),
            why: e.to_string(),
        };
        Ok(joined.map_err(task_failed)??)
    }

    /// Resolves when a listener ends, which it does not do by itself.
    async fn failed(&mut self) -> PeerError {
        let (ended, _, _) = futures::future::select_all(self.servers.iter_mut()).await;
        let why = match ended {
            Ok(Err(error)) => return PeerError::Comm(error),
            Ok(Ok(())) => "a listener ended".to_owned(),
            Err(error) => error.to_string(),
        };
        PeerError::Task {
            id: self.id.clone(),
            why,
        }
    }

    /// Ends all calls and streams, commits what is at hand, and closes the ledgers.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let end = tokio::time::Instant::now() + GRACE;
        for mut server in self.servers.drain(..).filter(|s| !s.is_finished()) {
            if tokio::time::timeout_at(end, &mut server).await.is_err() {
                server.abort();
            }
        }
        self.node.stop(GRACE).await;
        tracing::info!(peer = %self.id, "peer stopped");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn local_address(listener: &tokio::net::TcpListener, address: &str) -> Result<SocketAddr, CommError> {
    listener.local_addr().map_err(|source| CommError::Bind {
        address: address.to_owned(),
        source,
    })
}

fn local_msp(config: &PeerConfig) -> Result<MspManager, PeerError> {
    let id = || config.id.clone();
    let msp = read_msp_config(&config.msp_dir, &config.msp_id)
        .map_err(|source| PeerError::MspFolder { id: id(), source })?;
    let msp = Msp::new(&msp, MspVersion::LATEST).map_err(|source| PeerError::Msp {
        id: id(),
        source: Box::new(source),
    })?;
    Ok(MspManager::new(vec![msp]))
}

/// Who looks after the peer's certificates: its identity, its TLS certificate, and what it trusts in its own organisation.
fn keeper(
    config: &PeerConfig,
    node: &Arc<PeerNode>,
    (identity, current): (&SigningIdentity, CurrentIdentity),
    server: Option<&ServerTls>,
) -> Result<Keeper, CommError> {
    let mut keeper = Keeper::new(&config.id, config.renewal.clone());
    // What is trusted comes before what depends on it.
    let (peer, settings) = (Arc::downgrade(node), config.clone());
    let read = move || read_msp_config(&settings.msp_dir, &settings.msp_id).map_err(|e| e.to_string());
    let known = parking_lot::Mutex::new(read().map_err(CommError::Tls)?);
    keeper.follow("the peer's own MSP", move || {
        let found = read()?;
        let mut known = known.lock();
        if *known == found {
            return Ok(false);
        }
        let msp = Msp::new(&found, MspVersion::LATEST).map_err(|e| e.to_string())?;
        if let Some(node) = peer.upgrade() {
            node.replace_local_msp(MspManager::new(vec![msp]));
        }
        *known = found;
        Ok(true)
    });
    keeper.identity(&config.msp_dir, identity, move |identity| {
        current.replace(identity);
        Ok(())
    });
    if let (Some(files), Some(server)) = (&config.tls, server) {
        let kept = keeper.tls("tls", &files.certificate, &files.key, server.identity.clone());
        kept.map_err(CommError::Tls)?;
        keeper.roots(&files.client_roots, server.client_roots.clone());
    }
    Ok(keeper)
}

fn pulling(identity: CurrentIdentity, tls: Option<TlsIdentity>, config: &PeerConfig) -> PullerOptions {
    PullerOptions {
        tls,
        address_overrides: config.address_overrides.clone(),
        ..PullerOptions::new(identity)
    }
}

fn routes(
    config: &PeerConfig,
    node: &Arc<PeerNode>,
    runtime: &Arc<ChaincodeRuntime>,
    tls: Option<TlsIdentity>,
    shutdown: &CancellationToken,
    watched: &Operations,
) -> Routes {
    let context: Arc<dyn PeerContext> = Arc::clone(node) as Arc<dyn PeerContext>;
    let endorser = Endorser::new(
        Arc::clone(&context),
        Arc::clone(runtime),
        EndorserConfig::default(),
    );
    let gateway = GatewayService::new(
        config,
        GatewayParts {
            context: Arc::clone(&context),
            runtime: Arc::clone(runtime),
            endorser: endorser.clone(),
            dialling: Dialling {
                identity: tls,
                overrides: config.address_overrides.clone(),
            },
            shutdown: shutdown.clone(),
        },
    );
    let discovery = DiscoveryService::new(DiscoveryParts {
        context: Arc::clone(&context),
        runtime: Arc::clone(runtime),
        peers: gateway.peers(),
        tls: config.tls.is_some(),
        org_members_allowed: config.discovery.org_members_allowed_access,
    });
    let deliver = DeliverService::new(
        context,
        config.requires_client_certificate(),
        config.gateway.listeners,
        shutdown.clone(),
    );
    deliver.metrics().register(&watched.metrics);
    let calls = CallsService::server(endorser.remote(), gateway.clone(), shutdown.clone());
    Routes::new(endorser.service())
        .add_service(calls)
        .add_service(gateway.server())
        .add_service(deliver.server())
        .add_service(discovery.server())
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
