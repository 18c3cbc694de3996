//! Who may touch which private data collection (spec 08 §5, 09 §4).

use selvedge_channel::Bundle;
use selvedge_msp::{Identity, Principal};
use selvedge_proto::{common, protos};

use super::wasm::CollectionRights;
use crate::definition::ChaincodeDefinition;

/// Prefix of the names of the collections that each organisation has in every namespace.
pub(crate) const IMPLICIT_PREFIX: &str = "_implicit_org_";

/// The rights of `creator` in a collection of a chaincode. `Err` says why there is no such collection.
pub(crate) fn rights(
    bundle: &Bundle,
    definition: &ChaincodeDefinition,
    creator: &Identity,
    collection: &str,
) -> Result<CollectionRights, String> {
    if let Some(msp_id) = collection.strip_prefix(IMPLICIT_PREFIX) {
        let known = bundle
            .application()
            .is_some_and(|a| a.org_by_msp(msp_id).is_some());
        if !known {
            return Err(format!(
                "collection {collection} could not be found: no application organization of channel {} has the MSP id {msp_id}",
                bundle.channel_id()
            ));
        }
        return Ok(CollectionRights {
            read: true,
            write: true,
        });
    }
    let Some(config) = definition.collection(collection) else {
        return Err(format!(
            "collection {}/{}/{collection} could not be found: it is not in the committed definition (sequence {})",
            bundle.channel_id(),
            definition.name,
            definition.sequence
        ));
    };
    let member = !(config.member_only_read || config.member_only_write) || is_member(bundle, config, creator);
    Ok(CollectionRights {
        read: !config.member_only_read || member,
        write: !config.member_only_write || member,
    })
}

fn is_member(bundle: &Bundle, config: &protos::StaticCollectionConfig, creator: &Identity) -> bool {
    members(config)
        .iter()
        .any(|p| bundle.msps().satisfies(creator, &Principal::decode(p)).is_ok())
}

/// The principals of a collection's members.
pub(crate) fn members(config: &protos::StaticCollectionConfig) -> &[common::MspPrincipal] {
    match config
        .member_orgs_policy
        .as_ref()
        .and_then(|p| p.payload.as_ref())
    {
        Some(protos::collection_policy_config::Payload::SignaturePolicy(policy)) => &policy.identities,
        None => &[],
    }
}
