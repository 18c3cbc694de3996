//! Starting and stopping the server.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use selvedge_callbacks::Hub;
use selvedge_comm::{CommError, bind, serve_http};
use selvedge_operations::{Counter, FailedCheck, Operations, OperationsListener};
use selvedge_renewal::{Keeper, Keeping};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ApiError;
use crate::auth::{AccessLog, Attempts, Gate, Limiter, Streams, Tokens, Users};
use crate::config::ApiConfig;
use crate::index::Index;
use crate::network::{Network, OwnersEvents, Seed};
use crate::routes::{App, router};

/// How long a link for a browser, or a challenge, counts.
const CODE_LIFE: Duration = Duration::from_secs(2 * 60);
/// How often to look whether certificates were renewed.
const IDENTITIES_AGAIN: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    url: String,
    stop: CancellationToken,
    server: JoinHandle<Result<(), CommError>>,
    tasks: Vec<JoinHandle<()>>,
    operations: Option<JoinHandle<Result<(), CommError>>>,
    hub: Arc<Hub>,
    _keeping: Keeping,
}

fn watched(app: &Arc<App>, counter: &Counter) -> Operations {
    let operations = Operations::default();
    operations.metrics.register(counter);
    let heights = Arc::clone(&app.network);
    operations.metrics.gauge(
        "selvedge_api_indexed_height",
        "Blocks of a channel in the index.",
        &["channel"],
        move || {
            let channels = heights.channels();
            channels
                .into_iter()
                .filter_map(|name| {
                    let height = *heights.channel(&name).ok()?.height.borrow();
                    #[expect(clippy::cast_precision_loss, reason = "a height stays far below 2^53")]
                    let height = height as f64;
                    Some((vec![name], height))
                })
                .collect()
        },
    );
    let network = Arc::clone(&app.network);
    operations.health.add(move || {
        if network.channels().is_empty() {
            return vec![FailedCheck {
                component: "peer".to_owned(),
                reason: "no peer has told its channels yet; are the peers of the configuration running?"
                    .to_owned(),
            }];
        }
        Vec::new()
    });
    operations
}

impl Api {
    /// Opens the index, follows the channels, and serves.
    ///
    /// # Errors
    /// An identity or file is not usable, or the address is in use. Peers need not run yet.
    pub async fn start(config: ApiConfig) -> Result<Self, ApiError> {
        // What is in it is the organisation's business: the index knows who did what on its channels.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.data_dir)
            .map_err(|source| ApiError::ReadFile {
                path: config.data_dir.clone(),
                source,
            })?;
        let users = Arc::new(Users::load(&config)?);
        let index = Arc::new(Index::open(&config.data_dir)?);
        let network = Arc::new(Network::new(&config, Arc::clone(&index))?);
        let tls = config.server_tls()?;
        // Takes up what others renew (`selvedge network renew`).
        let mut keeper = Keeper::new(&config.listen, None);
        if let (Some(files), Some(tls)) = (&config.tls, &tls) {
            let kept = keeper.tls("tls", &files.certificate, &files.key, tls.identity.clone());
            kept.map_err(CommError::Tls)?;
            keeper.roots(&files.client_roots, tls.client_roots.clone());
        }
        let watching = match &config.operations {
            Some(operations) => Some(OperationsListener::open(operations).await?),
            None => None,
        };
        let listener = bind(&config.listen).await?;
        let address = listener.local_addr().map_err(|source| CommError::Bind {
            address: config.listen.clone(),
            source,
        })?;
        let url = config.url(address);
        // Not before the address is ours: a second server on the same folder must not send anything.
        let endpoints = config
            .peers
            .iter()
            .map(|peer| peer.endpoint())
            .collect::<Result<Vec<_>, _>>()?;
        let hub = Hub::start(
            Arc::new(OwnersEvents::new(
                endpoints,
                Arc::clone(&users),
                config.channels.clone(),
            )),
            &config.data_dir.join("subscriptions"),
            config.callbacks.clone(),
        )?;
        let stop = CancellationToken::new();
        let counter = Counter::new(
            "selvedge_api_requests",
            "Requests by method and status.",
            &["method", "status"],
        );
        let gate = Arc::new(Gate {
            limiter: Limiter::new(config.limits.requests_per_second, config.limits.burst),
            attempts: Attempts::new(config.limits.login_failures, config.limits.login_pause),
            users: Arc::clone(&users),
            tokens: Tokens::new(config.token_life),
            log: AccessLog::open(&config.data_dir)?,
            certificates: config
                .tls
                .as_ref()
                .is_some_and(|tls| !tls.client_roots.is_empty()),
            behind_proxy: config.behind_proxy,
            counter: counter.clone(),
        });
        let app = Arc::new(App {
            url: url.clone(),
            gate,
            users: Arc::clone(&users),
            network: Arc::clone(&network),
            index,
            seed: Seed::open(&config.data_dir)?,
            codes: Tokens::new(CODE_LIFE),
            challenges: Tokens::new(CODE_LIFE),
            streams: Arc::new(Streams::new(config.limits.streams)),
            overview: Default::default(),
            stop: stop.clone(),
            config,
        });
        let operations = watched(&app, &counter);
        let keeping = keeper.start(&operations);
        let watching = watching.map(|listener| {
            let stopped = stop.clone().cancelled_owned();
            tokio::spawn(listener.serve(operations, stopped))
        });
        let server = tokio::spawn(serve_http(
            listener,
            tls,
            router(app, Arc::clone(&hub)),
            stop.clone().cancelled_owned(),
        ));
        let tasks = vec![
            tokio::spawn(network.follow(stop.clone())),
            tokio::spawn(refresh(users, stop.clone())),
        ];
        tracing::info!(%address, %url, "the REST interface serves");
        Ok(Self {
            address,
            url,
            stop,
            server,
            tasks,
            operations: watching,
            hub,
            _keeping: keeping,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where browsers find the page.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops serving.
    ///
    /// # Errors
    /// The server had failed before.
    pub async fn stop(self) -> Result<(), ApiError> {
        self.stop.cancel();
        self.hub.stop().await;
        for task in self.tasks {
            // A follower has nothing to tell: the index shows how far it came.
            drop(task.await);
        }
        for server in [Some(self.server), self.operations].into_iter().flatten() {
            if let Ok(result) = server.await {
                result?;
            }
        }
        Ok(())
    }
}

async fn refresh(users: Arc<Users>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(IDENTITIES_AGAIN) => {}
        }
        let users = Arc::clone(&users);
        // Files are read; a failure of the thread leaves what was there.
        drop(tokio::task::spawn_blocking(move || users.refresh()).await);
    }
}

/// Runs the server until `shutdown` resolves.
///
/// # Errors
/// It cannot start, or it fails.
pub async fn run(config: ApiConfig, shutdown: impl Future<Output = ()>) -> Result<(), ApiError> {
    let api = Api::start(config).await?;
    shutdown.await;
    api.stop().await
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
