//! The matrix file: which runs there are.
//!
//! Every field of a run may be a list; the runs are then all combinations. `targets` alone is a list of its own.
//!
//! ```yaml
//! defaults: { transactions: 5000, in_flight: 500 }
//! runs:
//!   - { endorsers: [1, 2, 3], value_bytes: [100, 1000] }   # six runs
//!   - { name: open, rate: 200 }
//!   - name: evaluate
//!     operation: get
//!     targets: [{ what: tps, fabric: 1300, target: 10400 }]
//! ```

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_yaml_ng::{Mapping, Value};

use crate::error::PerfError;

/// Runs that one file may ask for.
const MAX_RUNS: usize = 500;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Clients load a whole network.
    #[default]
    Load,
    /// Orderers alone take envelopes that were signed before.
    OrderOnly,
    /// A fresh peer fetches and commits a chain that was recorded before.
    CommitOnly,
    /// `selvedge ledger verify` reads through a chain that was recorded before.
    Audit,
    /// From nothing to the first committed transaction.
    Startup,
}

/// What a client does over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// Submit a write of a new key.
    #[default]
    Put,
    /// Submit a read and a write: of a new key, or of one of the `prefill_keys`.
    Update,
    /// Submit `reads` reads and `writes` writes.
    Mix,
    /// Evaluate a read of a key that exists.
    Get,
}

/// Who collects the endorsements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// The gateway of a peer.
    #[default]
    Gateway,
    /// The client itself, which checks them too.
    Direct,
}

/// How a client of a gateway hears that its transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Commits {
    /// It asks for each with a signed request, as the official clients do.
    #[default]
    Status,
    /// From one stream of the peer's filtered blocks.
    Stream,
}

/// How a gateway's client makes its calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CallsBy {
    /// Over one stream a connection, as our SDK does.
    #[default]
    Stream,
    /// Each by itself, as the official clients do.
    Single,
}

/// A figure that a target is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    /// Transactions a second.
    Tps,
    /// CPU milliseconds a transaction, over all processes.
    CpuMs,
    /// Median latency in milliseconds.
    P50Ms,
    /// Peak memory of peers and orderers together, in MB.
    MemoryMb,
    /// From nothing to the first committed transaction, in seconds.
    StartSeconds,
}

impl Figure {
    /// How it is called in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Tps => "tx/s",
            Self::CpuMs => "CPU ms/tx",
            Self::P50Ms => "p50 ms",
            Self::MemoryMb => "peak memory MB",
            Self::StartSeconds => "seconds",
        }
    }

    /// Whether more of it is better.
    pub(crate) fn more_is_better(self) -> bool {
        self == Self::Tps
    }
}

