//! The task that looks after the certificates of one node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use selvedge_comm::{Roots, TlsIdentity};
use selvedge_msp::SigningIdentity;
use selvedge_operations::{Counter, FailedCheck, Operations};
use tokio::task::JoinHandle;

use crate::authority;
use crate::clock::{Clock, SystemClock, clock_disagreement, shown};
use crate::config::RenewalConfig;
use crate::due::renewal_time;
use crate::slot::Slot;

/// How often the files are looked at, in case somebody else renewed what lies there.
const FILES: Duration = Duration::from_secs(10);
/// The wait after a first failure; it doubles with each further one, up to the time between checks.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How soon an authority that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(30);
/// The task does not spin, whatever the times say.
const SHORTEST: Duration = Duration::from_millis(500);
const SECONDS_PER_DAY: f64 = 86_400.0;

type Change = Box<dyn Fn() -> Result<bool, String> + Send + Sync>;

/// What failed lately with one certificate.
#[derive(Debug, Clone, Default)]
struct Trouble {
    /// When to try again, Unix seconds.
    again: i64,
    pause: Duration,
}

struct Kept {
    slot: Slot,
    /// Its authority issues with another certificate now.
    other_issuer: Mutex<bool>,
    trouble: Mutex<Option<Trouble>>,
}

struct Inner {
    node: String,
    config: Option<RenewalConfig>,
    clock: Arc<dyn Clock>,
    kept: Vec<Kept>,
    changes: Vec<(String, Change)>,
    /// Clock here minus the authority's, seconds.
    skew: Mutex<Option<i64>>,
    renewals: Counter,
}

/// Collects what is to be kept; [`Keeper::start`] starts the task.
pub struct Keeper {
    inner: Inner,
}

/// A started task; it ends with its value.
#[derive(Debug)]
pub struct Keeping(JoinHandle<()>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Keeper({}, {} certificates)",
            self.inner.node,
            self.inner.kept.len()
        )
    }
}

impl Keeper {
    /// A keeper for the node of this name. Without settings nothing is renewed; other files are taken into use all the same.
    #[must_use]
    pub fn new(node: &str, config: Option<RenewalConfig>) -> Self {
        Self {
            inner: Inner {
                node: node.to_owned(),
                config,
                clock: Arc::new(SystemClock),
                kept: Vec::new(),
                changes: Vec::new(),
                skew: Mutex::default(),
                renewals: Counter::new(
                    "selvedge_certificate_renewals",
                    "Attempts to renew a certificate at the authority, by outcome.",
                    &["certificate", "outcome"],
                ),
            },
        }
    }

    /// Goes by another clock than the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.inner.clock = Arc::new(clock);
        self
    }

    fn add(&mut self, slot: Slot) {
        self.inner.kept.push(Kept {
            slot,
            other_issuer: Mutex::new(false),
            trouble: Mutex::default(),
        });
    }

    /// Keeps the signing identity of an MSP folder; `adopt` takes another one into use.
    pub fn identity(
        &mut self,
        dir: &Path,
        current: &SigningIdentity,
        adopt: impl Fn(SigningIdentity) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.add(Slot::identity("identity", dir, current, adopt));
    }

    /// Keeps a TLS certificate, which is called `name` in logs and metrics. Each file is to be kept once.
    ///
    /// # Errors
    /// The identity holds no certificate.
    pub fn tls(
        &mut self,
        name: &str,
        certificate: &Path,
        key: &Path,
        shown: TlsIdentity,
    ) -> Result<(), String> {
        self.add(Slot::tls(name, certificate, key, shown)?);
        Ok(())
    }

    /// Trusts other roots when the files that hold them change.
    pub fn roots(&mut self, files: &[PathBuf], roots: Roots) {
        let files = files.to_vec();
        self.follow("roots of client certificates", move || {
            let mut read = Vec::new();
            for path in &files {
                read.push(std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?);
            }
            if *roots.current() == read {
                return Ok(false);
            }
            roots.replace(read).map_err(|e| e.to_string())?;
            Ok(true)
        });
    }

    /// Calls `look` every few seconds; it says whether something changed, and has taken it into use then.
    pub fn follow(
        &mut self,
        what: impl Into<String>,
        look: impl Fn() -> Result<bool, String> + Send + Sync + 'static,
    ) {
        self.inner.changes.push((what.into(), Box::new(look)));
    }

    /// Starts the task, and tells of it in `operations`.
    #[must_use]
    pub fn start(self, operations: &Operations) -> Keeping {
        let inner = Arc::new(self.inner);
        inner.watch(operations);
        Keeping(tokio::spawn(run(inner)))
    }
}

