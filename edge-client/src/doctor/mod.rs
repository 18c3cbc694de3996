//! `selvedge-edge doctor`: what is well with a gateway and what is not, in words, with what to do about it.
//!
//! ```text
//! config ─► clock ─► certificate ─► disk ─► buffer ─► network (peers, orderers, authority)
//! ```
//!
//! It only looks: the one file it writes is a small one in the data folder, to see that the disk keeps what it is given,
//! and that is removed again. It may run beside a gateway that serves.

mod buffer;
mod certificate;
mod clock;
mod config;
mod disk;
mod explain;
mod network;

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::config::EdgeConfig;

pub(crate) use self::buffer::{ask, local_url, status_of};
pub(crate) use self::certificate::{came_at, renewal_due};
use self::explain::explain;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and somebody should look at it.
    Warning,
    /// Does not work, or will lose something.
    Failed,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The configuration file.
    Config,
    /// The clock of this machine.
    Clock,
    /// The gateway's certificate and key.
    Certificate,
    /// The disk that holds the buffer.
    Disk,
    /// The buffer.
    Buffer,
    /// Peers, orderers, the certificate authority.
    Network,
}

impl Area {
    fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Clock => "clock",
            Self::Certificate => "certificate",
            Self::Disk => "disk",
            Self::Buffer => "buffer",
            Self::Network => "network",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// How good or bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it; none when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

/// Everything that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The findings, in the order of the module text.
    pub checks: Vec<Finding>,
}

impl Report {
    fn push(&mut self, area: Area, level: Level, what: impl Into<String>, todo: Option<String>) {
        self.checks.push(Finding {
            area,
            level,
            what: what.into(),
            todo,
        });
    }

    fn ok(&mut self, area: Area, what: impl Into<String>) {
        self.push(area, Level::Ok, what, None);
    }

    fn warn(&mut self, area: Area, what: impl Into<String>, todo: impl Into<String>) {
        self.push(area, Level::Warning, what, Some(todo.into()));
    }

    fn fail(&mut self, area: Area, what: impl Into<String>, todo: impl Into<String>) {
        self.push(area, Level::Failed, what, Some(todo.into()));
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        self.count(Level::Failed)
    }

    fn count(&self, level: Level) -> usize {
        self.checks.iter().filter(|c| c.level == level).count()
    }

    /// The report as people read it, one check a line, what to do below it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let level = match check.level {
                Level::Ok => "ok",
                Level::Warning => "WARNING",
                Level::Failed => "FAILED",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:<12} {level:<8} {}", check.area.name(), check.what);
            if let Some(todo) = &check.todo {
                let _ = writeln!(text, "{:<12} {:<8} -> {todo}", "", "");
            }
        }
        let _ = writeln!(
            text,
            "{} checks: {} ok, {} to look at, {} failed",
            self.checks.len(),
            self.count(Level::Ok),
            self.count(Level::Warning),
            self.failed()
        );
        text
    }

    /// The report as JSON: `{"ok","failed","warnings","checks":[{"area","level","what","todo"?}]}`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": self.failed() == 0,
            "failed": self.failed(),
            "warnings": self.count(Level::Warning),
            "checks": self.checks,
        })
    }
}

/// Now, in Unix seconds.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A point in time for reading, to the minute.
fn date(unix_seconds: i64) -> String {
    let seconds = u64::try_from(unix_seconds).unwrap_or(0);
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.get(..16)
        .map_or(text.clone(), |minute| minute.replace('T', " "))
}

/// A span of time for reading: its largest one or two units.
fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number of bytes for reading, in decimal units as disks are sold.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (unit, name) in UNITS {
        if count >= unit {
            return format!("{}.{} {name}", count / unit, count % unit * 10 / unit);
        }
    }
    format!("{count} B")
}

/// Looks at everything. Never fails: what cannot be looked at is a finding.
pub async fn examine(path: &Path) -> Report {
    let mut report = Report::default();
    let config = match EdgeConfig::read(path) {
        Ok(config) => config,
        Err(error) => {
            report.fail(
                Area::Config,
                error.to_string(),
                "mend the file; docs/edge.md lists every setting. Nothing else can be checked without it",
            );
            return report;
        }
    };
    let running = buffer::running(&config).await;
    config::check(&mut report, path, &config, running.as_ref());
    let identity = certificate::load(&config);
    clock::check_local(&mut report, &config);
    certificate::check(&mut report, &config, &identity);
    disk::check(&mut report, &config);
    buffer::check(&mut report, &config, running.as_ref());
    network::check(&mut report, &config, identity.as_ref().ok()).await;
    report
}

#[cfg(test)]
mod tests;