/// What a run should reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Which figure.
    pub(crate) what: Figure,
    /// What real Fabric reaches on such a machine.
    pub(crate) fabric: Option<f64>,
    /// The value to reach: a lower bound of a rate, an upper bound of everything else.
    pub(crate) target: f64,
    /// The value aimed at.
    pub(crate) aim: Option<f64>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Run {
    /// Name in the report; made of what differs from the defaults if empty.
    pub(crate) name: String,
    /// What is measured.
    pub(crate) kind: Kind,
    /// Organisations, one peer each.
    pub(crate) organizations: usize,
    /// Orderers.
    pub(crate) orderers: usize,
    /// Organisations that must endorse.
    pub(crate) endorsers: usize,
    /// Channels, which the load is spread over.
    pub(crate) channels: usize,
    /// Transactions in a block at most.
    pub(crate) block_transactions: u32,
    /// How long a transaction waits for company in a block.
    pub(crate) block_timeout: String,
    /// What is done.
    pub(crate) operation: Operation,
    /// Reads of one `mix`.
    pub(crate) reads: u32,
    /// Writes of one `mix`.
    pub(crate) writes: u32,
    /// Size of each value written.
    pub(crate) value_bytes: usize,
    /// Keys in the state before the load begins.
    pub(crate) prefill_keys: u64,
    /// Who collects the endorsements.
    pub(crate) mode: Mode,
    /// How commits are heard of through a gateway; a direct client has the stream.
    pub(crate) commits: Commits,
    /// How a gateway's client makes its calls.
    pub(crate) calls: CallsBy,
    /// Devices: each has an identity of its own, and processes of its own.
    pub(crate) devices: usize,
    /// Client processes of each device.
    pub(crate) processes: usize,
    /// Bind each client process to a core of its own, as far as there are cores.
    pub(crate) pin: bool,
    /// Closed loop: transactions under way at any time, over all processes.
    pub(crate) in_flight: usize,
    /// Open loop: transactions started a second, whatever becomes of those before; 0 for a closed loop.
    pub(crate) rate: f64,
    /// Connections, over all processes; each process has one at least.
    pub(crate) connections: usize,
    /// Transactions before the measured ones.
    pub(crate) warmup: u64,
    /// Measured transactions.
    pub(crate) transactions: u64,
    /// The measurement ends after this time in any case.
    pub(crate) max_seconds: u64,
    /// What it should reach.
    pub(crate) targets: Vec<Target>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Load,
            organizations: 3,
            orderers: 1,
            endorsers: 1,
            channels: 1,
            block_transactions: 500,
            block_timeout: "1s".to_owned(),
            operation: Operation::Put,
            reads: 1,
            writes: 1,
            value_bytes: 100,
            prefill_keys: 0,
            mode: Mode::Gateway,
            commits: Commits::Status,
            calls: CallsBy::Stream,
            devices: 1,
            processes: 1,
            pin: false,
            in_flight: 200,
            rate: 0.0,
            connections: 4,
            warmup: 500,
            transactions: 5000,
            max_seconds: 60,
            targets: Vec::new(),
        }
    }
}

impl Run {
    fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("{what} must be between 1 and {most}, and is {value}"))
        };
        within("organizations", self.organizations, 20)?;
        within("orderers", self.orderers, 20)?;
        within("endorsers", self.endorsers, self.organizations)?;
        within("channels", self.channels, 20)?;
        within("devices", self.devices, 64)?;
        within("processes", self.processes, 64)?;
        within("in_flight", self.in_flight, 10_000)?;
        within("connections", self.connections, 256)?;
        within("value_bytes", self.value_bytes, 1 << 20)?;
        if self.transactions == 0 || self.max_seconds == 0 {
            return Err("transactions and max_seconds must not be 0".to_owned());
        }
        if self.prefill_keys > 100_000_000 {
            return Err("prefill_keys must not be above 100000000".to_owned());
        }
        if self.kind == Kind::CommitOnly && self.organizations == 1 {
            return Err(
                "commit-only needs two organizations, so that one of them can be the fresh peer".to_owned(),
            );
        }
        if !(0.0..=100_000.0).contains(&self.rate) {
            return Err(format!(
                "rate must be between 0 and 100000 a second, and is {}",
                self.rate
            ));
        }
        humantime::parse_duration(&self.block_timeout)
            .map(|_| ())
            .map_err(|e| format!("block_timeout '{}': {e}", self.block_timeout))
    }

    /// The measurement's limit.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.max_seconds)
    }

    /// Client processes over all devices.
    pub(crate) fn clients(&self) -> usize {
        self.devices * self.processes
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Mapping,
    runs: Vec<Mapping>,
}

/// Reads a matrix file.
pub(crate) fn read(path: &Path) -> Result<Vec<Run>, PerfError> {
    let text = std::fs::read_to_string(path).map_err(PerfError::file(path))?;
    parse(&text).map_err(|why| PerfError::BadFile {
        path: path.to_owned(),
        why,
    })
}

