//! A configuration tree as text for people: every value decoded, certificates as their subjects.

use prost::Message;
use selvedge_channel::names;
use selvedge_msp::Certificate;
use selvedge_msp::policy::dsl;
use selvedge_proto::{common, etcdraft, msp, orderer, protos};
use serde_json::{Map, Value, json};

/// A group with everything below it. Versions are shown where they are not 0, modification policies where they are not
/// the usual `Admins`.
pub(super) fn group(group: &common::ConfigGroup) -> Value {
    let mut shown = Map::new();
    notes(&mut shown, group.version, &group.mod_policy);
    if !group.values.is_empty() {
        let values = group.values.iter().map(|(name, v)| {
            let mut content = value(name, v);
            if let Value::Object(map) = &mut content {
                notes(map, v.version, &v.mod_policy);
            }
            (name.clone(), content)
        });
        shown.insert("values".to_owned(), sorted(values));
    }
    if !group.policies.is_empty() {
        let policies = group.policies.iter().map(|(name, p)| (name.clone(), policy(p)));
        shown.insert("policies".to_owned(), sorted(policies));
    }
    if !group.groups.is_empty() {
        let groups = group
            .groups
            .iter()
            .map(|(name, g)| (name.clone(), self::group(g)));
        shown.insert("groups".to_owned(), sorted(groups));
    }
    Value::Object(shown)
}

fn sorted(members: impl Iterator<Item = (String, Value)>) -> Value {
    let ordered: std::collections::BTreeMap<String, Value> = members.collect();
    Value::Object(ordered.into_iter().collect())
}

fn notes(map: &mut Map<String, Value>, version: u64, mod_policy: &str) {
    if version != 0 {
        map.insert("version".to_owned(), version.into());
    }
    if mod_policy != names::ADMINS {
        map.insert("changed_by".to_owned(), mod_policy.into());
    }
}

fn policy(policy: &common::ConfigPolicy) -> Value {
    let text = policy_text(policy);
    if policy.version == 0 && policy.mod_policy == names::ADMINS {
        return text.into();
    }
    let mut map = Map::from_iter([("rule".to_owned(), Value::from(text))]);
    notes(&mut map, policy.version, &policy.mod_policy);
    Value::Object(map)
}

