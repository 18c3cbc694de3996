//! Chaincode lifecycle: install, approve, commit, query (spec 08 §5).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_proto::{common, lifecycle, protos};

use crate::direct::DirectClient;
use crate::error::Error;
use crate::peer::PeerClient;
use crate::proposal::Invocation;
use crate::sha256;
use crate::transaction::Committed;

const LIFECYCLE: &str = "_lifecycle";

/// Who must endorse a chaincode's transactions.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum EndorsementPolicy {
    /// The channel's policy `/Channel/Application/Endorsement`.
    #[default]
    Default,
    /// A signature policy.
    Signature(common::SignaturePolicyEnvelope),
    /// A policy of the channel configuration by its path.
    Channel(String),
}

impl EndorsementPolicy {
    /// `validation_parameter` of a definition; empty leaves the default to the peer.
    fn parameter(&self) -> Bytes {
        use protos::application_policy::Type;
        let r#type = match self {
            Self::Default => return Bytes::new(),
            Self::Signature(policy) => Type::SignaturePolicy(policy.clone()),
            Self::Channel(path) if path.starts_with('/') => Type::ChannelConfigPolicyReference(path.clone()),
            Self::Channel(path) => Type::ChannelConfigPolicyReference(format!("/{path}")),
        };
        protos::ApplicationPolicy { r#type: Some(r#type) }
            .encode_to_vec()
            .into()
    }
}

/// A chaincode as the organisations of a channel agree on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition {
    /// Its name on the channel.
    pub name: String,
    /// Its version, free text.
    pub version: String,
    /// 1 for the first definition, one more for each change.
    pub sequence: i64,
    /// Who must endorse.
    pub endorsement: EndorsementPolicy,
    /// Its collections of private data.
    pub collections: Option<protos::CollectionConfigPackage>,
    /// Whether it must be initialised before use.
    pub init_required: bool,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// `label:hash`.
    pub id: String,
    /// Its label.
    pub label: String,
}

/// A committed definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedDefinition {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its sequence.
    pub sequence: i64,
    /// `ApplicationPolicy` bytes.
    pub validation_parameter: Bytes,
    /// Whether it must be initialised.
    pub init_required: bool,
    /// Which organisations (MSP ids) approved it; empty in lists.
    pub approvals: BTreeMap<String, bool>,
}

/// How far the organisations of a channel are with a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// MSP id of every organisation, and whether it has approved exactly this definition.
    pub approvals: BTreeMap<String, bool>,
    /// What differs in the approvals of the others, in the words of Fabric's peer; Fabric before 3.0 leaves it empty.
    pub mismatches: BTreeMap<String, Vec<String>>,
}

fn invocation(channel: &str, function: &str, args: &impl Message) -> Invocation {
    Invocation::new(channel, LIFECYCLE, function).arg(args.encode_to_vec())
}

async fn ask<M: Message + Default>(
    peer: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
    function: &str,
    args: &impl Message,
) -> Result<M, Error> {
    let response = peer.call(identity, &invocation(channel, function, args)).await?;
    M::decode(response.payload).map_err(|e| Error::malformed(peer.address(), e))
}

/// Installs a package on a peer. The identity must be an admin of the peer's organisation.
///
/// # Errors
/// The peer refuses, e.g. because the package is installed already; see [`install_if_missing`].
pub async fn install(
    peer: &PeerClient,
    identity: &SigningIdentity,
    package: Bytes,
) -> Result<Package, Error> {
    let args = lifecycle::InstallChaincodeArgs {
        chaincode_install_package: package,
    };
    let installed: lifecycle::InstallChaincodeResult =
        ask(peer, identity, "", "InstallChaincode", &args).await?;
    Ok(Package {
        id: installed.package_id,
        label: installed.label,
    })
}

/// Installs a package, or finds it when it is installed already: a package's id ends with its hash (spec 08 §6).
///
/// # Errors
/// The peer refuses for another reason.
pub async fn install_if_missing(
    peer: &PeerClient,
    identity: &SigningIdentity,
    package: impl Into<Bytes>,
) -> Result<Package, Error> {
    let package = package.into();
    let hash = hex::encode(sha256(&package));
    let installed = query_installed(peer, identity).await?;
    let same = |p: &Package| p.id.rsplit_once(':').is_some_and(|(_, end)| end == hash);
    match installed.into_iter().find(same) {
        Some(package) => Ok(package),
        None => install(peer, identity, package).await,
    }
}

/// Packages that are installed on a peer.
///
/// # Errors
/// The peer refuses or cannot be reached.
pub async fn query_installed(peer: &PeerClient, identity: &SigningIdentity) -> Result<Vec<Package>, Error> {
    let args = lifecycle::QueryInstalledChaincodesArgs {};
    let found: lifecycle::QueryInstalledChaincodesResult =
        ask(peer, identity, "", "QueryInstalledChaincodes", &args).await?;
    Ok(found
        .installed_chaincodes
        .into_iter()
        .map(|c| Package {
            id: c.package_id,
            label: c.label,
        })
        .collect())
}

