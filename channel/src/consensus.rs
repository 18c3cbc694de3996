//! What an ordering service asks of its consenters (spec 05 §5). Peers never judge these: to them they are opaque.

use selvedge_msp::Certificate;
use selvedge_proto::{etcdraft, go_compat};

use crate::bundle::Bundle;
use crate::duration;
use crate::error::ConsensusError;
use crate::orderer::{ETCDRAFT, OrdererConfig};

/// Checks the consensus type, the options and every consenter of a configuration: certificates readable and issued by
/// a TLS authority of an ordering organisation, no two consenters alike.
///
/// # Errors
/// Names the option or consenter and the rule it breaks.
pub fn check(orderer: &OrdererConfig, bundle: &Bundle) -> Result<(), ConsensusError> {
    if orderer.consensus_type != ETCDRAFT {
        return Err(ConsensusError::UnsupportedType(orderer.consensus_type.clone()));
    }
    let metadata: etcdraft::ConfigMetadata = go_compat::decode(orderer.consensus_metadata.clone())
        .map_err(|e| ConsensusError::Undecodable(e.to_string()))?;
    check_options(metadata.options.as_ref())?;
    if metadata.consenters.is_empty() {
        return Err(ConsensusError::NoConsenters);
    }
    let authorities: Vec<Certificate> = orderer
        .orgs
        .values()
        .flat_map(|msp_id| bundle.tls_roots(msp_id))
        .filter_map(|pem| Certificate::from_pem(&pem).ok())
        .collect();
    for consenter in &metadata.consenters {
        check_consenter(consenter, &authorities)?;
    }
    check_distinct(&metadata.consenters)
}

fn check_options(options: Option<&etcdraft::Options>) -> Result<(), ConsensusError> {
    let out_of_range = |option, value: String, why| Err(ConsensusError::Option { option, value, why });
    let Some(options) = options else {
        return Err(ConsensusError::Undecodable("it has no options".to_owned()));
    };
    for (option, value) in [
        ("heartbeat_tick", options.heartbeat_tick),
        ("election_tick", options.election_tick),
        ("max_inflight_blocks", options.max_inflight_blocks),
        ("snapshot_interval_size", options.snapshot_interval_size),
    ] {
        if value == 0 {
            return out_of_range(option, value.to_string(), "it must be at least 1");
        }
    }
    if options.election_tick <= options.heartbeat_tick {
        return out_of_range(
            "election_tick",
            options.election_tick.to_string(),
            "it must be greater than heartbeat_tick",
        );
    }
    match duration::parse(&options.tick_interval) {
        Some(tick) if !tick.is_zero() => Ok(()),
        _ => out_of_range(
            "tick_interval",
            format!("'{}'", options.tick_interval),
            "it must be a duration above 0, such as '500ms'",
        ),
    }
}

/// `host:port` of a consenter, the name by which errors speak of it.
fn name(consenter: &etcdraft::Consenter) -> String {
    format!("{}:{}", consenter.host, consenter.port)
}

fn check_consenter(
    consenter: &etcdraft::Consenter,
    authorities: &[Certificate],
) -> Result<(), ConsensusError> {
    let wrong = |why: String| ConsensusError::Consenter {
        consenter: name(consenter),
        why,
    };
    if consenter.host.is_empty() {
        return Err(wrong("the host is empty".to_owned()));
    }
    if u16::try_from(consenter.port).ok().is_none_or(|port| port == 0) {
        return Err(wrong(format!("{} is no port", consenter.port)));
    }
    for (what, pem) in [
        ("client_tls_cert", &consenter.client_tls_cert),
        ("server_tls_cert", &consenter.server_tls_cert),
    ] {
        let certificate =
            Certificate::from_pem(pem).map_err(|e| wrong(format!("{what} is no PEM certificate: {e}")))?;
        if !authorities
            .iter()
            .any(|authority| certificate.is_signed_by(authority))
        {
            return Err(wrong(format!(
                "{what} (issued by '{}') is not signed by a TLS authority of any ordering organisation",
                certificate.issuer()
            )));
        }
    }
    Ok(())
}

fn check_distinct(consenters: &[etcdraft::Consenter]) -> Result<(), ConsensusError> {
    for (i, second) in consenters.iter().enumerate() {
        for first in consenters.iter().take(i) {
            let what = if first.host == second.host && first.port == second.port {
                "host and port"
            } else if first.client_tls_cert == second.client_tls_cert {
                "client_tls_cert"
            } else if first.server_tls_cert == second.server_tls_cert {
                "server_tls_cert"
            } else {
                continue;
            };
            return Err(ConsensusError::Duplicate {
                first: name(first),
                second: name(second),
                what,
            });
        }
    }
    Ok(())
}

/// Checks that at most one consenter joins and at most one leaves. A consenter is known by its certificates, so a
/// renewed certificate is one that leaves and one that joins.
///
/// # Errors
/// How many would join and leave.
pub fn check_change(before: &OrdererConfig, after: &OrdererConfig) -> Result<(), ConsensusError> {
    if before.consensus_type != after.consensus_type {
        return Ok(());
    }
    let same = |a: &etcdraft::Consenter, b: &etcdraft::Consenter| {
        a.client_tls_cert == b.client_tls_cert && a.server_tls_cert == b.server_tls_cert
    };
    let missing_in = |from: &[etcdraft::Consenter], other: &[etcdraft::Consenter]| {
        from.iter().filter(|c| !other.iter().any(|o| same(c, o))).count()
    };
    let added = missing_in(&after.consenters, &before.consenters);
    let removed = missing_in(&before.consenters, &after.consenters);
    if added > 1 || removed > 1 {
        return Err(ConsensusError::ManyChanges { added, removed });
    }
    Ok(())
}

/// Checks that the consensus type changes in maintenance state only (spec 03 §10.2 step 7).
///
/// # Errors
/// The type changes while the channel is in normal state.
pub fn check_type_change(before: &OrdererConfig, after: &OrdererConfig) -> Result<(), ConsensusError> {
    if before.in_maintenance() {
        return Ok(());
    }
    check_same_type(before, after)
}

/// Checks that the consensus type stays, as it must on a channel without the capability V1_4_2.
///
/// # Errors
/// The type changes.
pub fn check_same_type(before: &OrdererConfig, after: &OrdererConfig) -> Result<(), ConsensusError> {
    if before.consensus_type == after.consensus_type {
        return Ok(());
    }
    Err(ConsensusError::TypeChange {
        from: before.consensus_type.clone(),
        to: after.consensus_type.clone(),
    })
}
