//! The node: listeners, services, start and stop.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use selvedge_comm::{
    ClientAuth, CommError, MAX_MESSAGE_BYTES, Roots, ServerTls, TlsIdentity, bind, client_certificate,
    serve_grpc, serve_http,
};
use selvedge_msp::{Certificate, CurrentIdentity, SigningIdentity};
use selvedge_operations::OperationsListener;
use selvedge_proto::orderer::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvedge_proto::selvedge::cluster::cluster_server::ClusterServer;
use selvedge_proto::{common, orderer};
use selvedge_renewal::{Keeper, Keeping};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::admin;
use crate::broadcast;
use crate::channel::{ChannelInfo, NodeContext};
use crate::cluster::ClusterService;
use crate::config::{ClientAuthConfig, OrdererConfig, TlsConfig};
use crate::deliver::{self, Caller};
use crate::error::{JoinError, OrdererError};
use crate::operations;
use crate::peers::Dialling;
use crate::registrar::Registrar;

/// Blocks that wait in memory for a client that reads slowly.
const DELIVER_AHEAD: usize = 4;
/// How long callers have to end their calls when the node stops.
const CLOSE: Duration = Duration::from_secs(5);

/// A running ordering node.
pub struct Orderer {
    registrar: Arc<Registrar>,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    operations_address: Option<SocketAddr>,
    stop: CancellationToken,
    servers: JoinSet<Result<(), OrdererError>>,
    _keeping: Keeping,
}

struct Ordering {
    registrar: Arc<Registrar>,
    /// The listener demands client certificates.
    bound: bool,
    stop: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Ordering {
    type BroadcastStream = Answers<orderer::BroadcastResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        let answers = broadcast::answers(Arc::clone(&self.registrar), request.into_inner());
        let stopped = self.stop.clone().cancelled_owned();
        Ok(Response::new(answers.take_until(stopped).boxed()))
    }

    type DeliverStream = Answers<orderer::DeliverResponse>;

