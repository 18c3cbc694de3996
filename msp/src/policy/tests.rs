use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use proptest::prelude::*;
use selvedge_proto::common::msp_role::MspRoleType as Role;

use super::*;
use crate::identity::{Identity, SigningIdentity};
use crate::policy::dsl::{n_out_of, parse, role_principal, signed_by};
use crate::testing::{Org, root};

/// Two organisations with one holder for each of three roles, made once: keys take time.
struct World {
    msps: MspManager,
    signers: Vec<SigningIdentity>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let orgs = [Org::new("Org1MSP"), Org::new("Org2MSP")];
        let signers = orgs
            .iter()
            .flat_map(|org| ["peer", "client", "admin"].map(|role| org.holder(&format!("{role}0"), &[role])))
            .collect();
        World {
            msps: MspManager::new(orgs.iter().map(Org::msp).collect()),
            signers,
        }
    })
}

/// Org1 0 peer, 1 client, 2 admin; Org2 3 peer, 4 client, 5 admin.
fn identities(which: &[usize]) -> Vec<Arc<Identity>> {
    which
        .iter()
        .map(|i| world().msps.deserialize(world().signers[*i].creator()).unwrap())
        .collect()
}

fn evaluate(text: &str, which: &[usize]) -> Result<(), PolicyRefusal> {
    let policy = SignaturePolicy::compile(&parse(text).unwrap()).unwrap();
    policy.evaluate(&world().msps, &Signers::from_verified(identities(which)))
}

fn signed(signer: &SigningIdentity, message: &'static [u8]) -> SignedData {
    SignedData {
        data: vec![Bytes::from_static(message)],
        identity: signer.creator().clone(),
        signature: signer.sign(message).unwrap(),
    }
}

#[test]
fn gates_do_what_they_say() {
    let both = "AND('Org1MSP.peer', 'Org2MSP.peer')";
    assert!(evaluate(both, &[0, 3]).is_ok());
    assert!(evaluate(both, &[3, 0]).is_ok());
    assert!(evaluate(both, &[0]).is_err());
    assert!(evaluate(both, &[0, 0]).is_err(), "one signer counts once");
    assert!(evaluate("OR('Org1MSP.peer', 'Org2MSP.peer')", &[3]).is_ok());
    assert!(evaluate("OR('Org1MSP.peer', 'Org2MSP.peer')", &[1, 5]).is_err());
    assert!(
        evaluate(
            "OutOf(2, 'Org1MSP.member', 'Org1MSP.member', 'Org2MSP.member')",
            &[0, 1]
        )
        .is_ok()
    );
    assert!(evaluate("OutOf(0, 'Org1MSP.peer')", &[]).is_ok());
    assert!(evaluate("OutOf(2, 'Org1MSP.peer')", &[0]).is_err());
}

#[test]
fn assignment_is_greedy_and_never_goes_back() {
    // The admin is taken for "member" first; nobody is left for "admin".
    assert!(evaluate("AND('Org1MSP.member', 'Org1MSP.admin')", &[2, 1]).is_err());
    assert!(evaluate("AND('Org1MSP.member', 'Org1MSP.admin')", &[1, 2]).is_ok());
    assert!(evaluate("AND('Org1MSP.admin', 'Org1MSP.member')", &[2, 1]).is_ok());
    // All rules are tried even when enough have been met, and take signers.
    let spends = "AND(OutOf(1, 'Org1MSP.peer', 'Org1MSP.client'), 'Org1MSP.client')";
    assert!(evaluate(spends, &[0, 1]).is_err());
    // A gate that fails gives back what it took.
    let gives_back = "OR(AND('Org1MSP.peer', 'Org2MSP.peer'), 'Org1MSP.peer')";
    assert!(evaluate(gives_back, &[0]).is_ok());
}

