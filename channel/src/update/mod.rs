//! Making a config update: compute it from two configurations, sign it, wrap it (spec 03 §10.1, 02 §2).

pub mod diff;
pub mod edit;

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use rand::RngCore;
use selvedge_msp::{KeyError, SigningIdentity};
use selvedge_proto::{Bytes, EnvelopeError, Message, NONCE_LEN, common, go_compat};

use crate::error::UpdateError;
use crate::path::check_channel_id;
use crate::wire;

pub use crate::judge::apply;

/// Why an update could not be signed or wrapped.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key refused.
    #[error("the config update could not be signed: {0}")]
    Key(#[from] KeyError),
    /// The envelope to which a signature should be added cannot be opened.
    #[error("the config update cannot be read: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The envelope holds something else.
    #[error("the envelope holds no config update: {0}")]
    NotAnUpdate(String),
}

/// The update that leads from `original` to `updated`: a read set of what it relies on, and a write set of what changes,
/// each changed element one version up. Versions inside of `updated` are not looked at.
///
/// # Errors
/// The channel id is not allowed, a configuration has no root group, or the two do not differ.
pub fn compute(
    channel_id: &str,
    original: &common::Config,
    updated: &common::Config,
) -> Result<common::ConfigUpdate, UpdateError> {
    check_channel_id(channel_id)?;
    let original = original
        .channel_group
        .as_ref()
        .ok_or(UpdateError::Missing("original channel group"))?;
    let updated = updated
        .channel_group
        .as_ref()
        .ok_or(UpdateError::Missing("updated channel group"))?;
    let sets = group_sets(original, updated)?;
    if !sets.differs {
        return Err(UpdateError::NoEffect);
    }
    Ok(common::ConfigUpdate {
        channel_id: channel_id.to_owned(),
        read_set: Some(sets.read),
        write_set: Some(sets.write),
        isolated_data: HashMap::new(),
    })
}

/// What a group contributes to both sets.
struct GroupSets {
    read: common::ConfigGroup,
    write: common::ConfigGroup,
    differs: bool,
}

fn next_version(version: u64) -> Result<u64, UpdateError> {
    version.checked_add(1).ok_or(UpdateError::SequenceExhausted)
}

/// Members that stay as they are, by version alone: they are listed only where the membership of their group changes.
#[derive(Default)]
struct Unchanged {
    groups: HashMap<String, common::ConfigGroup>,
    values: HashMap<String, common::ConfigValue>,
    policies: HashMap<String, common::ConfigPolicy>,
}

fn group_sets(old: &common::ConfigGroup, new: &common::ConfigGroup) -> Result<GroupSets, UpdateError> {
    let mut read = common::ConfigGroup {
        version: old.version,
        ..Default::default()
    };
    let mut write = read.clone();
    let mut unchanged = Unchanged::default();
    let mut differs = false;

    for (name, value) in &new.values {
        match old.values.get(name) {
            Some(before) if before.value == value.value && before.mod_policy == value.mod_policy => {
                let same = common::ConfigValue {
                    version: before.version,
                    ..Default::default()
                };
                unchanged.values.insert(name.clone(), same);
            }
            before => {
                let version = before.map_or(Ok(0), |b| next_version(b.version))?;
                write.values.insert(
                    name.clone(),
                    common::ConfigValue {
                        version,
                        ..value.clone()
                    },
                );
                differs = true;
            }
        }
    }
    for (name, policy) in &new.policies {
        match old.policies.get(name) {
            Some(before) if before.policy == policy.policy && before.mod_policy == policy.mod_policy => {
                let same = common::ConfigPolicy {
                    version: before.version,
                    ..Default::default()
                };
                unchanged.policies.insert(name.clone(), same);
            }
            before => {
                let version = before.map_or(Ok(0), |b| next_version(b.version))?;
                write.policies.insert(
                    name.clone(),
                    common::ConfigPolicy {
                        version,
                        ..policy.clone()
                    },
                );
                differs = true;
            }
        }
    }
    for (name, group) in &new.groups {
        let Some(before) = old.groups.get(name) else {
            write.groups.insert(name.clone(), as_new(group));
            differs = true;
            continue;
        };
        let sub = group_sets(before, group)?;
        if sub.differs {
            read.groups.insert(name.clone(), sub.read);
            write.groups.insert(name.clone(), sub.write);
            differs = true;
        } else {
            unchanged.groups.insert(name.clone(), sub.read);
        }
    }

    if same_members(old, new) && old.mod_policy == new.mod_policy {
        return Ok(GroupSets { read, write, differs });
    }
    for set in [&mut read, &mut write] {
        set.values.extend(unchanged.values.clone());
        set.policies.extend(unchanged.policies.clone());
        set.groups.extend(unchanged.groups.clone());
    }
    write.version = next_version(old.version)?;
    write.mod_policy.clone_from(&new.mod_policy);
    Ok(GroupSets {
        read,
        write,
        differs: true,
    })
}

