//! Where an authority's identities come from: its own registry (SQLite), or a directory (LDAP).

use std::sync::Arc;

use crate::error::Refusal;
use crate::registry::{Identity, Registry};
use crate::secrets;

/// What somebody wants to do to identities.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    /// Register somebody by this name.
    Register(&'a str),
    /// Change more than counters.
    Modify(&'a Identity),
    Remove(&'a Identity),
}

/// A source of identities. Whoever it finds has a row in the registry, which keeps what the authority itself knows:
/// enrolments, wrong secrets, revocation.
///
/// Methods may block: they read files and ask other machines.
pub(crate) trait Identities: Send + Sync {
    /// An identity by name.
    fn find(&self, id: &str) -> Result<Option<Identity>, Refusal>;

    /// Whether a secret is that of an identity that [`Self::find`] gave. For nobody it takes as long as for somebody.
    fn is_secret_of(&self, identity: Option<&Identity>, secret: &str) -> Result<bool, Refusal>;

    /// Refuses what cannot be done here, with Fabric CA's code 72 for a directory that others keep.
    fn check(&self, change: Change<'_>) -> Result<(), Refusal>;
}

/// Those who were registered with the authority.
pub(crate) struct Registered(pub(crate) Arc<Registry>);

impl Identities for Registered {
    fn find(&self, id: &str) -> Result<Option<Identity>, Refusal> {
        self.0.identity(id).map_err(|e| Refusal::internal(49, e))
    }

    fn is_secret_of(&self, identity: Option<&Identity>, secret: &str) -> Result<bool, Refusal> {
        Ok(secrets::is_right(
            secret,
            identity.map(|i| i.secret_hash.as_str()),
        ))
    }

    fn check(&self, _: Change<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}
