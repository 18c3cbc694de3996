//! Judging a change of the configuration (spec 03 §10.2, §10.3).
//!
//! ```text
//! ConfigUpdate ─► read set current? ─► delta: versions, signatures ─► new tree ─► usable Bundle? ─► allowed transition?
//! ```

use std::collections::BTreeSet;

use selvedge_msp::policy::{SignedData, Signers, verify_signatures};
use selvedge_proto::{Bytes, Message, common, go_compat, prost};

use crate::bundle::Bundle;
use crate::consensus;
use crate::error::UpdateError;
use crate::path::{
    Element, ElementKind, ElementPath, Elements, ROOT, check_mod_policy, child, elements, resolve_policy,
};
use crate::update::diff;
use crate::values::names;
use crate::wire;

fn decode<M>(part: &'static str, bytes: &Bytes) -> Result<M, UpdateError>
where
    M: Message + prost::Name + Default,
{
    go_compat::decode(bytes.clone()).map_err(|e| UpdateError::Undecodable {
        part,
        why: e.to_string(),
    })
}

/// A config update out of its envelope, with what its signatures are over.
struct OpenUpdate {
    update: common::ConfigUpdate,
    signed: Vec<SignedData>,
}

fn open_update(channel_id: &str, envelope: &common::Envelope) -> Result<OpenUpdate, UpdateError> {
    let (header, data) = wire::open(envelope)?;
    if header.r#type != common::HeaderType::ConfigUpdate as i32 {
        return Err(UpdateError::WrongType(header.r#type));
    }
    let message: common::ConfigUpdateEnvelope = decode("ConfigUpdateEnvelope", &data)?;
    let update: common::ConfigUpdate = decode("ConfigUpdate", &message.config_update)?;
    if update.channel_id != channel_id {
        return Err(UpdateError::WrongChannel {
            expected: channel_id.to_owned(),
            found: update.channel_id,
        });
    }
    let mut signed = Vec::with_capacity(message.signatures.len());
    for signature in message.signatures {
        let header: common::SignatureHeader = decode(
            "SignatureHeader of a ConfigSignature",
            &signature.signature_header,
        )?;
        signed.push(SignedData {
            data: vec![signature.signature_header, message.config_update.clone()],
            identity: header.creator,
            signature: signature.signature,
        });
    }
    Ok(OpenUpdate { update, signed })
}

/// The elements an update changes or adds.
pub(crate) struct Delta<'a> {
    write_set: Elements<'a>,
    changed: Elements<'a>,
}

/// Compares the read set with the current configuration and finds the delta; checks mod_policies' form and versions
/// (spec 03 §10.2 steps 2 to 4, without signatures).
pub(crate) fn delta<'a>(
    current: &Elements<'_>,
    update: &'a common::ConfigUpdate,
    none: &'a common::ConfigGroup,
) -> Result<Delta<'a>, UpdateError> {
    let read_set = elements(update.read_set.as_ref().unwrap_or(none))?;
    for (path, read) in &read_set {
        let now = current.get(path).ok_or_else(|| UpdateError::ReadSetMissing {
            element: path.clone(),
        })?;
        if now.version() != read.version() {
            return Err(UpdateError::ReadSetVersion {
                element: path.clone(),
                required: read.version(),
                current: now.version(),
            });
        }
    }
    let write_set = elements(update.write_set.as_ref().unwrap_or(none))?;
    let changed: Elements<'a> = write_set
        .iter()
        .filter(|(path, written)| {
            read_set
                .get(path)
                .is_none_or(|read| read.version() != written.version())
        })
        .map(|(path, written)| (path.clone(), *written))
        .collect();
    if changed.is_empty() {
        return Err(UpdateError::NoEffect);
    }
    for (path, written) in &changed {
        check_mod_policy(written.mod_policy()).map_err(|why| UpdateError::BadModPolicy {
            element: path.clone(),
            mod_policy: written.mod_policy().to_owned(),
            why,
        })?;
        match current.get(path) {
            None if written.version() != 0 => {
                return Err(UpdateError::NewElementVersion {
                    element: path.clone(),
                    version: written.version(),
                });
            }
            Some(now) if Some(written.version()) != now.version().checked_add(1) => {
                return Err(UpdateError::ElementVersion {
                    element: path.clone(),
                    version: written.version(),
                    current: now.version(),
                });
            }
            _ => {}
        }
    }
    Ok(Delta { write_set, changed })
}

