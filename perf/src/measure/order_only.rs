//! Orderers alone: envelopes that were signed before, answered when a majority has them on disk.

use super::load::reached;
use super::usage::{Usage, Watch};
use crate::access::CONTRACT;
use crate::error::PerfError;
use crate::load::Outcome;
use crate::matrix::Run;
use crate::network::{Network, Tools};
use crate::ordering;
use crate::presigned::Presigner;
use crate::progress;
use crate::report::RunReport;

pub(super) async fn measure(run: &Run, tools: &Tools) -> Result<RunReport, PerfError> {
    let network = Network::start(run, tools)?;
    let presigner = Presigner::prepare(run, network.access(), CONTRACT).await?;
    network.stop_peers().await?;
    progress::step("signing the transactions");
    let warmup = presigner.puts(0..run.warmup).await?;
    let envelopes = presigner.puts(run.warmup..run.warmup + run.transactions).await?;
    let streams = network.access().broadcasters(run.connections)?;
    ordering::broadcast(&streams, warmup, run.in_flight, |_| {}).await;

    let (nodes, load) = (network.processes(), [std::process::id()]);
    let first = ordering::orderer_height(network.access(), CONTRACT).await?;
    let before = Usage::now(&network, &nodes, &load);
    let mut watch = Watch::new("measuring", run.transactions, run.limit(), &nodes, &load);
    let mut outcome: Outcome =
        ordering::broadcast(&streams, envelopes, run.in_flight, |p| watch.tell(p)).await;
    let used = Usage::now(&network, &nodes, &load).since(&before);
    let series = watch.done(reached(&outcome));
    let last = ordering::orderer_height(network.access(), CONTRACT).await?;
    outcome.blocks = (first..last).map(|n| (0, n)).collect();
    Ok(RunReport::new(run, outcome, used, network.start).with_series(series))
}
