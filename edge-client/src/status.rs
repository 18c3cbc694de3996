//! `GET /v1/status`: what the gateway holds and does, for programs, the doctor and the status page.

use std::time::Instant;

use selvedge_msp::Certificate;
use serde_json::{Value, json};

use crate::buffer::{Buffer, BufferLimits};
use crate::config::EdgeConfig;
use crate::doctor;
use crate::uplink::Uplink;

/// What a gateway knows of itself from its start on.
#[derive(Debug)]
pub(crate) struct SelfKnowledge {
    id: String,
    msp_id: String,
    limits: BufferLimits,
    certificate: Value,
    started: Instant,
}

impl SelfKnowledge {
    pub(crate) fn new(config: &EdgeConfig, certificate: &Certificate) -> Self {
        let renewal_due = doctor::renewal_due(certificate, doctor::came_at(&config.msp_dir));
        Self {
            id: config.id.clone(),
            msp_id: config.msp_id.clone(),
            limits: config.buffer.limits(),
            certificate: json!({
                "subject": certificate.subject(),
                "not_after": certificate.not_after(),
                "renewal_due": renewal_due,
            }),
            started: Instant::now(),
        }
    }

    /// The answer to `/v1/status`. Times are Unix seconds, spans are seconds.
    pub(crate) fn status(&self, buffer: &Buffer, uplink: &Uplink) -> Value {
        let totals = buffer.totals();
        let oldest = totals.oldest_age();
        json!({
            "id": self.id,
            "msp_id": self.msp_id,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "buffer": totals,
            "open": totals.open.values().sum::<usize>(),
            "limits": {
                "max_entries": self.limits.max_entries,
                "max_bytes": self.limits.max_bytes,
                "max_age_seconds": self.limits.max_age.map(|age| age.as_secs()),
                "when_full": self.limits.when_full,
                "remembered": self.limits.remembered,
            },
            "oldest_seconds": oldest,
            "dropped": totals.dropped,
            "flash_bytes_written": totals.written_bytes,
            "damage": buffer.damage(),
            "uplink": uplink.view(),
            "certificate": self.certificate,
        })
    }
}
