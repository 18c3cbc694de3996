//! From what a transaction touches to the policies that it must meet (spec 04 §2.5, 08 §7, 03 §4).

use std::sync::Arc;

use prost::Message;
use selvedge_channel::{Bundle, names};
use selvedge_msp::MspManager;
use selvedge_proto::{go_compat, protos};

use super::requirement::{Requirement, Signer};
use crate::definition::{ChaincodeDefinition, LIFECYCLE};

/// Collections of one organisation, there without being defined.
const IMPLICIT: &str = "_implicit_org_";
/// System chaincodes that nobody's policy protects: reads of them need no endorsement.
const UNPROTECTED: [&str; 3] = ["cscc", "lscc", "qscc"];

/// What a plan must respect.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// All of these must be met by the endorsers together.
    pub(crate) requirements: Vec<Requirement>,
    /// Every endorser must be a member of these collections, since their content is read.
    pub(crate) members_of: Vec<(String, Requirement)>,
}

impl Needs {
    /// The first collection whose content a peer may not see.
    pub(crate) fn closed_to(&self, signer: &Signer<'_>) -> Option<&str> {
        self.members_of
            .iter()
            .find(|(_, members)| !members.is_met_by(std::slice::from_ref(signer)))
            .map(|(name, _)| name.as_str())
    }
}

/// Looks a definition up; the text of an error is for the client.
pub(crate) type Definitions<'a> = &'a dyn Fn(&str) -> Result<Option<Arc<ChaincodeDefinition>>, String>;

/// The interest of a transaction about which its first endorser said nothing.
pub(crate) fn default_interest(chaincode: &str) -> protos::ChaincodeInterest {
    protos::ChaincodeInterest {
        chaincodes: vec![protos::ChaincodeCall {
            name: chaincode.to_owned(),
            ..Default::default()
        }],
    }
}

/// The policies that a transaction of this interest must meet.
///
/// # Errors
/// Why there can be no plan, as Fabric's discovery says it.
pub(crate) fn needs(
    bundle: &Bundle,
    interest: &protos::ChaincodeInterest,
    definitions: Definitions<'_>,
) -> Result<Needs, String> {
    let mut needs = Needs::default();
    for call in &interest.chaincodes {
        if UNPROTECTED.contains(&call.name.as_str()) {
            continue;
        }
        for key_policy in &call.key_policies {
            needs
                .requirements
                .push(Requirement::of_signature_policy(key_policy));
        }
        let chaincode = Chaincode::find(bundle, &call.name, definitions)?;
        // At validation, a collection's own policy takes the place of the chaincode's for what is written to it (spec 03
        // §4.1), but who names a collection may write elsewhere as well, or write nothing: so both are asked for, as
        // Fabric does. An organisation's approval of a definition is known to write to its own collection alone.
        let private_alone = matches!(chaincode, Chaincode::Lifecycle) && !call.collection_names.is_empty();
        if !call.disregard_namespace_policy && !private_alone {
            needs.requirements.push(chaincode.policy(bundle));
        }
        let mut other_policies = !call.key_policies.is_empty();
        for name in &call.collection_names {
            let collection = chaincode.collection(bundle, name)?;
            if let Some(policy) = collection.policy {
                other_policies = true;
                needs.requirements.push(policy);
            }
            if !call.no_private_reads {
                needs.members_of.push((name.clone(), collection.members));
            }
        }
        if call.disregard_namespace_policy && !other_policies {
            return Err(format!(
                "requested to disregard chaincode {}'s policy but key and collection policies are missing, either \
                 disable DisregardNamespacePolicy or specify at least one key policy or at least one collection policy",
                call.name
            ));
        }
    }
    needs.requirements.dedup();
    match needs.requirements.iter().find_map(Requirement::impossible) {
        Some(why) => Err(why.to_owned()),
        None => Ok(needs),
    }
}

enum Chaincode {
    Lifecycle,
    Defined(Arc<ChaincodeDefinition>),
}

struct Collection {
    policy: Option<Requirement>,
    members: Requirement,
}

impl Chaincode {
    fn find(bundle: &Bundle, name: &str, definitions: Definitions<'_>) -> Result<Self, String> {
        if name == LIFECYCLE {
            return Ok(Self::Lifecycle);
        }
        definitions(name)?.map(Self::Defined).ok_or_else(|| {
            format!(
                "No metadata was found for chaincode {name} in channel {}",
                bundle.channel_id()
            )
        })
    }

    fn policy(&self, bundle: &Bundle) -> Requirement {
        match self {
            Self::Lifecycle => Requirement::of_lifecycle(bundle),
            Self::Defined(definition) => {
                match go_compat::decode::<protos::ApplicationPolicy>(definition.validation_parameter.clone())
                {
                    Ok(policy) => Requirement::of_application_policy(bundle, &policy),
                    Err(why) => Requirement::Never(format!("the endorsement policy does not decode: {why}")),
                }
            }
        }
    }

    fn collection(&self, bundle: &Bundle, name: &str) -> Result<Collection, String> {
        if let Some(msp_id) = name.strip_prefix(IMPLICIT) {
            return implicit_collection(bundle, msp_id);
        }
        let found = match self {
            Self::Lifecycle => None,
            Self::Defined(definition) => definition.collection(name).cloned(),
        };
        let config = found.ok_or_else(|| format!("collection {name} doesn't exist"))?;
        let members = match config.member_orgs_policy.and_then(|p| p.payload) {
            Some(protos::collection_policy_config::Payload::SignaturePolicy(policy)) => {
                Requirement::of_signature_policy(&policy)
            }
            None => Requirement::Never(format!("collection {name} has no members")),
        };
        let policy = config
            .endorsement_policy
            .filter(|policy| policy.encoded_len() > 0)
            .map(|policy| Requirement::of_application_policy(bundle, &policy));
        Ok(Collection { policy, members })
    }
}

/// The collection that belongs to one organisation (spec 03 §4.2).
fn implicit_collection(bundle: &Bundle, msp_id: &str) -> Result<Collection, String> {
    let org = bundle.application().and_then(|a| a.org_by_msp(msp_id));
    let (group, _) = org.ok_or_else(|| format!("no organisation {msp_id} uses the channel"))?;
    let path = format!("/Channel/{}/{group}/{}", names::APPLICATION, names::ENDORSEMENT);
    let policy = if bundle.policy(&path).is_some() {
        Requirement::of_channel_policy(bundle, &path)
    } else {
        Requirement::of_member(msp_id)
    };
    Ok(Collection {
        policy: Some(policy),
        members: Requirement::of_member(msp_id),
    })
}

/// Name of the peer OU of an organisation; empty when it does not tell roles apart.
pub(crate) fn peer_unit<'m>(msps: &'m MspManager, msp_id: &str) -> &'m str {
    msps.get(msp_id)
        .and_then(|msp| msp.config().fabric_node_ous.as_ref())
        .filter(|units| units.enable)
        .and_then(|units| units.peer_ou_identifier.as_ref())
        .map(|unit| unit.organizational_unit_identifier.as_str())
        .unwrap_or_default()
}
