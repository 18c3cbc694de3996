//! What the processes of a run use, before and after, and while it runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::load::Progress;
use crate::machine::{self, Cpu};
use crate::network::{Network, NodeProcess};
use crate::progress::Reporter;
use crate::report::{Moment, ProcessUse};

/// Moments that are kept of a run; of a longer one every second, fourth, eighth ... is.
const MOMENTS: usize = 600;

/// The name that all client processes together have in reports.
pub(crate) const LOAD: &str = "load";

/// What all processes had used at one time.
pub(crate) struct Usage(Vec<(String, ProcessUse)>);

fn used(name: &str, pids: &[u32], disk_bytes: u64, wire: Option<&BTreeMap<u32, u64>>) -> ProcessUse {
    let cpu = pids
        .iter()
        .filter_map(|pid| machine::cpu(*pid))
        .fold(Cpu::default(), |sum, cpu| sum + cpu);
    ProcessUse {
        name: name.to_owned(),
        cpu_seconds: cpu.user + cpu.system,
        system_seconds: cpu.system,
        peak_kib: pids
            .iter()
            .filter_map(|pid| machine::resident_kib(*pid))
            .map(|(_, peak)| peak)
            .sum(),
        disk_bytes,
        wire_bytes: wire.map(|by_pid| pids.iter().filter_map(|pid| by_pid.get(pid)).sum()),
    }
}

impl Usage {
    /// Of these nodes, and of the processes that make the load.
    pub(crate) fn now(network: &Network, nodes: &[NodeProcess], load: &[u32]) -> Self {
        let wire = machine::wire_bytes();
        let mut all: Vec<(String, ProcessUse)> = nodes
            .iter()
            .map(|node| {
                let disk = network.disk(&node.name);
                (
                    node.name.clone(),
                    used(&node.name, &[node.pid], disk, wire.as_ref()),
                )
            })
            .collect();
        if !load.is_empty() {
            all.push((LOAD.to_owned(), used(LOAD, load, 0, wire.as_ref())));
        }
        Self(all)
    }

    /// What was used between `before` and this; peaks are those since each process began.
    pub(crate) fn since(self, before: &Self) -> Vec<ProcessUse> {
        self.0
            .into_iter()
            .map(|(name, mut now)| {
                if let Some((_, then)) = before.0.iter().find(|(n, _)| *n == name) {
                    now.cpu_seconds -= then.cpu_seconds;
                    now.system_seconds -= then.system_seconds;
                    now.disk_bytes = now.disk_bytes.saturating_sub(then.disk_bytes);
                    now.wire_bytes = now
                        .wire_bytes
                        .zip(then.wire_bytes)
                        .map(|(now, then)| now.saturating_sub(then));
                }
                now
            })
            .collect()
    }
}

/// Watches a phase: shows how far it is, and notes memory and throughput as it goes.
pub(crate) struct Watch {
    reporter: Reporter,
    nodes: Vec<NodeProcess>,
    load: Vec<u32>,
    begin: Instant,
    moments: Vec<Moment>,
    /// Every so many words a moment is kept.
    every: usize,
    heard: usize,
}

impl Watch {
    pub(crate) fn new(phase: &str, count: u64, limit: Duration, nodes: &[NodeProcess], load: &[u32]) -> Self {
        Self {
            reporter: Reporter::new(phase, count, limit),
            nodes: nodes.to_owned(),
            load: load.to_owned(),
            begin: Instant::now(),
            moments: Vec::new(),
            every: 1,
            heard: 0,
        }
    }

    /// Hears how far the phase is.
    pub(crate) fn tell(&mut self, progress: Progress) {
        self.reporter.show(progress);
        if self.heard.is_multiple_of(self.every) {
            self.moments.push(self.moment(progress.done));
        }
        self.heard += 1;
        if self.moments.len() > MOMENTS {
            self.every *= 2;
            let mut place = 0;
            self.moments.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
    }

    fn moment(&self, done: u64) -> Moment {
        let resident = |pid: u32| machine::resident_kib(pid).map_or(0, |(now, _)| now);
        let mut memory_kib: BTreeMap<String, u64> = self
            .nodes
            .iter()
            .map(|node| (node.name.clone(), resident(node.pid)))
            .collect();
        if !self.load.is_empty() {
            let load = self.load.iter().map(|pid| resident(*pid)).sum();
            memory_kib.insert(LOAD.to_owned(), load);
        }
        Moment {
            seconds: self.begin.elapsed().as_secs_f64(),
            done,
            memory_kib,
        }
    }

    /// The phase is over.
    pub(crate) fn done(mut self, progress: Progress) -> Vec<Moment> {
        self.reporter.show(progress);
        self.reporter.done();
        self.moments.push(self.moment(progress.done));
        self.moments
    }
}
