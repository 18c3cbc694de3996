//! The policies of a channel: implicit meta, names, application policies (spec 02 §14).

use selvedge_channel::{Bundle, Policy, RefusalReason};
use selvedge_msp::SigningIdentity;
use selvedge_msp::policy::{SignedData, Signers, dsl, verify_signatures};
use selvedge_proto::common::implicit_meta_policy::Rule;
use selvedge_proto::{Bytes, Message, common, protos};

use crate::network::{CHANNEL, Network};

fn signed_by(signers: &[&SigningIdentity]) -> Vec<SignedData> {
    let data = Bytes::from_static(b"what they all agree on");
    signers
        .iter()
        .map(|signer| SignedData {
            signature: signer.sign(&data).unwrap(),
            data: vec![data.clone()],
            identity: signer.creator().clone(),
        })
        .collect()
}

fn with_policy(network: &Network, path: &str, name: &str, policy: common::Policy) -> Bundle {
    let mut config = network.bundle.config().clone();
    let mut group = config.channel_group.as_mut().unwrap();
    for part in path.split('/').skip(2) {
        group = group.groups.get_mut(part).unwrap();
    }
    let policy = common::ConfigPolicy {
        policy: Some(policy),
        mod_policy: "Admins".to_owned(),
        version: 0,
    };
    group.policies.insert(name.to_owned(), policy);
    Bundle::from_config(CHANNEL, config).unwrap()
}

fn implicit(sub_policy: &str, rule: Rule) -> common::Policy {
    let meta = common::ImplicitMetaPolicy {
        sub_policy: sub_policy.to_owned(),
        rule: rule as i32,
    };
    common::Policy {
        r#type: common::policy::PolicyType::ImplicitMeta as i32,
        value: meta.encode_to_vec().into(),
    }
}

#[test]
fn rules_count_sub_groups() {
    let network = Network::new();
    let (one, two) = (network.org1.identity("client"), network.org2.identity("client"));
    for (rule, with_one) in [(Rule::Any, true), (Rule::All, false), (Rule::Majority, false)] {
        let bundle = with_policy(
            &network,
            "/Channel/Application",
            "Test",
            implicit("Writers", rule),
        );
        let met = |signers: &[&SigningIdentity]| {
            bundle.evaluate_signed("/Channel/Application/Test", &signed_by(signers))
        };
        assert!(met(&[]).is_err(), "{rule:?}");
        assert_eq!(met(&[&two]).is_ok(), with_one, "{rule:?}");
        met(&[&one, &two]).unwrap();
    }
}

/// As Fabric evaluates it: the count that starts at 0 must be 0 in the end.
#[test]
fn a_rule_that_does_not_exist_is_met_by_those_who_meet_no_sub_policy() {
    let network = Network::new();
    let unknown = || {
        let mut policy = implicit("Writers", Rule::Any);
        let meta = common::ImplicitMetaPolicy {
            sub_policy: "Writers".to_owned(),
            rule: 99,
        };
        policy.value = meta.encode_to_vec().into();
        policy
    };
    let one = network.org1.identity("client");
    let met = |path: &str, signers: &[&SigningIdentity]| {
        let bundle = with_policy(&network, path, "Test", unknown());
        let name = format!("{path}/Test");
        bundle.evaluate_signed(&name, &signed_by(signers)).is_ok()
    };
    assert!(met("/Channel/Application", &[]));
    assert!(!met("/Channel/Application", &[&one]));
    // Without sub-groups it is met always.
    assert!(met("/Channel/Application/Org1", &[]));
    assert!(met("/Channel/Application/Org1", &[&one]));
}

#[test]
fn a_missing_sub_policy_rejects() {
    let network = Network::new();
    let bundle = with_policy(
        &network,
        "/Channel/Application",
        "Test",
        implicit("Nothing", Rule::Any),
    );
    let one = network.org1.identity("admin");
    let refusal = bundle
        .evaluate_signed("/Channel/Application/Test", &signed_by(&[&one]))
        .unwrap_err();
    let RefusalReason::ImplicitMeta {
        satisfied: 0,
        threshold: 1,
        refusals,
        ..
    } = refusal.reason
    else {
        panic!("{refusal}");
    };
    assert_eq!(refusals.len(), 2);
    assert!(
        refusals
            .iter()
            .all(|r| matches!(r.reason, RefusalReason::Missing))
    );
}

#[test]
fn without_sub_groups_nothing_is_asked() {
    let network = Network::new();
    for rule in [Rule::Any, Rule::All, Rule::Majority] {
        let bundle = with_policy(
            &network,
            "/Channel/Application/Org1",
            "Test",
            implicit("Admins", rule),
        );
        bundle
            .evaluate("/Channel/Application/Org1/Test", &Signers::default())
            .unwrap();
    }
}