/// The tree that a delta leads to (spec 03 §10.2 step 6).
pub(crate) fn result(current: &Elements<'_>, delta: &Delta<'_>) -> Result<common::ConfigGroup, UpdateError> {
    let mut built = Builder {
        current,
        delta,
        named: BTreeSet::new(),
    };
    let root = built.group(format!("/{ROOT}"), None)?;
    match delta.write_set.keys().find(|path| !built.named.contains(*path)) {
        None => Ok(root),
        Some(path) => Err(UpdateError::NotInResult {
            element: path.clone(),
        }),
    }
}

struct Builder<'b> {
    current: &'b Elements<'b>,
    delta: &'b Delta<'b>,
    named: BTreeSet<ElementPath>,
}

impl<'b> Builder<'b> {
    fn pick(
        &mut self,
        kind: ElementKind,
        path: &str,
        holder: Option<&str>,
    ) -> Result<Element<'b>, UpdateError> {
        let path = ElementPath::new(kind, path);
        let found = self
            .delta
            .changed
            .get(&path)
            .or_else(|| self.current.get(&path))
            .copied();
        let Some(found) = found else {
            let group = holder.unwrap_or(&path.path).to_owned();
            return Err(UpdateError::MissingMember { group, member: path });
        };
        self.named.insert(path);
        Ok(found)
    }

    fn group(&mut self, path: String, holder: Option<&str>) -> Result<common::ConfigGroup, UpdateError> {
        let Element::Group(shape) = self.pick(ElementKind::Group, &path, holder)? else {
            return Ok(common::ConfigGroup::default());
        };
        let mut built = common::ConfigGroup {
            version: shape.version,
            mod_policy: shape.mod_policy.clone(),
            ..Default::default()
        };
        for name in shape.values.keys() {
            if let Element::Value(value) = self.pick(ElementKind::Value, &child(&path, name), Some(&path))? {
                built.values.insert(name.clone(), value.clone());
            }
        }
        for name in shape.policies.keys() {
            if let Element::Policy(policy) =
                self.pick(ElementKind::Policy, &child(&path, name), Some(&path))?
            {
                built.policies.insert(name.clone(), policy.clone());
            }
        }
        for name in shape.groups.keys() {
            let sub = self.group(child(&path, name), Some(&path))?;
            built.groups.insert(name.clone(), sub);
        }
        Ok(built)
    }
}

/// What an update leads to, without asking whether it is authorised or usable (spec 03 §10.2 steps 2 to 4 and 6): for
/// tools that preview a change.
///
/// # Errors
/// The update was not computed from `current`, changes nothing, or breaks a rule of versions or membership.
pub fn apply(current: &common::Config, update: &common::ConfigUpdate) -> Result<common::Config, UpdateError> {
    let none = common::ConfigGroup::default();
    let now = elements(current.channel_group.as_ref().unwrap_or(&none))?;
    let delta = delta(&now, update, &none)?;
    let channel_group = Some(result(&now, &delta)?);
    let sequence = current
        .sequence
        .checked_add(1)
        .ok_or(UpdateError::SequenceExhausted)?;
    Ok(common::Config {
        sequence,
        channel_group,
    })
}

impl Bundle {
    /// Judges a config update as an ordering node does, and gives the config transaction's content that follows from it:
    /// the configuration with the next sequence number, and the envelope as `last_update` (spec 03 §10.2, 05 §1.2).
    ///
    /// # Errors
    /// Says which element, version, policy or rule stands against it.
    pub fn propose_update(&self, envelope: &common::Envelope) -> Result<common::ConfigEnvelope, UpdateError> {
        let next = self.validate_update(envelope)?;
        Ok(common::ConfigEnvelope {
            config: Some(next.config().clone()),
            last_update: Some(envelope.clone()),
        })
    }

    /// Judges a config update as [`Bundle::propose_update`] does, and gives the configuration it would lead to. Changes
    /// nothing: also for tools that want to know beforehand.
    ///
    /// # Errors
    /// Says which element, version, policy or rule stands against it.
    pub fn validate_update(&self, envelope: &common::Envelope) -> Result<Bundle, UpdateError> {
        let config = self.authorise(envelope)?;
        let next = Bundle::from_config_as(self.role(), self.channel_id(), config)?;
        self.check_transition(&next)?;
        if let Some(orderer) = next.orderer() {
            consensus::check(orderer, &next)?;
            if let Some(before) = self.orderer() {
                consensus::check_change(before, orderer)?;
            }
        }
        Ok(next)
    }

