//! Handing signed transactions to the orderers, and waiting for the blocks that hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use selvedge_comm::Broadcaster;
use selvedge_proto::common;
use selvedge_sdk::{ClientIdentity, PeerClient, Seek};
use tokio::task::JoinSet;

use crate::access::Access;
use crate::error::PerfError;
use crate::load::{Outcome, Progress};
use crate::network::Network;
use crate::presigned::{KEYS_PER_TRANSACTION, Presigner};

/// Largest number of transactions that are held in memory at a time while a state is filled.
const PREFILL_CHUNK: u64 = 200;
/// Filling transactions on their way at a time: each is some 150 kB.
const PREFILL_IN_FLIGHT: usize = 32;
const TELL: Duration = Duration::from_secs(1);
/// How often a peer is asked for its height.
const POLL: Duration = Duration::from_millis(20);
/// A peer that commits nothing for so long has a problem.
const STALLED: Duration = Duration::from_secs(60);

/// Sends every envelope over one of the streams and waits for all answers; closed loop.
pub(crate) async fn broadcast(
    streams: &[Arc<Broadcaster>],
    envelopes: Vec<common::Envelope>,
    in_flight: usize,
    mut tell: impl FnMut(Progress),
) -> Outcome {
    let envelopes: Arc<[common::Envelope]> = envelopes.into();
    let next = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for (_, stream) in (0..in_flight).zip(streams.iter().cycle()) {
        let (envelopes, next, done) = (Arc::clone(&envelopes), Arc::clone(&next), Arc::clone(&done));
        let stream = Arc::clone(stream);
        running.spawn(async move {
            let mut own = Outcome::default();
            while let Some(envelope) = envelopes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let started = Instant::now();
                match stream.submit(envelope.clone()).await {
                    Ok(answer) if answer.status == common::Status::Success as i32 => {
                        let took = started.elapsed();
                        own.latencies.total.record(took);
                        own.latencies.submit.record(took);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(answer) => own.fail(format!("status {}: {}", answer.status, answer.info)),
                    Err(error) => own.fail(error.to_string()),
                }
            }
            own
        });
    }
    let mut sum = Outcome::default();
    let mut tick = tokio::time::interval(TELL);
    loop {
        tokio::select! {
            ended = running.join_next() => match ended {
                Some(Ok(own)) => sum.add(own),
                Some(Err(why)) => sum.fail(why.to_string()),
                None => break,
            },
            _ = tick.tick() => tell(Progress { done: done.load(Ordering::Relaxed) as u64, failed: sum.failed() }),
        }
    }
    sum.seconds = begin.elapsed().as_secs_f64();
    sum
}

/// How many blocks the ordering service has.
pub(crate) async fn orderer_height(access: &Access, channel: &str) -> Result<u64, PerfError> {
    let block = access
        .orderer()?
        .block(&access.device(0)?, channel, Seek::newest())
        .await
        .map_err(PerfError::client("cannot ask the orderer for its last block"))?;
    Ok(block.header.map_or(0, |h| h.number + 1))
}

/// Waits until a peer has committed `height` blocks; `tell` hears how many it has.
pub(crate) async fn peer_reaches(
    peer: &PeerClient,
    identity: &ClientIdentity,
    channel: &str,
    height: u64,
    mut tell: impl FnMut(u64),
) -> Result<(), PerfError> {
    let mut last = (0, Instant::now());
    loop {
        // While it joins, the peer does not know the channel.
        let reached = peer
            .chain_info(identity, channel)
            .await
            .map_or(0, |info| info.height);
        if reached >= height {
            return Ok(());
        }
        if reached > last.0 {
            last = (reached, Instant::now());
        } else if last.1.elapsed() > STALLED {
            return Err(PerfError::Network(format!(
                "{} stands at block {reached} of {height}",
                peer.address()
            )));
        }
        tell(reached);
        tokio::time::sleep(POLL).await;
    }
}

/// Writes `keys` keys to the state of every peer before the load begins.
pub(crate) async fn prefill(
    network: &Network,
    presigner: &Presigner,
    channel: &str,
    keys: u64,
    mut tell: impl FnMut(u64),
) -> Result<(), PerfError> {
    let access = network.access();
    let streams = access.broadcasters(2)?;
    let chunk = KEYS_PER_TRANSACTION * PREFILL_CHUNK;
    let mut start = 0;
    while start < keys {
        let end = keys.min(start + chunk);
        let envelopes = presigner.prefill(start..end).await?;
        let outcome = broadcast(&streams, envelopes, PREFILL_IN_FLIGHT, |_| {}).await;
        if let Some(why) = outcome.failures.keys().next() {
            return Err(PerfError::Network(format!("the state cannot be filled: {why}")));
        }
        // So that the peers do not fall behind without bound.
        let height = orderer_height(access, channel).await?;
        for org in 1..=access.organizations {
            let peer = access.peer_client(org)?;
            peer_reaches(&peer, &access.device(0)?, channel, height, |_| {}).await?;
        }
        start = end;
        tell(start);
    }
    Ok(())
}