fn policy_text(policy: &common::ConfigPolicy) -> String {
    use common::policy::PolicyType;
    let Some(policy) = &policy.policy else {
        return "none".to_owned();
    };
    match PolicyType::try_from(policy.r#type) {
        Ok(PolicyType::Signature) => common::SignaturePolicyEnvelope::decode(policy.value.clone())
            .map_or_else(|e| format!("unreadable: {e}"), |p| dsl::display(&p)),
        Ok(PolicyType::ImplicitMeta) => match common::ImplicitMetaPolicy::decode(policy.value.clone()) {
            Ok(meta) => {
                let rule = common::implicit_meta_policy::Rule::try_from(meta.rule)
                    .map_or("?", |rule| rule.as_str_name());
                format!("{rule} {}", meta.sub_policy)
            }
            Err(e) => format!("unreadable: {e}"),
        },
        _ => format!("policy of type {}", policy.r#type),
    }
}

/// The content of a value; what does not decode, or has a name that is not known, is shown in hex.
fn value(name: &str, value: &common::ConfigValue) -> Value {
    let bytes = &value.value;
    let shown = match name {
        names::BATCH_SIZE => orderer::BatchSize::decode(bytes.clone()).map(|m| {
            json!({
                "max_message_count": m.max_message_count,
                "absolute_max_bytes": m.absolute_max_bytes,
                "preferred_max_bytes": m.preferred_max_bytes,
            })
        }),
        names::BATCH_TIMEOUT => {
            orderer::BatchTimeout::decode(bytes.clone()).map(|m| json!({ "timeout": m.timeout }))
        }
        names::CHANNEL_RESTRICTIONS => {
            orderer::ChannelRestrictions::decode(bytes.clone()).map(|m| json!({ "max_count": m.max_count }))
        }
        names::CONSENSUS_TYPE => orderer::ConsensusType::decode(bytes.clone()).map(consensus),
        names::CAPABILITIES => common::Capabilities::decode(bytes.clone()).map(|m| {
            let mut names: Vec<String> = m.capabilities.into_keys().collect();
            names.sort();
            json!({ "capabilities": names })
        }),
        names::ENDPOINTS | names::ORDERER_ADDRESSES => {
            common::OrdererAddresses::decode(bytes.clone()).map(|m| json!({ "addresses": m.addresses }))
        }
        names::ANCHOR_PEERS => protos::AnchorPeers::decode(bytes.clone()).map(|m| {
            let peers: Vec<String> = m
                .anchor_peers
                .iter()
                .map(|a| format!("{}:{}", a.host, a.port))
                .collect();
            json!({ "anchor_peers": peers })
        }),
        names::HASHING_ALGORITHM => {
            common::HashingAlgorithm::decode(bytes.clone()).map(|m| json!({ "name": m.name }))
        }
        names::BLOCK_DATA_HASHING_STRUCTURE => {
            common::BlockDataHashingStructure::decode(bytes.clone()).map(|m| json!({ "width": m.width }))
        }
        names::CONSORTIUM => common::Consortium::decode(bytes.clone()).map(|m| json!({ "name": m.name })),
        names::ACLS => protos::AcLs::decode(bytes.clone()).map(|m| {
            let acls: std::collections::BTreeMap<String, String> = m
                .acls
                .into_iter()
                .map(|(resource, p)| (resource, p.policy_ref))
                .collect();
            json!({ "acls": acls })
        }),
        names::MSP => msp::MspConfig::decode(bytes.clone()).map(|m| membership(&m)),
        _ => Ok(json!({ "hex": hex::encode(bytes) })),
    };
    shown.unwrap_or_else(|_| json!({ "hex": hex::encode(bytes) }))
}

fn consensus(message: orderer::ConsensusType) -> Value {
    let state = orderer::consensus_type::State::try_from(message.state).map_or("?", |s| s.as_str_name());
    let mut shown = json!({ "type": message.r#type, "state": state });
    match etcdraft::ConfigMetadata::decode(message.metadata.clone()) {
        Ok(raft) if message.r#type == selvedge_channel::ETCDRAFT => {
            let consenters: Vec<Value> = raft
                .consenters
                .iter()
                .map(|c| {
                    json!({
                        "address": format!("{}:{}", c.host, c.port),
                        "client_tls_certificate": certificate(&c.client_tls_cert),
                        "server_tls_certificate": certificate(&c.server_tls_cert),
                    })
                })
                .collect();
            let options = raft.options.unwrap_or_default();
            shown["consenters"] = consenters.into();
            shown["options"] = json!({
                "tick_interval": options.tick_interval,
                "election_tick": options.election_tick,
                "heartbeat_tick": options.heartbeat_tick,
                "max_inflight_blocks": options.max_inflight_blocks,
                "snapshot_interval_size": options.snapshot_interval_size,
            });
        }
        _ => shown["metadata_hex"] = hex::encode(&message.metadata).into(),
    }
    shown
}

fn membership(message: &msp::MspConfig) -> Value {
    let Ok(fabric) = msp::FabricMspConfig::decode(message.config.clone()) else {
        return json!({ "hex": hex::encode(&message.config) });
    };
    let mut shown = json!({ "msp_id": fabric.name });
    for (part, list) in [
        ("root_certificates", &fabric.root_certs),
        ("intermediate_certificates", &fabric.intermediate_certs),
        ("administrators", &fabric.admins),
        ("tls_root_certificates", &fabric.tls_root_certs),
        ("tls_intermediate_certificates", &fabric.tls_intermediate_certs),
    ] {
        if !list.is_empty() {
            shown[part] = list.iter().map(|pem| certificate(pem)).collect::<Vec<_>>().into();
        }
    }
    if !fabric.revocation_list.is_empty() {
        shown["revocation_lists"] = fabric.revocation_list.len().into();
    }
    shown["node_ous"] = fabric.fabric_node_ous.is_some_and(|ous| ous.enable).into();
    shown
}

/// Subject, end of validity and the start of the fingerprint.
fn certificate(pem: &[u8]) -> Value {
    let Ok(certificate) = Certificate::from_pem(pem) else {
        return json!("unreadable");
    };
    let end = u64::try_from(certificate.not_after()).unwrap_or(0);
    let end = std::time::UNIX_EPOCH
        .checked_add(std::time::Duration::from_secs(end))
        .map_or_else(String::new, |time| {
            humantime::format_rfc3339_seconds(time).to_string()
        });
    format!(
        "{} (valid until {end}, SHA-256 {}…)",
        certificate.subject(),
        hex::encode(&certificate.sha256()[..8])
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<M: Message>(message: &M) -> common::ConfigValue {
        common::ConfigValue {
            value: message.encode_to_vec().into(),
            version: 2,
            mod_policy: "/Channel/Orderer/Admins".to_owned(),
        }
    }

    #[test]
    fn values_are_decoded_and_unknown_ones_in_hex() {
        let timeout = of(&orderer::BatchTimeout { timeout: "2s".into() });
        let strange = common::ConfigValue {
            value: vec![0xff].into(),
            ..Default::default()
        };
        let tree = common::ConfigGroup {
            values: [
                ("BatchTimeout".to_owned(), timeout),
                ("Strange".to_owned(), strange.clone()),
                ("BatchSize".to_owned(), strange),
            ]
            .into(),
            mod_policy: "Admins".to_owned(),
            ..Default::default()
        };
        let shown = group(&tree);
        assert_eq!(shown["values"]["BatchTimeout"]["timeout"], "2s");
        assert_eq!(shown["values"]["BatchTimeout"]["version"], 2);
        assert_eq!(
            shown["values"]["BatchTimeout"]["changed_by"],
            "/Channel/Orderer/Admins"
        );
        assert_eq!(shown["values"]["Strange"]["hex"], "ff");
        assert_eq!(shown["values"]["BatchSize"]["hex"], "ff");
        assert!(shown.get("version").is_none());
    }
}
