//! Collections of private data, in the JSON form of Fabric's tools.

use std::path::Path;

use selvedge_msp::policy::dsl;
use selvedge_proto::protos::{self, application_policy, collection_config, collection_policy_config};
use serde::Deserialize;

use crate::error::{CliError, During};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Collection {
    name: String,
    policy: String,
    #[serde(default)]
    required_peer_count: i32,
    #[serde(default, alias = "maximumPeerCount")]
    max_peer_count: i32,
    #[serde(default)]
    block_to_live: u64,
    #[serde(default)]
    member_only_read: bool,
    #[serde(default)]
    member_only_write: bool,
    #[serde(default)]
    endorsement_policy: Option<Endorsement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Endorsement {
    #[serde(default)]
    signature_policy: Option<String>,
    #[serde(default)]
    channel_config_policy: Option<String>,
}

/// Reads a file of collections.
pub(super) fn read(path: &Path) -> Result<protos::CollectionConfigPackage, CliError> {
    let text = std::fs::read_to_string(path).map_err(|source| CliError::ReadFile {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|why| CliError::BadConfig {
        path: path.to_owned(),
        why: why.to_string(),
    })
}

fn parse(text: &str) -> Result<protos::CollectionConfigPackage, CliError> {
    let all: Vec<Collection> =
        serde_json::from_str(text).during(|| "it is no list of collections".to_owned())?;
    let config = all.into_iter().map(collection).collect::<Result<Vec<_>, _>>()?;
    Ok(protos::CollectionConfigPackage { config })
}

fn collection(given: Collection) -> Result<protos::CollectionConfig, CliError> {
    let place = |what: &str| format!("collection {}: its {what} is not usable", given.name);
    let members = dsl::parse(&given.policy).during(|| place("policy"))?;
    let endorsement_policy = match given.endorsement_policy {
        None => None,
        Some(Endorsement {
            signature_policy: Some(text),
            channel_config_policy: None,
        }) => Some(application_policy::Type::SignaturePolicy(
            dsl::parse(&text).during(|| place("endorsementPolicy"))?,
        )),
        Some(Endorsement {
            signature_policy: None,
            channel_config_policy: Some(path),
        }) => Some(application_policy::Type::ChannelConfigPolicyReference(path)),
        Some(_) => {
            return Err(CliError::said(format!(
                "{}: give either signaturePolicy or channelConfigPolicy",
                place("endorsementPolicy")
            )));
        }
    };
    let config = protos::StaticCollectionConfig {
        member_orgs_policy: Some(protos::CollectionPolicyConfig {
            payload: Some(collection_policy_config::Payload::SignaturePolicy(members)),
        }),
        required_peer_count: given.required_peer_count,
        maximum_peer_count: given.max_peer_count,
        block_to_live: given.block_to_live,
        member_only_read: given.member_only_read,
        member_only_write: given.member_only_write,
        endorsement_policy: endorsement_policy
            .map(|policy| protos::ApplicationPolicy { r#type: Some(policy) }),
        name: given.name,
    };
    Ok(protos::CollectionConfig {
        payload: Some(collection_config::Payload::StaticCollectionConfig(config)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_fabrics_samples_hold() {
        let package = parse(
            r#"[{
                "name": "prices", "policy": "OR('Org1MSP.member','Org2MSP.member')", "requiredPeerCount": 1,
                "maxPeerCount": 2, "blockToLive": 1000000, "memberOnlyRead": true, "memberOnlyWrite": true,
                "endorsementPolicy": { "signaturePolicy": "OR('Org1MSP.member')" }
            }]"#,
        )
        .unwrap();
        let Some(collection_config::Payload::StaticCollectionConfig(config)) = &package.config[0].payload
        else {
            panic!("a static collection");
        };
        assert_eq!((config.name.as_str(), config.maximum_peer_count), ("prices", 2));
        assert!(config.member_only_read && config.endorsement_policy.is_some());
    }

    #[test]
    fn says_which_collection_is_wrong() {
        let wrong = |text: &str| crate::error::with_causes(&parse(text).unwrap_err());
        assert!(wrong(r#"[{"name":"a","policy":"MAYBE('X')"}]"#).contains("collection a: its policy"));
        assert!(wrong(r#"[{"name":"a","policy":"OR('A.member')","ttl":1}]"#).contains("ttl"));
        let both = r#"[{"name":"a","policy":"OR('A.member')","endorsementPolicy":{}}]"#;
        assert!(wrong(both).contains("either signaturePolicy or channelConfigPolicy"));
    }
}
