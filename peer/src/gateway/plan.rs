//! Which peers to ask for endorsements (spec 04 §2.3).
//!
//! Fabric lists all layouts beforehand and tries them one after the other. Here the smallest set is worked out from the
//! peers at hand, and again without a peer when that one fails: the same choices, without listing combinations that grow
//! without bound with the number of organisations.

use super::requirement::{Requirement, Signer};

/// Indexes into `signers` of a set that meets all requirements and of which no member can be spared. Those at the front
/// are preferred: who has endorsed already, then near ones. The indexes come in the order in which the endorsements are to
/// stand in the transaction. `None` when even all of them together do not suffice.
pub(crate) fn smallest(requirements: &[Requirement], signers: &[Signer<'_>]) -> Option<Vec<usize>> {
    let mut order = in_order(requirements, signers);
    if !met(requirements, signers, &order) {
        return None;
    }
    for spared in (0..signers.len()).rev() {
        let without: Vec<usize> = order.iter().copied().filter(|i| *i != spared).collect();
        if met(requirements, signers, &without) {
            order = without;
        }
    }
    Some(order)
}

/// Whether all of these together meet all requirements.
pub(crate) fn suffices(requirements: &[Requirement], signers: &[Signer<'_>]) -> bool {
    met(requirements, signers, &in_order(requirements, signers))
}

/// Validation assigns signers to rules in the order in which they stand, with no way back: the less able ones first.
fn in_order(requirements: &[Requirement], signers: &[Signer<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..signers.len()).collect();
    let uses: Vec<usize> = signers
        .iter()
        .map(|s| requirements.iter().map(|r| r.uses_of(s)).sum())
        .collect();
    order.sort_by_key(|i| uses.get(*i).copied().unwrap_or_default());
    order
}

fn met(requirements: &[Requirement], signers: &[Signer<'_>], chosen: &[usize]) -> bool {
    let chosen: Vec<Signer<'_>> = chosen.iter().filter_map(|i| signers.get(*i).cloned()).collect();
    requirements.iter().all(|r| r.is_met_by(&chosen))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use selvedge_msp::policy::dsl;
    use selvedge_proto::common;

    use super::*;

    fn signers<'a>(orgs: &[&'a str]) -> Vec<Signer<'a>> {
        orgs.iter()
            .map(|msp_id| Signer {
                msp_id,
                peer_unit: "peer",
            })
            .collect()
    }

    fn policy(text: &str) -> Requirement {
        Requirement::of_signature_policy(&dsl::parse(text).unwrap())
    }

    /// Policies, peers in order of preference, expected choice by index (sorted).
    #[test]
    fn table_of_plans() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a [usize]>);
        let cases: &[Case<'_>] = &[
            (&["OR('A.peer','B.peer')"], &["A", "B"], Some(&[0])),
            (&["OR('A.peer','B.peer')"], &["B", "A"], Some(&[0])),
            (&["AND('A.peer','B.peer')"], &["A", "B", "C"], Some(&[0, 1])),
            (&["AND('A.peer','B.peer')"], &["A", "A"], None),
            (&["AND('A.peer','A.peer')"], &["A", "A", "A"], Some(&[0, 1])),
            (
                &["OutOf(2,'A.member','B.member','C.member')"],
                &["C", "A", "B"],
                Some(&[0, 1]),
            ),
            // The own peer has endorsed, and is not needed.
            (&["OR('B.peer','B.peer')"], &["A", "B"], Some(&[1])),
            (
                &["OR(AND('A.peer','B.peer'),'C.peer')"],
                &["A", "B", "C"],
                Some(&[0, 1]),
            ),
            (&["OR(AND('A.peer','B.peer'),'C.peer')"], &["A", "C"], Some(&[1])),
            // Nobody can count on an admin or a client to endorse.
            (&["OR('A.admin','A.client')"], &["A"], None),
            // A key of its own and the chaincode: both at once.
            (
                &["OR('A.peer','B.peer')", "OR('C.peer','C.peer')"],
                &["A", "B", "C"],
                Some(&[0, 2]),
            ),
            (
                &["OR('A.peer','B.peer')", "AND('B.peer','B.peer')"],
                &["A", "B", "B"],
                Some(&[1, 2]),
            ),
            (&[], &["A"], Some(&[])),
        ];
        for (policies, orgs, expected) in cases {
            let requirements: Vec<Requirement> = policies.iter().map(|p| policy(p)).collect();
            let plan = smallest(&requirements, &signers(orgs)).map(|mut plan| {
                plan.sort_unstable();
                plan
            });
            assert_eq!(plan.as_deref(), *expected, "{policies:?} with {orgs:?}");
        }
    }

    #[test]
    fn majorities_take_as_many_as_needed() {
        let of: Vec<Requirement> = ["A", "B", "C", "D"].map(Requirement::of_member).to_vec();
        let majority = Requirement::Some { threshold: 3, of };
        let plan = smallest(
            std::slice::from_ref(&majority),
            &signers(&["D", "A", "A", "B", "C"]),
        )
        .unwrap();
        assert_eq!(plan.len(), 3);
        assert!(smallest(&[majority], &signers(&["A", "B"])).is_none());
        let nobody = Requirement::Never("gone".into());
        assert!(smallest(&[nobody], &signers(&["A"])).is_none());
    }

    #[test]
    fn a_policy_that_does_not_compile_is_never_met() {
        let broken = common::SignaturePolicyEnvelope {
            version: 0,
            rule: Some(dsl::signed_by(7)),
            identities: Vec::new(),
        };
        let requirement = Requirement::of_signature_policy(&broken);
        assert!(requirement.impossible().is_some());
        assert!(!requirement.is_met_by(&signers(&["A"])));
    }

    const ORGS: [&str; 5] = ["A", "B", "C", "D", "E"];

    fn rule() -> impl Strategy<Value = String> {
        let leaf = (0..ORGS.len(), any::<bool>()).prop_map(|(org, peer)| {
            let role = if peer { "peer" } else { "member" };
            format!("'{}.{role}'", ORGS[org])
        });
        let gate = leaf.prop_recursive(3, 16, 4, |inner| {
            (prop::collection::vec(inner, 1..4), 0..4usize).prop_map(|(rules, n)| {
                let n = n.min(rules.len());
                format!("OutOf({n},{})", rules.join(","))
            })
        });
        gate.prop_map(|text| {
            if text.starts_with('\'') {
                format!("OR({text})")
            } else {
                text
            }
        })
    }

    proptest! {
        /// A plan meets all policies, and no member of it can be spared.
        #[test]
        fn plans_suffice_and_are_minimal(
            policies in prop::collection::vec(rule(), 1..3),
            orgs in prop::collection::vec(0..ORGS.len(), 0..8),
        ) {
            let requirements: Vec<Requirement> = policies.iter().map(|p| policy(p)).collect();
            let orgs: Vec<&str> = orgs.iter().map(|i| ORGS[*i]).collect();
            let signers = signers(&orgs);
            if let Some(plan) = smallest(&requirements, &signers) {
                prop_assert!(met(&requirements, &signers, &plan));
                for spared in &plan {
                    let without: Vec<usize> = plan.iter().copied().filter(|i| i != spared).collect();
                    prop_assert!(!met(&requirements, &signers, &without), "{:?} can be spared", spared);
                }
            }
        }

        /// Where no organisation occurs twice in a policy, a plan is found whenever some subset would do.
        #[test]
        fn a_plan_is_found_when_there_is_one(n in 0..6usize, k in 1..6usize, have in prop::collection::vec(0..ORGS.len(), 0..8)) {
            let parties: Vec<String> = ORGS[..k.min(ORGS.len())].iter().map(|o| format!("'{o}.peer'")).collect();
            let n = n.min(parties.len());
            let requirement = policy(&format!("OutOf({n},{})", parties.join(",")));
            let orgs: Vec<&str> = have.iter().map(|i| ORGS[*i]).collect();
            let distinct = ORGS[..k.min(ORGS.len())].iter().filter(|o| orgs.contains(o)).count();
            let plan = smallest(&[requirement], &signers(&orgs));
            prop_assert_eq!(plan.map(|p| p.len()), (distinct >= n).then_some(n));
        }
    }
}