    /// Judges a config transaction as every peer does: its `last_update` must lead from the current configuration to
    /// exactly the one it carries (spec 03 §10.3). Gives the configuration that is in force from then on.
    ///
    /// # Errors
    /// Says what stands against it. An honest ordering service emits no such transaction, so the channel cannot go on.
    pub fn validate_config_tx(&self, transaction: &common::ConfigEnvelope) -> Result<Bundle, UpdateError> {
        let config = transaction
            .config
            .as_ref()
            .ok_or(UpdateError::Missing("config"))?;
        let last_update = transaction
            .last_update
            .as_ref()
            .ok_or(UpdateError::Missing("last_update"))?;
        if Some(config.sequence) != self.sequence().checked_add(1) {
            return Err(UpdateError::Sequence {
                current: self.sequence(),
                proposed: config.sequence,
            });
        }
        let yielded = self.authorise(last_update)?;
        if yielded != *config {
            let first = diff::diff(&yielded, config).into_iter().next();
            let text = first.map_or_else(
                || "in versions or mod_policies only".to_owned(),
                |d| d.to_string(),
            );
            return Err(UpdateError::ResultDiffers(text));
        }
        let next = Bundle::from_config_as(self.role(), self.channel_id(), yielded)?;
        self.check_transition(&next)?;
        Ok(next)
    }

    /// Steps 1 to 6: the configuration that an authorised update leads to.
    fn authorise(&self, envelope: &common::Envelope) -> Result<common::Config, UpdateError> {
        let open = open_update(self.channel_id(), envelope)?;
        let none = common::ConfigGroup::default();
        let current = elements(self.config().channel_group.as_ref().unwrap_or(&none))?;
        let delta = delta(&current, &open.update, &none)?;
        let signers = verify_signatures(self.msps(), &open.signed);
        for path in delta.changed.keys() {
            if let Some(now) = current.get(path) {
                self.authorise_element(path, *now, &signers)?;
            }
        }
        let channel_group = Some(result(&current, &delta)?);
        let sequence = self
            .sequence()
            .checked_add(1)
            .ok_or(UpdateError::SequenceExhausted)?;
        Ok(common::Config {
            sequence,
            channel_group,
        })
    }

    /// Asks the policy that the element has now; a new one has no say in its own creation (spec 03 §10.2 step 4).
    fn authorise_element(
        &self,
        path: &ElementPath,
        now: Element<'_>,
        signers: &Signers,
    ) -> Result<(), UpdateError> {
        let policy = resolve_policy(path.policy_scope(), now.mod_policy());
        self.evaluate(&policy, signers)
            .map_err(|refusal| UpdateError::NotAuthorised {
                element: path.clone(),
                version: now.version(),
                refusal: Box::new(refusal),
            })
    }

    /// What may not change from one configuration to the next (spec 03 §10.2 step 7).
    fn check_transition(&self, next: &Bundle) -> Result<(), UpdateError> {
        let immutable = |path: String, why: String| UpdateError::Immutable {
            element: ElementPath::new(ElementKind::Group, path),
            why,
        };
        let gone = |group: &str| {
            immutable(
                format!("/{ROOT}/{group}"),
                "the channel has this group now and must keep it".to_owned(),
            )
        };
        if let Some(before) = self.orderer() {
            let after = next.orderer().ok_or_else(|| gone(names::ORDERER))?;
            consensus::check_type_change(before, after)?;
            for (group, msp_id) in &before.orgs {
                check_msp_id(names::ORDERER, group, msp_id, after.orgs.get(group))?;
            }
        }
        if let Some(before) = self.application() {
            let after = next.application().ok_or_else(|| gone(names::APPLICATION))?;
            for (group, org) in &before.orgs {
                let now = after.orgs.get(group).map(|org| &org.msp_id);
                check_msp_id(names::APPLICATION, group, &org.msp_id, now)?;
            }
        }
        Ok(())
    }
}

fn check_msp_id(part: &str, group: &str, before: &str, after: Option<&String>) -> Result<(), UpdateError> {
    match after {
        Some(after) if after != before => Err(UpdateError::Immutable {
            element: ElementPath::new(
                ElementKind::Value,
                format!("/{ROOT}/{part}/{group}/{}", names::MSP),
            ),
            why: format!("attempted to change MSP ID from {before} to {after}"),
        }),
        _ => Ok(()),
    }
}
