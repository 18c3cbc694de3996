//! What a caller may do to other identities: their roles, affiliations and attributes (spec 06 §3, register).

use crate::error::Refusal;
use crate::registry::{Attribute, Identity};

const REGISTRAR_ATTRIBUTES: &str = "hf.Registrar.Attributes";
pub(crate) const REGISTRAR_ROLES: &str = "hf.Registrar.Roles";
const DELEGATE_ROLES: &str = "hf.Registrar.DelegateRoles";
const BOOLEANS: [&str; 4] = [
    "hf.Revoker",
    "hf.IntermediateCA",
    "hf.GenCRL",
    "hf.AffiliationMgr",
];
/// Set by the server itself.
const RESERVED: [&str; 3] = ["hf.EnrollmentID", "hf.Type", "hf.Affiliation"];

/// The attributes that the server gives to everybody; they go into certificates.
pub(crate) fn server_attributes(id: &str, kind: &str, affiliation: &str) -> [Attribute; 3] {
    let values = [id, kind, affiliation];
    std::array::from_fn(|at| Attribute {
        name: RESERVED[at].to_owned(),
        value: values[at].to_owned(),
        ecert: true,
    })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|s| !s.is_empty())
}

/// Whether one entry of `hf.Registrar.Attributes` covers a name: `*`, `prefix.*` or the name itself.
fn covers(entry: &str, name: &str) -> bool {
    entry == "*"
        || entry == name
        || entry
            .strip_suffix('*')
            .is_some_and(|prefix| name.starts_with(prefix))
}

/// Whether `roles` names `role` or all.
pub(crate) fn allows_role(roles: Option<&str>, role: &str) -> bool {
    roles.is_some_and(|roles| list(roles).any(|r| r == "*" || r == role))
}

/// Whether an identity may register others of some kind.
pub(crate) fn is_registrar(identity: &Identity) -> bool {
    identity
        .attribute(REGISTRAR_ROLES)
        .is_some_and(|roles| list(roles).next().is_some())
}

/// Whether `own` affiliation covers `wanted`: the same, one below it, or anything for the empty one.
pub(crate) fn covers_affiliation(own: &str, wanted: &str) -> bool {
    own.is_empty()
        || wanted
            .strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Refuses unless `caller` may look at, change or revoke `other`: its affiliation and kind must be covered.
pub(crate) fn check_manages(caller: &Identity, other: &Identity) -> Result<(), Refusal> {
    if !covers_affiliation(&caller.affiliation, &other.affiliation) {
        return Err(Refusal::authorization(format!(
            "{} has no authority over affiliation '{}' of {}",
            caller.id, other.affiliation, other.id
        )));
    }
    if !allows_role(caller.attribute(REGISTRAR_ROLES), &other.kind) {
        return Err(Refusal::authorization(format!(
            "{} has no authority over identities of type {}",
            caller.id, other.kind
        )));
    }
    Ok(())
}

/// Refuses unless a boolean attribute of the caller is true.
pub(crate) fn check_has(caller: &Identity, attribute: &str) -> Result<(), Refusal> {
    if caller.has(attribute) {
        return Ok(());
    }
    Err(Refusal::authorization(format!(
        "{} has no attribute {attribute}",
        caller.id
    )))
}

/// Whether everything in `wanted` is in `owned`.
fn is_subset(wanted: &str, owned: Option<&str>) -> bool {
    owned.is_some_and(|owned| {
        list(owned).any(|o| o == "*") || list(wanted).all(|w| list(owned).any(|o| o == w))
    })
}

/// Checks the attributes that `registrar` wants to give to another identity.
pub(crate) fn check(registrar: &Identity, requested: &[Attribute]) -> Result<(), Refusal> {
    let refuse = |name: &str, why: &str| {
        Err(Refusal::authorization(format!(
            "{} may not register attribute {name}: {why}",
            registrar.id
        )))
    };
    for attribute in requested {
        let name = attribute.name.as_str();
        if RESERVED.contains(&name) {
            return refuse(name, "the authority sets it itself");
        }
        let allowed = registrar.attribute(REGISTRAR_ATTRIBUTES).unwrap_or("");
        if !list(allowed).any(|entry| covers(entry, name)) {
            return refuse(name, "it is not in the registrar's hf.Registrar.Attributes");
        }
        if BOOLEANS.contains(&name) {
            match attribute.value.to_lowercase().as_str() {
                // An empty value deletes the attribute.
                "" | "false" | "f" | "0" => {}
                "true" | "t" | "1" if registrar.has(name) => {}
                "true" | "t" | "1" => return refuse(name, "the registrar does not have it"),
                _ => return refuse(name, "its value must be true or false"),
            }
        }
        let subset = match name {
            REGISTRAR_ROLES | DELEGATE_ROLES => {
                is_subset(&attribute.value, registrar.attribute(DELEGATE_ROLES))
            }
            REGISTRAR_ATTRIBUTES => {
                list(&attribute.value).all(|wanted| list(allowed).any(|entry| covers(entry, wanted)))
            }
            _ => true,
        };
        if !subset {
            return refuse(name, "its value goes beyond what the registrar has");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, value: &str) -> Attribute {
        Attribute {
            name: name.into(),
            value: value.into(),
            ecert: true,
        }
    }

    fn registrar(attributes: &[(&str, &str)]) -> Identity {
        Identity {
            id: "boss".into(),
            secret_hash: String::new(),
            kind: "client".into(),
            affiliation: String::new(),
            attributes: attributes.iter().map(|(n, v)| attribute(n, v)).collect(),
            state: 0,
            max_enrollments: -1,
            wrong_attempts: 0,
        }
    }

    #[test]
    fn gives_only_what_it_may() {
        let boss = registrar(&[
            (
                "hf.Registrar.Attributes",
                "hall.*, colour, hf.Revoker, hf.GenCRL, hf.Registrar.Roles",
            ),
            ("hf.Registrar.DelegateRoles", "client,peer"),
            ("hf.Revoker", "true"),
        ]);
        let ok = |name, value| check(&boss, &[attribute(name, value)]).is_ok();
        assert!(ok("hall.number", "7"));
        assert!(ok("colour", "red"));
        assert!(!ok("size", "1"));
        assert!(ok("hf.Revoker", "true"));
        assert!(!ok("hf.GenCRL", "true"), "the registrar lacks it");
        assert!(ok("hf.GenCRL", "false"));
        assert!(!ok("hf.Revoker", "perhaps"));
        assert!(ok("hf.Registrar.Roles", "client"));
        assert!(!ok("hf.Registrar.Roles", "client,admin"));
        assert!(!ok("hf.EnrollmentID", "someone"));
    }

    #[test]
    fn affiliations_cover_what_is_below_them() {
        assert!(covers_affiliation("", "org1"));
        assert!(covers_affiliation("org1", "org1"));
        assert!(covers_affiliation("org1", "org1.hall"));
        assert!(!covers_affiliation("org1", "org10"));
        assert!(!covers_affiliation("org1.hall", "org1"));
        assert!(!covers_affiliation("org1", ""));
    }

    #[test]
    fn roles_by_name_or_star() {
        assert!(allows_role(Some("*"), "client"));
        assert!(allows_role(Some("peer, client"), "client"));
        assert!(!allows_role(Some("peer"), "client"));
        assert!(!allows_role(None, "client"));
    }
}
