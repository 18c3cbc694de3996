//! What a definition must look like before anybody approves it (spec 08 §5).

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use selvedge_channel::Bundle;
use selvedge_msp::policy::SignaturePolicy;
use selvedge_proto::{common, lifecycle, msp, protos};

use super::parameters::{Parameters, collections_bytes};
use crate::chaincode::collections::IMPLICIT_PREFIX;
use crate::definition::{ChaincodeDefinition, DEFAULT_ENDORSEMENT_PLUGIN, DEFAULT_VALIDATION_PLUGIN};
use crate::scc;

/// The policy that a definition gets when it names none.
const DEFAULT_POLICY: &str = "/Channel/Application/Endorsement";
/// Names of plugins that were system chaincodes once; Fabric gives them to no other.
const PLUGIN_NAMES: [&str; 2] = ["escc", "vscc"];

/// A definition as requests carry it: approve, check and commit share these fields.
#[derive(Debug, Clone)]
pub(super) struct Requested {
    pub(super) name: String,
    pub(super) sequence: i64,
    version: String,
    init_required: bool,
    endorsement_plugin: String,
    validation_plugin: String,
    validation_parameter: Bytes,
    collections: Option<protos::CollectionConfigPackage>,
}

macro_rules! requested_from {
    ($($message:ident),*) => {$(
        impl From<lifecycle::$message> for Requested {
            fn from(args: lifecycle::$message) -> Self {
                Self {
                    name: args.name,
                    sequence: args.sequence,
                    version: args.version,
                    init_required: args.init_required,
                    endorsement_plugin: args.endorsement_plugin,
                    validation_plugin: args.validation_plugin,
                    validation_parameter: args.validation_parameter,
                    collections: args.collections,
                }
            }
        }
    )*};
}
requested_from!(
    ApproveChaincodeDefinitionForMyOrgArgs,
    CommitChaincodeDefinitionArgs,
    CheckCommitReadinessArgs
);

fn words(text: &str) -> bool {
    // Runs of letters and digits, joined by single - or _.
    !text.is_empty()
        && text
            .split(['-', '_'])
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric()))
}

impl Requested {
    /// Checks the definition against the channel, and fills what was left out.
    pub(super) fn check(
        &self,
        bundle: &Bundle,
        committed: Option<&ChaincodeDefinition>,
    ) -> Result<Parameters, String> {
        self.check_names()
            .map_err(|e| format!("error validating chaincode definition: {e}"))?;
        self.check_collections(bundle, committed)
            .map_err(|e| format!("error validating chaincode definition: {e}"))?;
        let or = |given: &str, default: &str| {
            if given.is_empty() {
                default.to_owned()
            } else {
                given.to_owned()
            }
        };
        let validation_parameter = if self.validation_parameter.is_empty() {
            default_policy(bundle)?
        } else {
            check_application_policy(bundle, &self.validation_parameter)
                .map_err(|e| format!("error validating chaincode definition: the endorsement policy {e}"))?;
            self.validation_parameter.clone()
        };
        let parameters = Parameters {
            endorsement: lifecycle::ChaincodeEndorsementInfo {
                version: self.version.clone(),
                init_required: self.init_required,
                endorsement_plugin: or(&self.endorsement_plugin, DEFAULT_ENDORSEMENT_PLUGIN),
            },
            validation: lifecycle::ChaincodeValidationInfo {
                validation_plugin: or(&self.validation_plugin, DEFAULT_VALIDATION_PLUGIN),
                validation_parameter,
            },
            collections: collections_bytes(self.collections.as_ref()),
        };
        for (plugin, known) in [
            (
                &parameters.endorsement.endorsement_plugin,
                DEFAULT_ENDORSEMENT_PLUGIN,
            ),
            (
                &parameters.validation.validation_plugin,
                DEFAULT_VALIDATION_PLUGIN,
            ),
        ] {
            if plugin != known {
                return Err(format!(
                    "error validating chaincode definition: plugin '{plugin}' is unknown; use '{known}'"
                ));
            }
        }
        Ok(parameters)
    }

