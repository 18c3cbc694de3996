//! `channel set KEY=VALUE …` and policies as text.

use prost::Message;
use selvedge_channel::update::edit::ConfigTree;
use selvedge_channel::{BatchSize, Bundle, duration};
use selvedge_msp::policy::dsl;
use selvedge_proto::{common, orderer};

use crate::error::{CliError, During};

const KEYS: &str = "batch.timeout, batch.max-messages, batch.absolute-max-bytes, batch.preferred-max-bytes, \
                    state (normal or maintenance), capabilities.channel, capabilities.orderer, \
                    capabilities.application, acl.<RESOURCE> (a policy, or `default`)";

/// Applies settings to a configuration.
pub(super) fn apply(tree: &mut ConfigTree, bundle: &Bundle, settings: &[String]) -> Result<(), CliError> {
    let mut size = bundle.orderer().map(|o| o.batch_size);
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| CliError::said(format!("'{setting}' is not KEY=VALUE; the keys are {KEYS}")))?;
        set(tree, &mut size, key, value)?;
    }
    if let Some(size) = size
        && bundle.orderer().is_none_or(|o| o.batch_size != size)
    {
        tree.set_batch_size(&size).during(|| "batch size".to_owned())?;
    }
    Ok(())
}

fn set(tree: &mut ConfigTree, size: &mut Option<BatchSize>, key: &str, value: &str) -> Result<(), CliError> {
    let failed = || format!("cannot set {key}");
    let wrong = |why: &str| CliError::said(format!("{key}: '{value}' is {why}"));
    if let Some(field) = key.strip_prefix("batch.")
        && field != "timeout"
    {
        let size = size
            .as_mut()
            .ok_or_else(|| wrong("not possible: the channel has no orderer settings"))?;
        return set_size(size, field, value)
            .ok_or_else(|| wrong("no number of the kind 500 or 2MiB, or no such setting"));
    }
    match key {
        "batch.timeout" => {
            let timeout = duration::parse(value)
                .filter(|d| !d.is_zero())
                .ok_or_else(|| wrong("no duration above 0, such as 200ms or 2s"))?;
            tree.set_batch_timeout(timeout).during(failed)
        }
        "state" => {
            use orderer::consensus_type::State;
            let state = match value {
                "normal" => State::Normal,
                "maintenance" => State::Maintenance,
                _ => return Err(wrong("neither normal nor maintenance")),
            };
            tree.set_consensus_state(state).during(failed)
        }
        "capabilities.channel" => capabilities(tree, "/Channel", value).during(failed),
        "capabilities.orderer" => capabilities(tree, "/Channel/Orderer", value).during(failed),
        "capabilities.application" => capabilities(tree, "/Channel/Application", value).during(failed),
        _ => match key.strip_prefix("acl.") {
            Some(resource) => {
                let policy = (value != "default").then_some(value);
                tree.set_acl(resource, policy).during(failed)
            }
            None => Err(CliError::said(format!(
                "there is no setting '{key}'; the keys are {KEYS}"
            ))),
        },
    }
}

fn capabilities(
    tree: &mut ConfigTree,
    group: &str,
    value: &str,
) -> Result<(), selvedge_channel::update::edit::EditError> {
    let names: Vec<String> = value.split(',').map(str::to_owned).collect();
    tree.set_capabilities(group, &names)
}

fn set_size(size: &mut BatchSize, field: &str, value: &str) -> Option<()> {
    let place = match field {
        "max-messages" => &mut size.max_message_count,
        "absolute-max-bytes" => &mut size.absolute_max_bytes,
        "preferred-max-bytes" => &mut size.preferred_max_bytes,
        _ => return None,
    };
    *place = number(value)?;
    Some(())
}

/// `500`, `512KiB`, `2MiB`.
fn number(text: &str) -> Option<u32> {
    let (digits, scale) = if let Some(digits) = text.strip_suffix("MiB") {
        (digits, 1024 * 1024)
    } else if let Some(digits) = text.strip_suffix("KiB") {
        (digits, 1024)
    } else {
        (text, 1)
    };
    digits.parse::<u32>().ok()?.checked_mul(scale)
}

