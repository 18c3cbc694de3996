//! Clients load a whole network; and the time from nothing to the first transaction.

use std::time::Instant;

use selvedge_sdk::Invocation;

use super::usage::{Usage, Watch};
use crate::access::CONTRACT;
use crate::clients::Clients;
use crate::error::PerfError;
use crate::load::{Outcome, Progress};
use crate::matrix::Run;
use crate::network::{Network, Tools};
use crate::ordering;
use crate::presigned::Presigner;
use crate::progress;
use crate::report::RunReport;

pub(super) fn reached(outcome: &Outcome) -> Progress {
    Progress {
        done: outcome.done(),
        failed: outcome.failed(),
    }
}

pub(super) async fn measure(run: &Run, tools: &Tools) -> Result<RunReport, PerfError> {
    let network = Network::start(run, tools)?;
    if run.prefill_keys > 0 {
        for channel in &network.access().channels {
            progress::step(&format!("writing {} keys to {channel}", run.prefill_keys));
            let presigner = Presigner::prepare(run, network.access(), channel).await?;
            ordering::prefill(&network, &presigner, channel, run.prefill_keys, |done| {
                progress::step(&format!("{done} keys"));
            })
            .await?;
        }
    }
    let mut clients = Clients::start(run, network.access()).await?;
    let (nodes, load) = (network.processes(), clients.pids());
    if run.warmup > 0 {
        let mut watch = Watch::new("warm-up", run.warmup, run.limit(), &nodes, &load);
        let outcome = clients.phase(run.warmup, run.limit(), |p| watch.tell(p)).await?;
        watch.done(reached(&outcome));
    }
    let before = Usage::now(&network, &nodes, &load);
    let mut watch = Watch::new("measuring", run.transactions, run.limit(), &nodes, &load);
    let outcome = clients
        .phase(run.transactions, run.limit(), |p| watch.tell(p))
        .await?;
    let used = Usage::now(&network, &nodes, &load).since(&before);
    let series = watch.done(reached(&outcome));
    Ok(RunReport::new(run, outcome, used, network.start).with_series(series))
}

/// From nothing (no keys, no certificates, no processes) until the first transaction is committed.
pub(super) async fn measure_start(run: &Run, tools: &Tools) -> Result<RunReport, PerfError> {
    let began = Instant::now();
    let network = Network::start(run, tools)?;
    let put = Invocation::new(CONTRACT, CONTRACT, "put").arg("k").arg("v");
    let gateway = network.access().gateways(1, 0)?.into_iter().next();
    let gateway = gateway.ok_or_else(|| PerfError::Network("there is no gateway".to_owned()))?;
    gateway
        .submit_and_wait(&put)
        .await
        .map_err(PerfError::client("the first transaction"))?;
    let took = began.elapsed();
    let mut outcome = Outcome {
        seconds: took.as_secs_f64(),
        ..Outcome::default()
    };
    outcome.latencies.total.record(took);
    let nodes = network.processes();
    let used = Usage::now(&network, &nodes, &[]).since(&Usage::now(&network, &[], &[]));
    Ok(RunReport::new(run, outcome, used, took))
}