#[test]
fn a_bad_node_makes_the_whole_policy_unusable() {
    let principal = role_principal("Org1MSP", Role::Peer);
    let envelope = |rule| common::SignaturePolicyEnvelope {
        version: 0,
        rule,
        identities: vec![principal.clone()],
    };
    let compile = |rule| SignaturePolicy::compile(&envelope(rule));
    assert!(compile(Some(signed_by(0))).is_ok());
    assert_eq!(compile(None), Err(PolicyError::NoRule));
    let no_type = common::SignaturePolicy { r#type: None };
    assert_eq!(
        compile(Some(n_out_of(0, vec![no_type]))),
        Err(PolicyError::UnknownRule)
    );
    for index in [-1, 1, i32::MAX] {
        let rule = n_out_of(1, vec![signed_by(0), signed_by(index)]);
        assert_eq!(
            compile(Some(rule)),
            Err(PolicyError::NoIdentity { index, count: 1 })
        );
    }
    let mut deep = signed_by(0);
    for _ in 0..200 {
        deep = n_out_of(1, vec![deep]);
    }
    assert!(matches!(compile(Some(deep)), Err(PolicyError::TooDeep(_))));

    let mut versioned = envelope(Some(signed_by(0)));
    versioned.version = 1;
    assert!(SignaturePolicy::compile(&versioned).is_ok());
    assert_eq!(
        SignaturePolicy::compile_config(&versioned),
        Err(PolicyError::Version(1))
    );
    assert!(matches!(
        SignaturePolicy::from_bytes(&[0xff]),
        Err(PolicyError::Malformed(_))
    ));
}

#[test]
fn a_malformed_principal_is_only_never_satisfied() {
    let nonsense = common::MspPrincipal {
        principal_classification: 9,
        principal: Bytes::new(),
    };
    let envelope = common::SignaturePolicyEnvelope {
        version: 0,
        rule: Some(n_out_of(1, vec![signed_by(0), signed_by(1)])),
        identities: vec![nonsense, role_principal("Org1MSP", Role::Peer)],
    };
    let policy = SignaturePolicy::compile(&envelope).unwrap();
    let msps = &world().msps;
    assert!(
        policy
            .evaluate(msps, &Signers::from_verified(identities(&[0])))
            .is_ok()
    );
    let refusal = policy
        .evaluate(msps, &Signers::from_verified(identities(&[3])))
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("malformed principal"), "{refusal}");
}

#[test]
fn accept_all_and_reject_all() {
    let nobody = Signers::default();
    let everybody = Signers::from_verified(identities(&[0, 1, 2, 3, 4, 5]));
    let accept = SignaturePolicy::compile(&dsl::accept_all()).unwrap();
    let reject = SignaturePolicy::compile(&dsl::reject_all()).unwrap();
    assert!(accept.evaluate(&world().msps, &nobody).is_ok());
    assert!(reject.evaluate(&world().msps, &everybody).is_err());
}

#[test]
fn signatures_are_checked_and_the_same_signer_counts_once() {
    let World { msps, signers } = world();
    let good = signed(&signers[0], b"message");
    let mut forged = good.clone();
    forged.signature = signers[1].sign(b"message").unwrap();
    let unknown = signed(&Org::new("Org9MSP").holder("x", &["peer"]), b"message");
    let pieces = SignedData {
        data: vec![Bytes::from_static(b"mess"), Bytes::from_static(b"age")],
        ..signed(&signers[3], b"message")
    };
    let result = verify_signatures(
        msps,
        &[forged.clone(), unknown, good.clone(), good, forged, pieces],
    );
    let names: Vec<&str> = result.identities().iter().map(|i| i.msp_id()).collect();
    // A bad signature does not spoil a later good one of the same signer.
    assert_eq!(names, ["Org1MSP", "Org2MSP"]);
    let why: Vec<&str> = result.rejected().iter().map(|r| r.why.as_str()).collect();
    assert_eq!(why.len(), 4);
    assert!(
        why[0].contains("does not match") && why[1].contains("Org9MSP"),
        "{why:?}"
    );
    assert!(why[2].contains("once") && why[3].contains("once"), "{why:?}");
}

#[test]
fn validity_is_looked_at_by_the_principal_not_by_the_signature() {
    let World { msps, .. } = world();
    let impostor = crate::testing::holder(&root("ca.Org1MSP"), "Org1MSP", "peer0", &["peer"]);
    let signers = verify_signatures(msps, &[signed(&impostor, b"m")]);
    assert_eq!(signers.identities().len(), 1);
    let policy = SignaturePolicy::compile(&parse("OR('Org1MSP.member')").unwrap()).unwrap();
    let refusal = policy.evaluate(msps, &signers).unwrap_err().to_string();
    assert!(
        refusal.contains("'peer0' of Org1MSP (the certificate"),
        "{refusal}"
    );
    assert!(refusal.contains("did not sign it"), "{refusal}");
}

