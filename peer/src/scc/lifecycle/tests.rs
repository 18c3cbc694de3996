use prost::Message;
use selvedge_msp::SigningIdentity;
use selvedge_msp::policy::dsl;
use selvedge_proto::lifecycle::*;
use selvedge_proto::protos;

use crate::chaincode::package;
use crate::chaincode::wasm::tests::invoking;
use crate::definition::LIFECYCLE;
use crate::test_network::{Ask, Consortium, ask};

fn call(channel: &str, function: &str, message: &impl Message) -> Ask {
    ask(
        channel,
        LIFECYCLE,
        &[function.as_bytes(), &message.encode_to_vec()],
    )
}

struct World {
    net: Consortium,
    admin: SigningIdentity,
    other: SigningIdentity,
    user: SigningIdentity,
}

impl World {
    fn new() -> Self {
        let net = Consortium::new();
        let (admin, other) = (net.orgs[0].admin(), net.orgs[1].admin());
        let user = net.orgs[0].client("alice", &[]);
        Self {
            net,
            admin,
            other,
            user,
        }
    }

    fn admin(&self, channel: &str, function: &str, message: &impl Message) -> protos::Response {
        self.net
            .response(0, &self.admin, &call(channel, function, message))
    }

    fn approve(&self, args: &ApproveChaincodeDefinitionForMyOrgArgs) -> protos::Response {
        self.admin("trade", "ApproveChaincodeDefinitionForMyOrg", args)
    }

    fn approve_by(&self, org: usize, args: &ApproveChaincodeDefinitionForMyOrgArgs) {
        let admin = if org == 0 { &self.admin } else { &self.other };
        let code = self.net.submit(
            &[org],
            admin,
            &call("trade", "ApproveChaincodeDefinitionForMyOrg", args),
        );
        assert_eq!(code, protos::TxValidationCode::Valid);
    }
}

fn definition() -> ApproveChaincodeDefinitionForMyOrgArgs {
    ApproveChaincodeDefinitionForMyOrgArgs {
        sequence: 1,
        name: "cc".into(),
        version: "1.0".into(),
        ..Default::default()
    }
}

fn commit_args() -> CommitChaincodeDefinitionArgs {
    CommitChaincodeDefinitionArgs {
        sequence: 1,
        name: "cc".into(),
        version: "1.0".into(),
        ..Default::default()
    }
}

fn why(response: &protos::Response) -> &str {
    assert_eq!(response.status, 500, "{}", response.message);
    response
        .message
        .split_once("': ")
        .map_or(response.message.as_str(), |(_, why)| why)
}

#[test]
fn packages_are_installed_listed_and_given_back() {
    let world = World::new();
    let bytes = package::write_package("cc_1", &invoking("")).unwrap();
    let install = InstallChaincodeArgs {
        chaincode_install_package: bytes.clone().into(),
    };
    let installed = world.admin("", "InstallChaincode", &install);
    let installed = InstallChaincodeResult::decode(installed.payload).unwrap();
    assert_eq!(installed.package_id, package::package_id("cc_1", &bytes));
    let again = world.admin("", "InstallChaincode", &install);
    assert_eq!(
        why(&again),
        format!(
            "chaincode already successfully installed (package ID '{}')",
            installed.package_id
        )
    );
    let get = GetInstalledChaincodePackageArgs {
        package_id: installed.package_id.clone(),
    };
    let back = world.admin("", "GetInstalledChaincodePackage", &get);
    let back = GetInstalledChaincodePackageResult::decode(back.payload).unwrap();
    assert_eq!(back.chaincode_install_package, bytes);
    let missing = world.admin(
        "",
        "GetInstalledChaincodePackage",
        &GetInstalledChaincodePackageArgs {
            package_id: "x".into(),
        },
    );
    assert_eq!(
        (missing.status, missing.message.as_str()),
        (404, "chaincode install package 'x' not found")
    );
    let bad = package::write_package("bad", b"no wasm").unwrap();
    let bad = world.admin(
        "",
        "InstallChaincode",
        &InstallChaincodeArgs {
            chaincode_install_package: bad.into(),
        },
    );
    assert!(why(&bad).contains("contract.wasm is not a module that this peer can run"));
    let denied = world
        .net
        .response(0, &world.user, &call("", "InstallChaincode", &install));
    assert!(
        denied
            .message
            .starts_with("Failed to authorize invocation due to failed ACL check: "),
        "{}",
        denied.message
    );

    // Once defined and approved with this package, it is listed with its use.
    let package_id = world.net.install("cc_2", &invoking("(nop)"));
    let source = ChaincodeSource {
        r#type: Some(chaincode_source::Type::LocalPackage(chaincode_source::Local {
            package_id: package_id.clone(),
        })),
    };
    let approved = ApproveChaincodeDefinitionForMyOrgArgs {
        source: Some(source.clone()),
        ..definition()
    };
    world.approve_by(0, &approved);
    world.approve_by(1, &approved);
    let before = world.admin(
        "trade",
        "QueryApprovedChaincodeDefinition",
        &QueryApprovedChaincodeDefinitionArgs {
            name: "cc".into(),
            sequence: 0,
        },
    );
    let before = QueryApprovedChaincodeDefinitionResult::decode(before.payload).unwrap();
    assert_eq!(
        (before.sequence, before.version.as_str(), before.source),
        (1, "1.0", Some(source))
    );
    world.net.submit(
        &[0, 1],
        &world.admin,
        &call("trade", "CommitChaincodeDefinition", &commit_args()),
    );
    let list = world.admin("", "QueryInstalledChaincodes", &QueryInstalledChaincodesArgs {});
    let list = QueryInstalledChaincodesResult::decode(list.payload)
        .unwrap()
        .installed_chaincodes;
    assert_eq!(list.len(), 2);
    let used = list.iter().find(|i| i.package_id == package_id).unwrap();
    assert_eq!(used.references["trade"].chaincodes[0].name, "cc");
    let all = world.admin(
        "trade",
        "QueryApprovedChaincodeDefinitions",
        &QueryApprovedChaincodeDefinitionsArgs {},
    );
    let all = QueryApprovedChaincodeDefinitionsResult::decode(all.payload).unwrap();
    assert_eq!(all.approved_chaincode_definitions.len(), 1);
}