    fn check_names(&self) -> Result<(), String> {
        let (name, version) = (&self.name, &self.version);
        if !words(name) {
            return Err(format!(
                "invalid chaincode name '{name}'. Names can only consist of alphanumerics, '_', and '-' and can only begin with alphanumerics"
            ));
        }
        if scc::is_system(name) || PLUGIN_NAMES.contains(&name.as_str()) {
            return Err(format!(
                "chaincode name '{name}' is the name of a system chaincode"
            ));
        }
        if version.is_empty()
            || !version
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b))
        {
            return Err(format!(
                "invalid chaincode version '{version}'. Versions can only consist of alphanumerics, '_', '-', '+', and '.'"
            ));
        }
        Ok(())
    }

    fn static_collections(&self) -> Result<Vec<&protos::StaticCollectionConfig>, String> {
        self.collections
            .iter()
            .flat_map(|package| &package.config)
            .map(|config| match &config.payload {
                Some(protos::collection_config::Payload::StaticCollectionConfig(found)) => Ok(found),
                None => Err("unknown collection configuration type".to_owned()),
            })
            .collect()
    }

    fn check_collections(
        &self,
        bundle: &Bundle,
        committed: Option<&ChaincodeDefinition>,
    ) -> Result<(), String> {
        let collections = self.static_collections()?;
        let mut names = BTreeSet::new();
        for config in &collections {
            if !names.insert(config.name.as_str()) {
                return Err(format!(
                    "collection-name: {} -- found duplicate in collection configuration",
                    config.name
                ));
            }
            check_collection(bundle, config)
                .map_err(|e| format!("collection-name: {} -- {e}", config.name))?;
        }
        let before = committed
            .map(|d| d.collections.config.as_slice())
            .unwrap_or_default();
        for old in before {
            let Some(protos::collection_config::Payload::StaticCollectionConfig(old)) = &old.payload else {
                continue;
            };
            let Some(new) = collections.iter().find(|c| c.name == old.name) else {
                return Err(format!(
                    "the following existing collections are missing in the proposed collection configuration package: [{}]",
                    old.name
                ));
            };
            if new.block_to_live != old.block_to_live {
                return Err(format!(
                    "the BlockToLive in an existing collection [{}] modified. Existing value [{}]",
                    old.name, old.block_to_live
                ));
            }
        }
        Ok(())
    }
}

fn default_policy(bundle: &Bundle) -> Result<Bytes, String> {
    if bundle.policy(DEFAULT_POLICY).is_none() {
        return Err(format!(
            "policy '{DEFAULT_POLICY}' must be defined for channel '{}' before chaincode operations can be attempted",
            bundle.channel_id()
        ));
    }
    let policy = protos::ApplicationPolicy {
        r#type: Some(protos::application_policy::Type::ChannelConfigPolicyReference(
            DEFAULT_POLICY.to_owned(),
        )),
    };
    Ok(policy.encode_to_vec().into())
}

/// A policy that nobody could ever satisfy is refused here, where it can still be mended.
fn check_application_policy(bundle: &Bundle, bytes: &Bytes) -> Result<(), String> {
    use protos::application_policy::Type;
    let policy =
        protos::ApplicationPolicy::decode(bytes.clone()).map_err(|e| format!("does not parse: {e}"))?;
    match policy.r#type {
        Some(Type::SignaturePolicy(policy)) => SignaturePolicy::compile(&policy)
            .map(|_| ())
            .map_err(|e| format!("is unusable: {e}")),
        Some(Type::ChannelConfigPolicyReference(path)) if bundle.policy(&path).is_some() => Ok(()),
        Some(Type::ChannelConfigPolicyReference(path)) => Err(format!(
            "refers to '{path}', which is not in the configuration of channel '{}'",
            bundle.channel_id()
        )),
        None => Err("is neither a signature policy nor a reference to a channel policy".to_owned()),
    }
}