#[test]
fn refusals_explain_in_one_sentence() {
    let refusal = evaluate(
        "AND('Org1MSP.peer', OR('Org2MSP.peer', 'Org2MSP.admin'))",
        &[0, 4],
    )
    .unwrap_err();
    assert_eq!(refusal.missing, ["'Org2MSP.peer'", "'Org2MSP.admin'"]);
    assert_eq!(
        refusal.to_string(),
        "policy AND('Org1MSP.peer', OR('Org2MSP.peer', 'Org2MSP.admin')) is not satisfied: missing 'Org2MSP.peer', \
         'Org2MSP.admin'; signers offered: 'peer0' of Org1MSP (counts for 'Org1MSP.peer'), 'client0' of Org2MSP (it is \
         not a peer of Org2MSP: its certificate has the role client)"
    );
    let nobody = evaluate("AND('Org1MSP.peer')", &[])
        .unwrap_err()
        .named("/Channel/Application/Writers")
        .to_string();
    assert_eq!(
        nobody,
        "policy /Channel/Application/Writers = OR('Org1MSP.peer') is not satisfied: missing 'Org1MSP.peer'; nobody signed"
    );
    let spent = evaluate("AND('Org1MSP.member', 'Org1MSP.admin')", &[2, 1])
        .unwrap_err()
        .to_string();
    assert!(
        spent.contains("'admin0' of Org1MSP (counts for 'Org1MSP.member')"),
        "{spent}"
    );
    assert!(
        spent.contains("'client0' of Org1MSP (it is not an admin"),
        "{spent}"
    );
    let given_back = evaluate(
        "AND('Org1MSP.member', AND('Org1MSP.member', 'Org2MSP.peer'))",
        &[2, 1],
    )
    .unwrap_err();
    assert!(
        given_back.to_string().contains("missing 'Org2MSP.peer'"),
        "{given_back}"
    );
    let impossible = evaluate("OutOf(2, 'Org1MSP.peer')", &[0])
        .unwrap_err()
        .to_string();
    assert!(impossible.contains("no set of signers satisfies"), "{impossible}");
    let missing = PolicyRefusal::missing_policy("/Channel/X").to_string();
    assert!(missing.contains("not defined"), "{missing}");
}

#[test]
fn long_lists_are_cut() {
    let names: Vec<String> = (0..40).map(|i| format!("'Org{}MSP.peer'", i + 10)).collect();
    let refusal = evaluate(&format!("AND({})", names.join(",")), &[0])
        .unwrap_err()
        .to_string();
    assert!(refusal.contains(" more; signers offered"), "{refusal}");
}

/// The rules of spec 02 §14.1 word for word, on copies.
fn naive(
    rule: &common::SignaturePolicy,
    satisfied: &dyn Fn(usize, usize) -> bool,
    used: &mut Vec<bool>,
) -> bool {
    match rule.r#type.as_ref().unwrap() {
        Type::SignedBy(principal) => {
            for (signer, used) in used.iter_mut().enumerate() {
                if !*used && satisfied(signer, usize::try_from(*principal).unwrap()) {
                    *used = true;
                    return true;
                }
            }
            false
        }
        Type::NOutOf(gate) => {
            let mut successes = 0;
            for rule in &gate.rules {
                let mut copy = used.clone();
                if naive(rule, satisfied, &mut copy) {
                    *used = copy;
                    successes += 1;
                }
            }
            successes >= gate.n
        }
    }
}

const ROLES: [Role; 4] = [Role::Member, Role::Peer, Role::Client, Role::Admin];

fn any_rule() -> impl Strategy<Value = common::SignaturePolicy> {
    (0i32..8).prop_map(signed_by).prop_recursive(3, 24, 4, |inner| {
        (-1i32..4, proptest::collection::vec(inner, 0..4)).prop_map(|(n, rules)| n_out_of(n, rules))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn evaluation_agrees_with_the_naive_reference(
        rule in any_rule(),
        which in proptest::sample::subsequence(vec![0usize, 1, 2, 3, 4, 5], 0..=6).prop_shuffle(),
    ) {
        let msps = &world().msps;
        let mut principals = Vec::new();
        for msp_id in ["Org1MSP", "Org2MSP"] {
            principals.extend(ROLES.map(|role| role_principal(msp_id, role)));
        }
        let envelope = common::SignaturePolicyEnvelope { version: 0, rule: Some(rule.clone()), identities: principals };
        let policy = SignaturePolicy::compile(&envelope).unwrap();
        let signers = Signers::from_verified(identities(&which));
        let holders = ["peer", "client", "admin"];
        let satisfied = |signer: usize, principal: usize| {
            let who = which[signer];
            let (org, role) = (who / 3, holders[who % 3]);
            org == principal / 4 && match ROLES[principal % 4] {
                Role::Member => true,
                Role::Peer => role == "peer",
                Role::Client => role == "client",
                _ => role == "admin",
            }
        };
        let expected = naive(&rule, &satisfied, &mut vec![false; which.len()]);
        let got = policy.evaluate(msps, &signers);
        prop_assert_eq!(got.is_ok(), expected, "{}", policy);
        if let Err(refusal) = got {
            prop_assert!(!refusal.to_string().is_empty());
        }
    }
}
