//! Every small combination of organisations' peers that meets a set of policies.
//!
//! The gateway needs one plan; a client of discovery wants to choose. Combinations are tried from the smallest on with the
//! gateway's own rules, and none is listed that contains another. Their number grows without bound with the number of
//! organisations, so the search is bounded, and falls back to the gateway's plans.

use crate::gateway::plan;
use crate::gateway::requirement::{Requirement, Signer};

/// Combinations that are tried.
const MAX_TRIED: usize = 20_000;
/// Layouts that are listed.
const MAX_LISTED: usize = 256;
/// Endorsements of one organisation that are tried for a layout.
const MAX_OF_ONE: usize = 8;

/// How many peers of each organisation, in the order of the organisations.
pub(super) type Layout = Vec<usize>;

/// An organisation and how many peers of it there are.
#[derive(Debug, Clone)]
pub(super) struct Available<'a> {
    pub(super) signer: Signer<'a>,
    pub(super) peers: usize,
}

/// Smallest layouts first; empty when all peers together do not suffice.
pub(super) fn layouts(requirements: &[Requirement], orgs: &[Available<'_>]) -> Vec<Layout> {
    let mut search = Search {
        requirements,
        orgs,
        limits: orgs.iter().map(|org| limit(requirements, org)).collect(),
        found: Vec::new(),
        tried: 0,
    };
    let total: usize = search.limits.iter().sum();
    for size in 1..=total {
        let mut counts = vec![0; orgs.len()];
        if !search.of_size(size, 0, &mut counts) {
            break;
        }
    }
    if search.found.is_empty() {
        return planned(requirements, orgs);
    }
    search.found
}

/// An organisation that no policy names is of no use.
fn limit(requirements: &[Requirement], org: &Available<'_>) -> usize {
    if requirements.is_empty() {
        return org.peers.min(1);
    }
    let useful = requirements.iter().any(|r| r.uses_of(&org.signer) > 0);
    if useful { org.peers.min(MAX_OF_ONE) } else { 0 }
}

struct Search<'s> {
    requirements: &'s [Requirement],
    orgs: &'s [Available<'s>],
    limits: Vec<usize>,
    found: Vec<Layout>,
    tried: usize,
}

impl Search<'_> {
    /// Tries all combinations of `left` more peers from organisation `from` on; false when it is time to give up.
    fn of_size(&mut self, left: usize, from: usize, counts: &mut Layout) -> bool {
        if left == 0 {
            return self.try_one(counts);
        }
        let Some(limit) = self.limits.get(from).copied() else {
            return true;
        };
        for count in (0..=limit.min(left)).rev() {
            if let Some(slot) = counts.get_mut(from) {
                *slot = count;
            }
            if !self.of_size(left - count, from + 1, counts) {
                return false;
            }
        }
        true
    }

    fn try_one(&mut self, counts: &Layout) -> bool {
        self.tried += 1;
        if self.tried > MAX_TRIED || self.found.len() >= MAX_LISTED {
            return false;
        }
        let contains = |smaller: &Layout| smaller.iter().zip(counts).all(|(a, b)| a <= b);
        if !self.found.iter().any(contains) {
            let signers: Vec<Signer<'_>> = self
                .orgs
                .iter()
                .zip(counts)
                .flat_map(|(org, count)| std::iter::repeat_n(org.signer.clone(), *count))
                .collect();
            if plan::suffices(self.requirements, &signers) {
                self.found.push(counts.clone());
            }
        }
        true
    }
}