#[test]
fn a_policy_that_does_not_exist_denies() {
    let network = Network::new();
    let admins = [network.org1.identity("admin"), network.org2.identity("admin")];
    let signed = signed_by(&[&admins[0], &admins[1]]);
    for path in [
        "/Channel/Nothing",
        "",
        "/",
        "/Channel/Application/Org9/Admins",
        "/Application/Admins",
    ] {
        let refusal = network.bundle.evaluate_signed(path, &signed).unwrap_err();
        assert!(matches!(refusal.reason, RefusalReason::Missing), "{path}");
    }
    // A relative path starts at the root.
    network
        .bundle
        .evaluate_signed("Application/Admins", &signed)
        .unwrap();
    assert!(
        matches!(network.bundle.policy("/Channel/Admins"), Some(Policy::ImplicitMeta(meta))
        if meta.threshold == 2 && meta.sub_paths == ["/Channel/Application/Admins", "/Channel/Orderer/Admins"])
    );
}

#[test]
fn refusals_name_who_signed_and_why_it_does_not_count() {
    let network = Network::new();
    let mut signed = signed_by(&[&network.org1.identity("peer")]);
    signed.extend(signed_by(&[&network.org2.identity("client")]));
    signed[1].signature = Bytes::from_static(b"no signature");
    let text = network
        .bundle
        .evaluate_signed("/Channel/Application/Admins", &signed)
        .unwrap_err()
        .to_string();
    for part in [
        "requires 2 of the 'Admins'",
        "Org1MSP.admin",
        "Org2MSP.admin",
        "peer.Org1MSP",
        "client.Org2MSP",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn application_policies() {
    use protos::application_policy::Type;
    let network = Network::new();
    let peers = [network.org1.identity("peer"), network.org2.identity("peer")];
    let both = verify_signatures(network.bundle.msps(), &signed_by(&[&peers[0], &peers[1]]));
    let one = verify_signatures(network.bundle.msps(), &signed_by(&[&peers[0]]));
    let judge = |policy: Option<Type>, signers: &Signers| {
        network
            .bundle
            .evaluate_application_policy(&protos::ApplicationPolicy { r#type: policy }, signers)
    };
    let reference = || {
        Some(Type::ChannelConfigPolicyReference(
            "/Channel/Application/Endorsement".to_owned(),
        ))
    };
    judge(reference(), &both).unwrap();
    assert!(judge(reference(), &one).is_err());
    let either = || {
        Some(Type::SignaturePolicy(
            dsl::parse("OR('Org1MSP.peer','Org2MSP.peer')").unwrap(),
        ))
    };
    judge(either(), &one).unwrap();
    assert!(judge(either(), &Signers::default()).is_err());
    // The version of an inline policy is not looked at (spec 03 §4).
    let mut versioned = dsl::parse("OR('Org1MSP.peer')").unwrap();
    versioned.version = 7;
    judge(Some(Type::SignaturePolicy(versioned)), &one).unwrap();
    assert!(matches!(
        judge(None, &both).unwrap_err().reason,
        RefusalReason::Empty
    ));
    let broken = common::SignaturePolicyEnvelope::default();
    assert!(matches!(
        judge(Some(Type::SignaturePolicy(broken)), &both)
            .unwrap_err()
            .reason,
        RefusalReason::Unusable(_)
    ));
    let missing = Some(Type::ChannelConfigPolicyReference(
        "/Channel/Application/Nothing".to_owned(),
    ));
    assert!(matches!(
        judge(missing, &both).unwrap_err().reason,
        RefusalReason::Missing
    ));
}

#[test]
fn policies_that_cannot_work_make_the_configuration_unusable() {
    let network = Network::new();
    let mut versioned = dsl::parse("OR('Org1MSP.peer')").unwrap();
    versioned.version = 1;
    let signature = |envelope: &common::SignaturePolicyEnvelope| common::Policy {
        r#type: common::policy::PolicyType::Signature as i32,
        value: envelope.encode_to_vec().into(),
    };
    let bad = [
        signature(&versioned),
        signature(&common::SignaturePolicyEnvelope::default()),
        common::Policy {
            r#type: 1,
            value: vec![0xff].into(),
        },
        common::Policy {
            r#type: 3,
            value: vec![0xff].into(),
        },
        common::Policy::default(),
    ];
    for policy in bad {
        let mut config = network.bundle.config().clone();
        let root = config.channel_group.as_mut().unwrap();
        root.policies.get_mut("Admins").unwrap().policy = Some(policy.clone());
        let error = Bundle::from_config(CHANNEL, config).unwrap_err();
        assert!(
            error.to_string().contains("/Channel/Admins"),
            "{policy:?}: {error}"
        );
    }
}
