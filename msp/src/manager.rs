//! The MSPs of a channel together.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use selvedge_proto::msp::SerializedIdentity;

use crate::cache::Cache;
use crate::certificate::shortened;
use crate::identity::Identity;
use crate::identity_error::IdentityError;
use crate::msp::Msp;
use crate::principal::{Principal, PrincipalError};

/// Decoded identities kept; only creators of usual size are, so that the memory is bounded too.
const CACHED_IDENTITIES: usize = 2_048;
const MAX_CACHED_CREATOR: usize = 4_096;

/// All MSPs of one configuration, with caches that live as long as it. Immutable: a new configuration gets a new one.
pub struct MspManager {
    msps: BTreeMap<String, Msp>,
    identities: Cache<Box<[u8]>, Arc<Identity>>,
}

impl std::fmt::Debug for MspManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MspManager")
            .field(&self.msps.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl MspManager {
    /// From the MSPs; of two with the same id the last one stays.
    #[must_use]
    pub fn new(msps: Vec<Msp>) -> Self {
        let msps = msps.into_iter().map(|m| (m.id().to_owned(), m)).collect();
        Self {
            msps,
            identities: Cache::new(CACHED_IDENTITIES),
        }
    }

    /// Decodes pb(SerializedIdentity) by the MSP that it names (spec 02 §13.3). Says nothing about validity.
    ///
    /// # Errors
    /// When the bytes, the MSP id or the certificate cannot be understood.
    pub fn deserialize(&self, creator: &[u8]) -> Result<Arc<Identity>, IdentityError> {
        if let Some(known) = self.identities.get(creator) {
            return Ok(known);
        }
        let serialized =
            SerializedIdentity::decode(creator).map_err(|e| IdentityError::Malformed(e.to_string()))?;
        let msp = self.require(&serialized.mspid)?;
        let identity = Arc::new(msp.deserialize(&serialized.id_bytes)?);
        if creator.len() <= MAX_CACHED_CREATOR {
            self.identities.insert(creator.into(), Arc::clone(&identity));
        }
        Ok(identity)
    }

    /// Whether the identity is a valid member of its MSP (spec 02 §13.4).
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.require(identity.msp_id())?.validate(identity)
    }

    /// Whether the identity is the principal (spec 02 §13.5).
    ///
    /// # Errors
    /// Why it is not.
    pub fn satisfies(&self, identity: &Identity, principal: &Principal) -> Result<(), PrincipalError> {
        self.require(identity.msp_id())
            .map_err(PrincipalError::Invalid)?
            .satisfies(identity, principal)
    }

    /// The MSP with this id.
    #[must_use]
    pub fn get(&self, msp_id: &str) -> Option<&Msp> {
        self.msps.get(msp_id)
    }

    /// All MSPs, ordered by id.
    pub fn msps(&self) -> impl Iterator<Item = &Msp> {
        self.msps.values()
    }

    fn require(&self, msp_id: &str) -> Result<&Msp, IdentityError> {
        self.msps.get(msp_id).ok_or_else(|| {
            let known: Vec<&str> = self.msps.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            IdentityError::UnknownMsp {
                msp_id: shortened(msp_id),
                known,
            }
        })
    }
}
