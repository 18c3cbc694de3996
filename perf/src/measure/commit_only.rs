//! Committing alone: a fresh peer joins a channel whose chain is there already, fetches and commits all of it.

use std::time::Instant;

use super::usage::{Usage, Watch};
use crate::access::{CONTRACT, peer_host};
use crate::error::PerfError;
use crate::load::{Outcome, Progress};
use crate::matrix::Run;
use crate::network::{Network, Tools};
use crate::ordering;
use crate::presigned::Presigner;
use crate::progress;
use crate::report::RunReport;

/// Transactions that are signed and held in memory at a time.
const CHUNK: u64 = 20_000;

/// A network without peers whose orderers hold `run.transactions` transactions in full blocks.
pub(super) async fn record(run: &Run, tools: &Tools) -> Result<Network, PerfError> {
    let network = Network::start(run, tools)?;
    let presigner = Presigner::prepare(run, network.access(), CONTRACT).await?;
    network.stop_peers().await?;
    let streams = network.access().broadcasters(run.connections)?;
    let mut start = 0;
    while start < run.transactions {
        let end = run.transactions.min(start + CHUNK);
        let envelopes = presigner.puts(start..end).await?;
        let outcome = ordering::broadcast(&streams, envelopes, run.in_flight, |_| {}).await;
        if let Some(why) = outcome.failures.keys().next() {
            return Err(PerfError::Network(format!("the chain cannot be recorded: {why}")));
        }
        start = end;
        progress::step(&format!("recorded {start} of {} transactions", run.transactions));
    }
    Ok(network)
}

pub(super) async fn measure(run: &Run, tools: &Tools) -> Result<RunReport, PerfError> {
    let network = record(run, tools).await?;
    let access = network.access();
    let height = ordering::orderer_height(access, CONTRACT).await?;
    // The last organisation's: it endorsed none of the transactions, so it has to check every signature.
    let org = run.organizations;
    let peer = network.start_fresh_peer(org).await?;
    let mut nodes = network.processes();
    nodes.retain(|node| node.name == peer_host(org) || !node.name.starts_with("peer"));
    let genesis = network.genesis();
    let genesis = std::fs::read(&genesis).map_err(PerfError::file(&genesis))?;
    let (client, admin, reader) = (
        access.peer_client(org)?,
        access.user(org, "Admin")?,
        access.device(0)?,
    );
    let before = Usage::now(&network, &nodes, &[]);
    let mut watch = Watch::new("committing", height, run.limit(), &nodes, &[]);
    let began = Instant::now();
    client
        .join_channel(&admin, genesis.into())
        .await
        .map_err(PerfError::client(format!(
            "{} cannot join the channel",
            peer.name
        )))?;
    let mut shown = Instant::now();
    ordering::peer_reaches(&client, &reader, CONTRACT, height, |done| {
        if shown.elapsed().as_secs_f64() > 0.5 {
            shown = Instant::now();
            watch.tell(Progress { done, failed: 0 });
        }
    })
    .await?;
    let took = began.elapsed();
    let used = Usage::now(&network, &nodes, &[]).since(&before);
    let series = watch.done(Progress {
        done: height,
        failed: 0,
    });
    let outcome = Outcome {
        seconds: took.as_secs_f64(),
        blocks: (0..height).map(|n| (0, n)).collect(),
        ..Outcome::default()
    };
    Ok(RunReport::of_count(run, run.transactions, outcome, used, network.start).with_series(series))
}
