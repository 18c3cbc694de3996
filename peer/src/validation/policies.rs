//! Which policy applies, compiled once per configuration (spec 03 §4).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvedge_channel::Bundle;
use selvedge_msp::policy::{SignaturePolicy, dsl};
use selvedge_proto::common::msp_role::MspRoleType;
use selvedge_proto::go_compat;
use selvedge_proto::{common, protos};

use super::signatures::Endorsers;

/// Policies kept compiled; past this the cache starts anew (key-level policies can be as many as keys).
const MOST_COMPILED: usize = 4096;
const LIFECYCLE_POLICY: &str = "/Channel/Application/LifecycleEndorsement";

/// A policy in the form that can be asked.
#[derive(Debug)]
pub(crate) enum Compiled {
    /// A signature policy.
    Signature(SignaturePolicy),
    /// The policy at this path of the channel configuration.
    Reference(String),
    /// Never satisfied, for this reason.
    Unusable(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum CacheKey {
    Application(Bytes),
    KeyLevel(Bytes),
}

/// The policies of one channel under one configuration.
#[derive(Debug)]
pub(crate) struct Policies {
    bundle: Arc<Bundle>,
    lifecycle: Arc<Compiled>,
    compiled: Mutex<HashMap<CacheKey, Arc<Compiled>>>,
}

impl Policies {
    pub(crate) fn new(bundle: Arc<Bundle>) -> Self {
        let lifecycle = Arc::new(lifecycle_policy(&bundle));
        Self {
            bundle,
            lifecycle,
            compiled: Mutex::default(),
        }
    }

    pub(crate) fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The policy of the `_lifecycle` namespace.
    pub(crate) fn lifecycle(&self) -> Arc<Compiled> {
        Arc::clone(&self.lifecycle)
    }

    /// A validation parameter: pb(ApplicationPolicy).
    pub(crate) fn application(&self, bytes: &Bytes) -> Arc<Compiled> {
        self.cached(CacheKey::Application(bytes.clone()), || {
            match go_compat::decode(bytes.clone()) {
                Ok(policy) => application(&policy),
                Err(error) => Compiled::Unusable(error.to_string()),
            }
        })
    }

    /// A key's `VALIDATION_PARAMETER`: pb(SignaturePolicyEnvelope).
    pub(crate) fn key_level(&self, bytes: &Bytes) -> Arc<Compiled> {
        self.cached(CacheKey::KeyLevel(bytes.clone()), || {
            match go_compat::decode(bytes.clone()) {
                Ok(envelope) => signature(&envelope),
                Err(error) => Compiled::Unusable(error.to_string()),
            }
        })
    }

    /// The policy of an organisation's implicit collection (spec 03 §4.2).
    pub(crate) fn implicit_collection(&self, msp_id: &str) -> Compiled {
        let orgs = self.bundle.application().map(|application| &application.orgs);
        let Some(group) = orgs
            .and_then(|orgs| orgs.iter().find(|(_, org)| org.msp_id == msp_id))
            .map(|(name, _)| name)
        else {
            return Compiled::Unusable(format!("no application organisation has the MSP id {msp_id:?}"));
        };
        let path = format!("/Channel/Application/{group}/Endorsement");
        if self.bundle.policy(&path).is_some() {
            Compiled::Reference(path)
        } else {
            signature(&dsl::signed_by_any_role(&[msp_id], MspRoleType::Member))
        }
    }

    /// Asks a policy.
    pub(crate) fn evaluate(&self, policy: &Compiled, endorsers: &Endorsers) -> Result<(), String> {
        let signers = &endorsers.signers;
        let refusal = match policy {
            Compiled::Unusable(why) => return Err(format!("the policy is not usable: {why}")),
            Compiled::Signature(policy) => policy
                .evaluate(self.bundle.msps(), signers)
                .map_err(|refusal| refusal.to_string()),
            Compiled::Reference(path) => self
                .bundle
                .evaluate(path, signers)
                .map_err(|refusal| refusal.to_string()),
        };
        refusal.map_err(|refusal| explain(refusal, endorsers))
    }

    fn cached(&self, key: CacheKey, make: impl FnOnce() -> Compiled) -> Arc<Compiled> {
        if let Some(found) = self.compiled.lock().get(&key) {
            return Arc::clone(found);
        }
        let made = Arc::new(make());
        let mut compiled = self.compiled.lock();
        if compiled.len() >= MOST_COMPILED {
            compiled.clear();
        }
        compiled.insert(key, Arc::clone(&made));
        made
    }
}

fn explain(mut text: String, endorsers: &Endorsers) -> String {
    for signer in &endorsers.rejected {
        text.push_str(&format!(
            "; the endorsement of {} does not count: {}",
            signer.who, signer.why
        ));
    }
    text
}

fn signature(envelope: &common::SignaturePolicyEnvelope) -> Compiled {
    match SignaturePolicy::compile(envelope) {
        Ok(policy) => Compiled::Signature(policy),
        Err(error) => Compiled::Unusable(error.to_string()),
    }
}

/// An `ApplicationPolicy`, as definitions and collections carry it.
pub(crate) fn application(policy: &protos::ApplicationPolicy) -> Compiled {
    use protos::application_policy::Type;
    match &policy.r#type {
        Some(Type::SignaturePolicy(envelope)) => signature(envelope),
        Some(Type::ChannelConfigPolicyReference(path)) => Compiled::Reference(path.clone()),
        None => Compiled::Unusable("it holds neither a signature policy nor a reference".into()),
    }
}

/// The configured policy, else a majority of the organisations' members, organisations sorted by MSP id (spec 03 §4).
fn lifecycle_policy(bundle: &Bundle) -> Compiled {
    if bundle.policy(LIFECYCLE_POLICY).is_some() {
        return Compiled::Reference(LIFECYCLE_POLICY.into());
    }
    let mut msp_ids: Vec<&str> = bundle
        .application()
        .map(|application| application.orgs.values().map(|org| org.msp_id.as_str()).collect())
        .unwrap_or_default();
    msp_ids.sort_unstable();
    let (Ok(needed), Ok(count)) = (i32::try_from(msp_ids.len() / 2 + 1), i32::try_from(msp_ids.len())) else {
        return Compiled::Unusable("the channel has too many organisations".into());
    };
    signature(&common::SignaturePolicyEnvelope {
        version: 0,
        rule: Some(dsl::n_out_of(needed, (0..count).map(dsl::signed_by).collect())),
        identities: msp_ids
            .iter()
            .map(|id| dsl::role_principal(id, MspRoleType::Member))
            .collect(),
    })
}
