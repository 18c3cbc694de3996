//! What a transaction costs the gateway: bytes to flash, and instructions.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::{Bench, Figure, Gateway, folder, payload_bytes};
use crate::error::PerfError;
use crate::matrix::Run;
use crate::network::{Network, Tools};

/// Readings of the measurement of flash.
const READINGS: u64 = 2000;
/// Transactions of the shorter and of the longer run: what the start costs falls out of their difference.
const FEW: u64 = 20;
const MANY: u64 = 80;
/// valgrind runs a program 50 times slower.
const PATIENCE: Duration = Duration::from_secs(600);

fn network(endorsers: usize, tools: &Tools) -> Result<Network, PerfError> {
    let run = Run {
        endorsers,
        block_timeout: "200ms".to_owned(),
        ..Run::default()
    };
    Network::start(&run, tools)
}

/// Bytes to flash for a reading that comes, is sent and ends, alone and in lists.
pub(crate) async fn flash(bench: &Bench, tools: &Tools) -> Result<Vec<Figure>, PerfError> {
    let limit = payload_bytes() * 3 / 2 + 100;
    let network = network(1, tools)?;
    let mut figures = Vec::new();
    for list in [1, 32, 500] {
        let folder = folder()?;
        let gateway = Gateway::start(bench, &folder, &network.edge_uplink("gateway", 1), &[]).await?;
        let before = (written(&gateway).await, gateway.device_bytes());
        // Numbers of their own, since each is a key on the ledger.
        gateway.give(list * 1_000_000, READINGS, list).await?;
        gateway.drained(PATIENCE).await?;
        let after = (written(&gateway).await, gateway.device_bytes());
        if let (Some(before), Some(after)) = (before.0, after.0) {
            let each = after.saturating_sub(before) / READINGS;
            figures.push(Figure::limited(
                format!(
                    "bytes written for a reading of {} bytes, {list} a call",
                    payload_bytes()
                ),
                format!("{limit}"),
                format!("{each}"),
                each <= limit,
            ));
        }
        let pages = after.1.saturating_sub(before.1) / READINGS;
        figures.push(Figure::plain(
            format!("the same as whole pages of the disk, {list} a call"),
            format!("{pages}"),
        ));
    }
    Ok(figures)
}

async fn written(gateway: &Gateway) -> Option<u64> {
    gateway.status().await["flash_bytes_written"].as_u64()
}

/// Instructions of a transaction in both modes with 1, 2 and 3 endorsers.
pub(crate) async fn instructions(bench: &Bench, tools: &Tools) -> Result<Vec<Figure>, PerfError> {
    let mut figures = Vec::new();
    for endorsers in 1..=3 {
        let network = network(endorsers, tools)?;
        for mode in ["gateway", "direct"] {
            let few = counted(bench, &network, mode, endorsers, FEW).await?;
            let many = counted(bench, &network, mode, endorsers, MANY).await?;
            let each = many.saturating_sub(few) / (MANY - FEW);
            #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
            let millions = each as f64 / 1e6;
            figures.push(Figure::plain(
                format!("instructions of a transaction, {mode} mode, {endorsers} endorsers"),
                format!("{millions:.2} million"),
            ));
        }
    }
    Ok(figures)
}

/// Instructions of a whole life of a gateway with `transactions` in it, as callgrind counts them.
async fn counted(
    bench: &Bench,
    network: &Network,
    mode: &'static str,
    endorsers: usize,
    transactions: u64,
) -> Result<u64, PerfError> {
    let folder: TempDir = folder()?;
    let out = folder.path().join("callgrind.out");
    let before = [
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let gateway = Gateway::start(bench, &folder, &network.edge_uplink(mode, endorsers), &before).await?;
    // Of each a fresh key: the folder's name is one.
    let first = u64::from(std::process::id()) * 1_000_000 + next_first();
    gateway.give(first, transactions, 1).await?;
    gateway.drained(PATIENCE).await?;
    gateway.stop()?;
    total(&out)
}

/// A different number at each call, a thousand apart.
fn next_first() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1000, Ordering::Relaxed)
}

/// The sum in a callgrind file: its line `totals: N` or `summary: N`.
fn total(file: &Path) -> Result<u64, PerfError> {
    let text = std::fs::read_to_string(file).map_err(PerfError::file(file))?;
    let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name).map(str::trim));
    line("totals:")
        .or_else(|| line("summary:"))
        .and_then(|n| n.split(' ').next()?.parse().ok())
        .ok_or_else(|| PerfError::BadFile {
            path: file.to_owned(),
            why: "it holds no totals: valgrind did not end as it should".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrind_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        std::fs::write(
            &file,
            "version: 1\nevents: Ir\nsummary: 99\nfn=(1)\n1 2\ntotals: 1234\n",
        )
        .unwrap();
        assert_eq!(total(&file).unwrap(), 1234);
        std::fs::write(&file, "nothing").unwrap();
        assert!(total(&file).is_err());
        assert_ne!(next_first(), next_first());
    }
}
