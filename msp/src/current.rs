//! The identity that a node signs with at the moment; renewal replaces it while the node works.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::identity::SigningIdentity;

/// A signing identity that may be replaced. Clones are the same one.
///
/// Whoever signs takes [`get`](Self::get) once and uses that for creator and signature, so that the two belong together.
#[derive(Debug, Clone)]
pub struct CurrentIdentity(Arc<RwLock<SigningIdentity>>);

impl From<SigningIdentity> for CurrentIdentity {
    fn from(identity: SigningIdentity) -> Self {
        Self(Arc::new(RwLock::new(identity)))
    }
}

impl CurrentIdentity {
    /// The identity of the moment.
    #[must_use]
    pub fn get(&self) -> SigningIdentity {
        self.0.read().clone()
    }

    /// Signs with another identity from now on.
    pub fn replace(&self, identity: SigningIdentity) {
        *self.0.write() = identity;
    }
}
