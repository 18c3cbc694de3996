//! Judging a change of the configuration (spec 03 §10.2, §10.3).
//!
//! ```text
//! ConfigUpdate ─► read set current? ─► delta: versions, signatures ─► new tree ─► usable Bundle? ─► allowed transition?
//! ```

use std::collections::BTreeSet;

use selvedge_msp::policy::{SignedData, Signers, verify_signatures};
use selvedge_proto::{Bytes, Message, common, go_compat, prost};

use crate::bundle::Bundle;
use crate::capabilities::Level;
use crate::consensus;
use crate::error::UpdateError;
use crate::path::{
    Element, ElementKind, ElementPath, Elements, ROOT, check_mod_policy, child, elements, resolve_policy,
};
use crate::strict;
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

/// The elements below a root group; where there is no root, none, not even the root.
fn elements_of(root: &Option<common::ConfigGroup>) -> Result<Elements<'_>, UpdateError> {
    let found = root.as_ref().map(elements).transpose()?;
    Ok(found.unwrap_or_default())
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
) -> Result<Delta<'a>, UpdateError> {
    let read_set = elements_of(&update.read_set)?;
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
    let write_set = elements_of(&update.write_set)?;
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

/// What a delta leads to.
pub(crate) struct Outcome {
    root: common::ConfigGroup,
    /// An element of the write set that no group of the new tree names.
    left_out: Option<ElementPath>,
}

impl Outcome {
    /// The new tree, if everything that was written is in it. Fabric looks for what was written among the current and
    /// the changed elements, where it always is, so this is asked before ordering only.
    fn complete(self) -> Result<common::ConfigGroup, UpdateError> {
        match self.left_out {
            None => Ok(self.root),
            Some(element) => Err(UpdateError::NotInResult { element }),
        }
    }
}

/// The tree that a delta leads to (spec 03 §10.2 step 6).
pub(crate) fn result(current: &Elements<'_>, delta: &Delta<'_>) -> Result<Outcome, UpdateError> {
    let capabilities = ElementPath::new(
        ElementKind::Value,
        format!("/{ROOT}/{}/{}", names::ORDERER, names::CAPABILITIES),
    );
    let mut built = Builder {
        current,
        delta,
        named: BTreeSet::new(),
        fill_mod_policies: current.contains_key(&capabilities) || delta.changed.contains_key(&capabilities),
    };
    let root = built.group(format!("/{ROOT}"), None)?;
    let left_out = delta.write_set.keys().find(|path| !built.named.contains(*path));
    Ok(Outcome {
        root,
        left_out: left_out.cloned(),
    })
}

struct Builder<'b> {
    current: &'b Elements<'b>,
    delta: &'b Delta<'b>,
    named: BTreeSet<ElementPath>,
    /// Once the ordering service has capabilities, every update gives all elements that have no mod_policy the policy
    /// `Admins`: Fabric repairs so the channels of its first version, which could be made without.
    fill_mod_policies: bool,
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

    fn mod_policy(&self, given: &str) -> String {
        let fill = given.is_empty() && self.fill_mod_policies;
        if fill { names::ADMINS } else { given }.to_owned()
    }

    fn group(&mut self, path: String, holder: Option<&str>) -> Result<common::ConfigGroup, UpdateError> {
        let Element::Group(shape) = self.pick(ElementKind::Group, &path, holder)? else {
            return Ok(common::ConfigGroup::default());
        };
        let mut built = common::ConfigGroup {
            version: shape.version,
            mod_policy: self.mod_policy(&shape.mod_policy),
            ..Default::default()
        };
        for name in shape.values.keys() {
            if let Element::Value(value) = self.pick(ElementKind::Value, &child(&path, name), Some(&path))? {
                let mod_policy = self.mod_policy(&value.mod_policy);
                let value = common::ConfigValue {
                    mod_policy,
                    ..value.clone()
                };
                built.values.insert(name.clone(), value);
            }
        }
        for name in shape.policies.keys() {
            if let Element::Policy(policy) =
                self.pick(ElementKind::Policy, &child(&path, name), Some(&path))?
            {
                let mod_policy = self.mod_policy(&policy.mod_policy);
                let policy = common::ConfigPolicy {
                    mod_policy,
                    ..policy.clone()
                };
                built.policies.insert(name.clone(), policy);
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
    let now = elements_of(&current.channel_group)?;
    let delta = delta(&now, update)?;
    let channel_group = Some(result(&now, &delta)?.complete()?);
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
    /// nothing: also for tools that want to know beforehand. Stricter than [`Bundle::validate_config_tx`]: what is refused
    /// here halts nobody.
    ///
    /// # Errors
    /// Says which element, version, policy or rule stands against it.
    pub fn validate_update(&self, envelope: &common::Envelope) -> Result<Bundle, UpdateError> {
        let outcome = self.authorise(envelope)?;
        let next = self.next(outcome.complete()?)?;
        self.check_transition(&next)?;
        strict::check(Some(self.config()), next.config())?;
        if let Some(orderer) = next.orderer() {
            if let Some(before) = self.orderer() {
                consensus::check_type_change(before, orderer)?;
            }
            consensus::check(orderer, &next)?;
            if let Some(before) = self.orderer() {
                consensus::check_change(before, orderer)?;
            }
        }
        Ok(next)
    }

    /// Judges a config transaction as every peer does: its `last_update` must lead from the current configuration to
    /// exactly the one it carries (spec 03 §10.3). Gives the configuration that is in force from then on. Whatever Fabric's
    /// peers accept is accepted, were it of no use: a node that refuses a config transaction cannot go on.
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
        let next = self.next(self.authorise(last_update)?.root)?;
        if next.config() != config {
            let first = diff::diff(next.config(), config).into_iter().next();
            let text = first.map_or_else(
                || "in versions or mod_policies only".to_owned(),
                |d| d.to_string(),
            );
            return Err(UpdateError::ResultDiffers(text));
        }
        self.check_transition(&next)?;
        Ok(next)
    }

    /// Steps 1 to 6: the tree that an authorised update leads to.
    fn authorise(&self, envelope: &common::Envelope) -> Result<Outcome, UpdateError> {
        let open = open_update(self.channel_id(), envelope)?;
        let current = elements_of(&self.config().channel_group)?;
        let delta = delta(&current, &open.update)?;
        let signers = verify_signatures(self.msps(), &open.signed);
        for path in delta.changed.keys() {
            if let Some(now) = current.get(path) {
                self.authorise_element(path, *now, &signers)?;
            }
        }
        result(&current, &delta)
    }

    /// The configuration of a tree that follows this one.
    fn next(&self, root: common::ConfigGroup) -> Result<Bundle, UpdateError> {
        let sequence = self
            .sequence()
            .checked_add(1)
            .ok_or(UpdateError::SequenceExhausted)?;
        let config = common::Config {
            sequence,
            channel_group: Some(root),
        };
        Ok(Bundle::from_config_as(self.role(), self.channel_id(), config)?)
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
            // With the capability, whether the channel is in maintenance is the ordering service's concern alone.
            if !self.capabilities().at_least(Level::V1_4_2) {
                consensus::check_same_type(before, after)?;
            }
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
