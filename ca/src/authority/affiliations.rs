//! The tree of affiliations and who may change it (spec 06 §3).

use super::{Authority, unix_now};
use crate::attributes::{check_has, covers_affiliation, is_registrar};
use crate::error::Refusal;
use crate::registry::Identity;

/// RFC 5280, affiliationChanged: why certificates of a removed affiliation's identities are revoked.
const AFFILIATION_CHANGED: u8 = 3;
/// Each part becomes an OU of certificates, which has 64 characters at most.
const MAX_PART_CHARS: usize = 64;
/// Bounds certificates and the depth of answers.
const MAX_PARTS: usize = 16;

/// An affiliation with those below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AffiliationTree {
    pub(crate) name: String,
    pub(crate) children: Vec<AffiliationTree>,
}

/// The affiliations above one, the topmost first.
fn parents(name: &str) -> Vec<String> {
    name.match_indices('.')
        .map(|(at, _)| name[..at].to_owned())
        .collect()
}

impl AffiliationTree {
    /// Makes a tree of names; a level that is missing among them appears all the same.
    pub(crate) fn of(names: &[String]) -> Self {
        let mut root = Self::default();
        for name in names {
            let mut node = &mut root;
            for path in parents(name).into_iter().chain([name.clone()]) {
                // Names come in order, so it is nearly always the last one.
                let last = node.children.len().checked_sub(1);
                let last = last.filter(|at| node.children[*at].name == path);
                let at = last.or_else(|| node.children.iter().position(|c| c.name == path));
                let at = at.unwrap_or_else(|| {
                    node.children.push(Self {
                        name: path,
                        children: Vec::new(),
                    });
                    node.children.len() - 1
                });
                node = &mut node.children[at];
            }
        }
        root
    }

    /// The part of the tree that begins at `name`.
    pub(crate) fn at(self, name: &str) -> Self {
        if name.is_empty() || self.name == name {
            return self;
        }
        let below = self
            .children
            .into_iter()
            .find(|child| covers_affiliation(&child.name, name));
        below.map_or_else(
            || Self {
                name: name.to_owned(),
                children: Vec::new(),
            },
            |child| child.at(name),
        )
    }
}

fn check_name(name: &str, code: u16) -> Result<(), Refusal> {
    let parts: Vec<&str> = name.split('.').collect();
    let good = |part: &&str| {
        !part.is_empty()
            && part.chars().count() <= MAX_PART_CHARS
            && part.trim() == *part
            && !part.chars().any(|c| c.is_control() || c == '/')
    };
    if parts.len() <= MAX_PARTS && parts.iter().all(good) {
        return Ok(());
    }
    Err(Refusal::new(
        400,
        code,
        format!(
            "'{name}' cannot be an affiliation: write 1 to {MAX_PARTS} names of 1 to {MAX_PART_CHARS} characters with dots between them"
        ),
    ))
}

fn not_found(name: &str) -> Refusal {
    Refusal::new(404, 63, format!("there is no affiliation '{name}'"))
}

fn internal(error: rusqlite::Error) -> Refusal {
    Refusal::internal(16, error)
}

impl Authority {
    fn check_covers(caller: &Identity, name: &str) -> Result<(), Refusal> {
        check_has(caller, "hf.AffiliationMgr")?;
        if covers_affiliation(&caller.affiliation, name) {
            return Ok(());
        }
        Err(Refusal::authorization(format!(
            "{} has no authority over affiliation '{name}'",
            caller.id
        )))
    }

    fn check_exists(&self, name: &str) -> Result<(), Refusal> {
        if self.registry.has_affiliation(name).map_err(internal)? {
            Ok(())
        } else {
            Err(not_found(name))
        }
    }

    /// Everything that the caller covers. Where that is one tree, its root; otherwise a nameless node above all.
    pub(crate) fn affiliations(&self, caller: &Identity) -> Result<AffiliationTree, Refusal> {
        Self::check_covers(caller, &caller.affiliation)?;
        let names = self
            .registry
            .affiliations(&caller.affiliation)
            .map_err(internal)?;
        let mut tree = AffiliationTree::of(&names).at(&caller.affiliation);
        match tree.children.pop() {
            Some(only) if tree.name.is_empty() && tree.children.is_empty() => Ok(only),
            last => {
                tree.children.extend(last);
                Ok(tree)
            }
        }
    }

    /// An affiliation with those below it.
    pub(crate) fn affiliation(&self, caller: &Identity, name: &str) -> Result<AffiliationTree, Refusal> {
        Self::check_covers(caller, name)?;
        self.check_exists(name)?;
        let names = self.registry.affiliations(name).map_err(internal)?;
        Ok(AffiliationTree::of(&names).at(name))
    }

    /// Adds an affiliation; with `force` those above it too.
    pub(crate) fn create_affiliation(
        &self,
        caller: &Identity,
        name: &str,
        force: bool,
    ) -> Result<(), Refusal> {
        check_name(name, 60)?;
        Self::check_covers(caller, name)?;
        if self.registry.has_affiliation(name).map_err(internal)? {
            return Err(Refusal::new(409, 60, "Affiliation already exists"));
        }
        let mut names = self.parents_to_add(name, force, 60)?;
        names.push(name.to_owned());
        self.registry
            .add_affiliations(&names)
            .map_err(|e| Refusal::internal(60, e))
    }

