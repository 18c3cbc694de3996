//! What the buffer holds: asked of the running gateway, or read from its files.

use std::time::Duration;

use selvedge_comm::{ClientTls, HttpClient, Method};
use serde_json::Value;

use super::{Area, Report, bytes, span};
use crate::EdgeError;
use crate::config::EdgeConfig;

const PATIENCE: Duration = Duration::from_secs(3);
/// A buffer that is fuller than this, in per cent, wants a look.
const FULL_PERCENT: u64 = 80;
/// An open request that is older than this, in seconds, wants a look while the network is there.
const OLD: u64 = 3600;

/// A gateway that answers on the configured address.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// Its id.
    pub(super) id: String,
    /// Its whole `/v1/status`.
    pub(super) status: Value,
}

/// Where the gateway's REST interface is reached from this machine.
pub(crate) fn local_url(listen: &str) -> String {
    let reachable = match listen.parse::<std::net::SocketAddr>() {
        Ok(mut address) if address.ip().is_unspecified() => {
            let loopback: std::net::IpAddr = if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            };
            address.set_ip(loopback);
            address.to_string()
        }
        _ => listen.to_owned(),
    };
    format!("http://{reachable}")
}

/// One answer of a running gateway's REST interface at `base`.
pub(crate) async fn ask(base: &str, path: &str) -> Result<Vec<u8>, EdgeError> {
    let http = HttpClient::new(ClientTls::default()).with_timeout(PATIENCE);
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let no_answer = |why| EdgeError::NoAnswer {
        url: url.clone(),
        why,
    };
    let answer = http
        .request(Method::GET, &url, &[], "")
        .await
        .map_err(|e| no_answer(e.to_string()))?;
    if answer.status.is_success() {
        Ok(answer.body.to_vec())
    } else {
        Err(no_answer(format!("HTTP status {}", answer.status.as_u16())))
    }
}

/// What a running gateway says of itself.
pub(crate) async fn status_of(base: &str) -> Result<Value, EdgeError> {
    let answer = ask(base, "/v1/status").await?;
    serde_json::from_slice(&answer).map_err(|e| EdgeError::NoAnswer {
        url: base.to_owned(),
        why: format!("this is not the answer of an edge gateway: {e}"),
    })
}

/// The gateway that runs with this configuration, if one answers.
pub(super) async fn running(config: &EdgeConfig) -> Option<Running> {
    let status = status_of(&local_url(&config.listen)).await.ok()?;
    let id = status["id"].as_str()?.to_owned();
    Some(Running { id, status })
}

pub(super) fn check(report: &mut Report, config: &EdgeConfig, running: Option<&Running>) {
    match running {
        Some(running) if running.id == config.id => live(report, &running.status),
        _ => files(report, config),
    }
}

fn live(report: &mut Report, status: &Value) {
    for damage in status["damage"].as_array().into_iter().flatten() {
        damaged(report, damage.as_str().unwrap_or_default());
    }
    let open = status["open"].as_u64().unwrap_or(0);
    let used = status["buffer"]["open_bytes"].as_u64().unwrap_or(0);
    let limits = &status["limits"];
    let fullness = [(open, &limits["max_entries"]), (used, &limits["max_bytes"])]
        .into_iter()
        .filter_map(|(value, limit)| {
            limit
                .as_u64()
                .filter(|l| *l > 0)
                .map(|l| value.saturating_mul(100) / l)
        })
        .max()
        .unwrap_or(0);
    let oldest = status["oldest_seconds"].as_u64().unwrap_or(0);
    let what = format!(
        "{open} open requests, {}, {fullness} % full{}",
        bytes(used),
        if open > 0 {
            format!("; the oldest waits for {}", span(oldest))
        } else {
            String::new()
        }
    );
    let connected = status["uplink"]["connected"].as_bool().unwrap_or(true);
    if fullness >= FULL_PERCENT {
        report.warn(
            Area::Buffer,
            what,
            "bring the network back, or raise buffer.max_entries and buffer.max_bytes while the disk has room",
        );
    } else if open > 0 && oldest > OLD && connected {
        report.warn(
            Area::Buffer,
            what,
            "the network is there, and still they wait: GET /v1/transactions/ID says why; the backlog may just be long",
        );
    } else {
        report.ok(Area::Buffer, what);
    }
    let dropped: u64 = status["dropped"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, n)| n.as_u64())
        .sum();
    if dropped > 0 {
        report.warn(
            Area::Buffer,
            format!("{dropped} requests were dropped since the start because the buffer was full"),
            "make it larger, or send fewer readings (edge rules)",
        );
    }
}

fn damaged(report: &mut Report, what: &str) {
    report.fail(
        Area::Buffer,
        format!("damage was found when the buffer was opened: {what}"),
        "the records named are lost, everything else is sent. Check the disk (dmesg), and replace the card if this comes again",
    );
}

/// What a gateway that does not run left behind.
fn files(report: &mut Report, config: &EdgeConfig) {
    let dir = config.data_dir.join("buffer");
    if !dir.exists() {
        report.ok(
            Area::Buffer,
            format!("{} is empty: nothing was ever stored", dir.display()),
        );
        return;
    }
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) => {
            report.fail(
                Area::Buffer,
                format!("{} cannot be read: {error}", dir.display()),
                "run the doctor as the user that the gateway runs as",
            );
            return;
        }
    };
    let sizes: Vec<u64> = entries
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|x| x == "seg"))
        .filter_map(|e| e.metadata().ok().map(|m| m.len()))
        .collect();
    report.ok(
        Area::Buffer,
        format!(
            "{} segments, {}, in {}; what is open in them shows when the gateway runs",
            sizes.len(),
            bytes(sizes.iter().sum()),
            dir.display()
        ),
    );
    let seed = dir.join("nonce.seed");
    if !sizes.is_empty() && !seed.exists() {
        report.fail(
            Area::Buffer,
            format!("{} is missing", seed.display()),
            "restore it from a backup if there is one; without it, requests that are repeated under their key count as new",
        );
    }
}
