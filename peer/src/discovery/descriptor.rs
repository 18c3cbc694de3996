//! The chaincode query: which peers must endorse together.

use std::collections::BTreeMap;

use selvedge_channel::Bundle;
use selvedge_proto::discovery::{EndorsementDescriptor, Layout as LayoutEntry, Peer as PeerEntry, Peers};
use selvedge_proto::protos;

use super::catalogue::Catalogue;
use super::layouts::{Available, Layout, layouts};
use super::members::Member;
use crate::gateway::interest;
use crate::gateway::plan;
use crate::gateway::requirement::Signer;

/// A peer as the policies see it.
pub(super) fn signer<'b>(bundle: &'b Bundle, member: &Member) -> Signer<'b> {
    match bundle.msps().get(&member.msp_id) {
        Some(msp) => Signer {
            msp_id: msp.id(),
            peer_unit: interest::peer_unit(bundle.msps(), &member.msp_id),
        },
        None => Signer {
            msp_id: "",
            peer_unit: "",
        },
    }
}

/// Groups of interchangeable peers and the ways to combine them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    chaincode: String,
    /// The peers of one organisation can stand in for each other. Highest first.
    groups: Vec<Vec<Member>>,
    /// How many of each group.
    layouts: Vec<Layout>,
}

/// Works out a plan for one interest.
///
/// # Errors
/// Why there is none, as Fabric's discovery says it.
pub(super) fn plan(
    bundle: &Bundle,
    interest: &protos::ChaincodeInterest,
    members: &[Member],
    catalogue: &Catalogue,
) -> Result<Plan, String> {
    let needs = catalogue.needs(bundle, interest)?;
    let open: Vec<&Member> = members
        .iter()
        .filter(|member| needs.closed_to(&signer(bundle, member)).is_none())
        .collect();
    let all: Vec<Signer<'_>> = open.iter().map(|member| signer(bundle, member)).collect();
    if all.is_empty() || plan::smallest(&needs.requirements, &all).is_none() {
        return Err("no peer combination can satisfy the endorsement policy".to_owned());
    }
    let mut by_org: BTreeMap<&str, Vec<Member>> = BTreeMap::new();
    for member in open.into_iter().filter(|m| catalogue.has_all(m, interest)) {
        by_org.entry(&member.msp_id).or_default().push(member.clone());
    }
    let available: Vec<Available<'_>> = by_org
        .values()
        .filter_map(|peers| {
            Some(Available {
                signer: signer(bundle, peers.first()?),
                peers: peers.len(),
            })
        })
        .collect();
    let layouts = layouts(&needs.requirements, &available);
    if layouts.is_empty() {
        return Err("required chaincodes are not installed on sufficient peers".to_owned());
    }
    let mut groups: Vec<Vec<Member>> = by_org.into_values().collect();
    for group in &mut groups {
        group.sort_by_key(|member| std::cmp::Reverse(member.height));
    }
    Ok(Plan {
        chaincode: interest
            .chaincodes
            .first()
            .map(|call| call.name.clone())
            .unwrap_or_default(),
        groups,
        layouts,
    })
}

impl Plan {
    /// The message, with the peers' entries made by `entry`. Groups that no layout uses are left out.
    pub(super) fn descriptor(&self, entry: impl Fn(&Member) -> PeerEntry) -> EndorsementDescriptor {
        let name = |group: usize| format!("G{group}");
        let used = |group: usize| {
            self.layouts
                .iter()
                .any(|layout| layout.get(group).is_some_and(|n| *n > 0))
        };
        let groups = self.groups.iter().enumerate().filter(|(group, _)| used(*group));
        let layout = |layout: &Layout| LayoutEntry {
            quantities_by_group: layout
                .iter()
                .enumerate()
                .filter(|(_, quantity)| **quantity > 0)
                .map(|(group, quantity)| (name(group), u32::try_from(*quantity).unwrap_or(u32::MAX)))
                .collect(),
        };
        EndorsementDescriptor {
            chaincode: self.chaincode.clone(),
            endorsers_by_groups: groups
                .map(|(group, members)| {
                    let peers = members.iter().map(&entry).collect();
                    (name(group), Peers { peers })
                })
                .collect(),
            layouts: self.layouts.iter().map(layout).collect(),
        }
    }
}

/// An interest in the short text form of protocol buffers, as Fabric's error texts show it.
pub(super) fn text_of(interest: &protos::ChaincodeInterest) -> String {
    let mut text = String::new();
    for call in &interest.chaincodes {
        text.push_str(&format!("chaincodes:<name:{:?} ", call.name));
        for collection in &call.collection_names {
            text.push_str(&format!("collection_names:{collection:?} "));
        }
        if call.no_private_reads {
            text.push_str("no_private_reads:true ");
        }
        if !call.key_policies.is_empty() {
            text.push_str(&format!("key_policies:<{}> ", call.key_policies.len()));
        }
        if call.disregard_namespace_policy {
            text.push_str("disregard_namespace_policy:true ");
        }
        text.push_str("> ");
    }
    text.trim_end().to_owned()
}