    fn parents_to_add(&self, name: &str, force: bool, code: u16) -> Result<Vec<String>, Refusal> {
        let parents = parents(name);
        if force {
            return Ok(parents);
        }
        match parents.last() {
            Some(parent) if !self.registry.has_affiliation(parent).map_err(internal)? => Err(Refusal::new(
                400,
                code,
                "Parent affiliation does not exist, 'force' option required on request to add affiliation",
            )),
            _ => Ok(Vec::new()),
        }
    }

    /// Renames an affiliation with those below it; needs `force` and a registrar where identities move with it.
    pub(crate) fn rename_affiliation(
        &self,
        caller: &Identity,
        old: &str,
        new: &str,
        force: bool,
    ) -> Result<(AffiliationTree, Vec<Identity>), Refusal> {
        check_name(new, 64)?;
        Self::check_covers(caller, old)?;
        Self::check_covers(caller, new)?;
        self.check_exists(old)?;
        if self.registry.has_affiliation(new).map_err(internal)? {
            return Err(Refusal::new(
                409,
                64,
                format!("affiliation '{new}' exists already"),
            ));
        }
        if covers_affiliation(old, new) {
            return Err(Refusal::new(
                400,
                64,
                format!("'{new}' is below '{old}', which cannot become a part of itself"),
            ));
        }
        let parents = self.parents_to_add(new, force, 64)?;
        if self.registry.affiliation_is_used(old).map_err(internal)? {
            self.check_force(caller, old, force, 64)?;
        }
        let identities = self
            .registry
            .rename_affiliation(old, new, &parents)
            .map_err(|e| Refusal::internal(64, e))?;
        let names = self.registry.affiliations(new).map_err(internal)?;
        Ok((AffiliationTree::of(&names).at(new), identities))
    }

    /// Identities are touched only when the caller says so and may.
    fn check_force(&self, caller: &Identity, name: &str, force: bool, code: u16) -> Result<(), Refusal> {
        if !force {
            return Err(Refusal::new(
                400,
                code,
                format!(
                    "affiliation '{name}' has identities; 'force' is needed, since they are concerned too"
                ),
            ));
        }
        if is_registrar(caller) {
            return Ok(());
        }
        Err(Refusal::authorization(format!(
            "affiliation '{name}' has identities, and {} is not a registrar",
            caller.id
        )))
    }

    /// Removes an affiliation; with `force` those below it and their identities too.
    pub(crate) fn remove_affiliation(
        &self,
        caller: &Identity,
        name: &str,
        force: bool,
    ) -> Result<(AffiliationTree, Vec<Identity>), Refusal> {
        if !self.allow_affiliation_removal {
            return Err(Refusal::authorization("Affiliation removal is disabled"));
        }
        Self::check_covers(caller, name)?;
        if caller.affiliation == name {
            return Err(Refusal::authorization(format!(
                "{} belongs to affiliation '{name}' and cannot remove it",
                caller.id
            )));
        }
        self.check_exists(name)?;
        let used = self.registry.affiliation_is_used(name).map_err(internal)?;
        let names = self.registry.affiliations(name).map_err(internal)?;
        if names.len() > 1 && !force {
            return Err(Refusal::new(
                400,
                61,
                format!("affiliation '{name}' has others below it; 'force' removes them too"),
            ));
        }
        if used {
            self.check_force(caller, name, force, 61)?;
            if !self.allow_identity_removal {
                return Err(Refusal::new(
                    403,
                    61,
                    format!("affiliation '{name}' has identities, and identity removal is disabled"),
                ));
            }
        }
        let removed = self
            .registry
            .remove_affiliation(name, unix_now(), AFFILIATION_CHANGED)
            .map_err(|e| Refusal::internal(62, e))?;
        Ok((
            AffiliationTree::of(&removed.affiliations).at(name),
            removed.identities,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_grow_their_missing_levels() {
        let names = ["a.b.c".to_owned(), "a.d".to_owned(), "e".to_owned()];
        let tree = AffiliationTree::of(&names);
        let top: Vec<&str> = tree.children.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(top, ["a", "e"]);
        let below = tree.clone().at("a.b");
        assert_eq!(
            (below.name.as_str(), below.children[0].name.as_str()),
            ("a.b", "a.b.c")
        );
        assert!(tree.at("a.x").children.is_empty());
    }

    #[test]
    fn names_that_cannot_be_affiliations() {
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            " a",
            "a/b",
            &"x".repeat(65),
            &"a.".repeat(16),
        ] {
            assert!(check_name(name, 60).is_err(), "{name}");
        }
        for name in ["a", "org1.department 1", &"x".repeat(64)] {
            assert!(check_name(name, 60).is_ok(), "{name}");
        }
    }
}
