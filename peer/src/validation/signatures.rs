//! Who signed: the expensive half, which needs the bytes and one configuration, and so runs ahead of the chain.

use std::collections::HashSet;
use std::sync::Arc;

use selvedge_channel::Bundle;
use selvedge_msp::policy::{RejectedSigner, Signers};
use selvedge_msp::{Identity, MspManager};

use super::open::{Body, EndorserTx, SignedTx};
use crate::endorsements::OwnEndorsements;

/// What became of the signatures of one transaction, under one configuration.
#[derive(Debug)]
pub(crate) struct Checked {
    /// B.4: who the creator is, or why it does not count.
    pub(crate) creator: Result<Arc<Identity>, String>,
    /// The endorsers that count; `None` where no policy will be asked.
    pub(crate) endorsers: Option<Endorsers>,
}

/// The endorsers of a transaction.
#[derive(Debug)]
pub(crate) struct Endorsers {
    /// Whose signature verified, each identity once, in the order of the transaction (spec 02 §14.1 step 1).
    pub(crate) signers: Signers,
    /// The others, and why each does not count.
    pub(crate) rejected: Vec<RejectedSigner>,
}

/// Checks creator and endorsers of a transaction.
pub(crate) fn check(tx: &SignedTx, bundle: &Bundle, own: &OwnEndorsements) -> Checked {
    let creator = check_creator(tx, bundle);
    let endorsers = match (&creator, &tx.body) {
        (Ok(_), Body::Endorser(endorser)) if endorser.content.is_ok() => {
            Some(check_endorsers(endorser, bundle.msps(), own))
        }
        _ => None,
    };
    Checked { creator, endorsers }
}

/// Spec 03 §3 B.4. No policy is asked about the creator; an expired certificate passes (spec 02 §13.4).
fn check_creator(tx: &SignedTx, bundle: &Bundle) -> Result<Arc<Identity>, String> {
    if tx.channel_id != bundle.channel_id() {
        return Err(format!(
            "the transaction is for channel {:?}, of which no MSPs are known here",
            super::open::bounded(&tx.channel_id)
        ));
    }
    let msps = bundle.msps();
    let identity = msps
        .deserialize(&tx.creator)
        .map_err(|e| format!("the creator is unknown: {e}"))?;
    msps.validate(&identity)
        .map_err(|e| format!("the creator {identity} is not valid: {e}"))?;
    identity
        .verify(&tx.payload, &tx.signature)
        .map_err(|e| format!("the creator {identity} did not sign this payload: {e}"))?;
    Ok(identity)
}

fn check_endorsers(tx: &EndorserTx, msps: &MspManager, own: &OwnEndorsements) -> Endorsers {
    let mut accepted: Vec<Arc<Identity>> = Vec::with_capacity(tx.endorsements.len());
    let mut seen: HashSet<(String, [u8; 32])> = HashSet::new();
    let mut rejected = Vec::new();
    for endorsement in &tx.endorsements {
        let identity = match msps.deserialize(&endorsement.endorser) {
            Ok(identity) => identity,
            Err(error) => {
                rejected.push(RejectedSigner {
                    who: "an unknown endorser".into(),
                    why: error.to_string(),
                });
                continue;
            }
        };
        let (msp_id, digest) = identity.key();
        let key = (msp_id.to_owned(), *digest);
        if seen.contains(&key) {
            rejected.push(RejectedSigner {
                who: identity.to_string(),
                why: "it has signed already".into(),
            });
            continue;
        }
        let payload = &tx.response_payload;
        if !own.contains(payload, &endorsement.endorser, &endorsement.signature) {
            let message = [payload.as_ref(), endorsement.endorser.as_ref()].concat();
            if let Err(error) = identity.verify(&message, &endorsement.signature) {
                rejected.push(RejectedSigner {
                    who: identity.to_string(),
                    why: error.to_string(),
                });
                continue;
            }
        }
        seen.insert(key);
        accepted.push(identity);
    }
    Endorsers {
        signers: Signers::from_verified(accepted),
        rejected,
    }
}
