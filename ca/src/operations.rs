//! What a CA server tells of itself.

use std::sync::Arc;

use selvedge_operations::{FailedCheck, Operations, Sample};

use crate::authority::{Authority, unix_now};
use crate::registry::Statistics;

const SECONDS_PER_DAY: f64 = 86_400.0;

type Read = fn(&Statistics) -> u32;

const COUNTS: [(&str, &str, Read); 3] = [
    ("selvedge_ca_registrations", "Identities in the registry.", |s| {
        s.identities
    }),
    (
        "selvedge_ca_enrollments",
        "Certificates issued by enrolling and re-enrolling.",
        |s| s.certificates,
    ),
    ("selvedge_ca_revocations", "Certificates revoked.", |s| s.revoked),
];

/// Days until the certificate that the authority signs with expires; nothing that it issues lives longer.
fn days_left(authority: &Authority) -> f64 {
    let seconds = authority.certificate().not_after().saturating_sub(unix_now());
    #[expect(clippy::cast_precision_loss, reason = "dates stay far below 2^53 seconds")]
    let seconds = seconds as f64;
    seconds / SECONDS_PER_DAY
}

fn failed(authority: &Authority) -> Option<FailedCheck> {
    let reason = if days_left(authority) <= 0.0 {
        "its certificate has expired: it cannot issue any more".to_owned()
    } else {
        let why = authority.registry.statistics().err()?;
        format!("its registry cannot be read: {why}")
    };
    Some(FailedCheck {
        component: format!("ca {}", authority.name),
        reason,
    })
}

/// The health and metrics of a server's authorities.
pub(crate) fn of(authorities: &[Arc<Authority>]) -> Operations {
    let operations = Operations::default();
    let metrics = &operations.metrics;
    for (name, help, read) in COUNTS {
        let own = authorities.to_vec();
        metrics.gauge(name, help, &["ca"], move || {
            own.iter()
                .filter_map(|a| {
                    let statistics = a.registry.statistics().ok()?;
                    Some((vec![a.name.clone()], f64::from(read(&statistics))))
                })
                .collect()
        });
    }
    let own = authorities.to_vec();
    metrics.gauge(
        "selvedge_ca_certificate_days_left",
        "Days until the certificate that the authority signs with expires.",
        &["ca"],
        move || -> Vec<Sample> { own.iter().map(|a| (vec![a.name.clone()], days_left(a))).collect() },
    );
    let own = authorities.to_vec();
    operations
        .health
        .add(move || own.iter().filter_map(|a| failed(a)).collect());
    operations
}
