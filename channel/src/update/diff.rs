//! What differs between two configurations, in lines for people.

use std::collections::BTreeSet;
use std::fmt;

use selvedge_msp::Certificate;
use selvedge_msp::policy::dsl;
use selvedge_proto::{Message, common, etcdraft, go_compat, msp, orderer, prost, protos};

use crate::path::{Element, ElementKind, ElementPath, Elements, elements};
use crate::values::names;

/// One element that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which element, or a part of a value: then the part follows the path after a colon.
    pub path: String,
    /// What it was; `None` when it is new. Of a list each text that comes or goes is a difference of its own.
    pub old: Option<String>,
    /// What it becomes; `None` when it is removed.
    pub new: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.old, &self.new) {
            (None, Some(new)) => write!(f, "+ {}: {new}", self.path),
            (Some(old), None) => write!(f, "- {}: {old}", self.path),
            (Some(old), Some(new)) => write!(f, "~ {}: {old} -> {new}", self.path),
            (None, None) => write!(f, "  {}", self.path),
        }
    }
}

/// Everything that differs in content between two configurations, sorted by path; versions and the sequence number are
/// left out. Of a group that is new or gone only the group itself and its members' names are listed.
pub fn diff(old: &common::Config, new: &common::Config) -> Vec<Difference> {
    let none = common::ConfigGroup::default();
    let old = elements(old.channel_group.as_ref().unwrap_or(&none));
    let new = elements(new.channel_group.as_ref().unwrap_or(&none));
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(e), _) | (_, Err(e)) => {
            return vec![Difference {
                path: "/Channel".to_owned(),
                old: None,
                new: Some(e.to_string()),
            }];
        }
    };
    let paths: BTreeSet<&ElementPath> = old.keys().chain(new.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (old.get(path), new.get(path)) {
            (None, Some(now)) if !inside_of_missing_group(path, &old) => {
                found.push(Difference {
                    path: path.path.clone(),
                    old: None,
                    new: Some(describe(path, *now)),
                });
            }
            (Some(was), None) if !inside_of_missing_group(path, &new) => {
                found.push(Difference {
                    path: path.path.clone(),
                    old: Some(describe(path, *was)),
                    new: None,
                });
            }
            (Some(was), Some(now)) => compare(path, *was, *now, &mut found),
            _ => {}
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn inside_of_missing_group(path: &ElementPath, elements: &Elements<'_>) -> bool {
    let parent = path.path.rsplit_once('/').map_or("", |(parent, _)| parent);
    // The root has no parent.
    parent.len() > 1 && !elements.contains_key(&ElementPath::new(ElementKind::Group, parent))
}

fn compare(path: &ElementPath, was: Element<'_>, now: Element<'_>, found: &mut Vec<Difference>) {
    if was.mod_policy() != now.mod_policy() {
        found.push(Difference {
            path: format!("{}: mod_policy", path.path),
            old: Some(was.mod_policy().to_owned()),
            new: Some(now.mod_policy().to_owned()),
        });
    }
    match (was, now) {
        (Element::Value(a), Element::Value(b)) if a.value != b.value => {
            let (a, b) = (facts(path, a), facts(path, b));
            let before = found.len();
            for fact in a
                .union(&b)
                .map(|(part, _)| part.clone())
                .collect::<BTreeSet<String>>()
            {
                let pick = |set: &Facts| -> BTreeSet<String> {
                    let texts = set.iter().filter(|(part, _)| *part == fact);
                    texts.map(|(_, text)| text.clone()).collect()
                };
                let path = if fact.is_empty() {
                    path.path.clone()
                } else {
                    format!("{}: {fact}", path.path)
                };
                members_that_differ(&path, &pick(&a), &pick(&b), found);
            }
            if found.len() == before {
                found.push(Difference {
                    path: path.path.clone(),
                    old: Some("same content".to_owned()),
                    new: Some("encoded differently".to_owned()),
                });
            }
        }
        (Element::Policy(a), Element::Policy(b)) if a.policy != b.policy => found.push(Difference {
            path: path.path.clone(),
            old: Some(policy_text(a)),
            new: Some(policy_text(b)),
        }),
        _ => {}
    }
}

/// One text that becomes another, or else each text that comes or goes: of a list only what changes is worth reading.
fn members_that_differ(
    path: &str,
    old: &BTreeSet<String>,
    new: &BTreeSet<String>,
    found: &mut Vec<Difference>,
) {
    let gone: Vec<&String> = old.difference(new).collect();
    let come: Vec<&String> = new.difference(old).collect();
    if let ([was], [now], 1, 1) = (gone.as_slice(), come.as_slice(), old.len(), new.len()) {
        found.push(Difference {
            path: path.to_owned(),
            old: Some((*was).clone()),
            new: Some((*now).clone()),
        });
        return;
    }
    found.extend(gone.into_iter().map(|was| Difference {
        path: path.to_owned(),
        old: Some(was.clone()),
        new: None,
    }));
    found.extend(come.into_iter().map(|now| Difference {
        path: path.to_owned(),
        old: None,
        new: Some(now.clone()),
    }));
}

fn describe(path: &ElementPath, element: Element<'_>) -> String {
    match element {
        Element::Group(group) => {
            let mut members: Vec<&String> = group
                .groups
                .keys()
                .chain(group.values.keys())
                .chain(group.policies.keys())
                .collect();
            members.sort_unstable();
            members.dedup();
            let members: Vec<&str> = members.into_iter().map(String::as_str).collect();
            format!("group with {}", members.join(", "))
        }
        Element::Value(value) => {
            let facts: Vec<String> = facts(path, value)
                .into_iter()
                .map(|(part, text)| {
                    if part.is_empty() {
                        text
                    } else {
                        format!("{part} {text}")
                    }
                })
                .collect();
            facts.join(", ")
        }
        Element::Policy(policy) => policy_text(policy),
    }
}

fn policy_text(policy: &common::ConfigPolicy) -> String {
    let Some(message) = &policy.policy else {
        return "no policy".to_owned();
    };
    match common::policy::PolicyType::try_from(message.r#type) {
        Ok(common::policy::PolicyType::Signature) => {
            match go_compat::decode::<common::SignaturePolicyEnvelope>(message.value.clone()) {
                Ok(envelope) => dsl::display(&envelope),
                Err(e) => format!("unreadable signature policy: {e}"),
            }
        }
        Ok(common::policy::PolicyType::ImplicitMeta) => {
            match go_compat::decode::<common::ImplicitMetaPolicy>(message.value.clone()) {
                Ok(meta) => {
                    let rule = common::implicit_meta_policy::Rule::try_from(meta.rule)
                        .map_or("?", |rule| rule.as_str_name());
                    format!("{rule} {}", meta.sub_policy)
                }
                Err(e) => format!("unreadable implicit-meta policy: {e}"),
            }
        }
        _ => format!("policy of unknown type {}", message.r#type),
    }
}

type Facts = BTreeSet<(String, String)>;

/// A value as parts and texts; several texts may share a part.
fn facts(path: &ElementPath, value: &common::ConfigValue) -> Facts {
    let name = path.path.rsplit('/').next().unwrap_or_default();
    let read = match name {
        names::BATCH_SIZE => with(value, |m: orderer::BatchSize| {
            vec![
                ("max_message_count", m.max_message_count.to_string()),
                ("absolute_max_bytes", m.absolute_max_bytes.to_string()),
                ("preferred_max_bytes", m.preferred_max_bytes.to_string()),
            ]
        }),
        names::BATCH_TIMEOUT => with(value, |m: orderer::BatchTimeout| vec![("", m.timeout)]),
        names::CONSENSUS_TYPE => with(value, consensus_facts),
        names::CHANNEL_RESTRICTIONS => with(value, |m: orderer::ChannelRestrictions| {
            vec![("max_count", m.max_count.to_string())]
        }),
        names::CAPABILITIES => with(value, |m: common::Capabilities| {
            m.capabilities.into_keys().map(|name| ("", name)).collect()
        }),
        names::ENDPOINTS | names::ORDERER_ADDRESSES => with(value, |m: common::OrdererAddresses| {
            m.addresses.into_iter().map(|a| ("", a)).collect()
        }),
        names::ANCHOR_PEERS => with(value, |m: protos::AnchorPeers| {
            m.anchor_peers
                .into_iter()
                .map(|a| ("", format!("{}:{}", a.host, a.port)))
                .collect()
        }),
        names::HASHING_ALGORITHM => with(value, |m: common::HashingAlgorithm| vec![("", m.name)]),
        names::BLOCK_DATA_HASHING_STRUCTURE => with(value, |m: common::BlockDataHashingStructure| {
            vec![("width", m.width.to_string())]
        }),
        names::CONSORTIUM => with(value, |m: common::Consortium| vec![("", m.name)]),
        names::ACLS => with(value, |m: protos::AcLs| {
            m.acls
                .into_iter()
                .map(|(r, p)| ("", format!("{r} = {}", p.policy_ref)))
                .collect()
        }),
        names::MSP => with(value, msp_facts),
        _ => None,
    };
    read.unwrap_or_else(|| {
        let text = format!("{} bytes {}", value.value.len(), fingerprint(&value.value));
        BTreeSet::from([(String::new(), text)])
    })
}

fn with<M>(value: &common::ConfigValue, read: impl FnOnce(M) -> Vec<(&'static str, String)>) -> Option<Facts>
where
    M: Message + prost::Name + Default,
{
    let message = go_compat::decode::<M>(value.value.clone()).ok()?;
    Some(
        read(message)
            .into_iter()
            .map(|(part, text)| (part.to_owned(), text))
            .collect(),
    )
}

fn consensus_facts(message: orderer::ConsensusType) -> Vec<(&'static str, String)> {
    let state = orderer::consensus_type::State::try_from(message.state).map_or("?", |s| s.as_str_name());
    let mut facts = vec![("type", message.r#type), ("state", state.to_owned())];
    match go_compat::decode::<etcdraft::ConfigMetadata>(message.metadata.clone()) {
        Ok(raft) if facts[0].1 == crate::orderer::ETCDRAFT => {
            for c in raft.consenters {
                facts.push((
                    "consenters",
                    format!(
                        "{}:{} (client {}, server {})",
                        c.host,
                        c.port,
                        fingerprint(&c.client_tls_cert),
                        fingerprint(&c.server_tls_cert)
                    ),
                ));
            }
            let o = raft.options.unwrap_or_default();
            facts.push(("tick_interval", o.tick_interval));
            facts.push(("election_tick", o.election_tick.to_string()));
            facts.push(("heartbeat_tick", o.heartbeat_tick.to_string()));
            facts.push(("max_inflight_blocks", o.max_inflight_blocks.to_string()));
            facts.push(("snapshot_interval_size", o.snapshot_interval_size.to_string()));
        }
        _ => facts.push(("metadata", fingerprint(&message.metadata))),
    }
    facts
}

fn msp_facts(message: msp::MspConfig) -> Vec<(&'static str, String)> {
    let Ok(fabric) = go_compat::decode::<msp::FabricMspConfig>(message.config.clone()) else {
        return vec![("config", fingerprint(&message.config))];
    };
    let mut facts = vec![("name", fabric.name)];
    for (part, list) in [
        ("root_certs", fabric.root_certs),
        ("intermediate_certs", fabric.intermediate_certs),
        ("admins", fabric.admins),
        ("tls_root_certs", fabric.tls_root_certs),
        ("tls_intermediate_certs", fabric.tls_intermediate_certs),
    ] {
        facts.extend(list.iter().map(|pem| (part, certificate_text(pem))));
    }
    facts.extend(
        fabric
            .revocation_list
            .iter()
            .map(|crl| ("revocation_list", fingerprint(crl))),
    );
    for ou in fabric.organizational_unit_identifiers {
        facts.push(("organizational_units", ou.organizational_unit_identifier));
    }
    if let Some(ous) = fabric.fabric_node_ous {
        facts.push(("node_ous", if ous.enable { "on" } else { "off" }.to_owned()));
        for ou in [
            ous.client_ou_identifier,
            ous.peer_ou_identifier,
            ous.admin_ou_identifier,
            ous.orderer_ou_identifier,
        ]
        .into_iter()
        .flatten()
        {
            facts.push(("node_ous", ou.organizational_unit_identifier));
        }
    }
    facts
}

fn certificate_text(pem: &[u8]) -> String {
    match Certificate::from_pem(pem) {
        Ok(certificate) => format!("{} {}", certificate.subject(), fingerprint(pem)),
        Err(_) => fingerprint(pem),
    }
}

/// The first bytes of a SHA-256, enough to see that two things differ.
fn fingerprint(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    format!("#{}", hex::encode(&Sha256::digest(bytes)[..6]))
}
