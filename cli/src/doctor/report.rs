//! What was looked at, and what was found.

use selvedge_msp::Certificate;
use serde_json::{Value, json};

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Something does not work, or counts no more.
    Problem,
    /// It works, and will not for long.
    Warning,
    /// As it should be.
    Good,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Problem => "problem",
            Level::Warning => "warning",
            Level::Good => "good",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What was looked at, such as `peer0.org1.example.com, TLS certificate`.
    pub(crate) object: String,
    /// How it is.
    pub(crate) state: String,
    /// What to do; empty when there is nothing to do.
    pub(crate) advice: String,
}

/// Everything that was looked at.
#[derive(Debug)]
pub(crate) struct Report {
    now: i64,
    warn_days: u32,
    findings: Vec<Finding>,
}

/// A point in time for people.
pub(crate) fn shown(seconds: i64) -> String {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    match std::time::UNIX_EPOCH.checked_add(since) {
        Some(time) if seconds < 253_402_300_800 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{seconds} s after 1970"),
    }
}

fn days(seconds: i64) -> String {
    match seconds / SECONDS_PER_DAY {
        0 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

impl Report {
    /// A report as of `now` (Unix seconds) that warns of certificates `warn_days` before their end.
    pub(crate) fn new(now: i64, warn_days: u32) -> Self {
        Self {
            now,
            warn_days,
            findings: Vec::new(),
        }
    }

    fn add(&mut self, level: Level, object: String, state: String, advice: String) {
        let finding = Finding {
            level,
            object,
            state,
            advice,
        };
        // A certificate may be met in several places that are called the same.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    pub(crate) fn problem(
        &mut self,
        object: impl Into<String>,
        state: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Level::Problem, object.into(), state.into(), advice.into());
    }

    pub(crate) fn warning(
        &mut self,
        object: impl Into<String>,
        state: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Level::Warning, object.into(), state.into(), advice.into());
    }

    pub(crate) fn good(&mut self, object: impl Into<String>, state: impl Into<String>) {
        self.add(Level::Good, object.into(), state.into(), String::new());
    }

    /// Judges the period of a certificate. `advice` says how it is renewed.
    pub(crate) fn certificate(&mut self, object: impl Into<String>, certificate: &Certificate, advice: &str) {
        let (begins, ends) = (certificate.not_before(), certificate.not_after());
        let left = ends.saturating_sub(self.now);
        let object = object.into();
        if begins > self.now {
            self.problem(
                object,
                format!("not valid before {}, and the clock here says {}", shown(begins), shown(self.now)),
                "set the clock of this machine if it is behind (`timedatectl set-ntp true`); otherwise that of the authority \
                 was ahead, and the certificate must be issued again",
            );
        } else if left < 0 {
            self.problem(
                object,
                format!("ended at {}, {} ago", shown(ends), days(-left)),
                advice,
            );
        } else if left <= i64::from(self.warn_days) * SECONDS_PER_DAY {
            self.warning(
                object,
                format!("ends at {}, in {}", shown(ends), days(left)),
                advice,
            );
        } else {
            self.good(
                object,
                format!("valid until {}, {} more", shown(ends), days(left)),
            );
        }
    }

    pub(crate) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|f| f.level == level).count()
    }

    /// Everything, the worst first.
    pub(crate) fn sorted(&self) -> Vec<&Finding> {
        let mut all: Vec<&Finding> = self.findings.iter().collect();
        all.sort_by_key(|f| f.level);
        all
    }

    pub(crate) fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .sorted()
            .iter()
            .map(|f| {
                json!({ "level": f.level.word(), "object": f.object, "state": f.state, "advice": f.advice })
            })
            .collect();
        json!({
            "time": shown(self.now),
            "problems": self.count(Level::Problem),
            "warnings": self.count(Level::Warning),
            "good": self.count(Level::Good),
            "findings": findings,
        })
    }

    pub(crate) fn print(&self, verbose: bool) {
        for finding in self.sorted() {
            if finding.level == Level::Good && !verbose {
                continue;
            }
            println!(
                "{:<8} {}: {}",
                finding.level.word(),
                finding.object,
                finding.state
            );
            if !finding.advice.is_empty() {
                println!("         {}", finding.advice);
            }
        }
        println!(
            "{} problems, {} warnings; {} things are as they should be",
            self.count(Level::Problem),
            self.count(Level::Warning),
            self.count(Level::Good)
        );
    }
}

#[cfg(test)]
mod tests {
    use selvedge_msp::{CaSubject, CertificateAuthority, Validity};

    use super::*;

    fn ends_in(days: i64) -> Certificate {
        let validity = Validity {
            not_before: 0,
            not_after: 1_000_000_000 + days * SECONDS_PER_DAY,
        };
        let subject = CaSubject {
            common_name: "ca.org1.example.com".into(),
            ..CaSubject::default()
        };
        let made = CertificateAuthority::generate_root(&subject, &validity).unwrap();
        made.certificate().clone()
    }

    #[test]
    fn certificates_are_judged_by_their_end() {
        let mut report = Report::new(1_000_000_000, 30);
        for (name, days) in [("good", 31), ("soon", 30), ("last day", 0), ("over", -2)] {
            report.certificate(name, &ends_in(days), "renew it");
        }
        let mut early = Report::new(-5, 30);
        early.certificate("early", &ends_in(1), "renew it");
        let levels: Vec<(Level, &str)> = report
            .sorted()
            .iter()
            .map(|f| (f.level, f.object.as_str()))
            .collect();
        assert_eq!(
            levels,
            [
                (Level::Problem, "over"),
                (Level::Warning, "soon"),
                (Level::Warning, "last day"),
                (Level::Good, "good")
            ]
        );
        let json = report.json();
        assert_eq!(
            (json["problems"].as_u64(), json["warnings"].as_u64()),
            (Some(1), Some(2))
        );
        assert_eq!(json["findings"][0]["advice"], "renew it");
        assert!(
            json["findings"][0]["state"]
                .as_str()
                .unwrap()
                .contains("2 days ago")
        );
        assert!(
            early.sorted()[0]
                .state
                .contains("not valid before 1970-01-01T00:00:00Z")
        );
    }
}
