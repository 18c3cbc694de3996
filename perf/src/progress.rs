//! What is shown while something runs: one line that is overwritten on a terminal, lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::load::Progress;

/// Lines are not written more often than this where they cannot be overwritten.
const LINES_EVERY: Duration = Duration::from_secs(10);

/// Shows how far a phase is.
pub(crate) struct Reporter {
    phase: String,
    count: u64,
    limit: Duration,
    begin: Instant,
    terminal: bool,
    last: Option<Instant>,
    pending: Option<String>,
}

impl Reporter {
    /// Of a phase of `count` transactions that ends after `limit` in any case.
    pub(crate) fn new(phase: &str, count: u64, limit: Duration) -> Self {
        Self {
            phase: phase.to_owned(),
            count,
            limit,
            begin: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            last: None,
            pending: None,
        }
    }

    fn text(&self, progress: Progress) -> String {
        let seconds = self.begin.elapsed().as_secs_f64();
        let rate = progress.done as f64 / seconds.max(0.001);
        let failed = match progress.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let left = self.count.saturating_sub(progress.done + progress.failed);
        let left = (left as f64 / rate.max(0.001)).min(self.limit.as_secs_f64() - seconds);
        let left = if left > 1.0 && progress.done > 0 {
            format!(", {left:.0} s left")
        } else {
            String::new()
        };
        format!(
            "  {}: {} of {} ({rate:.0}/s{failed}), {seconds:.0} s{left}",
            self.phase, progress.done, self.count
        )
    }

    /// Shows it.
    pub(crate) fn show(&mut self, progress: Progress) {
        let text = self.text(progress);
        if self.terminal {
            eprint!("\r\x1b[K{text}");
        } else if self.last.is_none_or(|at| at.elapsed() >= LINES_EVERY) {
            eprintln!("{text}");
            self.last = Some(Instant::now());
            self.pending = None;
        } else {
            self.pending = Some(text);
        }
    }

    /// Ends the line.
    pub(crate) fn done(&mut self) {
        if self.terminal {
            eprintln!();
        } else if let Some(text) = self.pending.take() {
            eprintln!("{text}");
        }
    }
}

/// Shows what is being done when there is nothing to count.
pub(crate) fn step(what: &str) {
    eprintln!("  {what}");
}
