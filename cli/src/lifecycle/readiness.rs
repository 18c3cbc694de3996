//! Who has approved, who has not and why, and whether it is enough.

use std::fmt::Write as _;

use selvedge_channel::{Bundle, Policy};
use selvedge_proto::common::implicit_meta_policy::Rule;
use selvedge_sdk::lifecycle::Readiness;

const POLICY: &str = "/Channel/Application/LifecycleEndorsement";

/// What differs, in plain words. Fabric's peer names the groups of fields that it compares.
fn plainly(item: &str) -> &str {
    match item.split_whitespace().next().unwrap_or_default() {
        "ChaincodeParameters" => "has approved nothing under this name and sequence",
        "EndorsementInfo" => "has approved another version or another init-required",
        "ValidationInfo" => "has approved another endorsement policy",
        "Collections" => "has approved other collections",
        _ => item,
    }
}

/// Why an organisation does not count as having approved.
fn why(readiness: &Readiness, msp_id: &str) -> String {
    let items = readiness
        .mismatches
        .get(msp_id)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if items.is_empty() {
        return "has not approved this definition".to_owned();
    }
    items
        .iter()
        .map(|item| plainly(item))
        .collect::<Vec<_>>()
        .join("; ")
}

/// MSP ids of those who have approved.
pub(super) fn approved(readiness: &Readiness) -> Vec<&str> {
    readiness
        .approvals
        .iter()
        .filter(|(_, yes)| **yes)
        .map(|(msp_id, _)| msp_id.as_str())
        .collect()
}

/// One line for each organisation.
pub(super) fn lines(readiness: &Readiness) -> String {
    let mut text = String::new();
    for (msp_id, yes) in &readiness.approvals {
        let line = if *yes {
            "has approved".to_owned()
        } else {
            why(readiness, msp_id)
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {msp_id} {line}");
    }
    text
}

/// How many organisations must approve, as far as the channel's policy can be counted: number and rule.
fn needed(bundle: &Bundle) -> Option<(usize, String)> {
    match bundle.policy(POLICY) {
        Some(Policy::ImplicitMeta(meta)) => {
            let rule = match meta.rule {
                Some(Rule::Any) => "any one",
                Some(Rule::All) => "all",
                Some(Rule::Majority) => "a majority",
                None => return None,
            };
            Some((meta.threshold, format!("{rule} of {}", meta.sub_paths.len())))
        }
        _ => None,
    }
}

/// Whether the definition can be committed: who counts and how many must, either way.
pub(super) fn verdict(bundle: &Bundle, readiness: &Readiness) -> Result<String, String> {
    let have = approved(readiness);
    match needed(bundle) {
        Some((count, rule)) => {
            let text = format!("{count} organisations must approve ({rule}), {} have", have.len());
            if have.len() < count { Err(text) } else { Ok(text) }
        }
        None if have.is_empty() => Err("nobody has approved it".to_owned()),
        None => Ok(format!(
            "approved by {}; policy {POLICY} decides",
            have.join(", ")
        )),
    }
}

/// Those who have not approved, and why.
pub(super) fn missing(readiness: &Readiness) -> String {
    let missing: Vec<String> = readiness
        .approvals
        .iter()
        .filter(|(_, yes)| !**yes)
        .map(|(msp_id, _)| format!("{msp_id} {}", why(readiness, msp_id)))
        .collect();
    missing.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_plain() {
        let readiness = Readiness {
            approvals: [
                ("A".to_owned(), true),
                ("B".to_owned(), false),
                ("C".to_owned(), false),
            ]
            .into(),
            mismatches: [(
                "B".to_owned(),
                vec!["ValidationInfo (Check the ValidationParameter, ValidationPlugin)".to_owned()],
            )]
            .into(),
        };
        assert_eq!(approved(&readiness), ["A"]);
        assert!(!missing(&readiness).contains("A has"));
        let text = lines(&readiness);
        assert!(text.contains("A has approved\n"), "{text}");
        assert!(
            text.contains("B has approved another endorsement policy"),
            "{text}"
        );
        assert!(text.contains("C has not approved this definition"), "{text}");
    }
}
