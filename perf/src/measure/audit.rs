//! Auditing alone: `selvedge ledger verify` on the files of an orderer.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::commit_only;
use crate::error::PerfError;
use crate::load::Outcome;
use crate::machine;
use crate::matrix::Run;
use crate::network::Tools;
use crate::progress;
use crate::report::{ProcessUse, RunReport};

pub(super) async fn measure(run: &Run, tools: &Tools) -> Result<RunReport, PerfError> {
    let network = commit_only::record(run, tools).await?;
    progress::step("verifying");
    let folder = network.data("orderer0.example.com");
    let began = Instant::now();
    let cpu = machine::children_cpu();
    let output = Command::new(tools.binary())
        .args(["ledger", "verify", "--ledger"])
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .map_err(PerfError::file(tools.binary()))?;
    let took = began.elapsed();
    if !output.status.success() {
        return Err(PerfError::Network(format!(
            "the chain does not verify:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let used = machine::children_cpu() - cpu;
    let process = ProcessUse {
        name: "ledger verify".to_owned(),
        cpu_seconds: used.user + used.system,
        system_seconds: used.system,
        peak_kib: 0,
        disk_bytes: 0,
        wire_bytes: None,
    };
    let outcome = Outcome {
        seconds: took.as_secs_f64(),
        ..Outcome::default()
    };
    Ok(RunReport::of_count(
        run,
        run.transactions,
        outcome,
        vec![process],
        network.start,
    ))
}