fn same_members(old: &common::ConfigGroup, new: &common::ConfigGroup) -> bool {
    fn same<A, B>(old: &HashMap<String, A>, new: &HashMap<String, B>) -> bool {
        old.len() == new.len() && old.keys().all(|name| new.contains_key(name))
    }
    same(&old.groups, &new.groups) && same(&old.values, &new.values) && same(&old.policies, &new.policies)
}

/// A group that did not exist, with everything in it at version 0.
fn as_new(group: &common::ConfigGroup) -> common::ConfigGroup {
    common::ConfigGroup {
        version: 0,
        mod_policy: group.mod_policy.clone(),
        groups: group
            .groups
            .iter()
            .map(|(name, sub)| (name.clone(), as_new(sub)))
            .collect(),
        values: group
            .values
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    common::ConfigValue {
                        version: 0,
                        ..value.clone()
                    },
                )
            })
            .collect(),
        policies: group
            .policies
            .iter()
            .map(|(name, policy)| {
                (
                    name.clone(),
                    common::ConfigPolicy {
                        version: 0,
                        ..policy.clone()
                    },
                )
            })
            .collect(),
    }
}

/// A signature header of `signer` with a fresh nonce, encoded.
pub(crate) fn signature_header(signer: &SigningIdentity) -> Bytes {
    let mut nonce = [0_u8; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    let header = common::SignatureHeader {
        creator: signer.creator().clone(),
        nonce: Bytes::copy_from_slice(&nonce),
    };
    header.encode_to_vec().into()
}

/// Time now, as messages carry it. A clock before 1970 reads as 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// Signs the bytes of a `ConfigUpdate` for a member whose agreement it needs (spec 02 §2).
///
/// # Errors
/// The key could not sign.
pub fn sign(config_update: &[u8], signer: &SigningIdentity) -> Result<common::ConfigSignature, KeyError> {
    let signature_header = signature_header(signer);
    let mut signed = Vec::with_capacity(signature_header.len() + config_update.len());
    signed.extend_from_slice(&signature_header);
    signed.extend_from_slice(config_update);
    let signature = signer.sign(&signed)?;
    Ok(common::ConfigSignature {
        signature_header,
        signature,
    })
}

fn signed_envelope(
    r#type: common::HeaderType,
    channel_id: &str,
    data: Bytes,
    signer: &SigningIdentity,
) -> Result<common::Envelope, KeyError> {
    let channel_header = common::ChannelHeader {
        r#type: r#type as i32,
        channel_id: channel_id.to_owned(),
        timestamp: Some(now()),
        ..Default::default()
    };
    let payload: Bytes = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header(signer),
        }),
        data,
    }
    .encode_to_vec()
    .into();
    let signature = signer.sign(&payload)?;
    Ok(common::Envelope { payload, signature })
}

/// The envelope in which an update is submitted. `config_update` are the very bytes that the members signed.
///
/// # Errors
/// The submitter's key could not sign.
pub fn envelope(
    channel_id: &str,
    config_update: Bytes,
    signatures: Vec<common::ConfigSignature>,
    submitter: &SigningIdentity,
) -> Result<common::Envelope, KeyError> {
    let message = common::ConfigUpdateEnvelope {
        config_update,
        signatures,
    };
    signed_envelope(
        common::HeaderType::ConfigUpdate,
        channel_id,
        message.encode_to_vec().into(),
        submitter,
    )
}

/// Adds a member's signature to an update that travels as an envelope from organisation to organisation, and signs the
/// envelope anew as its submitter.
///
/// # Errors
/// The envelope holds no config update, or the key could not sign.
pub fn add_signature(
    update: &common::Envelope,
    signer: &SigningIdentity,
) -> Result<common::Envelope, SignError> {
    let (header, data) = wire::open(update)?;
    if header.r#type != common::HeaderType::ConfigUpdate as i32 {
        return Err(SignError::NotAnUpdate(format!(
            "its header type is {}",
            header.r#type
        )));
    }
    let mut message: common::ConfigUpdateEnvelope =
        go_compat::decode(data).map_err(|e| SignError::NotAnUpdate(e.to_string()))?;
    let signature = sign(&message.config_update, signer)?;
    message.signatures.push(signature);
    Ok(envelope(
        &header.channel_id,
        message.config_update,
        message.signatures,
        signer,
    )?)
}

/// The envelope of the config transaction that an ordering node writes for a judged update: empty transaction id,
/// version 0, signed by the node (spec 02 §9, 05 §1.2).
///
/// # Errors
/// The node's key could not sign.
pub fn config_transaction(
    channel_id: &str,
    config: &common::ConfigEnvelope,
    orderer: &SigningIdentity,
) -> Result<common::Envelope, KeyError> {
    signed_envelope(
        common::HeaderType::Config,
        channel_id,
        config.encode_to_vec().into(),
        orderer,
    )
}