/// Splits the path of a policy into group and name. `Application/Endorsement` is short for the path from `/Channel`.
pub(super) fn policy_place(path: &str) -> Result<(String, String), CliError> {
    let absolute = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/Channel/{path}")
    };
    match absolute.rsplit_once('/') {
        Some((group, name)) if group.starts_with("/Channel") && !name.is_empty() => {
            Ok((group.to_owned(), name.to_owned()))
        }
        _ => Err(CliError::said(format!(
            "'{path}' is not the path of a policy; write for example /Channel/Application/Endorsement"
        ))),
    }
}

/// A policy as administrators write it: `MAJORITY Endorsement`, or a signature policy.
pub(super) fn policy(rule: &str) -> Result<common::Policy, CliError> {
    use common::implicit_meta_policy::Rule;
    use common::policy::PolicyType;
    let mut words = rule.split_whitespace();
    let first = words.next().unwrap_or_default();
    let meta = match first {
        "ANY" => Some(Rule::Any),
        "ALL" => Some(Rule::All),
        "MAJORITY" => Some(Rule::Majority),
        _ => None,
    };
    if let Some(meta) = meta {
        let (Some(sub_policy), None) = (words.next(), words.next()) else {
            return Err(CliError::said(format!(
                "'{rule}' is not a rule: after {first} comes the name of one sub-policy, for example {first} Endorsement"
            )));
        };
        let meta = common::ImplicitMetaPolicy {
            sub_policy: sub_policy.to_owned(),
            rule: meta as i32,
        };
        return Ok(common::Policy {
            r#type: PolicyType::ImplicitMeta as i32,
            value: meta.encode_to_vec().into(),
        });
    }
    let envelope = dsl::parse(rule).during(|| {
        format!("'{rule}' is no policy; write ANY, ALL or MAJORITY and a sub-policy, or a signature policy")
    })?;
    Ok(common::Policy {
        r#type: PolicyType::Signature as i32,
        value: envelope.encode_to_vec().into(),
    })
}

/// `host:port`.
pub(super) fn address(text: &str) -> Result<(String, u16), CliError> {
    text.rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok().filter(|p| *p != 0)?)))
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| CliError::said(format!("'{text}' is not host:port")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(number("500"), Some(500));
        assert_eq!(number("2MiB"), Some(2 * 1024 * 1024));
        assert_eq!(number("512KiB"), Some(512 * 1024));
        for bad in ["", "-1", "2MB", "9999MiB", "x"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn policy_paths() {
        let place = |p| policy_place(p).unwrap();
        assert_eq!(
            place("/Channel/Application/Endorsement"),
            ("/Channel/Application".into(), "Endorsement".into())
        );
        assert_eq!(
            place("Application/Org1/Admins"),
            ("/Channel/Application/Org1".into(), "Admins".into())
        );
        assert_eq!(place("Readers"), ("/Channel".into(), "Readers".into()));
        assert!(policy_place("/Elsewhere/Readers").is_err());
        assert!(policy_place("/Channel/").is_err());
    }

    #[test]
    fn policies() {
        use common::policy::PolicyType;
        let meta = policy("MAJORITY Endorsement").unwrap();
        assert_eq!(meta.r#type, PolicyType::ImplicitMeta as i32);
        let decoded = common::ImplicitMetaPolicy::decode(meta.value).unwrap();
        assert_eq!(decoded.sub_policy, "Endorsement");
        assert_eq!(decoded.rule, common::implicit_meta_policy::Rule::Majority as i32);
        assert_eq!(
            policy("OR('A.admin','B.admin')").unwrap().r#type,
            PolicyType::Signature as i32
        );
        for bad in ["MAJORITY", "ANY Readers Writers", "most Readers", ""] {
            assert!(policy(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(address("peer0:7051").unwrap(), ("peer0".into(), 7051));
        for bad in ["peer0", ":7051", "peer0:0", "peer0:70510"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
