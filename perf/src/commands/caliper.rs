//! `selvedge-perf caliper`: Hyperledger Caliper, unmodified, against a network of ours (`perf/caliper/`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access::{Access, CONTRACT};
use crate::error::PerfError;
use crate::matrix::Run;
use crate::network::{Network, Tools};
use crate::progress::step;

/// What Caliper is to run.
#[derive(Debug, Args)]
pub(crate) struct CaliperArgs {
    /// Folder of Caliper's files.
    #[arg(long, default_value = "perf/caliper")]
    folder: PathBuf,
    /// Its benchmark file, in that folder.
    #[arg(long, default_value = "bench.yaml")]
    bench: PathBuf,
    /// Where its HTML report goes.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Organisations that must endorse.
    #[arg(long, default_value_t = 1)]
    endorsers: usize,
    /// The selvedge binary; SELVEDGE_BIN or the one beside this program if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder with the compiled benchmark contract; SELVEDGE_CONTRACTS or where cargo puts it if absent.
    #[arg(long)]
    contracts: Option<PathBuf>,
}

fn failed(what: impl std::fmt::Display) -> PerfError {
    PerfError::Network(format!("Caliper: {what}"))
}

/// Installs Caliper if it is not there, starts a network, and lets Caliper load it.
///
/// # Errors
/// npm or the network does not work, or a transaction of Caliper's failed.
pub(crate) async fn run(args: CaliperArgs) -> Result<(), PerfError> {
    let tools = Tools::find(args.binary.clone(), args.contracts.clone())?;
    install(&args.folder)?;
    let run = Run {
        endorsers: args.endorsers,
        organizations: args.endorsers.max(2),
        ..Run::default()
    };
    let network = Network::start(&run, &tools)?;
    let work = TempDir::with_prefix("selvedge-caliper-").map_err(failed)?;
    // Caliper resolves the workload's `require` from where the module lies, so the workspace is its own folder.
    let config = work.path().join("network.yaml");
    // JSON is YAML.
    std::fs::write(&config, network_config(network.access())?.to_string())
        .map_err(PerfError::file(&config))?;
    let report = std::path::absolute(args.report.unwrap_or_else(|| work.path().join("report.html")))
        .map_err(failed)?;
    step("Caliper runs");
    let output = Command::new("npx")
        .args(["caliper", "launch", "manager", "--caliper-workspace", "."])
        .arg("--caliper-networkconfig")
        .arg(&config)
        .arg("--caliper-benchconfig")
        .arg(&args.bench)
        .arg("--caliper-report-path")
        .arg(&report)
        .arg("--caliper-flow-only-test")
        .current_dir(&args.folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("npx cannot be started: {e}; install Node.js 20 with npm")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rows = table(&said);
    for row in &rows {
        println!("{row}");
    }
    // The log of Caliper's manager goes into the folder that it runs in.
    drop(std::fs::remove_file(args.folder.join("caliper.log")));
    if !output.status.success() || rows.is_empty() {
        return Err(failed(format!(
            "it ended with {}:\n{}{}",
            output.status,
            tail(&said),
            tail(&String::from_utf8_lossy(&output.stderr))
        )));
    }
    match failures(&rows) {
        0 => Ok(()),
        count => Err(failed(format!("{count} transactions failed:\n{}", tail(&said)))),
    }
}

fn install(folder: &Path) -> Result<(), PerfError> {
    if folder.join("node_modules/@hyperledger/caliper-fabric").is_dir() {
        return Ok(());
    }
    step("installing Caliper with npm: a minute or two the first time");
    let output = Command::new("npm")
        .args(["ci", "--no-fund", "--no-audit", "--loglevel", "error"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("npm cannot be started: {e}; install Node.js 20 with npm")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(format!(
        "npm ci in {} ended with {}:\n{}",
        folder.display(),
        output.status,
        tail(&String::from_utf8_lossy(&output.stderr))
    )))
}

fn only_file(folder: &Path) -> Result<PathBuf, PerfError> {
    let mut files = std::fs::read_dir(folder).map_err(PerfError::file(folder))?;
    let first = files.next().and_then(Result::ok);
    first
        .map(|file| file.path())
        .ok_or_else(|| failed(format!("{} is empty", folder.display())))
}

/// Caliper's description of the network (`spec/07-clients.md` §3).
fn network_config(access: &Access) -> Result<Value, PerfError> {
    let org = access
        .root
        .join("organizations/peerOrganizations/org1.example.com");
    let user = org.join("users/User1@org1.example.com/msp");
    let port = access.peer_ports.first().copied().unwrap_or_default();
    Ok(json!({
        "name": "selvedge",
        "version": "2.0.0",
        "caliper": { "blockchain": "fabric" },
        "channels": [{ "channelName": CONTRACT, "contracts": [{ "id": CONTRACT, "contractID": CONTRACT }] }],
        "organizations": [{
            "mspid": "Org1MSP",
            "identities": { "certificates": [{
                "name": "User1",
                "clientPrivateKey": { "path": only_file(&user.join("keystore"))? },
                "clientSignedCert": { "path": only_file(&user.join("signcerts"))? },
            }] },
            "peers": [{
                "endpoint": format!("localhost:{port}"),
                "grpcOptions": { "ssl-target-name-override": "peer0.org1.example.com", "grpc.keepalive_time_ms": 600_000 },
                "tlsCACerts": { "path": org.join("tlsca/tlsca.org1.example.com-cert.pem") },
            }],
        }],
    }))
}

/// The rows of the last table that Caliper printed: name, succeeded, failed, rates and latencies of each round.
fn table(said: &str) -> Vec<String> {
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with('|')).collect();
    let last = lines.iter().rposition(|line| line.contains("Succ"));
    last.map_or_else(Vec::new, |at| {
        lines[at..].iter().map(|line| (*line).to_owned()).collect()
    })
}

/// The sum of the third column, `Fail`.
fn failures(rows: &[String]) -> u64 {
    let count = |row: &String| row.split('|').nth(3)?.trim().parse::<u64>().ok();
    rows.iter().filter_map(count).sum()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut tail = lines[lines.len().saturating_sub(30)..].join("\n");
    tail.push('\n');
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_table_counts() {
        let said = "log\n| Name | Succ | Fail | Send Rate |\n|---|\n| put | 40 | 0 | 20 |\nlog\n\
                    | Name | Succ | Fail | Send Rate |\n|------|------|\n| put  | 38   | 2    | 20 |\n| get  | 20   | 1    | 20 |\n";
        let rows = table(said);
        assert_eq!(rows.len(), 4);
        assert_eq!(failures(&rows), 3);
        assert!(table("nothing").is_empty());
    }
}
