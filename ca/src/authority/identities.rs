//! Registering, changing and removing identities (spec 06 §3).

use super::{Authority, unix_now};
use crate::attributes::{self, REGISTRAR_ROLES, allows_role, check_manages, covers_affiliation};
use crate::error::Refusal;
use crate::identities::Change;
use crate::registry::{Attribute, Identity, Inserted};
use crate::secrets;

const MAX_NAME_BYTES: usize = 64;
/// RFC 5280, cessationOfOperation: why the certificates of a removed identity are revoked.
const REMOVED: u8 = 5;

/// What a registrar asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegistrationRequest {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) affiliation: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) secret: String,
    pub(crate) max_enrollments: i64,
}

/// What to change; empty or 0 leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdentityChange {
    pub(crate) kind: String,
    /// `.` for the root affiliation.
    pub(crate) affiliation: String,
    /// An empty value deletes an attribute.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) secret: String,
    /// -2 for none at all.
    pub(crate) max_enrollments: i64,
}

fn server_attribute(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value: value.to_owned(),
        ecert: true,
    }
}

impl Authority {
    /// Registers an identity on behalf of `registrar`; returns it with its secret.
    pub(crate) fn register(
        &self,
        registrar: &Identity,
        request: RegistrationRequest,
    ) -> Result<(Identity, String), Refusal> {
        if request.id.is_empty() || request.id.len() > MAX_NAME_BYTES {
            return Err(Refusal::new(
                400,
                52,
                format!("an identity needs a name of 1 to {MAX_NAME_BYTES} bytes"),
            ));
        }
        let kind = if request.kind.is_empty() {
            registrar.kind.clone()
        } else {
            request.kind
        };
        check_kind(registrar, &kind)?;
        let affiliation = match request.affiliation.as_str() {
            "" => registrar.affiliation.clone(),
            "." => String::new(),
            other => other.to_owned(),
        };
        self.check_affiliation(registrar, &affiliation)?;
        attributes::check(registrar, &request.attributes)?;
        let max_enrollments = self.allowed_enrollments(request.max_enrollments)?;

        self.identities.check(Change::Register(&request.id))?;

        let (secret, secret_hash) = if request.secret.is_empty() {
            secrets::draw()?
        } else {
            let hash = secrets::hash_chosen(&request.secret)?;
            (request.secret, hash)
        };
        let mut given = request.attributes;
        given.extend(attributes::server_attributes(&request.id, &kind, &affiliation));
        let identity = Identity {
            id: request.id,
            secret_hash,
            kind,
            affiliation,
            attributes: given,
            state: 0,
            max_enrollments,
            wrong_attempts: 0,
        };
        match self
            .registry
            .insert(&identity)
            .map_err(|e| Refusal::internal(52, e))?
        {
            Inserted::New => Ok((identity, secret)),
            Inserted::Exists => Err(Refusal::new(
                409,
                74,
                format!("Identity '{}' is already registered", identity.id),
            )),
        }
    }

    /// An identity that `caller` may see.
    pub(crate) fn visible(&self, caller: &Identity, id: &str) -> Result<Identity, Refusal> {
        let identity = self.known(id)?;
        check_manages(caller, &identity)?;
        Ok(identity)
    }

    /// Changes an identity and forgets its wrong attempts.
    pub(crate) fn modify(
        &self,
        caller: &Identity,
        id: &str,
        change: IdentityChange,
    ) -> Result<Identity, Refusal> {
        let mut identity = self.visible(caller, id)?;
        if change != IdentityChange::default() {
            self.identities.check(Change::Modify(&identity))?;
        }
        attributes::check(caller, &change.attributes)?;
        for attribute in change.attributes {
            identity.set_attribute(attribute);
        }
        if !change.kind.is_empty() {
            check_kind(caller, &change.kind)?;
            identity.set_attribute(server_attribute("hf.Type", &change.kind));
            identity.kind = change.kind;
        }
        if !change.affiliation.is_empty() {
            let affiliation = if change.affiliation == "." {
                String::new()
            } else {
                change.affiliation
            };
            self.check_affiliation(caller, &affiliation)?;
            identity.set_attribute(server_attribute("hf.Affiliation", &affiliation));
            identity.affiliation = affiliation;
        }
        match change.max_enrollments {
            0 => {}
            -2 => identity.max_enrollments = 0,
            wanted => identity.max_enrollments = self.allowed_enrollments(wanted)?,
        }
        if !change.secret.is_empty() {
            identity.secret_hash = secrets::hash_chosen(&change.secret)?;
        }
        let updated = self
            .registry
            .update(&identity)
            .map_err(|e| Refusal::internal(58, e))?;
        if updated {
            Ok(identity)
        } else {
            Err(Refusal::new(404, 63, format!("there is no identity '{id}'")))
        }
    }

    /// Removes an identity, if the authority allows that, and revokes its certificates.
    pub(crate) fn remove(&self, caller: &Identity, id: &str, force: bool) -> Result<Identity, Refusal> {
        if !self.allow_identity_removal {
            return Err(Refusal::new(403, 56, "Identity removal is disabled"));
        }
        if caller.id == id && !force {
            return Err(Refusal::new(
                403,
                56,
                "Need to use 'force' option to delete your own identity",
            ));
        }
        let identity = self.visible(caller, id)?;
        self.identities.check(Change::Remove(&identity))?;
        self.registry
            .remove_identity(id, unix_now(), REMOVED)
            .map_err(|e| Refusal::internal(56, e))?;
        Ok(identity)
    }

    /// A registrar covers its own affiliation and everything below it; the affiliation must exist.
    fn check_affiliation(&self, registrar: &Identity, affiliation: &str) -> Result<(), Refusal> {
        if !covers_affiliation(&registrar.affiliation, affiliation) {
            return Err(Refusal::authorization(format!(
                "{} has no authority over affiliation '{affiliation}'",
                registrar.id
            )));
        }
        let known = affiliation.is_empty()
            || self
                .registry
                .has_affiliation(affiliation)
                .map_err(|e| Refusal::internal(63, e))?;
        if known {
            Ok(())
        } else {
            Err(Refusal::authorization(format!(
                "there is no affiliation '{affiliation}'"
            )))
        }
    }

    fn allowed_enrollments(&self, requested: i64) -> Result<i64, Refusal> {
        let refuse = |text: String| Err(Refusal::new(400, 82, text));
        match (self.max_enrollments, requested) {
            (0, _) => refuse("Registration is disabled".to_owned()),
            (_, r) if r < -1 => refuse(format!("{r} is not a number of enrollments")),
            (-1, 0) => Ok(-1),
            (-1, r) => Ok(r),
            (max, 0) => Ok(max),
            (max, r) if r == -1 || r > max => refuse(format!(
                "{r} enrollments are more than this authority allows ({max})"
            )),
            (_, r) => Ok(r),
        }
    }
}

fn check_kind(registrar: &Identity, kind: &str) -> Result<(), Refusal> {
    if allows_role(registrar.attribute(REGISTRAR_ROLES), kind) {
        return Ok(());
    }
    Err(Refusal::authorization(format!(
        "{} may not register or make a {kind}",
        registrar.id
    )))
}
