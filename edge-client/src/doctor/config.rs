//! What in the configuration will hurt later.

use std::path::Path;
use std::time::Duration;

use super::buffer::Running;
use super::{Area, Report};
use crate::config::EdgeConfig;

pub(super) fn check(report: &mut Report, path: &Path, config: &EdgeConfig, running: Option<&Running>) {
    report.ok(
        Area::Config,
        format!(
            "{} is usable: gateway {} of {}",
            path.display(),
            config.id,
            config.msp_id
        ),
    );
    listener(report, config, running);
    for node in config.uplink.peers.iter().chain(&config.uplink.orderers) {
        if node.tls_roots.is_none() {
            report.warn(
                Area::Config,
                format!("{} is dialled without TLS", node.address),
                "set 'tls_roots' of this node, unless it is on this machine",
            );
        }
    }
    let uplink = &config.uplink;
    if uplink.first_pause > uplink.longest_pause {
        report.warn(
            Area::Config,
            "uplink.first_pause is longer than uplink.longest_pause",
            "make first_pause the shorter one",
        );
    }
    if uplink.deadline < Duration::from_secs(3) {
        report.warn(
            Area::Config,
            format!(
                "uplink.deadline is {}: a commit may take longer than that",
                humantime::format_duration(uplink.deadline)
            ),
            "30s suits most networks; it must be longer than the channel's batch timeout",
        );
    }
}

/// The REST interface: whether its address is free or ours, and who can reach it.
fn listener(report: &mut Report, config: &EdgeConfig, running: Option<&Running>) {
    if let Some(running) = running {
        if running.id == config.id {
            report.ok(
                Area::Config,
                format!("the gateway runs and answers on {}", config.listen),
            );
        } else {
            report.fail(
                Area::Config,
                format!("another gateway, {}, answers on {}", running.id, config.listen),
                "give each gateway an address of its own ('listen')",
            );
        }
    } else {
        match std::net::TcpListener::bind(&config.listen) {
            Ok(_) => report.warn(
                Area::Config,
                "the gateway does not run",
                "start it: systemctl start selvedge-edge, or selvedge-edge start --config FILE",
            ),
            Err(error) => report.fail(
                Area::Config,
                format!(
                    "nothing of ours answers on {}, and it is not free: {error}",
                    config.listen
                ),
                "choose another 'listen' address, or stop the program that has it (ss -ltnp)",
            ),
        }
    }
    let host = config.listen.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let everywhere = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_unspecified());
    if everywhere {
        report.warn(
            Area::Config,
            format!(
                "devices are served in plain HTTP on every network of this machine ({})",
                config.listen
            ),
            "name the address of the network that only devices share, or 127.0.0.1",
        );
    }
}