async fn run(inner: Arc<Inner>) {
    let mut next_check = i64::MIN;
    let mut in_vain = 0;
    loop {
        inner.look();
        if let Some(config) = &inner.config {
            if inner.clock.now() >= next_check {
                let pause = if inner.ask(config, in_vain).await {
                    in_vain = 0;
                    config.check
                } else {
                    in_vain += 1;
                    config.check.min(AGAIN)
                };
                next_check = inner.clock.now().saturating_add(seconds(pause).max(1));
            }
            inner.renew(config).await;
        }
        tokio::time::sleep(inner.wait(next_check)).await;
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl Inner {
    /// Takes into use what others wrote; what is trusted comes before what depends on it.
    fn look(&self) {
        for (what, change) in &self.changes {
            match change() {
                Ok(false) => {}
                Ok(true) => tracing::info!(node = %self.node, "{what}: taken anew from the files"),
                Err(why) => {
                    tracing::warn!(node = %self.node, %why, "{what}: the files are not usable, the former state stays")
                }
            }
        }
        for kept in &self.kept {
            match kept.slot.look() {
                Ok(None) => {}
                Ok(Some(certificate)) => {
                    *kept.other_issuer.lock() = false;
                    tracing::info!(
                        node = %self.node, certificate = %kept.slot.name,
                        until = %shown(certificate.not_after()), "another certificate is in use, found in its file"
                    );
                }
                // Files may be half written at the moment.
                Err(why) => {
                    tracing::debug!(node = %self.node, certificate = %kept.slot.name, %why, "not looked at")
                }
            }
        }
    }

    fn authority_of<'a>(&self, kept: &Kept, config: &'a RenewalConfig) -> Option<&'a str> {
        let name = if kept.slot.is_tls() {
            &config.tls_ca
        } else {
            &config.identity_ca
        };
        name.as_deref()
    }

    /// When a certificate is due by its age.
    fn due(&self, kept: &Kept, at: f64) -> i64 {
        let in_use = kept.slot.in_use();
        renewal_time(
            in_use.certificate.not_before(),
            in_use.certificate.not_after(),
            in_use.since,
            self.clock.now(),
            at,
        )
    }

    /// Compares the clocks, and finds certificates whose issuer gives way to another. False when the authority does not answer,
    /// which was so `in_vain` times before.
    async fn ask(&self, config: &RenewalConfig, in_vain: u32) -> bool {
        let mut answered = true;
        for name in [&config.identity_ca, &config.tls_ca].into_iter().flatten() {
            let said = match authority::ask(config, name).await {
                Ok(said) => said,
                Err(why) => {
                    answered = false;
                    // It may be on its way up with the node.
                    if in_vain == 0 {
                        tracing::info!(node = %self.node, authority = %name, %why, "the certificate authority does not answer yet");
                    } else {
                        tracing::warn!(node = %self.node, authority = %name, %why, "the certificate authority does not answer");
                    }
                    continue;
                }
            };
            if let Some(there) = said.time {
                let here = self.clock.now();
                *self.skew.lock() = Some(here.saturating_sub(there));
                let whose = format!("the certificate authority {}", config.ca_url);
                if let Some(warning) = clock_disagreement(here, there, &whose, config.clock_tolerance) {
                    tracing::warn!(node = %self.node, "{warning}");
                }
            }
            let Some(issuer) = said.chain.first() else {
                continue;
            };
            for kept in &self.kept {
                if self.authority_of(kept, config) == Some(name.as_str()) {
                    let other = !kept.slot.in_use().certificate.is_signed_by(issuer);
                    *kept.other_issuer.lock() = other;
                }
            }
        }
        answered
    }

    async fn renew(&self, config: &RenewalConfig) {
        for kept in &self.kept {
            let Some(name) = self.authority_of(kept, config) else {
                continue;
            };
            let now = self.clock.now();
            let due = *kept.other_issuer.lock() || self.due(kept, config.at) <= now;
            let waits = kept.trouble.lock().as_ref().is_some_and(|t| t.again > now);
            if due && !waits {
                self.renew_one(kept, config, name).await;
            }
        }
    }

    async fn renew_one(&self, kept: &Kept, config: &RenewalConfig, authority: &str) {
        let slot = &kept.slot;
        let profile = if slot.is_tls() { "tls" } else { "" };
        let renewing = async {
            let asking = slot.asking()?;
            let renewed = authority::reenroll(config, authority, profile, &asking).await?;
            slot.renew(&renewed, self.clock.now())?;
            Ok::<_, String>(renewed.certificate)
        };
        let (node, certificate) = (&self.node, slot.name.as_str());
        match renewing.await {
            Ok(renewed) => {
                *kept.trouble.lock() = None;
                *kept.other_issuer.lock() = false;
                self.renewals.count(&[certificate, "renewed"]);
                tracing::info!(%node, certificate, authority, until = %shown(renewed.not_after()), "certificate renewed");
                let now = self.clock.now();
                if renewed.not_before() > now || renewed.not_after() < now {
                    tracing::warn!(
                        %node, certificate,
                        "the new certificate is valid from {} to {}, and the clock here says {}: set the clock if it is wrong \
                         (`timedatectl set-ntp true`), else that of the authority",
                        shown(renewed.not_before()), shown(renewed.not_after()), shown(now)
                    );
                }
            }
            Err(why) => {
                self.renewals.count(&[certificate, "failed"]);
                let now = self.clock.now();
                let mut trouble = kept.trouble.lock();
                let pause = trouble
                    .as_ref()
                    .map_or(FIRST_PAUSE, |t| t.pause * 2)
                    .min(config.check);
                *trouble = Some(Trouble {
                    again: now.saturating_add(seconds(pause).max(1)),
                    pause,
                });
                let ends = slot.in_use().certificate.not_after();
                let state = if ends < now { "it ended" } else { "it ends" };
                tracing::warn!(
                    %node, certificate, authority, %why,
                    "the certificate cannot be renewed ({state} at {}; the clock here says {}); the next attempt is in {}",
                    shown(ends), shown(now), humantime::format_duration(pause)
                );
            }
        }
    }

    /// How long nothing needs to be done.
    fn wait(&self, next_check: i64) -> Duration {
        let Some(config) = &self.config else { return FILES };
        let now = self.clock.now();
        let dues = self.kept.iter().filter_map(|kept| {
            self.authority_of(kept, config)?;
            let again = kept.trouble.lock().as_ref().map_or(i64::MIN, |t| t.again);
            Some(self.due(kept, config.at).max(again))
        });
        let next = dues.chain([next_check]).min().unwrap_or(next_check);
        let until = u64::try_from(next.saturating_sub(now)).unwrap_or(0);
        Duration::from_secs(until).clamp(SHORTEST, FILES)
    }

    fn watch(self: &Arc<Self>, operations: &Operations) {
        operations.metrics.register(&self.renewals);
        let inner = Arc::downgrade(self);
        operations.metrics.gauge(
            "selvedge_certificate_days_left",
            "Days until a certificate that the node uses ends.",
            &["certificate"],
            move || {
                let Some(inner) = inner.upgrade() else {
                    return Vec::new();
                };
                let now = inner.clock.now();
                let left = |kept: &Kept| {
                    let left = kept.slot.in_use().certificate.not_after().saturating_sub(now);
                    number(left) / SECONDS_PER_DAY
                };
                inner
                    .kept
                    .iter()
                    .map(|k| (vec![k.slot.name.clone()], left(k)))
                    .collect()
            },
        );
        if self.config.is_some() {
            let inner = Arc::downgrade(self);
            operations.metrics.gauge(
                "selvedge_clock_skew_seconds",
                "By how much the clock here is ahead of the certificate authority's; negative when it is behind.",
                &[],
                move || {
                    let skew = inner.upgrade().and_then(|inner| *inner.skew.lock());
                    skew.map(|s| (Vec::new(), number(s))).into_iter().collect()
                },
            );
        }
        let inner = Arc::downgrade(self);
        operations.health.add(move || {
            let Some(inner) = inner.upgrade() else { return Vec::new() };
            let now = inner.clock.now();
            let ended = inner.kept.iter().filter(|k| k.slot.in_use().certificate.not_after() < now);
            ended
                .map(|k| FailedCheck {
                    component: format!("certificate {}", k.slot.name),
                    reason: format!(
                        "it ended at {}; the log says why it was not renewed, and renewing it by hand or setting a wrong clock mends it",
                        shown(k.slot.in_use().certificate.not_after())
                    ),
                })
                .collect()
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "times stay far below 2^53 seconds")]
fn number(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