fn parse(text: &str) -> Result<Vec<Run>, String> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    let mut runs: Vec<Run> = Vec::new();
    for entry in &file.runs {
        for (combination, varied) in combinations(entry)? {
            let mut fields = file.defaults.clone();
            fields.extend(combination);
            let mut run: Run =
                serde_yaml_ng::from_value(Value::Mapping(fields)).map_err(|e| format!("a run: {e}"))?;
            if run.name.is_empty() {
                run.name = if varied.is_empty() {
                    format!("run {}", runs.len() + 1)
                } else {
                    varied
                };
            } else if !varied.is_empty() {
                run.name = format!("{}, {varied}", run.name);
            }
            run.check().map_err(|why| format!("{}: {why}", run.name))?;
            if runs.len() == MAX_RUNS {
                return Err(format!("more than {MAX_RUNS} runs"));
            }
            runs.push(run);
        }
    }
    if runs.is_empty() {
        return Err("there are no runs in it".to_owned());
    }
    Ok(runs)
}

/// All choices of one value from each list, with a text that names what varies.
fn combinations(entry: &Mapping) -> Result<Vec<(Mapping, String)>, String> {
    let mut all = vec![(Mapping::new(), String::new())];
    for (key, value) in entry {
        let values = match value {
            Value::Sequence(values) if key.as_str() != Some("targets") => values,
            _ => {
                for (fields, _) in &mut all {
                    fields.insert(key.clone(), value.clone());
                }
                continue;
            }
        };
        let mut next = Vec::new();
        for (fields, name) in &all {
            for value in values {
                let mut fields = fields.clone();
                fields.insert(key.clone(), value.clone());
                let text = |v: &Value| {
                    serde_yaml_ng::to_string(v).map_or_else(|_| String::new(), |t| t.trim().to_owned())
                };
                let part = format!("{} {}", text(key).replace('_', " "), text(value));
                let name = if name.is_empty() {
                    part
                } else {
                    format!("{name}, {part}")
                };
                next.push((fields, name));
            }
        }
        if next.len() > MAX_RUNS {
            return Err(format!("one entry stands for more than {MAX_RUNS} runs"));
        }
        all = next;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_all_combinations() {
        let runs = parse(
            "defaults: { transactions: 7 }\nruns:\n  - { endorsers: [1, 2], value_bytes: [100, 1000] }\n  - { name: open, rate: 50 }\n",
        )
        .unwrap();
        let names: Vec<&str> = runs.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "endorsers 1, value bytes 100",
                "endorsers 1, value bytes 1000",
                "endorsers 2, value bytes 100",
                "endorsers 2, value bytes 1000",
                "open"
            ]
        );
        assert_eq!((runs[3].endorsers, runs[3].value_bytes), (2, 1000));
        assert!(runs.iter().all(|r| r.transactions == 7));
    }

    #[test]
    fn targets_belong_to_the_run_and_are_no_choice() {
        let runs = parse(
            "runs:\n  - name: a\n    endorsers: [1, 2]\n    targets: [{ what: tps, fabric: 400, target: 2000, aim: 3200 }, { what: cpu-ms, target: 1 }]\n",
        )
        .unwrap();
        assert_eq!(runs.len(), 2);
        assert_eq!(runs[1].targets.len(), 2);
        assert_eq!(runs[0].targets[0].aim, Some(3200.0));
        assert!(runs[0].targets[0].what.more_is_better());
        assert!(!runs[0].targets[1].what.more_is_better());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |text: &str| parse(text).unwrap_err();
        assert!(refused("runs: [{ endorsers: 4 }]").contains("endorsers must be between 1 and 3"));
        assert!(refused("runs: [{ endorser: 1 }]").contains("endorser"));
        assert!(refused("runs: []").contains("no runs"));
        assert!(refused("runs: [{ block_timeout: soon }]").contains("block_timeout"));
        assert!(refused("runs: [{ kind: commit-only, organizations: 1 }]").contains("fresh peer"));
    }

    /// The files that ship with the project.
    #[test]
    fn the_files_in_the_folder_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("matrix");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            assert!(!read(&path).unwrap().is_empty(), "{}", path.display());
        }
    }
}