/// The plans that the gateway would make if it preferred each organisation in turn.
fn planned(requirements: &[Requirement], orgs: &[Available<'_>]) -> Vec<Layout> {
    let mut found: Vec<Layout> = Vec::new();
    for first in 0..orgs.len() {
        let order: Vec<usize> = (first..orgs.len()).chain(0..first).collect();
        let of: Vec<usize> = order
            .iter()
            .flat_map(|i| std::iter::repeat_n(*i, orgs.get(*i).map_or(0, |org| org.peers)))
            .collect();
        let signers: Vec<Signer<'_>> = of
            .iter()
            .filter_map(|i| orgs.get(*i).map(|org| org.signer.clone()))
            .collect();
        let Some(chosen) = plan::smallest(requirements, &signers) else {
            return Vec::new();
        };
        let mut layout = vec![0; orgs.len()];
        for org in chosen.iter().filter_map(|i| of.get(*i)) {
            if let Some(count) = layout.get_mut(*org) {
                *count += 1;
            }
        }
        if !found.contains(&layout) {
            found.push(layout);
        }
        if found.len() >= MAX_LISTED {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use selvedge_msp::policy::dsl;

    use super::*;

    fn available<'a>(orgs: &[(&'a str, usize)]) -> Vec<Available<'a>> {
        orgs.iter()
            .map(|(msp_id, peers)| Available {
                signer: Signer {
                    msp_id,
                    peer_unit: "peer",
                },
                peers: *peers,
            })
            .collect()
    }

    fn found(policies: &[&str], orgs: &[(&str, usize)]) -> Vec<Layout> {
        let requirements: Vec<Requirement> = policies
            .iter()
            .map(|p| Requirement::of_signature_policy(&dsl::parse(p).unwrap()))
            .collect();
        layouts(&requirements, &available(orgs))
    }

    #[test]
    fn table_of_layouts() {
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, usize)], &'a [&'a [usize]]);
        let cases: &[Case<'_>] = &[
            (
                &["OR('A.peer','B.peer')"],
                &[("A", 1), ("B", 2)],
                &[&[1, 0], &[0, 1]],
            ),
            (
                &["AND('A.peer','B.peer')"],
                &[("A", 3), ("B", 1), ("C", 1)],
                &[&[1, 1, 0]],
            ),
            (&["AND('A.peer','A.peer')"], &[("A", 2)], &[&[2]]),
            (&["AND('A.peer','A.peer')"], &[("A", 1), ("B", 9)], &[]),
            (
                &["OutOf(2,'A.peer','B.peer','C.peer')"],
                &[("A", 1), ("B", 1), ("C", 1)],
                &[&[1, 1, 0], &[1, 0, 1], &[0, 1, 1]],
            ),
            // The chaincode's policy and a key's own, both at once.
            (
                &["OR('A.peer','B.peer')", "OR('C.peer','C.peer')"],
                &[("A", 1), ("B", 1), ("C", 1)],
                &[&[1, 0, 1], &[0, 1, 1]],
            ),
            (
                &["OR(AND('A.peer','B.peer'),'C.peer')"],
                &[("A", 1), ("B", 1), ("C", 1)],
                &[&[0, 0, 1], &[1, 1, 0]],
            ),
            (&["OR('A.admin','A.client')"], &[("A", 1)], &[]),
            (&[], &[("A", 2), ("B", 1)], &[&[1, 0], &[0, 1]]),
            (&["OR('A.peer','B.peer')"], &[], &[]),
        ];
        for (policies, orgs, expected) in cases {
            assert_eq!(found(policies, orgs), *expected, "{policies:?} with {orgs:?}");
        }
    }

    #[test]
    fn large_consortia_get_the_gateways_plans() {
        let names: Vec<String> = (0..40).map(|n| format!("Org{n}")).collect();
        let requirement = Requirement::Some {
            threshold: 21,
            of: names.iter().map(|n| Requirement::of_member(n)).collect(),
        };
        let orgs: Vec<(&str, usize)> = names.iter().map(|n| (n.as_str(), 2)).collect();
        let layouts = layouts(&[requirement], &available(&orgs));
        assert!((1..=MAX_LISTED).contains(&layouts.len()));
        for layout in layouts {
            assert_eq!(layout.iter().sum::<usize>(), 21);
        }
    }

    proptest! {
        /// Every layout suffices, no peer of it can be spared, and there is one whenever all peers together suffice.
        #[test]
        fn layouts_suffice_and_are_minimal(
            n in 1..4usize,
            parties in prop::collection::vec((0..4usize, any::<bool>()), 1..5),
            peers in prop::collection::vec(0..3usize, 4),
        ) {
            const NAMES: [&str; 4] = ["A", "B", "C", "D"];
            let list: Vec<String> = parties
                .iter()
                .map(|(org, peer)| format!("'{}.{}'", NAMES[*org], if *peer { "peer" } else { "member" }))
                .collect();
            let policy = format!("OutOf({},{})", n.min(list.len()), list.join(","));
            let requirement = Requirement::of_signature_policy(&dsl::parse(&policy).unwrap());
            let orgs: Vec<(&str, usize)> = NAMES.iter().copied().zip(peers).collect();
            let orgs = available(&orgs);
            let listed = layouts(std::slice::from_ref(&requirement), &orgs);
            let signers = |counts: &[usize]| -> Vec<Signer<'_>> {
                orgs.iter().zip(counts).flat_map(|(o, n)| std::iter::repeat_n(o.signer.clone(), *n)).collect()
            };
            let suffices = |counts: &[usize]| plan::suffices(std::slice::from_ref(&requirement), &signers(counts));
            for layout in &listed {
                prop_assert!(suffices(layout));
                for org in 0..layout.len() {
                    let mut fewer = layout.clone();
                    if fewer[org] > 0 {
                        fewer[org] -= 1;
                        prop_assert!(!suffices(&fewer) || fewer.iter().sum::<usize>() == 0);
                    }
                }
            }
            let all: Vec<usize> = orgs.iter().map(|o| o.peers).collect();
            prop_assert_eq!(suffices(&all), !listed.is_empty());
        }
    }
}