fn check_collection(bundle: &Bundle, config: &protos::StaticCollectionConfig) -> Result<(), String> {
    let name = &config.name;
    let well_formed = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        && name.bytes().next().is_some_and(|b| b != b'_');
    if !well_formed || name.starts_with(IMPLICIT_PREFIX) {
        return Err(
            "name must start with a letter, digit or '-' and consist of letters, digits, '-' and '_'"
                .to_owned(),
        );
    }
    if config.required_peer_count < 0 {
        return Err(format!(
            "requiredPeerCount ({}) cannot be less than zero",
            config.required_peer_count
        ));
    }
    if config.maximum_peer_count < config.required_peer_count {
        return Err(format!(
            "maximum peer count ({}) cannot be less than the required peer count ({})",
            config.maximum_peer_count, config.required_peer_count
        ));
    }
    let policy = match config
        .member_orgs_policy
        .as_ref()
        .and_then(|p| p.payload.as_ref())
    {
        Some(protos::collection_policy_config::Payload::SignaturePolicy(policy)) => policy,
        None => return Err("collection member policy is not set".to_owned()),
    };
    SignaturePolicy::compile(policy).map_err(|e| format!("collection member policy is unusable: {e}"))?;
    if !policy.rule.as_ref().is_some_and(only_or) {
        return Err(
            "error in member org policy: signature policy is not an OR concatenation, NOutOf 1 at every gate"
                .to_owned(),
        );
    }
    for principal in &policy.identities {
        let org = org_of(principal);
        // Ordering organisations are part of the channel, too.
        if org.as_ref().is_none_or(|org| bundle.msps().get(org).is_none()) {
            let org = org.unwrap_or_default();
            return Err(format!("collection member '{org}' is not part of the channel"));
        }
    }
    if let Some(policy) = &config.endorsement_policy {
        check_application_policy(bundle, &policy.encode_to_vec().into())
            .map_err(|e| format!("the endorsement policy {e}"))?;
    }
    Ok(())
}

fn only_or(rule: &common::SignaturePolicy) -> bool {
    use common::signature_policy::Type;
    match &rule.r#type {
        Some(Type::SignedBy(_)) => true,
        Some(Type::NOutOf(gate)) => gate.n == 1 && gate.rules.iter().all(only_or),
        None => false,
    }
}

fn org_of(principal: &common::MspPrincipal) -> Option<String> {
    use common::msp_principal::Classification;
    let bytes = principal.principal.clone();
    match Classification::try_from(principal.principal_classification).ok()? {
        Classification::Role => common::MspRole::decode(bytes).ok().map(|r| r.msp_identifier),
        Classification::OrganizationUnit => common::OrganizationUnit::decode(bytes)
            .ok()
            .map(|o| o.msp_identifier),
        Classification::Identity => msp::SerializedIdentity::decode(bytes).ok().map(|i| i.mspid),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "shipment", "a-b_c", "9"] {
            assert!(words(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "a.b", "ä", "a b"] {
            assert!(!words(bad), "{bad}");
        }
    }

    #[test]
    fn names_of_the_peers_own_parts_are_taken() {
        for name in ["cscc", "escc", "lscc", "qscc", "vscc"] {
            let requested = Requested::from(lifecycle::CommitChaincodeDefinitionArgs {
                name: name.to_owned(),
                version: "1".to_owned(),
                ..Default::default()
            });
            let why = requested.check_names().unwrap_err();
            assert!(why.contains("system chaincode"), "{name}: {why}");
        }
    }

    #[test]
    fn every_organisation_of_the_channel_may_be_a_member_of_a_collection() {
        use crate::test_network::{Org, genesis};
        let (orderer, org) = (Org::new("OrdererMSP", "orderer"), Org::new("Org1MSP", "org1"));
        let bundle = Bundle::from_config_block(&genesis("trade", &orderer, &[&org])).unwrap();
        let check = |members: &str| {
            let policy = selvedge_msp::policy::dsl::parse(members).unwrap();
            let config = protos::StaticCollectionConfig {
                name: "c".to_owned(),
                member_orgs_policy: Some(protos::CollectionPolicyConfig {
                    payload: Some(protos::collection_policy_config::Payload::SignaturePolicy(policy)),
                }),
                ..Default::default()
            };
            check_collection(&bundle, &config)
        };
        check("OR('Org1MSP.member', 'OrdererMSP.member')").unwrap();
        let why = check("OR('Org1MSP.member', 'Org2MSP.member')").unwrap_err();
        assert!(why.contains("'Org2MSP' is not part of the channel"), "{why}");
    }

    #[test]
    fn only_or_policies_define_members() {
        let policy = |text: &str| selvedge_msp::policy::dsl::parse(text).unwrap().rule.unwrap();
        assert!(only_or(&policy("OR('A.member', 'B.member')")));
        assert!(only_or(&policy("OR('A.member', OR('B.member', 'C.peer'))")));
        assert!(!only_or(&policy("AND('A.member', 'B.member')")));
        assert!(!only_or(&policy("OR('A.member', AND('B.member', 'C.peer'))")));
    }
}
