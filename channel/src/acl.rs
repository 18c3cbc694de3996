//! Which policy guards which resource of a peer: the defaults, and a channel's overrides (spec 08 §4).

/// Prefix of a policy reference in the `ACLs` value that is no absolute path.
const APPLICATION: &str = "/Channel/Application";

const READERS: &str = "/Channel/Application/Readers";
const WRITERS: &str = "/Channel/Application/Writers";

const CHANNEL_DEFAULTS: &[(&str, &str)] = &[
    ("_lifecycle/CheckCommitReadiness", WRITERS),
    ("_lifecycle/CommitChaincodeDefinition", WRITERS),
    ("_lifecycle/QueryChaincodeDefinition", WRITERS),
    ("_lifecycle/QueryChaincodeDefinitions", WRITERS),
    ("cscc/GetChannelConfig", READERS),
    ("cscc/GetConfigBlock", READERS),
    ("event/Block", READERS),
    ("event/FilteredBlock", READERS),
    ("gateway/ChaincodeEvents", READERS),
    ("gateway/CommitStatus", READERS),
    ("peer/ChaincodeToChaincode", WRITERS),
    ("peer/Propose", WRITERS),
    ("qscc/GetBlockByHash", READERS),
    ("qscc/GetBlockByNumber", READERS),
    ("qscc/GetBlockByTxID", READERS),
    ("qscc/GetChainInfo", READERS),
    ("qscc/GetTransactionByID", READERS),
    // Not in Fabric: why the peer refused a transaction.
    ("qscc/GetTransactionRefusal", READERS),
];

/// Who of the peer's own organisation may use a resource that belongs to no channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalPolicy {
    /// Administrators of the peer's MSP.
    Admins,
    /// Members of the peer's MSP.
    Members,
}

/// The default policy of a channel resource; `None` means the resource is unmapped, which denies.
pub fn channel_default(resource: &str) -> Option<&'static str> {
    CHANNEL_DEFAULTS
        .iter()
        .find(|(name, _)| *name == resource)
        .map(|(_, policy)| *policy)
}

/// The policy of a resource that is judged by the peer's own MSP; `None` means unmapped, which denies.
pub fn local_policy(resource: &str) -> Option<LocalPolicy> {
    match resource {
        "cscc/GetChannels" => Some(LocalPolicy::Members),
        "cscc/JoinChain"
        | "cscc/JoinChainBySnapshot"
        | "cscc/JoinBySnapshotStatus"
        | "_lifecycle/InstallChaincode"
        | "_lifecycle/QueryInstalledChaincode"
        | "_lifecycle/GetInstalledChaincodePackage"
        | "_lifecycle/QueryInstalledChaincodes"
        | "_lifecycle/ApproveChaincodeDefinitionForMyOrg"
        | "_lifecycle/QueryApprovedChaincodeDefinition"
        | "_lifecycle/QueryApprovedChaincodeDefinitions"
        | "snapshot/submitrequest"
        | "snapshot/cancelrequest"
        | "snapshot/listpending" => Some(LocalPolicy::Admins),
        _ => None,
    }
}

/// Absolute path of a policy reference out of the `ACLs` value: a plain name means a policy of the application group.
pub(crate) fn absolute(policy_ref: &str) -> String {
    if policy_ref.starts_with('/') {
        policy_ref.to_owned()
    } else {
        format!("{APPLICATION}/{policy_ref}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_resources_have_no_policy() {
        assert_eq!(channel_default("peer/Propose"), Some(WRITERS));
        assert_eq!(channel_default("qscc/Drop"), None);
        assert_eq!(local_policy("cscc/GetChannels"), Some(LocalPolicy::Members));
        assert_eq!(local_policy("peer/Propose"), None);
    }

    #[test]
    fn references() {
        assert_eq!(absolute("Readers"), READERS);
        assert_eq!(absolute("/Channel/Readers"), "/Channel/Readers");
    }
}
