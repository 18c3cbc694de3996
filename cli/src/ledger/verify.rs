//! `selvedge ledger verify`: audits chains offline.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use selvedge_peer::audit::{self, AuditProgress, AuditReport, ChainFiles};
use selvedge_peer::replay;
use selvedge_proto::block_hash;
use serde_json::json;

use crate::args::LedgerVerifyArgs;
use crate::error::{CliError, During};

/// How often the progress is shown.
const SHOW: Duration = Duration::from_millis(500);

/// A folder of its own, which goes when this does.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: Option<&Path>) -> Result<Self, CliError> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("selvedge-verify-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|source| CliError::WriteFile {
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(super) fn verify(args: &LedgerVerifyArgs) -> Result<(), CliError> {
    let trusted = match &args.genesis {
        None => None,
        Some(path) => {
            let block = replay::read_block(path).during(|| "the trusted genesis block".to_owned())?;
            let header = block.header.as_ref().ok_or_else(|| {
                CliError::said(format!(
                    "{} is no genesis block: it has no header",
                    path.display()
                ))
            })?;
            Some(block_hash(header))
        }
    };
    let failed = |path: &Path| format!("the chain in {} does not verify", path.display());
    let chains = audit::find_chains(&args.ledger).during(|| "nothing was verified".to_owned())?;
    let scratch = Scratch::new(args.work.as_deref())?;
    let mut reports = Vec::new();
    for (number, chain) in chains.iter().enumerate() {
        let mut shown = Shown::new(chain);
        let work = scratch.0.join(number.to_string());
        let verified = audit::verify(chain, &work, trusted.as_deref(), |progress| shown.show(progress));
        shown.end();
        let report = verified.during(|| failed(chain.path()))?;
        // The room is needed for the next one.
        drop(std::fs::remove_dir_all(&work));
        let seconds = shown.began.elapsed().as_secs_f64();
        if args.json {
            reports.push(json!({ "files": chain.path(), "seconds": seconds, "report": report }));
        } else {
            print(chain, &report, seconds, trusted.is_some());
        }
    }
    if args.json {
        println!("{}", super::json(&reports)?);
    }
    Ok(())
}

fn print(chain: &ChainFiles, report: &AuditReport, seconds: f64, trusted: bool) {
    println!("channel {} in {}", report.channel, chain.path().display());
    println!(
        "  {} blocks and {} transactions verify: {:.1} s, {:.0} transactions/s",
        report.height,
        report.transactions,
        seconds,
        report.transactions as f64 / seconds.max(0.001)
    );
    let verdicts: Vec<String> = report
        .verdicts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("  verdicts:      {}", verdicts.join(", "));
    match report.compared {
        0 => println!("  compared:      nothing; an orderer's files hold no verdicts"),
        blocks => println!("  compared:      verdicts and commit hashes of {blocks} blocks are as recorded"),
    }
    let known = if trusted {
        "the trusted one"
    } else {
        "believed; compare it with what other members have"
    };
    println!("  genesis block: {} ({known})", report.genesis_hash);
    println!("  last block:    {}", report.last_hash);
    if let Some(hash) = &report.commit_hash {
        println!("  commit hash:   {hash}");
    }
}

/// Progress on standard error, when somebody looks.
struct Shown {
    chain: String,
    began: Instant,
    last: Instant,
    visible: bool,
}

impl Shown {
    fn new(chain: &ChainFiles) -> Self {
        Self {
            chain: chain.path().display().to_string(),
            began: Instant::now(),
            last: Instant::now(),
            visible: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, progress: AuditProgress) {
        if self.visible && self.last.elapsed() >= SHOW {
            self.last = Instant::now();
            eprint!(
                "\r\x1b[K{}: {} blocks, {} transactions",
                self.chain, progress.blocks, progress.transactions
            );
        }
    }

    fn end(&self) {
        if self.visible {
            eprint!("\r\x1b[K");
            // A terminal that is gone cannot be cleared.
            drop(std::io::stderr().flush());
        }
    }
}
