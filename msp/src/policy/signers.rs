//! Who signed: the half of policy checking that is expensive and needs no order (spec 02 §14.1-1).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::identity::Identity;
use crate::manager::MspManager;

/// A signature with what it covers and who claims to have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedData {
    /// Pieces whose concatenation is signed.
    pub data: Vec<Bytes>,
    /// pb(SerializedIdentity).
    pub identity: Bytes,
    /// DER signature.
    pub signature: Bytes,
}

/// Somebody who signed and does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedSigner {
    /// The signer for reading.
    pub who: String,
    /// Why not.
    pub why: String,
}

/// The distinct identities whose signatures verified, in order, and those that were dropped.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    identities: Vec<Arc<Identity>>,
    rejected: Vec<RejectedSigner>,
}

impl Signers {
    /// Of identities whose signatures are known to be good; of equal ones the first counts.
    #[must_use]
    pub fn from_verified(identities: Vec<Arc<Identity>>) -> Self {
        let mut seen = HashSet::new();
        let distinct = identities
            .iter()
            .filter(|i| seen.insert(i.key()))
            .cloned()
            .collect();
        Self {
            identities: distinct,
            rejected: Vec::new(),
        }
    }

    /// Adds somebody who was dropped, for the explanation of a refusal.
    pub fn reject(&mut self, who: impl Into<String>, why: impl Into<String>) {
        self.rejected.push(RejectedSigner {
            who: who.into(),
            why: why.into(),
        });
    }

    /// The identities that count.
    #[must_use]
    pub fn identities(&self) -> &[Arc<Identity>] {
        &self.identities
    }

    /// Those that do not.
    #[must_use]
    pub fn rejected(&self) -> &[RejectedSigner] {
        &self.rejected
    }
}

/// Checks signatures in order. A signature that cannot be attributed or does not verify is dropped; a second one of an
/// identity that is already accepted is skipped without a look at it (spec 02 §14.1-1). Validity of certificates is not
/// looked at here.
#[must_use]
pub fn verify_signatures(msps: &MspManager, signed: &[SignedData]) -> Signers {
    let mut signers = Signers::default();
    let mut seen: HashSet<(Arc<str>, [u8; 32])> = HashSet::new();
    for (i, item) in signed.iter().enumerate() {
        let identity = match msps.deserialize(&item.identity) {
            Ok(identity) => identity,
            Err(e) => {
                signers.reject(format!("signature {}", i + 1), e.to_string());
                continue;
            }
        };
        let key = (identity.msp_id_shared(), identity.certificate().sha256());
        if seen.contains(&key) {
            signers.reject(identity.to_string(), "it signed more than once and counts once");
            continue;
        }
        let verified = match item.data.as_slice() {
            [whole] => identity.verify(whole, &item.signature),
            pieces => identity.verify(&pieces.concat(), &item.signature),
        };
        match verified {
            Ok(()) => {
                seen.insert(key);
                signers.identities.push(identity);
            }
            Err(e) => signers.reject(identity.to_string(), e.to_string()),
        }
    }
    signers
}