    async fn deliver(
        &self,
        request: Request<Streaming<common::Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let certificate = client_certificate(&request).and_then(|der| Certificate::from_der(&der).ok());
        let caller = Caller {
            certificate_hash: certificate.map(|c| c.sha256()),
            bound: self.bound,
        };
        let (answers, outgoing) = tokio::sync::mpsc::channel(DELIVER_AHEAD);
        let registrar = Arc::clone(&self.registrar);
        let (stop, metrics) = (self.stop.clone(), Arc::clone(registrar.metrics()));
        tokio::spawn(async move {
            metrics.streams_opened.count(&[]);
            tokio::select! {
                () = stop.cancelled() => {}
                () = deliver::serve(registrar, caller, request.into_inner(), answers) => {}
            }
            metrics.streams_closed.count(&[]);
        });
        Ok(Response::new(ReceiverStream::new(outgoing).boxed()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, OrdererError> {
    std::fs::read(path).map_err(|source| OrdererError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, OrdererError> {
    paths.iter().map(|p| read(p)).collect()
}

/// The node's TLS certificates and those who are to look after them. Listeners that share a file share a certificate.
struct Material {
    keeper: Keeper,
    open: BTreeMap<PathBuf, TlsIdentity>,
}

impl Material {
    fn identity(
        &mut self,
        name: &'static str,
        certificate: &Path,
        key: &Path,
    ) -> Result<TlsIdentity, OrdererError> {
        if let Some(open) = self.open.get(certificate) {
            return Ok(open.clone());
        }
        let identity = TlsIdentity::from_files(certificate, key)?;
        let kept = self.keeper.tls(name, certificate, key, identity.clone());
        kept.map_err(CommError::Tls)?;
        self.open.insert(certificate.to_owned(), identity.clone());
        Ok(identity)
    }

    fn server(
        &mut self,
        name: &'static str,
        config: &TlsConfig,
        client_auth: ClientAuth,
    ) -> Result<ServerTls, OrdererError> {
        let client_roots = Roots::from(read_all(&config.client_roots)?);
        self.keeper.roots(&config.client_roots, client_roots.clone());
        Ok(ServerTls {
            identity: self.identity(name, &config.certificate, &config.key)?,
            client_roots,
            client_auth,
        })
    }
}

fn dialling(config: &OrdererConfig, material: &mut Material) -> Result<Dialling, OrdererError> {
    let identity = match (&config.cluster.tls, &config.tls) {
        (Some(tls), _) => Some(material.identity("cluster", &tls.certificate, &tls.key)?),
        (None, Some(tls)) => Some(material.identity("tls", &tls.certificate, &tls.key)?),
        (None, None) => None,
    };
    Ok(Dialling {
        identity,
        extra_roots: config
            .tls
            .as_ref()
            .map_or(Ok(Vec::new()), |tls| read_all(&tls.roots))?,
        addresses: config.cluster.addresses.clone(),
    })
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), OrdererError> {
    let listener = bind(address).await?;
    let local = listener.local_addr().map_err(|source| OrdererError::Io {
        action: "read the address of",
        path: PathBuf::from(address),
        source,
    })?;
    Ok((listener, local))
}

impl Orderer {
    /// Starts a node: opens its channels and listens.
    ///
    /// # Errors
    /// Identity, TLS material or data folder cannot be used, or an address is taken.
    pub async fn start(config: OrdererConfig) -> Result<Self, OrdererError> {
        config.check().map_err(|why| OrdererError::Config {
            path: PathBuf::from(&config.id),
            why,
        })?;
        let signer = SigningIdentity::from_msp_dir(&config.msp_id, &config.msp_dir).map_err(|e| {
            OrdererError::Identity {
                path: config.msp_dir.clone(),
                why: e.to_string(),
            }
        })?;
        let mut material = Material {
            keeper: Keeper::new(&config.id, config.renewal.clone()),
            open: BTreeMap::new(),
        };
        let current = CurrentIdentity::from(signer.clone());
        let adopted = current.clone();
        material
            .keeper
            .identity(&config.msp_dir, &signer, move |identity| {
                adopted.replace(identity);
                Ok(())
            });
        let context = Arc::new(NodeContext {
            signer: current,
            dialling: Arc::new(dialling(&config, &mut material)?),
            own_address: config.external_address.clone(),
            raft: config.raft.clone(),
            metrics: Arc::default(),
        });
        let bound = config
            .tls
            .as_ref()
            .is_some_and(|t| t.client_auth == ClientAuthConfig::Require);
        let tls = match &config.tls {
            Some(tls) if bound => Some(material.server("tls", tls, ClientAuth::Require)?),
            Some(tls) => Some(material.server("tls", tls, ClientAuth::Request)?),
            None => None,
        };
        let (listener, address) = listen(&config.listen).await?;
        let admin = match &config.admin {
            Some(admin) => {
                let tls = admin.tls.as_ref();
                let tls = tls.map(|t| material.server("admin-tls", t, ClientAuth::Require));
                Some((listen(&admin.listen).await?, tls.transpose()?))
            }
            None => None,
        };
        let operations = match &config.operations {
            Some(operations) => Some(OperationsListener::open(operations).await?),
            None => None,
        };
        let registrar =
            Arc::new(Registrar::open(&config.data_dir, config.joined_dir.as_deref(), context).await?);
        let stop = CancellationToken::new();
        let mut servers = JoinSet::new();

        let ordering = Ordering {
            registrar: Arc::clone(&registrar),
            bound,
            stop: stop.clone(),
        };
        let cluster = ClusterService {
            registrar: Arc::clone(&registrar),
            stop: stop.clone(),
        };
        let mut routes = tonic::service::RoutesBuilder::default();
        routes
            .add_service(
                AtomicBroadcastServer::new(ordering)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
            )
            .add_service(
                ClusterServer::new(cluster)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
            );
        let watched = operations::of(&registrar);
        let keeping = material.keeper.start(&watched);
        let routes = operations::grpc(&watched).watch(routes.routes());
        let stopped = stop.clone().cancelled_owned();
        servers.spawn(async move { Ok(serve_grpc(listener, tls, routes, stopped).await?) });

        let admin_address = admin.map(|((listener, address), tls)| {
            let router = admin::router(Arc::clone(&registrar));
            let stopped = stop.clone().cancelled_owned();
            servers.spawn(async move { Ok(serve_http(listener, tls, router, stopped).await?) });
            address
        });
        let operations_address = operations.map(|listener| {
            let address = listener.address();
            let stopped = stop.clone().cancelled_owned();
            servers.spawn(async move { Ok(listener.serve(watched, stopped).await?) });
            address
        });
        tracing::info!(orderer = %config.id, %address, channels = registrar.infos().len(), "ordering node is up");
        Ok(Self {
            registrar,
            address,
            admin_address,
            operations_address,
            stop,
            servers,
            _keeping: keeping,
        })
    }

    /// Address of Broadcast, Deliver and the cluster service.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of the channel participation interface.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Address of health and metrics.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations_address
    }

    /// Joins a channel, as the participation interface does.
    ///
    /// # Errors
    /// The block is no config block that this node can serve, or the node is in the channel already.
    pub async fn join(&self, block: common::Block) -> Result<ChannelInfo, JoinError> {
        self.registrar.join(block).await
    }

    /// The channels of this node.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        self.registrar.infos()
    }

    /// Whether this node leads the channel's consensus at the moment.
    pub fn leads(&self, channel: &str) -> bool {
        self.registrar
            .get(channel)
            .and_then(|c| c.consensus())
            .is_some_and(|c| c.is_leader())
    }

    /// Ends all streams, stops Raft and closes the files.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.registrar.shutdown().await;
        let servers = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE, servers).await.is_err() {
            tracing::warn!("some callers kept their connections; they are cut");
        }
    }

    /// Returns when a listener has failed.
    async fn failed(&mut self) -> Result<(), OrdererError> {
        match self.servers.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(_)) | None => Ok(()),
        }
    }
}

/// Runs an ordering node until `shutdown` resolves.
///
/// # Errors
/// The node cannot start, or a listener fails.
pub async fn run(
    config: OrdererConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), OrdererError> {
    let mut orderer = Orderer::start(config).await?;
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        failed = orderer.failed() => failed,
    };
    orderer.stop().await;
    outcome
}
