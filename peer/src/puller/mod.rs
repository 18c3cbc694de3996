//! Fetching blocks from the ordering service (spec 05 §4, 03 §2).
//!
//! One task a channel. It asks an orderer for everything from the channel's height on, verifies each block (number, hash
//! chain, data hash, form, signatures of the orderers) and hands it to the commit pipeline. An orderer that ends the
//! stream, cannot be reached or sends a block that does not verify is left for another one. A block that does not verify is
//! more than a hitch, so it is logged as an error and counted.

mod seek;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::seq::SliceRandom;
use selvedge_channel::{Bundle, OrdererEndpoint};
use selvedge_comm::TlsIdentity;
use selvedge_msp::CurrentIdentity;
use selvedge_operations::{Counter, Metrics};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::channel::PeerChannel;
use crate::pipeline::{CommitPipeline, PipelineError};
use session::{Session, SessionEnd, SessionError};

/// How a channel's blocks are fetched.
#[derive(Debug, Clone)]
pub struct PullerOptions {
    /// Who asks: must satisfy the channel's `/Channel/Readers`.
    pub identity: CurrentIdentity,
    /// The TLS client certificate of this peer; `None`: the orderers are dialled without TLS.
    pub tls: Option<TlsIdentity>,
    /// Dial another address than the configuration names, by the configured `host:port`. The certificate is still checked
    /// against the configured host.
    pub address_overrides: BTreeMap<String, String>,
    /// The wait after a first failure; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// Where it is counted what orderers send.
    pub metrics: PullerMetrics,
}

/// What is measured of fetching blocks; one for all channels of a peer.
#[derive(Debug, Clone)]
pub struct PullerMetrics {
    /// Blocks that did not verify; by channel and by the orderer that sent them (`host:port` of the configuration).
    pub refused_blocks: Counter,
}

impl Default for PullerMetrics {
    fn default() -> Self {
        Self {
            refused_blocks: Counter::new(
                "selvedge_blocks_refused",
                "Blocks from an orderer that were refused: forged, out of order, or not signed as the channel demands.",
                &["channel", "orderer"],
            ),
        }
    }
}

impl PullerMetrics {
    /// Shows them with the other metrics of the node.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(&self.refused_blocks);
    }
}

impl PullerOptions {
    /// With the usual waits, no TLS and no overrides.
    pub fn new(identity: impl Into<CurrentIdentity>) -> Self {
        Self {
            identity: identity.into(),
            tls: None,
            address_overrides: BTreeMap::new(),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(10),
            metrics: PullerMetrics::default(),
        }
    }
}

/// A running puller. Dropping it stops the task without waiting.
#[derive(Debug)]
pub struct PullerHandle {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
    orderer: watch::Receiver<Option<String>>,
}

impl PullerHandle {
    /// The orderer that blocks come from at the moment; `None` between two.
    pub fn orderer(&self) -> Option<String> {
        self.orderer.borrow().clone()
    }

    /// Stops, and waits until the blocks at hand are committed.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the puller task failed");
        }
    }
}

impl Drop for PullerHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Where the chain has got to, committed or in the pipeline.
#[derive(Debug, Clone)]
struct Cursor {
    next: u64,
    previous_hash: Option<Bytes>,
    /// The configuration as of block `next - 1`.
    bundle: Arc<Bundle>,
}

impl Cursor {
    fn of(channel: &PeerChannel) -> Self {
        Self {
            next: channel.height(),
            previous_hash: channel.ledger().blocks().last_hash(),
            bundle: channel.bundle(),
        }
    }
}

/// Starts fetching a channel's blocks. Must be called within a tokio runtime.
pub fn start(channel: Arc<PeerChannel>, options: PullerOptions) -> PullerHandle {
    let (stop, stopped) = watch::channel(false);
    let (current, orderer) = watch::channel(None);
    let puller = Puller {
        channel,
        options,
        stopped,
        current,
    };
    PullerHandle {
        stop,
        task: Some(tokio::spawn(puller.run())),
        orderer,
    }
}

struct Puller {
    channel: Arc<PeerChannel>,
    options: PullerOptions,
    stopped: watch::Receiver<bool>,
    current: watch::Sender<Option<String>>,
}

impl Puller {
    async fn run(mut self) {
        let mut failures = 0u32;
        while !*self.stopped.borrow() {
            let height = self.channel.height();
            match self.pull(&mut failures).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(channel = self.channel.id(), %error, "blocks of this channel cannot be committed");
                }
            }
            failures = if self.channel.height() > height {
                1
            } else {
                failures.saturating_add(1)
            };
            self.pause(failures).await;
        }
    }

    /// Pulls until told to stop, from one orderer after the other; an error means that committing failed.
    async fn pull(&mut self, failures: &mut u32) -> Result<(), PipelineError> {
        let pipeline = CommitPipeline::start(Arc::clone(&self.channel))?;
        let mut cursor = Cursor::of(&self.channel);
        let mut left: Option<String> = None;
        while !*self.stopped.borrow() {
            let Some(endpoint) = choose(&cursor.bundle, left.as_deref()) else {
                tracing::error!(
                    channel = self.channel.id(),
                    "the channel's configuration names no orderer"
                );
                *failures = failures.saturating_add(1);
                self.pause(*failures).await;
                continue;
            };
            let before = cursor.next;
            self.current.send_replace(Some(endpoint.address.clone()));
            let session = Session {
                channel: &self.channel,
                options: &self.options,
                endpoint: &endpoint,
            };
            let end = session.run(&mut cursor, &pipeline, &mut self.stopped).await;
            self.current.send_replace(None);
            match end {
                SessionEnd::Stopped => break,
                SessionEnd::Pipeline(error) => return Err(error),
                SessionEnd::Failed(SessionError::Refused(refusal)) => {
                    self.options
                        .metrics
                        .refused_blocks
                        .count(&[self.channel.id(), &endpoint.address]);
                    tracing::error!(
                        channel = self.channel.id(), orderer = %endpoint.address, block = cursor.next, error = %refusal,
                        "this orderer sent a block that is refused; it is faulty, or somebody changes what it sends"
                    );
                }
                SessionEnd::Failed(error) => {
                    tracing::warn!(
                        channel = self.channel.id(), orderer = %endpoint.address, next = cursor.next, %error,
                        "leaving this orderer"
                    );
                }
            }
            left = Some(endpoint.address);
            *failures = if cursor.next > before {
                1
            } else {
                failures.saturating_add(1)
            };
            self.pause(*failures).await;
        }
        pipeline.finish().await
    }

    /// Waits longer with each failure in a row, by chance between half and all of it, so that peers do not come at once.
    async fn pause(&mut self, failures: u32) {
        let doubled = self
            .options
            .first_wait
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        let wait = doubled
            .min(self.options.longest_wait)
            .mul_f64(rand::rng().random_range(0.5..=1.0));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = self.stopped.wait_for(|stop| *stop) => {}
        }
    }
}

/// Any of the channel's orderers, the one just left only if there is no other.
fn choose(bundle: &Bundle, left: Option<&str>) -> Option<OrdererEndpoint> {
    let mut endpoints = bundle.orderer_endpoints();
    endpoints.shuffle(&mut rand::rng());
    endpoints.sort_by_key(|endpoint| left == Some(endpoint.address.as_str()));
    endpoints.into_iter().next()
}