/// Approves a definition for the organisation of `client`'s identity, whose peer must be its endorser, and waits for the
/// commit. `package_id` is what this organisation's peers run; none approves without running it.
///
/// # Errors
/// The peer refuses, or the transaction fails.
pub async fn approve(
    client: &DirectClient,
    channel: &str,
    definition: &Definition,
    package_id: Option<&str>,
) -> Result<Committed, Error> {
    use lifecycle::chaincode_source::{Local, Type, Unavailable};
    let source = match package_id {
        Some(id) => Type::LocalPackage(Local {
            package_id: id.to_owned(),
        }),
        None => Type::Unavailable(Unavailable {}),
    };
    let args = lifecycle::ApproveChaincodeDefinitionForMyOrgArgs {
        sequence: definition.sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.endorsement.parameter(),
        collections: definition.collections.clone(),
        init_required: definition.init_required,
        source: Some(lifecycle::ChaincodeSource { r#type: Some(source) }),
        ..Default::default()
    };
    // An approval belongs to one organisation: only its own peer endorses it.
    let invocation = invocation(channel, "ApproveChaincodeDefinitionForMyOrg", &args)
        .endorsing_orgs([client.identity().msp_id()]);
    client.submit_and_wait(&invocation).await
}

/// Which organisations have approved exactly this definition, and what differs in the approvals of the others.
///
/// # Errors
/// The peer refuses, e.g. because the sequence is not the next one.
pub async fn check_commit_readiness(
    peer: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
    definition: &Definition,
) -> Result<Readiness, Error> {
    let args = lifecycle::CheckCommitReadinessArgs {
        sequence: definition.sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.endorsement.parameter(),
        collections: definition.collections.clone(),
        init_required: definition.init_required,
        ..Default::default()
    };
    let found: lifecycle::CheckCommitReadinessResult =
        ask(peer, identity, channel, "CheckCommitReadiness", &args).await?;
    Ok(Readiness {
        approvals: found.approvals.into_iter().collect(),
        mismatches: found
            .mismatches
            .into_iter()
            .map(|(msp_id, m)| (msp_id, m.items))
            .collect(),
    })
}

/// Commits a definition that enough organisations have approved; the endorsers of `client` must satisfy the channel's
/// LifecycleEndorsement policy.
///
/// # Errors
/// The peers refuse, or the transaction fails.
pub async fn commit(
    client: &DirectClient,
    channel: &str,
    definition: &Definition,
) -> Result<Committed, Error> {
    let args = lifecycle::CommitChaincodeDefinitionArgs {
        sequence: definition.sequence,
        name: definition.name.clone(),
        version: definition.version.clone(),
        validation_parameter: definition.endorsement.parameter(),
        collections: definition.collections.clone(),
        init_required: definition.init_required,
        ..Default::default()
    };
    client
        .submit_and_wait(&invocation(channel, "CommitChaincodeDefinition", &args))
        .await
}

/// The committed definition of a chaincode; none when there is none.
///
/// # Errors
/// The peer refuses or cannot be reached.
pub async fn query_committed(
    peer: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
    name: &str,
) -> Result<Option<CommittedDefinition>, Error> {
    let args = lifecycle::QueryChaincodeDefinitionArgs {
        name: name.to_owned(),
    };
    let found: Result<lifecycle::QueryChaincodeDefinitionResult, Error> =
        ask(peer, identity, channel, "QueryChaincodeDefinition", &args).await;
    match found {
        Ok(found) => Ok(Some(CommittedDefinition {
            name: name.to_owned(),
            version: found.version,
            sequence: found.sequence,
            validation_parameter: found.validation_parameter,
            init_required: found.init_required,
            approvals: found.approvals.into_iter().collect(),
        })),
        Err(Error::Refused { status: 404, .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// All committed definitions of a channel.
///
/// # Errors
/// The peer refuses or cannot be reached.
pub async fn query_all_committed(
    peer: &PeerClient,
    identity: &SigningIdentity,
    channel: &str,
) -> Result<Vec<CommittedDefinition>, Error> {
    let args = lifecycle::QueryChaincodeDefinitionsArgs {};
    let found: lifecycle::QueryChaincodeDefinitionsResult =
        ask(peer, identity, channel, "QueryChaincodeDefinitions", &args).await?;
    Ok(found
        .chaincode_definitions
        .into_iter()
        .map(|d| CommittedDefinition {
            name: d.name,
            version: d.version,
            sequence: d.sequence,
            validation_parameter: d.validation_parameter,
            init_required: d.init_required,
            approvals: BTreeMap::new(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_encoded_as_the_peer_tool_does() {
        assert!(EndorsementPolicy::Default.parameter().is_empty());
        let path = "/Channel/Application/Admins";
        let expected = [&[0x12, u8::try_from(path.len()).unwrap()][..], path.as_bytes()].concat();
        for given in ["Channel/Application/Admins", path] {
            let policy = EndorsementPolicy::Channel(given.to_owned());
            assert_eq!(policy.parameter(), expected);
        }
    }

    #[test]
    fn lifecycle_calls_have_exactly_two_arguments() {
        let invocation = invocation(
            "c",
            "QueryInstalledChaincodes",
            &lifecycle::QueryInstalledChaincodesArgs {},
        );
        assert_eq!(invocation.args.len(), 2);
        assert_eq!(invocation.chaincode(), "_lifecycle");
    }
}