#[test]
fn calls_have_exactly_two_arguments_and_the_right_channel() {
    let world = World::new();
    let text = |channel: &str, args: &[&[u8]]| {
        world
            .net
            .response(0, &world.admin, &ask(channel, LIFECYCLE, args))
            .message
    };
    assert_eq!(text("", &[]), "lifecycle scc must be invoked with arguments");
    assert_eq!(
        text("", &[b"a"]),
        "lifecycle scc operations require exactly two arguments but received 1"
    );
    assert_eq!(
        text("", &[b"Forget", b""]),
        "unknown lifecycle function: 'Forget'"
    );
    let approve = definition().encode_to_vec();
    assert_eq!(
        text("", &[b"ApproveChaincodeDefinitionForMyOrg", &approve]),
        "could not get channelconfig for channel ''"
    );
    let text = text("trade", &[b"ApproveChaincodeDefinitionForMyOrg", b"\xff"]);
    assert!(
        text.contains("failed to decode input arg to ApproveChaincodeDefinitionForMyOrg"),
        "{text}"
    );
}

#[test]
fn definitions_are_checked() {
    let world = World::new();
    let refused = |change: fn(&mut ApproveChaincodeDefinitionForMyOrgArgs)| {
        let mut args = definition();
        change(&mut args);
        why(&world.approve(&args)).to_owned()
    };
    assert_eq!(
        refused(|a| a.sequence = 0),
        "requested sequence is 0, but first definable sequence number is 1"
    );
    assert_eq!(
        refused(|a| a.sequence = 2),
        "requested sequence 2 is larger than the next available sequence number 1"
    );
    assert!(refused(|a| a.name = "a b".into()).contains("invalid chaincode name 'a b'"));
    assert!(
        refused(|a| a.name = "qscc".into())
            .contains("chaincode name 'qscc' is the name of a system chaincode")
    );
    assert!(refused(|a| a.version = "1/0".into()).contains("invalid chaincode version '1/0'"));
    assert!(refused(|a| a.validation_plugin = "own".into()).contains("plugin 'own' is unknown"));
    assert!(refused(|a| a.validation_parameter = vec![0xff].into()).contains("does not parse"));
    let missing = refused(|a| {
        a.validation_parameter = protos::ApplicationPolicy {
            r#type: Some(protos::application_policy::Type::ChannelConfigPolicyReference(
                "/Channel/No".into(),
            )),
        }
        .encode_to_vec()
        .into();
    });
    assert!(missing.contains("refers to '/Channel/No'"), "{missing}");
}

fn collection(name: &str, members: &str) -> protos::StaticCollectionConfig {
    let policy = dsl::parse(members).unwrap();
    protos::StaticCollectionConfig {
        name: name.into(),
        member_orgs_policy: Some(protos::CollectionPolicyConfig {
            payload: Some(protos::collection_policy_config::Payload::SignaturePolicy(policy)),
        }),
        maximum_peer_count: 1,
        block_to_live: 5,
        ..Default::default()
    }
}

fn with_collections(
    collections: Vec<protos::StaticCollectionConfig>,
) -> ApproveChaincodeDefinitionForMyOrgArgs {
    let config = collections
        .into_iter()
        .map(|c| protos::CollectionConfig {
            payload: Some(protos::collection_config::Payload::StaticCollectionConfig(c)),
        })
        .collect();
    ApproveChaincodeDefinitionForMyOrgArgs {
        collections: Some(protos::CollectionConfigPackage { config }),
        ..definition()
    }
}

