//! Elements of the configuration tree, their paths, and which names are allowed (spec 02 §10, 03 §10.1).

use std::collections::BTreeMap;
use std::fmt;

use selvedge_proto::common::{ConfigGroup, ConfigPolicy, ConfigValue};

use crate::error::NameError;

/// Name of the root group in paths; the root itself carries no name in the messages.
pub const ROOT: &str = "Channel";

/// Longest channel id and longest name of an element.
pub const MAX_NAME_LEN: usize = 249;

/// What an element of the tree is. A group, a value and a policy of one group may share a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElementKind {
    /// A group; its version counts changes of its membership and of its mod_policy.
    Group,
    /// A value.
    Value,
    /// A policy.
    Policy,
}

/// Address of an element, for example `[Value]  /Channel/Orderer/BatchSize`, as Fabric writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementPath {
    /// What the element is.
    pub kind: ElementKind,
    /// Absolute path, starting with `/Channel`.
    pub path: String,
}

impl ElementPath {
    pub(crate) fn new(kind: ElementKind, path: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.into(),
        }
    }

    /// The group in which a relative policy name of this element is looked up: for a group the group itself, for a value
    /// or policy the group that holds it (spec 03 §10.2 step 5).
    pub fn policy_scope(&self) -> &str {
        match self.kind {
            ElementKind::Group => &self.path,
            ElementKind::Value | ElementKind::Policy => self
                .path
                .rsplit_once('/')
                .map_or(self.path.as_str(), |(parent, _)| parent),
        }
    }
}

impl fmt::Display for ElementPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ElementKind::Group => "[Group]  ",
            ElementKind::Value => "[Value]  ",
            ElementKind::Policy => "[Policy] ",
        };
        write!(f, "{kind}{}", self.path)
    }
}

/// A borrowed element of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Element<'a> {
    Group(&'a ConfigGroup),
    Value(&'a ConfigValue),
    Policy(&'a ConfigPolicy),
}

impl Element<'_> {
    pub(crate) fn version(self) -> u64 {
        match self {
            Element::Group(g) => g.version,
            Element::Value(v) => v.version,
            Element::Policy(p) => p.version,
        }
    }

    pub(crate) fn mod_policy(&self) -> &str {
        match self {
            Element::Group(g) => &g.mod_policy,
            Element::Value(v) => &v.mod_policy,
            Element::Policy(p) => &p.mod_policy,
        }
    }
}

/// Every element of a tree by its path, in a fixed order.
pub(crate) type Elements<'a> = BTreeMap<ElementPath, Element<'a>>;

/// Flattens a tree; `None` is an empty root group of version 0.
///
/// The messages' decoder bounds how deep groups nest, and so how deep this goes.
pub(crate) fn elements(root: &ConfigGroup) -> Result<Elements<'_>, NameError> {
    let mut found = Elements::new();
    collect(format!("/{ROOT}"), root, &mut found)?;
    Ok(found)
}

fn collect<'a>(path: String, group: &'a ConfigGroup, found: &mut Elements<'a>) -> Result<(), NameError> {
    for (name, value) in &group.values {
        check_element_name(name, &path)?;
        found.insert(
            ElementPath::new(ElementKind::Value, child(&path, name)),
            Element::Value(value),
        );
    }
    for (name, policy) in &group.policies {
        check_element_name(name, &path)?;
        found.insert(
            ElementPath::new(ElementKind::Policy, child(&path, name)),
            Element::Policy(policy),
        );
    }
    for (name, sub) in &group.groups {
        check_element_name(name, &path)?;
        collect(child(&path, name), sub, found)?;
    }
    found.insert(ElementPath::new(ElementKind::Group, path), Element::Group(group));
    Ok(())
}

pub(crate) fn child(path: &str, name: &str) -> String {
    format!("{path}/{name}")
}

/// The absolute path of the policy that `name` means inside of `scope`.
pub(crate) fn resolve_policy(scope: &str, name: &str) -> String {
    if name.starts_with('/') {
        name.to_owned()
    } else {
        child(scope, name)
    }
}

fn element_name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > MAX_NAME_LEN {
        Some("it is longer than 249 characters")
    } else if name == "." || name == ".." {
        Some("'.' and '..' are reserved")
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
    {
        Some("only letters, digits, '.' and '-' are allowed")
    } else {
        None
    }
}

/// Checks the name of a group, value or policy: `[a-zA-Z0-9.-]+`, 1 to 249 characters, neither `.` nor `..`.
///
/// # Errors
/// Says which rule the name breaks and in which group it stands.
pub fn check_element_name(name: &str, group: &str) -> Result<(), NameError> {
    match element_name_fault(name) {
        None => Ok(()),
        Some(why) => Err(NameError::Element {
            name: shorten(name),
            group: group.to_owned(),
            why,
        }),
    }
}

/// Checks a channel id: `[a-z][a-z0-9.-]*`, 1 to 249 characters.
///
/// # Errors
/// Says which rule the id breaks.
pub fn check_channel_id(id: &str) -> Result<(), NameError> {
    let why = if id.is_empty() {
        "it is empty"
    } else if id.len() > MAX_NAME_LEN {
        "it is longer than 249 characters"
    } else if !id.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it must start with a lower-case letter"
    } else if !id
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
    {
        "only lower-case letters, digits, '.' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(NameError::Channel { id: shorten(id), why })
}

/// Checks the form of a `mod_policy`: one or more element names joined by `/`, with or without a leading `/`.
pub(crate) fn check_mod_policy(mod_policy: &str) -> Result<(), &'static str> {
    if mod_policy.is_empty() {
        return Err("it is not set");
    }
    let relative = mod_policy.strip_prefix('/').unwrap_or(mod_policy);
    relative
        .split('/')
        .try_for_each(|part| match element_name_fault(part) {
            None => Ok(()),
            Some(why) => Err(why),
        })
}

fn shorten(name: &str) -> String {
    if name.chars().count() <= 60 {
        return name.to_owned();
    }
    let mut short: String = name.chars().take(60).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_ids() {
        for good in ["a", "trade-1", "c.d", &"x".repeat(249)] {
            check_channel_id(good).unwrap();
        }
        for bad in ["", "A", "1a", "-a", "a_b", "a/b", "ä", &"x".repeat(250)] {
            assert!(check_channel_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn element_names() {
        for good in ["Org1MSP", "a.b", "-", "..."] {
            check_element_name(good, "/Channel").unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "Ö"] {
            assert!(check_element_name(bad, "/Channel").is_err(), "{bad}");
        }
    }

    #[test]
    fn mod_policies() {
        for good in ["Admins", "/Channel/Orderer/Admins", "Org1/Admins"] {
            check_mod_policy(good).unwrap();
        }
        for bad in ["", "/", "a//b", "/Channel/", "a b"] {
            assert!(check_mod_policy(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn relative_names_are_looked_up_where_the_item_is() {
        let group = ElementPath::new(ElementKind::Group, "/Channel/Application");
        assert_eq!(
            resolve_policy(group.policy_scope(), "Admins"),
            "/Channel/Application/Admins"
        );
        let value = ElementPath::new(ElementKind::Value, "/Channel/Orderer/BatchSize");
        assert_eq!(
            resolve_policy(value.policy_scope(), "Admins"),
            "/Channel/Orderer/Admins"
        );
        assert_eq!(
            resolve_policy(value.policy_scope(), "/Channel/Admins"),
            "/Channel/Admins"
        );
    }
}