#[test]
fn collections_are_checked() {
    let world = World::new();
    let refused = |collections| why(&world.approve(&with_collections(collections))).to_owned();
    let good = collection("private", "OR('Org1MSP.member', 'Org2MSP.member')");
    assert_eq!(world.approve(&with_collections(vec![good.clone()])).status, 200);
    assert!(refused(vec![good.clone(), good.clone()]).contains("found duplicate"));
    assert!(refused(vec![collection("_x", "OR('Org1MSP.member')")]).contains("name must start"));
    assert!(
        refused(vec![collection("x", "OR('Org7MSP.member')")])
            .contains("collection member 'Org7MSP' is not part of the channel")
    );
    assert!(
        refused(vec![collection("x", "AND('Org1MSP.member', 'Org2MSP.member')")])
            .contains("not an OR concatenation")
    );
    let few = protos::StaticCollectionConfig {
        required_peer_count: 2,
        ..good.clone()
    };
    assert!(
        refused(vec![few]).contains("maximum peer count (1) cannot be less than the required peer count (2)")
    );
    let open = protos::StaticCollectionConfig {
        member_orgs_policy: None,
        ..good
    };
    assert!(refused(vec![open]).contains("collection member policy is not set"));
}

#[test]
fn readiness_names_what_differs_and_commit_needs_the_own_approval() {
    let world = World::new();
    let check = |version: &str, sequence: i64| {
        let args = CheckCommitReadinessArgs {
            sequence,
            name: "cc".into(),
            version: version.into(),
            ..Default::default()
        };
        world
            .net
            .response(0, &world.user, &call("trade", "CheckCommitReadiness", &args))
    };
    let result = |response: protos::Response| CheckCommitReadinessResult::decode(response.payload).unwrap();
    let nobody = result(check("1.0", 1));
    assert!(!nobody.approvals["Org1MSP"] && !nobody.approvals["Org2MSP"]);
    assert_eq!(
        nobody.mismatches["Org1MSP"].items,
        ["ChaincodeParameters (Check the Sequence, ChaincodeName)"]
    );
    let uncommitted = world.admin("trade", "CommitChaincodeDefinition", &commit_args());
    assert!(why(&uncommitted).starts_with("chaincode definition not agreed to by this org (Org1MSP)"));
    world.approve_by(0, &definition());
    let one = result(check("1.0", 1));
    assert!(one.approvals["Org1MSP"] && !one.approvals["Org2MSP"]);
    assert!(!one.mismatches.contains_key("Org1MSP"));
    let other = result(check("2.0", 1));
    assert_eq!(
        other.mismatches["Org1MSP"].items,
        ["EndorsementInfo (Check the Version, InitRequired, EndorsementPlugin)"]
    );
    assert_eq!(
        why(&check("1.0", 2)),
        "requested sequence is 2, but new definition must be sequence 1"
    );

    world.approve_by(1, &definition());
    let code = world.net.submit(
        &[0, 1],
        &world.admin,
        &call("trade", "CommitChaincodeDefinition", &commit_args()),
    );
    assert_eq!(code, protos::TxValidationCode::Valid);
    let again = world.admin("trade", "CommitChaincodeDefinition", &commit_args());
    assert_eq!(
        why(&again),
        "requested sequence is 1, but new definition must be sequence 2"
    );
    let different = ApproveChaincodeDefinitionForMyOrgArgs {
        version: "9".into(),
        ..definition()
    };
    let text = world.approve(&different);
    assert!(
        why(&text).starts_with("attempted to redefine the current committed sequence (1) for namespace cc with different parameters: expected Version '1.0'"),
        "{}",
        text.message
    );

    let query = QueryChaincodeDefinitionArgs { name: "cc".into() };
    let found = world
        .net
        .response(0, &world.user, &call("trade", "QueryChaincodeDefinition", &query));
    let found = QueryChaincodeDefinitionResult::decode(found.payload).unwrap();
    assert_eq!(
        (
            found.sequence,
            found.version.as_str(),
            found.endorsement_plugin.as_str()
        ),
        (1, "1.0", "escc")
    );
    assert!(found.approvals["Org1MSP"] && found.approvals["Org2MSP"]);
    let none = QueryChaincodeDefinitionArgs { name: "none".into() };
    let none = world
        .net
        .response(0, &world.user, &call("trade", "QueryChaincodeDefinition", &none));
    assert_eq!(
        (none.status, none.message.as_str()),
        (404, "namespace none is not defined")
    );
    let all = world.net.response(
        0,
        &world.user,
        &call(
            "trade",
            "QueryChaincodeDefinitions",
            &QueryChaincodeDefinitionsArgs {},
        ),
    );
    let all = QueryChaincodeDefinitionsResult::decode(all.payload)
        .unwrap()
        .chaincode_definitions;
    assert_eq!(all.len(), 1);
    let approved = QueryApprovedChaincodeDefinitionArgs {
        name: "none".into(),
        sequence: 1,
    };
    let approved = world.admin("trade", "QueryApprovedChaincodeDefinition", &approved);
    assert!(approved.message.contains(
        "could not fetch approved chaincode definition (name: 'none', sequence: '1') on channel 'trade'"
    ));
}
